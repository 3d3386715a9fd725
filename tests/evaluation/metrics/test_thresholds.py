from itertools import pairwise

import numpy as np
import pytest
from lesion_references import line, random_boxes
from scipy.ndimage import gaussian_filter

from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.overlap import overlap
from nnunet_rw.evaluation.metrics.probabilities import THRESHOLDS, OperatingPoints
from nnunet_rw.evaluation.metrics.rules import DecisionRule, operating_points, rule_case

SPACING_MM = (0.5, 2.0, 3.0)


def column(*values):
    """Probabilities of the column x = y = 1, from z = 0 on."""
    probability = np.zeros((3, 3, len(values)))
    probability[1, 1] = values
    return probability


def alone(case, threshold):
    """The case at a single threshold, lesions found by any overlap."""
    return case.decided(DecisionRule(threshold, threshold), "any_overlap")


def at(points, threshold, name):
    return getattr(points, name)[THRESHOLDS.index(threshold)]


@pytest.fixture
def points():
    # Two lesions, of a highest probability of 0.9 and 0.3, and a false positive of 0.6.
    first = rule_case(line("##.#...#"), column(0.9, 0.2, 0, 0.3, 0, 0.6, 0, 0), SPACING_MM)
    # No lesion; one false positive above 0.5, which below is joined by what is beside it, and another.
    second = rule_case(line("....."), column(0.8, 0.4, 0.2, 0, 0.3), SPACING_MM)
    return operating_points([first, second])


def test_points_by_hand(points):
    # 0.5: one lesion of three is found, half of it; one false positive in either case.
    assert at(points, 0.5, "recall") == pytest.approx(1 / 3)
    assert at(points, 0.5, "false_positives") == 1
    assert at(points, 0.5, "precision") == pytest.approx(1 / 3)
    assert at(points, 0.5, "f1") == pytest.approx(1 / 3)
    assert at(points, 0.5, "dice") == pytest.approx((2 * 1 / (2 + 4) + 0) / 2)
    # 0.25: two are found; in the second case 0.8 and 0.4 are one component, 0.3 another.
    assert at(points, 0.25, "recall") == pytest.approx(2 / 3)
    assert at(points, 0.25, "false_positives") == 3 / 2
    assert at(points, 0.25, "precision") == pytest.approx(2 / 5)
    # 0.975: nothing is segmented, and the second case's Dice undefined.
    assert [at(points, 0.975, name) for name in ("recall", "false_positives", "f1", "dice")] == [0, 0, 0, 0]
    assert np.isnan(at(points, 0.975, "precision"))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_probability_of_the_threshold_is_background(kind):
    for threshold, below in pairwise(THRESHOLDS):
        probability = column(threshold).astype(kind)
        if kind(threshold) != np.float32(threshold):
            continue
        case = rule_case(line("#"), probability, SPACING_MM)
        assert [alone(case, value).found.tolist() for value in (threshold, below)] == [[False], [True]]
        assert [alone(case, value).right for value in (threshold, below)] == [0, 1]


def test_best_threshold_within_a_price(points):
    # At 0.25 the second case has two. From 0.85 to 0.3 one lesion of three is found, and a Dice of 0.4 in the first
    # case is a mean of 0.4 as long as nothing is segmented in the second, so from 0.8 on.
    assert points.thresholds[points.within(1)] == 0.8
    assert points.thresholds[points.within(0)] == 0.8
    assert points.within(100) == len(THRESHOLDS) - 1  # two found; below 0.2 one more of their voxels


def curve(false_positives, recall, dice):
    thresholds = np.linspace(0.9, 0.3, len(false_positives))
    return OperatingPoints(thresholds, *np.array([false_positives, recall, np.zeros(len(recall)), dice], float))


def test_a_threshold_that_another_beats_is_never_chosen():
    # Between both 4.6 are exceeded: lesions of which high thresholds leave pieces.
    assert curve([4.6, 5.4, 4.0], [0.82, 0.9, 0.95], [0.50, 0.52, 0.54]).within(4.6) == 2
    assert curve([3.8, 3.4, 4.0], [0.67, 0.74, 0.9], [0.38, 0.46, 0.5]).within(3.5) == 1
    # Fewer, but of all that is marked: Dice falls where false positives have grown together.
    assert curve([4.6, 5.4, 4.0], [0.82, 0.9, 0.95], [0.50, 0.52, 0.10]).within(4.6) == 0


def test_equal_recall_is_decided_by_dice():
    assert curve([1, 2, 3, 4], [0.5, 0.5, 0.5, 0.6], [0.5, 0.6, 0.4, 0.3]).within(3) == 1
    assert curve([1, 2, 3, 4], [0.5, 0.5, 0.5, 0.6], [0.5, 0.6, 0.4, 0.3]).within(4) == 3
    assert curve([0, 0, 1, 1], [np.nan] * 4, [np.nan, np.nan, 0, 0]).within(1) == 1  # there is nothing to find


