"""How far a benchmark is, and how the terminal shows it."""

import io
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_results import write_run
from rich.console import Console

from nnunet_rw.benchmark.jobs import Job, JobState, Task, read_state, write_state
from nnunet_rw.benchmark.run import Benchmark
from nnunet_rw.benchmark.run_job import run_job
from nnunet_rw.benchmark.specification import specification_of
from nnunet_rw.benchmark.status import JobProgress, duration, progress_of, seconds_left, show_status, status_tables

TASK = Task("Task04_Hippocampus", "Dataset004_Hippocampus")
OTHER = Task("Task11_MSLesion", "Dataset011_MSLesion")


def training(trainer="RWTrainer", fold=0, status="waiting", epoch=0, epochs=10, seconds=2.0, task=TASK, dice=0.5):
    begun = epoch > 0
    return JobProgress(
        Job("train", task, trainer, fold=fold),
        JobState(status),
        epoch,
        epochs if begun else 0,
        dice if begun else math.nan,
        seconds if begun else math.nan,
    )


def text_of(renderable):
    console = Console(file=io.StringIO(), width=120)
    console.print(renderable)
    return console.file.getvalue()


def test_time_left():
    assert training(epoch=4).seconds_left == 6 * 2.0
    items = [
        training("A", 0, "done", epoch=10, seconds=3.0),  # 30 s in all
        training("A", 1, "running", epoch=4, seconds=2.0),  # 12 s left of 20 s
        training("A", 2),  # as others of A: 25 s
        training("B", 0),  # as others of the task: 25 s
        training("B", 0, task=OTHER),  # as any: 25 s
    ]
    assert seconds_left(items, at_a_time=1) == pytest.approx(12 + 25 + 25 + 25)
    assert seconds_left(items, at_a_time=2) == pytest.approx(43.5)
    # The longest that is left takes 25 s, however many run at a time.
    assert seconds_left(items, at_a_time=16) == pytest.approx(25)
    assert seconds_left(items[:2], at_a_time=2) == pytest.approx(12)
    assert math.isnan(seconds_left([training()], 1))
    assert math.isnan(seconds_left([training(), training()], 2))
    assert seconds_left([items[0]], 1) == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (99, "99 s"), (720, "12 min"), (12_000, "3 h 20 min"), (187_200, "2 d 4 h"), (math.nan, "-")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_tables():
    failed = replace(training("B", 0, "failed"), state=JobState("failed", error="RuntimeError: [no] way"))
    items = [
        JobProgress(Job("prepare", TASK), JobState("done")),
        training("A", 0, "done", epoch=10, dice=0.8),
        training("A", 1, "running", epoch=4, dice=0.6),
        training("A", 2, "running", epoch=10, dice=0.7),
        replace(failed, log_tail=("Traceback", "[no] way")),
        JobProgress(Job("evaluate", TASK, "A"), JobState()),
    ]
    text = text_of(status_tables(items, 2))
    lines = [line.split() for line in text.splitlines()]
    assert [TASK.name, "A", "1/3", "0/1", "0.700", "2.0"] in lines
    assert [TASK.name, "B", "0/1", "0/0", "-", "-"] in lines
    assert ["train/Task04_Hippocampus/A/seed0/fold1", "4/10", "0.600", "12", "s"] in lines
    assert ["train/Task04_Hippocampus/A/seed0/fold2", "validation", "0.700", "0", "s"] in lines
    assert "2 of 6 jobs done, 2 running, 1 failed; about 12 s of training left" in text
    assert "train/Task04_Hippocampus/B/seed0/fold0: failed. RuntimeError: [no] way" in text
    assert "    [no] way" in text


