"""Trainers compared at the baseline's price, the baseline among them, each by a rule that other cases chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from nnunet_rw.evaluation.comparison.groups import folds_or_parts, units_of
from nnunet_rw.evaluation.comparison.intervals import Interval
from nnunet_rw.evaluation.comparison.lesions import counted_rows, number_per_case
from nnunet_rw.evaluation.comparison.rows import RuleRow
from nnunet_rw.evaluation.comparison.rule_choice import FamilyFit, Figures, RuleCases, choose_rules, difference, figures
from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.evaluation.metrics.rules import Outcomes


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
