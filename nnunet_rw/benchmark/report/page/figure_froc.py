"""FROC: recall against false positives per case, by the probability that a lesion must have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import plotly.graph_objects as go

from nnunet_rw.benchmark.report.page.blocks import Block, Panel, numbers, table_of
from nnunet_rw.benchmark.report.page.styles import Style, new_figure
from nnunet_rw.benchmark.report.tables.leaderboard import pooled_detection
from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.comparison.cells import rounded
from nnunet_rw.evaluation.metrics.detection import Detection
from nnunet_rw.evaluation.metrics.froc import CANDIDATE_THRESHOLD, FALSE_POSITIVES, FrocCurve, average_recall, recall_at

_FEWEST, _MOST, _POINTS = 1 / 16, 64.0, 161
_CAPTION = (
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
    last = max(8.0, *(min(curve.false_positives[-1], _MOST) for group in curves.values() for curve in group))
    ticks = [value for value in (_FEWEST, *FALSE_POSITIVES, 16.0, 32.0, _MOST) if value <= last]
    figure.update_xaxes(
        type="log",
        tickvals=ticks,
        ticktext=[str(Fraction(value)) for value in ticks],
        range=np.log10([_FEWEST * 0.93, last * 1.07]).tolist(),
    )
    figure.update_yaxes(range=[-0.02, 1.02])
    for trainer, group in curves.items():
        for trace in _traces(styles[trainer], group, segmented[trainer], last):
            figure.add_trace(trace)
    several = any(len(group) > 1 for group in curves.values())
    caption = _CAPTION.format(
        candidates=CANDIDATE_THRESHOLD, fewest=Fraction(_FEWEST), bands=_SEEDS if several else _ONE_SEED
    )
    table = table_of("Recall at false positives per case, mean over seeds", _table(curves))
    return Block("froc", "Recall at any price", caption, (Panel("FROC", figure),), (table,), tuple(curves))


def seeds_recall(curves: Sequence[FrocCurve], false_positives: np.ndarray) -> np.ndarray:
    """(S, N) recall of S seeds; NaN beyond the end of the longest of their curves."""
    recall = np.stack([recall_at(curve, false_positives.tolist()) for curve in curves])
    recall[:, false_positives > max(curve.false_positives[-1] for curve in curves)] = np.nan
    return recall


def _traces(style: Style, curves: Sequence[FrocCurve], segmented: Sequence[Detection], last: float) -> list[go.Scatter]:
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


def _table(curves: Mapping[str, Sequence[FrocCurve]]) -> list[dict[str, str]]:
    rows = []
    for trainer, group in curves.items():
        recall = np.stack([recall_at(curve) for curve in group]).mean(0)
        columns = {
            f"at {Fraction(value)}": rounded(found, 3) for value, found in zip(FALSE_POSITIVES, recall, strict=True)
        }
        mean = rounded(float(np.mean([average_recall(curve) for curve in group])), 3)
        rows.append({"trainer": trainer, "seeds": str(len(group)), **columns, "mean": mean})
    return rows
