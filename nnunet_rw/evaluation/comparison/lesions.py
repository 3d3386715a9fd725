"""Trainers compared by the lesions that they find: by size, under other rules of what counts as found, and at the
baseline's price by rules for segmenting that other cases chose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import rankdata

from nnunet_rw.evaluation.comparison.groups import folds_or_parts, units_of
from nnunet_rw.evaluation.comparison.rows import MatchedRow, RankingRow, RuleRow, SizeRow
from nnunet_rw.evaluation.comparison.rule_choice import FamilyFit, Figures, RuleCases, choose_rules, difference, figures
from nnunet_rw.evaluation.comparison.statistics import (
    ALPHA,
    Interval,
    cluster_bootstrap,
    mean_interval,
    recall_interval,
)
from nnunet_rw.evaluation.folder import Evaluation, LesionRows
from nnunet_rw.evaluation.metrics.lesions import in_size
from nnunet_rw.evaluation.metrics.rules import Outcomes

RULES = ("hit", "matched")


def compare_by_size(
    baseline: Sequence[Evaluation],
    challengers: Sequence[Sequence[Evaluation]],
    edges_mm3: Sequence[float],
    seed: int = 0,
    resamples: int = 10_000,
    groups: Mapping[str, str] | None = None,
) -> tuple[SizeRow, ...]:
    """A row per label, challenger and size class, and one of all sizes (0 to inf) where the classes are several.

    Parameters
    ----------
    baseline, challengers : evaluations of a trainer's seeds
    edges_mm3, seed, resamples, groups
        As for `nnunet_rw.evaluation.comparison.compare.compare_evaluations`.
    """
    classes = list(pairwise(edges_mm3))
    if (0, math.inf) not in classes:
        classes.append((0, math.inf))
    labels = baseline[0].labels
    # Of Bonferroni, for the headline: one statement about the best of all challengers and labels.
    simultaneous = 1 - ALPHA / (len(labels) * max(1, len(challengers)))
    return tuple(
        _compare_size(baseline, challenger, label, (low, high), simultaneous, seed, resamples, groups)
        for label in labels
        for challenger in challengers
        for low, high in classes
    )


def compare_at_equal_false_positives(baseline: Evaluation, challengers: Sequence[Evaluation]) -> tuple[MatchedRow, ...]:
    """Does a challenger find more at the same price? A row per label and challenger that has probabilities."""
    return tuple(
        _match(baseline, challenger, label)
        for label in baseline.labels
        for challenger in challengers
        if label in challenger.operating_points
    )


def rank_by_rule(
    evaluations: Sequence[Evaluation],
    min_volumes_mm3: Sequence[float],
    otherwise_connected: Sequence[Sequence[Evaluation]] = (),
) -> tuple[RankingRow, ...]:
    """Places of the trainers under both rules, each minimum size that leaves a lesion, and other connectivities.

    The minimum size of the evaluation comes first; smaller ones change nothing and are left out. The evaluations of
    another connectivity are of the same trainers in the same order.
    """
    evaluated_mm3 = float(evaluations[0].settings.get("min_volume_mm3") or 0)
    sizes = [evaluated_mm3, *(size for size in sorted(min_volumes_mm3) if size > evaluated_mm3)]
    rows: list[RankingRow] = []
    for label in evaluations[0].labels:
        # The evaluation's own minimum concerns reference lesions alone.
        ways = [(evaluations, rule, size, 0 if size == evaluated_mm3 else size) for rule in RULES for size in sizes] + [
            (others, rule, evaluated_mm3, 0) for others in otherwise_connected for rule in RULES
        ]
        as_evaluated: list[int] = []
        for way, rule, size, predicted_size in ways:
            places = _places(way, label, rule, size, predicted_size)
            as_evaluated = as_evaluated or [row.rank for row in places]
            rows += [
                replace(row, trainer=trainer.name, rank_as_evaluated=rank)
                for row, trainer, rank in zip(places, evaluations, as_evaluated, strict=True)
                if row.lesions
            ]
    return tuple(rows)


def _compare_size(
    baseline: Sequence[Evaluation],
    challenger: Sequence[Evaluation],
    label: str,
    size_mm3: tuple[float, float],
    simultaneous: float,
    seed: int,
    resamples: int,
    groups: Mapping[str, str] | None,
) -> SizeRow:
    reference = baseline[0].lesions
    chosen = counted_rows(reference, "hit", label, *size_mm3)
    # The same lesions in the same order: `check_comparable` has made sure.
    hits = [np.mean([found.lesions.hit[chosen] > 0 for found in seeds], axis=0) for seeds in (baseline, challenger)]
    units = units_of(reference.case[chosen].tolist(), groups)
    recall = cluster_bootstrap(units, hits[0], hits[1], resamples, 1 - ALPHA, seed)
    of_all = cluster_bootstrap(units, hits[0], hits[1], resamples, simultaneous, seed).interval
    of_either = [recall_interval(units, hit) for hit in hits]
    false = [
        np.mean([_false_positives(found, label, *size_mm3) for found in seeds], axis=0)
        for seeds in (baseline, challenger)
    ]
    cost = mean_interval(false[1] - false[0], units_of(baseline[0].cases, groups), resamples, 1 - ALPHA, seed)
    return SizeRow(
        label=label,
        baseline=baseline[0].name,
        challenger=challenger[0].name,
        size_from_mm3=float(size_mm3[0]),
        size_to_mm3=float(size_mm3[1]),
        lesions=recall.lesions,
        cases=len(np.unique(reference.case[chosen])),
        baseline_recall=recall.baseline,
        baseline_low=of_either[0].low,
        baseline_high=of_either[0].high,
        challenger_recall=recall.challenger,
        challenger_low=of_either[1].low,
        challenger_high=of_either[1].high,
        difference=recall.difference,
        low=recall.interval.low,
        high=recall.interval.high,
        baseline_false_positives=float(false[0].mean()),
        challenger_false_positives=float(false[1].mean()),
        false_positives_difference=float((false[1] - false[0]).mean()),
        false_positives_low=cost.low,
        false_positives_high=cost.high,
        simultaneous_low=of_all.low,
        simultaneous_high=of_all.high,
    )


def _match(baseline: Evaluation, challenger: Evaluation, label: str) -> MatchedRow:
    price = float(_false_positives(baseline, label).mean())
    found = baseline.lesions.hit[counted_rows(baseline.lesions, "hit", label)]
    dice = baseline.columns[label]["dice"]
    defined = dice[~np.isnan(dice)]
    points = challenger.operating_points[label]
    position = points.within(price)
    columns = (points.thresholds, points.false_positives, points.recall, points.dice)
    return MatchedRow(
        label,
        baseline.name,
        challenger.name,
        price,
        float(found.mean()) if len(found) else math.nan,
        float(defined.mean()) if len(defined) else math.nan,
        *(math.nan if position is None else float(column[position]) for column in columns),
    )


def counted_rows(rows: LesionRows, rule: str, label: str, low_mm3: float = 0, high_mm3: float = math.inf) -> np.ndarray:
    """(L,) booleans: lesions of the label and size that are either found or not."""
    return (rows.label == label) & in_size(rows.volume_mm3, low_mm3, high_mm3) & ~np.isnan(getattr(rows, rule))


def _false_positives(evaluation: Evaluation, label: str, low_mm3: float = 0, high_mm3: float = math.inf) -> np.ndarray:
    rows = evaluation.predicted
    false = counted_rows(rows, "hit", label, low_mm3, high_mm3) & (rows.hit == 0)
    return number_per_case(evaluation, rows, false)


def number_per_case(evaluation: Evaluation, rows: LesionRows, chosen: np.ndarray) -> np.ndarray:
    """(N,) of the chosen lesions, (L,) booleans, how many each case has, in the order of `cases`."""
    return np.bincount(np.searchsorted(evaluation.cases, rows.case[chosen]), minlength=len(evaluation.cases))


def _places(
    evaluations: Sequence[Evaluation], label: str, rule: str, min_volume_mm3: float, min_predicted_mm3: float
) -> list[RankingRow]:
    rows = []
    for evaluation in evaluations:
        reference = counted_rows(evaluation.lesions, rule, label, min_volume_mm3)
        predicted = counted_rows(evaluation.predicted, rule, label, min_predicted_mm3)
        found = reference & (getattr(evaluation.lesions, rule) > 0)
        false = int((predicted & (getattr(evaluation.predicted, rule) == 0)).sum())
        right = _number_right(evaluation, rule, found, predicted)
        lesions = int(reference.sum())
        recall = float(found.sum() / lesions) if lesions else math.nan
        precision = right / (right + false) if right + false else math.nan
        rows.append(
            RankingRow(
                label=label,
                rule=rule,
                connectivity=int(evaluation.settings.get("connectivity") or 26),
                min_volume_mm3=min_volume_mm3,
                trainer=evaluation.name,
                lesions=lesions,
                recall=recall,
                predicted=right + false,
                precision=precision,
                false_positives_per_case=false / len(evaluation.cases),
                f1=2 * precision * recall / (precision + recall) if found.any() else 0.0,
                rank=0,
                rank_as_evaluated=0,
            )
        )
    ranks = rankdata([-row.f1 for row in rows], method="min")
    return [replace(row, rank=int(rank)) for row, rank in zip(rows, ranks, strict=True)]


def _number_right(evaluation: Evaluation, rule: str, found: np.ndarray, predicted: np.ndarray) -> int:
    """Predicted lesions that are right, of those that count by size and of smaller ones that found a lesion.

    Smaller ones may be all that found it. One-to-one every found lesion has one of its own. By any overlap nothing
    tells which of the smaller ones did: a case in which a lesion is found has one that is right, at least. To count all
    of them that are right would add those of lesions that are left out, and drop the false ones of their size.
    """
    if rule == "matched":
        return int(found.sum())
    right = number_per_case(evaluation, evaluation.predicted, predicted & (evaluation.predicted.hit > 0))
    return int(np.maximum(right, number_per_case(evaluation, evaluation.lesions, found) > 0).sum())


@dataclass(frozen=True)
class _Decided:
    """A trainer's cases of one class under every rule, as they were segmented, and the rule that was chosen."""

    trainer: Evaluation
    cases: RuleCases
    as_segmented: Outcomes
    best: FamilyFit | None


