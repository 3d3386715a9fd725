"""Jobs as processes of this machine: how many, on which GPUs, and whose."""

import os
import subprocess
import sys
import time

import pytest

from nnunet_rw.benchmark import executors
from nnunet_rw.benchmark.executors import LocalExecutor, visible_gpus
from nnunet_rw.benchmark.jobs import Job, Task, Workspace

# Before a test replaces it.
POPEN = subprocess.Popen
TASK = Task("Task04_Hippocampus", "Dataset004_Hippocampus")
_HOLD = """
import sys, time
from pathlib import Path
from nnunet_rw.benchmark.jobs import working_on
from nnunet_rw.benchmark.jobs import Workspace
with working_on(Workspace(Path(sys.argv[1])), sys.argv[2]):
    print("holds", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture
def commands(monkeypatch):
    """(name of the job, its GPUs) of every process that is started; the processes do nothing until they are ended."""
    started = []

    def sleep(command, env, **options):
        started.append((command[-1], env.get("CUDA_VISIBLE_DEVICES")))
        return POPEN(["sleep", "60"], env=env, **options)

    monkeypatch.setattr(executors.subprocess, "Popen", sleep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return started


def trainings(number):
    return [Job("train", TASK, "RWTrainer", fold=fold) for fold in range(number)]


def test_each_training_has_its_own_gpu_and_others_none(workspace, commands):
    executor = LocalExecutor(workspace, jobs=4, gpus=("0", "1", "3"))
    jobs = [Job("prepare", TASK), *trainings(3)]
    try:
        assert executor.room() == 4
        for job in jobs:
            executor.start(job)
        assert executor.room() == 0
        assert executor.ended() == []
        assert commands == [(jobs[0].name, ""), (jobs[1].name, "0"), (jobs[2].name, "1"), (jobs[3].name, "3")]
    finally:
        executor.stop()
    assert sorted(job.name for job in executor.ended()) == sorted(job.name for job in jobs)
    assert executor.room() == 4


def test_trainings_on_several_gpus_share_none(workspace, commands):
    executor = LocalExecutor(workspace, jobs=2, gpus=("0", "1", "2", "3"), gpus_a_job=2)
    try:
        for job in trainings(2):
            executor.start(job)
        assert [gpus for _, gpus in commands] == ["0,1", "2,3"]
    finally:
        executor.stop()


def test_more_trainings_than_gpus_share_evenly(workspace, commands):
    executor = LocalExecutor(workspace, jobs=4, gpus=("0", "1"))
    try:
        for job in trainings(4):
            executor.start(job)
        assert [gpus for _, gpus in commands] == ["0", "1", "0", "1"]
    finally:
        executor.stop()


def test_a_job_at_work_elsewhere_is_taken_over(workspace, commands):
    (job,) = trainings(1)
    command = [sys.executable, "-c", _HOLD, str(workspace.folder), job.name]
    executor = LocalExecutor(workspace, jobs=1)
    process = POPEN(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"holds\n"
        executor.start(job)
        assert commands == []
        assert (executor.room(), executor.ended()) == (0, [])
        executor.stop()  # is not ours to stop
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()
    deadline = time.monotonic() + 10
    while not (ended := executor.ended()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert ended == [job]


def test_the_gpus_of_a_job_that_is_taken_over_are_in_use(workspace, commands):
    job, *others = trainings(3)
    command = [sys.executable, "-c", _HOLD, str(workspace.folder), job.name]
    executor = LocalExecutor(workspace, jobs=3, gpus=("0", "1", "2", "3"), gpus_a_job=2)
    process = POPEN(command, stdout=subprocess.PIPE, env={**os.environ, "CUDA_VISIBLE_DEVICES": "0,2"})
    try:
        assert process.stdout.readline() == b"holds\n"
        for one in (job, *others):
            executor.start(one)
        assert commands == [(others[0].name, "1,3"), (others[1].name, "0,1")]
    finally:
        executor.stop()
        process.kill()
        process.communicate()


def test_a_job_that_cannot_be_done_ends_with_its_reason_in_the_log(workspace):
    executor = LocalExecutor(workspace, jobs=1)
    (job,) = trainings(1)
    executor.start(job)
    deadline = time.monotonic() + 60
    while not executor.ended():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert "No benchmark.yaml in" in workspace.job_file(job.name, ".log").read_text()


@pytest.mark.parametrize(
    ("named", "available", "expected"), [("0, 2", True, ("0", "2")), ("", True, ()), ("0", False, ())]
)
def test_gpus_that_the_shell_allows(monkeypatch, named, available, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr("torch.cuda.is_available", lambda: available)
    assert visible_gpus() == expected


def test_gpus_of_the_machine(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert visible_gpus() == ("0", "1", "2")
