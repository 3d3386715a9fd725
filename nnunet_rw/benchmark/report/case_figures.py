"""Case by case: each trainer's metrics against the baseline's, and volumes in Bland-Altman plots."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from nnunet_rw.benchmark.report.figures import (
    INK,
    MUTED,
    Block,
    Panel,
    Style,
    error_bar,
    logarithmic_ticks,
    new_figure,
    numbers,
)
from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.comparison.metrics import (
    METRICS,
    case_values,
    enough_decimals,
    metric_words,
    paired_values,
)
from nnunet_rw.evaluation.comparison.rows import Comparison, MetricRow
from nnunet_rw.evaluation.comparison.tables import intervals_text
from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.evaluation.metrics.overlap import BlandAltman, bland_altman
from nnunet_rw.evaluation.units import length_unit
from nnunet_rw.util.tables import Cell, CellLike, Table, number, p_value, with_interval

_SHOWN = ("dice", "lesion_recall", "false_positives", "nsd", "hd95_mm", "assd_mm", "volume_error")
_CAPTION = (
    "Every point is a case: the trainer's value minus that of {baseline}, {seeds}. The rimmed marker is the mean; "
    "right of the line is more than the baseline. Differences have {intervals} Cases for which one of the two has no "
    "value are left out; a distance to an empty mask counts as the image's diagonal. p is Wilcoxon's, Holm-adjusted "
    "over {family}."
)


def paired_differences(
    task: TaskResults, label: str, styles: Mapping[str, Style], names: Mapping[str, str]
) -> Block | None:
    """A panel a metric, a line a trainer; None without a comparison.

    Parameters
    ----------
    names : dict of case to what it is called on the page
    """
    comparison = task.comparison
    if comparison is None:
        return None
    rows = {
        metric: [row for row in comparison.metrics if (row.metric, row.label) == (metric, label) and row.n]
        for metric in (*_SHOWN, *(metric for metric in comparison.family.metrics if metric not in _SHOWN))
    }
    rows = {metric: found for metric, found in rows.items() if found}
    if not rows:
        return None
    panels = [
        Panel(_title(metric, task.size_unit), _panel(task, label, metric, found, styles, names))
        for metric, found in rows.items()
    ]
    several = any(len(compared_seeds(task, name)) > 1 for name in (comparison.baseline, *comparison.challengers))
    caption = _CAPTION.format(
        baseline=comparison.baseline,
        seeds="each the mean over its seeds" if several else "of one seed each",
        intervals=intervals_text(comparison.patients),
        family=comparison.family,
    )
    noise = " Noise is the largest difference between seeds of the baseline." if comparison.seeds else ""
    tested = Table.of(
        f"Means over cases against {comparison.baseline}",
        [_tested(row, comparison) for found in rows.values() for row in found],
    )
    return Block(
        "paired",
        "Case by case",
        caption + noise,
        tuple(panels),
        (tested, *(_cases_table(task, label, metric, names) for metric in rows)),
        comparison.challengers,
    )


def compared_seeds(task: TaskResults, trainer: str) -> list[Evaluation]:
    """Of the trainer's finished seeds, over which the comparison takes means."""
    return [task.evaluations[trainer][seed] for seed in sorted(task.evaluations[trainer])]


def metric_name(metric: str, size_unit: str) -> str:
    """In words, distances with their unit; the other unit is that of sizes."""
    words = metric_words(metric)
    name = words if words == metric else words[0].upper() + words[1:]
    return f"{name} in {length_unit(size_unit)}" if metric.endswith("_mm") else name


def _title(metric: str, size_unit: str) -> str:
    better = "higher" if METRICS[metric].higher_is_better else "lower"
    return f"{metric_name(metric, size_unit)}, {better} is better"


