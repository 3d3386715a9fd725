"""The sentence that a reader came for: which trainer found more, and at what price."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from nnunet_rw.benchmark.report.leaderboard import pooled_detection
from nnunet_rw.benchmark.report.lesion_figures import chosen_rules, size_rows
from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.comparison.rows import (
    BETTER,
    NOT_SHOWN,
    NOT_TESTED,
    WITHIN_NOISE,
    WORSE,
    MatchedRow,
    MetricRow,
    RuleRow,
    SizeRow,
)
from nnunet_rw.evaluation.comparison.statistics import MIN_UNITS
from nnunet_rw.util.tables import rounded, signed_interval

_EVERY = 0.0, math.inf


@dataclass(frozen=True)
class Answer:
    """Of a label: a sentence in plain words, and the numbers that it rests on."""

    label: str
    sentence: str
    details: str = ""


def answers(task: TaskResults) -> list[Answer]:
    """One a label; one in all where nothing is evaluated.

    About the trainer of highest recall besides the baseline; without a comparison, about each.
    """
    evaluated = next(iter(task.first_seeds.values()), None)
    if evaluated is None:
        return [Answer("", "No trainer is evaluated yet.")]
    return [replace(_answer(task, label), label=task.label_text(label)) for label in evaluated.labels]


def _answer(task: TaskResults, label: str) -> Answer:
    rows = [row for row in size_rows(task, label) if (row.size_from_mm3, row.size_to_mm3) == _EVERY and row.lesions]
    if not rows:
        return Answer(label, "No case has a lesion, so that none could be found.")
    if task.comparison is None:
        found = "; ".join(_alone(task, row) for row in rows)
        why = f" Nothing is compared: {task.why_not_compared}." if task.why_not_compared else ""
        return Answer(label, f"{found}.{why}")
    metrics = {(found.challenger, found.metric): found for found in task.comparison.metrics if found.label == label}
    dice = {row.challenger: metrics.get((row.challenger, "dice")) for row in rows}
    shown = {row.challenger: _shown(row, metrics.get((row.challenger, "lesion_recall"))) for row in rows}
    # Who was shown to find more goes before who found more by chance.
    row = max(
        rows,
        key=lambda row: (shown[row.challenger] == BETTER, row.difference, _difference(dice[row.challenger])),
    )
    price = _price(row, metrics.get((row.challenger, "false_positives")))
    rules = {found.trainer: found for found in chosen_rules(task, label)}
    rated = [found for found in task.comparison.matched if (found.label, found.challenger) == (label, row.challenger)]
    adjusted = len(task.comparison.challengers) * len(task.comparison.family.labels) > 1
    details = [
        _intervals(row, adjusted, "patients" if task.comparison.patients else "cases"),
        *(
            [_out_of_fold(rules[row.challenger], rules.get(row.baseline), task.size_unit)]
            if row.challenger in rules
            else map(_at_equal_price, rated)
        ),
        _dice(dice[row.challenger]),
    ]
    return Answer(label, _sentence(row, shown, price), " ".join(details).strip())


def _alone(task: TaskResults, row: SizeRow) -> str:
    """What one trainer found, over all its seeds."""
    recall = [pooled_detection(seed, row.label).recall for seed in task.evaluations[row.baseline].values()]
    share = _percent(row.baseline_recall)
    low, high = _percent(min(recall)), _percent(max(recall))
    if len(recall) > 1:
        share += f" with each of {len(recall)} seeds" if low == high else f", of {len(recall)} seeds {low} to {high}"
    found = f"{row.baseline} found {_count(row.baseline_recall, row)} of {row.lesions} lesions ({share})"
    return f"{found}, with {_number(row.baseline_false_positives)} false positives per case"


def _shown(row: SizeRow, tested: MetricRow | None) -> str:
    """The verdict on recall that a headline may tell.

    Better or worse where the adjusted test of recall per case says so and the interval of pooled recall that holds for
    all challengers and labels is on the same side: the headline is about the best of them.
    """
    if tested is None or math.isnan(tested.p_holm) or math.isnan(row.simultaneous_low):
        return NOT_TESTED
    if tested.verdict == BETTER and not row.simultaneous_low > 0:
        return NOT_SHOWN
    if tested.verdict == WORSE and not row.simultaneous_high < 0:
        return NOT_SHOWN
    return tested.verdict


def _sentence(row: SizeRow, shown: Mapping[str, str], price: str) -> str:
    """About one challenger, given what is shown of all."""
    counts = (
        f"{_count(row.challenger_recall, row)} instead of {_count(row.baseline_recall, row)} of {row.lesions} "
        f"({_percent(row.challenger_recall)} instead of {_percent(row.baseline_recall)})"
    )
    verdict = shown[row.challenger]
    if row.difference == 0:
        equal = f"{_count(row.baseline_recall, row)} of {row.lesions}"
        return f"{row.challenger} found as many lesions as {row.baseline}, {equal}, {price}."
    if verdict == NOT_TESTED:
        return f"Too few cases to test: {row.challenger} found {counts}, {price}."
    if verdict == BETTER:
        return f"{row.challenger} found more lesions than {row.baseline}, {counts}, {price}."
    if set(shown.values()) == {WORSE}:
        others = f"All others found fewer lesions than {row.baseline}; the best of them, {row.challenger}, found"
        alone = f"{row.challenger} found fewer lesions than {row.baseline},"
        return f"{others if len(shown) > 1 else alone} {counts}, {price}."
    why = "adjusted for all that was tried, no difference is shown"
    if verdict == WITHIN_NOISE:
        why = "the difference is no larger than between seeds"
    elif verdict == WORSE:
        why = "that is fewer"
    nobody = f"No trainer was shown to find more lesions than {row.baseline}"
    return f"{nobody}: {row.challenger} found {counts}, but {why}; {price}."


def _price(row: SizeRow, tested: MetricRow | None) -> str:
    both = f"{_number(row.challenger_false_positives)} instead of {_number(row.baseline_false_positives)}"
    verdict = NOT_TESTED if tested is None else tested.verdict
    if verdict == NOT_TESTED:
        return f"with {both} false positives per case"
    if verdict not in (BETTER, WORSE):
        return f"with no difference shown in false positives per case ({both})"
    change = _number(abs(row.false_positives_difference))
    if verdict == WORSE:
        return f"at the price of {change} more false positives per case ({both})"
    return f"with {change} fewer false positives per case ({both})"


def _intervals(row: SizeRow, adjusted: bool, units: str) -> str:
    if math.isnan(row.simultaneous_low):
        return f"There is no interval: fewer than {MIN_UNITS} {units} have lesions."
    recall = _points(row.difference, row.simultaneous_low, row.simultaneous_high)
    cost = signed_interval(row.false_positives_difference, (row.false_positives_low, row.false_positives_high), 2)
    of_all = ", adjusted for all trainers and labels," if adjusted else ""
    return (
        f"Differences with 95 % studentised bootstrap intervals over {units}: recall{of_all} {recall} points, false "
        f"positives per case {cost}."
    )


def _out_of_fold(row: RuleRow, of_baseline: RuleRow | None, unit: str) -> str:
    """What the chosen rule finds in cases that its choice had not seen, beside the baseline at its best."""
    price = f"the {_number(row.allowed)} false positives per case that {row.baseline} has"
    if row.rule is None:
        return f"With one-to-one matching no rule of {row.trainer} keeps within {price} and the Dice."
    measured = "and measured out of fold with one-to-one matching"
    half = f"as segmented it finds {_percent(row.half_recall)} with {_number(row.half_false_positives)}"
    if of_baseline is None or of_baseline.rule is None or not of_baseline.rule_loses_nothing:
        gain = _points(row.recall_difference, row.recall_low, row.recall_high)
        return (
            f"With a rule chosen for no more than {price} ({row.rule.text(unit)}) {measured}, {row.trainer} finds "
            f"{_percent(row.recall)} instead of {_percent(row.baseline_recall)}, {gain} points, with "
            f"{_number(row.false_positives)} false positives per case; {half}."
        )
    gain = _points(row.recall_gain, row.recall_gain_low, row.recall_gain_high)
    return (
        f"With rules chosen for no more than {price} ({row.rule.text(unit)}; of {row.baseline} "
        f"{of_baseline.rule.text(unit)}) {measured}, {row.trainer} finds {_percent(row.recall)} instead of "
        f"{_percent(of_baseline.recall)}, {gain} points, with {_number(row.false_positives)} instead of "
        f"{_number(of_baseline.false_positives)} false positives per case; {half}, {row.baseline} "
        f"{_percent(row.baseline_recall)}."
    )


def _at_equal_price(row: MatchedRow) -> str:
    price = f"the {_number(row.false_positives)} false positives per case that {row.baseline} has"
    if math.isnan(row.threshold):
        return f"At no threshold {row.challenger} keeps within {price}."
    return (
        f"With no more than {price}, at a threshold of {row.threshold:g} that was chosen on these same cases, "
        f"{row.challenger} finds {_percent(row.challenger_recall)} instead of {_percent(row.baseline_recall)}."
    )


def _dice(row: MetricRow | None) -> str:
    if row is None or not row.n:
        return ""
    verdict = NOT_SHOWN if row.difference == 0 else row.verdict
    return f"Mean Dice: {row.challenger_mean:.3f} instead of {row.baseline_mean:.3f}, {verdict}."


def _difference(row: MetricRow | None) -> float:
    return row.difference if row is not None and math.isfinite(row.difference) else -math.inf


def _count(recall: float, row: SizeRow) -> str:
    """Lesions found; with a decimal where the mean over seeds is no whole number."""
    return f"{round(recall * row.lesions, 1):g}"


def _number(value: float) -> str:
    return rounded(value, 1 if value >= 10 else 2)


def _points(value: float, low: float, high: float) -> str:
    """Of a hundred."""
    return signed_interval(100 * value, (100 * low, 100 * high), 1)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
