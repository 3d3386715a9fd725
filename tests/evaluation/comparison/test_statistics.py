from itertools import product

import numpy as np
import pytest
import scipy.stats

from nnunet_rw.evaluation.comparison.statistics import (
    MAX_EXACT,
    Interval,
    holm,
    mean_interval,
    paired_comparison,
    shown_difference,
    signed_rank_p,
)

# Darwin's maize: height of crossed minus self-fertilised plants in eighths of an inch (1876).
MAIZE = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48])


def signed_rank_p_by_enumeration(differences):
    """Every assignment of signs to the ranks of what is not zero."""
    ranks = scipy.stats.rankdata(np.abs(differences))[differences != 0]
    signs = np.array(list(product((-1, 1), repeat=len(ranks))))
    observed = abs((ranks * np.sign(differences[differences != 0])).sum())
    return np.mean(np.abs(signs @ ranks) >= observed)


def test_signed_ranks_by_hand():
    # All six positive: 2 of 2^6 assignments of signs are as extreme.
    assert signed_rank_p(np.arange(1, 7)) == 2 / 64
    # The smallest of six negative, rank sum 1: also 0, on both sides, makes 4.
    assert signed_rank_p(np.array([-1, 2, 3, 4, 5, 6])) == 4 / 64
    # Ranks 1.5, 1.5, 3 and 4 after a zero's 1: 2.5, 2.5, 4; only all positive or all negative are as extreme.
    assert signed_rank_p(np.array([0, 1, 1, 2])) == 2 / 8
    assert signed_rank_p(np.array([0, 1, -1, 2])) == 6 / 8  # sums +-9, +-4, +-4, +-1: six of eight at 4 or more


def test_signed_ranks_as_published():
    # Ranks of -48 and -67: 10 and 14 of 15; the two-sided p of a rank sum of 24 is 0.0413.
    assert signed_rank_p(MAIZE) == pytest.approx(0.0413, abs=5e-5)
    assert signed_rank_p(-MAIZE) == signed_rank_p(MAIZE)


@pytest.mark.parametrize("seed", range(6))
def test_signed_ranks_with_zeros_and_ties_equal_the_enumeration(seed):
    differences = np.random.default_rng(seed).integers(-3, 5, 11).astype(float)
    assert signed_rank_p(differences) == pytest.approx(signed_rank_p_by_enumeration(differences))


def test_signed_ranks_equal_scipys():
    rng = np.random.default_rng(0)
    without_ties = rng.normal(0.3, 1, MAX_EXACT)
    assert signed_rank_p(without_ties) == pytest.approx(scipy.stats.wilcoxon(without_ties).pvalue)
    # Above, SciPy's normal approximation; of its ways with zeros Pratt's has the variance given the zeros.
    many = rng.integers(-3, 5, 200)
    assert signed_rank_p(many) == pytest.approx(scipy.stats.wilcoxon(many, zero_method="pratt").pvalue)


def test_approximation_continues_the_exact_p(monkeypatch):
    differences = np.random.default_rng(0).normal(0.1, 1, MAX_EXACT)
    exact = signed_rank_p(differences)
    monkeypatch.setattr("nnunet_rw.evaluation.comparison.statistics.MAX_EXACT", 1)
    assert signed_rank_p(differences) == pytest.approx(exact, rel=0.05)


def test_signed_ranks_without_a_difference():
    assert signed_rank_p(np.zeros(9)) == 1
    # 0.1 + 0.2 is 0.3 to the user.
    assert signed_rank_p(np.array([0.1 + 0.2 - 0.3] * 9), largest=0.3) == 1
    # Thirds of ten digits are ties: one of six signs, or none, on either side.
    thirds = np.array([0.6666666667 - 0.3333333333, 0.3333333333, 1 / 3, 1 - 0.6666666667, -1 / 3, 1 / 3])
    assert signed_rank_p(thirds) == 14 / 64


@pytest.mark.slow
def test_signed_ranks_keep_their_size_where_most_differences_are_zero():
    rng = np.random.default_rng(0)
    for n in (20, 90, 250):
        differences = rng.integers(1, 4, (1500, n)) * rng.choice((-1, 1), (1500, n)) * (rng.random((1500, n)) < 0.3)
        assert np.mean([signed_rank_p(row) < 0.05 for row in differences]) < 0.062


