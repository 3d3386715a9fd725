"""What a trainer finds with no more false positives than the baseline has."""

import csv
import math

import pytest
from evaluation_folders import write_evaluation

from nnunet_rw.evaluation.comparison.compare import compare_evaluations
from nnunet_rw.evaluation.comparison.lesions import compare_at_equal_false_positives
from nnunet_rw.evaluation.comparison.tables import terminal_text, write_comparison
from nnunet_rw.evaluation.folder import read_evaluation

CASES = {"a": {"n_lesions": 3, "dice": 0.5}, "b": {"n_lesions": 1, "dice": 0.7}}
LESIONS = [("a", 20, 1, 1), ("a", 10, 0, 0, "missed"), ("a", 10, 0, 0, "missed"), ("b", 30, 1, 1)]
# The baseline's two false positives are 1 a case.
PREDICTED = [("a", 20, 1, 1), ("a", 4, 0, 0, "false_positive"), ("b", 30, 1, 1), ("b", 4, 0, 0, "false_positive")]
# Threshold, false positives per case, recall, precision, F1, Dice.
POINTS = [(0.9, 0, 0.25, 1, 0.4, 0.4), (0.7, 1, 0.75, 0.6, 0.667, 0.65), (0.5, 2, 1, 0.5, 0.667, 0.6)]
TITLE = "Recall with no more false positives than the baseline, at a threshold chosen on these same cases"


def write_points(folder, points):
    rows = [",".join(map(str, ("1", *point))) for point in points]
    header = "label,threshold,false_positives_per_case,recall,precision,f1,dice"
    (folder / "operating_points.csv").write_text("\n".join([header, *rows, ""]))


@pytest.fixture
def folders(tmp_path):
    written = [
        write_evaluation(tmp_path / name, CASES, LESIONS, PREDICTED, name) for name in ("nnUNetTrainer", "RWTrainer")
    ]
    write_points(written[1], POINTS)
    return written


def rows(folders):
    baseline, *challengers = map(read_evaluation, folders)
    return compare_at_equal_false_positives(baseline, challengers)


def test_lowest_threshold_within_the_baselines_false_positives(folders):
    (row,) = rows(folders)
    assert (row.label, row.baseline, row.challenger) == ("1", "nnUNetTrainer", "RWTrainer")
    assert (row.false_positives, row.baseline_recall, row.baseline_dice) == (1, 0.5, 0.6)
    assert (row.threshold, row.challenger_false_positives) == (0.7, 1)
    assert (row.challenger_recall, row.challenger_dice) == (0.75, 0.65)


def test_who_marks_too_much_at_every_threshold_finds_nothing_at_that_price(folders):
    write_points(folders[1], [(0.9, 3, 1, 0.5, 0.667, 0.2), (0.5, 0.5, 1, 0.8, 0.9, 0.1)])
    (row,) = rows(folders)
    assert row.false_positives == 1
    assert math.isnan(row.threshold)
    assert math.isnan(row.challenger_recall)
    text = terminal_text(compare_evaluations(folders, metrics=["dice"], resamples=10))
    line = text[text.index(TITLE) :].splitlines()[4]
    assert line.split()[:3] == ["RWTrainer", "none", "1.00"]


def test_a_table_and_a_file(folders, tmp_path):
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    text = terminal_text(comparison)
    assert text[text.index(TITLE) :].splitlines()[4].split() == (
        ["RWTrainer", "0.7", "1.00", "1.00", "0.500", "0.750", "0.600", "0.650"]
    )
    assert tmp_path / "out" / "equal_false_positives.csv" in write_comparison(comparison, tmp_path / "out")
    with open(tmp_path / "out" / "equal_false_positives.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["challenger"], row["threshold"], row["challenger_recall"]) == ("RWTrainer", "0.7", "0.75")


def test_without_probabilities_there_is_none(folders, tmp_path):
    write_comparison(compare_evaluations(folders, metrics=["dice"], resamples=10), tmp_path / "out")
    (folders[1] / "operating_points.csv").unlink()
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    assert comparison.matched == ()
    assert TITLE not in terminal_text(comparison)
    assert tmp_path / "out" / "equal_false_positives.csv" not in write_comparison(comparison, tmp_path / "out")
    assert not (tmp_path / "out" / "equal_false_positives.csv").exists()
