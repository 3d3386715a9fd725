"""From nothing to a report: a dataset, stock nnU-Net, the trainer for small lesions, and what each of them found."""

from __future__ import annotations

import os
from pathlib import Path

from nnunet_rw.benchmark.executors import processors
from nnunet_rw.benchmark.report.leaderboard import leaderboard_table
from nnunet_rw.benchmark.results import read_results
from nnunet_rw.benchmark.run import Benchmark
from nnunet_rw.benchmark.specification import SMALL, specification_of
from nnunet_rw.datasets.synthetic import write_synthetic_dataset
from nnunet_rw.util.files import NNUNET_FOLDERS

SYNTHETIC_TASK = "Task99_SyntheticLesions"
# Small enough for two trainings of a few hundred iterations in minutes on two cores.
SHAPE = (48, 48, 48)


def demo_benchmark(
    folder: Path,
    msd: Path | None = None,
    trainers: tuple[str, ...] = ("nnUNetTrainer", "RWTrainer_SmallLesions"),
    epochs: int = 6,
    iterations: int = 50,
    device: str = "cpu",
) -> Benchmark:
    """A benchmark of one fold with a small network, all of it in one folder.

    Parameters
    ----------
    folder : path
        Everything is written here, whatever nnU-Net's variables say.
    msd : path, optional
        A folder in MSD layout; without it a synthetic dataset is made.
    trainers : tuple of str
        The baseline first.
    epochs, iterations : int
        Of each training.
    device : str
        "cpu" or "cuda".

    Raises
    ------
    FileNotFoundError, ValueError
        The MSD folder is none, or a trainer is unknown.
    """
    for variable in NNUNET_FOLDERS:
        os.environ.pop(variable, None)
    specification = specification_of(
        {
            "tasks": [str(msd or folder / SYNTHETIC_TASK)],
            "trainers": trainers,
            "folds": [0],
            "epochs": epochs,
            "iterations": iterations,
            "plans": SMALL,
            "device": device,
            "execution": {"jobs": min(len(trainers), processors()) if device == "cpu" else 1},
        },
        "demo",
    )
    if msd is None and not (folder / SYNTHETIC_TASK / "dataset.json").is_file():
        print("Making a synthetic dataset of small lesions")
        write_synthetic_dataset(folder / SYNTHETIC_TASK, shape=SHAPE)
    return Benchmark(folder, specification)


def demo_table(benchmark: Benchmark) -> str:
    """The leaderboard of what is done."""
    (task,) = read_results(benchmark.workspace.folder).tasks
    table = leaderboard_table(task)
    return table.text() if table.rows else ""
