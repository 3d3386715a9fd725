"""What the schedule asks of an executor."""

from __future__ import annotations

import os
from typing import Protocol

from nnunet_rw.benchmark.jobs import Job

# nnU-Net's own number where a machine has more processors.
_MOST_PROCESSES = 8


class Executor(Protocol):
    """Starts jobs and tells which have ended; how a job went is in its state on disk.

    A job that an earlier command started, and that is still at work, is taken over rather than started twice.
    """

    def room(self) -> int:
        """How many more jobs may be started now."""

    def start(self, job: Job) -> None:
        """Start a job, or take over one that is at work."""

    def ended(self) -> list[Job]:
        """The jobs that have ended since the last call, well or not; does not wait."""

    def stop(self) -> None:
        """Called when the command is interrupted, with jobs at work."""


def job_environment(processors: int) -> dict[str, str]:
    """The environment of a job that has so many processors to itself.

    nnU-Net predicts and preprocesses with eight processes of almost a gigabyte each, however many processors there are,
    unless its variable says otherwise; a user's own value is kept.
    """
    processes = str(max(1, min(processors, _MOST_PROCESSES)))
    return {"nnUNet_def_n_proc": processes, **os.environ}


def processors() -> int:
    """The processors that this process may use: fewer than the machine's under Slurm."""
    if "SLURM_CPUS_PER_TASK" in os.environ:  # not every cluster binds jobs to theirs
        return int(os.environ["SLURM_CPUS_PER_TASK"])
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
