"""Recall at the baseline's false positives, from the curves that two evaluations left."""

import math

import pytest
from evaluation_folders import write_evaluation

from nnunet_rw.evaluation.compared_lesions import compare_froc, compare_sizes_at_matched_false_positives
from nnunet_rw.evaluation.comparison import compare_evaluations
from nnunet_rw.evaluation.evaluation_folder import read_evaluation
from nnunet_rw.report.comparison_files import write_comparison
from nnunet_rw.report.comparison_tables import terminal_text

# Found from these thresholds on; the last one never.
SCORES = {"nnUNetTrainer": (0.9, 0.6, 0.2, ""), "RWTrainer": (0.8, 0.7, 0.8, 0.3)}
VOLUMES_MM3 = (("a", 4), ("a", 40), ("a", 4), ("b", 4))
CASES = {"a": {"n_lesions": 3, "dice": 0.5}, "b": {"n_lesions": 1, "dice": 0.7}}
# Threshold, false positives a case, recall. At 0.5 the baseline has 1 a case and half of the four lesions.
BASELINE = [(math.inf, 0, 0), (0.9, 0, 0.25), (0.6, 1, 0.5), (0.2, 4, 0.75)]
# At most 1 a case down to 0.7, with three of the lesions.
CHALLENGER = [(math.inf, 0, 0), (0.8, 0.5, 0.5), (0.7, 1, 0.75), (0.3, 2, 1)]


@pytest.fixture
def folders(tmp_path):
    written = []
    for name, points in (("nnUNetTrainer", BASELINE), ("RWTrainer", CHALLENGER)):
        lesions = [
            (case, volume, 1, 1, "matched", "1", score)
            for (case, volume), score in zip(VOLUMES_MM3, SCORES[name], strict=True)
        ]
        folder = write_evaluation(tmp_path / name, CASES, lesions, name=name)
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
    assert "Lesions by size at the baseline's false positives per case" in terminal_text(comparison)
    written = write_comparison(comparison, tmp_path / "out")
    assert tmp_path / "out" / "froc.csv" in written
    rows = (tmp_path / "out" / "recall_by_size_at_equal_fp.csv").read_text().splitlines()
    assert len(rows) == 1 + len(comparison.matched_sizes)


def test_sizes_at_the_baselines_false_positives(folders):
    baseline, challenger = map(read_evaluation, folders)
    rows = compare_sizes_at_matched_false_positives(baseline, [challenger], (0, 10, math.inf), resamples=10)
    # At 1 false positive a case: the baseline at 0.6, the challenger at 0.7.
    assert [(row.size_from_mm3, row.size_to_mm3, row.lesions, row.cases, row.false_positives) for row in rows] == [
        (0, 10, 3, 2, 1),
        (10, math.inf, 1, 1, 1),
        (0, math.inf, 4, 2, 1),
    ]
    assert [row.baseline_recall for row in rows] == pytest.approx([1 / 3, 1, 2 / 4])
    assert [row.challenger_recall for row in rows] == pytest.approx([2 / 3, 1, 3 / 4])
    assert [row.difference for row in rows] == pytest.approx([1 / 3, 0, 1 / 4])
    # As the curve has it.
    (curve,) = compare_froc(baseline, [challenger])
    assert (rows[-1].baseline_recall, rows[-1].challenger_recall) == (curve.baseline_recall, curve.challenger_recall)
    assert rows[0].low <= rows[0].difference <= rows[0].high


def test_sizes_need_scores_of_both(folders):
    path = folders[0] / "lesions.csv"
    # As it was written before there were scores.
    path.write_text("".join(f"{line.rpartition(',')[0]}\n" for line in path.read_text().splitlines()))
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    assert comparison.froc
    assert comparison.matched_sizes == ()


def test_without_probabilities_of_both_there_is_none(folders, tmp_path):
    (folders[1] / "froc.csv").unlink()
    comparison = compare_evaluations(folders, metrics=["dice"], resamples=10)
    assert comparison.froc == ()
    assert "Recall at the baseline's" not in terminal_text(comparison)
    assert tmp_path / "out" / "froc.csv" not in write_comparison(comparison, tmp_path / "out")
