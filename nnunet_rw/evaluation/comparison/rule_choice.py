"""Families of rules fitted together at one price, each tested on the cases that its choice did not see.

The one place that decides what a choice may see. ``nnunet-rw threshold --fit`` and comparisons of trainers both use it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import numpy as np
from scipy.stats import gamma

from nnunet_rw.evaluation.comparison.groups import cases_apart, parts_of
from nnunet_rw.evaluation.comparison.statistics import (
    MIN_UNITS,
    NO_INTERVAL,
    Interval,
    jackknife_interval,
    mean_interval,
    ratio_interval,
    sums_by_unit,
)
from nnunet_rw.evaluation.metrics.lesions import ROUNDING
from nnunet_rw.evaluation.metrics.rules import FAMILIES, DecisionRule, Outcomes, RuleGrid, mean_dice, ratio

Aim = Literal["recall", "f1", "dice"]
# With a margin: shares of the price, and parts of the cases, with which it is tightened.
_SHARES = np.linspace(0.05, 1, 20)
_PARTS = 5


@dataclass(frozen=True)
class RuleCases:
    """N cases of one class, under every rule and as they are compared.

    Attributes
    ----------
    grid : RuleGrid
    outcomes : sequence of N Outcomes
        Of the K rules of the grid.
    num_lesions : int64 (N,)
        Counted ones of the reference.
    baseline : Outcomes
        (N,) each: of another model, or of the model's own usual segmentation.
    folds, units : sequences of N str
        What is chosen for a case is chosen on the cases of other folds, and of other patients than its fold has; the
        patient, or the case itself.
    false_positives : float, optional
        Per case, that a rule may have. Default: as many as the baseline has.
    keeps_dice : bool
        A rule's mean Dice is not below the baseline's, both over the cases `with_reference`.
    """

    grid: RuleGrid
    outcomes: Sequence[Outcomes]
    num_lesions: np.ndarray
    baseline: Outcomes
    folds: Sequence[str]
    units: Sequence[str]
    false_positives: float | None = None
    keeps_dice: bool = True

    @cached_property
    def stacked(self) -> Outcomes:
        """(N, K) each."""
        return Outcomes(*(np.stack(values) for values in zip(*self.outcomes, strict=True)))

    @cached_property
    def allowed(self) -> np.ndarray:
        """float64 (N,): false positives that each case may have."""
        if self.false_positives is not None:
            return np.full(len(self.units), float(self.false_positives))
        return self.baseline.false_positives.astype(float)

    @cached_property
    def with_reference(self) -> np.ndarray:
        """Booleans (N,): cases whose Dice is defined however they are segmented, as their reference has a voxel.

        A lesion-free case in which every rule and the baseline predict something is among them; its Dice is 0 for all.
        """
        return ~(np.isnan(self.stacked.dice).any(1) | np.isnan(self.baseline.dice))

    @property
    def least_dice(self) -> float:
        """That a rule must have on all cases `with_reference`; NaN without such a condition, or without such a case."""
        return float(mean_dice(self.baseline.dice[self.with_reference])) if self.keeps_dice else math.nan

    def under(self, rules: Sequence[int]) -> Outcomes:
        """(N,) each: every case under a rule of its own."""
        return Outcomes(*(values[np.arange(len(rules)), rules] for values in self.stacked))


class Figures(NamedTuple):
    """Of pooled cases: false positives per case, recall and F1 of the pooled lesions, mean Dice where it is defined."""

    false_positives_per_case: float | np.ndarray
    recall: float | np.ndarray
    f1: float | np.ndarray
    dice: float | np.ndarray


def figures(outcomes: Outcomes, num_lesions: np.ndarray) -> Figures:
    """Pool N cases, of one rule each ((N,) arrays) or of K rules ((N, K)).

    Recall is NaN without a lesion, F1 0 where nothing is found, Dice NaN where it is defined nowhere.
    """
    found, right, false = (values.sum(0) for values in outcomes[:3])
    lesions = np.full(np.shape(found), num_lesions.sum())
    recall = ratio(found, lesions)
    precision = ratio(right, right + false, 0.0)
    f1 = ratio(2 * precision * recall, precision + recall, 0.0)
    return Figures(false / len(num_lesions), recall, f1, mean_dice(outcomes.dice))


@dataclass(frozen=True)
class FamilyFit:
    """The best rule of a family, and what it does in cases left out of the choice.

    Attributes
    ----------
    family : str
        A key of `nnunet_rw.evaluation.metrics.rules.FAMILIES`.
    rule : DecisionRule or None
        Chosen on all cases; None where none keeps the conditions.
    rules_without : dict of str to DecisionRule
        By the fold left out, and applied to it; where none keeps the conditions, the nearest.
    left_out : Outcomes
        (N,) each: of each case under the rule chosen without its fold.
    figures : Figures
        Of these.
    mean_excess : float
        False positives per case beyond those that are allowed.
    recall_difference, dice_difference : float
        To the baseline.
    false_positives, excess, recall, dice : Interval
        95 % over units: of the false positives per case; of what they have more than allowed, of the difference in
        recall and of the mean difference in Dice, case by case.
    gain : Interval
        95 % of the aim beyond that of the simplest family, both in cases left out.
    """

    family: str
    rule: DecisionRule | None
    rules_without: dict[str, DecisionRule]
    left_out: Outcomes
    figures: Figures
    mean_excess: float
    recall_difference: float
    dice_difference: float
    false_positives: Interval
    excess: Interval
    recall: Interval
    dice: Interval
    gain: Interval


class RuleChoice(NamedTuple):
    """Families from the simplest on, and the one that is chosen.

    Attributes
    ----------
    families : tuple of FamilyFit
    best : FamilyFit or None
        None where no rule keeps the conditions.
    over : FamilyFit or None
        The simpler one that it has replaced; None for the simplest that keeps the conditions.
    gain, gain_interval : float, Interval
        Of the aim beyond that of the replaced one, both in cases left out; NaN without it.
    """

    families: tuple[FamilyFit, ...]
    best: FamilyFit | None
    over: FamilyFit | None = None
    gain: float = math.nan
    gain_interval: Interval = NO_INTERVAL


def choose_rules(
    cases: RuleCases,
    aim: Aim = "recall",
    families: Sequence[str] = tuple(FAMILIES),
    margin: float | None = None,
    seed: int = 0,
) -> RuleChoice:
    """For each family the rule with most of the aim, among those that keep the conditions, and one of them all.

    The simplest family is chosen, unless a richer one has more of the aim in cases left out, by more than chance: its
    95 % interval of the gain is above 0. The gain is over the richest that has passed so far, so that what a part of a
    rule brings is not taken for that of the next. With few cases, of which there is no interval, it is the simplest.

    Rules are chosen without the cases that they are judged on, the family is not: it is one of four, and by a test.

    Parameters
    ----------
    cases : RuleCases
    aim : "recall", "f1" or "dice"
        Recall and F1 are those of lesions.
    families : sequence of str
        From the simplest on.
    margin : float, optional
        Confidence, in (0.5, 1), with which new cases keep within the false positives, see `chosen_rule`.
    seed : int
        Of the intervals and of the margin.

    Raises
    ------
    ValueError
        An unknown aim or family, an impossible price or margin, or too few units for a margin.
    """
    _check(cases, aim, families, margin)
    fits: list[FamilyFit] = []
    for name in families:
        fits.append(_fit_family(name, cases, aim, margin, seed, fits[0] if fits else None))
    choice = RuleChoice(tuple(fits), None)
    for fit in fits:
        if fit.rule is None:
            continue
        if choice.best is None:
            choice = choice._replace(best=fit)
            continue
        gain, interval = difference(cases, fit.left_out, choice.best.left_out, aim, seed)
        if interval.low > 0:
            choice = RuleChoice(choice.families, fit, choice.best, gain, interval)
    return choice


def chosen_rule(
    cases: RuleCases,
    seen: np.ndarray,
    family: np.ndarray,
    aim: Aim = "recall",
    margin: float | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> int | None:
    """Of the best rule of a family on some cases: of those that keep within the price, and no less Dice than allowed.

    Dice is the mean over the same cases for every rule and for the baseline, those `RuleCases.with_reference`. A
    lesion-free case has a Dice of 0, or none where it is left empty: over the cases where each has one, a rule that
    empties these would be excused from what it loses in the others. The price tells what they cost.

    Without a margin the mean of the false positives keeps within the price, so that every second choice has more of
    them in new cases. With one, the price is tightened: it is the largest share, tried from the smallest up, at which
    cases left out of the choice keep within the whole price with that confidence, by the upper bound of what they have
    more, case by case. The choice is tested as a whole, so that trying many rules costs no confidence.

    Parameters
    ----------
    cases : RuleCases
    seen : integers (S,)
        The cases that the choice may see.
    family : booleans (K,)
    aim, margin, seed, resamples
        Of the choice and of the bound.

    Returns
    -------
    int or None
        None where none keeps the conditions.
    """
    pool = _Pool(cases, seen, family)
    if margin is None:
        return pool.best(aim)
    by_unit = parts_of([cases.units[case] for case in seen], _PARTS, seed)
    parts = np.array([by_unit[cases.units[case]] for case in seen])
    pools = [_Pool(cases, seen[parts != part], family) for part in range(parts.max() + 1)]
    share = 0.0
    for tried in _SHARES:
        rules = [other.best(aim, float(tried)) for other in pools]
        if None in rules:
            continue
        false = np.array(
            [cases.stacked.false_positives[case, rules[part]] for case, part in zip(seen, parts, strict=True)]
        )
        if not _keeps_within(false, cases, seen, margin, seed, resamples):
            break
        share = float(tried)
    return pool.best(aim, share) if share else None


def _keeps_within(
    false: np.ndarray, cases: RuleCases, seen: np.ndarray, margin: float, seed: int, resamples: int
) -> bool:
    excess = false - cases.allowed[seen]
    if excess.sum() > 0:
        return False
    bound = upper_bound(excess, margin, seed, resamples, [cases.units[case] for case in seen])
    if cases.false_positives is not None:
        # Where few are seen the bootstrap knows little of those that are not: Poisson's exact bound is the least.
        bound = max(bound, float(gamma.ppf(margin, false.sum() + 1)) / len(seen) - cases.false_positives)
    return bound <= ROUNDING


def upper_bound(
    values: np.ndarray,
    confidence: float,
    seed: int = 0,
    resamples: int = 10_000,
    units: Sequence[str] | None = None,
) -> float:
    """One-sided upper confidence bound of a mean over cases; NaN where there are too few units for an interval.

    Parameters
    ----------
    values : (N,) floats
    confidence : float
        In (0.5, 1).
    seed, resamples : int
        Of the bootstrap.
    units : (N,) names, optional
        The patient of each; each is its own where none are given.
    """
    return mean_interval(values, units, resamples=resamples, confidence=2 * confidence - 1, seed=seed).high


class _Pool:
    """Some cases pooled under every rule of a family; `dice` is that of those with a reference."""

    def __init__(self, cases: RuleCases, seen: np.ndarray, family: np.ndarray) -> None:
        self.rules = np.flatnonzero(family)
        self.places = cases.grid.places[:, self.rules]
        outcomes = Outcomes(*(values[np.ix_(seen, self.rules)] for values in cases.stacked))
        with_reference = cases.with_reference[seen]
        self.figures = figures(outcomes, cases.num_lesions[seen])
        self.dice = mean_dice(outcomes.dice[with_reference])
        self.price = float(cases.allowed[seen].mean())
        least = float(mean_dice(cases.baseline.dice[seen][with_reference])) if cases.keeps_dice else math.nan
        self.has_dice = np.isnan(least) | (self.dice >= least - ROUNDING)

    def best(self, aim: Aim, share: float = 1.0) -> int | None:
        """The rule with most of the aim within a share of the price; None where none keeps the conditions."""
        false, dice = np.asarray(self.figures.false_positives_per_case), np.asarray(self.figures.dice)
        within = (false <= share * self.price * (1 + ROUNDING)) & self.has_dice
        if not within.any():
            return None
        # Between rules that are equal, it speaks for one that it leaves lesion-free cases empty.
        most = self.dice if aim == "dice" else np.asarray(getattr(self.figures, aim))
        return self._middle(within, (most, dice, -false))

    def nearest(self) -> int:
        """Where none keeps the conditions: that of most Dice within the price, or of fewest false positives."""
        false, dice = np.asarray(self.figures.false_positives_per_case), np.asarray(self.figures.dice)
        within = false <= self.price * (1 + ROUNDING)
        if within.any():
            return self._middle(within, (self.dice, -false))
        return self._middle(~within, (-false, dice))

    def _middle(self, allowed: np.ndarray, keys: Sequence[np.ndarray]) -> int:
        """The allowed rule of the largest first key, ties by the next ones: the middle of those that are as good.

        So none is taken that another allowed one beats in all keys. At the edge of a plateau the next case is over it.
        No volume is taken rather than a small one.
        """
        left = np.flatnonzero(allowed)
        for key in keys:
            values = np.nan_to_num(key[left], nan=-np.inf)
            left = left[values >= values.max() - ROUNDING]
        left = left[self.places[2, left] == self.places[2, left].min()]
        places = self.places[:, left]
        return int(self.rules[left[np.abs(places - places.mean(1, keepdims=True)).sum(0).argmin()]])


def _fit_family(
    name: str, cases: RuleCases, aim: Aim, margin: float | None, seed: int, simplest: FamilyFit | None
) -> FamilyFit:
    family = cases.grid.family(name)
    everything = np.arange(len(cases.folds))
    chosen = chosen_rule(cases, everything, family, aim, margin, seed)
    without: dict[str, int] = {}
    for fold in sorted(set(cases.folds)):
        seen = np.flatnonzero(cases_apart(cases.folds, cases.units, fold))
        kept = chosen_rule(cases, seen, family, aim, margin, seed)
        without[fold] = _Pool(cases, seen, family).nearest() if kept is None else kept
    left_out = cases.under([without[fold] for fold in cases.folds])
    false, units = left_out.false_positives.astype(float), np.array(cases.units)
    recall_difference, recall = difference(cases, left_out, cases.baseline, "recall", seed)
    dice_difference, dice = difference(cases, left_out, cases.baseline, "dice", seed)
    return FamilyFit(
        family=name,
        rule=None if chosen is None else cases.grid.rule(chosen),
        rules_without={fold: cases.grid.rule(rule) for fold, rule in without.items()},
        left_out=left_out,
        figures=figures(left_out, cases.num_lesions),
        mean_excess=float((false - cases.allowed).mean()),
        recall_difference=recall_difference,
        dice_difference=dice_difference,
        false_positives=mean_interval(false, units, seed=seed).within(0, math.inf),
        # None can have fewer than none.
        excess=mean_interval(false - cases.allowed, units, seed=seed).within(-float(cases.allowed.mean()), math.inf),
        recall=recall,
        dice=dice,
        gain=NO_INTERVAL if simplest is None else difference(cases, left_out, simplest.left_out, aim, seed)[1],
    )


def difference(cases: RuleCases, first: Outcomes, second: Outcomes, aim: Aim, seed: int = 0) -> tuple[float, Interval]:
    """A figure of the first minus that of the second, both (N,) of the same cases, and its 95 % interval over units.

    Recall and F1 are of pooled lesions; Dice is the mean over the cases where both have one, NaN without any.
    """
    units = np.array(cases.units)
    if aim == "dice":
        more = first.dice - second.dice
        defined = ~np.isnan(more)
        mean = float(more[defined].mean()) if defined.any() else math.nan
        return mean, mean_interval(more[defined], units[defined], seed=seed).within(-1, 1)

    def of_pooled(seen: np.ndarray) -> float:
        one, other = (
            figures(Outcomes(*(values[seen] for values in found)), cases.num_lesions[seen]) for found in (first, second)
        )
        return float(getattr(one, aim)) - float(getattr(other, aim))

    found = of_pooled(np.ones(len(units), bool))
    if aim == "f1":
        return found, jackknife_interval(units, of_pooled, seed).within(-1, 1)
    # As of `nnunet_rw.evaluation.comparison.statistics.cluster_bootstrap`, of the sums of each unit.
    gains, counts = (sums_by_unit(units, values)[0] for values in (first.found - second.found, cases.num_lesions))
    return found, ratio_interval(gains[counts > 0], counts[counts > 0], seed=seed).within(-1, 1)


def _check(cases: RuleCases, aim: str, families: Sequence[str], margin: float | None) -> None:
    if aim not in get_args(Aim):
        raise ValueError(f"Expected the aim to be one of {get_args(Aim)}, but got {aim!r}.")
    unknown = [name for name in families if name not in FAMILIES]
    if unknown or not families:
        raise ValueError(f"Expected families out of {', '.join(FAMILIES)}, but got {', '.join(unknown) or 'none'}.")
    if margin is None:
        return
    units = np.array(cases.units)
    fewest = min(len(set(units[cases_apart(cases.folds, cases.units, fold)])) for fold in set(cases.folds))
    if fewest < MIN_UNITS:
        raise ValueError(
            f"Expected more cases or patients for a margin, but a fold is left with {fewest} of "
            f"{len(set(cases.units))} to choose on, fewer than {MIN_UNITS}. Leave --margin out."
        )
