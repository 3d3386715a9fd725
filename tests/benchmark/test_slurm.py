"""Jobs handed to Slurm: to programs that pretend to be it, and to a real one."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from nnunet_rw.benchmark.executors import processors, start_process
from nnunet_rw.benchmark.jobs import Job, JobState, Task, read_state, write_state
from nnunet_rw.benchmark.run import run_schedule
from nnunet_rw.benchmark.slurm import RunInSlurm, SlurmExecutor, queue_states
from nnunet_rw.benchmark.specification import SlurmSettings
from nnunet_rw.benchmark.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
START_SLURM = ROOT / "scripts" / "start_slurm"
STUB = Path(__file__).with_name("slurm_stub.py")
TASK = Task("Task04_Hippocampus", "Dataset004_Hippocampus")
PREPARE = Job("prepare", TASK)


def training(fold):
    return Job("train", TASK, "RWTrainer", 0, fold)


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "my benchmark"
    folder.mkdir()
    return Workspace(folder)


class PretendedSlurm:
    """sbatch, squeue and sacct that keep what they are told in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.says()
        self.accounts()
        (folder / "number").write_text("16")
        self.program(
            "sbatch",
            f"number=$(expr $(cat {folder}/number) + 1)\necho $number > {folder}/number\n"
            f'cp "$1" {folder}/script_$number\necho Submitted batch job $number',
        )
        self.program("squeue", f'echo squeue "$@" >> {folder}/calls\ncat {folder}/squeue.txt')
        self.program("sacct", f'echo sacct "$@" >> {folder}/calls\ncat {folder}/sacct.txt || exit 1')
        self.program("srun", "")

    def program(self, name, lines):
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)

    def says(self, **states):
        (self.folder / "squeue.txt").write_text("".join(f"{key[1:]} {state}\n" for key, state in states.items()))

    def accounts(self, text=None):
        (self.folder / "sacct.txt").unlink(missing_ok=True)
        if text is not None:
            (self.folder / "sacct.txt").write_text(text)

    def script(self, number):
        return (self.folder / f"script_{number}").read_text().splitlines()

    def scripts(self):
        return sorted(path.name for path in self.folder.glob("script_*"))

    def calls(self):
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A pretended Slurm, whose programs come first on the PATH."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    pretended = PretendedSlurm(folder)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return pretended


def executor_of(workspace, look_seconds=0.0, **settings):
    return SlurmExecutor(workspace, SlurmSettings(**settings), (sys.executable, str(STUB)), look_seconds)


def ended_names(executor):
    return [job.name for job in executor.ended()]


def test_one_array_of_trainings_and_one_job_without_gpus(workspace, slurm):
    executor = executor_of(
        workspace,
        partition="gpu",
        account="lab",
        qos="long",
        constraint="a100",
        minutes=600,
        gpus=2,
        cpus=6,
        memory_gb=48,
        array_size=2,
        setup=("module load cuda",),
    )
    jobs = [PREPARE, training(0), training(1), training(2)]
    slurm.says(_17="PENDING", _18_0="RUNNING", _18_1="PENDING", _18_2="PENDING")
    for job in jobs:
        assert executor.room() > 1000
        executor.start(job)
    assert slurm.scripts() == []
    assert executor.ended() == []
    assert slurm.scripts() == ["script_17", "script_18"]
    common = {
        "#SBATCH --account=lab", "#SBATCH --partition=gpu", "#SBATCH --qos=long", "#SBATCH --constraint=a100",
        "#SBATCH --time=600", "#SBATCH --cpus-per-task=6", "#SBATCH --mem=48GB", "#SBATCH --requeue",
        "#SBATCH --export=ALL", "#SBATCH --job-name=nnunet-rw-my_benchmark", "#SBATCH --signal=USR2@90",
        "module load cuda",
    }  # fmt: skip
    one, array = slurm.script(17), slurm.script(18)
    assert common <= set(one)
    assert common | {"#SBATCH --gpus-per-node=2", "#SBATCH --array=0-2%2"} <= set(array)
    assert not any("gpus" in line or "--array" in line for line in one)
    # srun does not take it from sbatch since Slurm 22.05.
    assert any(line.startswith("srun ") and "--cpus-per-task=6" in line for line in array)
    states = [read_state(workspace, job.name) for job in jobs]
    assert [state.status for state in states] == ["queued"] * 4
    assert [state.cluster_id for state in states] == ["17", "18_0", "18_1", "18_2"]


