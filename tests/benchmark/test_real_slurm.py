"""Jobs handed to a real Slurm of one node."""

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from slurm_jobs import executor_of, training, wait_until

from nnunet_rw.benchmark.jobs import read_state
from nnunet_rw.benchmark.run import run_schedule

START_SLURM = Path(__file__).resolve().parents[2] / "scripts" / "start_slurm"


@pytest.fixture(scope="module")
def real_slurm(tmp_path_factory):
    """A Slurm of one node, for all tests here."""
    if os.getuid() != 0 or not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        pytest.skip("needs root and apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    with pytest.MonkeyPatch.context() as patch:
        started = subprocess.run([START_SLURM, folder], capture_output=True, text=True)
        assert started.returncode == 0, started.stderr
        assert started.stdout == f"export SLURM_CONF={folder}/slurm.conf\n"
        patch.setenv("SLURM_CONF", f"{folder}/slurm.conf")
        yield folder
        subprocess.run([START_SLURM, "stop", folder], check=True)


SMALL = {"gpus": 0, "cpus": 1, "array_size": 2}


def run_in_slurm(workspace, folds):
    executor = executor_of(workspace, 1.0, **SMALL)
    jobs = [training(fold) for fold in folds]
    return run_schedule(
        workspace,
        jobs,
        lambda job: (workspace.folder / f"result{job.fold}").exists(),
        executor,
        lambda line: None,
        poll_seconds=0.2,
    )


def first_command(workspace, folds):
    """The same as `run_in_slurm`, in a process that can be killed."""
    code = f"""
        import sys
        from pathlib import Path
        sys.path[:0] = {[str(Path(__file__).parent), *sys.path]!r}
        from nnunet_rw.benchmark.jobs import Workspace
        from test_real_slurm import run_in_slurm
        run_in_slurm(Workspace(Path({str(workspace.folder)!r})), {folds!r})
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])


def attempts(workspace, fold):
    path = workspace.folder / f"attempts{fold}"
    return path.read_text().splitlines() if path.exists() else []


def cluster_id(workspace, fold):
    return read_state(workspace, training(fold).name).cluster_id


def test_names_what_is_not_installed(tmp_path):
    for name in ("bash", "id", "realpath"):
        (tmp_path / name).symlink_to(shutil.which(name))
    done = subprocess.run(
        ["bash", START_SLURM, tmp_path / "slurm"], env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "apt-get install slurm-wlm munge" in done.stderr
    assert not (tmp_path / "slurm").exists()


@pytest.mark.slow
def test_start_slurm_may_be_repeated(real_slurm):
    before = (real_slurm / "slurmctld.pid").read_text()
    subprocess.run([START_SLURM, real_slurm], check=True, capture_output=True)
    assert (real_slurm / "slurmctld.pid").read_text() == before
    assert subprocess.check_output(["sinfo", "--noheader", "--format=%T"], text=True).strip() == "idle"


@pytest.mark.slow
def test_an_array_in_slurm(real_slurm, workspace):
    failures = run_in_slurm(workspace, [0, 1, 2])
    assert [(failure.job, failure.reason) for failure in failures] == [(training(2).name, "RuntimeError: no such fold")]
    ids = [cluster_id(workspace, fold) for fold in (0, 1, 2)]
    assert [text.partition("_")[2] for text in ids] == ["0", "1", "2"]
    assert len({text.partition("_")[0] for text in ids}) == 1
    # Each once, and told of its processors.
    assert [attempts(workspace, fold) for fold in (0, 1, 2)] == [["1"]] * 3


@pytest.mark.slow
def test_a_cancelled_job_is_done_by_the_same_command(real_slurm, workspace):
    with subprocess.Popen(
        ["sh", "-c", f"while [ ! -s '{workspace.folder}/attempts4' ]; do sleep 0.2; done; "
         "scancel --name=nnunet-rw-my_benchmark"]
    ):  # fmt: skip
        failures = run_in_slurm(workspace, [0, 4])
    assert [failure.job for failure in failures] == [training(4).name]
    log = workspace.folder / "slurm" / f"{cluster_id(workspace, 4)}_0_log.out"
    assert failures[0].reason == f"Slurm ended job {cluster_id(workspace, 4)}: CANCELLED; see {log}"
    assert failures[0].log_tail[-1] == "at work"
    assert run_in_slurm(workspace, [0, 4]) == []
    assert len(attempts(workspace, 0)) == 1
    assert len(attempts(workspace, 4)) == 2


@pytest.mark.slow
def test_a_command_takes_over_after_the_first_was_killed(real_slurm, workspace):
    # Fold 3 is still at work when the command is killed, and when the second begins.
    command = first_command(workspace, [3, 0, 1])
    try:
        wait_until(lambda: attempts(workspace, 3))
    finally:
        command.kill()
        command.wait()
    before = [cluster_id(workspace, fold) for fold in (3, 0, 1)]
    second = first_command(workspace, [3, 0, 1])
    time.sleep(8)
    assert second.poll() is None
    (workspace.folder / "go").touch()
    assert second.wait(timeout=120) == 0
    assert [cluster_id(workspace, fold) for fold in (3, 0, 1)] == before
    assert [len(attempts(workspace, fold)) for fold in (3, 0, 1)] == [1, 1, 1]
    assert len(list((workspace.folder / "slurm").glob("*_submission.sh"))) == 1


@pytest.mark.slow
def test_a_job_at_its_time_limit_goes_on_later(real_slurm, workspace):
    command = first_command(workspace, [4])
    wait_until(lambda: attempts(workspace, 4))
    first = cluster_id(workspace, 4)
    # What Slurm sends before the limit, and submitit reacts to.
    subprocess.run(["scancel", "--signal=USR2", first], check=True)
    wait_until(lambda: read_state(workspace, training(4).name).status == "queued")
    assert command.wait(timeout=180) == 0
    state = read_state(workspace, training(4).name)
    assert (state.status, state.attempts, state.cluster_id) == ("done", 2, first)
    assert workspace.job_file(training(4).name, ".log").read_text().count("at work") == 2


@pytest.mark.slow
def test_an_unknown_partition(real_slurm, workspace):
    executor = executor_of(workspace, 1.0, partition="nowhere", **SMALL)
    executor.start(training(0))
    with pytest.raises(ValueError, match=r"Slurm refuses the jobs: .*invalid partition specified: nowhere"):
        executor.ended()
