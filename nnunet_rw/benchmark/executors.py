"""Where jobs run: what the schedule asks of an executor, and jobs as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nnunet_rw.benchmark.jobs import Job, Workspace, is_locked, read_state

# Does a job; gets the workspace's folder and the job's name.
RUN_JOB = (sys.executable, "-u", "-m", "nnunet_rw.benchmark.run_job")
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


def start_process(
    workspace: Workspace,
    job: str,
    environment: dict[str, str],
    command: Sequence[str] = RUN_JOB,
    heading: str = "",
    preexec_fn: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """A process that does a job, its output in the job's log below a heading.

    It has a group of its own, so that all it starts can be ended with it.
    """
    log = workspace.job_file(job, ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as file:
        file.write(heading.encode())
        file.flush()
        return subprocess.Popen(
            [*command, str(workspace.folder), job],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=preexec_fn,
        )


@dataclass(frozen=True)
class _Running:
    job: Job
    # None for one that another command started.
    process: subprocess.Popen[bytes] | None
    gpus: tuple[str, ...]


class LocalExecutor:
    """A process a job, each with GPUs of its own where it trains.

    Parameters
    ----------
    workspace : Workspace
    jobs : int
        Most at a time.
    gpus : sequence of str
        As CUDA_VISIBLE_DEVICES names them; empty for a training on the CPU.
    gpus_a_job : int
        With more jobs than GPUs several share one.
    """

    def __init__(self, workspace: Workspace, jobs: int, gpus: tuple[str, ...] = (), gpus_a_job: int = 1) -> None:
        self.workspace = workspace
        self.jobs = jobs
        self.gpus = gpus
        self.gpus_a_job = gpus_a_job
        self._running: list[_Running] = []

    def room(self) -> int:
        return self.jobs - len(self._running)

    def start(self, job: Job) -> None:
        if is_locked(self.workspace, job.name):
            # Or else the next training would be put on the same GPU.
            named = read_state(self.workspace, job.name).gpus if job.needs_gpu else ""
            self._running.append(_Running(job, None, tuple(filter(None, named.split(",")))))
            return
        gpus = self._least_used() if job.needs_gpu else ()
        environment = job_environment(processors() // self.jobs)
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        process = start_process(self.workspace, job.name, environment)
        self._running.append(_Running(job, process, gpus))

    def ended(self) -> list[Job]:
        ended = [running for running in self._running if not self._is_at_work(running)]
        self._running = [running for running in self._running if running not in ended]
        return [running.job for running in ended]

    def stop(self) -> None:
        for running in self._running:
            if running.process is not None:
                os.killpg(running.process.pid, signal.SIGTERM)
        for running in self._running:
            if running.process is not None:
                running.process.wait()

    def _is_at_work(self, running: _Running) -> bool:
        if running.process is None:
            return is_locked(self.workspace, running.job.name)
        return running.process.poll() is None

    def _least_used(self) -> tuple[str, ...]:
        uses = {gpu: sum(gpu in running.gpus for running in self._running) for gpu in self.gpus}
        return tuple(sorted(self.gpus, key=lambda gpu: uses[gpu])[: self.gpus_a_job])


def visible_gpus() -> tuple[str, ...]:
    """The GPUs of this machine that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip()) if torch.cuda.is_available() else ()
    return tuple(str(index) for index in range(torch.cuda.device_count()))
