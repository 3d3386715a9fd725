"""Short trainings with nnU-Net's own 3d_fullres plans, one after the other: time of an epoch, of a step, and memory.

To be imported where the environment names nnU-Net's folders.
"""

from __future__ import annotations

import gc
import warnings
from statistics import median
from time import perf_counter
from typing import Any

import torch
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from benchmarks import trainers
from nnunet_rw.training.catalogue import trainer_classes
from nnunet_rw.training.records import read_run_record
from nnunet_rw.training.variants import variant


def relative_to_stock(row: dict[str, Any], stock: dict[str, Any]) -> dict[str, Any]:
    """A row of `trained` with its figures as shares of the stock trainer's, and the waits that it adds."""
    names = ("epoch_seconds", "loop_step_seconds", "step_seconds", "peak_gpu_mib")
    figures = [name for name in names if row[name] is not None]
    added = None if row["waits_per_step"] is None else row["waits_per_step"] - stock["waits_per_step"]
    return {**row, **{f"{name}_of_stock": row[name] / stock[name] for name in figures}, "waits_added": added}


def trained(
    trainer: str, dataset: str, plans_name: str, device: str, epochs: int, iterations: int, step_repeats: int
) -> dict[str, Any]:
    """What one training took.

    Parameters
    ----------
    trainer : str
        Of `benchmarks.trainers`, or one of the package's or nnU-Net's own.
    dataset : str
        Id or name of a preprocessed one.
    plans_name, device : str
    epochs, iterations : int
        The first epoch compiles and does not count.
    step_repeats : int
        Training steps with one batch, once the loaders have stopped.
    """
    base = getattr(trainers, trainer, None) or trainer_classes()[trainer]

    class Kept(base):
        """Remembers its last batch, and how long the training steps of its last epoch took."""

        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            self.loop_seconds: list[float] = []

        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            self.kept, start = batch, perf_counter()
            result = super().train_step(batch)
            self.loop_seconds.append(perf_counter() - start)
            return result

    name = f"{trainer}_{epochs}epochs_{iterations}iterations_seed0"
    recorded = trainers.trainer_of(
        variant(Kept, name, epochs, iterations, 0), dataset, torch.device(device), plans_name
    )
    # Each training would write the maps of the dataset, or find those of the one before.
    recorded.run_training()
    in_the_loop = median(recorded.loop_seconds)
    alone = median(_step_seconds(recorded, step_repeats))
    record = read_run_record(recorded.output_folder)
    assert record is not None
    counted = record.epochs[1:] or record.epochs
    peaks = [epoch.peak_gpu_mib for epoch in counted if epoch.peak_gpu_mib is not None]
    row = {
        "dataset": record.dataset,
        "patch_size": list(record.patch_size),
        "batch_size": record.batch_size,
        "iterations": record.iterations_per_epoch,
        "loading_processes": get_allowed_n_proc_DA(),
        "epoch_seconds": min(epoch.seconds for epoch in counted),
        "loader_wait_seconds": min(epoch.loader_wait_seconds for epoch in counted),
        "train_losses": [epoch.train_loss for epoch in record.epochs],
        "pseudo_dice": [epoch.pseudo_dice for epoch in record.epochs],
        "loop_step_seconds": in_the_loop,
        "step_seconds": alone,
        "waits_per_step": _waits(recorded) if device == "cuda" else None,
        "peak_gpu_mib": max(peaks, default=None),
    }
    # The next one's memory is counted from nothing.
    del recorded
    gc.collect()
    torch.cuda.empty_cache()
    return row


def _step_seconds(trainer: Any, repeats: int) -> list[float]:
    trainer.network.train()
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        trainer.train_step(trainer.kept)  # reads the loss, and so waits for the device
        seconds.append(perf_counter() - start)
    return seconds


def _waits(trainer: Any) -> int:
    """How often a step makes the CPU wait for the GPU, as torch counts it."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            trainer.train_step(trainer.kept)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in told)