def test_what_is_not_set_is_left_to_the_cluster(workspace, slurm):
    executor = executor_of(workspace, gpus=0)
    executor.start(training(0))
    executor.ended()
    lines = slurm.script(17)
    for option in ("partition", "account", "qos", "constraint", "mem", "gpus"):
        assert not any(line.startswith(f"#SBATCH --{option}") for line in lines)


def test_a_job_has_ended_when_its_state_says_how_it_went(workspace, slurm):
    executor = executor_of(workspace)
    for fold in (0, 1, 2):
        executor.start(training(fold))
    slurm.says(_17_0="RUNNING", _17_1="RUNNING", _17_2="COMPLETING")
    assert executor.ended() == []
    write_state(workspace, training(0).name, JobState("done", 1, cluster_id="17_0"))
    write_state(workspace, training(2).name, JobState("failed", 1, error="RuntimeError: no", cluster_id="17_2"))
    assert ended_names(executor) == [training(0).name, training(2).name]
    assert read_state(workspace, training(2).name).error == "RuntimeError: no"
    assert executor.ended() == []


@pytest.mark.parametrize(
    ("listed", "accounted", "word"),
    [
        ({"_17": "CANCELLED"}, None, "CANCELLED"),
        ({"_17": "OUT_OF_MEMORY"}, None, "OUT_OF_MEMORY"),
        ({}, "17|NODE_FAIL\n", "NODE_FAIL"),
        ({}, "17|CANCELLED by 1000\n", "CANCELLED"),
        # The accounting knows nothing of it, or there is none.
        ({}, "", "gone"),
        ({}, None, "gone"),
    ],
)
def test_a_job_that_slurm_lost_failed_with_slurms_word(workspace, slurm, listed, accounted, word):
    executor = executor_of(workspace)
    executor.start(training(0))
    slurm.says(_17="RUNNING")
    assert executor.ended() == []
    write_state(workspace, training(0).name, JobState("running", 1, cluster_id="17"))
    log = workspace.folder / "slurm" / "17_0_log.out"
    log.write_text("slurmstepd: error: it is over\n")
    slurm.says(**listed)
    slurm.accounts(accounted)
    # Its result may not be seen on this machine yet.
    assert executor.ended() == []
    assert ended_names(executor) == [training(0).name]
    state = read_state(workspace, training(0).name)
    assert (state.status, state.attempts) == ("failed", 1)
    assert state.error == f"Slurm ended job 17: {word}; see {log}"
    # Slurm gives its ids again, so the accounting is asked for jobs of this name alone.
    asked = [call.split() for call in slurm.calls() if call.startswith("sacct")]
    assert bool(asked) == (not listed)
    assert all({"--name=nnunet-rw-my_benchmark", "--jobs=17"} <= set(words) for words in asked)


def test_a_result_that_is_seen_late_counts(workspace, slurm):
    executor = executor_of(workspace)
    executor.start(training(0))
    slurm.says(_17="COMPLETED")
    assert executor.ended() == []
    write_state(workspace, training(0).name, JobState("done", 1, cluster_id="17"))
    assert ended_names(executor) == [training(0).name]
    assert read_state(workspace, training(0).name).status == "done"


def test_a_job_that_was_put_into_the_queue_again_has_not_ended(workspace, slurm):
    executor = executor_of(workspace)
    executor.start(training(0))
    for word in ("RUNNING", "NODE_FAIL", "PENDING", "NODE_FAIL", "REQUEUED", "RUNNING"):
        slurm.says(_17=word)
        assert executor.ended() == []


