"""`nnunet-rw benchmark` as a whole: interrupted, failing, repaired and completed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from nnunet_rw.benchmark.jobs import Workspace, read_state
from nnunet_rw.benchmark.results import read_results
from nnunet_rw.cli import main
from nnunet_rw.evaluation.folder import read_evaluation

DATASET = "Dataset004_Hippocampus"
# Crashes as long as a file is there.
FRAGILE = """
from pathlib import Path

class RWTrainer_Fragile(MapTrainer):
    def train_step(self, batch):
        if Path({path!r}).is_file():
            raise RuntimeError("the coil is loose")
        return super().train_step(batch)
"""


def arguments(folder, *more):
    options = ["-f", "0", "1", "--epochs", "2", "--iterations", "2", "--plans", "tiny", "--device", "cpu"]
    trainers = ["--trainers", "nnUNetTrainer", "RWTrainer_Fragile"]
    return ["benchmark", "--tasks", DATASET, *trainers, *options, "--jobs", "2", "-o", str(folder), *more]


def eventually(condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill_when(condition, process, with_jobs):
    """SIGKILL to the command, and to its jobs, as soon as the condition holds."""
    eventually(condition)
    jobs = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    process.kill()
    process.wait()
    for number in jobs if with_jobs else []:
        os.killpg(int(number), signal.SIGKILL)


@pytest.mark.slow
def test_killed_twice_with_a_trainer_that_crashes_and_is_repaired(hippocampus, user_trainers, tmp_path, capsys):
    loose = tmp_path / "loose"
    loose.touch()
    user_trainers(FRAGILE.format(path=str(loose)))
    folder = tmp_path / "benchmark"
    workspace = Workspace(folder)
    first = f"train/{DATASET}/nnUNetTrainer/seed0/fold0"
    models = hippocampus.results / DATASET

    def has_begun():
        return (
            read_state(workspace, first).status == "running"
            and (models / "nnUNetTrainer_2epochs_2iterations_seed0__tiny__3d_fullres").is_dir()
        )

    # Killed with its jobs: they are interrupted, and done again.
    command = [sys.executable, "-m", "nnunet_rw", *arguments(folder)]
    kill_when(has_begun, subprocess.Popen(command, stdout=subprocess.DEVNULL), with_jobs=True)
    eventually(lambda: read_state(workspace, first).status == "interrupted")
    # Killed alone: its jobs go on, and the next command waits for them.
    kill_when(
        lambda: read_state(workspace, first).status == "running" and read_state(workspace, first).attempts == 2,
        subprocess.Popen(command, stdout=subprocess.DEVNULL),
        with_jobs=False,
    )
    capsys.readouterr()
    assert main(arguments(folder)) == 2
    printed = capsys.readouterr()
    crashed = [f"train/{DATASET}/RWTrainer_Fragile/seed0/fold{fold}" for fold in (0, 1)]
    for name in crashed:
        assert f"nnunet-rw: {name}: RuntimeError: the coil is loose\n" in printed.err
    assert "    RuntimeError: the coil is loose" in printed.err.splitlines()
    assert f"nnunet-rw: evaluate/{DATASET}/RWTrainer_Fragile/seed0: needs {crashed[0]}, which failed" in printed.err
    state = read_state(workspace, first)
    assert (state.status, state.attempts) == ("done", 2)
    results = read_results(folder)
    assert list(results.tasks[0].evaluations) == ["nnUNetTrainer"]
    assert [job.job for job in results.unfinished] == [
        *crashed,
        f"evaluate/{DATASET}/RWTrainer_Fragile/seed0",
    ]
    assert (folder / "report.html").stat().st_size > 1_000_000

    assert main(["benchmark", "status", "-o", str(folder)]) == 0
    assert "4 of 7 jobs done, 3 failed" in capsys.readouterr().out

    loose.unlink()
    # The kept specification is enough.
    assert main(["benchmark", "-o", str(folder)]) == 0
    started = [line.split()[-1] for line in capsys.readouterr().out.splitlines() if " started " in line]
    assert started == [*crashed, f"evaluate/{DATASET}/RWTrainer_Fragile/seed0"]
    results = read_results(folder)
    assert results.unfinished == ()
    (task,) = results.tasks
    assert list(task.evaluations) == ["nnUNetTrainer", "RWTrainer_Fragile"]
    assert all(run.record.finished for run in task.runs)
    assert len({run.record.splits_sha256 for run in task.runs}) == 1
    splits = json.loads((hippocampus.preprocessed / DATASET / "splits_final.json").read_text())
    assert task.evaluations["nnUNetTrainer"][0].cases == tuple(sorted(splits[0]["val"] + splits[1]["val"]))
    assert task.comparison.challengers == ("RWTrainer_Fragile",)
    folder_of_evaluation = folder / "evaluations" / DATASET / "nnUNetTrainer_2epochs_2iterations_seed0"
    assert read_evaluation(folder_of_evaluation).froc
    assert list((folder_of_evaluation / "gallery").glob("*.png"))

    assert main(["benchmark", "-o", str(folder), "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("7 jobs, 7 done\n")

    # Other splits than a model was trained with.
    (hippocampus.preprocessed / DATASET / "splits_final.json").write_text(json.dumps(splits[::-1]))
    (folder_of_evaluation / "summary.json").unlink()
    assert main(["benchmark", "-o", str(folder)]) == 2
    assert "was trained with another splits_final.json than that in" in capsys.readouterr().err
