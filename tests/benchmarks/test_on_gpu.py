"""The check that is prepared for a GPU, tried without one."""

import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.on_gpu import measure, parts, prepare
from benchmarks.on_gpu.measure import PARTS, main, run_apart, run_here

CHECKOUT = Path(__file__).resolve().parents[2]
DISTANCE = next(part for part in PARTS if part.name == "gpu_distance")


def test_parts_are_there_and_the_first_fit_into_the_time():
    for part in PARTS:
        module, _, function = part.function.partition(":")
        assert callable(getattr(import_module(module), function))
    # What has targets is measured even if every part takes all of its time.
    assert sum(part.seconds for part in PARTS[:4]) + 200 < measure.SECONDS < 480


def test_rows_are_written_as_they_come(tmp_path, monkeypatch):
    def two_of_three(device, data, pretend, write):
        write({"n": 1})
        assert [row["n"] for row in json.loads((tmp_path / "gpu_distance.json").read_text())["rows"]] == [1]
        write({"n": 2})
        raise RuntimeError("no third")

    monkeypatch.setattr("benchmarks.on_gpu.parts.distance", two_of_three)
    with pytest.raises(RuntimeError, match="no third"):
        run_here(DISTANCE, tmp_path, None, pretend=True)
    written = json.loads((tmp_path / "gpu_distance.json").read_text())
    assert [row["n"] for row in written["rows"]] == [1, 2]
    assert written["machine"]["pretend"]


def test_what_fails_or_is_late_does_not_stop_the_next(tmp_path, monkeypatch, capsys):
    asked = []

    def outcome(part, output, data, pretend, seconds):
        asked.append((part.name, seconds))
        return "failed with exit code 1" if len(asked) == 1 else "done"

    monkeypatch.setattr(measure, "run_apart", outcome)
    assert main([str(tmp_path), "--pretend", "--seconds", "100"]) == 1
    assert [name for name, _ in asked] == [part.name for part in PARTS]
    assert all(seconds <= min(part.seconds, 100) for part, (_, seconds) in zip(PARTS, asked, strict=True))
    assert "gpu_tests: failed with exit code 1" in capsys.readouterr().out
    asked.clear()
    assert main([str(tmp_path), "--pretend", "--seconds", "0"]) == 1
    assert asked == []


def test_a_trainer_that_fails_does_not_stop_the_next(monkeypatch):
    figures = {"epoch_seconds": 2.0, "step_seconds": 1.0, "peak_gpu_mib": None, "waits_per_step": 3}

    def trained(trainer, *arguments):
        if trainer == "RWTrainer":
            raise RuntimeError("no memory")
        return {"trainer": trainer, **figures}

    rows = []
    monkeypatch.setattr(parts, "trained", trained)
    parts.epochs("cpu", None, True, rows.append)
    assert [row["trainer"] for row in rows] == list(parts.TRAINERS)
    assert rows[1] == {"trainer": "RWTrainer", "failed": "no memory"}
    assert (rows[2]["epoch_seconds_of_stock"], rows[2]["waits_added"]) == (1.0, 0)
    assert "peak_gpu_mib_of_stock" not in rows[2]


def test_a_late_part_is_stopped(tmp_path):
    start = time.monotonic()
    assert run_apart(DISTANCE, tmp_path, None, True, 5.1).startswith("stopped after")  # importing torch takes longer
    assert time.monotonic() - start < 5


def test_nothing_is_measured_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(SystemExit, match="no GPU that torch can use"):
        run_here(DISTANCE, tmp_path, None, pretend=False)


def test_a_trial_on_a_cpu_does_not_write_results(capsys):
    with pytest.raises(SystemExit):
        main([str(CHECKOUT / "benchmarks" / "results"), "--pretend"])
    assert "is for what a GPU gave" in capsys.readouterr().err


@pytest.mark.slow
def test_a_trial_on_a_cpu(tmp_path):
    script = CHECKOUT / "benchmarks" / "on_gpu" / "run.sh"
    chosen = ("gpu_distance", "gpu_losses", "gpu_every_loss")
    command = [script, "measure", tmp_path, "--pretend", "--parts", *chosen]
    environment = {**os.environ, "PYTHON": sys.executable}  # python3 may be another than that of the tests
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=CHECKOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    for part in chosen:
        assert json.loads((tmp_path / f"{part}.json").read_text())["rows"]


def test_the_first_cases_of_a_task(tmp_path, hippocampus_task):
    part = prepare._first_cases(hippocampus_task, tmp_path / hippocampus_task.name, 2)
    description = json.loads((part / "dataset.json").read_text())
    assert description["numTraining"] == len(description["training"]) == 2
    assert len(list((part / "imagesTr").iterdir())) == len(list((part / "labelsTr").iterdir())) == 2
    assert list((part / "imagesTs").iterdir()) == []


@pytest.fixture
def hippocampus_task():
    return CHECKOUT / "tests" / "data" / "Task04_Hippocampus"
