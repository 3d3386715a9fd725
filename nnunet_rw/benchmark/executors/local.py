"""Jobs as processes of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass

from nnunet_rw.benchmark.executors.base import job_environment, processors
from nnunet_rw.benchmark.jobs import Job, is_locked
from nnunet_rw.benchmark.workspace import Workspace


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
            self._running.append(_Running(job, None, ()))
            return
        gpus = self._least_used() if job.needs_gpu else ()
        environment = job_environment(processors() // self.jobs)
        if gpus:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
        log = self.workspace.job_file(job.name, ".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-u", "-m", "nnunet_rw.benchmark.run_job", str(self.workspace.folder), job.name]
        with open(log, "ab") as file:
            # A group of its own, so that all it starts can be ended with it.
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
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