def compare_by_rules(
    baseline: Evaluation,
    challengers: Sequence[Evaluation],
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> tuple[RuleRow, ...]:
    """Who finds more at the same price? A row per label and trainer that has probabilities, the baseline first.

    The price is the false positives of the baseline as it was segmented, and no less Dice. Where the cases are of a
    single fold they are split into five. Fewer than two cases, or patients, choose nothing: there is no row. Nor is
    there any of a label for which no challenger has probabilities.

    Parameters
    ----------
    baseline, challengers : Evaluation
        Of the same cases.
    seed : int
        Of that split and of the intervals.
    groups : mapping of case to patient, optional
        Intervals are over patients.
    """
    units = units_of(baseline.cases, groups)
    if len(set(units)) < 2:
        return ()
    rows: list[RuleRow] = []
    for label in baseline.labels:
        decided = [
            _decided(baseline, trainer, label, units, seed)
            for trainer in (baseline, *challengers)
            if label in trainer.rules
        ]
        if not any(found.trainer is not baseline for found in decided):
            continue
        at_its_best: Outcomes | None = None
        for found in decided:
            row = _row(found, at_its_best, baseline.name, label, seed)
            rows.append(row)
            if found.trainer is baseline:
                by_rule = found.best if row.rule_loses_nothing else None
                at_its_best = by_rule.left_out if by_rule else found.as_segmented
    return tuple(rows)


def _decided(baseline: Evaluation, trainer: Evaluation, label: str, units: Sequence[str], seed: int) -> _Decided:
    table = trainer.rules[label]
    (of_baseline, lesions), (half, _) = (_as_segmented(evaluation, label) for evaluation in (baseline, trainer))
    cases = RuleCases(
        grid=table.grid,
        outcomes=[Outcomes(*values) for values in zip(*table.outcomes, strict=True)],
        num_lesions=lesions,
        baseline=of_baseline,
        folds=folds_or_parts(table.folds, units, seed=seed),
        units=units,
    )
    return _Decided(trainer, cases, half, choose_rules(cases, seed=seed).best)


def _row(decided: _Decided, at_its_best: Outcomes | None, baseline: str, label: str, seed: int) -> RuleRow:
    """At its best is the baseline, where it has probabilities."""
    cases, best = decided.cases, decided.best
    row = RuleRow(
        label=label,
        baseline=baseline,
        trainer=decided.trainer.name,
        folds=len(set(cases.folds)),
        **_named("allowed", "baseline_{}", figures(cases.baseline, cases.num_lesions)),
        **_named("half_false_positives", "half_{}", figures(decided.as_segmented, cases.num_lesions)),
    )
    if best is None or best.rule is None:
        return row
    intervals: dict[str, Interval] = {name: getattr(best, name) for name in ("excess", "recall", "dice")}
    gains: dict[str, Any] = {}
    if at_its_best is not None:
        both = best.left_out, at_its_best
        gains["recall_gain"], intervals["recall_gain"] = difference(cases, *both, "recall", seed)
        gains["dice_gain"], intervals["dice_gain"] = difference(cases, *both, "dice", seed)
    return replace(
        row,
        family=best.family,
        **best.rule._asdict(),
        rules_in_folds=len(set(best.rules_without.values())),
        **_named("false_positives", "{}", best.figures),
        recall_difference=best.recall_difference,
        dice_difference=best.dice_difference,
        **gains,
        **{f"{name}_{end}": value for name, ends in intervals.items() for end, value in ends._asdict().items()},
    )


def _named(false_positives: str, others: str, found: Figures) -> dict[str, Any]:
    """Figures by the names of a row's columns."""
    names = (false_positives, *(others.format(name) for name in Figures._fields[1:]))
    return {name: float(value) for name, value in zip(names, found, strict=True)}


def _as_segmented(evaluation: Evaluation, label: str) -> tuple[Outcomes, np.ndarray]:
    """(N,) each: what was found one to one, and the lesions."""
    per_case = partial(number_per_case, evaluation)
    lesions, predicted = (counted_rows(rows, "matched", label) for rows in (evaluation.lesions, evaluation.predicted))
    outcomes = Outcomes(
        per_case(evaluation.lesions, lesions & (evaluation.lesions.matched > 0)),
        per_case(evaluation.predicted, predicted & (evaluation.predicted.matched > 0)),
        per_case(evaluation.predicted, predicted & (evaluation.predicted.matched == 0)),
        evaluation.columns[label]["dice"],
    )
    return outcomes, per_case(evaluation.lesions, lesions)