def _panel(
    task: TaskResults,
    label: str,
    metric: str,
    rows: list[MetricRow],
    styles: Mapping[str, Style],
    names: Mapping[str, str],
) -> go.Figure:
    figure = new_figure("Difference", "", 90 + 62 * len(rows))
    figure.add_vline(x=0, line={"color": MUTED, "width": 1.5})
    for line, row in enumerate(rows):
        style = styles[row.challenger]
        baseline, challenger = compared_seeds(task, row.baseline), compared_seeds(task, row.challenger)
        pairs = paired_values(baseline, challenger, metric, label)
        index, difference = np.flatnonzero(pairs.defined), pairs.second - pairs.first
        jitter = np.random.default_rng(0).uniform(-0.24, 0.08, len(index))
        decimals = METRICS[metric].decimals_of(*difference)
        common = {"name": style.text, "meta": row.challenger, "hoverinfo": "text", "mode": "markers"}
        figure.add_trace(
            go.Scatter(
                x=numbers(difference),
                y=numbers(line - jitter),
                marker=style.marker(7, opacity=0.55),
                text=[
                    f"{names[baseline[0].cases[case]]}<br>{value:+.{decimals}f}"
                    for case, value in zip(index, difference, strict=True)
                ],
                **common,
            )
        )
        figure.add_trace(
            go.Scatter(
                x=[row.difference],
                y=[line - 0.26],
                marker=style.marker(11, line={"color": INK, "width": 1.5}),
                error_x=error_bar(row.difference, (row.low, row.high), thickness=2),
                text=[f"{style.text}<br>mean {with_interval(row.difference, (row.low, row.high), decimals)}"],
                **common,
            )
        )
    figure.update_yaxes(
        range=[len(rows) - 0.5, -0.5],
        showgrid=False,
        showticklabels=False,
        ticks="",
    )
    return figure


def _tested(row: MetricRow, comparison: Comparison) -> dict[str, CellLike]:
    decimals = METRICS[row.metric].decimals_of(row.baseline_mean, row.challenger_mean)
    return {
        "metric": metric_name(row.metric, comparison.size_unit),
        "trainer": row.challenger,
        "n": row.n,
        "left out": row.undefined_in_both + row.undefined_in_one,
        f"mean of {row.baseline}": number(row.baseline_mean, decimals),
        "mean": number(row.challenger_mean, decimals),
        "difference": with_interval(row.difference, (row.low, row.high), decimals),
        "p (Holm)": p_value(row.p_holm),
        "wins/ties/losses": Cell(f"{row.wins}/{row.ties}/{row.losses}", value=row.wins),
        **({"noise": number(row.noise, decimals)} if comparison.seeds else {}),
        "verdict": row.verdict,
    }


def _cases_table(task: TaskResults, label: str, metric: str, names: Mapping[str, str]) -> Table:
    comparison = task.comparison
    trainers = (comparison.baseline, *comparison.challengers) if comparison else ()
    values = [case_values(compared_seeds(task, trainer), metric, label)[0] for trainer in trainers]
    rows: list[dict[str, CellLike]] = []
    for case, *of_trainers in zip(task.first_seeds[trainers[0]].cases, *values, strict=True):
        decimals = METRICS[metric].decimals_of(*of_trainers)
        cells = [number(float(value), decimals) for value in of_trainers]
        rows.append({"case": names[case], **dict(zip(trainers, cells, strict=True))})
    return Table.of(f"{metric_name(metric, task.size_unit)} of every case", rows)


_WIDE = 30.0
_VOLUMES_CAPTION = (
    "Every point is a case: predicted minus reference volume against the mean of both. The full line is the mean "
    "difference (bias), dashed lines are the limits of agreement, bias ± 1.96 standard deviations: 95 % of differences "
    "lie between them if they are normal, which they are not where they grow with the volume. All panels share their "
    "axes."
)


