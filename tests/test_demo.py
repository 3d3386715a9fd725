import re
import shutil
from pathlib import Path

import pytest

from nnunet_rw.cli import main
from nnunet_rw.demo import SYNTHETIC_TASK, Demo
from nnunet_rw.evaluation.case_evaluation import EvaluationSettings
from nnunet_rw.evaluation.evaluate import evaluate
from nnunet_rw.evaluation.sources import folders_source
from nnunet_rw.synthetic import write_synthetic_dataset

HIPPOCAMPUS = Path(__file__).parent / "data" / "Task04_Hippocampus"
SHORT = ("--epochs", "1", "--iterations", "2")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Function that runs the demo into a folder of the test's and returns the commands it ran and its table."""
    # As a shell has it after a training on a CPU; planning fails with it.
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")

    def demo(*options):
        capsys.readouterr()
        assert main(["demo", "-o", str(tmp_path / "out"), *SHORT, *map(str, options)]) == 0
        text = capsys.readouterr().out
        steps, _, report = text.partition("\n\n")
        return [line[2:] for line in steps.splitlines() if line.startswith("$ ")], report

    return demo


def written(folder):
    """Every file but the figures and the log of the last step, with the time at which it was written."""
    redrawn = {folder / "recall_by_size.png", folder / "predictions.png", folder / "logs" / "maps.txt"}
    files = [path for path in folder.rglob("*") if path.is_file() and path not in redrawn]
    return {path: path.stat().st_mtime_ns for path in files}


def rows_of(report):
    header, _, *rows = report.split("\n\nFigures:")[0].splitlines()
    assert re.split(r" {2,}", header) == [
        "trainer",
        "Dice",
        "recall, up to 20 voxels",
        "recall, all",
        "false positives a case",
        "s an epoch",
    ]
    return {cells[0]: cells[1:] for cells in (re.split(r" {2,}", row.strip()) for row in rows)}


def figures_of(report):
    figures = [Path(line.strip()) for line in report.split("Figures:\n")[1].splitlines()]
    for figure in figures:
        assert figure.read_bytes().startswith(b"\x89PNG")
    return figures


@pytest.mark.slow
def test_real_dataset_once_and_again(run, tmp_path):
    task, out = tmp_path / HIPPOCAMPUS.name, tmp_path / "out"
    shutil.copytree(HIPPOCAMPUS, task)
    (task / "imagesTs").mkdir(exist_ok=True)

    commands, report = run("--msd", task)
    assert [Path(command.split()[0]).name for command in commands if "-m nnunet_rw maps" not in command] == [
        "nnUNetv2_convert_MSD_dataset",
        "nnUNetv2_plan_and_preprocess",
        "nnUNetv2_train",
        "nnUNetv2_train",
    ]
    rows = rows_of(report)
    assert list(rows) == ["nnUNetTrainer", "RWTrainer"]
    assert [figure.name for figure in figures_of(report)] == [
        "recall_by_size.png",
        "predictions.png",
        "progress.png",
        "progress.png",
    ]

    # The row against its definition: two validation cases, two classes of each.
    demo = Demo(out, task, epochs=1, iterations=2)
    references = out / "nnUNet_preprocessed" / "Dataset004_Hippocampus" / "gt_segmentations"
    dataset_json = out / "nnUNet_raw" / "Dataset004_Hippocampus" / "dataset.json"
    for trainer, (dice, _, recall, false_positives, _) in rows.items():
        source = folders_source(demo.results(trainer) / "validation", references, dataset_json, allow_missing=True)
        results = [found for case in evaluate(source, EvaluationSettings(fast=True)) for found in case.classes]
        assert len(results) == 4
        assert dice == f"{sum(result.overlap.dice for result in results) / 4:.3f} (n = 4)"
        hits = sum(int(result.matches.reference.hit.sum()) for result in results)
        lesions = sum(len(result.matches.reference) for result in results)
        assert recall == f"{hits / lesions:.2f} ({hits} of {lesions})"
        assert false_positives == f"{sum(result.matches.predicted.false_positive.sum() for result in results) / 2:.1f}"

    before = written(out)
    commands, again = run("--msd", task)
    assert ["-m nnunet_rw maps" in command for command in commands] == [True]
    assert again == report
    assert written(out) == before
    assert "maps of 0 cases written" in (out / "logs" / "maps.txt").read_text()


@pytest.mark.slow
def test_synthetic_dataset_goes_on_where_it_stopped(run, tmp_path, capsys):
    out = tmp_path / "out"
    write_synthetic_dataset(out / SYNTHETIC_TASK, num_cases=5, shape=(32, 32, 32))
    # An interrupted conversion.
    converted = out / "nnUNet_raw" / "Dataset099_SyntheticLesions"
    (converted / "imagesTr").mkdir(parents=True)
    (converted / "imagesTr" / "half_0000.nii.gz").touch()

    trainer = ("--trainers", "RWTrainer_IWDiceCE")
    _, report = run(*trainer)
    assert list(rows_of(report)) == ["RWTrainer_IWDiceCE"]
    assert len(figures_of(report)) == 3
    assert not (converted / "imagesTr" / "half_0000.nii.gz").exists()

    # An interrupted validation: the network is not trained again.
    fold = Demo(out, epochs=1, iterations=2).results("RWTrainer_IWDiceCE")
    (fold / "validation" / "summary.json").unlink()
    checkpoint = (fold / "checkpoint_final.pth").stat().st_mtime_ns
    commands, again = run(*trainer)
    assert [command.split()[-1] for command in commands if command.startswith("nnUNetv2_train")] == ["--val"]
    assert again == report
    assert (fold / "checkpoint_final.pth").stat().st_mtime_ns == checkpoint

    # A step that fails says where its log is.
    assert main(["demo", "-o", str(out), *SHORT, "--trainers", "RWTrainer_None"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("nnunet-rw: nnUNetv2_train 99 3d_fullres 0 -tr RWTrainer_None_1epochs_2iterations")
    assert f"failed. Its output is in {out / 'logs' / 'RWTrainer_None.txt'}; the end of it: " in line


def test_names_follow_nnunet(tmp_path):
    demo = Demo(tmp_path, msd=Path("/data/Task04_Hippocampus"), epochs=3, iterations=20)
    assert (demo.dataset_id, demo.dataset) == (4, "Dataset004_Hippocampus")
    assert demo.results("RWTrainer") == (
        tmp_path
        / "nnUNet_results"
        / "Dataset004_Hippocampus"
        / "RWTrainer_3epochs_20iterations__nnUNetPlansDemo__3d_fullres"
        / "fold_0"
    )
    assert Demo(tmp_path).task == tmp_path / SYNTHETIC_TASK


def test_steps_run_in_the_demo_s_folders_with_this_environment_s_commands(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "/mine")
    monkeypatch.setenv("KEPT", "1")
    environment = Demo(tmp_path).environment(nnUNet_n_proc_DA="0")
    assert environment["nnUNet_raw"] == str(tmp_path / "nnUNet_raw")
    assert (environment["KEPT"], environment["nnUNet_n_proc_DA"]) == ("1", "0")
    assert shutil.which("nnUNetv2_train", path=environment["PATH"]).startswith(environment["PATH"].split(":")[0])
