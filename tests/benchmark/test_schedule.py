"""Jobs in the right order, and what a failed one stops."""

import pytest

from nnunet_rw.benchmark.jobs import (
    JobState,
    Task,
    Workspace,
    full_trainer_name,
    jobs_of,
    plans_name,
    read_state,
    write_state,
)
from nnunet_rw.benchmark.run import run_schedule
from nnunet_rw.benchmark.specification import specification_of

TASKS = [Task("Task04_Hippocampus", "Dataset004_Hippocampus"), Task("Task11_MSLesion", "Dataset011_MSLesion")]


def specification(**changes):
    values = {"tasks": [task.name for task in TASKS], "trainers": ["nnUNetTrainer", "RWTrainer"], "folds": [0, 1]}
    return specification_of({**values, **changes}, "here")


class Pretending:
    """An executor whose jobs take one look; `fails` have no result, `dies` raises when it starts."""

    def __init__(self, done, room=2, fails=(), dies=None):
        self.done, self.jobs, self.fails, self.dies = done, room, fails, dies
        self.started, self.running, self.most, self.stopped = [], [], 0, False

    def room(self):
        return self.jobs - len(self.running)

    def start(self, job):
        if job.name == self.dies:
            raise KeyboardInterrupt
        assert set(job.after) <= self.done
        self.started.append(job.name)
        self.running.append(job)
        self.most = max(self.most, len(self.running))

    def ended(self):
        ended, self.running = self.running[:1], self.running[1:]
        self.done.update(job.name for job in ended if job.name not in self.fails)
        return ended

    def stop(self):
        self.stopped = True


def run(workspace, executor, jobs):
    lines = []
    failures = run_schedule(
        workspace, jobs, lambda job: job.name in executor.done, executor, lines.append, poll_seconds=0
    )
    return failures, lines


def test_jobs_of_a_specification():
    jobs = jobs_of(specification(seeds=2), TASKS)
    # A task: 1 + 2 trainers x 2 seeds x (2 folds + 1 evaluation).
    assert len(jobs) == 2 * (1 + 2 * 2 * 3)
    assert len({job.name for job in jobs}) == len(jobs)
    names = [job.name for job in jobs]
    assert names[:4] == [
        "prepare/Task04_Hippocampus",
        "train/Task04_Hippocampus/nnUNetTrainer/seed0/fold0",
        "train/Task04_Hippocampus/nnUNetTrainer/seed0/fold1",
        "evaluate/Task04_Hippocampus/nnUNetTrainer/seed0",
    ]
    assert jobs[3].after == tuple(names[1:3])
    assert jobs[1].after == ("prepare/Task04_Hippocampus",)
    for index, job in enumerate(jobs):
        assert set(job.after) <= set(names[:index])


def test_a_trainer_with_more_seeds():
    jobs = jobs_of(specification(folds=[0], seeds_of={"nnUNetTrainer": 3}), TASKS[:1])
    assert [(job.trainer, job.seed) for job in jobs if job.kind == "train"] == [
        ("nnUNetTrainer", 0),
        ("RWTrainer", 0),
        ("nnUNetTrainer", 1),
        ("nnUNetTrainer", 2),
    ]


def test_names_for_nnunet():
    assert full_trainer_name(specification(epochs=15, iterations=50), "RWTrainer", 1) == (
        "RWTrainer_15epochs_50iterations_seed1"
    )
    assert full_trainer_name(specification(), "nnUNetTrainer", 0) == "nnUNetTrainer_seed0"
    assert [plans_name(specification(plans=plans)) for plans in ("nnUNetPlans", "small", "small32")] == [
        "nnUNetPlans",
        "nnUNetPlansSmall",
        "nnUNetPlansSmall32",
    ]


def test_everything_is_done_once_within_the_room(tmp_path):
    jobs = jobs_of(specification(), TASKS)
    executor = Pretending(set(), room=3)
    failures, lines = run(Workspace(tmp_path), executor, jobs)
    assert failures == []
    assert sorted(executor.started) == sorted(job.name for job in jobs)
    assert executor.most == 3
    assert not executor.stopped
    assert lines[-1].endswith(f"({len(jobs)} of {len(jobs)})")


def test_only_what_is_missing(tmp_path):
    jobs = jobs_of(specification(), TASKS)
    missing = {"train/Task11_MSLesion/RWTrainer/seed0/fold1", "evaluate/Task11_MSLesion/RWTrainer/seed0"}
    executor = Pretending({job.name for job in jobs} - missing)
    assert run(Workspace(tmp_path), executor, jobs)[0] == []
    assert set(executor.started) == missing


def test_a_failed_job_stops_only_those_that_need_it(tmp_path):
    workspace = Workspace(tmp_path)
    failed = "train/Task04_Hippocampus/RWTrainer/seed0/fold0"
    write_state(workspace, failed, JobState("failed", 1, error="RuntimeError: no"))
    workspace.job_file(failed, ".log").write_text("one\ntwo\n")
    jobs = jobs_of(specification(), TASKS)
    executor = Pretending(set(), fails=[failed])
    failures, lines = run(workspace, executor, jobs)
    assert [(failure.job, failure.reason, failure.log_tail) for failure in failures] == [
        (failed, "RuntimeError: no", ("one", "two")),
        ("evaluate/Task04_Hippocampus/RWTrainer/seed0", f"needs {failed}, which failed", ()),
    ]
    assert len(executor.done) == len(jobs) - 2
    assert any(line.endswith(f"FAILED  {failed}: RuntimeError: no") for line in lines)


def test_nothing_of_a_task_whose_preparation_failed(tmp_path):
    jobs = jobs_of(specification(), TASKS)
    executor = Pretending(set(), fails=["prepare/Task04_Hippocampus"])
    failures, _ = run(Workspace(tmp_path), executor, jobs)
    assert {failure.job for failure in failures} == {job.name for job in jobs if "Task04" in job.name}
    assert {job.name for job in jobs if "Task11" in job.name} == executor.done


@pytest.mark.parametrize(("status", "reason"), [("running", "killed, or out of memory"), ("done", "are not there")])
def test_a_job_that_ended_without_result_and_word(tmp_path, status, reason):
    workspace = Workspace(tmp_path)
    name = "prepare/Task04_Hippocampus"
    write_state(workspace, name, JobState(status, 3))
    failures, _ = run(workspace, Pretending(set(), fails=[name]), jobs_of(specification(), TASKS[:1])[:1])
    assert reason in failures[0].reason
    state = read_state(workspace, name)
    assert (state.status, state.attempts, state.error) == ("failed", 3, failures[0].reason)


def test_jobs_at_work_are_stopped_with_the_command(tmp_path):
    jobs = jobs_of(specification(), TASKS)
    executor = Pretending(set(), dies="train/Task04_Hippocampus/nnUNetTrainer/seed0/fold1")
    with pytest.raises(KeyboardInterrupt):
        run(Workspace(tmp_path), executor, jobs)
    assert executor.stopped
