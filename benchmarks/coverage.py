"""How often the interval of a paired difference misses the true mean, and how often a verdict is wrong.

The true mean is 0 throughout, of distributions that differences between trainers resemble: most alike, a few far off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nnunet_rw.evaluation.comparison.statistics import MIN_UNITS, PairedComparison, paired_comparison, shown_difference

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


def run(samples: int = SAMPLES, resamples: int = RESAMPLES) -> list[dict[str, Any]]:
    """A row per distribution and number of cases; shares are None where there are too few cases."""
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
