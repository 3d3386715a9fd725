"""How often a chosen threshold keeps its promise: false positives are drawn, so that their true mean is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_rw.evaluation.comparison.rule_choice import RuleCases, chosen_rule
from nnunet_rw.evaluation.metrics.probabilities import THRESHOLDS
from nnunet_rw.evaluation.metrics.rules import Outcomes, RuleGrid

ALLOWED = 4.0
GRID = RuleGrid((0.0,))
SINGLE = GRID.family("single")
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
        drawn = _cases(np.random.default_rng(seed), cases, of_baseline)
        for margin, chosen in positions.items():
            rule = chosen_rule(drawn, np.arange(cases), SINGLE, "recall", margin, seed, resamples)
            if rule is not None:
                chosen.append(int(GRID.places[0, rule]))
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


def _cases(rng: np.random.Generator, number: int, of_baseline: bool) -> RuleCases:
    found = np.arange(len(THRESHOLDS))  # one more is found at every threshold
    outcomes, of_baselines = [], []
    for tendency in rng.gamma(1.0, size=number):
        false_positives = rng.poisson(np.diff(RATES, prepend=0) * tendency).cumsum()
        outcomes.append(_of_grid(found, false_positives))
        of_baselines.append(int(rng.poisson(ALLOWED * tendency)))
    nothing = np.zeros(number, int)
    baseline = Outcomes(nothing, nothing, np.array(of_baselines), np.full(number, 0.5))
    names = [str(case) for case in range(number)]
    lesions = np.full(number, len(THRESHOLDS))
    return RuleCases(GRID, outcomes, lesions, baseline, names, names, None if of_baseline else ALLOWED)


def _of_grid(found: np.ndarray, false_positives: np.ndarray) -> Outcomes:
    """Of single thresholds, as those of all rules; the others are not asked for."""
    low = GRID.places[0]
    return Outcomes(found[low], found[low], false_positives[low], np.full(len(GRID), 0.5))