def test_false_positives_of_a_table_are_not_above_themselves():
    values = np.round([1 / 3, 2 / 3, 1], 10)
    curve = OperatingPoints(*np.array([[0.9, 0.7, 0.5], values, [0] * 3, [0] * 3, [0] * 3], float))
    assert [curve.within(price) for price in (1 / 3, 2 / 3, 1)] == [0, 1, 2]


def test_no_threshold_is_taken_below_one_that_has_more():
    curve = OperatingPoints(*np.array([[0.9, 0.7, 0.5, 0.3], [1, 5, 2, 1], [0] * 4, [0] * 4, [0] * 4], float))
    assert [curve.within(price) for price in (0, 1, 2, 4, 5)] == [None, 0, 0, 0, 3]


@pytest.mark.parametrize("options", [{}, {"connectivity": 6}, {"min_volume_mm3": 60}, {"known": True}])
def test_every_threshold_is_a_segmentation_of_its_own(options):
    reference, prediction = random_boxes(3)
    rng = np.random.default_rng(3)
    probability = np.clip(gaussian_filter(prediction + rng.normal(0, 0.6, prediction.shape), 0.7), 0, 1)
    if options.get("known"):
        options = {"known": rng.random(reference.shape) > 0.1}
    known = options.get("known", np.ones(reference.shape, bool))
    case = rule_case(reference, probability, SPACING_MM, **options)
    found = 0
    for threshold in THRESHOLDS:
        decided = alone(case, threshold)
        mask = probability > threshold
        matches = match_lesions(reference, mask, SPACING_MM, **options)
        assert np.array_equal(decided.found, matches.reference.hit[matches.reference.counted])
        assert decided.false_positives == matches.predicted.false_positive.sum()
        assert decided.right == matches.predicted.hit.sum()
        assert decided.dice == pytest.approx(overlap(reference, mask, known).dice)
        found += matches.predicted.hit.sum() * matches.predicted.false_positive.sum()
    assert found > 0
    assert np.array_equal(case.volume_mm3, matches.reference.volume_mm3[matches.reference.counted])


def test_two_dimensions():
    reference = np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 1]], bool)
    # The first lesion is found; two false positives touch by a corner, which is one in 8-connectivity.
    probability = np.array([[0.9, 0, 0.8, 0, 0], [0, 0, 0, 0.8, 0]])
    counts = {
        connectivity: alone(rule_case(reference, probability, (1, 2), connectivity), THRESHOLDS[-1]).false_positives
        for connectivity in (4, 8, 26)
    }
    # The one beside the second lesion does not touch it: hits are by shared voxels.
    assert counts == {4: 2, 8: 1, 26: 1}


def test_nothing_at_all():
    case = rule_case(np.zeros((4, 4), bool), np.zeros((4, 4)), (1, 1))
    points = operating_points([case])
    assert np.isnan(points.recall).all()
    assert np.isnan(points.dice).all()
    assert not points.false_positives.any()


def test_what_cannot_be_thresholded_is_refused():
    reference = np.zeros((2, 2, 2), bool)
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\), but got float64 of \(2, 2\)"):
        rule_case(reference, np.zeros((2, 2)), SPACING_MM)
    with pytest.raises(ValueError, match=r"Expected probabilities of shape .* but got int64"):
        rule_case(reference, np.zeros((2, 2, 2), np.int64), SPACING_MM)
    for volume in ("nan", "inf", "-1.0"):
        with pytest.raises(ValueError, match=f"min_volume_mm3 of at least 0, but got {volume}"):
            rule_case(reference, np.zeros((2, 2, 2)), SPACING_MM, min_volume_mm3=float(volume))
    with pytest.raises(ValueError, match="NaN"):
        rule_case(reference, np.full((2, 2, 2), np.nan), SPACING_MM)
    with pytest.raises(ValueError, match="at least one case"):
        operating_points([])


def test_a_lesion_of_exactly_the_minimum_volume_counts():
    # 0.7 * 0.7 * 3 = 1.47 mm3 per voxel, 10 voxels = 14.7 mm3; floating point gives 14.699999999999998.
    reference = np.zeros((3, 3, 10), bool)
    reference[1, 1] = True
    case = rule_case(reference, np.where(reference, 0.8, 0), (0.7, 0.7, 3.0), min_volume_mm3=14.7)
    assert case.volume_mm3 == pytest.approx([14.7])
    assert alone(case, 0.5).found.tolist() == [True]
    # Not by more than rounding.
    assert not len(rule_case(reference, np.where(reference, 0.8, 0), (0.7, 0.7, 3.0), 26, 14.701).volume_mm3)