def test_slurm_is_asked_no_more_often_than_allowed(workspace, slurm):
    executor = executor_of(workspace, look_seconds=3600.0)
    executor.start(training(0))
    for _ in range(5):
        executor.ended()
    executor.start(training(1))
    executor.ended()
    # What is new is handed over at once all the same.
    assert slurm.scripts() == ["script_17", "script_18"]
    assert sum(line.startswith("squeue") for line in slurm.calls()) == 1


def test_slurm_that_does_not_answer_is_asked_again(workspace, slurm, capsys):
    executor = executor_of(workspace)
    executor.start(training(0))
    slurm.program("squeue", "echo slurm_load_jobs error: Unable to contact controller >&2; exit 1")
    for _ in range(3):
        assert executor.ended() == []
    assert capsys.readouterr().err.count("Slurm does not answer: slurm_load_jobs error: Unable to contact") == 1
    slurm.program("squeue", "echo 17 RUNNING")
    assert executor.ended() == []
    assert read_state(workspace, training(0).name).status == "queued"


def test_a_later_command_takes_over_what_is_in_slurm(workspace, slurm, capsys):
    first = executor_of(workspace)
    for fold in range(4):
        first.start(training(fold))
    slurm.says(_17_0="RUNNING", _17_1="PENDING", _17_2="RUNNING", _17_3="RUNNING")
    assert first.ended() == []
    first.stop()
    line = "Jobs that stay in Slurm: 4. The same command takes them over; scancel 17 cancels them.\n"
    assert capsys.readouterr().err == line
    # Fold 2 has failed meanwhile, and 3 was lost; both are to be done again.
    write_state(workspace, training(2).name, JobState("failed", 1, "then", "later", "RuntimeError: no", "17_2"))
    slurm.says(_17_0="RUNNING", _17_1="PENDING", _17_2="COMPLETING", _17_3="CANCELLED")
    second = executor_of(workspace)
    for fold in range(4):
        second.start(training(fold))
    assert second.ended() == []
    assert slurm.scripts() == ["script_17", "script_18"]
    ids = [read_state(workspace, training(fold).name).cluster_id for fold in range(4)]
    assert ids == ["17_0", "17_1", "18_0", "18_1"]
    assert read_state(workspace, training(2).name) == JobState("queued", 1, cluster_id="18_0")


def test_nothing_is_handed_over_while_slurm_cannot_tell_what_it_has(workspace, slurm):
    write_state(workspace, training(0).name, JobState("queued", 0, cluster_id="17"))
    slurm.program("squeue", "exit 1")
    executor = executor_of(workspace)
    executor.start(training(0))
    with pytest.raises(OSError, match="Slurm does not answer: squeue"):
        executor.ended()
    assert slurm.scripts() == []


def test_slurm_refuses(workspace, slurm, capsys):
    slurm.program("sbatch", "echo 'sbatch: error: invalid partition specified: gqu' >&2; exit 1")
    executor = executor_of(workspace, partition="gqu")
    with pytest.raises(
        ValueError, match=r"^Slurm refuses the jobs: invalid partition specified: gqu\. .*benchmark\.yaml"
    ):
        run_schedule(workspace, [training(0)], lambda job: False, executor, lambda line: None, poll_seconds=0)
    assert read_state(workspace, training(0).name) == JobState()
    assert capsys.readouterr().err == ""


def test_no_slurm_here(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"No sbatch on this machine.*--executor local"):
        executor_of(workspace)


def test_states_of_an_array(slurm):
    slurm.says(_17_0="RUNNING", _17_1="PENDING", _3="COMPLETED")
    assert queue_states("name", ["17_1", "17_0"]) == {"17_0": "RUNNING", "17_1": "PENDING"}
    assert queue_states("name", []) == {}
    # No question without need, and only of one's own jobs.
    assert len(slurm.calls()) == 1
    assert {"--name=name", f"--user={os.getuid()}", "--array"} <= set(slurm.calls()[0].split())


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


# With a real Slurm


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
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_slurm import Workspace, run_in_slurm
        run_in_slurm(Workspace(Path({str(workspace.folder)!r})), {folds!r})
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.3)


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
