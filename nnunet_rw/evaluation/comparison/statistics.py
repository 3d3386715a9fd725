"""Statistics of paired comparisons: tests, and the intervals of `intervals`.

The unit is the case, or the patient where cases share one. Cases of all folds are pooled; means of folds, which share
their training cases, are never tested. A difference is always the challenger's value minus the baseline's.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata

from nnunet_rw.evaluation.comparison.intervals import MIN_UNITS, Interval, finite_vector, mean_interval, sums_by_unit

ALPHA = 0.05
# Above so many differences that are not zero, the normal approximation of the signed-rank sum.
MAX_EXACT = 50
# Tables hold ten digits: what is equal but for these is a tie.
_DECIMALS = 9


@dataclass(frozen=True)
class PairedComparison:
    """Differences, challenger minus baseline, of n pairs.

    Attributes
    ----------
    n : int
    mean, median : float
        Of the differences; NaN for no pair.
    interval : Interval
        Of the mean, by `nnunet_rw.evaluation.comparison.intervals.ratio_interval`.
    p : float
        Wilcoxon's signed-rank test of the units' means, two-sided; NaN with the reason in `no_p`.
    no_p : str
        Why there is no p; else empty.
    wins, ties, losses : int
        Pairs in which the challenger is better, equal (within 1e-9), worse.
    """

    n: int
    mean: float
    median: float
    interval: Interval
    p: float
    no_p: str
    wins: int
    ties: int
    losses: int


def signed_rank_p(differences: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, given the zeros and ties that there are.

    Zeros take part in the ranking and their ranks are split between both signs ("zsplit"); only the other differences'
    signs vary under the hypothesis. Up to 50 of these the p is exact, also with ties; above, the normal approximation.
    SciPy's `wilcoxon` is exact with zeros or ties up to 13 pairs only, and above lets zeros add to the variance, which
    costs power where most cases are equal. 1 if all are zero.
    """
    differences = np.round(finite_vector(differences), _DECIMALS)
    signs = np.sign(differences[differences != 0])
    if not len(signs):
        return 1.0
    # Twice the ranks: whole numbers, also where ties share a rank.
    ranks = np.rint(2 * rankdata(np.abs(differences)))[differences != 0].astype(int)
    distance = abs(int((ranks * signs).sum()))
    if len(ranks) > MAX_EXACT:
        return float(2 * norm.sf(distance / math.sqrt((ranks**2.0).sum())))
    # How probable is each sum of the positive ranks?
    probability = np.zeros(ranks.sum() + 1)
    probability[0] = 1
    for rank in ranks:
        shifted = np.roll(probability, rank)
        probability = (probability + shifted) / 2
    sums = np.arange(len(probability))
    return float(min(1, probability[np.abs(2 * sums - ranks.sum()) >= distance].sum()))


def paired_comparison(
    baseline: np.ndarray,
    challenger: np.ndarray,
    higher_is_better: bool = True,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    units: Sequence[Hashable] | np.ndarray | None = None,
) -> PairedComparison:
    """Compare two trainers on the same cases.

    Parameters
    ----------
    baseline, challenger : (n,) floats without NaN, of the same cases in the same order
    units : (n,) names, optional
        The patient of each case. Default: each case is its own.

    Returns
    -------
    PairedComparison
        With neither p nor interval below `MIN_UNITS` units.
    """
    first, second = finite_vector(baseline), finite_vector(challenger)
    if first.shape != second.shape:
        raise ValueError(f"Expected as many values of both, but got {len(first)} and {len(second)}.")
    differences = np.round(second - first, _DECIMALS)
    n = len(differences)
    units = np.arange(n) if units is None else np.asarray(units)
    sums, counts = sums_by_unit(units, differences)
    enough = len(counts) >= MIN_UNITS
    noun = "pairs" if len(counts) == n else "patients"
    better = differences if higher_is_better else -differences
    return PairedComparison(
        n=n,
        mean=float(differences.mean()) if n else math.nan,
        median=float(np.median(differences)) if n else math.nan,
        interval=mean_interval(differences, units, resamples, confidence, seed),
        p=signed_rank_p(sums / counts) if enough else math.nan,
        no_p="" if enough else f"{len(counts)} {noun}; with fewer than {MIN_UNITS} nothing is tested",
        wins=int((better > 0).sum()),
        ties=int((better == 0).sum()),
        losses=int((better < 0).sum()),
    )


def shown_difference(p: float, interval: Interval) -> bool:
    """Whether a difference is shown: its p, adjusted where there are several, is below 0.05 and its interval without 0.

    The test alone takes a skewed distribution for a shift, the interval alone would be one look among several.
    """
    return p < ALPHA and (interval.low > 0 or interval.high < 0)


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's adjusted p (1979, https://www.jstor.org/stable/4615733) of a family of tests, in the order given.

    NaN, a test that was not made, stays NaN and does not count.
    """
    p = finite_vector(p_values, allow_nan=True)
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN is sorted to the end
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return adjusted
