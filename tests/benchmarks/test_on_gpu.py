"""The check that is prepared for a GPU, tried without one."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch

from benchmarks.on_gpu import agreement, distance, epochs, measure, parts, prepare
from benchmarks.on_gpu.measure import PARTS, main, run_apart, run_here

CHECKOUT = Path(__file__).resolve().parents[2]
DISTANCE = next(part for part in PARTS if part.name == "gpu_distance")


def test_parts_are_there_and_the_first_fit_into_the_time():
    for part in PARTS:
        module, _, function = part.function.partition(":")
        assert callable(getattr(import_module(module), function))
    # What has targets is measured even if every part takes all of its time.
    assert sum(part.seconds for part in PARTS[:6]) < measure.SECONDS < 480


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


def test_a_trainer_that_fails_does_not_stop_the_next(monkeypatch, tmp_path):
    figures = dict.fromkeys(("epoch_seconds", "loop_step_seconds", "step_seconds"), 2.0)
    asked = []

    def trained(trainer, dataset, plans, device, *length):
        asked.append((dataset, plans, dict(os.environ)["nnUNet_preprocessed"]))
        if trainer == "RWTrainer":
            raise RuntimeError("no memory")
        return {**figures, "peak_gpu_mib": None, "waits_per_step": 3}

    rows = []
    monkeypatch.setattr(epochs, "trained", trained)
    parts.epochs("cpu", tmp_path, True, rows.append)
    assert asked == [("51", prepare.PRETEND_PLANS, str(tmp_path))] * len(parts.TRAINERS)
    assert [row["trainer"] for row in rows] == list(parts.TRAINERS)
    assert rows[1] == {"trainer": "RWTrainer", "failed": "RuntimeError: no memory"}
    assert (rows[2]["epoch_seconds_of_stock"], rows[2]["waits_added"]) == (1.0, 0)
    assert "peak_gpu_mib_of_stock" not in rows[2]


def test_epochs_want_a_dataset():
    with pytest.raises(SystemExit, match=r"No --data: give the nnUNet_preprocessed of .*prepare"):
        parts.epochs("cpu", None, True, print)


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


def test_distances():
    for row in distance.run("cpu", size=16, rounds=1):
        assert row["shape"] == [2, 3, 16, 16, 16]
        assert row["largest_error_voxels"] < 1e-4
        assert row["times_faster"] == row["scipy_milliseconds"] / row["milliseconds"]


class TestAgreement:
    def test_on_a_cpu_all_agree_but_the_kernel(self, monkeypatch):
        def fails(device):
            raise RuntimeError("no such device")

        # The kernel is for a GPU, or for Triton's interpreter.
        monkeypatch.setattr(agreement, "_kernel", fails)
        *checks, kernel = agreement.run("cpu")
        assert kernel["failed"] == "RuntimeError: no such device"
        assert not kernel["passed"]
        for row in checks:
            assert row["passed"], row
            assert row["cases"] > 0

    def test_a_difference_is_seen(self, monkeypatch):
        monkeypatch.setattr(agreement, "_losses", lambda device, with_maps: iter([("a", 1e-6), ("b", 0.1)]))
        row = agreement.run("cpu")[0]
        assert (row["cases"], row["largest_difference"], row["of"], row["passed"]) == (2, 0.1, "b", False)

    def test_nan_is_a_difference(self, monkeypatch):
        monkeypatch.setattr(agreement, "_losses", lambda device, with_maps: iter([("a", float("nan"))]))
        row = agreement.run("cpu")[0]
        assert row["of"] == "a"
        assert not row["passed"]

    def test_share_of_the_largest_value(self):
        computed = agreement._largest((torch.tensor([2.0, -4.0]),), (torch.tensor([2.0, -3.0]),))
        assert computed == pytest.approx(0.25)

    @pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed.")
    @pytest.mark.slow
    def test_kernel_in_its_interpreter(self):
        program = "from benchmarks.on_gpu.agreement import _kernel; print(max(value for _, value in _kernel('cpu')))"
        # Triton reads the variable when it is imported.
        environment = {**os.environ, "TRITON_INTERPRET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, cwd=CHECKOUT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) <= 1e-6


@pytest.mark.slow
def test_epochs(hippocampus):
    stock, ours = (epochs.trained(name, "4", "tiny", "cpu", 2, 2, 2) for name in ("nnUNetTrainer", "RWTrainer"))
    for row in (stock, ours):
        assert row["dataset"] == "Dataset004_Hippocampus"
        assert row["iterations"] == 2
        assert 0 < row["step_seconds"] < row["epoch_seconds"]
        assert 0 < row["loop_step_seconds"] < row["epoch_seconds"]
        assert row["peak_gpu_mib"] is None
    assert epochs.relative_to_stock(ours, stock)["epoch_seconds_of_stock"] > 0


def test_the_first_cases_of_a_task(tmp_path, hippocampus_task):
    part = prepare._first_cases(hippocampus_task, tmp_path / hippocampus_task.name, 2)
    description = json.loads((part / "dataset.json").read_text())
    assert description["numTraining"] == len(description["training"]) == 2
    assert len(list((part / "imagesTr").iterdir())) == len(list((part / "labelsTr").iterdir())) == 2
    assert list((part / "imagesTs").iterdir()) == []


@pytest.fixture
def hippocampus_task():
    return CHECKOUT / "tests" / "data" / "Task04_Hippocampus"
