"""Jobs as jobs of a Slurm cluster: how it gets them, what it says of them, and what they do once it starts them."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import submitit
from submitit.core.job_environment import JobEnvironment
from submitit.core.utils import DelayedSubmission, FailedJobError, FailedSubmissionError

from nnunet_rw.benchmark.executors import RUN_JOB, job_environment, processors, start_process
from nnunet_rw.benchmark.jobs import Job, Workspace, now, read_state, write_state
from nnunet_rw.benchmark.specification import SlurmSettings

GONE = "gone"
# Of jobs that Slurm has ended for good; all others may still do something.
_FINAL = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
        GONE,
    }
)
_TIMEOUT_SECONDS = 120


def is_final(state: str) -> bool:
    """Whether a job in this state will not run any more."""
    return state in _FINAL


def queue_states(name: str, job_ids: Collection[str]) -> dict[str, str]:
    """The states of jobs that this user handed to Slurm.

    Parameters
    ----------
    name : str
        Of the jobs, as ``sbatch --job-name`` was given it. Among jobs of other names, an id is that of another job.
    job_ids : collection of str
        ``17``, or ``17_3`` of an array.

    Returns
    -------
    dict of str to str
        One of Slurm's words (``PENDING``, ``OUT_OF_MEMORY``) for each id; "gone" where Slurm does not know it any more.

    Raises
    ------
    OSError
        Slurm does not answer.
    """
    if not job_ids:
        return {}
    listed = _output(
        ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", f"--name={name}", "--format=%i %T"]
    )
    states = _pairs(listed, " ")
    # Slurm forgets ended jobs after minutes (MinJobAge); the accounting, where there is one, does not.
    forgotten = sorted(set(job_ids) - set(states))
    if forgotten:
        states = {**_accounted(name, forgotten), **states}
    return {job_id: states.get(job_id, GONE) for job_id in job_ids}


def _accounted(name: str, job_ids: Collection[str]) -> dict[str, str]:
    command = ["sacct", "--allocations", "--noheader", "--parsable2", f"--name={name}", "--format=JobID,State"]
    try:
        return _pairs(_output([*command, f"--jobs={','.join(job_ids)}"]), "|")
    except OSError:  # as on a cluster without accounting
        return {}


def _pairs(text: str, separator: str) -> dict[str, str]:
    pairs = (line.strip().split(separator, 1) for line in text.splitlines() if separator in line.strip())
    # sacct's "CANCELLED by 1000".
    return {job_id: state.split()[0] for job_id, state in pairs}


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"Slurm does not answer: {command[0]} took longer than {_TIMEOUT_SECONDS} s") from error
    if done.returncode:
        raise OSError(f"Slurm does not answer: {' '.join(done.stderr.split()) or command[0]}")
    return done.stdout


LOOK_SECONDS = 15.0


@dataclass(frozen=True)
class _Handed:
    job: Job
    cluster_id: str


class SlurmExecutor:
    """Hands jobs to Slurm, those that may run at the same time as one array.

    Slurm's ids are kept in the jobs' states, so that a later command takes over what is in the queue.

    Parameters
    ----------
    workspace : Workspace
    settings : SlurmSettings
    command : sequence of str
        Does a job; gets the workspace's folder and the job's name.
    look_seconds : float
        Between two questions to Slurm.

    Raises
    ------
    FileNotFoundError
        There is no Slurm here.
    """

    def __init__(
        self,
        workspace: Workspace,
        settings: SlurmSettings,
        command: Sequence[str] = RUN_JOB,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        missing = [name for name in ("sbatch", "srun", "squeue") if shutil.which(name) is None]
        if missing:
            raise FileNotFoundError(
                f"No {missing[0]} on this machine. Run this where Slurm is, such as a cluster's login node, or give "
                "--executor local."
            )
        self.workspace = workspace
        self.settings = settings
        self.command = tuple(command)
        self.look_seconds = look_seconds
        # In squeue, and for its filter, which takes commas as separators.
        self.name = "nnunet-rw-" + re.sub(r"[^\w.-]", "_", workspace.folder.name)
        self._collected: list[Job] = []
        self._handed: list[_Handed] = []
        self._next_look = 0.0
        # Final states, in Slurm's words, of those that had no result at the last look.
        self._lost: dict[str, str] = {}
        self._answers = True

    def room(self) -> int:
        return sys.maxsize

    def start(self, job: Job) -> None:
        self._collected.append(job)

    def ended(self) -> list[Job]:
        self._take_over()
        self._submit()
        if time.monotonic() < self._next_look:
            return []
        self._next_look = time.monotonic() + self.look_seconds
        ended = [handed for handed in self._handed if self._has_result(handed)]
        ended += self._without_result([handed for handed in self._handed if handed not in ended])
        self._handed = [handed for handed in self._handed if handed not in ended]
        return [handed.job for handed in ended]

    def stop(self) -> None:
        if self._handed:
            ids = " ".join(dict.fromkeys(handed.cluster_id.split("_")[0] for handed in self._handed))
            jobs = f"Jobs that stay in Slurm: {len(self._handed)}"
            print(f"{jobs}. The same command takes them over; scancel {ids} cancels them.", file=sys.stderr, flush=True)

    def _take_over(self) -> None:
        """Of what was collected, leave out what an earlier command handed to Slurm and is not done there."""
        states = {job: read_state(self.workspace, job.name) for job in self._collected}
        # One that has done its work stays in Slurm's list for a while.
        known = {
            job: state.cluster_id
            for job, state in states.items()
            if state.cluster_id and state.status not in ("done", "failed")
        }
        in_slurm = queue_states(self.name, known.values())
        taken = {job: cluster_id for job, cluster_id in known.items() if not is_final(in_slurm[cluster_id])}
        self._handed += [_Handed(job, cluster_id) for job, cluster_id in taken.items()]
        self._collected = [job for job in self._collected if job not in taken]

    def _submit(self) -> None:
        """Hand what was collected to Slurm, those with GPUs apart from those without."""
        collected, self._collected = self._collected, []
        for needs_gpu in (False, True):
            jobs = [job for job in collected if job.needs_gpu == needs_gpu]
            if jobs:
                self._submit_array(jobs, self.settings.gpus if needs_gpu else 0)

    def _submit_array(self, jobs: list[Job], gpus: int) -> None:
        work = [RunInSlurm(self.workspace, job.name, self.command) for job in jobs]
        try:
            # submitit prints what the error says as well.
            with contextlib.redirect_stderr(io.StringIO()):
                submitted = self._submitit_executor(gpus).submit_array(work)
        except (FailedJobError, FailedSubmissionError) as error:
            reason = " ".join(str(error).replace("sbatch: error:", "").split())
            raise ValueError(
                f"Slurm refuses the jobs: {reason}. Its settings are in {self.workspace.specification_file}, below "
                "execution, slurm."
            ) from error
        for job, in_slurm in zip(jobs, submitted, strict=True):
            state = read_state(self.workspace, job.name)
            state = replace(state, status="queued", cluster_id=in_slurm.job_id, error="", started="", ended="")
            write_state(self.workspace, job.name, state)
            self._handed.append(_Handed(job, in_slurm.job_id))

    def _submitit_executor(self, gpus: int) -> submitit.AutoExecutor:
        settings = self.settings
        executor = submitit.AutoExecutor(
            self.workspace.folder / "slurm", cluster="slurm", slurm_max_num_timeout=settings.timeouts
        )
        given = {
            "slurm_partition": settings.partition,
            "slurm_account": settings.account,
            "slurm_qos": settings.qos,
            "slurm_constraint": settings.constraint,
            "mem_gb": settings.memory_gb,
            "gpus_per_node": gpus or None,
            "slurm_setup": list(settings.setup) or None,
        }
        executor.update_parameters(
            name=self.name,
            timeout_min=settings.minutes,
            cpus_per_task=settings.cpus,
            slurm_array_parallelism=settings.array_size,
            slurm_stderr_to_stdout=True,
            # Since Slurm 22.05 srun does not take this over from sbatch.
            slurm_srun_args=[f"--cpus-per-task={settings.cpus}"],
            # Whatever the cluster's defaults are.
            slurm_additional_parameters={"requeue": True, "export": "ALL"},
            **{key: value for key, value in given.items() if value is not None},
        )
        return executor

    def _has_result(self, handed: _Handed) -> bool:
        return read_state(self.workspace, handed.job.name).status in ("done", "failed")

    def _without_result(self, candidates: list[_Handed]) -> list[_Handed]:
        """Those that Slurm has ended before they could write how it went; their states are written here."""
        try:
            states = queue_states(self.name, [handed.cluster_id for handed in candidates])
        except OSError as error:
            if self._answers:
                print(f"{error}. Going on with asking.", file=sys.stderr, flush=True)
            self._answers = False
            return []
        self._answers = True
        final = {cluster_id: state for cluster_id, state in states.items() if is_final(state)}
        # At the second look: a file that another machine wrote may take a moment to be seen here.
        ended = [handed for handed in candidates if handed.cluster_id in final and handed.cluster_id in self._lost]
        self._lost = final
        for handed in ended:
            self._write_lost(handed, final[handed.cluster_id])
        return ended

    def _write_lost(self, handed: _Handed, in_slurm: str) -> None:
        log = self.workspace.folder / "slurm" / f"{handed.cluster_id}_0_log.out"
        error = f"Slurm ended job {handed.cluster_id}: {in_slurm}"
        error += f"; see {log}" if log.exists() else ""
        state = read_state(self.workspace, handed.job.name)
        write_state(self.workspace, handed.job.name, replace(state, status="failed", ended=now(), error=error))


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
        with _checkpoint_held_back():
            self._process = start_process(
                self.workspace,
                self.name,
                job_environment(processors()),
                self.command,
                heading=f"Slurm job {cluster_id} on {socket.gethostname()}\n",
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


def _checkpoint_signal() -> signal.Signals:
    return signal.Signals[f"SIG{JobEnvironment.USR_SIG}"]


def _ignore_checkpoint_signal() -> None:
    signal.signal(_checkpoint_signal(), signal.SIG_IGN)


@contextlib.contextmanager
def _checkpoint_held_back() -> Iterator[None]:
    """What comes while the work is being started comes again when it is known: a checkpoint ends what it knows."""
    came: list[int] = []
    handler = signal.signal(_checkpoint_signal(), lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(_checkpoint_signal(), handler)
        if came:
            signal.raise_signal(_checkpoint_signal())
