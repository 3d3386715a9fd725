"""What Slurm says of jobs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection

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