@pytest.fixture
def benchmark(tmp_path, monkeypatch):
    """A benchmark of a dataset in nnUNet_raw, nothing done."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    (tmp_path / "raw" / TASK.dataset).mkdir()
    (tmp_path / "raw" / TASK.dataset / "dataset.json").write_text('{"labels": {"background": 0, "lesion": 1}}')
    values = {"tasks": [TASK.dataset], "trainers": ["nnUNetTrainer", "RWTrainer"], "folds": [0], "device": "cpu"}
    specification = specification_of({**values, "epochs": 3, "iterations": 2, "plans": "small"}, "here")
    return Benchmark(tmp_path / "benchmark", specification)


def test_progress_on_disk(benchmark, tmp_path):
    train = f"train/{TASK.dataset}/nnUNetTrainer/seed0/fold0"
    fold = tmp_path / "results"
    write_run(tmp_path, TASK.dataset, "nnUNetTrainer", 0, 0, done=False)
    (tmp_path / "nnUNet_results" / TASK.dataset).rename(fold / TASK.dataset)
    write_state(benchmark.workspace, train, JobState("running", 1))
    benchmark.workspace.job_file(train, ".log").write_text("Epoch 1\nKilled\n")
    found = {item.job.name: item for item in progress_of(benchmark)}
    # Nobody holds its lock.
    assert found[train].state.status == "interrupted"
    assert (found[train].epoch, found[train].num_epochs, found[train].pseudo_dice) == (2, 3, pytest.approx(0.4))
    assert found[train].epoch_seconds == 12.0
    assert found[train].log_tail == ("Epoch 1", "Killed")
    assert found[f"prepare/{TASK.dataset}"].state.status == "waiting"


def test_what_needs_a_failed_job_has_failed(benchmark):
    write_state(benchmark.workspace, f"prepare/{TASK.dataset}", JobState("failed", 1, error="OSError: no space"))
    found = progress_of(benchmark)
    assert {item.state.status for item in found} == {"failed"}
    assert found[1].state.error == f"Needs prepare/{TASK.dataset}, which failed"
    # So that a watched status ends.
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    show_status(benchmark, watch=True, console=console)
    assert "0 of 5 jobs done, 5 failed" in console.file.getvalue()


def test_a_watch_ends_quietly(benchmark, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("nnunet_rw.benchmark.status.time.sleep", interrupt)
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    show_status(benchmark, watch=True, console=console)
    assert "0 of 5 jobs done" in console.file.getvalue()


def test_a_damaged_record_is_that_training_s_alone(benchmark, tmp_path):
    write_run(tmp_path, TASK.dataset, "nnUNetTrainer", 0, 0)
    (tmp_path / "nnUNet_results" / TASK.dataset).rename(tmp_path / "results" / TASK.dataset)
    (record,) = (tmp_path / "results").glob("**/run.json")
    record.write_text(record.read_text()[:100])
    assert {item.state.status for item in progress_of(benchmark)} == {"waiting"}


def test_a_job_that_has_failed_waits_for_its_next_try(benchmark, monkeypatch):
    name = f"train/{TASK.dataset}/RWTrainer/seed0/fold0"
    write_state(benchmark.workspace, name, JobState("failed", 2, error="OldError: no space"))
    seen = []
    monkeypatch.setattr(
        "nnunet_rw.benchmark.run.run_schedule",
        lambda workspace, *_: seen.append(read_state(workspace, name)) or [],
    )
    monkeypatch.setattr(Benchmark, "write_report", lambda self: None)
    assert benchmark.run() == []
    assert seen == [JobState("waiting", 2)]


def test_a_job_that_is_no_more_says_so(benchmark):
    benchmark.workspace.keep(benchmark.specification)
    name = f"train/{TASK.dataset}/Gone/seed0/fold0"
    with pytest.raises(ValueError, match=r"has no job .*Gone.*: another command has changed it"):
        run_job(benchmark.workspace, name, 1)
    assert "another command has changed it" in read_state(benchmark.workspace, name).error


def test_a_training_holds_the_lock_of_its_fold(benchmark, tmp_path, monkeypatch):
    benchmark.workspace.keep(benchmark.specification)
    held = []
    monkeypatch.setattr(
        "nnunet_rw.benchmark.run_job._do",
        lambda *_: held.extend(path for path in (tmp_path / "results").rglob("*.lock") if locked_elsewhere(path)),
    )
    run_job(benchmark.workspace, f"train/{TASK.dataset}/RWTrainer/seed0/fold0", 1)
    assert [(path.name, path.parent.name.split("_")[0]) for path in held] == [(".fold_0.lock", "RWTrainer")]


def locked_elsewhere(path):
    """Whether another process finds the file locked."""
    program = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    done = subprocess.run([sys.executable, "-c", program, str(path)], stderr=subprocess.DEVNULL)
    return done.returncode != 0


def test_two_tasks_of_one_dataset_are_refused(benchmark, tmp_path):
    folder = tmp_path / TASK.name
    shutil.copytree(Path(__file__).parents[1] / "data" / TASK.name, folder)
    (folder / "imagesTs").mkdir(exist_ok=True)
    tasks = (TASK.dataset, str(folder))
    with pytest.raises(ValueError, match=f"{TASK.dataset} and {TASK.name} are one dataset. Give one of them."):
        Benchmark(tmp_path / "b", benchmark.specification.model_copy(update={"tasks": tasks}))


def test_results_that_were_removed_are_to_be_done_again(benchmark):
    name = f"train/{TASK.dataset}/RWTrainer/seed0/fold0"
    write_state(benchmark.workspace, name, JobState("done", 1))
    (item,) = [item for item in progress_of(benchmark) if item.job.name == name]
    assert item.state.status == "waiting"
