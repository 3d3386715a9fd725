"""Confidence intervals: of a proportion, of a statistic of cases, and of the recall of lesions that cases share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.stats import norm

_INDICES_AT_A_TIME = 2**22


class Interval(NamedTuple):
    """Both ends of a confidence interval; NaN where there is none."""

    low: float
    high: float


NO_INTERVAL = Interval(math.nan, math.nan)


@dataclass(frozen=True)
class RecallDifference:
    """Recall of the same lesions by two trainers; everything is NaN without a lesion, the interval with one case."""

    lesions: int
    cases: int
    baseline: float
    challenger: float
    difference: float
    interval: Interval


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
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


def bca_interval(
    values: np.ndarray,
    statistic: Callable[..., np.ndarray] = np.mean,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval (Efron 1987, https://doi.org/10.2307/2289144).

    Own code, because SciPy's gives NaN for equal values and renamed the argument of its seed in 1.15.

    Parameters
    ----------
    values : (n,) floats without NaN
        For a paired comparison the differences.
    statistic : function of an array and ``axis``
    resamples, confidence, seed
        Equal seeds give equal intervals.

    Returns
    -------
    Interval
        NaN for fewer than two values, of no width if all are equal.
    """
    values = finite_vector(values)
    return _bca(len(values), lambda indices: statistic(values[indices], axis=-1), resamples, confidence, seed)


def cluster_bootstrap(
    cases: Sequence[str] | np.ndarray,
    baseline_hits: np.ndarray,
    challenger_hits: np.ndarray,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> RecallDifference:
    """Difference of two trainers' recall, with a BCa interval that resamples cases, all lesions of a case together.

    Lesions of one case are found or missed together, so that an interval over single lesions would be too narrow.
    Recall is of the pooled lesions. A case without a lesion changes nothing and is not drawn.

    Parameters
    ----------
    cases : (L,) names, the case of each lesion
    baseline_hits, challenger_hits : (L,) booleans, of the same lesions in the same order
        Or shares: of the trainings with several seeds that found a lesion.
    """
    names, case_of_lesion = np.unique(np.asarray(cases), return_inverse=True)
    hits = [np.asarray(hit, dtype=float) for hit in (baseline_hits, challenger_hits)]
    if any(hit.shape != case_of_lesion.shape for hit in hits):
        raise ValueError(f"Expected a hit per lesion, but got {len(case_of_lesion)}, {hits[0].shape}, {hits[1].shape}.")
    if not len(names):
        return RecallDifference(0, 0, math.nan, math.nan, math.nan, NO_INTERVAL)
    lesions = np.bincount(case_of_lesion)
    gain = np.bincount(case_of_lesion, hits[1]) - np.bincount(case_of_lesion, hits[0])

    def difference(indices: np.ndarray) -> np.ndarray:
        return gain[indices].sum(-1) / lesions[indices].sum(-1)

    baseline, challenger = (float(hit.mean()) for hit in hits)
    interval = _bca(len(names), difference, resamples, confidence, seed)
    return RecallDifference(len(hits[0]), len(names), baseline, challenger, challenger - baseline, interval)


def _bca(
    n: int, statistic: Callable[[np.ndarray], np.ndarray], resamples: int, confidence: float, seed: int
) -> Interval:
    """The statistic takes (R, m) indices of the n units and returns (R,) values."""
    alpha = (1 - _checked(confidence)) / 2
    if resamples < 1:
        raise ValueError(f"Expected at least one resample, but got {resamples}.")
    if n < 2:
        return NO_INTERVAL
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [statistic(rng.integers(0, n, (count, n), dtype=np.int32)) for count in _batches(resamples, n)]
    )
    estimate = statistic(np.arange(n)[None])[0]
    tolerance = 1e-12 * max(1, abs(estimate))
    left_out = np.concatenate([statistic(rows) for rows in _leave_one_out(n)])
    if np.ptp(drawn) <= tolerance:
        return Interval(float(estimate), float(estimate))
    # Half of the ties: the mean of few values is often drawn itself. Never 0 or 1, whose quantile is infinite.
    equal = np.abs(drawn - estimate) <= tolerance
    below = np.mean((drawn < estimate) & ~equal) + np.mean(equal) / 2
    bias = norm.ppf(np.clip(below, 0.5 / resamples, 1 - 0.5 / resamples))
    deviation = left_out.mean() - left_out
    squares = (deviation**2).sum()
    acceleration = (deviation**3).sum() / (6 * squares**1.5) if squares > 0 else 0.0
    z = bias + norm.ppf([alpha, 1 - alpha])
    shrink = np.maximum(1 - acceleration * z, 1e-9)  # beyond, the formula turns back
    low, high = np.quantile(drawn, norm.cdf(bias + z / shrink))
    return Interval(float(low), float(high))


def _batches(resamples: int, n: int) -> Iterator[int]:
    """Numbers of resamples whose indices fit into memory together."""
    size = max(1, _INDICES_AT_A_TIME // n)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _leave_one_out(n: int) -> Iterator[np.ndarray]:
    """(R, n - 1) indices, in R rows of which one is missing; n rows in all."""
    others = np.arange(n - 1)
    size = max(1, _INDICES_AT_A_TIME // n)
    for start in range(0, n, size):
        missing = np.arange(start, min(n, start + size))[:, None]
        yield others + (others >= missing)


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
