"""Names of tasks: folders, the Decathlon's, and datasets of nnUNet_raw."""

import json

import pytest

from nnunet_rw.benchmark.jobs import Task
from nnunet_rw.benchmark.preparing import find_task


@pytest.fixture
def raw(tmp_path, monkeypatch):
    folder = tmp_path / "raw"
    monkeypatch.setenv("nnUNet_raw", str(folder))
    (folder / "Dataset007_Mine").mkdir(parents=True)
    (folder / "Dataset007_Mine" / "dataset.json").write_text("{}")
    return folder


def msd_folder(folder):
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(parents=True)
    (folder / "dataset.json").write_text(json.dumps({}))
    return folder


def test_folder(raw, tmp_path, monkeypatch):
    folder = msd_folder(tmp_path / "data" / "Task77_Own")
    assert find_task(str(folder), tmp_path) == Task("Task77_Own", "Dataset077_Own", folder)
    monkeypatch.chdir(folder.parent)
    assert find_task("Task77_Own", tmp_path).folder == folder


def test_decathlon_with_and_without_download(raw, tmp_path):
    assert find_task("Task08_HepaticVessel", tmp_path) == Task("Task08_HepaticVessel", "Dataset008_HepaticVessel")
    downloaded = msd_folder(tmp_path / "Task08_HepaticVessel")
    assert find_task("Task08_HepaticVessel", tmp_path).folder == downloaded


def test_dataset_of_nnunet_raw(raw, tmp_path):
    assert find_task("Dataset007_Mine", tmp_path) == Task("Dataset007_Mine", "Dataset007_Mine")
    with pytest.raises(FileNotFoundError, match=r"No dataset\.json in .*Dataset008_None"):
        find_task("Dataset008_None", tmp_path)


def test_unknown(raw, tmp_path):
    with pytest.raises(ValueError, match=r"Unknown task 'Task04_Hipocampus'\. .* Task04_Hippocampus,"):
        find_task("Task04_Hipocampus", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"No folder /nowhere/Task04_A of a task\..* --tasks"):
        find_task("/nowhere/Task04_A", tmp_path)


def test_a_number_that_belongs_to_another_dataset(raw, tmp_path):
    with pytest.raises(ValueError, match=r"would be Dataset007_Pancreas, but .* has Dataset007_Mine"):
        find_task("Task07_Pancreas", tmp_path)
