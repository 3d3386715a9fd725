"""Does a loss train stably? The same network, patches and seeds with one loss after the other.

Valverde & Tohka (Pattern Recognition 2022, arXiv 2108.01405) hold that boundary maps, signed distances without a bound,
make training unstable and that rectified region-wise maps do not. Their boundary maps are in voxels, ours in mm: at a
spacing of 1 mm, both are alike, elsewhere the boundary loss and its gradients are scaled. They take every class, the
background's included, which `boundary` does here as well (its default elsewhere leaves the background out).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from typing_extensions import TypedDict

from nnunet_rw.audit.stability.curves import (
    Curves,
    join_files,
    measure,
    read_finished_curves,
    summarise_runs,
    write_curves,
)
from nnunet_rw.audit.stability.report import draw_stability, stability_table
from nnunet_rw.audit.stability.training import record_training
from nnunet_rw.datasets.folders import Preprocessed, open_preprocessed
from nnunet_rw.losses import LOSSES, Term, build
from nnunet_rw.store.write import ensure_maps, list_cases
from nnunet_rw.training.trainer import OPTIMIZERS
from nnunet_rw.util.files import write_atomically
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
    }


def _claim(output: Path, data: Preprocessed, settings: Stability) -> None:
    path, fixed = output / "settings.json", _fixed(data, settings)
    if not path.is_file():
        _write_json(path, fixed)
        return
    # What folders of before there was a choice do not say.
    nnunets = {"optimizer_name": Stability.optimizer_name, "initial_lr": Stability.initial_lr}
    there = nnunets | read_json(path, "Give another folder as -o.", _Settings)
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
