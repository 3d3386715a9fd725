"""What trainings need: datasets by their names, arrays of every case, plans, splits and maps."""

import json
import shutil

import pytest
import torch
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_rw.benchmark.jobs import Task, Workspace
from nnunet_rw.benchmark.preparing import (
    check_patients,
    ensure_splits,
    find_task,
    folds_of,
    is_prepared,
    is_preprocessed,
    patient_splits,
    prepare,
    present_splits,
    read_splits,
    write_patient_splits,
)
from nnunet_rw.benchmark.run import Benchmark
from nnunet_rw.benchmark.specification import specification_of
from nnunet_rw.benchmark.training import find_trainers, needed_maps
from nnunet_rw.cli import main
from nnunet_rw.datasets.folders import open_preprocessed
from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE, INTERIOR_DISTANCE, LESION_IDS
from nnunet_rw.store.write import list_cases

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
    with pytest.raises(FileNotFoundError, match=r"No plans Mine in .* choose among small, nnUNetPlans"):
        prepare(Workspace(tmp_path / "out"), specification(plans="Mine"), TASK, 1)


def test_plans_of_the_user_are_preprocessed_by_and_kept(hippocampus, tmp_path, thread_pools):
    folder = hippocampus.preprocessed / DATASET
    path = folder / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    plans["configurations"]["2d"] |= {"batch_size": 7, "patch_size": [32, 40]}
    path.write_text(json.dumps(plans))
    before = path.read_bytes()
    shutil.rmtree(folder / "nnUNetPlans_2d")
    chosen = {"plans": "nnUNetPlans", "trainers": ["nnUNetTrainer"]}
    prepare(Workspace(tmp_path / "out"), specification(configuration="2d", **chosen), TASK, 1)
    assert is_prepared(specification(configuration="2d", **chosen), TASK)
    assert path.read_bytes() == before
    # Not planned anew for the sake of a configuration that they do not have, either.
    with pytest.raises(ValueError, match=rf"No configuration '3d_lowres' in {path}\. Known: 2d, 3d_fullres"):
        prepare(Workspace(tmp_path / "out"), specification(configuration="3d_lowres", **chosen), TASK, 1)
    assert path.read_bytes() == before


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


def test_a_task_may_be_a_folder(raw, tmp_path, monkeypatch):
    folder = msd_folder(tmp_path / "data" / "Task77_Own")
    assert find_task(str(folder), tmp_path) == Task("Task77_Own", "Dataset077_Own", folder)
    monkeypatch.chdir(folder.parent)
    assert find_task("Task77_Own", tmp_path).folder == folder


def test_a_task_s_folder_may_be_a_link(raw, tmp_path):
    stored = msd_folder(tmp_path / "store" / "4f2a")
    link = tmp_path / "data" / "Task77_Own"
    link.parent.mkdir()
    link.symlink_to(stored)
    assert find_task(str(link), tmp_path) == Task("Task77_Own", "Dataset077_Own", link)
    benchmark = Benchmark(tmp_path / "out", specification(tasks=[str(link)], trainers=["nnUNetTrainer"]))
    assert benchmark.specification.tasks == (str(link),)
    benchmark.workspace.keep(benchmark.specification)
    assert Benchmark(tmp_path / "out").tasks == benchmark.tasks


def test_an_archive_beside_a_dataset_is_none(raw, tmp_path):
    (raw / "Dataset007_Mine.zip").touch()
    assert find_task("Dataset007_Mine", tmp_path).dataset == "Dataset007_Mine"


def test_a_task_of_the_decathlon_with_and_without_download(raw, tmp_path):
    assert find_task("Task08_HepaticVessel", tmp_path) == Task("Task08_HepaticVessel", "Dataset008_HepaticVessel")
    downloaded = msd_folder(tmp_path / "Task08_HepaticVessel")
    assert find_task("Task08_HepaticVessel", tmp_path).folder == downloaded


def test_a_task_may_be_a_dataset_of_nnunet_raw(raw, tmp_path):
    assert find_task("Dataset007_Mine", tmp_path) == Task("Dataset007_Mine", "Dataset007_Mine")
    (raw / "Dataset007_Mine").rename(raw / "Dataset007_MS-Lesions")
    assert find_task("Dataset007_MS-Lesions", tmp_path).dataset == "Dataset007_MS-Lesions"
    with pytest.raises(FileNotFoundError, match=r"No dataset\.json in .*Dataset008_None"):
        find_task("Dataset008_None", tmp_path)


