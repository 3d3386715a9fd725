from pathlib import Path

import pytest

from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.postprocessing.predictions import _beside, paired_cases, trained_model_of

LABELS = {"labels": {"background": 0, "lesion": 1}}


def source(name, folds, dataset_json=LABELS):
    """A model with the given cases by fold; no file is read."""
    files = []
    for fold, cases in folds.items():
        folder = Path("/results") / name / f"fold_{fold}" / "validation"
        files += [CaseFiles(case, Path(case), folder / f"{case}.nii.gz", folder / f"{case}.npz") for case in cases]
    return Source(name, files, [], dataset_json, Path("/results") / name)


def test_folds_of_the_cross_validation():
    cases = paired_cases([source("a", {0: "xy", 1: "z"}), source("b", {1: "z", 0: "yx"})])
    assert [(case.case, case.fold) for case in cases] == [("x", "fold_0"), ("y", "fold_0"), ("z", "fold_1")]
    assert [files.prediction.parts[2] for files in cases[2].files] == ["a", "b"]


def test_a_single_fold_is_split_evenly():
    cases = paired_cases([source("a", {0: "abcdefg"}), source("b", {0: "gfedcba"})], num_splits=3)
    sizes = sorted([case.fold for case in cases].count(f"split_{number}") for number in range(3))
    assert sizes == [2, 2, 3]


def test_the_split_depends_on_names_and_seed_alone():
    def folds(order, seed=0):
        cases = paired_cases([source("a", {0: order}), source("b", {0: order})], seed=seed)
        return {case.case: case.fold for case in cases}

    assert folds("abcdefgh") == folds("hgfedcba")
    assert folds("abcdefgh") != folds("abcdefgh", seed=1)


def test_cases_of_a_patient_are_split_together():
    patients = dict(zip("abcdefg", "1122334", strict=True))
    cases = paired_cases([source("m", {0: "abcdefg"})], num_splits=3, groups=patients)
    assert [case.unit for case in cases] == list("1122334")
    assert len({case.fold for case in cases}) == 3
    folds = {case.unit: set() for case in cases}
    for case in cases:
        folds[case.unit].add(case.fold)
    assert all(len(of_patient) == 1 for of_patient in folds.values())
    with pytest.raises(ValueError, match=r"^Expected two or more patients to fit and test on, but got 1\."):
        paired_cases([source("m", {0: "ab"})], groups={"a": "1", "b": "1"})
    with pytest.raises(ValueError, match=r"^No patient for case 'c'"):
        paired_cases([source("m", {0: "abc"})], groups={"a": "1", "b": "2"})


def test_no_more_splits_than_cases():
    cases = paired_cases([source("a", {0: "xy"}), source("b", {0: "xy"})])
    assert {case.fold for case in cases} == {"split_0", "split_1"}


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (source("a", {0: "xy"}), "every model once, but got a, a"),
        (source("b", {0: "xz"}), "a has 2 and b 2; y, z only in one"),
        (source("b", {1: "xy"}), "case 'x' in the same fold of all models, but got fold_0 and fold_1"),
        (source("b", {0: "xy", 1: "y"}), "every case of b in one fold"),
        (source("b", {"all": "xy"}), "cases that b was not trained on, but its fold_all was"),
        (source("b", {0: "xy"}, {"labels": {"background": 0, "other": 1}}), "same labels of all models, but a and b"),
    ],
)
def test_refuses(second, message):
    with pytest.raises(ValueError, match=message):
        paired_cases([source("a", {0: "xy"}), second])


def test_one_model():
    assert [case.fold for case in paired_cases([source("a", {0: "x", 1: "y"})])] == ["fold_0", "fold_1"]


def test_no_model():
    with pytest.raises(ValueError, match="every model once, but got none"):
        paired_cases([])


def test_one_case():
    with pytest.raises(ValueError, match="two or more cases to fit and test on, but got 1"):
        paired_cases([source("a", {0: "x"}), source("b", {0: "x"})])


def test_one_split():
    with pytest.raises(ValueError, match="two or more splits, but got 1"):
        paired_cases([source("a", {0: "xy"}), source("b", {0: "xy"})], num_splits=1)


def test_a_folder_directly_under_the_root_is_no_model_s():
    assert trained_model_of(Path("/predictions")) is None
    assert _beside(Path("/predictions"), "no plans.json of this name") is None
    inside = Path("/results/RWTrainer__nnUNetPlans__2d/fold_0/validation")
    assert trained_model_of(inside) == ("RWTrainer", "nnUNetPlans", "2d")
