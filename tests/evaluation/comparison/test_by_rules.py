"""What a trainer finds at the baseline's price, under a rule that other folds chose."""

import csv
import math

import numpy as np
import pytest
from segmentation_files import write_dataset, write_model, write_probabilities

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.comparison.compare import compare_evaluations
from nnunet_rw.evaluation.comparison.tables import terminal_text, write_comparison
from nnunet_rw.evaluation.evaluate import write_evaluation
from nnunet_rw.evaluation.folder import read_evaluation
from nnunet_rw.evaluation.sources import cross_validation_source
from nnunet_rw.postprocessing.threshold.fit import fit_rules

CASES = ("a", "b", "c", "d")
TITLE = "With no more false positives and no less Dice than the baseline, by rules that other folds chose"


@pytest.fixture
def sources(nnunet):
    """Two folds of two cases of three lesions: the baseline finds one; the other one more, and a false one below it."""
    reference = np.zeros((4, 6, 20), np.uint8)
    reference[1, 1, 1:3] = reference[1, 1, 6:8] = reference[3, 4, 15:17] = 1
    write_dataset(nnunet, dict.fromkeys(CASES, reference), [list(CASES[:2]), list(CASES[2:])])
    one = np.zeros_like(reference)
    one[1, 1, 1:3] = 1
    probability = np.zeros(reference.shape, np.float32)
    for value, box in ((0.9, np.s_[1, 1, 1:3]), (0.7, np.s_[1, 1, 6:8]), (0.6, np.s_[0, 4, 10])):
        probability[box] = value
    for trainer, prediction in (("nnUNetTrainer", one), ("RWTrainer", (probability > 0.5).astype(np.uint8))):
        folds = {fold: dict.fromkeys(CASES[2 * fold : 2 * fold + 2], prediction) for fold in (0, 1)}
        folder = write_model(nnunet, trainer, folds)
    for fold, cases in folds.items():
        for case in cases:
            path = folder / f"fold_{fold}" / "validation" / f"{case}.npz"
            write_probabilities(path, np.stack([1 - probability, probability]))
    return [
        cross_validation_source("900", "3d_fullres", trainer, probabilities=trainer == "RWTrainer")
        for trainer in ("nnUNetTrainer", "RWTrainer")
    ]


@pytest.fixture
def folders(sources, tmp_path):
    folders = [tmp_path / source.name for source in sources]
    for source, folder in zip(sources, folders, strict=True):
        write_evaluation(source, EvaluationSettings(fast=True), folder, processes=1)
    return folders


def test_a_row_by_hand(folders):
    (row,) = compare_evaluations(folders, metrics=["dice"], resamples=10).rules
    assert (row.label, row.baseline, row.challenger) == ("1", "nnUNetTrainer", "RWTrainer")
    # The false positive of 0.6 must go, the lesion of 0.7 be kept: from 0.6 to 0.675, the middle.
    assert (row.family, str(row.rule)) == ("single", "above 0.65")
    assert (row.folds, row.rules_in_folds) == (2, 1)
    # Of three lesions of two voxels one is found, and two: F1 2/4 and 4/5, Dice 4/8 and 8/10.
    assert (row.allowed, row.baseline_recall, row.baseline_f1, row.baseline_dice) == pytest.approx((0, 1 / 3, 0.5, 0.5))
    # As segmented with a false positive of a voxel: F1 4/6, Dice 8/11.
    assert (row.half_false_positives, row.half_recall) == pytest.approx((1, 2 / 3))
    assert (row.half_f1, row.half_dice) == pytest.approx((2 / 3, 8 / 11))
    assert (row.false_positives, row.recall, row.f1, row.dice) == pytest.approx((0, 2 / 3, 0.8, 0.8))
    assert (row.recall_difference, row.dice_difference) == pytest.approx((1 / 3, 0.3))
    assert math.isnan(row.recall_low)  # of four cases


def test_the_same_as_the_command_that_fits_rules(sources, folders):
    (row,) = compare_evaluations(folders, metrics=["dice"], resamples=10).rules
    best = fit_rules(sources[1], sources[0], processes=1).choice.best
    assert (best.rule, best.family) == (row.rule, row.family)
    found = [float(value) for value in best.figures]
    assert (row.false_positives, row.recall, row.f1, row.dice) == pytest.approx(found)


def test_a_table_and_a_file(folders, tmp_path):
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    text = terminal_text(comparison)
    assert TITLE in text
    assert "at a threshold chosen on these same cases" not in text
    write_comparison(comparison, tmp_path / "out")
    with open(tmp_path / "out" / "rules.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["family"], row["low"], row["recall_low"]) == ("single", "0.65", "")


def test_no_rule_keeps_within(sources, tmp_path):
    # Its Dice of 0 is below the baseline's at every rule.
    for files in sources[1].cases:
        nothing = np.zeros((2, 4, 6, 20), np.float32)
        nothing[0] = 1
        write_probabilities(files.probabilities, nothing)
    folders = [tmp_path / source.name for source in sources]
    for source, folder in zip(sources, folders, strict=True):
        write_evaluation(source, EvaluationSettings(fast=True), folder, processes=1)
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    (row,) = comparison.rules
    assert (row.family, row.rule) == ("", None)
    assert math.isnan(row.recall)
    assert "none keeps within" in terminal_text(comparison)


def test_without_the_rules_of_an_evaluation_the_same_cases_choose(folders):
    summary = folders[1] / "summary.json"
    summary.write_text(summary.read_text().replace('"rules.npz"', '"other"'))
    (folders[1] / "rules.npz").unlink()
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    assert comparison.rules == ()
    assert "at a threshold chosen on these same cases" in terminal_text(comparison)


def test_damaged_rules_are_told(folders):
    path = folders[1] / "rules.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"rules\.npz is not as it was written"):
        read_evaluation(folders[1])
    summary = folders[1] / "summary.json"
    summary.write_text(summary.read_text().replace('"rules.npz"', '"other"'))
    with pytest.raises(ValueError, match=r"rules\.npz holds no rules of an evaluation"):
        read_evaluation(folders[1])
