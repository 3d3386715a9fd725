"""What a trainer finds at the baseline's price, under a rule that other folds chose."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
from segmentation_files import write_dataset, write_model, write_probabilities

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.comparison.compare import compare_evaluations
from nnunet_rw.evaluation.comparison.lesions import compare_by_rules
from nnunet_rw.evaluation.comparison.tables import comparison_tables, terminal_text, write_comparison
from nnunet_rw.evaluation.evaluate import write_evaluation
from nnunet_rw.evaluation.folder import read_evaluation
from nnunet_rw.evaluation.metrics.rules import Outcomes
from nnunet_rw.evaluation.sources import cross_validation_source
from nnunet_rw.postprocessing.threshold.fit import fit_rules

CASES = ("a", "b", "c", "d")
TITLE = "By rules that other folds chose for no more false positives and no less Dice than the baseline has"


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
    assert (row.label, row.baseline, row.trainer) == ("1", "nnUNetTrainer", "RWTrainer")
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
    assert math.isnan(row.recall_gain)  # the baseline has no probabilities


@pytest.mark.parametrize(
    ("of_second_lesion", "rule", "found"), [(0.3, "above 0.25", 2), (0.0, "above 0.5", 1)], ids=["finds", "does not"]
)
def test_the_baseline_by_its_own_rule(sources, tmp_path, of_second_lesion, rule, found):
    """What a rule alone brings is not the trainer's: with it the baseline finds two lesions as well."""
    baseline = cross_validation_source("900", "3d_fullres", "nnUNetTrainer")
    for files in baseline.cases:
        probability = np.zeros((4, 6, 20), np.float32)
        probability[1, 1, 1:3], probability[1, 1, 6:8], probability[0, 4, 10] = 0.7, of_second_lesion, 0.2
        write_probabilities(files.prediction.with_name(f"{files.case}.npz"), np.stack([1 - probability, probability]))
    sources = [cross_validation_source("900", "3d_fullres", "nnUNetTrainer", probabilities=True), sources[1]]
    folders = [tmp_path / source.name for source in sources]
    for source, folder in zip(sources, folders, strict=True):
        write_evaluation(source, EvaluationSettings(fast=True), folder, processes=1)
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    of_baseline, row = comparison.rules
    assert [one.trainer for one in comparison.rules] == ["nnUNetTrainer", "RWTrainer"]
    assert str(of_baseline.rule) == rule
    assert (of_baseline.half_recall, of_baseline.recall) == pytest.approx((1 / 3, found / 3))
    assert math.isnan(of_baseline.recall_gain)
    assert (row.recall_difference, row.recall_gain) == pytest.approx((1 / 3, (2 - found) / 3))
    # Dice 0.8 of two lesions of three, 0.5 of one.
    assert (row.dice_difference, row.dice_gain) == pytest.approx((0.3, 0.3 * (2 - found)))
    (table,) = (table for table in comparison_tables(comparison) if table.title == TITLE)
    lines = [(line["trainer"], line["segmented"]) for line in table.records]
    assert lines[:3] == [("nnUNetTrainer", "as segmented"), ("nnUNetTrainer", rule), ("RWTrainer", "as segmented")]


def test_a_baseline_that_finds_more_without_its_rule(folders):
    """A rule that keeps the Dice may find less out of fold; then the baseline is taken as it was segmented."""
    evaluations = [read_evaluation(folder) for folder in folders]
    baseline = replace(evaluations[0], rules=evaluations[1].rules)
    outcomes = baseline.rules["1"].outcomes
    nothing = Outcomes(np.zeros_like(outcomes.found), *outcomes[1:])
    baseline = replace(baseline, rules={"1": replace(baseline.rules["1"], outcomes=nothing)})
    of_baseline, row = compare_by_rules(baseline, evaluations[1:])
    assert (of_baseline.recall, of_baseline.half_recall) == pytest.approx((0, 1 / 3))
    assert row.recall_gain == pytest.approx(1 / 3)


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
