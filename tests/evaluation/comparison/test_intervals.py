import numpy as np
import pytest
import scipy.stats

from nnunet_rw.evaluation.comparison.statistics import (
    cluster_bootstrap,
    mean_interval,
    recall_interval,
    wilson_interval,
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


def test_mean_is_nowhere_surer_than_students_t():
    values = np.random.default_rng(0).normal(size=12)
    expected = scipy.stats.t(11, values.mean(), values.std(ddof=1) / 12**0.5).interval(0.95)
    low, high = mean_interval(values)
    assert low <= expected[0] < expected[1] <= high
    # Of many normal values it is Student's, but for the chance of the resamples.
    values = np.random.default_rng(0).normal(size=2000)
    expected = scipy.stats.t(1999, values.mean(), values.std(ddof=1) / 2000**0.5).interval(0.95)
    assert mean_interval(values) == pytest.approx(expected, abs=0.1 * (expected[1] - expected[0]))


def test_studentised_quantiles_by_hand():
    # Eight equal pairs of sums and counts but one: m = 8, t(7) = 2.3646, and resamples of one value alone tell nothing.
    values = np.array([0.0] * 7 + [8.0])
    rng = np.random.default_rng(5)
    drawn = values[rng.integers(0, 8, (5000, 8), dtype=np.int32)]
    drawn = drawn[np.ptp(drawn, axis=1) > 0]
    ratios = (drawn.mean(1) - 1) / (drawn.std(1, ddof=1) / 8**0.5)
    tail = scipy.stats.norm.sf(2.3646 * (1 + 1 / (2 * 8**0.5)))
    below, above = np.quantile(ratios, [tail, 1 - tail])
    # Mean 1, standard deviation sqrt(8), so that the error is 1.
    expected = 1 - max(2.3646, above), 1 - min(-2.3646, below)
    assert mean_interval(values, resamples=5000, seed=5) == pytest.approx(expected, abs=1e-3)


def test_interval_leans_to_the_long_tail():
    values = np.random.default_rng(0).exponential(size=30)
    low, high = mean_interval(values)
    assert high - values.mean() > 1.2 * (values.mean() - low)
    assert mean_interval(-values) == pytest.approx((-high, -low), rel=0.05)


def test_equal_seeds_give_equal_intervals():
    values = np.random.default_rng(0).normal(size=25)
    kept = values.copy()
    assert mean_interval(values, seed=1) == mean_interval(values, seed=1) != mean_interval(values, seed=2)
    np.testing.assert_array_equal(values, kept)


def test_many_values_in_batches(monkeypatch):
    values = np.random.default_rng(0).exponential(size=300)
    whole = mean_interval(values, resamples=4000)
    monkeypatch.setattr("nnunet_rw.evaluation.comparison.statistics._INDICES_AT_A_TIME", 1000)
    assert mean_interval(values, resamples=4000) == pytest.approx(whole, abs=0.02)


def test_mean_of_too_little():
    for number in (0, 1, 7):
        assert np.isnan(mean_interval(np.arange(number))).all()
    assert np.isfinite(mean_interval(np.arange(8))).all()
    # Equal values: no width, also where their mean rounds.
    assert mean_interval(np.full(8, 0.0)) == (0, 0)
    assert mean_interval(np.full(8, 0.1)) == pytest.approx((0.1, 0.1))
    # Sixteen cases of seven patients.
    values, patients = np.arange(16.0), np.arange(16) % 7
    assert np.isnan(mean_interval(values, patients)).all()


def test_cases_of_a_patient_are_no_further_evidence():
    values = np.random.default_rng(0).exponential(size=12)
    patients = [f"patient_{number}" for number in range(12)]
    once, often = mean_interval(values, patients), mean_interval(np.tile(values, 5), patients * 5)
    assert often == pytest.approx(once)
    # Drawn in another order.
    assert once == pytest.approx(mean_interval(values), rel=0.05)
    low, high = mean_interval(np.tile(values, 5))
    assert once.low < low < high < once.high


@pytest.mark.parametrize("values", [[1, np.nan], [1, np.inf], [[1, 2]]])
def test_mean_refuses(values):
    with pytest.raises(ValueError, match="Expected finite numbers in one dimension"):
        mean_interval(np.array(values))


def test_mean_refuses_settings():
    with pytest.raises(ValueError, match="Expected at least one resample, but got 0"):
        mean_interval(np.arange(3), resamples=0)
    with pytest.raises(ValueError, match="Expected a confidence between 0 and 1, but got 1"):
        mean_interval(np.arange(3), confidence=1)
    with pytest.raises(ValueError, match=r"Expected a unit per value, but got \(2,\) and \(3,\)"):
        mean_interval(np.arange(3), ["a", "b"])


def test_recall_of_clusters_by_hand():
    # One lesion in each of ten cases, seven found: variance p(1-p) / 9, that of nine lesions, and t(9) = 2.2622 for z.
    hits = [1] * 7 + [0] * 3
    independent = 9 * (1.959964 / 2.262157) ** 2
    expected = wilson_interval(0.7 * independent, independent)
    assert recall_interval(range(10), hits) == pytest.approx(expected, abs=1e-6)
    # The same lesions twice, in the same cases, tell no more; in others they do.
    assert recall_interval([*range(10), *range(10)], hits * 2) == pytest.approx(expected, abs=1e-6)
    apart = recall_interval(range(20), hits * 2)
    assert expected[0] < apart.low < apart.high < expected[1]
    # All found: every case counts as one lesion, however many it has.
    independent = 8 * (1.959964 / 2.364624) ** 2
    expected = wilson_interval(independent, independent)
    assert recall_interval([*range(8), *range(8)], [1] * 16) == pytest.approx(expected, abs=1e-6)
    # The same share in every case is no reason to count more lesions than there are.
    independent = 16 * (1.959964 / 2.364624) ** 2
    expected = wilson_interval(independent / 2, independent)
    assert recall_interval([*range(8), *range(8)], [1] * 8 + [0] * 8) == pytest.approx(expected, abs=1e-6)
    assert np.isnan(recall_interval(range(7), [1] * 7)).all()


def test_recall_of_unequal_cases_by_hand():
    # Eight cases of one lesion, four found, and one of eight that are all found: recall 12 of 16. Without one of the
    # eight 11 or 12 of 15, without the large one 4 of 8; (sum k)^2 / sum k^2 = 256 / 72.
    hits = [1] * 4 + [0] * 4 + [1] * 8
    variance = 8 / 9 * (4 * (11 / 15 - 0.75) ** 2 + 4 * (12 / 15 - 0.75) ** 2 + (4 / 8 - 0.75) ** 2)
    independent = 0.75 * 0.25 / variance * (1.959964 / scipy.stats.t.ppf(0.975, 256 / 72 - 1)) ** 2
    expected = wilson_interval(0.75 * independent, independent)
    cases = [*range(8), *[8] * 8]
    assert recall_interval(cases, hits) == pytest.approx(expected, abs=1e-6)
    # All found: as many lesions as cases of equal weight.
    independent = 256 / 72 * (1.959964 / scipy.stats.t.ppf(0.975, 256 / 72 - 1)) ** 2
    assert recall_interval(cases, [1] * 16) == pytest.approx(wilson_interval(independent, independent), abs=1e-6)


def test_recall_interval_covers_where_cases_have_unequal_numbers_of_lesions():
    rng, covered = np.random.default_rng(0), []
    for _ in range(400):
        lesions = np.maximum(1, np.rint(rng.lognormal(2.3, 1.2, 10))).astype(int)
        found = rng.binomial(lesions, 1 / (1 + np.exp(-rng.normal(size=10))))
        hits = np.concatenate([np.arange(number) < hit for number, hit in zip(lesions, found, strict=True)])
        low, high = recall_interval(np.repeat(np.arange(10), lesions), hits)
        covered.append(low <= 0.5 <= high)
    assert np.mean(covered) > 0.93


def test_recall_difference_by_hand():
    # Case a: one lesion, gained. Case b: three, of which one is gained and one lost. Recall 1/4 to 2/4.
    found = cluster_bootstrap(["b", "a", "b", "b"], [1, 0, 0, 0], [0, 1, 1, 0])
    assert (found.lesions, found.cases) == (4, 2)
    assert (found.baseline, found.challenger, found.difference) == (0.25, 0.5, 0.25)
    assert np.isnan(found.interval).all()  # of two cases
    # Nine cases of three lesions, in five of which one is gained: as a mean of 1/3 in five of nine.
    cases, gained = np.repeat(range(9), 3), np.repeat([1] * 5 + [0] * 4, 3) * np.tile([1, 0, 0], 9)
    found = cluster_bootstrap(cases, 0 * gained, gained)
    assert found.interval == pytest.approx(mean_interval(np.array([1 / 3] * 5 + [0] * 4)))


def test_recall_differs_by_no_more_than_one():
    found = cluster_bootstrap(range(9), [0] * 9, [1] * 8 + [0])
    assert (found.difference, found.interval.high) == (8 / 9, 1)


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
    assert swapped.interval == pytest.approx((-expected.interval.high, -expected.interval.low), abs=0.06)


def test_recall_difference_of_too_little():
    none = cluster_bootstrap([], [], [])
    assert (none.lesions, none.cases) == (0, 0)
    assert np.isnan([none.baseline, none.challenger, none.difference, *none.interval]).all()
    single = cluster_bootstrap(["a", "a"], [0, 1], [1, 1])
    assert single.difference == 0.5
    assert np.isnan(single.interval).all()
    same = cluster_bootstrap(range(8), [0, 1] * 4, [0, 1] * 4)
    assert (same.difference, same.interval) == (0, (0, 0))


def test_recall_difference_refuses():
    with pytest.raises(ValueError, match=r"Expected a hit per lesion, but got 2, \(2,\), \(3,\)"):
        cluster_bootstrap(["a", "b"], [0, 1], [0, 1, 1])


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
