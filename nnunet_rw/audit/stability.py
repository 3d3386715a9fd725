"""Does a loss train stably? The same network, patches and seeds with one loss after the other.

Valverde & Tohka (Pattern Recognition 2022, arXiv 2108.01405) hold that boundary maps, signed distances without a bound,
make training unstable and that rectified region-wise maps do not. Their boundary maps are in voxels, ours in mm: at a
spacing of 1 mm, both are alike, elsewhere the boundary loss and its gradients are scaled. They take every class, the
background's included, which `boundary` does here as well (its default elsewhere leaves the background out).
"""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from typing_extensions import TypedDict

from nnunet_rw.audit.curves import (
    Curves,
    draw_stability,
    join_files,
    measure,
    read_finished_curves,
    stability_table,
    summarise_runs,
    write_curves,
)
from nnunet_rw.datasets.folders import Preprocessed, open_preprocessed
from nnunet_rw.losses import LOSSES, LossInputs, Term, build
from nnunet_rw.store.write import ensure_maps, list_cases
from nnunet_rw.training.recorded_run import gradient_norms, seed_generators
from nnunet_rw.training.trainer import OPTIMIZERS, MapTrainer, check_adam_betas
from nnunet_rw.util.files import environment, write_atomically
from nnunet_rw.util.readers import read_json, read_splits

_OPTIONS: dict[str, dict[str, Any]] = {"boundary": {"include_background": True}}
_FILES = ("curves.csv", "summary.json", "stability.png")


class _Settings(TypedDict):
    """Of ``settings.json``; newer ones tell more."""

    dataset: str
    configuration: str
    plans: str
    fold: int
    iterations: int
    device: str


@dataclass(frozen=True)
class Stability:
    """Settings of a comparison.

    Attributes
    ----------
    dataset : str
        Id or name.
    configuration, plans_name : str
    fold : int
    losses : tuple of str
        Names for `nnunet_rw.losses.build`, or "nnunet" for nnU-Net's own.
    seeds : int
        Runs of each loss, seeded 0, 1, ...
    iterations : int
        Of each run; 250 are an epoch of nnU-Net's 1000.
    with_dice : bool
        Train each loss also together with Dice, both with weight 1: the paper's "equal".
    output : Path, optional
        Folder. A second command for it repeats no finished run, and may add losses and seeds. Default:
        ``stability_<dataset>`` here.
    device : str
        "cpu" or "cuda".
    optimizer_name : str
        "sgd", "adam" or "adamw", as of `MapTrainer`.
    initial_lr : float
        Learning rate of the first iteration.
    adam_betas : (float, float)
        Of Adam and AdamW, as of `MapTrainer`.
    """

    dataset: str
    configuration: str = "3d_fullres"
    plans_name: str = "nnUNetPlansSmall"
    fold: int = 0
    losses: tuple[str, ...] = ("boundary", "rrw")
    seeds: int = 5
    iterations: int = 300
    with_dice: bool = False
    output: Path | None = None
    device: str = "cpu"
    optimizer_name: str = "sgd"
    initial_lr: float = 1e-2  # nnU-Net's
    adam_betas: tuple[float, float] = MapTrainer.adam_betas

    def compared(self) -> dict[str, tuple[Term, ...]]:
        """The losses by name.

        Raises
        ------
        ValueError
            Unknown name.
        """
        known = (*LOSSES, "nnunet")
        unknown = [name for name in self.losses if name not in known]
        if unknown:
            raise ValueError(f"Unknown loss {unknown[0]!r}. Known: {', '.join(known)}.")
        compared: dict[str, tuple[Term, ...]] = {}
        for name in self.losses:
            compared[name] = (Term(name, options=_OPTIONS.get(name, {})),)
        if self.with_dice:
            compared |= {f"{name}+dice": (Term("dice"), *terms) for name, terms in compared.items()}
        return compared


