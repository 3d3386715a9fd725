"""Run the jobs of a benchmark, each as soon as those it needs are done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nnunet_rw.benchmark.executors.base import Executor
from nnunet_rw.benchmark.job_state import JobState, log_tail, now, read_state, write_state
from nnunet_rw.benchmark.jobs import Job
from nnunet_rw.benchmark.workspace import Workspace

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Failure:
    """A job that is not done at the end.

    Attributes
    ----------
    job : str
    reason : str
        One line.
    log_tail : tuple of str
        The last lines of its log; empty where it was not begun.
    """

    job: str
    reason: str
    log_tail: tuple[str, ...] = ()


def run_schedule(
    workspace: Workspace,
    jobs: Sequence[Job],
    is_done: Callable[[Job], bool],
    executor: Executor,
    report: Callable[[str], None] = print,
    look: Callable[[], None] = lambda: None,
    poll_seconds: float = POLL_SECONDS,
) -> list[Failure]:
    """Do all jobs that are not done; one that fails stops only those that need it.

    Parameters
    ----------
    workspace : Workspace
    jobs : sequence of Job
        Each after those that it needs.
    is_done : function of a Job
        Judged by what lies on disk.
    executor : Executor
    report : function of a str
        Gets a line for every job that begins or ends.
    look : function
        Called between two looks at the executor.
    poll_seconds : float
        Between two looks at the executor.

    Returns
    -------
    list of Failure
        Empty where all is done.
    """
    done: set[str] = set()
    failures: dict[str, Failure] = {}
    waiting = list(jobs)
    at_work: set[str] = set()
    try:
        while waiting or at_work:
            waiting = _start_what_can(waiting, done, failures, at_work, is_done, executor, report)
            for job in executor.ended():
                at_work.discard(job.name)
                if is_done(job):
                    done.add(job.name)
                    report(f"{_clock()} done    {job.name} ({len(done)} of {len(jobs)})")
                else:
                    failures[job.name] = _failure(workspace, job)
                    report(f"{_clock()} FAILED  {job.name}: {failures[job.name].reason}")
            if at_work:
                look()
                time.sleep(poll_seconds)
    except BaseException:
        executor.stop()
        raise
    return list(failures.values())


def _start_what_can(
    waiting: list[Job],
    done: set[str],
    failures: dict[str, Failure],
    at_work: set[str],
    is_done: Callable[[Job], bool],
    executor: Executor,
    report: Callable[[str], None],
) -> list[Job]:
    """Start jobs while there is room; returns those that still wait."""
    still_waiting = []
    for job in waiting:
        blocking = [name for name in job.after if name in failures]
        if blocking:
            failures[job.name] = Failure(job.name, f"needs {blocking[0]}, which failed")
        elif not set(job.after) <= done:
            still_waiting.append(job)
        elif is_done(job):
            done.add(job.name)
        elif executor.room() > 0:
            executor.start(job)
            at_work.add(job.name)
            report(f"{_clock()} started {job.name}")
        else:
            still_waiting.append(job)
    return still_waiting


def _failure(workspace: Workspace, job: Job) -> Failure:
    state = read_state(workspace, job.name)
    tail = tuple(log_tail(workspace.job_file(job.name, ".log")))
    if state.status == "failed":
        return Failure(job.name, state.error, tail)
    if state.status == "running":
        return Failure(job.name, "another process has begun it at the same moment; run the same command again", tail)
    reason = "it ended without a result: killed, or out of memory"
    if state.status == "done":
        reason = "it ended well, but its results are not there: were they removed, or is the disk full?"
    write_state(workspace, job.name, JobState("failed", state.attempts, state.started, now(), reason))
    return Failure(job.name, reason, tail)


def _clock() -> str:
    return time.strftime("%H:%M:%S")
