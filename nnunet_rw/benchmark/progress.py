"""How far a benchmark is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from nnunet_rw.benchmark.job_state import JobState, log_tail, read_state
from nnunet_rw.benchmark.jobs import Job
from nnunet_rw.benchmark.run import Benchmark
from nnunet_rw.benchmark.training import fold_folder
from nnunet_rw.run_record import RunRecord, read_run_record


@dataclass(frozen=True)
class JobProgress:
    """A job now.

    Attributes
    ----------
    job : Job
    state : JobState
        "done" wherever the results are there, whoever made them.
    epoch, num_epochs : int
        Of a training: finished ones, and all; 0 of other jobs and before the first epoch.
    pseudo_dice : float
        nnU-Net's, of the last epoch, mean over classes; NaN where there is none.
    epoch_seconds : float
        Median; NaN where there is none.
    log_tail : tuple of str
        Of a job that failed or was interrupted.
    """

    job: Job
    state: JobState
    epoch: int = 0
    num_epochs: int = 0
    pseudo_dice: float = math.nan
    epoch_seconds: float = math.nan
    log_tail: tuple[str, ...] = ()

    @property
    def seconds_left(self) -> float:
        """Of a training's epochs; NaN before the first is done."""
        return (self.num_epochs - self.epoch) * self.epoch_seconds


def progress_of(benchmark: Benchmark) -> list[JobProgress]:
    """Every job of a benchmark, in the order in which they are done; one that needs a failed one has failed as well."""
    found: list[JobProgress] = []
    failed: set[str] = set()
    for job in benchmark.jobs:
        item = _progress(benchmark, job)
        needed = [name for name in job.after if name in failed]
        if needed and item.state.status == "waiting":
            item = replace(item, state=replace(item.state, status="failed", error=f"Needs {needed[0]}, which failed"))
        if item.state.status == "failed":
            failed.add(job.name)
        found.append(item)
    return found


def seconds_left(progress: list[JobProgress], at_a_time: int) -> float:
    """Estimate for all trainings together, if so many run at a time; NaN before the first epoch of any.

    A training that has not begun is taken to last as others of its task and trainer do, or else of its task, or else
    as any.
    """
    trainings = [item for item in progress if item.job.kind == "train"]
    known = {item: item.num_epochs * item.epoch_seconds for item in trainings if item.epoch}
    total = 0.0
    for item in trainings:
        if item.state.status == "done":
            continue
        total += item.seconds_left if item.epoch else _expected(item.job, known)
    return total / at_a_time


def _expected(job: Job, known: Mapping[JobProgress, float]) -> float:
    for alike in (
        lambda other: (other.task, other.trainer) == (job.task, job.trainer),
        lambda other: other.task == job.task,
        lambda other: True,
    ):
        seconds = [value for item, value in known.items() if alike(item.job)]
        if seconds:
            return float(np.mean(seconds))
    return math.nan


def _progress(benchmark: Benchmark, job: Job) -> JobProgress:
    state = read_state(benchmark.workspace, job.name)
    if state.status != "running" and benchmark.is_done(job):
        state = JobState("done", state.attempts, state.started, state.ended)
    elif state.status == "done":
        state = JobState("waiting", state.attempts)
    record = _record(benchmark, job)
    tail = log_tail(benchmark.workspace.job_file(job.name, ".log")) if state.status in ("failed", "interrupted") else []
    if record is None or not record.epochs:
        return JobProgress(job, state, log_tail=tuple(tail))
    return JobProgress(
        job,
        state,
        len(record.epochs),
        record.num_epochs,
        record.epochs[-1].pseudo_dice,
        float(np.median([epoch.seconds for epoch in record.epochs])),
        tuple(tail),
    )


def _record(benchmark: Benchmark, job: Job) -> RunRecord | None:
    if job.kind != "train":
        return None
    try:
        return read_run_record(fold_folder(benchmark.specification, job))
    except (ValueError, FileNotFoundError):  # as while it is removed
        return None
