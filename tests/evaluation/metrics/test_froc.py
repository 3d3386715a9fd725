import numpy as np
import pytest
from lesion_references import components, line, match, random_boxes

from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.probabilities import (
    average_recall,
    average_recall_up_to,
    candidates,
    froc_curve,
    recall_at,
)

SPACING_MM = (0.5, 2.0, 3.0)


def case(reference, prediction, *scores, **options):
    """A case whose predicted lesions have these scores, from left to right."""
    mask = line(prediction)
    score = np.zeros(mask.shape)
    for lesion, value in zip(sorted(components(mask), key=lambda m: np.argwhere(m)[0].tolist()), scores, strict=True):
        score[lesion] = value
    return match_lesions(line(reference), mask, SPACING_MM, score=score, **options)


@pytest.fixture
def curve():
    # Case 1: found at 0.9, at 0.3, and missed; a false positive of 0.6. Case 2 has no lesion, false are 0.8 and 0.2.
    first = case("##..##..##...", "##..##.....##", 0.9, 0.3, 0.6)
    second = case("....", "#..#", 0.8, 0.2)
    return froc_curve([first, second])


def test_curve_by_hand(curve):
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.6, 0.3, 0.2]
    assert curve.false_positives.tolist() == [0, 0, 0.5, 1, 1, 1.5]  # of two cases
    assert curve.recall.tolist() == [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert (curve.num_cases, curve.num_lesions) == (2, 3)


def test_recall_is_a_staircase(curve):
    assert recall_at(curve).tolist() == [1 / 3] * 3 + [2 / 3] * 4  # 1/8, 1/4, 1/2; 1, 2, 4, 8
    assert recall_at(curve, [0, 0.99, 1, 1e9]).tolist() == [1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert average_recall(curve) == pytest.approx((3 / 3 + 4 * 2 / 3) / 7)
    # 1/3 from 0 to 1, 2/3 from 1 to 5, beyond the curve's end at 1.5.
    assert average_recall_up_to(curve) == pytest.approx((1 / 3 + 4 * 2 / 3) / 5)
    assert average_recall_up_to(curve, 0.5) == pytest.approx(1 / 3)
    assert average_recall_up_to(curve, 2) == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_lesion_is_found_at_the_highest_score_that_touches_it():
    curve = froc_curve([case("######", "##..##", 0.4, 0.7)])
    assert curve.thresholds.tolist() == [np.inf, 0.7]
    assert curve.recall.tolist() == [0, 1]
    assert curve.false_positives.tolist() == [0, 0]


def test_ignored_and_neutral_lesions_count_nowhere():
    # A voxel has 3 mm3, lesions below 6 are ignored.
    curve = froc_curve([case("#..##", "#..##", 0.9, 0.5, min_volume_mm3=6)])
    assert curve.thresholds.tolist() == [np.inf, 0.5]
    assert curve.recall.tolist() == [0, 1]
    assert (curve.false_positives.tolist(), curve.num_lesions) == ([0, 0], 1)


def test_without_a_lesion_or_a_prediction():
    curve = froc_curve([case("....", "#..#", 0.5, 0.7)])
    assert np.isnan([*curve.recall, average_recall(curve), average_recall_up_to(curve)]).all()
    assert curve.false_positives.tolist() == [0, 1, 2]
    curve = froc_curve([case("##..", "....")])
    assert (curve.thresholds.tolist(), curve.recall.tolist()) == ([np.inf], [0])
    assert average_recall(curve) == average_recall_up_to(curve) == 0


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_leaving_out_lesions_below_each_threshold(seed):
    cases, slow = [], []
    for number in range(3):
        reference, prediction = random_boxes(10 * seed + number, shape=(18, 16, 14), count=10)
        # Few values, so that lesions share their score.
        score = np.random.default_rng(seed).integers(0, 40, prediction.shape) / 40
        minimum = 4 * np.prod(SPACING_MM)
        cases.append(match_lesions(reference, prediction, SPACING_MM, min_volume_mm3=minimum, score=score))
        slow.append((reference, prediction, score, minimum))
    curve = froc_curve(cases)
    for threshold, false_positives, recall in zip(curve.thresholds, curve.false_positives, curve.recall, strict=True):
        references, predictions = [], []
        for reference, prediction, score, minimum in slow:
            left = np.zeros_like(prediction)
            for lesion in components(prediction):
                left |= lesion & (score[lesion].max() >= threshold)
            found = match(reference, left, SPACING_MM, min_volume_mm3=minimum)
            references += [lesion["hit"] for lesion in found[0] if lesion["counted"]]
            predictions += [lesion["kind"] == "false_positive" for lesion in found[1]]
        assert recall == pytest.approx(np.mean(references))
        assert false_positives == pytest.approx(sum(predictions) / 3)

    budgets = np.linspace(0, 12, 200)
    assert np.all(np.diff(recall_at(curve, budgets)) >= 0)
    assert np.all(np.diff(curve.thresholds) < 0)
    assert average_recall_up_to(curve, 12) == pytest.approx(
        recall_at(curve, np.linspace(0, 12, 200_001)).mean(), abs=1e-4
    )
    backwards = froc_curve(cases[::-1])
    for field in ("thresholds", "false_positives", "recall"):
        np.testing.assert_array_equal(getattr(curve, field), getattr(backwards, field))


def test_candidates():
    probability = np.array([[0.1, 0.11, 0.5], [0.6, 0, 1]], np.float32)
    assert candidates(probability).tolist() == [[False, True, True], [True, False, True]]
    assert candidates(probability, 0.5).tolist() == [[False, False, False], [True, False, True]]
    for threshold in (-0.1, 1, float("nan")):
        with pytest.raises(ValueError, match="threshold from 0 to below 1"):
            candidates(probability, threshold)
    with pytest.raises(ValueError, match="Expected probabilities, but got NaN"):
        candidates(np.array([[0.5, np.nan]]))


def test_wrong_input_is_refused(curve):
    with pytest.raises(ValueError, match="at least one case"):
        froc_curve([])
    with pytest.raises(ValueError, match=r"with a score, but got NaN\. Call match_lesions with score"):
        froc_curve([match_lesions(line("#"), line("#"), SPACING_MM)])
    with pytest.raises(ValueError, match="false positives of at least 0 per case"):
        recall_at(curve, [-1.0])
    for most in (0, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"more than 0 false positives per case, but got {most}"):
            average_recall_up_to(curve, most)
