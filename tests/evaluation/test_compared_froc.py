"""Recall at the baseline's false positives, from the curves that two evaluations left."""

import math

import pytest
from evaluation_folders import write_evaluation

from nnunet_rw.evaluation.compared_lesions import compare_froc
from nnunet_rw.evaluation.comparison import compare_evaluations
from nnunet_rw.evaluation.evaluation_folder import read_evaluation
from nnunet_rw.report.comparison_files import write_comparison
from nnunet_rw.report.comparison_tables import terminal_text

CASES = {"a": {"n_lesions": 3, "dice": 0.5}, "b": {"n_lesions": 1, "dice": 0.7}}
# Threshold, false positives a case, recall. At 0.5 the baseline has 1 a case and half of the four lesions.
BASELINE = [(math.inf, 0, 0), (0.9, 0, 0.25), (0.6, 1, 0.5), (0.2, 4, 0.75)]
# At most 1 a case down to 0.7, with three of the lesions.
CHALLENGER = [(math.inf, 0, 0), (0.8, 0.5, 0.5), (0.7, 1, 0.75), (0.3, 2, 1)]


@pytest.fixture
def folders(tmp_path):
    written = []
    for name, points in (("nnUNetTrainer", BASELINE), ("RWTrainer", CHALLENGER)):
        folder = write_evaluation(tmp_path / name, CASES, name=name)
        rows = [f"1,{threshold},{false},{recall}" for threshold, false, recall in points]
        (folder / "froc.csv").write_text("\n".join(["label,threshold,false_positives_per_case,recall", *rows, ""]))
        written.append(folder)
    return written


def test_recall_at_the_baselines_false_positives(folders):
    baseline, challenger = map(read_evaluation, folders)
    (row,) = compare_froc(baseline, [challenger])
    assert (row.label, row.baseline, row.challenger) == ("1", "nnUNetTrainer", "RWTrainer")
    assert (row.false_positives, row.baseline_recall, row.challenger_recall) == (1, 0.5, 0.75)
    # At 1/8, 1/4, 1/2, 1, 2, 4, 8.
    assert row.baseline_average == pytest.approx((3 * 0.25 + 2 * 0.5 + 2 * 0.75) / 7)
    assert row.challenger_average == pytest.approx((0 + 0 + 0.5 + 0.75 + 3 * 1) / 7)


def test_a_table_and_a_file(folders, tmp_path):
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    assert "Recall at the baseline's false positives per case" in terminal_text(comparison)
    assert tmp_path / "out" / "froc.csv" in write_comparison(comparison, tmp_path / "out")


def test_without_probabilities_of_both_there_is_none(folders, tmp_path):
    (folders[1] / "froc.csv").unlink()
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    assert comparison.froc == ()
    assert "Recall at the baseline's" not in terminal_text(comparison)
    assert tmp_path / "out" / "froc.csv" not in write_comparison(comparison, tmp_path / "out")
