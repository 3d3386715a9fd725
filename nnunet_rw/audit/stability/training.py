"""A training through nnU-Net's pipeline of which every iteration is written down."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils import clip_grad_norm_

from nnunet_rw.audit.stability.curves import Curves
from nnunet_rw.datasets.folders import Preprocessed
from nnunet_rw.losses import LossInputs
from nnunet_rw.training.seeds import seed_generators
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.util.files import environment, replaced


class RecordingTrainer(MapTrainer):
    """MapTrainer that keeps loss, gradient norm and prediction of every training step; the step itself is nnU-Net's."""

    def initialize(self) -> None:
        super().initialize()
        self.rows: list[tuple[Any, ...]] = []
        # The loss is handed logits and target of the present step, on the device; nnU-Net keeps neither.
        self.loss.register_forward_hook(self._see)

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        # nnU-Net throws away the norm that clipping returns.
        with replaced(torch.nn.utils, "clip_grad_norm_", self._clip):
            return super().train_step(batch)

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

    def _clip(self, parameters: Any, max_norm: float) -> torch.Tensor:
        norm = clip_grad_norm_(parameters, max_norm)
        loss, shares = self._seen
        self.rows.append((loss, norm.item(), *shares))
        return norm


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
