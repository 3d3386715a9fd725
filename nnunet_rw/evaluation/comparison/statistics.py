"""Statistics of paired comparisons: tests, and confidence intervals of means and of the recall of lesions.

The unit is the case, or the patient where cases share one. Cases of all folds are pooled; means of folds, which share
their training cases, are never tested. A difference is always the challenger's value minus the baseline's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm, rankdata, t

# Fewer units tell too little of the spread: no interval and no test is made of them.
MIN_UNITS = 8
_INDICES_AT_A_TIME = 2**22


class Interval(NamedTuple):
    """Both ends of a confidence interval; NaN where there is none."""

    low: float
    high: float

    def within(self, smallest: float, largest: float) -> Interval:
        """Cut at the values that are possible; NaN stays.

        Examples
        --------
        >>> Interval(-0.02, 0.44).within(0, 1)
        Interval(low=0.0, high=0.44)
        """
        return Interval(*(float(np.clip(end, smallest, largest)) for end in self))


NO_INTERVAL = Interval(math.nan, math.nan)


@dataclass(frozen=True)
class RecallDifference:
    """Recall of the same lesions by two trainers; everything is NaN without a lesion.

    The interval is NaN with fewer than `MIN_UNITS` cases.
    """

    lesions: int
    cases: int
    baseline: float
    challenger: float
    difference: float
    interval: Interval


def wilson_interval(successes: float, n: float, confidence: float = 0.95) -> Interval:
    """Interval of a proportion (Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953); NaN for n = 0.

    Raises
    ------
    ValueError
        Unless 0 <= successes <= n and 0 < confidence < 1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"Expected successes from 0 to n, but got {successes} of {n}.")
    z = float(norm.ppf(0.5 + _checked(confidence) / 2))
    if n == 0:
        return NO_INTERVAL
    proportion = successes / n
    centre = (proportion + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    # At 0 and 1 the ends are exact, but not in floating point.
    return Interval(centre - half if successes else 0.0, centre + half if successes < n else 1.0)


def recall_interval(
    units: Sequence[Hashable] | np.ndarray, hits: Sequence[float] | np.ndarray, confidence: float = 0.95
) -> Interval:
    """Interval of the recall of lesions that cases or patients share.

    Lesions of one unit are found or missed together, so that the interval is Wilson's of fewer, independent lesions: as
    many as give the recall the variance that it has between units, by Student's t (Franco et al. 2019,
    https://doi.org/10.1093/jssam/smy019). Where all are found, or none, every unit counts as one lesion.

    Where units have unequal numbers k of lesions the recall is that of a few of them. The variance is therefore the
    jackknife's, as the linearised one is too small, and units are as many as would weigh equally, (sum k)^2 / sum k^2
    (Kish 1965). ``python -m benchmarks coverage`` tells how often the interval holds the true recall.

    Parameters
    ----------
    units : (L,) names, the case or patient of each lesion
    hits : (L,) booleans, or shares of the trainings that found a lesion

    Returns
    -------
    Interval
        NaN for lesions of fewer than `MIN_UNITS` units.
    """
    found, lesions = sums_by_unit(units, hits)
    n = len(lesions)
    quantile = 0.5 + _checked(confidence) / 2
    if n < MIN_UNITS:
        return NO_INTERVAL
    total = float(lesions.sum())
    recall = min(1.0, found.sum() / total)
    without = (found.sum() - found) / (total - lesions)
    variance = (n - 1) / n * float(((without - recall) ** 2).sum())
    equal_units = total**2 / float((lesions**2.0).sum())
    if 0 < recall < 1:
        independent = min(total, recall * (1 - recall) / variance) if variance > 0 else total
    else:
        independent = equal_units
    independent *= float(norm.ppf(quantile) / t.ppf(quantile, max(1.0, equal_units - 1))) ** 2
    return wilson_interval(recall * independent, independent, confidence)


def mean_interval(
    values: np.ndarray,
    units: Sequence[Hashable] | np.ndarray | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a mean, see `ratio_interval`.

    Parameters
    ----------
    values : (N,) floats without NaN
        For a paired comparison the differences.
    units : (N,) names, optional
        The unit of each value, as the patient of a case; each is its own where none are given.
    """
    values = finite_vector(values)
    sums, counts = sums_by_unit(np.arange(len(values)) if units is None else units, values)
    return ratio_interval(sums, counts, resamples, confidence, seed)


def jackknife_interval(
    units: Sequence[Hashable] | np.ndarray, figure: Callable[[np.ndarray], float], seed: int = 0
) -> Interval:
    """95 % of a figure that is no mean over units, as a difference in F1: of its pseudo-values, whose mean it is.

    Parameters
    ----------
    units : (N,) names
        The unit of each case.
    figure : function of (N,) booleans, the cases that are seen, to float
    seed : int

    Returns
    -------
    Interval
        NaN for fewer than `MIN_UNITS` units.
    """
    units = np.asarray(units)
    names = np.unique(units)
    if len(names) < MIN_UNITS:
        return NO_INTERVAL
    whole = figure(np.ones(len(units), bool))
    without = np.array([figure(units != name) for name in names])
    return mean_interval(len(names) * whole - (len(names) - 1) * without, seed=seed)


def cluster_bootstrap(
    cases: Sequence[Hashable] | np.ndarray,
    baseline_hits: np.ndarray,
    challenger_hits: np.ndarray,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RecallDifference:
    """Difference of two trainers' recall, with an interval that resamples cases, all lesions of a case together.

    Lesions of one case are found or missed together, so that an interval over single lesions would be too narrow.
    Recall is of the pooled lesions. A case without a lesion changes nothing and is not drawn.

    Parameters
    ----------
    cases : (L,) names, the case, or patient, of each lesion
    baseline_hits, challenger_hits : (L,) booleans, of the same lesions in the same order
        Or shares: of the trainings with several seeds that found a lesion.
    """
    hits = [np.asarray(hit, dtype=float) for hit in (baseline_hits, challenger_hits)]
    if any(hit.shape != (len(cases),) for hit in hits):
        raise ValueError(f"Expected a hit per lesion, but got {len(cases)}, {hits[0].shape}, {hits[1].shape}.")
    gain, lesions = sums_by_unit(cases, hits[1] - hits[0])
    if not len(lesions):
        return RecallDifference(0, 0, math.nan, math.nan, math.nan, NO_INTERVAL)
    baseline, challenger = (float(hit.mean()) for hit in hits)
    interval = ratio_interval(gain, lesions, resamples, confidence, seed).within(-1, 1)
    return RecallDifference(len(hits[0]), len(lesions), baseline, challenger, challenger - baseline, interval)


def sums_by_unit(
    units: Sequence[Hashable] | np.ndarray, values: Sequence[float] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number of the values of each unit, (U,) each, in the order of the units' names."""
    values = np.asarray(values, dtype=float)
    names, unit_of_value = np.unique(np.asarray(units), return_inverse=True)
    if unit_of_value.shape != values.shape:
        raise ValueError(f"Expected a unit per value, but got {unit_of_value.shape} and {values.shape}.")
    counts = np.bincount(unit_of_value, minlength=len(names))
    return np.bincount(unit_of_value, values, minlength=len(names)), counts


def ratio_interval(
    sums: np.ndarray, counts: np.ndarray, resamples: int = 10_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Interval of ``sums.sum() / counts.sum()`` over independent units: a mean, or the recall of pooled lesions.

    The studentised bootstrap (Efron 1981; Hall 1988, https://doi.org/10.1214/aos/1176350933), with tails that are
    widened for few units, t_(m-1) (1 + 1 / (2 sqrt(m))) in place of z, and nowhere narrower than Student's t. Widening,
    as Hesterberg (2015, https://doi.org/10.1080/00031305.2015.1089789) does by another factor, keeps the level where
    differences are skewed, Student's t where most are equal. Units that are all alike, as cases without a difference,
    count as one in m, which is `MIN_UNITS` at least. The factor was chosen by ``python -m benchmarks coverage``.

    Parameters
    ----------
    sums, counts : (U,) floats
        Of each unit; counts above 0.
    resamples, confidence, seed
        Equal seeds give equal intervals.

    Returns
    -------
    Interval
        NaN for fewer than `MIN_UNITS` units, of no width if all are alike.
    """
    quantile = 0.5 + _checked(confidence) / 2
    if resamples < 1:
        raise ValueError(f"Expected at least one resample, but got {resamples}.")
    n = len(sums)
    if n < MIN_UNITS:
        return NO_INTERVAL
    estimate, error = float(sums.sum() / counts.sum()), float(_standard_error(sums, counts))
    # Of the values themselves: those of a microscope's volumes in mm3 are a trillionth of others.
    means = sums / counts
    scale = float(np.abs(means).max())
    tolerance = 1e-12 * scale
    if error <= tolerance:
        return Interval(estimate, estimate)
    rng = np.random.default_rng(seed)
    drawn = []
    for size in _batches(resamples, n):
        rows = rng.integers(0, n, (size, n), dtype=np.int32)
        of_resamples = sums[rows], counts[rows] if np.ptp(counts) else counts
        errors = _standard_error(*of_resamples)
        # A resample of equal units has no error to divide by.
        known = errors > tolerance
        ratios = of_resamples[0].sum(-1) / of_resamples[1].sum(-1)
        drawn.append((ratios[known] - estimate) / errors[known])
    alike = np.unique(np.round(means / scale, 12), return_counts=True)[1].max()
    m = max(MIN_UNITS, n - alike + 1)
    margin = float(t.ppf(quantile, m - 1))
    tail = float(norm.sf(margin * (1 + 0.5 / math.sqrt(m))))
    below, above = np.quantile(np.concatenate(drawn), [tail, 1 - tail]) if any(map(len, drawn)) else (0.0, 0.0)
    return Interval(estimate - error * max(margin, float(above)), estimate + error * max(margin, float(-below)))


def _standard_error(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Of the ratio of both sums over the last axis, linearised; of a mean sd / sqrt(n)."""
    n = sums.shape[-1]
    total = counts.sum(-1)
    residuals = sums - (sums.sum(-1) / total)[..., None] * counts
    return np.sqrt(n / (n - 1) * (residuals**2).sum(-1)) / total


def _batches(resamples: int, n: int) -> Iterator[int]:
    """Numbers of resamples whose indices fit into memory together."""
    size = max(1, _INDICES_AT_A_TIME // n)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def finite_vector(values: Sequence[float] | np.ndarray, allow_nan: bool = False) -> np.ndarray:
    """The values as floats; refuses another shape, infinity, and NaN unless that is allowed."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1 or np.isinf(array).any() or (not allow_nan and np.isnan(array).any()):
        raise ValueError(f"Expected finite numbers in one dimension, but got {array.shape} with NaN or infinity.")
    return array


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"Expected a confidence between 0 and 1, but got {confidence}.")
    return confidence


ALPHA = 0.05
# Above so many differences that are not zero, the normal approximation of the signed-rank sum.
MAX_EXACT = 50
# Tables hold ten digits: what is equal but for the last one is a tie.
_DIGITS = 9


@dataclass(frozen=True)
class PairedComparison:
    """Differences, challenger minus baseline, of n pairs.

    Attributes
    ----------
    n : int
    mean, median : float
        Of the differences; NaN for no pair.
    interval : Interval
        Of the mean, by `nnunet_rw.evaluation.comparison.statistics.ratio_interval`.
    p : float
        Wilcoxon's signed-rank test of the units' means, two-sided; NaN with the reason in `no_p`.
    no_p : str
        Why there is no p; else empty.
    wins, ties, losses : int
        Pairs in which the challenger is better, equal (to nine digits of the largest value of both), worse.
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


def signed_rank_p(differences: np.ndarray, largest: float | None = None) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, given the zeros and ties that there are.

    Zeros take part in the ranking and their ranks are split between both signs ("zsplit"); only the other differences'
    signs vary under the hypothesis. Up to 50 of these the p is exact, also with ties; above, the normal approximation.
    SciPy's `wilcoxon` is exact with zeros or ties up to 13 pairs only, and above lets zeros add to the variance, which
    costs power where most cases are equal. 1 if all are zero.

    Parameters
    ----------
    differences : (n,) floats without NaN
    largest : float, optional
        Magnitude of the values that were subtracted, of which nine digits tell differences apart. Default: that of the
        differences.
    """
    differences = finite_vector(differences)
    differences = _rounded(differences, np.abs(differences).max(initial=0) if largest is None else largest)
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


def _rounded(values: np.ndarray, largest: float) -> np.ndarray:
    """To nine digits of the largest magnitude."""
    return np.round(values, _DIGITS - math.ceil(math.log10(largest))) if largest else values


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
    largest = max(np.abs(values).max(initial=0) for values in (first, second))
    differences = _rounded(second - first, largest)
    n = len(differences)
    units = np.arange(n) if units is None else np.asarray(units)
    sums, counts = sums_by_unit(units, differences)
    sums = _rounded(sums, largest)  # what cancels within a patient is 0
    enough = len(counts) >= MIN_UNITS
    noun = "pairs" if len(counts) == n else "patients"
    better = differences if higher_is_better else -differences
    return PairedComparison(
        n=n,
        mean=float(differences.mean()) if n else math.nan,
        median=float(np.median(differences)) if n else math.nan,
        interval=ratio_interval(sums, counts, resamples, confidence, seed),
        p=signed_rank_p(sums / counts, largest) if enough else math.nan,
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
