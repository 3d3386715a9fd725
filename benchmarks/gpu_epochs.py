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
            rows.append({"trainer": trainer, **in_child("benchmarks.gpu_epochs", "trained", arguments, environment)})
    for row in rows:
        for name in ("epoch_seconds", "step_seconds", "peak_gpu_mib"):
            if row[name] is not None:
                row[f"{name}_of_stock"] = row[name] / rows[0][name]
    return rows


def trained(
    trainer: str, dataset: str, plans_name: str, device: str, epochs: int, iterations: int, step_repeats: int
) -> dict[str, Any]:
    """What one training took; for a process that knows nnU-Net's folders."""
    import torch
    from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

    from benchmarks import trainers
    from nnunet_rw.training.records import read_run_record
    from nnunet_rw.training.variants import variant

    class Kept(getattr(trainers, trainer)):
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
        "step_seconds": median(_step_seconds(recorded, step_repeats)),
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
