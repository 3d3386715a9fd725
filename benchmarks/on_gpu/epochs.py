"""Short trainings with nnU-Net's own 3d_fullres plans, one after the other: time of an epoch, of a step, and memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from benchmarks.child import folders, in_child

TRAINERS = ("nnUNetTrainer", "RWTrainer", "RWPatchTrainer")
# Of the images of the synthetic dataset: large enough for patches of 128^3.
SHAPE = (190, 190, 190)
CASES = 8


def run(
    dataset: str | None = None,
    plans_name: str = "nnUNetPlans",
    device: str = "cuda",
    epochs: int = 3,
    iterations: int = 50,
    step_repeats: int = 20,
) -> list[dict[str, Any]]:
    """A row per trainer.

    Parameters
    ----------
    dataset : str, optional
        Id or name of a preprocessed one in nnU-Net's folders, which must be set; without it a synthetic one is made.
    plans_name : str
    device : str
    epochs, iterations : int
        The first epoch compiles and does not count.
    step_repeats : int
        Training steps with one batch, the loader left out.
    """
    with tempfile.TemporaryDirectory() as root:
        environment = folders(Path(root))
        if dataset is None:
            dataset = in_child("benchmarks.synthetic_dataset", "prepare", [root, CASES, SHAPE], environment)["dataset"]
        else:
            environment = {"nnUNet_results": environment["nnUNet_results"]}
        rows = []
        for trainer in TRAINERS:
            arguments = [trainer, dataset, plans_name, device, epochs, iterations, step_repeats]
            rows.append({"trainer": trainer, **in_child("benchmarks.on_gpu.epochs", "trained", arguments, environment)})
    return [relative_to_stock(row, rows[0]) for row in rows]


def relative_to_stock(row: dict[str, Any], stock: dict[str, Any]) -> dict[str, Any]:
    """A row of `run` with its figures as shares of the stock trainer's, and the waits that it adds."""
    figures = [name for name in ("epoch_seconds", "step_seconds", "peak_gpu_mib") if row[name] is not None]
    added = None if row["waits_per_step"] is None else row["waits_per_step"] - stock["waits_per_step"]
    return {**row, **{f"{name}_of_stock": row[name] / stock[name] for name in figures}, "waits_added": added}


def trained(
    trainer: str, dataset: str, plans_name: str, device: str, epochs: int, iterations: int, step_repeats: int
) -> dict[str, Any]:
    """What one training took; for a process that knows nnU-Net's folders."""
    import torch
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    from benchmarks import trainers
    from nnunet_rw.training.catalogue import trainer_classes
    from nnunet_rw.training.records import read_run_record
    from nnunet_rw.training.variants import variant

    base = getattr(trainers, trainer, None) or trainer_classes()[trainer]

    class Kept(base):
        """Remembers its last batch."""

        def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
            self.kept = batch
            return super().train_step(batch)

    name = f"{trainer}_{epochs}epochs_{iterations}iterations_seed0"
    recorded = trainers.trainer_of(
        variant(Kept, name, epochs, iterations, 0), dataset, torch.device(device), plans_name
    )
    # Each training would write the maps of the dataset, or find those of the one before.
    recorded.run_training()
    # Of steps with compiled networks and losses, which no longer compile.
    steps = _step_seconds(recorded, step_repeats)
    record = read_run_record(recorded.output_folder)
    assert record is not None
    counted = record.epochs[1:] or record.epochs
    peaks = [epoch.peak_gpu_mib for epoch in counted if epoch.peak_gpu_mib is not None]
    return {
        "dataset": record.dataset,
        "patch_size": list(record.patch_size),
        "batch_size": record.batch_size,
        "iterations": record.iterations_per_epoch,
        "loading_processes": get_allowed_n_proc_DA(),
        "epoch_seconds": min(epoch.seconds for epoch in counted),
        "loader_wait_seconds": min(epoch.loader_wait_seconds for epoch in counted),
        "train_losses": [epoch.train_loss for epoch in record.epochs],
        "pseudo_dice": [epoch.pseudo_dice for epoch in record.epochs],
        "step_seconds": median(steps),
        "waits_per_step": _waits(recorded) if device == "cuda" else None,
        "peak_gpu_mib": max(peaks, default=None),
    }


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
    import warnings

    import torch

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            trainer.train_step(trainer.kept)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in told)
