"""Recall by lesion size, and the false positives of that size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from nnunet_rw.benchmark.report.page.blocks import Block, Panel, numbers, table_of, with_interval
from nnunet_rw.benchmark.report.page.styles import Style, new_figure
from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.comparison.cells import rounded
from nnunet_rw.evaluation.comparison.intervals import MIN_UNITS
from nnunet_rw.evaluation.comparison.lesions import compare_by_size
from nnunet_rw.evaluation.comparison.rows import SizeRow
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3

_CAPTION = (
    "Share of the reference's lesions that the prediction touches, and predicted lesions that touch none, by lesion "
    "size. Size classes are fixed beforehand and the same for all trainers; a missed lesion counts by its own volume, "
    "a false positive by the predicted one. Bars are 95 % Wilson intervals of as many independent lesions as their "
    "spread between {units} leaves; the table has studentised bootstrap intervals of the differences over {units}. "
    f"[too few], and no bar: fewer than {MIN_UNITS} {{units}} with such lesions."
)


@dataclass(frozen=True)
class SizePoint:
    """A trainer's lesions of one size class."""

    recall: float
    low: float
    high: float
    false_positives: float


def size_rows(task: TaskResults, label: str) -> tuple[SizeRow, ...]:
    """Of the comparison; of a trainer that stands alone, against itself."""
    if task.comparison:
        return tuple(row for row in task.comparison.sizes if row.label == label)
    for seeds in task.evaluations.values():
        alone = seeds[min(seeds)]
        return tuple(
            row
            for row in compare_by_size([alone], [[alone]], DEFAULT_EDGES_MM3, resamples=1, groups=task.groups)
            if row.label == label
        )
    return ()


def size_points(rows: Sequence[SizeRow]) -> dict[str, dict[tuple[float, float], SizePoint]]:
    """By trainer and size class, from, to in mm3."""
    points: dict[str, dict[tuple[float, float], SizePoint]] = {}
    for row in rows:
        size = row.size_from_mm3, row.size_to_mm3
        points.setdefault(row.baseline, {})[size] = SizePoint(
            row.baseline_recall, row.baseline_low, row.baseline_high, row.baseline_false_positives
        )
        points.setdefault(row.challenger, {})[size] = SizePoint(
            row.challenger_recall, row.challenger_low, row.challenger_high, row.challenger_false_positives
        )
    return points


def size_name(low: float, high: float) -> str:
    """Of a size class in mm3."""
    if (low, high) == (0, math.inf):
        return "all sizes"
    if low <= 0:
        return f"below {high:g} mm³"
    return f"from {low:g} mm³" if math.isinf(high) else f"{low:g} to {high:g} mm³"


def _short_name(low: float, high: float) -> str:
    if (low, high) == (0, math.inf):
        return "all"
    if low <= 0:
        return f"&lt; {high:g}"
    return f"≥ {low:g}" if math.isinf(high) else f"{low:g}-{high:g}"


def recall_by_size(task: TaskResults, label: str, styles: Mapping[str, Style]) -> Block | None:
    """A panel of recall and one of false positives; None where nothing is evaluated."""
    rows = size_rows(task, label)
    points = size_points(rows)
    lesions = {(row.size_from_mm3, row.size_to_mm3): row.lesions for row in rows}
    if not any(lesions.values()):
        return None
    recall = new_figure("", "Recall", 360, yaxis_range=[-0.03, 1.03])
    cost = new_figure("", "False positives a case", 360, yaxis_rangemode="tozero")
    for place, (trainer, of_size) in enumerate(points.items()):
        style = styles[trainer]
        shift = 0.5 * ((place + 0.5) / len(points) - 0.5)
        x = [number + shift for number in range(len(lesions))]
        values = [of_size[size] for size in lesions]
        names = [size_name(*size) for size in lesions]
        marks = {
            "x": x,
            "mode": "markers",
            "name": style.text,
            "meta": trainer,
            "marker": style.marker(10),
            "cliponaxis": False,
            "hoverinfo": "text",
        }
        recall.add_trace(
            go.Scatter(
                **marks,
                y=numbers(point.recall for point in values),
                text=[
                    f"{style.text}<br>{name}: {with_interval(point.recall, point.low, point.high)}"
                    for name, point in zip(names, values, strict=True)
                ],
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": numbers(point.high - point.recall for point in values),
                    "arrayminus": numbers(point.recall - point.low for point in values),
                    "thickness": 1.5,
                    "width": 3,
                },
            )
        )
        cost.add_trace(
            go.Scatter(
                **marks,
                y=numbers(point.false_positives for point in values),
                text=[
                    f"{style.text}<br>{name}: {rounded(point.false_positives, 2)}"
                    for name, point in zip(names, values, strict=True)
                ],
            )
        )
    ticks = [f"{_short_name(*size)}<br>n = {number}" for size, number in lesions.items()]
    for figure, words in ((recall, ticks), (cost, [tick.split("<br>")[0] for tick in ticks])):
        figure.update_xaxes(
            tickvals=list(range(len(lesions))),
            ticktext=words,
            range=[-0.5, len(lesions) - 0.5],
            showgrid=False,
            tickangle=0,
            title_text="Lesion size in mm³",
        )
    return Block(
        "sizes",
        "Which lesions are found",
        _CAPTION.format(units="patients" if task.groups else "cases"),
        (Panel("Recall; n reference lesions", recall), Panel("False positives", cost)),
        (table_of("Recall and false positives a case by lesion size", _table(rows)),),
        tuple(points),
    )


def _table(rows: Sequence[SizeRow]) -> list[dict[str, str]]:
    alone = all(row.baseline == row.challenger for row in rows)
    return [
        {
            "size": size_name(row.size_from_mm3, row.size_to_mm3),
            "lesions": str(row.lesions),
            "cases": str(row.cases),
            "trainer": row.challenger,
            "recall": with_interval(row.challenger_recall, row.challenger_low, row.challenger_high),
            "FP a case": rounded(row.challenger_false_positives, 2),
            **({} if alone else _against(row)),
        }
        for row in rows
    ]


def _against(row: SizeRow) -> dict[str, str]:
    cost = row.false_positives_difference, row.false_positives_low, row.false_positives_high
    return {
        f"recall of {row.baseline}": with_interval(row.baseline_recall, row.baseline_low, row.baseline_high),
        "difference": with_interval(row.difference, row.low, row.high),
        f"FP a case of {row.baseline}": rounded(row.baseline_false_positives, 2),
        "difference of FP": with_interval(*cost, decimals=2),
    }
