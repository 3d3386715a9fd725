"""How often a chosen threshold keeps its promise: false positives are drawn, so that their true mean is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_rw.evaluation.metrics.thresholds import THRESHOLDS, ThresholdedCase
from nnunet_rw.postprocessing.threshold.fit import ComparedCase, Segmented, chosen_position

ALLOWED = 4.0
# True false positives per case at each threshold, from an eighth of what is allowed to twice as many.
RATES = ALLOWED * np.geomspace(1 / 8, 2, len(THRESHOLDS))
MARGINS = (None, 0.9)


def run(choices: int = 200) -> list[dict[str, Any]]:
    """A row per number of cases, price and margin."""
    return [
        row
        for cases in (10, 20, 40)
        for of_baseline in (False, True)
        for row in kept_promises(choices, cases, of_baseline)
    ]


def kept_promises(
    choices: int, cases: int, of_baseline: bool, margins: Sequence[float | None] = MARGINS, resamples: int = 1000
) -> list[dict[str, Any]]:
    """Choose a threshold on drawn cases, many times, and ask whether the true false positives keep within.

    A case has its own tendency to false positives (gamma, of shape 1: two cases in a hundred have four times the mean),
    which the baseline shares where there is one; their numbers are Poisson's given that. A lower threshold finds more.

    Returns
    -------
    list of dict
        A row per margin: the share of the choices that keep within what is allowed, and the true false positives at
        them, of those that are allowed. A choice of no threshold keeps within.
    """
    positions: dict[float | None, list[int]] = {margin: [] for margin in margins}
    for seed in range(choices):
        drawn = _cases(np.random.default_rng(seed), cases)
        for margin, chosen in positions.items():
            position = chosen_position(drawn, None if of_baseline else ALLOWED, margin, seed, resamples)
            if position is not None:
                chosen.append(position)
    return [
        {
            "cases": cases,
            "allowed": "as many as the baseline" if of_baseline else f"{ALLOWED:g} per case",
            "margin": "none" if margin is None else f"{margin:g}",
            "choices": choices,
            "kept": 1 - float(np.sum(RATES[chosen] > ALLOWED)) / choices,
            "false_positives_of_allowed": float(np.mean(RATES[chosen]) / ALLOWED),
        }
        for margin, chosen in positions.items()
    ]


def _cases(rng: np.random.Generator, number: int) -> list[ComparedCase]:
    lesions = np.array(THRESHOLDS) + 5e-4  # one more is found at every threshold
    found, dice = np.zeros(len(lesions), bool), np.full(len(lesions), 0.5)
    drawn = []
    for case, tendency in enumerate(rng.gamma(1.0, size=number)):
        false_positives = rng.poisson(np.diff(RATES, prepend=0) * tendency).cumsum()
        curve = ThresholdedCase(lesions, np.ones(len(lesions)), false_positives, np.zeros_like(false_positives), dice)
        baseline = Segmented(found, int(rng.poisson(ALLOWED * tendency)), 0.5)
        drawn.append(ComparedCase(str(case), str(case), curve, baseline, str(case)))
    return drawn
