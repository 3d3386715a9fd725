"""Which lesions are found, and at what price: by size, at any price, and by the rule that was chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import plotly.graph_objects as go

from nnunet_rw.benchmark.report.figures import MUTED, Block, Panel, Style, error_bar, new_figure, numbers
from nnunet_rw.benchmark.report.leaderboard import pooled_detection
from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.comparison.lesions import compare_by_size
from nnunet_rw.evaluation.comparison.rows import RuleRow, SizeRow
from nnunet_rw.evaluation.comparison.statistics import MIN_UNITS
from nnunet_rw.evaluation.comparison.tables import rule_cells
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3, Detection, size_name
from nnunet_rw.evaluation.metrics.probabilities import (
    CANDIDATE_THRESHOLD,
    FALSE_POSITIVES,
    FrocCurve,
    average_recall,
    recall_at,
)
from nnunet_rw.evaluation.units import raised
from nnunet_rw.util.tables import Cell, CellLike, Table, number, rounded, with_interval

_SIZES_CAPTION = (
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
    """Of the comparison; without one each trainer against itself. Over all seeds of a trainer in either case."""
    if task.comparison:
        return tuple(row for row in task.comparison.sizes if row.label == label)
    alone = [[seeds[seed] for seed in sorted(seeds)] for seeds in task.evaluations.values()]
    return tuple(
        row
        for seeds in alone
        for row in compare_by_size(seeds, [seeds], DEFAULT_EDGES_MM3, resamples=1, groups=task.groups)
        if row.label == label
    )


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


def _short_name(low: float, high: float) -> str:
    if (low, high) == (0, math.inf):
        return "all"
    if low <= 0:
        return f"&lt; {high:g}"
    return f"≥ {low:g}" if math.isinf(high) else f"{low:g}-{high:g}"


def recall_by_size(task: TaskResults, label: str, styles: Mapping[str, Style]) -> Block | None:
    """A panel of recall and one of false positives; None where nothing is evaluated."""
    rows = size_rows(task, label)
    points, unit = size_points(rows), raised(task.size_unit)
    lesions = {(row.size_from_mm3, row.size_to_mm3): row.lesions for row in rows}
    if not any(lesions.values()):
        return None
    recall = new_figure("", "Recall", 360, yaxis_range=[-0.03, 1.03])
    cost = new_figure("", "False positives per case", 360, yaxis_rangemode="tozero")
    for place, (trainer, of_size) in enumerate(points.items()):
        style = styles[trainer]
        shift = 0.5 * ((place + 0.5) / len(points) - 0.5)
        x = [position + shift for position in range(len(lesions))]
        values = [of_size[size] for size in lesions]
        names = [size_name(*size, unit) for size in lesions]
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
                    f"{style.text}<br>{name}: {with_interval(point.recall, (point.low, point.high))}"
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
    sizes = [_short_name(*size) for size in lesions]
    counts = [f"{size}<br>n = {count}" for size, count in zip(sizes, lesions.values(), strict=True)]
    for figure, words in ((recall, counts), (cost, sizes)):
        figure.update_xaxes(
            tickvals=list(range(len(lesions))),
            ticktext=words,
            range=[-0.5, len(lesions) - 0.5],
            showgrid=False,
            tickangle=0,
            title_text=f"Lesion size in {unit}",
        )
    return Block(
        "sizes",
        "Which lesions are found",
        _SIZES_CAPTION.format(units="patients" if task.groups else "cases"),
        (Panel("Recall; n reference lesions", recall), Panel("False positives", cost)),
        (Table.of("Recall and false positives per case by lesion size", _size_cells(rows, unit)),),
        tuple(points),
    )


def _size_cells(rows: Sequence[SizeRow], unit: str) -> list[dict[str, CellLike]]:
    alone = all(row.baseline == row.challenger for row in rows)
    return [
        {
            "size": Cell(size_name(row.size_from_mm3, row.size_to_mm3, unit), value=row.size_from_mm3),
            "lesions": row.lesions,
            "cases": row.cases,
            "trainer": row.challenger,
            "recall": with_interval(row.challenger_recall, (row.challenger_low, row.challenger_high)),
            "FP per case": number(row.challenger_false_positives, 2),
            **({} if alone else _against(row)),
        }
        for row in rows
    ]


def _against(row: SizeRow) -> dict[str, CellLike]:
    ends = row.false_positives_low, row.false_positives_high
    return {
        f"recall of {row.baseline}": with_interval(row.baseline_recall, (row.baseline_low, row.baseline_high)),
        "difference": with_interval(row.difference, (row.low, row.high)),
        f"FP per case of {row.baseline}": number(row.baseline_false_positives, 2),
        "difference of FP": with_interval(row.false_positives_difference, ends, 2),
    }


# Beyond 512 false positives per case nobody reads a curve.
_FEWEST, _MOST, _POINTS = 1 / 16, 512.0, 161
_FROC_CAPTION = (
    "Recall at the score that leaves so many false positives per case. What is scored are candidates: components of a "
    "probability above {candidates:g}, by their highest. Large, open markers show what is segmented, counted as the "
    "leaderboard does. They lie beside the curves, since lesions that are apart in a segmentation may be one "
    "candidate. The left end stands for {fewest} and fewer. {bands}"
)
_SEEDS = (
    "Lines are means over seeds; bands reach from the worst to the best seed at the same false positives. They show "
    "what chance does in training, not what other patients would."
)
_ONE_SEED = (
    "One seed, so no bands: they would be the spread over seeds. A bootstrap over cases is not drawn, because an "
    "evaluation's files do not tell which lesion belongs to which candidate; the intervals that draw cases are in the "
    "tables of recall."
)


def froc_curves(task: TaskResults, label: str) -> dict[str, list[FrocCurve]]:
    """By trainer, a curve a seed; without those that have no probabilities or no lesion."""
    found = {
        trainer: [evaluation.froc[label] for evaluation in seeds.values() if label in evaluation.froc]
        for trainer, seeds in task.evaluations.items()
    }
    return {trainer: curves for trainer, curves in found.items() if curves and curves[0].num_lesions}


def froc(task: TaskResults, label: str, styles: Mapping[str, Style]) -> Block | None:
    """None where no evaluation has probabilities."""
    curves = froc_curves(task, label)
    if not curves:
        return None
    segmented = {
        trainer: [pooled_detection(evaluation, label) for evaluation in task.evaluations[trainer].values()]
        for trainer in curves
    }
    figure = new_figure("False positives per case", "Recall", 420)
    ends = [curve.false_positives[-1] for group in curves.values() for curve in group]
    ends += [found.false_positives_per_case for group in segmented.values() for found in group]
    last = min(max(8.0, *ends), _MOST)
    ticks = [_FEWEST * 2**power for power in range(14) if _FEWEST * 2**power <= last]
    figure.update_xaxes(
        type="log",
        tickvals=ticks,
        ticktext=[str(Fraction(value)) for value in ticks],
        range=np.log10([_FEWEST * 0.93, last * 1.07]).tolist(),
    )
    figure.update_yaxes(range=[-0.02, 1.02])
    for trainer, group in curves.items():
        for trace in _froc_traces(styles[trainer], group, segmented[trainer], last):
            figure.add_trace(trace)
    several = any(len(group) > 1 for group in curves.values())
    caption = _FROC_CAPTION.format(
        candidates=CANDIDATE_THRESHOLD, fewest=Fraction(_FEWEST), bands=_SEEDS if several else _ONE_SEED
    )
    table = Table.of("Recall at false positives per case, mean over seeds", _recall_cells(curves))
    return Block("froc", "Recall at any price", caption, (Panel("FROC", figure),), (table,), tuple(curves))


def seeds_recall(curves: Sequence[FrocCurve], false_positives: np.ndarray) -> np.ndarray:
    """(S, N) recall of S seeds; NaN beyond the end of the longest of their curves."""
    recall = np.stack([recall_at(curve, false_positives.tolist()) for curve in curves])
    recall[:, false_positives > max(curve.false_positives[-1] for curve in curves)] = np.nan
    return recall


def _froc_traces(
    style: Style, curves: Sequence[FrocCurve], segmented: Sequence[Detection], last: float
) -> list[go.Scatter]:
    x = np.unique(np.concatenate([np.geomspace(_FEWEST, last, _POINTS), FALSE_POSITIVES]))
    recall = seeds_recall(curves, x)
    drawn = np.isfinite(recall).all(0)
    x, recall = x[drawn], recall[:, drawn]
    common = {"meta": style.trainer, "name": style.text}
    traces = []
    if len(curves) > 1:
        band = {"mode": "lines", "line": {"width": 0, "shape": "hv"}, "hoverinfo": "skip", **common}
        traces += [
            go.Scatter(x=numbers(x), y=numbers(recall.min(0)), **band),
            go.Scatter(x=numbers(x), y=numbers(recall.max(0)), fill="tonexty", fillcolor=style.faded(0.18), **band),
        ]
    traces.append(
        go.Scatter(
            x=numbers(x),
            y=numbers(recall.mean(0)),
            mode="lines",
            line=style.line(2.2, shape="hv"),
            hovertemplate=f"{style.text}<br>recall %{{y:.3f}} at %{{x:.3g}} FP per case<extra></extra>",
            **common,
        )
    )
    marked = np.isin(x, FALSE_POSITIVES)
    traces.append(
        go.Scatter(
            x=numbers(x[marked]),
            y=numbers(recall.mean(0)[marked]),
            mode="markers",
            marker=style.marker(7),
            hoverinfo="skip",
            **common,
        )
    )
    false_positives = float(np.mean([found.false_positives_per_case for found in segmented]))
    found_recall = float(np.mean([found.recall for found in segmented]))
    traces.append(
        go.Scatter(
            x=[min(max(false_positives, _FEWEST), last)],
            y=[found_recall],
            mode="markers",
            marker=style.marker(15, symbol=f"{style.symbol}-open", line={"width": 2}),
            text=[f"{style.text}<br>as segmented: recall {found_recall:.3f} at {false_positives:.3g} FP per case"],
            hoverinfo="text",
            **common,
        )
    )
    return traces


def _recall_cells(curves: Mapping[str, Sequence[FrocCurve]]) -> list[dict[str, CellLike]]:
    rows: list[dict[str, CellLike]] = []
    for trainer, group in curves.items():
        recall = np.stack([recall_at(curve) for curve in group]).mean(0)
        columns = {
            f"at {Fraction(value)}": number(found, 3) for value, found in zip(FALSE_POSITIVES, recall, strict=True)
        }
        mean = number(float(np.mean([average_recall(curve) for curve in group])), 3)
        rows.append({"trainer": trainer, "seeds": len(group), **columns, "mean": mean})
    return rows


_RULE_CAPTION = (
    "Lesions matched one-to-one. Open markers show what is segmented without a rule, filled ones what the chosen rule "
    "does out of fold: every case under the rule that was chosen without its fold, for most lesions with no more false "
    "positives per case than {baseline} has as segmented (dotted lines) and a Dice not below its own. Bars are 95 % "
    "intervals of the difference to that. A filled marker right of the upright line has more false positives in cases "
    "that the choice had not seen."
)


def chosen_rules(task: TaskResults, label: str) -> tuple[RuleRow, ...]:
    """Of the trainers with probabilities, the baseline first; none where no challenger has them."""
    rows = task.comparison.rules if task.comparison else ()
    return tuple(row for row in rows if row.label == label)


def rule_plane(task: TaskResults, label: str, styles: Mapping[str, Style]) -> Block | None:
    """Recall against false positives per case, as segmented and with the chosen rule; None without a rule to choose."""
    rows = chosen_rules(task, label)
    if not rows:
        return None
    baseline, unit = rows[0].baseline, task.size_unit
    figure = new_figure("False positives per case", "Recall", 420)
    dotted = {"color": MUTED, "width": 1.5, "dash": "dot"}
    figure.add_vline(x=rows[0].allowed, line=dotted)
    figure.add_hline(y=rows[0].baseline_recall, line=dotted)
    if rows[0].trainer != baseline:
        as_it_is = f"{styles[baseline].text}, as segmented"
        figure.add_trace(_rule_point(styles[baseline], as_it_is, rows[0].allowed, rows[0].baseline_recall, opened=True))
    for row in rows:
        for trace in _rule_traces(styles[row.trainer], row, unit):
            figure.add_trace(trace)
    x = [value for row in rows for value in (row.allowed, row.half_false_positives, *_false_positives(row))]
    y = [value for row in rows for value in (row.baseline_recall, row.half_recall, *_recall(row))]
    figure.update_xaxes(range=[0, 1.08 * max(value for value in x if math.isfinite(value)) or 1.0])
    low, high = (find(value for value in y if math.isfinite(value)) for find in (min, max))
    margin = 0.08 * (high - low) or 0.05
    figure.update_yaxes(range=[max(low - margin, -0.03), min(high + margin, 1.03)])
    table = Table.of("As segmented, and with the chosen rule out of fold", rule_cells(rows, unit)).without(["label"])
    trainers = tuple(dict.fromkeys((baseline, *(row.trainer for row in rows))))
    caption = _RULE_CAPTION.format(baseline=baseline)
    return Block(
        "rule",
        "Recall at the same price",
        caption,
        (Panel("Open: as segmented; filled: chosen rule, out of fold", figure),),
        (table,),
        trainers,
    )


def _rule_traces(style: Style, row: RuleRow, unit: str) -> list[go.Scatter]:
    """The marker of what was segmented, and a line from it to the one of the rule, with its intervals."""
    half = _rule_point(style, f"{style.text}, as segmented", row.half_false_positives, row.half_recall, opened=True)
    if not math.isfinite(row.recall):
        return [half]
    line = go.Scatter(
        x=numbers([row.half_false_positives, row.false_positives]),
        y=numbers([row.half_recall, row.recall]),
        mode="lines",
        line=style.line(1.5),
        opacity=0.6,
        meta=style.trainer,
        name=style.text,
        hoverinfo="skip",
    )
    name = f"{style.text} out of fold<br>{row.rule.text(unit) if row.rule else ''}"
    point = _rule_point(style, name, row.false_positives, row.recall)
    point.update(
        error_x=error_bar(row.false_positives, _false_positives(row)[1:]),
        error_y=error_bar(row.recall, _recall(row)[1:]),
    )
    return [line, half, point]


def _rule_point(style: Style, name: str, false_positives: float, recall: float, opened: bool = False) -> go.Scatter:
    look = style.marker(15, symbol=f"{style.symbol}-open", line={"width": 2}) if opened else style.marker(12)
    return go.Scatter(
        x=numbers([false_positives]),
        y=numbers([recall]),
        mode="markers",
        marker=look,
        meta=style.trainer,
        name=style.text,
        text=[f"{name}<br>recall {rounded(recall, 3)} at {false_positives:.3g} FP per case"],
        hoverinfo="text",
    )


def _false_positives(row: RuleRow) -> tuple[float, float, float]:
    """Out of fold, with the ends of the interval about the baseline's."""
    return row.false_positives, row.allowed + row.excess_low, row.allowed + row.excess_high


def _recall(row: RuleRow) -> tuple[float, float, float]:
    """Out of fold, with the ends of the interval about the baseline's."""
    return row.recall, row.baseline_recall + row.recall_low, row.baseline_recall + row.recall_high
