"""The report's numbers, unrounded: a row a fact."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any

from nnunet_rw.benchmark.report.tables.leaderboard import Estimate, Standing, standings
from nnunet_rw.benchmark.report.tables.provenance import Resources, provenance_rows, resources
from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.evaluation.comparison.metrics import METRICS
from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.training.records import Epoch

_ESTIMATES = ("dice", "nsd", "hd95_mm", "recall", "small_recall", "false_positives")
_SINGLE = ("precision", "f1", "froc_average")
Rows = list[dict[str, Any]]


def tidy_tables(results: BenchmarkResults, show_case_ids: bool = False) -> dict[str, Rows]:
    """Rows by the name of the table; tables without rows are left out.

    leaderboard, seeds, differences, sizes, places, equal_false_positives, froc_points, resources, epochs, provenance,
    and with `show_case_ids` cases, the only one that names them.
    """
    tasks = results.tasks
    tables = {
        "leaderboard": [row for task in tasks for row in _leaderboard(task)],
        "seeds": [row for task in tasks for row in _seeds(task)],
        "differences": _comparison_rows(tasks, "metrics"),
        "sizes": _comparison_rows(tasks, "sizes"),
        "places": _comparison_rows(tasks, "rankings"),
        "equal_false_positives": _comparison_rows(tasks, "matched"),
        "froc_points": [row for task in tasks for row in _froc_points(task)],
        "resources": [{"task": task.task, **_plain(found, Resources)} for task in tasks for found in resources(task)],
        "epochs": [row for task in tasks for row in _epochs(task)],
        "provenance": [dict(row) for row in provenance_rows(results)],
        "cases": [row for task in tasks for row in _cases(task)] if show_case_ids else [],
    }
    return {name: rows for name, rows in tables.items() if rows}


def csv_text(rows: Rows) -> str:
    """CSV; an empty cell stands for NaN and None."""
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


def _leaderboard(task: TaskResults) -> Iterator[dict[str, Any]]:
    for row in standings(task):
        for metric in (*_ESTIMATES, *_SINGLE):
            value = getattr(row, metric)
            yield {
                **_of(task, row),
                "metric": metric,
                "value": value.value if isinstance(value, Estimate) else value,
                "low": value.interval.low if isinstance(value, Estimate) else math.nan,
                "high": value.interval.high if isinstance(value, Estimate) else math.nan,
                "n": value.n if isinstance(value, Estimate) else None,
                "n_penalised": value.n_penalised if isinstance(value, Estimate) else None,
            }


def _seeds(task: TaskResults) -> Iterator[dict[str, Any]]:
    for row in standings(task):
        seeds = sorted(task.evaluations[row.trainer])
        for seed, dice, recall in zip(seeds, row.dice_of_seeds, row.recall_of_seeds, strict=True):
            yield {**_of(task, row), "seed": seed, "dice": dice, "recall": recall}


def _of(task: TaskResults, row: Standing) -> dict[str, Any]:
    return {"task": task.task, "label": row.label, "trainer": row.trainer, "seed": row.seed}


def _comparison_rows(tasks: Sequence[TaskResults], name: str) -> Rows:
    return [
        {"task": task.task, **asdict(row)}
        for task in tasks
        if task.comparison
        for row in getattr(task.comparison, name)
    ]


def _evaluations(task: TaskResults) -> Iterator[tuple[dict[str, Any], Evaluation]]:
    for trainer, seeds in task.evaluations.items():
        for seed, evaluation in sorted(seeds.items()):
            yield {"task": task.task, "trainer": trainer, "seed": seed}, evaluation


def _froc_points(task: TaskResults) -> Iterator[dict[str, Any]]:
    for of, evaluation in _evaluations(task):
        for label, curve in evaluation.froc.items():
            points = zip(curve.thresholds, curve.false_positives, curve.recall, strict=True)
            for threshold, false_positives, recall in points:
                yield {
                    **of,
                    "label": label,
                    "threshold": float(threshold),
                    "false_positives_per_case": float(false_positives),
                    "recall": float(recall),
                }


def _epochs(task: TaskResults) -> Iterator[dict[str, Any]]:
    for run in task.runs:
        for epoch in run.record.epochs if run.record else ():
            yield {
                "task": task.task,
                "trainer": run.trainer,
                "seed": run.seed,
                "fold": run.fold,
                **_plain(epoch, Epoch),
            }


def _cases(task: TaskResults) -> Iterator[dict[str, Any]]:
    for of, evaluation in _evaluations(task):
        for label in evaluation.labels:
            columns = evaluation.columns[label]
            values = {
                name: metric.values(columns)
                for name, metric in METRICS.items()
                if not metric.column or metric.column in columns
            }
            for index, case in enumerate(evaluation.cases):
                numbers = {name: float(column[index]) for name, column in values.items()}
                yield {**of, "label": label, "case": case, **numbers}


def _plain(row: Any, row_type: type) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row_type)}


def _cell(value: Any) -> Any:
    return "" if value is None or (isinstance(value, float) and math.isnan(value)) else value
