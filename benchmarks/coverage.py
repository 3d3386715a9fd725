"""How often the interval of a paired difference misses the true mean, and how often a verdict is wrong.

The true mean is 0 throughout, of distributions that differences between trainers resemble: most alike, a few far off.
And how often the interval of a recall holds the true one, where cases differ in how hard their lesions are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from nnunet_rw.evaluation.comparison.statistics import (
    MIN_UNITS,
    PairedComparison,
    paired_comparison,
    recall_interval,
    shown_difference,
)

NUMBERS = (6, 8, 10, 20, 40)
SAMPLES, RESAMPLES = 4000, 2000


def _lognormal(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.lognormal(size=n) - np.exp(0.5)


def _zero_inflated(rng: np.random.Generator, n: int) -> np.ndarray:
    """Three of five are 0, the others exponential with their mean taken off."""
    return np.where(rng.random(n) < 0.6, 0.0, rng.exponential(size=n) - 1)


DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "lognormal": _lognormal,
    "zero-inflated": _zero_inflated,
}


# Standard deviation of the logarithm of lesions per case, whose median is 10; in IDRiD it is 0.8 to 1.1.
LESIONS: dict[str, float] = {"recall, 10 lesions per case": 0.0, "recall, 1 to 100 and more": 1.2}


def run(samples: int = SAMPLES, resamples: int = RESAMPLES) -> list[dict[str, Any]]:
    """A row per distribution and number of cases; shares are None where there are too few cases, or no verdict."""
    return _of_differences(samples, resamples) + recall_rows(samples)


def recall_rows(samples: int = SAMPLES) -> list[dict[str, Any]]:
    """Those of recall; its logit in a case is normal about 1, with a standard deviation of 1."""
    true = float(expit(1 + norm.ppf((np.arange(100_000) + 0.5) / 100_000)).mean())
    rows: list[dict[str, Any]] = []
    for name, spread in LESIONS.items():
        for n in NUMBERS:
            row: dict[str, Any] = {"distribution": name, "cases": n, "samples": samples}
            rng = np.random.default_rng(n)
            held = [_recall_holds(rng, n, spread, true) for _ in range(samples if n >= MIN_UNITS else 0)]
            rows.append({**row, "coverage": float(np.mean(held)) if held else None, "verdict_error": None})
    return rows


def _recall_holds(rng: np.random.Generator, n: int, spread: float, true: float) -> bool:
    lesions = np.maximum(1, np.rint(10 * rng.lognormal(0, spread, n))).astype(int)
    found = rng.binomial(lesions, expit(rng.normal(1, 1, n)))
    hits = np.concatenate([np.arange(number) < hit for number, hit in zip(lesions, found, strict=True)])
    low, high = recall_interval(np.repeat(np.arange(n), lesions), hits)
    return low <= true <= high


def _of_differences(samples: int, resamples: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for name, draw in DISTRIBUTIONS.items():
        for n in NUMBERS:
            rng = np.random.default_rng(n)
            row: dict[str, Any] = {"distribution": name, "cases": n, "samples": samples}
            if n < MIN_UNITS:
                rows.append({**row, "coverage": None, "verdict_error": None})
                continue
            found = [
                paired_comparison(np.zeros(n), draw(rng, n), resamples=resamples, seed=number)
                for number in range(samples)
            ]
            rows.append(
                {
                    **row,
                    "coverage": float(np.mean([_covers(comparison) for comparison in found])),
                    "verdict_error": float(np.mean([shown_difference(item.p, item.interval) for item in found])),
                }
            )
    return rows


def _covers(found: PairedComparison) -> bool:
    return found.interval.low <= 0 <= found.interval.high
