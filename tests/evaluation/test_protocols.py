"""Scores of challenges, from the command to the comparison, and back from the folder."""

import json
import shutil

import numpy as np
import pytest
from evaluation_folders import write_evaluation as write_by_hand
from scored_masks import scored_masks
from segmentation_files import source_of

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.comparison.compare import compare_evaluations
from nnunet_rw.evaluation.comparison.metrics import METRICS
from nnunet_rw.evaluation.evaluate import evaluation_text, is_current, write_evaluation
from nnunet_rw.evaluation.folder import read_evaluation
from nnunet_rw.evaluation.metrics.brats import brats_scores
from nnunet_rw.evaluation.metrics.cc_metrics import cc_scores
from nnunet_rw.evaluation.protocols import CHALLENGES, PROTOCOL_COLUMNS, check_protocols

SPACING_MM = (3.0, 1.0, 0.5)
CASES = {f"case_{seed}": scored_masks(seed, (12, 14, 15), most=2.5) for seed in range(8)}
ARRAYS = {case: tuple(side.astype(np.uint8) for side in sides) for case, sides in CASES.items()}
PROBABILITIES = {case: np.stack([1 - 0.75 * pair[1], 0.75 * pair[1]]) for case, pair in ARRAYS.items()}
BOTH = EvaluationSettings(scores=("brats-met", "cc"), tolerance_mm=0.5)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return source_of(tmp_path_factory.mktemp("data"), ARRAYS, probabilities=PROBABILITIES)


