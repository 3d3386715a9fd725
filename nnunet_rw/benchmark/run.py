"""The whole of a benchmark: from a specification to a report, each job as soon as those it needs are done."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_rw.benchmark.executors import Executor, LocalExecutor, visible_gpus
from nnunet_rw.benchmark.jobs import Job, JobState, Workspace, jobs_of, log_tail, now, read_state, write_state
from nnunet_rw.benchmark.preparing import check_patients, find_task, is_prepared
from nnunet_rw.benchmark.specification import Specification, with_paths
from nnunet_rw.benchmark.training import find_trainers, is_evaluated, is_trained

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


class Benchmark:
    """A benchmark in its folder.

    Parameters
    ----------
    folder : path
    specification : Specification, optional
        Default: the one that is kept in the folder.

    Raises
    ------
    FileNotFoundError, ValueError
        A task or trainer is unknown, or there is no benchmark in the folder; nothing has been written then.
    """

    def __init__(self, folder: str | Path, specification: Specification | None = None) -> None:
        self.workspace = Workspace(Path(folder).resolve())
        # Jobs, and later commands, may run elsewhere.
        self.specification = with_paths(specification or self.workspace.specification(), os.path.abspath)
        self.workspace.activate()
        find_trainers(self.specification)
        self.tasks = [find_task(text, self.workspace.downloads) for text in self.specification.tasks]
        by_dataset = {task.dataset: task.name for task in self.tasks}
        for task in self.tasks:
            if by_dataset[task.dataset] != task.name:
                raise ValueError(f"{task.name} and {by_dataset[task.dataset]} are one dataset. Give one of them.")
        self.jobs = jobs_of(self.specification, self.tasks)

    def is_done(self, job: Job) -> bool:
        """Whether the results of a job are there, whoever made them."""
        try:
            if job.kind == "prepare":
                return is_prepared(self.specification, job.task)
            if job.kind == "train":
                return is_trained(self.specification, job)
            return is_evaluated(self.workspace, self.specification, job)
        except FileNotFoundError:  # of nnU-Net's folders, before anything is done
            return False

    def run(self, report: Callable[[str], None] = print, look: Callable[[], None] = lambda: None) -> list[Failure]:
        """Keep the specification, do all jobs that are not done, and write the report.

        Parameters
        ----------
        report : function of a str
            Gets a line for every job that begins or ends.
        look : function
            Called every second or so.

        Returns
        -------
        list of Failure
            The jobs that could not be done, and the report where it would have fewer results than the one that is kept.

        Raises
        ------
        FileNotFoundError, ValueError
            It cannot be run as it is specified, see `check_patients`; nothing has been written then.
        """
        from nnunet_rw.benchmark.report.report import FewerResults

        check_patients(self.specification, self.tasks)
        executor = self._executor()
        self.workspace.keep(self.specification)
        for job in self.jobs:
            state = read_state(self.workspace, job.name)
            if state.status == "failed":  # of an earlier command: it is tried again
                write_state(self.workspace, job.name, JobState(attempts=state.attempts))
        failures = run_schedule(self.workspace, self.jobs, self.is_done, executor, report, look)
        try:
            self.write_report()
        except FewerResults as error:
            failures.append(Failure("report", str(error)))
        return failures

    def write_report(self) -> Path:
        """Write ``report.html`` of what is there."""
        from nnunet_rw.benchmark.report.report import write_reports

        return write_reports(self.workspace.folder)[0]

    def _executor(self) -> Executor:
        execution = self.specification.execution
        if execution.executor == "slurm":
            from nnunet_rw.benchmark.slurm import SlurmExecutor

            gpus_a_job = execution.slurm.gpus if self.specification.device == "cuda" else 0
            if self.specification.device == "cuda" and gpus_a_job < self.specification.num_gpus:
                raise ValueError(
                    f"A training takes {self.specification.num_gpus} GPUs, but Slurm is asked for {gpus_a_job}. Give "
                    f"--gpus {self.specification.num_gpus}."
                )
            return SlurmExecutor(self.workspace, execution.slurm.model_copy(update={"gpus": gpus_a_job}))
        gpus: tuple[str, ...] = ()
        if self.specification.device == "cuda":
            gpus = visible_gpus()
            if len(gpus) < self.specification.num_gpus:
                found = f"This machine shows {len(gpus)} GPUs" if gpus else "No GPU is found here"
                raise ValueError(
                    f"{found}, but a training takes {self.specification.num_gpus}. Give --device cpu with --plans "
                    "small, or --executor slurm."
                )
        return LocalExecutor(self.workspace, execution.jobs, gpus, self.specification.num_gpus)
