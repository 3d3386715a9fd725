"""The state of a job: who works on it, and what is left when that process dies."""

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from nnunet_rw.benchmark.jobs import (
    AlreadyRunning,
    JobState,
    Workspace,
    alone,
    is_locked,
    log_tail,
    read_state,
    working_on,
    write_state,
)

JOB = "train/Task04_Hippocampus/RWTrainer/seed0/fold0"
# Holds the lock until it is killed; its child, as a worker of nnU-Net's, outlives it.
_WORK = """
import os, sys, time
from pathlib import Path
from nnunet_rw.benchmark.jobs import working_on
from nnunet_rw.benchmark.jobs import Workspace
with working_on(Workspace(Path(sys.argv[1])), sys.argv[2]):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture
def worker(workspace):
    """A process at work on the job, and the number of a child of it."""
    process = subprocess.Popen([sys.executable, "-c", _WORK, str(workspace.folder), JOB], stdout=subprocess.PIPE)
    child = int(process.stdout.readline())
    yield process, child
    process.kill()
    process.wait()
    process.stdout.close()
    os.kill(child, signal.SIGKILL)


def test_of_two_benchmarks_one_waits(tmp_path):
    lock = tmp_path / "model" / ".fold_0.lock"
    program = (
        "import sys; from pathlib import Path; from nnunet_rw.benchmark.jobs import alone\n"
        "with alone(Path(sys.argv[1])):\n    print('alone', flush=True)"
    )
    with alone(lock):
        other = subprocess.Popen([sys.executable, "-c", program, str(lock)], stdout=subprocess.PIPE, text=True)
        assert other.stdout.readline() == f"Waiting for another benchmark that holds {lock}\n"
        assert other.poll() is None
    assert other.communicate(timeout=60)[0] == "alone\n"
    assert other.returncode == 0


def test_unknown_job_waits(workspace):
    assert read_state(workspace, JOB) == JobState("waiting", 0)
    assert not is_locked(workspace, JOB)


def test_done(workspace):
    with working_on(workspace, JOB):
        assert json.loads(workspace.job_file(JOB, ".json").read_text())["status"] == "running"
    state = read_state(workspace, JOB)
    assert (state.status, state.attempts, state.error) == ("done", 1, "")
    assert state.started <= state.ended


def test_failed_and_tried_again(workspace):
    with pytest.raises(RuntimeError), working_on(workspace, JOB):
        raise RuntimeError("CUDA\nout of memory")
    state = read_state(workspace, JOB)
    assert (state.status, state.attempts, state.error) == ("failed", 1, "RuntimeError: CUDA out of memory")
    with working_on(workspace, JOB):
        pass
    state = read_state(workspace, JOB)
    assert (state.status, state.attempts, state.error) == ("done", 2, "")


def test_number_in_the_queue_of_a_cluster_is_kept(workspace):
    write_state(workspace, JOB, JobState(cluster_id="17_3"))
    with working_on(workspace, JOB):
        pass
    assert read_state(workspace, JOB).cluster_id == "17_3"


def test_one_process_at_a_time_until_it_is_killed(workspace, worker):
    process, child = worker
    assert is_locked(workspace, JOB)
    # Looking does not end the other's lock.
    assert is_locked(workspace, JOB)
    assert read_state(workspace, JOB).status == "running"
    with pytest.raises(AlreadyRunning, match=f"{JOB} is being done by another process"), working_on(workspace, JOB):
        pass
    assert read_state(workspace, JOB).attempts == 1

    process.kill()
    process.wait()
    os.kill(child, 0)  # is still there
    assert read_state(workspace, JOB).status == "interrupted"
    with working_on(workspace, JOB):
        pass
    assert read_state(workspace, JOB).attempts == 2


def test_who_may_only_read_sees_a_job_that_died(workspace, worker, monkeypatch):
    def read_only(path, mode="r", **options):
        if mode != "r":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return open(path, mode, **options)

    process, _ = worker
    monkeypatch.setattr("nnunet_rw.benchmark.jobs.open", read_only, raising=False)
    assert read_state(workspace, JOB).status == "running"
    process.kill()
    process.wait()
    assert read_state(workspace, JOB).status == "interrupted"
    # Who may not even read the lock has the state alone.
    monkeypatch.setattr("nnunet_rw.benchmark.jobs.open", lambda path, **_: read_only(path, "r+"), raising=False)
    assert read_state(workspace, JOB).status == "running"


_LOOK = """
import fcntl, sys
with open(sys.argv[1]) as file:
    fcntl.lockf(file, fcntl.LOCK_SH)
    print("looks", flush=True)
    sys.stdin.read()
"""


def test_a_look_at_the_lock_keeps_nobody_from_work(workspace, monkeypatch):
    lock = workspace.job_file(JOB, ".lock")
    lock.parent.mkdir(parents=True)
    lock.touch()
    looker = subprocess.Popen([sys.executable, "-c", _LOOK, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert looker.stdout.readline() == b"looks\n"
    assert not is_locked(workspace, JOB)  # nor is it taken for work
    # The look ends while the job waits to try once more.
    monkeypatch.setattr("nnunet_rw.benchmark.jobs.time.sleep", lambda _: looker.communicate())
    with working_on(workspace, JOB):
        assert looker.poll() == 0
    assert read_state(workspace, JOB).status == "done"


def test_damaged_state_counts_as_none(workspace):
    path = workspace.job_file(JOB, ".json")
    path.parent.mkdir(parents=True)
    path.write_text('{"status": "do')
    assert read_state(workspace, JOB) == JobState()
    path.write_text('{"unknown": 1}')
    assert read_state(workspace, JOB) == JobState()


def test_log_tail(tmp_path):
    path = tmp_path / "job.log"
    assert log_tail(path) == []
    path.write_bytes(b"first\n\n  10%|#\r 100%|##########\n\xffbroken\nlast\n   \n")
    assert log_tail(path, 3) == ["100%|##########", "\ufffdbroken", "last"]
    path.write_text("x" * 100_000 + "\nend\n")
    assert log_tail(path, 1) == ["end"]


def test_jobs_import_nothing_that_takes_long():
    slow = {"torch", "nnunetv2", "sklearn", "skimage", "SimpleITK", "plotly", "matplotlib"}
    check = f"import sys, nnunet_rw.benchmark.jobs; print(sorted({slow} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True).stdout == "[]\n"
