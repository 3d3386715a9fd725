"""What a benchmark has to do, in pieces that can run apart from each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nnunet_rw.benchmark.specification import SMALL, Specification
from nnunet_rw.benchmark.tasks import Task

Kind = Literal["prepare", "train", "evaluate"]
SMALL_PLANS = "nnUNetPlansSmall"


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes
    ----------
    kind : "prepare", "train" or "evaluate"
        A task's dataset, plans and maps; one training with its validation; all folds of a trainer and seed.
    task : Task
    trainer : str
        Without length and seed; empty for "prepare".
    seed, fold : int
    after : tuple of str
        Names of the jobs that must be done before.
    """

    kind: Kind
    task: Task
    trainer: str = ""
    seed: int = 0
    fold: int = 0
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique, and usable as a path: ``train/Task04_Hippocampus/RWTrainer/seed0/fold1``."""
        parts: list[str] = [self.kind, self.task.name]
        if self.kind != "prepare":
            parts += [self.trainer, f"seed{self.seed}"]
        if self.kind == "train":
            parts.append(f"fold{self.fold}")
        return "/".join(parts)

    @property
    def needs_gpu(self) -> bool:
        """Whether it trains: other jobs have no use for a GPU."""
        return self.kind == "train"


def jobs_of(specification: Specification, tasks: Sequence[Task]) -> list[Job]:
    """Every job, each after those that it needs.

    Task by task, and within a task seed by seed: what can be compared first is done first.
    """
    jobs = []
    for task in tasks:
        prepare = Job("prepare", task)
        jobs.append(prepare)
        seeds = {
            trainer: specification.seeds_of.get(trainer, specification.seeds) for trainer in specification.trainers
        }
        for seed in range(max(seeds.values())):
            for trainer in (trainer for trainer in specification.trainers if seed < seeds[trainer]):
                folds = [Job("train", task, trainer, seed, fold, after=(prepare.name,)) for fold in specification.folds]
                jobs += folds
                jobs.append(Job("evaluate", task, trainer, seed, after=tuple(fold.name for fold in folds)))
    return jobs


def full_trainer_name(specification: Specification, trainer: str, seed: int) -> str:
    """The trainer's name for nnU-Net, which makes its results folder: ``RWTrainer_15epochs_50iterations_seed0``."""
    length = f"_{specification.epochs}epochs" if specification.epochs else ""
    if specification.iterations:
        length += f"_{specification.iterations}iterations"
    return f"{trainer}{length}_seed{seed}"


def plans_name(specification: Specification) -> str:
    """The name of the plans for nnU-Net."""
    if specification.small_options is None:
        return specification.plans
    return f"{SMALL_PLANS}{specification.plans.removeprefix(SMALL)}"