def test_an_unknown_task(raw, tmp_path):
    with pytest.raises(ValueError, match=r"Unknown task 'Task04_Hipocampus'\. .* Task04_Hippocampus,"):
        find_task("Task04_Hipocampus", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"No folder /nowhere/Task04_A of a task\..* --tasks, .* --msd"):
        find_task("/nowhere/Task04_A", tmp_path)


def test_a_number_that_belongs_to_another_dataset(raw, tmp_path):
    with pytest.raises(ValueError, match=r"would be Dataset007_Pancreas, but .* has Dataset007_Mine"):
        find_task("Task07_Pancreas", tmp_path)


@pytest.fixture
def data(hippocampus):
    return open_preprocessed(DATASET, "3d_fullres", "tiny")


def test_splits_are_nnunet_s_own_and_kept(data):
    assert ensure_splits(data) == 5
    path = data.dataset_folder / "splits_final.json"
    splits = json.loads(path.read_text())
    # The trainer writes the same where there are none.
    path.unlink()
    trainer = find_trainers(specification())["nnUNetTrainer"]
    plans = {**data.plans.plans, "continue_training": False}
    built = trainer(plans, "3d_fullres", 0, data.dataset_json, torch.device("cpu"))
    built.do_split()
    assert json.loads(path.read_text()) == splits

    path.write_text(json.dumps(splits[:2]))
    assert ensure_splits(data) == 2
    assert json.loads(path.read_text()) == splits[:2]


class TestGiven:
    @pytest.fixture
    def file(self, data, tmp_path):
        cases = sorted(list_cases(data.data_folder))
        path = tmp_path / "by_patient.json"
        path.write_text(json.dumps([{"train": cases[:2], "val": cases[2:]}, {"train": cases[2:], "val": cases[:2]}]))
        return path

    def test_they_are_those_of_the_trainings(self, data, file):
        assert ensure_splits(data, file) == 2
        path = data.dataset_folder / "splits_final.json"
        assert json.loads(path.read_text()) == json.loads(file.read_text())
        assert ensure_splits(data, file) == 2
        assert is_prepared(specification(splits={DATASET: str(file)}), TASK)
        assert is_prepared(specification(), TASK)

    def test_others_that_are_there_are_kept_and_refused(self, data, file):
        ensure_splits(data)
        path = data.dataset_folder / "splits_final.json"
        before = path.read_bytes()
        assert not is_prepared(specification(splits={DATASET: str(file)}), TASK)
        with pytest.raises(ValueError, match=r"has other splits than .*by_patient\.json\. Remove it, and what was"):
            ensure_splits(data, file)
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("[", "is no list of"),
            ("{}", "is no list of"),
            ("[]", "is no list of .* at least 1"),
            ("[{}]", "is no list of"),
            ('[{"train": ["a"], "val": 3}]', "is no list of"),
            ('[{"train": ["a"], "val": ["z"]}]', "Fold 0 of .* names 'z', which the dataset does not have"),
            ('[{"train": ["a"], "val": ["b"]}, {"train": ["a", "b"], "val": ["b"]}]', "Fold 1 of .* a case in both"),
            ('[{"train": ["a"], "val": []}]', "Fold 0 of .* has an empty part"),
        ],
    )
    def test_what_is_no_splits(self, tmp_path, content, message):
        path = tmp_path / "splits.json"
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_splits(path, ["a", "b"])

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"No splits in .*none\.json\. Correct 'splits'"):
            read_splits(tmp_path / "none.json", ["a"])


