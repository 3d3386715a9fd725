"""Splits of a benchmark's tasks: nnU-Net's own, or given ones."""

import json

import pytest
import torch
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_rw.benchmark.jobs import Task
from nnunet_rw.benchmark.preparing import (
    ensure_splits,
    is_prepared,
    patient_splits,
    present_splits,
    read_splits,
    write_patient_splits,
)
from nnunet_rw.benchmark.specification import specification_of
from nnunet_rw.benchmark.training import find_trainers
from nnunet_rw.cli import main
from nnunet_rw.datasets.folders import open_preprocessed
from nnunet_rw.store.write import list_cases

DATASET = "Dataset004_Hippocampus"
TASK = Task(DATASET, DATASET)


def specification(**changes):
    values = {"tasks": [DATASET], "trainers": ["nnUNetTrainer", "RWTrainer"], "plans": "tiny", "device": "cpu"}
    return specification_of({**values, **changes}, "here")


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
