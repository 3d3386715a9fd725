import math

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, precision_recall_curve

from nnunet_rw.evaluation.metrics.probabilities import RELIABILITY_BINS, count_probabilities, pool_probabilities


def case(seed, shape=(13, 17, 11)):
    """A reference and half-precision probabilities that know something of it; some are exactly 0, 0.5 and 1."""
    rng = np.random.default_rng(seed)
    reference = rng.random(shape) < 0.2
    probability = np.clip(rng.normal(0.3 + 0.3 * reference, 0.25), 0, 1)
    probability[rng.random(shape) < 0.1] = 0.5
    return reference, probability.astype(np.float16)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_precision_recall_is_that_of_scikit_learn(dtype):
    reference, probability = case(0)
    counts = count_probabilities(reference, probability.astype(dtype))
    truth, scores = reference.ravel(), probability.ravel().astype(float)
    assert counts.average_precision == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    precision, recall, _ = precision_recall_curve(truth, scores)
    assert counts.precision_recall_area == pytest.approx(auc(recall, precision), abs=1e-12)


def test_a_network_that_is_sure_still_ranks_its_voxels():
    # Single precision, as nnU-Net stores it: of half the foreground half precision would make 1, and one rank.
    rng = np.random.default_rng(0)
    reference = rng.random((40, 500)) < 0.05
    probability = (1 / (1 + np.exp(-rng.normal(2 + 8 * reference, 3)))).astype(np.float32)
    assert (probability[reference].astype(np.float16) == 1).mean() > 0.5
    expected = average_precision_score(reference.ravel(), probability.ravel())
    assert expected - average_precision_score(reference.ravel(), probability.astype(np.float16).ravel()) > 0.1
    assert count_probabilities(reference, probability).average_precision == pytest.approx(expected, abs=1e-3)


def test_values_rise_and_mirror_at_a_half():
    # All that lie next to 0.5 and to 1 in single precision, and the middle of two half-precision numbers.
    half, one = np.float32(0.5), np.float32(1)
    rising = [0, 2**-24, 0.25, np.nextafter(half, np.float32(0)), half, 0.75, 1 - 2**-23, np.nextafter(one, half), one]
    counts = count_probabilities(np.ones((1, 9), bool), np.array([rising], np.float32))
    places = np.repeat(np.arange(len(counts.positive)), counts.positive).tolist()
    middle, last = 14336, 28672
    assert places == [0, 1, 13312, middle, middle, 15360, last - 2, last - 1, last]
    np.testing.assert_array_equal(counts.positive.nonzero()[0], sorted(set(places)))


def test_pooled_cases_are_one_long_case():
    cases = [case(seed, (9, 14)) for seed in range(3)]
    pooled = pool_probabilities(count_probabilities(*sides) for sides in cases)
    reference, probability = (np.concatenate(side) for side in zip(*cases, strict=True))
    assert pooled.average_precision == pytest.approx(average_precision_score(reference.ravel(), probability.ravel()))
    assert pooled.calibration_error == count_probabilities(reference, probability).calibration_error


def calibration_error_by_definition(reference, probability):
    """Guo et al.: bins ((m - 1) / M, m / M], weighted by their members."""
    error = 0.0
    for number in range(RELIABILITY_BINS):
        low, high = number / RELIABILITY_BINS, (number + 1) / RELIABILITY_BINS
        members = (probability > low) & (probability <= high) if number else probability <= high
        if members.any():
            error += members.sum() * abs(reference[members].mean() - probability[members].astype(float).mean())
    return error / probability.size


def test_calibration_error_is_that_of_its_definition():
    reference, probability = case(1)
    counts = count_probabilities(reference, probability)
    assert counts.calibration_error == pytest.approx(calibration_error_by_definition(reference, probability))
    kept = probability >= np.float16(0.1)
    expected = calibration_error_by_definition(reference[kept], probability[kept])
    assert 0 < kept.sum() < kept.size
    assert counts.calibration_error_from_01 == pytest.approx(expected)


def test_reliability_by_hand():
    # 0.25 and 0.3125 in (4 / 15, 5 / 15] and the one below, 1 in the last.
    reference = np.array([[True, False, True, True, False]])
    bins = count_probabilities(reference, np.array([[0.25, 0.25, 0.3125, 1.0, 0.0]])).reliability()
    occupied = np.flatnonzero(bins.voxels)
    assert occupied.tolist() == [0, 3, 4, 14]
    assert bins.voxels[occupied].tolist() == [1, 2, 1, 1]
    assert bins.share[occupied].tolist() == [0, 0.5, 1, 1]
    assert bins.mean_probability[occupied].tolist() == [0, 0.25, 0.3125, 1]
    assert np.isnan(bins.share[1])


def test_unknown_voxels_count_nowhere():
    reference, probability = case(2)
    known = np.random.default_rng(3).random(reference.shape) < 0.5
    counts = count_probabilities(reference, probability, known)
    expected = average_precision_score(reference[known], probability[known])
    assert counts.average_precision == pytest.approx(expected)
    assert (counts.positive + counts.negative).sum() == known.sum()


def test_without_foreground_there_is_no_precision():
    counts = count_probabilities(np.zeros((2, 3), bool), np.full((2, 3), 0.25))
    assert math.isnan(counts.average_precision)
    assert math.isnan(counts.precision_recall_area)
    assert counts.calibration_error == 0.25


def test_what_rounding_left_beside_0_and_1_is_at_its_end():
    counts = count_probabilities(np.array([[True, False, False]]), np.array([[1.0005, -0.0005, -0.0]]))
    assert (counts.positive[-1], counts.negative[0]) == (1, 2)


@pytest.mark.parametrize(
    ("probability", "message"),
    [(np.array([[0.5, np.nan]]), "got NaN"), (np.zeros((1, 3)), r"of shape \(1, 2\), but got \(1, 3\)")],
)
def test_bad_probabilities(probability, message):
    with pytest.raises(ValueError, match=message):
        count_probabilities(np.zeros((1, 2), bool), probability)
