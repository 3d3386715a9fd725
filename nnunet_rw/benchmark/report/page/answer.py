"""The sentence that a reader came for: which trainer found more, and at what price."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nnunet_rw.benchmark.report.page.figure_sizes import size_rows
from nnunet_rw.benchmark.report.tables.cells import rounded
from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.comparison.rows import BETTER, NOT_SHOWN, WITHIN_NOISE, MatchedRow, MetricRow, SizeRow

_EVERY = 0.0, math.inf


@dataclass(frozen=True)
class Answer:
    """Of a label: a sentence in plain words, and the numbers that it rests on."""

    label: str
    sentence: str
    details: str = ""


def answers(task: TaskResults) -> list[Answer]:
    """One a label, about the trainer of highest recall besides the baseline; one in all where nothing is evaluated."""
    evaluated = next((seeds[min(seeds)] for seeds in task.evaluations.values()), None)
    if evaluated is None:
        return [Answer("", "No trainer is evaluated yet.")]
    return [_answer(task, label) for label in evaluated.labels]


def _answer(task: TaskResults, label: str) -> Answer:
    rows = [row for row in size_rows(task, label) if (row.size_from_mm3, row.size_to_mm3) == _EVERY and row.lesions]
    if not rows:
        return Answer(label, "No case has a lesion, so that none could be found.")
    if task.comparison is None:
        row = rows[0]
        found = f"{row.baseline} found {_count(row.baseline_recall, row)} of {row.lesions} lesions"
        price = f"with {_number(row.baseline_false_positives)} false positives a case"
        return Answer(label, f"{found} ({_percent(row.baseline_recall)}), {price}. No other trainer is evaluated yet.")
    metrics = {(found.challenger, found.metric): found for found in task.comparison.metrics if found.label == label}
    dice = {row.challenger: metrics.get((row.challenger, "dice")) for row in rows}
    row = max(rows, key=lambda row: (row.difference, _difference(dice[row.challenger])))
    recall = metrics.get((row.challenger, "lesion_recall"))
    rated = [found for found in task.comparison.matched if (found.label, found.challenger) == (label, row.challenger)]
    details = [_intervals(row), *(_at_equal_price(found) for found in rated), _dice(dice[row.challenger])]
    return Answer(label, _sentence(row, recall, len(rows)), " ".join(details).strip())


def _sentence(row: SizeRow, tested: MetricRow | None, challengers: int) -> str:
    counts = (
        f"{_count(row.challenger_recall, row)} instead of {_count(row.baseline_recall, row)} of {row.lesions} "
        f"({_percent(row.challenger_recall)} instead of {_percent(row.baseline_recall)})"
    )
    within_noise = tested is not None and tested.verdict == WITHIN_NOISE
    if row.difference == 0:
        equal = f"{_count(row.baseline_recall, row)} of {row.lesions}"
        return f"{row.challenger} found as many lesions as {row.baseline}, {equal}, {_price(row)}."
    if row.low > 0 and not within_noise:
        sure = tested is not None and tested.verdict == BETTER
        doubt = "" if sure else " The test that is adjusted for all that was tried does not confirm it."
        return f"{row.challenger} found more lesions than {row.baseline}, {counts}, {_price(row)}.{doubt}"
    if row.high < 0 and not within_noise:
        others = f"All others found fewer lesions than {row.baseline}; the best of them, {row.challenger}, found"
        alone = f"{row.challenger} found fewer lesions than {row.baseline},"
        return f"{others if challengers > 1 else alone} {counts}, {_price(row)}."
    why = "the interval of the difference holds 0"
    if within_noise:
        why = "the difference is no larger than between seeds"
    elif math.isnan(row.low):
        why = "a single case with lesions gives no interval"
    nobody = f"No trainer was shown to find more lesions than {row.baseline}"
    return f"{nobody}: {row.challenger} found {counts}, but {why}; {_price(row)}."


def _price(row: SizeRow) -> str:
    both = f"({_number(row.challenger_false_positives)} instead of {_number(row.baseline_false_positives)})"
    if not (row.false_positives_low > 0 or row.false_positives_high < 0):
        return f"with no difference shown in false positives a case {both}"
    change = _number(abs(row.false_positives_difference))
    if row.false_positives_difference > 0:
        return f"at the price of {change} more false positives a case {both}"
    return f"with {change} fewer false positives a case {both}"


def _intervals(row: SizeRow) -> str:
    recall = _signed(100 * row.difference, 100 * row.low, 100 * row.high, 1)
    cost = _signed(row.false_positives_difference, row.false_positives_low, row.false_positives_high, 2)
    return f"Differences with 95 % intervals over cases: recall {recall} points, false positives a case {cost}."


def _at_equal_price(row: MatchedRow) -> str:
    price = f"the {_number(row.false_positives)} false positives a case that {row.baseline} has"
    if math.isnan(row.threshold):
        return f"At no threshold {row.challenger} keeps within {price}."
    return (
        f"With no more than {price}, at a threshold of {row.threshold:g} that was chosen on these same cases, "
        f"{row.challenger} finds {_percent(row.challenger_recall)} instead of {_percent(row.baseline_recall)}."
    )


def _dice(row: MetricRow | None) -> str:
    if row is None or not row.n:
        return ""
    verdict = row.verdict if row.difference else NOT_SHOWN
    return f"Mean Dice: {row.challenger_mean:.3f} instead of {row.baseline_mean:.3f}, {verdict}."


def _signed(value: float, low: float, high: float, decimals: int) -> str:
    if not low < high:
        return f"{value:+.{decimals}f}"
    return f"{value:+.{decimals}f} [{low:+.{decimals}f}, {high:+.{decimals}f}]"


def _difference(row: MetricRow | None) -> float:
    return row.difference if row is not None and math.isfinite(row.difference) else -math.inf


def _count(recall: float, row: SizeRow) -> int:
    return round(recall * row.lesions)


def _number(value: float) -> str:
    return rounded(value, 1 if value >= 10 else 2)


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
