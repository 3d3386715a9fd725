"""What a job does once Slurm has started it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace

from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission

from nnunet_rw.benchmark.executors.base import job_environment, processors
from nnunet_rw.benchmark.jobs import read_state, write_state
from nnunet_rw.benchmark.workspace import Workspace

_CLAIM_SECONDS = 60.0
_POLL_SECONDS = 0.5


class RunInSlurm:
    """Runs one job of the benchmark in a process of its own, its output in the job's log.

    submitit calls `checkpoint` when Slurm is about to end the job for its time limit, or to give its place to another,
    and puts the job into the queue again.

    Parameters
    ----------
    workspace : Workspace
    name : str
        Of the job.
    command : sequence of str
        Gets the workspace's folder and the name.
    """

    def __init__(self, workspace: Workspace, name: str, command: Sequence[str]) -> None:
        self.workspace = workspace
        self.name = name
        self.command = tuple(command)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Do the job.

        Raises
        ------
        RuntimeError
            It failed, so that Slurm lists it as failed as well.
        """
        cluster_id = JobEnvironment().job_id
        self._claim(cluster_id)
        log = self.workspace.job_file(self.name, ".log")
        print(f"{self.name}: output in {log}", flush=True)
        with open(log, "ab") as file:
            file.write(f"Slurm job {cluster_id} on {socket.gethostname()}\n".encode())
            file.flush()
            self._process = subprocess.Popen(
                [*self.command, str(self.workspace.folder), self.name],
                env=job_environment(processors()),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # A group of its own, so that all it starts can be ended with it.
                start_new_session=True,
                # Slurm sends submitit's signal to every process of the job, and it ends those that do not expect it.
                preexec_fn=_ignore_checkpoint_signal,
            )
        try:
            # Not `wait`: submitit's signal must be able to come in between.
            while self._process.poll() is None:
                time.sleep(_POLL_SECONDS)
        finally:
            self._end()
        if self._process.returncode:
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}; see {log}")

    def checkpoint(self) -> DelayedSubmission:
        """End the work, which can be gone on with from what is on disk, and hand the job to Slurm again."""
        self._end()
        write_state(self.workspace, self.name, replace(read_state(self.workspace, self.name), status="queued"))
        return DelayedSubmission(RunInSlurm(self.workspace, self.name, self.command))

    def _claim(self, cluster_id: str) -> None:
        """Wait until the command that handed the job to Slurm has written its id, or write it where that was killed.

        Both write the state, so one has to come after the other.
        """
        end = time.monotonic() + _CLAIM_SECONDS
        while time.monotonic() < end:
            if read_state(self.workspace, self.name).cluster_id == cluster_id:
                return
            time.sleep(_POLL_SECONDS)
        state = read_state(self.workspace, self.name)
        write_state(self.workspace, self.name, replace(state, status="queued", cluster_id=cluster_id))

    def _end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def _ignore_checkpoint_signal() -> None:
    signal.signal(getattr(signal, f"SIG{JobEnvironment.USR_SIG}"), signal.SIG_IGN)
