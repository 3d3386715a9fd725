import numpy as np
import pytest
import scipy.stats

from nnunet_rw.evaluation.comparison.intervals import bca_interval, cluster_bootstrap, wilson_interval

# Efron & Tibshirani (1993), "An Introduction to the Bootstrap", table 14.1: spatial test, A.
SPATIAL_TEST = np.array(
    [48, 36, 20, 29, 42, 42, 20, 42, 22, 41, 45, 14, 6, 0, 33, 28, 34, 4, 32, 24, 47, 41, 24, 26, 30, 41]
)


# Newcombe (1998), https://doi.org/10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I, method 3.
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)
    assert wilson_interval(n - successes, n) == pytest.approx((1 - high, 1 - low), abs=5e-5)


def test_wilson_by_hand_and_against_scipy():
    # z = 1 at 68.27 %. 1 of 2: middle (1/2 + 1/4) / (1 + 1/2), half width 2/3 sqrt(1/8 + 1/16).
    # 0 of 1: middle (0 + 1/2) / (1 + 1), half width 1/2 sqrt(0 + 1/4).
    confidence = 2 * scipy.stats.norm.cdf(1) - 1
    half = 2 / 3 * (3 / 16) ** 0.5
    assert wilson_interval(1, 2, confidence) == pytest.approx((0.5 - half, 0.5 + half))
    assert wilson_interval(0, 1, confidence) == pytest.approx((0, 0.5))
    assert wilson_interval(1, 1, confidence) == pytest.approx((0.5, 1))
    expected = scipy.stats.binomtest(7, 11).proportion_ci(0.9, "wilson")
    assert wilson_interval(7, 11, 0.9) == pytest.approx((expected.low, expected.high))
    # Exactly the end, not 1e-17 beside it.
    assert wilson_interval(0, 7).low == 0
    assert wilson_interval(7, 7).high == 1


def test_wilson_without_trials():
    assert np.isnan(wilson_interval(0, 0)).all()


def test_wilson_refuses():
    with pytest.raises(ValueError, match="Expected successes from 0 to n, but got 3 of 2"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="Expected a confidence between 0 and 1, but got 95"):
        wilson_interval(1, 2, confidence=95)


def test_bca_by_hand():
    # Means of two draws of (-1, 1): -1, 0, 0, 1, a quarter each. Symmetric, so neither bias nor acceleration: the
    # quantiles 0.025 and 0.975 are the extremes, 0.3 and 0.7 both 0.
    values = np.array([-1.0, 1.0])
    assert bca_interval(values) == (-1, 1)
    assert bca_interval(values, confidence=0.4) == (0, 0)


def test_bca_as_published():
    # 90 % for the variance, divisor n: (115.8, 259.6) with 2000 resamples (chapter 14.3); percentiles (100.8, 233.9).
    interval = bca_interval(SPATIAL_TEST, np.var, confidence=0.9)
    assert interval.low == pytest.approx(115.8, abs=4)
    assert interval.high == pytest.approx(259.6, abs=5)


@pytest.mark.parametrize("statistic", [np.mean, np.median, np.std])
def test_bca_equals_scipys(statistic):
    values = np.random.default_rng(3).exponential(size=41)
    options = {"n_resamples": 20_000, "random_state": 0, "method": "BCa", "vectorized": True}
    expected = scipy.stats.bootstrap((values,), statistic, **options).confidence_interval
    interval = bca_interval(values, statistic, resamples=20_000)
    # Both draw at random: the ends vary by a few percent of the width.
    assert interval == pytest.approx((expected.low, expected.high), abs=0.04 * (expected.high - expected.low))


def test_bca_leans_to_the_long_tail():
    values = np.random.default_rng(0).exponential(size=30)
    low, high = bca_interval(values)
    assert high - values.mean() > 1.2 * (values.mean() - low)
    assert bca_interval(-values) == pytest.approx((-high, -low), rel=0.02)


def test_equal_seeds_give_equal_intervals():
    values = np.random.default_rng(0).normal(size=25)
    kept = values.copy()
    assert bca_interval(values, seed=1) == bca_interval(values, seed=1) != bca_interval(values, seed=2)
    np.testing.assert_array_equal(values, kept)


def test_bca_of_many_values_in_batches(monkeypatch):
    values = np.random.default_rng(0).normal(size=300)
    whole = bca_interval(values, resamples=4000)
    monkeypatch.setattr("nnunet_rw.evaluation.comparison.intervals._INDICES_AT_A_TIME", 1000)
    assert bca_interval(values, resamples=4000) == pytest.approx(whole, abs=0.01)


def test_bca_of_too_little():
    assert np.isnan(bca_interval(np.array([]))).all()
    assert np.isnan(bca_interval(np.array([0.3]))).all()
    # Equal values: no width, also where their mean rounds.
    assert bca_interval(np.full(7, 0.0)) == (0, 0)
    assert bca_interval(np.full(7, 0.1)) == pytest.approx((0.1, 0.1))
    # One differs.
    low, high = bca_interval(np.array([0.0] * 9 + [1.0]))
    assert 0 <= low < 0.1 < high <= 1
    # The median of a jackknife sample is always the same here: no acceleration, but an interval.
    low, high = bca_interval(np.array([0.0, 1, 1, 1, 2]), np.median)
    assert 0 <= low <= 1 <= high <= 2