def test_comparison_by_hand():
    baseline = np.array([0.5, 0.6, 0.7, 0.8, 0.4, 0.3, 0.2, 0.1])
    challenger = np.array([0.6, 0.8, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7])
    found = paired_comparison(baseline, challenger)
    # Differences 0.1, 0.2, 0, -0.1, 0.3, 0.4, 0.5, 0.6: mean 2 / 8, median between 0.2 and 0.3.
    assert (found.n, found.wins, found.ties, found.losses) == (8, 6, 1, 1)
    assert (found.mean, found.median) == pytest.approx((0.25, 0.25))
    # Ranks without the zero's: 2.5, 4, 2.5, 5, 6, 7, 8. As extreme of 128 are the signs with at most 2.5 on one side:
    # none negative, or either 2.5. Six.
    assert found.p == pytest.approx(6 / 128)
    assert found.no_p == ""
    assert found.interval == mean_interval(np.array([0.1, 0.2, 0, -0.1, 0.3, 0.4, 0.5, 0.6]))


def test_lower_is_better_swaps_wins_only():
    baseline, challenger = np.arange(8.0), np.array([0, 0, 1, 2, 3, 9, 9.0, 7])
    up, down = (paired_comparison(baseline, challenger, higher) for higher in (True, False))
    # Differences 0, -1, -1, -1, -1, 4, 3, 0.
    assert (up.wins, up.ties, up.losses) == (2, 2, 4)
    assert (down.wins, down.ties, down.losses) == (4, 2, 2)
    assert (up.mean, up.interval, up.p) == (down.mean, down.interval, down.p)


def test_comparison_of_few():
    few = paired_comparison(np.zeros(7), np.arange(1, 8))
    assert (few.n, few.wins, few.mean) == (7, 7, 4)
    assert np.isnan([few.p, *few.interval]).all()
    assert few.no_p == "7 pairs; with fewer than 8 nothing is tested"
    # Nine cases of three patients.
    few = paired_comparison(np.zeros(9), np.arange(1, 10), units=list("aaabbbccc"))
    assert np.isnan([few.p, *few.interval]).all()
    assert few.no_p == "3 patients; with fewer than 8 nothing is tested"
    none = paired_comparison(np.array([]), np.array([]))
    assert (none.n, none.wins, none.ties, none.losses) == (0, 0, 0, 0)
    assert np.isnan([none.mean, none.median, *none.interval, none.p]).all()


def test_comparison_of_equal_values():
    values = np.random.default_rng(0).random(9)
    found = paired_comparison(values, values)
    assert (found.mean, found.interval, found.p, found.ties) == (0, (0, 0), 1, 9)
    # A constant gain: ends and mean are the same.
    found = paired_comparison(values, values + 0.1)
    assert (found.mean, *found.interval) == pytest.approx((0.1,) * 3)
    assert found.p == 2 / 2**9


@pytest.mark.parametrize("factor", [2.0**-40, 2.0**20])
def test_what_is_a_tie_does_not_depend_on_the_unit(factor):
    # Voxels of a microscope have 8e-12 mm3.
    rng = np.random.default_rng(0)
    first, second = rng.integers(20, 60, 20).astype(float), rng.integers(10, 50, 20).astype(float)
    second[:3] = first[:3] * (1 + 1e-11)
    patients = np.arange(20) // 2
    for units in (None, patients):
        one = paired_comparison(first, second, units=units)
        other = paired_comparison(first * factor, second * factor, units=units)
        assert one.ties >= 3
        assert (other.wins, other.ties, other.losses, other.p) == (one.wins, one.ties, one.losses, one.p)
        assert other.interval == pytest.approx((one.interval.low * factor, one.interval.high * factor), rel=1e-6)


def test_what_cancels_within_a_patient_is_no_difference():
    # 0.1 + 0.2 - 0.3 is 6e-17.
    differences = np.tile([0.1, 0.2, -0.3], 8)
    found = paired_comparison(np.zeros(24), differences, units=np.arange(24) // 3)
    assert (found.p, found.interval) == (1, (0, 0))


def test_comparison_refuses():
    with pytest.raises(ValueError, match="Expected as many values of both, but got 2 and 3"):
        paired_comparison(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="Expected finite numbers"):
        paired_comparison(np.array([np.nan]), np.zeros(1))


def test_a_difference_is_shown_by_test_and_interval():
    assert shown_difference(0.04, Interval(0.1, 0.2))
    assert shown_difference(0.04, Interval(-0.2, -0.1))
    assert not shown_difference(0.06, Interval(0.1, 0.2))
    assert not shown_difference(0.04, Interval(-0.1, 0.2))
    assert not shown_difference(np.nan, Interval(np.nan, np.nan))


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, which must not fall below 0.06.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.4, 0.6]), [0.8, 0.8])
    np.testing.assert_allclose(holm([0.7, 0.9]), [1, 1])


def test_holm_of_tests_that_were_not_made():
    np.testing.assert_allclose(holm([0.01, np.nan, 0.04]), [0.02, np.nan, 0.04])
    assert np.isnan(holm([np.nan, np.nan])).all()
    assert holm([]).shape == (0,)
