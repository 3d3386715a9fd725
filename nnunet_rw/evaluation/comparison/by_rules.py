"""Trainers compared at the baseline's price, each by a rule that other cases chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from nnunet_rw.evaluation.comparison.groups import folds_or_parts, units_of
from nnunet_rw.evaluation.comparison.intervals import Interval
from nnunet_rw.evaluation.comparison.lesions import counted_rows, number_per_case
from nnunet_rw.evaluation.comparison.rows import RuleRow
from nnunet_rw.evaluation.comparison.rule_choice import Figures, RuleCases, choose_rules, figures
from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.evaluation.metrics.rules import Outcomes


def compare_by_rules(
    baseline: Evaluation,
    challengers: Sequence[Evaluation],
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> tuple[RuleRow, ...]:
    """Does a challenger find more at the same price? A row per label and challenger that has probabilities.

    The price is the baseline's false positives, and no less Dice. Where the cases are of a single fold they are split
    into five. Fewer than two cases, or patients, choose nothing: there is no row.

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
    return tuple(
        _row(baseline, challenger, label, units, seed)
        for label in baseline.labels
        for challenger in challengers
        if label in challenger.rules
    )


def _row(baseline: Evaluation, challenger: Evaluation, label: str, units: Sequence[str], seed: int) -> RuleRow:
    table = challenger.rules[label]
    (of_baseline, lesions), (half, _) = (_as_segmented(evaluation, label) for evaluation in (baseline, challenger))
    cases = RuleCases(
        grid=table.grid,
        outcomes=[Outcomes(*values) for values in zip(*table.outcomes, strict=True)],
        num_lesions=lesions,
        baseline=of_baseline,
        folds=folds_or_parts(table.folds, units, seed=seed),
        units=units,
    )
    best = choose_rules(cases, seed=seed).best
    row = RuleRow(
        label=label,
        baseline=baseline.name,
        challenger=challenger.name,
        folds=len(set(cases.folds)),
        **_named("allowed", "baseline_{}", figures(of_baseline, lesions)),
        **_named("half_false_positives", "half_{}", figures(half, lesions)),
    )
    if best is None or best.rule is None:
        return row
    intervals: dict[str, Interval] = {name: getattr(best, name) for name in ("excess", "recall", "dice")}
    return replace(
        row,
        family=best.family,
        **best.rule._asdict(),
        rules_in_folds=len(set(best.rules_without.values())),
        **_named("false_positives", "{}", best.figures),
        recall_difference=best.recall_difference,
        dice_difference=best.dice_difference,
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
