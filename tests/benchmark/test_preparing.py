"""What trainings need: datasets by their names, arrays of every case, plans, splits and maps."""

import json
import shutil

import pytest

from nnunet_rw.benchmark.jobs import Task
from nnunet_rw.benchmark.preparing import ensure_splits, find_task, is_prepared, is_preprocessed, prepare
from nnunet_rw.benchmark.specification import specification_of
from nnunet_rw.benchmark.training import find_trainers, needed_maps
from nnunet_rw.benchmark.workspace import Workspace
from nnunet_rw.datasets.folders import open_preprocessed
from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE, INTERIOR_DISTANCE, LESION_IDS

DATASET = "Dataset004_Hippocampus"
TASK = Task(DATASET, DATASET)


def specification(**changes):
    values = {"tasks": [DATASET], "trainers": ["nnUNetTrainer", "RWTrainer"], "plans": "tiny", "device": "cpu"}
    return specification_of({**values, **changes}, "here")


def test_prepared_means_splits_too(hippocampus):
    assert is_preprocessed(specification(), TASK)
    assert not is_prepared(specification(), TASK)
    ensure_splits(open_preprocessed(DATASET, "3d_fullres", "tiny"))
    assert is_prepared(specification(), TASK)
    # Small plans are made from nnU-Net's, on the same arrays.
    assert is_preprocessed(specification(plans="small"), TASK)
    assert not is_prepared(specification(plans="small"), TASK)
    assert not is_preprocessed(specification(plans="nnUNetResEncUNetMPlans"), TASK)
    assert not is_preprocessed(specification(configuration="3d_lowres"), TASK)


def test_hidden_files_are_no_cases(hippocampus):
    images = hippocampus.root / "nnUNet_raw" / DATASET / "imagesTr"
    (images / "._hippocampus_004_0000.nii.gz").write_bytes(b"Mac OS X")
    assert is_preprocessed(specification(), TASK)


def test_an_array_that_is_missing_is_noticed(hippocampus):
    folder = open_preprocessed(DATASET, "3d_fullres", "tiny").data_folder
    for path in list(folder.glob("hippocampus_004*")):
        path.unlink()
    assert not is_preprocessed(specification(), TASK)


def test_too_few_cases_or_folds(hippocampus, tmp_path):
    data = open_preprocessed(DATASET, "3d_fullres", "tiny")
    path = data.dataset_folder / "splits_final.json"
    path.write_text(json.dumps([{"train": [], "val": []}] * 2))
    with pytest.raises(ValueError, match=r"has 2 folds, from 0, but fold 4 is asked for\. Give others with -f"):
        prepare(Workspace(tmp_path / "out"), specification(), TASK, 1)
    path.unlink()
    for name in ("hippocampus_004", "hippocampus_015"):
        for file in list(data.data_folder.glob(f"{name}*")):
            file.unlink()
    with pytest.raises(ValueError, match="has 4 cases; five folds take five at least"):
        ensure_splits(data)


def test_plans_that_nobody_can_make(hippocampus, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No preprocessed data of Mine in .* choose among small, nnUNetPlans"):
        prepare(Workspace(tmp_path / "out"), specification(plans="Mine"), TASK, 1)


def test_trainers_that_draw_by_lesion_need_lesion_maps(hippocampus, user_trainers):
    user_trainers("""
class PatchesByLesion(MapTrainer):
    loss_terms = (Term("nnunet"), Term("rrw"))
    oversample_by = "lesion"
class CasesByLesion(MapTrainer):
    map_source = "patch"
    cases_by = "lesion"
class Boundary(MapTrainer):
    loss_terms = (Term("boundary"),)
""")
    assert needed_maps(specification(trainers=["PatchesByLesion"])) == [INTERIOR_DISTANCE, LESION_IDS]
    assert needed_maps(specification(trainers=["CasesByLesion"])) == [LESION_IDS]
    # What a loss needs; what is stored for it depends on the dataset's labels.
    assert needed_maps(specification(trainers=["Boundary"])) == [BOUNDARY_DISTANCE]


def test_maps_of_all_trainers_are_written(hippocampus, tmp_path, capsys):
    assert needed_maps(specification(trainers=["nnUNetTrainer"])) == []
    assert needed_maps(specification(trainers=["RWTrainer", "RWTrainer_IWDiceCE"])) == [INTERIOR_DISTANCE, LESION_IDS]
    prepare(Workspace(tmp_path / "out"), specification(), TASK, 1)
    maps = open_preprocessed(DATASET, "3d_fullres", "tiny").data_folder / "rw_maps"
    assert len(list((maps / INTERIOR_DISTANCE).glob("*/*.b2nd"))) == 6
    assert not (maps / LESION_IDS).exists()
    assert f"{DATASET}: 6 cases, 5 folds, maps of 6 cases written" in capsys.readouterr().out


def test_trainers_of_all_kinds_are_found(hippocampus, user_trainers):
    user_trainers("class RWTrainer_Mine(MapTrainer):\n    loss_terms = (Term('gsl'),)\n")
    names = ["nnUNetTrainer", "nnUNetTrainerDA5", "RWTrainer_Mine"]
    found = find_trainers(specification(trainers=names, epochs=3, iterations=2))
    assert list(found) == names
    assert found["RWTrainer_Mine"].__name__ == "RWTrainer_Mine_3epochs_2iterations_seed0"
    with pytest.raises(ValueError, match="finds no trainer 'RWTrainer_None'"):
        find_trainers(specification(trainers=["RWTrainer_None"]))


def test_dataset_that_is_gone(hippocampus, tmp_path):
    shutil.rmtree(hippocampus.root / "nnUNet_raw" / DATASET)
    assert not is_preprocessed(specification(), TASK)


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