class TestByPatient:
    CASES = tuple(f"case_{number:02}" for number in range(20))
    GROUPS = {case: f"patient_{number // 3}" for number, case in enumerate(CASES)}  # noqa: RUF012

    def test_no_patient_is_in_both_parts_of_a_fold(self):
        splits = patient_splits(self.CASES, self.GROUPS)
        assert [len(fold["train"]) + len(fold["val"]) for fold in splits] == [20] * 5
        for fold in splits:
            train, val = ({self.GROUPS[case] for case in fold[part]} for part in ("train", "val"))
            assert val
            assert not train & val
        assert sorted(case for fold in splits for case in fold["val"]) == list(self.CASES)
        # nnU-Net's own would part them.
        own = generate_crossval_split(list(self.CASES), seed=12345, n_splits=5)
        assert any(
            {self.GROUPS[case] for case in fold["train"]} & {self.GROUPS[case] for case in fold["val"]} for fold in own
        )

    def test_too_few_patients(self):
        with pytest.raises(ValueError, match="Expected at least 5 patients for 5 folds, but got 2"):
            patient_splits("abcdef", dict(zip("abcdef", "pppqqq", strict=True)))
        with pytest.raises(ValueError, match="No patient for case 'f'"):
            patient_splits("abcdef", dict(zip("abcde", "pqrst", strict=True)))

    def test_other_splits_are_not_overwritten_unasked(self, data, tmp_path, capsys):
        cases = sorted(list_cases(data.data_folder))
        groups = {case: f"patient_{number % 3}" for number, case in enumerate(cases)}
        path = data.dataset_folder / "splits_final.json"
        path.unlink(missing_ok=True)
        assert write_patient_splits(data, groups, 3) == path
        assert json.loads(path.read_text()) == patient_splits(cases, groups, 3)
        write_patient_splits(data, groups, 3)  # the same once more
        kept = path.read_text()
        with pytest.raises(FileExistsError, match=r"splits_final.json has other splits already. Give --overwrite"):
            write_patient_splits(data, groups, 2)
        assert path.read_text() == kept
        file = tmp_path / "groups.csv"
        file.write_text("\n".join(["case,patient", *(f"{case},{patient}" for case, patient in groups.items())]))
        options = ["splits", "-d", DATASET, "-p", "tiny", "--groups", str(file), "--folds", "2"]
        assert main(options) == 2
        assert "Give --overwrite" in capsys.readouterr().err
        assert main([*options, "--overwrite"]) == 0
        assert len(json.loads(path.read_text())) == 2
        assert present_splits(DATASET) == json.loads(path.read_text())

    def test_a_benchmark_with_patients_splits_by_them(self, data):
        path = data.dataset_folder / "splits_final.json"
        path.unlink(missing_ok=True)
        cases = sorted(list_cases(data.data_folder))
        groups = {case: f"patient_{number // 2}" for number, case in enumerate(cases)}
        if len(set(groups.values())) < 5:
            groups = {case: case for case in cases}
        assert ensure_splits(data, groups=groups) == 5
        assert json.loads(path.read_text()) == patient_splits(cases, groups)

    def test_splits_that_mix_patients_are_refused(self, data, tmp_path):
        ensure_splits(data)
        path = data.dataset_folder / "splits_final.json"
        before = path.read_bytes()
        # Of nnU-Net's own folds the first validates on two of six cases; all are of one patient.
        groups = dict.fromkeys(list_cases(data.data_folder), "p1")
        message = (
            rf"Fold 0 of {path} has patient 'p1' in both parts\. Remove it and what .* nnunet-rw splits -d {DATASET}"
        )
        with pytest.raises(ValueError, match=message):
            ensure_splits(data, groups=groups)
        file = tmp_path / "patients.csv"
        file.write_text("case,patient\n" + "".join(f"{case},{patient}\n" for case, patient in groups.items()))
        with pytest.raises(ValueError, match=message):
            check_patients(specification(groups=str(file)), [TASK])
        check_patients(specification(), [TASK])
        # The benchmark's own splits too.
        given = tmp_path / "given.json"
        given.write_bytes(before)
        with pytest.raises(ValueError, match=rf"Fold 0 of {given} has patient 'p1' in both parts\. Correct it"):
            ensure_splits(data, given, groups)
        assert path.read_bytes() == before

    def test_a_benchmark_is_refused_before_it_writes(self, data, tmp_path, capsys):
        ensure_splits(data)
        file = tmp_path / "patients.csv"
        file.write_text("case,patient\n" + "".join(f"{case},p1\n" for case in list_cases(data.data_folder)))
        options = ["--trainers", "nnUNetTrainer", "--plans", "tiny", "--device", "cpu", "--groups", str(file)]
        assert main(["benchmark", "--tasks", DATASET, *options, "-o", str(tmp_path / "out")]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
        assert not (tmp_path / "out").exists()

    def test_whose_the_folds_are(self, data):
        cases = sorted(list_cases(data.data_folder))
        path = data.dataset_folder / "splits_final.json"
        assert folds_of(DATASET, (0,), None) == ""
        ensure_splits(data)
        assert folds_of(DATASET, (0, 1), None) == "nnU-Net"
        # Each case of a patient of its own: any splits part them.
        assert folds_of(DATASET, (0, 1), {case: case for case in cases}) == "patients"
        assert folds_of(DATASET, (0, 1), dict.fromkeys(cases, "p1")) == "nnU-Net"
        path.write_text(json.dumps([{"train": cases[:3], "val": cases[3:]}, {"train": cases[1:], "val": cases[:1]}]))
        assert folds_of(DATASET, (0,), None) == "authors"
        groups = {case: "p1" if case in cases[:2] else case for case in cases}
        assert folds_of(DATASET, (0,), groups) == "patients"
        assert folds_of(DATASET, (0, 1), groups) == "authors"
        assert folds_of(DATASET, (2,), groups) == ""
