"""A job as Slurm runs it: its log, its place in the queue, and what ends it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from slurm_jobs import PREPARE, wait_until

from nnunet_rw.benchmark.executors import processors, start_process
from nnunet_rw.benchmark.jobs import JobState, read_state, write_state
from nnunet_rw.benchmark.slurm import RunInSlurm


@pytest.fixture
def in_slurm(monkeypatch):
    """The variables that a job sees."""
    for name, value in {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "3"}.items():
        monkeypatch.setenv(name, value)


def work_of(workspace, script, cluster_id="17"):
    """A job that is a line of a shell; $0 is the workspace's folder and $1 the job's name."""
    write_state(workspace, PREPARE.name, JobState("queued", 0, cluster_id=cluster_id))
    return RunInSlurm(workspace, PREPARE.name, ("sh", "-c", script))


def test_processors_of_a_slurm_job(in_slurm):
    assert processors() == 3


def test_output_is_in_the_jobs_log(workspace, in_slurm, monkeypatch):
    monkeypatch.delenv("nnUNet_def_n_proc", raising=False)
    work_of(workspace, 'echo "$0"; echo "$1" >&2; echo $nnUNet_def_n_proc')()
    header, *lines = workspace.job_file(PREPARE.name, ".log").read_text().splitlines()
    assert header.startswith("Slurm job 17 on ")
    assert lines == [str(workspace.folder), PREPARE.name, "3"]


def test_a_failed_job_fails_in_slurm_as_well(workspace, in_slurm):
    with pytest.raises(RuntimeError, match=r"^prepare/Task04_Hippocampus ended with 7; see .*Task04_Hippocampus\.log$"):
        work_of(workspace, "exit 7")()


def test_a_job_begins_when_its_id_is_known(workspace, in_slurm, monkeypatch):
    work = work_of(workspace, "exit 0", cluster_id="")
    written = JobState("queued", 0, cluster_id="17")
    waits = []

    def wait(seconds):
        waits.append(seconds)
        write_state(workspace, PREPARE.name, written)

    monkeypatch.setattr("nnunet_rw.benchmark.slurm.time.sleep", wait)
    work._claim("17")
    assert len(waits) == 1


def test_a_job_whose_command_was_killed_before_it_wrote_the_id(workspace, in_slurm, monkeypatch):
    monkeypatch.setattr("nnunet_rw.benchmark.slurm._CLAIM_SECONDS", 0.1)
    work_of(workspace, "exit 0", cluster_id="16")()
    assert read_state(workspace, PREPARE.name) == JobState("queued", 0, cluster_id="17")


def test_a_checkpoint_ends_the_work_and_all_that_it_started(workspace, in_slurm):
    file = workspace.folder / "process"
    # Slurm sends the signal to the work, and to a process that this has started, as well; they must not end by it.
    work = work_of(workspace, 'sleep 600 & kill -USR2 $$ $!; echo $! > "$0/new"; mv "$0/new" "$0/process"; wait')
    later = []

    def checkpoint(signum, frame):
        # As submitit does: within the signal's handler, which then ends the process.
        later.append(work.checkpoint())
        raise SystemExit

    before = signal.signal(signal.SIGUSR2, checkpoint)
    waiting = f"while [ ! -s '{file}' ]; do sleep 0.05; done; kill -USR2 {os.getpid()}"
    try:
        with subprocess.Popen(["timeout", "20", "sh", "-c", waiting]), pytest.raises(SystemExit):
            work()
    finally:
        signal.signal(signal.SIGUSR2, before)
    wait_until(lambda: not is_alive(int(file.read_text())), seconds=10)
    assert read_state(workspace, PREPARE.name) == JobState("queued", 0, cluster_id="17")
    again = later[0].function
    assert (again.workspace, again.name, again.command) == (workspace, PREPARE.name, work.command)


def test_a_checkpoint_while_the_work_is_started_ends_it_as_well(workspace, in_slurm, monkeypatch):
    work, started = work_of(workspace, "sleep 600"), []

    def start_and_be_told(*arguments, **options):
        started.append(start_process(*arguments, **options))
        os.kill(os.getpid(), signal.SIGUSR2)
        return started[0]

    def checkpoint(signum, frame):
        work.checkpoint()
        raise SystemExit

    monkeypatch.setattr("nnunet_rw.benchmark.slurm.start_process", start_and_be_told)
    before = signal.signal(signal.SIGUSR2, checkpoint)
    try:
        with pytest.raises(SystemExit):
            work()
        assert signal.getsignal(signal.SIGUSR2) is checkpoint
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert started[0].wait(10) == -signal.SIGKILL


def is_alive(process):
    try:
        # A process that has ended stays listed until its parent looks after it.
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return False