def run_stability(settings: Stability) -> str:
    """Run what has not been run yet, and write ``curves.csv``, ``summary.json`` and ``stability.png``.

    Returns
    -------
    str
        The table and the names of the files.

    Raises
    ------
    FileNotFoundError
        Dataset, plans or preprocessed data do not exist; the message says what to run.
    ValueError
        An unknown loss, optimiser or configuration, a cascade, no such device, or a folder with runs of other settings.
    """
    compared = settings.compared()
    if settings.optimizer_name not in OPTIMIZERS:
        raise ValueError(f"Unknown optimiser {settings.optimizer_name!r}. Known: {', '.join(OPTIMIZERS)}.")
    check_adam_betas(settings.adam_betas, settings.optimizer_name)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("PyTorch sees no CUDA device. Give --device cpu.")
    data = open_preprocessed(settings.dataset, settings.configuration, settings.plans_name)
    if data.configuration.previous_stage_name is not None:
        raise ValueError(f"{data.name} is a cascade and needs predictions of its first stage. Give another -c.")
    output = settings.output or Path(f"stability_{data.dataset_folder.name}")
    list_cases(data.data_folder, data.settings)
    splits = data.dataset_folder / "splits_final.json"
    if splits.is_file():
        read_splits(splits, "Remove it: the training makes nnU-Net's own.")
    _claim(output, data, settings)
    terms = [term for loss in compared.values() for term in loss if term.loss in LOSSES]
    kinds = {kind for term in terms for kind in build(term.loss, **term.options).kinds}
    ensure_maps(data.data_folder, sorted(kinds), data.settings)
    curves = _run_all(data, compared, output, settings)
    join_files([_run_file(output, name, k) for name in compared for k in range(settings.seeds)], output / _FILES[0])
    summaries = {name: summarise_runs([measure(run) for run in runs]) for name, runs in curves.items()}
    _write_json(output / _FILES[1], {"settings": _fixed(data, settings), "losses": summaries})
    optimizer = f"{settings.optimizer_name}, lr {settings.initial_lr:g}"
    if settings.adam_betas != MapTrainer.adam_betas:
        optimizer += ", betas {:g} and {:g}".format(*settings.adam_betas)
    draw_stability(curves, output / _FILES[2], f"optimiser: {optimizer}")
    names = "\n".join(f"  {output / name}" for name in _FILES)
    return f"{stability_table(summaries, optimizer)}\n\nFiles:\n{names}"


def _fixed(data: Preprocessed, settings: Stability) -> dict[str, Any]:
    """What all runs of a folder have in common."""
    return {
        "dataset": data.dataset_folder.name,
        "configuration": settings.configuration,
        "plans": settings.plans_name,
        "fold": settings.fold,
        "iterations": settings.iterations,
        "device": settings.device,
        "optimizer_name": settings.optimizer_name,
        "initial_lr": settings.initial_lr,
        "adam_betas": list(settings.adam_betas),
    }


def _claim(output: Path, data: Preprocessed, settings: Stability) -> None:
    path, fixed = output / "settings.json", _fixed(data, settings)
    if not path.is_file():
        _write_json(path, fixed)
        return
    # What folders of before there was a choice do not say.
    defaults = {
        "optimizer_name": Stability.optimizer_name,
        "initial_lr": Stability.initial_lr,
        "adam_betas": list(Stability.adam_betas),
    }
    there = defaults | read_json(path, "Give another folder as -o.", _Settings)
    other = [f"{name} {there.get(name)}, not {value}" for name, value in fixed.items() if there.get(name) != value]
    if other:
        raise ValueError(f"{output} holds runs of other settings ({'; '.join(other)}). Give another folder as -o.")


def _run_all(
    data: Preprocessed, compared: dict[str, tuple[Term, ...]], output: Path, settings: Stability
) -> dict[str, list[Curves]]:
    curves: dict[str, list[Curves]] = {name: [] for name in compared}
    # Seed by seed: what an interruption leaves holds every loss.
    runs = [(name, seed) for seed in range(settings.seeds) for name in compared]
    length, device = settings.iterations, settings.device
    # All files first: that one is damaged would be told after hours of training.
    finished = {run: read_finished_curves(_run_file(output, *run), length) for run in runs}
    with tqdm(total=len(runs) * length, unit="iteration", smoothing=0.05, disable=None) as progress:
        for number, (name, seed) in enumerate(runs):
            progress.set_description(f"{name}, seed {seed}")
            path = _run_file(output, name, seed)
            run = finished[name, seed]
            if run is None:
                log = output / "logs" / path.stem
                attributes = {
                    "loss_terms": compared[name],
                    "optimizer_name": settings.optimizer_name,
                    "initial_lr": settings.initial_lr,
                    "adam_betas": settings.adam_betas,
                }
                run = record_training(data, attributes, settings.fold, seed, length, device, log, progress.update)
                write_curves(path, name, seed, run)
            curves[name].append(run)
            # Finished runs, and what is left of one that ended early.
            progress.update((number + 1) * length - progress.n)
    return curves


def _run_file(output: Path, name: str, seed: int) -> Path:
    return output / "runs" / f"{name}_seed{seed}.csv"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