@pytest.fixture(scope="module")
def scored(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    return folder, write_evaluation(source, BOTH, folder)


def test_scores_are_columns_of_every_case(scored):
    columns = read_evaluation(scored[0]).columns["1"]
    for index, (case, (reference, prediction)) in enumerate(CASES.items()):
        brats = brats_scores(reference, prediction, SPACING_MM, CHALLENGES["brats-met"])
        cc = cc_scores(reference, prediction, SPACING_MM, 0.5)
        expected = [brats.dice, brats.hd95_mm, *brats.nsd, cc.dice, cc.hd95_mm, cc.assd_mm, cc.nsd]
        assert [columns[name][index] for name in PROTOCOL_COLUMNS] == pytest.approx(expected, rel=1e-8), case


def test_summary_tells_means_and_options(scored):
    folder, summary = scored
    columns = read_evaluation(folder).columns["1"]
    for name in PROTOCOL_COLUMNS:
        assert summary["classes"]["1"]["metrics"][name]["mean"] == pytest.approx(columns[name].mean(), rel=1e-8)
    assert summary["settings"]["scores"] == {
        "brats-met": {
            "connectivity": 26,
            "dilation": 1,
            "ignored_up_to_mm3": 2,
            "penalty_mm": 374.0,
            "nsd_tolerances_mm": [0.5, 1.0],
        },
        "cc": {"connectivity": 26, "nearness": "voxels", "penalty": "image diagonal", "nsd_tolerance_mm": 0.5},
    }
    text = evaluation_text(summary)
    assert (
        "brats-met: connectivity 26, dilation 1, ignored_up_to_mm3 2, penalty_mm 374, nsd_tolerances_mm 0.5 and 1\n"
        "label       brats_dice     brats_hd95_mm" in text
    )


def test_scores_change_nothing_else(scored, source, tmp_path):
    write_evaluation(source, EvaluationSettings(tolerance_mm=0.5), tmp_path)
    with_scores, without = (read_evaluation(folder).columns["1"] for folder in (scored[0], tmp_path))
    assert set(with_scores) - set(without) == set(PROTOCOL_COLUMNS)
    for name, values in without.items():
        np.testing.assert_array_equal(values, with_scores[name])
    # Nobody evaluates again for less, only for more.
    plain = EvaluationSettings(tolerance_mm=0.5)
    assert is_current(source, plain, scored[0])
    assert is_current(source, BOTH, scored[0])
    assert not is_current(source, BOTH, tmp_path)
    comparison = compare_evaluations([scored[0], tmp_path], metrics=["dice"])
    assert comparison.metrics[0].difference == 0


def test_pooled_voxels_and_the_reliability_curve(scored):
    folder, summary = scored
    # Half of what is 0.75 and of what is 0 lies in the reference as counted here.
    reference, prediction = (np.concatenate([pair[side].ravel() for pair in CASES.values()]) for side in (0, 1))
    share, missed = reference[prediction].mean(), reference[~prediction].mean()
    pooled = summary["classes"]["1"]["pooled_voxels"]
    recall = (reference & prediction).sum() / reference.sum()
    assert pooled["average_precision"] == pytest.approx(recall * share + (1 - recall) * reference.mean())
    covered = prediction.mean()
    assert pooled["calibration_error"] == pytest.approx(covered * abs(share - 0.75) + (1 - covered) * missed)
    assert pooled["calibration_error_from_01"] == pytest.approx(abs(share - 0.75))
    rows = [line.split(",") for line in (folder / "reliability.csv").read_text().splitlines()[1:]]
    filled = [row for row in rows if row[3] != "0"]
    assert len(rows) == 15
    assert [float(row[4]) for row in filled] == [0, 0.75]
    assert [float(row[5]) for row in filled] == pytest.approx([missed, share], rel=1e-8)


def test_every_metric_can_be_compared(scored, source, tmp_path):
    write_evaluation(source, BOTH, tmp_path)
    comparison = compare_evaluations([scored[0], tmp_path], metrics=list(METRICS), resamples=20)
    assert [row.metric for row in comparison.metrics] == list(METRICS)
    assert {row.difference for row in comparison.metrics} == {0}


def test_precision_of_otherwise_rounded_probabilities_is_not_compared(scored, tmp_path):
    # Earlier versions did not tell how they rounded.
    shutil.copytree(scored[0], tmp_path / "earlier")
    summary = json.loads((tmp_path / "earlier" / "summary.json").read_text())
    del summary["settings"]["probability_values"]
    (tmp_path / "earlier" / "summary.json").write_text(json.dumps(summary))
    folders = [scored[0], tmp_path / "earlier"]
    assert compare_evaluations(folders, metrics=["dice"], resamples=20).metrics
    with pytest.raises(ValueError, match=r"Expected average_precision of equally rounded .*earlier was made"):
        compare_evaluations(folders, metrics=["average_precision"])


def test_what_an_evaluation_lacks_is_told_before_anything_is_compared(scored, tmp_path):
    folders = [write_by_hand(tmp_path / name, {f"case_{n}": {"dice": 0.5} for n in range(8)}) for name in ("a", "b")]
    for metric, option in (
        ("cc_dice", " with --scores cc."),
        ("brats_hd95_mm", " with --scores brats-...."),
        ("average_precision", " with --probabilities."),
        ("lesion_recall_50", "."),
    ):
        with pytest.raises(ValueError, match=metric) as info:
            compare_evaluations(folders, metrics=["dice", metric])
        assert str(info.value) == f"No {metric} in {folders[0]}. Evaluate again{option}"


def test_scores_of_two_challenges_are_not_compared(scored, source, tmp_path):
    write_evaluation(source, EvaluationSettings(scores=("brats-men",), tolerance_mm=0.5), tmp_path)
    with pytest.raises(ValueError, match=r"one challenge in all evaluations, but got brats-met in .* and brats-men in"):
        compare_evaluations([scored[0], tmp_path], metrics=["dice"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("bratz",), "Expected scores out of brats-gli, brats-men, brats-met, brats-ped, brats-ssa, cc, but got bratz"),
        (("brats-gli", "brats-met"), "those of one BraTS challenge, but got brats-gli, brats-met"),
        (("cc", "cc"), "Expected each score once"),
    ],
)
def test_unknown_and_conflicting_protocols(names, message):
    with pytest.raises(ValueError, match=message):
        check_protocols(names)