def case_volumes(task: TaskResults, trainer: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) of the reference and of the prediction, of the trainer's first seed, in the order of its cases.

    In `volume_unit`.
    """
    columns = task.first_seeds[trainer].columns[label]
    scale = 1000 if task.size_unit == "mm3" else 1
    return columns["volume_reference_mm3"] / scale, columns["volume_prediction_mm3"] / scale


def volume_unit(task: TaskResults) -> str:
    """Of images in two dimensions what lesions are measured in."""
    return "ml" if task.size_unit == "mm3" else task.size_unit


def volume_agreement(
    task: TaskResults, label: str, styles: Mapping[str, Style], names: Mapping[str, str]
) -> Block | None:
    """A panel a trainer; None where no case has volumes."""
    found = {trainer: case_volumes(task, trainer, label) for trainer in task.evaluations}
    known = {trainer: np.isfinite(np.stack(pair)).all(axis=0) for trainer, pair in found.items()}
    found = {trainer: pair for trainer, pair in found.items() if known[trainer].any()}
    if not found:
        return None
    unit = volume_unit(task)
    agreements = {
        trainer: bland_altman(pair[0][known[trainer]], pair[1][known[trainer]]) for trainer, pair in found.items()
    }
    means = np.concatenate([((pair[0] + pair[1]) / 2)[known[trainer]] for trainer, pair in found.items()])
    wide = means.min() > 0 and means.max() > _WIDE * means.min()
    span = _span(found, known, agreements)
    panels = []
    for trainer, (reference, prediction) in found.items():
        style, chosen = styles[trainer], known[trainer]
        evaluated = task.first_seeds[trainer].cases
        cases = [names[case] for case, is_known in zip(evaluated, chosen, strict=True) if is_known]
        mean, difference = ((reference + prediction) / 2)[chosen], (prediction - reference)[chosen]
        figure = new_figure(f"Mean of both volumes in {unit}", f"Difference in {unit}", 300, margin_r=68)
        figure.add_trace(
            go.Scatter(
                x=numbers(mean),
                y=numbers(difference),
                mode="markers",
                name=style.text,
                meta=trainer,
                marker=style.marker(8, opacity=0.75),
                text=[f"{case}<br>{value:+.3g} {unit}" for case, value in zip(cases, difference, strict=True)],
                hoverinfo="text",
            )
        )
        _add_lines(figure, agreements[trainer])
        figure.update_yaxes(range=span)
        figure.update_xaxes(**_mean_axis(means, wide))
        panels.append(Panel(trainer, figure))
    title = f"Volumes, predicted minus reference, in {unit}"
    table = Table.of(title, [_row(name, agreement) for name, agreement in agreements.items()])
    return Block(
        "volumes",
        "Volumes",
        _VOLUMES_CAPTION,
        tuple(panels),
        (table, _volumes_table(task, label, names)),
        tuple(found),
    )


def _span(
    volumes: Mapping[str, tuple[np.ndarray, np.ndarray]],
    known: Mapping[str, np.ndarray],
    agreements: Mapping[str, BlandAltman],
) -> list[float]:
    values = [0.0]
    for trainer, (reference, prediction) in volumes.items():
        values += (prediction - reference)[known[trainer]].tolist()
        values += [agreements[trainer].lower_limit, agreements[trainer].upper_limit]
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.08 * (high - low) or 1.0
    return [low - margin, high + margin]


def _mean_axis(means: np.ndarray, wide: bool) -> dict[str, object]:
    if wide:
        low, high = float(means.min()) * 0.8, float(means.max()) * 1.25
        return {"type": "log", "range": [np.log10(low), np.log10(high)], **logarithmic_ticks(low, high)}
    margin = 0.05 * float(means.max()) or 1.0
    return {"range": [min(0.0, float(means.min())) - margin, float(means.max()) + margin]}


def _add_lines(figure: go.Figure, agreement: BlandAltman) -> None:
    figure.add_hline(y=0, line={"color": MUTED, "width": 1, "dash": "dot"})
    lines = (
        ("bias<br>", agreement.bias, "solid"),
        ("", agreement.upper_limit, "dash"),
        ("", agreement.lower_limit, "dash"),
    )
    for name, value, dash in lines:
        if np.isfinite(value):
            text = f"{name}{value:+.3g}"
            figure.add_hline(y=value, line={"color": INK, "width": 1.5, "dash": dash})
            beside = {"x": 1.01, "xref": "paper", "xanchor": "left", "align": "left"}
            figure.add_annotation(y=value, yanchor="middle", text=text, showarrow=False, font_size=12, **beside)


def _row(trainer: str, agreement: BlandAltman) -> dict[str, CellLike]:
    decimals = enough_decimals((agreement.bias, agreement.lower_limit, agreement.upper_limit), 2)
    return {
        "trainer": trainer,
        "cases": agreement.n,
        "bias": with_interval(agreement.bias, agreement.bias_ci, decimals),
        "lower limit": with_interval(agreement.lower_limit, agreement.lower_limit_ci, decimals),
        "upper limit": with_interval(agreement.upper_limit, agreement.upper_limit_ci, decimals),
    }


def _volumes_table(task: TaskResults, label: str, names: Mapping[str, str]) -> Table:
    first, *_ = task.evaluations
    cases = task.first_seeds[first].cases
    rows: list[dict[str, CellLike]] = []
    predicted = {
        trainer: dict(zip(task.first_seeds[trainer].cases, case_volumes(task, trainer, label)[1], strict=True))
        for trainer in task.evaluations
    }
    for case, reference in zip(cases, case_volumes(task, first, label)[0], strict=True):
        volumes = {"reference": reference, **{name: found.get(case, np.nan) for name, found in predicted.items()}}
        decimals = enough_decimals(volumes.values(), 3)
        rows.append({"case": names[case], **{name: number(volume, decimals) for name, volume in volumes.items()}})
    return Table.of(f"Volumes of every case in {volume_unit(task)}", rows)