class RecordingTrainer(MapTrainer):
    """MapTrainer that keeps loss, gradient norm and prediction of every training step; the step itself is nnU-Net's."""

    def initialize(self) -> None:
        super().initialize()
        self.rows: list[tuple[Any, ...]] = []
        # The loss is handed logits and target of the present step, on the device; nnU-Net keeps neither.
        self.loss.register_forward_hook(self._see)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        with gradient_norms() as norms:
            try:
                return super().train_step(batch)
            finally:  # of a step whose loss ends the training, too; none of one that was interrupted
                for norm in norms:
                    loss, shares = self._seen
                    self.rows.append((loss, norm.item(), *shares))

    def curves(self) -> Curves:
        """All steps so far."""
        return Curves(*(np.array(column, dtype=np.float64) for column in zip(*self.rows, strict=True)))

    def _do_i_compile(self) -> bool:
        # Compiling takes longer than the few hundred iterations that are run.
        return False

    def _see(self, module: torch.nn.Module, arguments: tuple[Any, ...], value: torch.Tensor) -> None:
        logits, target = (x[0] if isinstance(x, (list, tuple)) else x for x in arguments)
        labels = self.label_manager
        self._seen = (value.item(), class_shares(logits.detach(), target, labels.has_regions, labels.ignore_label))


def class_shares(
    logits: torch.Tensor, target: torch.Tensor, regions: bool = False, ignore_label: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share of the labelled voxels of a batch that are predicted, true, and both, per foreground class.

    Parameters
    ----------
    logits : (B, C, X, Y[, Z])
        The prediction is the class of the highest logit; with ``regions`` each head above 0.
    target, regions, ignore_label
        As of `nnunet_rw.losses.LossInputs`.

    Returns
    -------
    predicted, true, overlap : (K,) float64 in [0, 1]
        K = C - 1, or C with ``regions``; 0 where no voxel is labelled.
    """
    inputs = LossInputs(logits, target, regions=regions, ignore_label=ignore_label)
    true = inputs.onehot
    if regions:
        predicted = (logits > 0).to(true.dtype)
    else:
        predicted = torch.zeros_like(true).scatter_(1, logits.argmax(1, keepdim=True), 1)
    if inputs.mask is not None:
        predicted = predicted * inputs.mask
    labelled = predicted[:, 0].numel() if inputs.mask is None else max(1, int(inputs.mask.sum()))
    counts = [x.transpose(0, 1).flatten(1).sum(1) for x in (predicted, true, predicted * true)]
    foreground = torch.stack(counts)[:, 0 if regions else 1 :].double() / labelled
    predicted_share, true_share, overlap_share = foreground.cpu().numpy()
    return predicted_share, true_share, overlap_share


def record_training(
    data: Preprocessed,
    attributes: dict[str, Any],
    fold: int,
    seed: int,
    iterations: int,
    device: str,
    folder: Path,
    on_step: Callable[[], Any] = lambda: None,
) -> Curves:
    """The first iterations of a training of nnU-Net's usual length.

    Network, decay of the learning rate, augmentation and clipping are nnU-Net's. Initial weights and patches depend on
    the seed alone: they are the same for every loss.

    Parameters
    ----------
    data : Preprocessed
    attributes : dict
        Of the trainer, see `MapTrainer`: its loss_terms, and its optimiser where that is not nnU-Net's.
    fold, seed, iterations : int
    device : str
        "cpu" or "cuda".
    folder : path
        For nnU-Net's log.
    on_step : function
        Called after every iteration.

    Returns
    -------
    Curves
        Shorter than ``iterations`` where the loss became non-finite.
    """
    trainer_class = type("StabilityTrainer", (RecordingTrainer,), attributes)
    plans = {**copy.deepcopy(data.plans.plans), "continue_training": False}
    # One process: nnU-Net's workers draw seeds of their own.
    with environment(nnUNet_results=str(folder), nnUNet_n_proc_DA="0"), redirect_stdout(io.StringIO()):
        trainer = trainer_class(plans, data.name, fold, copy.deepcopy(data.dataset_json), torch.device(device))
        if device == "cpu":
            torch.set_flush_denormal(True)  # as `MapTrainer.on_train_start`, which is not called here
        seed_generators(seed)
        trainer.initialize()
        # Again, since building a loss might draw numbers.
        seed_generators(seed)
        batches, _ = trainer.get_dataloaders()
        trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
        for iteration in range(iterations):
            if iteration % trainer.num_iterations_per_epoch == 0:
                trainer.current_epoch = iteration // trainer.num_iterations_per_epoch
                trainer.on_train_epoch_start()
            try:
                trainer.train_step(next(batches))
            except FloatingPointError:
                break
            finally:
                on_step()
    return trainer.curves()
