"""Jobs handed to programs that pretend to be Slurm."""

import os

import pytest
from slurm_jobs import PREPARE, executor_of, training

from nnunet_rw.benchmark.jobs import JobState, read_state, write_state
from nnunet_rw.benchmark.run import run_schedule
from nnunet_rw.benchmark.slurm import queue_states


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
