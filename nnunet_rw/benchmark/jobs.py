"""What a benchmark has to do, in pieces that can run apart from each other, and the state of each on disk.

Imports nothing that takes long.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, TextIO

from nnunet_rw.benchmark.specification import SMALL, Specification
from nnunet_rw.benchmark.workspace import Workspace
from nnunet_rw.util.files import NO_LOCKS, write_atomically

Kind = Literal["prepare", "train", "evaluate"]
SMALL_PLANS = "nnUNetPlansSmall"  # as `nnunet_rw.datasets.folders` has it, which imports nnU-Net


@dataclass(frozen=True)
class Task:
    """One dataset.

    Attributes
    ----------
    name : str
        As the report has it.
    dataset : str
        nnU-Net's name.
    folder : Path, optional
        In MSD layout; None where the dataset is in nnUNet_raw already, or is yet to be downloaded.
    """

    name: str
    dataset: str
    folder: Path | None = None


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


Status = Literal["waiting", "queued", "running", "done", "failed", "interrupted"]


class AlreadyRunning(RuntimeError):
    """Another process does this job."""


@dataclass(frozen=True)
class JobState:
    """What is known of a job.

    Attributes
    ----------
    status : str
        "queued" is a job that a cluster has yet to begin; "interrupted" is one that was begun, has not ended, and that
        no process works on.
    attempts : int
    started, ended : str
        Of the last attempt, ISO 8601 in UTC; empty where that has not happened.
    error : str
        One line, of a failed attempt.
    cluster_id : str
        Of the cluster's own queue, where the job was handed to one.
    """

    status: Status = "waiting"
    attempts: int = 0
    started: str = ""
    ended: str = ""
    error: str = ""
    cluster_id: str = ""


def read_state(workspace: Workspace, job: str) -> JobState:
    """The state of a job; "waiting" where nothing is known of it, as after a damaged file."""
    state = _read(workspace, job)
    if state.status == "running" and not is_locked(workspace, job):
        return replace(state, status="interrupted")
    return state


def write_state(workspace: Workspace, job: str, state: JobState) -> None:
    """Write the state, complete or not at all."""
    path = workspace.job_file(job, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(asdict(state), indent=2) + "\n").encode())


@contextmanager
def working_on(workspace: Workspace, job: str) -> Iterator[None]:
    """Hold the job's lock and write its state: running, then done or failed.

    The lock ends with the process, however that ends. Processes that it forks do not inherit it, so nnU-Net's workers
    which outlive a killed training do not hold up the next attempt.

    Raises
    ------
    AlreadyRunning
        Another process holds the lock.
    """
    path = workspace.job_file(job, ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        if not _lock(file):
            raise AlreadyRunning(f"{job} is being done by another process.")
        # Not `read_state`: to close a file gives up all locks that the process has on it.
        before = _read(workspace, job)
        state = replace(before, status="running", attempts=before.attempts + 1, started=now(), ended="", error="")
        write_state(workspace, job, state)
        try:
            yield
        except BaseException as error:
            line = " ".join(str(error).split())
            message = f"{type(error).__name__}: {line}" if line else type(error).__name__
            write_state(workspace, job, replace(state, status="failed", ended=now(), error=message))
            raise
        write_state(workspace, job, replace(state, status="done", ended=now()))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made where there is none; others wait, and say so.

    As of `working_on`, processes that this one forks do not inherit it. Where a file system has no locks there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        if not _lock(file):
            print(f"Waiting for another benchmark that holds {path}", flush=True)
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


def _lock(file: TextIO) -> bool:
    """Take a file's lock; False where another process has it. A file system without locks has nothing to take."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True


def is_locked(workspace: Workspace, job: str) -> bool:
    """Whether another process works on the job. (One's own locks are not seen.)

    On a file system without locks, whether the state says so.
    """
    path = workspace.job_file(job, ".lock")
    try:
        with open(path, "r+", encoding="utf-8") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno not in NO_LOCKS or _read(workspace, job).status == "running"
    return False


def log_tail(path: Path, lines: int = 5) -> list[str]:
    """The last lines of a log that hold something; none where there is no log."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    # A progress bar writes over its own line.
    return [line.rsplit("\r", 1)[-1].strip() for line in text.splitlines() if line.strip()][-lines:]


def _read(workspace: Workspace, job: str) -> JobState:
    try:
        return JobState(**json.loads(workspace.job_file(job, ".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return JobState()


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