@pytest.mark.parametrize("values", [[1, np.nan], [1, np.inf], [[1, 2]]])
def test_bca_refuses(values):
    with pytest.raises(ValueError, match="Expected finite numbers in one dimension"):
        bca_interval(np.array(values))


def test_bca_refuses_settings():
    with pytest.raises(ValueError, match="Expected at least one resample, but got 0"):
        bca_interval(np.arange(3), resamples=0)
    with pytest.raises(ValueError, match="Expected a confidence between 0 and 1, but got 1"):
        bca_interval(np.arange(3), confidence=1)


def test_recall_difference_by_hand():
    # Case a: one lesion, gained. Case b: three, of which one is gained and one lost. Recall 1/4 to 2/4.
    found = cluster_bootstrap(["b", "a", "b", "b"], [1, 0, 0, 0], [0, 1, 1, 0])
    assert (found.lesions, found.cases) == (4, 2)
    assert (found.baseline, found.challenger, found.difference) == (0.25, 0.5, 0.25)
    # Draws aa: 1 of 1; ab: 1 of 4; bb: 0 of 6. Below the estimate, ab halved, is one half: no bias; two values of a
    # jackknife are symmetric: no acceleration. So the extremes.
    assert found.interval == (0, 1)


def test_lesions_of_a_case_are_no_further_evidence():
    rng = np.random.default_rng(0)
    cases = np.repeat([f"case_{i}" for i in range(12)], 3)
    hits = rng.random((2, 36)) < 0.6
    once = cluster_bootstrap(cases, *hits)
    often = cluster_bootstrap(np.tile(cases, 10), *np.tile(hits, 10))
    assert (often.lesions, often.cases) == (360, 12)
    assert often.interval == pytest.approx(once.interval)


def test_order_of_lesions_and_names_of_cases_change_nothing():
    rng = np.random.default_rng(1)
    cases = np.array([f"case_{i}" for i in rng.integers(0, 9, 60)])
    hits = rng.random((2, 60)) < 0.5
    order = rng.permutation(60)
    expected = cluster_bootstrap(cases, *hits)
    assert cluster_bootstrap(cases[order], *hits[:, order]) == expected
    assert cluster_bootstrap([f"x{case}" for case in cases], *hits) == expected
    swapped = cluster_bootstrap(cases, hits[1], hits[0])
    assert swapped.interval == pytest.approx((-expected.interval.high, -expected.interval.low), abs=0.03)


def test_recall_difference_of_too_little():
    none = cluster_bootstrap([], [], [])
    assert (none.lesions, none.cases) == (0, 0)
    assert np.isnan([none.baseline, none.challenger, none.difference, *none.interval]).all()
    single = cluster_bootstrap(["a", "a"], [0, 1], [1, 1])
    assert single.difference == 0.5
    assert np.isnan(single.interval).all()
    same = cluster_bootstrap(["a", "b"], [0, 1], [0, 1])
    assert (same.difference, same.interval) == (0, (0, 0))


def test_recall_difference_refuses():
    with pytest.raises(ValueError, match=r"Expected a hit per lesion, but got 2, \(2,\), \(3,\)"):
        cluster_bootstrap(["a", "b"], [0, 1], [0, 1, 1])


@pytest.mark.slow
def test_bca_covers_the_true_mean():
    rng = np.random.default_rng(0)
    samples = rng.exponential(size=(800, 30)) - 1
    intervals = [bca_interval(sample, resamples=1000, seed=i) for i, sample in enumerate(samples)]
    covered = np.mean([low <= 0 <= high for low, high in intervals])
    # BCa at n = 30 with this skew covers 92 to 94 %; 800 samples scatter by 0.8 %.
    assert 0.90 < covered < 0.97


@pytest.mark.slow
def test_recall_interval_covers_where_one_of_single_lesions_does_not():
    rng = np.random.default_rng(0)
    covered, covered_by_lesions = [], []
    for seed in range(400):
        # The gain differs from case to case, by the case's own effect; its mean is 0.
        cases = np.repeat(np.arange(40), rng.integers(1, 25, 40))
        effect = rng.uniform(-0.4, 0.4, 40)[cases]
        hits = rng.random(len(cases)) < 0.5 - effect / 2, rng.random(len(cases)) < 0.5 + effect / 2
        low, high = cluster_bootstrap(cases, *hits, resamples=1000, seed=seed).interval
        covered.append(low <= 0 <= high)
        low, high = cluster_bootstrap(np.arange(len(cases)), *hits, resamples=1000, seed=seed).interval
        covered_by_lesions.append(low <= 0 <= high)
    assert 0.90 < np.mean(covered) < 0.98
    assert np.mean(covered_by_lesions) < 0.85
