"""Splits of a benchmark's tasks: nnU-Net's own, or given ones."""

import json

import pytest
import torch

from nnunet_rw.benchmark.preparing import ensure_splits, is_prepared, read_splits
from nnunet_rw.benchmark.specification import specification_of
from nnunet_rw.benchmark.tasks import Task
from nnunet_rw.benchmark.trainers import find_trainers
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
