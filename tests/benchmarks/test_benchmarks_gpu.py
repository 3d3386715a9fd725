"""The benchmark of a GPU, without one: its parts on a CPU, small."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, losses
from benchmarks.on_gpu import agreement, distance, epochs
from benchmarks.targets import Target

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def written(monkeypatch):
    """Results by name, instead of files of the checkout."""
    results = {}

    def write(name, rows):
        results[name] = rows
        return Path(f"{name}.json")

    monkeypatch.setattr(gpu, "write_result", write)
    return results


def test_without_a_gpu_it_says_so_and_exits_with_2(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as stopped:
        gpu.run()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "There is no GPU that torch can use: nothing was measured.\n"


def test_distances(written):
    rows = gpu.measured({"gpu_distance": lambda: distance.run("cpu", size=16, rounds=1)})
    assert [row["figure"] for row in rows] == [
        "exact distance transform of 2 x 3 x 128^3, ms",
        "its largest error, voxels",
        "times faster than SciPy",
    ]
    assert rows[1]["met"]
    for row in written["gpu_distance"]:
        assert row["shape"] == [2, 3, 16, 16, 16]
        assert row["largest_error_voxels"] < 1e-4
        assert row["times_faster"] == row["scipy_milliseconds"] / row["milliseconds"]


def test_losses(written):
    rows = gpu.measured({"gpu_losses": lambda: losses.run("cpu", size=16, rounds=1)})
    assert [row["figure"] for row in rows] == [
        "RRW: time of nnU-Net's loss",
        "RRW: memory of nnU-Net's loss",
        "IW-Dice + IW-CE: time of nnU-Net's loss",
        "IW-Dice + IW-CE: memory of nnU-Net's loss",
    ]
    stock = written["gpu_losses"][0]
    assert stock["loss"] == losses.STOCK
    assert stock["seconds_of_stock"] == stock["peak_of_stock"] == 1


class TestAgreement:
    def test_on_a_cpu_all_agree_but_the_kernel(self, written, monkeypatch):
        # The kernel is for a GPU, or for Triton's interpreter.
        monkeypatch.setattr(agreement, "_kernel", _fails)
        rows = gpu.measured({"gpu_agreement": lambda: agreement.run("cpu")})
        *checks, kernel = written["gpu_agreement"]
        assert kernel["failed"] == "RuntimeError: no such device"
        assert not kernel["passed"]
        for row in checks:
            assert row["passed"], row
            assert row["cases"] > 0
        assert [row.get("met") for row in rows] == [True] * len(checks) + [None]

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


def test_what_fails_hides_nothing(written, capsys):
    rows = gpu.measured(
        {"gpu_epochs": _fails, "gpu_distance": lambda: distance.run("cpu", size=16, rounds=1)},
    )
    assert rows[0] == {"figure": "gpu_epochs", "failed": "RuntimeError: no such device"}
    assert len(rows) == 4
    assert list(written) == ["gpu_distance"]
    assert "no such device" in capsys.readouterr().err


def test_targets():
    rows = [{"trainer": "a", "time": 1.1, "times": 1.1}, {"trainer": "b", "time": 5.0}]
    assert Target("time", "gpu_epochs", "time", 1.0, where={"trainer": "a"}).row(rows) == {
        "figure": "time",
        "measured": 1.1,
        "target": 1.0,
        "at_least": False,
        "met": False,
    }
    assert Target("times", "gpu_epochs", "times", 1.0, at_least=True).row(rows)["met"]
    assert Target("none", "gpu_epochs", "memory", 1.0).row(rows)["met"] is None


@pytest.mark.slow
def test_epochs(hippocampus, written):
    rows = epochs.run("4", plans_name="tiny", device="cpu", epochs=2, iterations=2, step_repeats=2)
    assert [row["trainer"] for row in rows] == list(epochs.TRAINERS)
    assert rows[0]["epoch_seconds_of_stock"] == 1
    for row in rows:
        assert row["dataset"] == "Dataset004_Hippocampus"
        assert row["iterations"] == 2
        assert 0 < row["step_seconds"] < row["epoch_seconds"]
        assert row["peak_gpu_mib"] is None


def _fails(*arguments):
    raise RuntimeError("no such device")
