"""One process that loads and augments patches of 128^3 voxels: nnU-Net's loader, and ours with maps.

On a synthetic dataset with nnU-Net's own plans and preprocessing; all loaders draw the same random numbers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.child import folders, in_child
from benchmarks.harness import seconds_in_turns

SHAPE = (190, 190, 190)  # about 160^3 once nnU-Net has cut away what is around the head
CASES = 3
STOCK = "nnU-Net's"


def run() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as root:
        environment = {**folders(Path(root)), "nnUNet_n_proc_DA": "0"}
        prepared = in_child("benchmarks.synthetic_dataset", "prepare", [root, CASES, SHAPE], environment)
        rows = in_child("benchmarks.loader", "loader_rows", [prepared["dataset"]], environment)
    return [{**row, "patch_size": prepared["patch_size"]} for row in rows]


def loader_rows(dataset: str, plans_name: str = "nnUNetPlans", rounds: int = 8, batches: int = 4) -> list[dict]:
    """A row per loader, in a process that knows nnU-Net's folders; every turn takes some batches of one loader."""
    from benchmarks.trainers import RWPatchTrainer, RWTrainer, WeightedPatchTrainer, WeightedTrainer, nnUNetTrainer

    steps: dict[str, Callable[[], Any]] = {}
    for name, trainer in {
        STOCK: nnUNetTrainer,
        "distance, stored": RWTrainer,
        "distance, of the patch": RWPatchTrainer,
        "distance and lesion ids, stored": WeightedTrainer,
        "distance and lesion ids, of the patch": WeightedPatchTrainer,
    }.items():
        steps[name], batch_size = _step(trainer, dataset, plans_name, batches)
    seconds = seconds_in_turns(steps, rounds)
    return [
        {
            "maps": "none" if name == STOCK else name,
            "seconds_per_sample": seconds[name] / (batches * batch_size),
            "of_stock": seconds[name] / seconds[STOCK],
        }
        for name in steps
    ]


def _step(trainer_class: type, dataset: str, plans_name: str, batches: int) -> tuple[Callable[[], None], int]:
    """A function that takes batches, and their number of samples."""
    import numpy as np
    import torch

    from benchmarks.trainers import trainer_of

    trainer = trainer_of(trainer_class, dataset, torch.device("cpu"), plans_name)
    trainer.initialize()
    loader, _ = trainer.get_dataloaders()
    turn = 0

    def step() -> None:
        nonlocal turn
        turn += 1
        np.random.seed(turn)
        torch.manual_seed(turn)
        for _ in range(batches):
            next(loader)

    return step, trainer.batch_size
