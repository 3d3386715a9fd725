import re
import shutil
from pathlib import Path

import pytest

from nnunet_rw.benchmark.demo import SYNTHETIC_TASK, demo_benchmark
from nnunet_rw.benchmark.results import read_results
from nnunet_rw.cli import main
from nnunet_rw.datasets.synthetic import write_synthetic_dataset

HIPPOCAMPUS = Path(__file__).parents[1] / "data" / "Task04_Hippocampus"


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Function that runs the demo into a folder of the test's and returns the jobs it started and its table's rows."""
    # As a shell has them after a training on a CPU; planning fails with the first.
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setenv("nnUNet_results", "/mine")

    def demo(*options):
        capsys.readouterr()
        short = ("--epochs", "1", "--iterations", "2")
        assert main(["demo", "-o", str(tmp_path / "out"), *short, *map(str, options)]) == 0
        text = capsys.readouterr().out
        jobs = re.findall(r"started (\S+)", text)
        table = text.split("report.html\n\n")[1].splitlines()
        return jobs, [re.split(r" {2,}", row.strip()) for row in table]

    return demo


@pytest.mark.slow
def test_real_dataset_once_and_again(run, tmp_path):
    task, out = tmp_path / HIPPOCAMPUS.name, tmp_path / "out"
    shutil.copytree(HIPPOCAMPUS, task)
    (task / "imagesTs").mkdir(exist_ok=True)

    jobs, (header, _, *rows) = run("--msd", task)
    assert jobs[0] == "prepare/Task04_Hippocampus"
    assert sorted(job.split("/")[0] for job in jobs) == ["evaluate", "evaluate", "prepare", "train", "train"]
    assert header[:3] == ["label", "trainer", "Dice"]
    assert [row[:2] for row in rows] == [
        ["Anterior (1)", "nnUNetTrainer"],
        ["Anterior (1)", "RWTrainer_SmallLesions"],
        ["Posterior (2)", "nnUNetTrainer"],
        ["Posterior (2)", "RWTrainer_SmallLesions"],
    ]
    # The row against what it was made from: two validation cases.
    (found,) = read_results(out).tasks
    for label, trainer, dice, *_ in rows:
        values = found.evaluations[trainer][0].columns[label.partition("(")[2].rstrip(")")]["dice"]
        assert len(values) == 2
        assert dice.startswith(f"{values.mean():.3f}")
    assert (out / "report.html").is_file()
    # In its own folders, not in the user's.
    assert (out / "nnUNet_results" / "Dataset004_Hippocampus").is_dir()

    before = {path: path.stat().st_mtime_ns for path in (out / "nnUNet_results").rglob("*")}
    jobs, (_, _, *again) = run("--msd", task)
    assert (jobs, again) == ([], rows)
    assert {path: path.stat().st_mtime_ns for path in (out / "nnUNet_results").rglob("*")} == before


@pytest.mark.slow
def test_synthetic_dataset(run, tmp_path):
    out = tmp_path / "out"
    write_synthetic_dataset(out / SYNTHETIC_TASK, num_cases=5, shape=(32, 32, 32))
    jobs, (_, _, *rows) = run("--trainers", "RWTrainer")
    assert jobs == [
        f"prepare/{SYNTHETIC_TASK}",
        f"train/{SYNTHETIC_TASK}/RWTrainer/seed0/fold0",
        f"evaluate/{SYNTHETIC_TASK}/RWTrainer/seed0",
    ]
    assert [row[1] for row in rows] == ["RWTrainer"]


def test_names_follow_nnunet(tmp_path):
    (tmp_path / SYNTHETIC_TASK).mkdir()
    write_synthetic_dataset(tmp_path / SYNTHETIC_TASK, num_cases=1, shape=(32, 32, 32))
    benchmark = demo_benchmark(tmp_path, trainers=("nnUNetTrainer",), epochs=3, iterations=20)
    assert benchmark.tasks[0].dataset == "Dataset099_SyntheticLesions"
    assert benchmark.specification.epochs == 3
    assert len(benchmark.jobs) == 3
