"""Bland-Altman plots: are lesions drawn too large or too small?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.volume import BlandAltman, bland_altman
from nnunet_rw.report.benchmark_page.blocks import Block, Panel, Table, numbers, table_of, with_interval
from nnunet_rw.report.benchmark_page.figure_paired import seed_zero
from nnunet_rw.report.benchmark_page.styles import INK, MUTED, Style, logarithmic_ticks, new_figure
from nnunet_rw.report.benchmark_tables.cells import rounded

_MM3_PER_ML = 1000.0
_WIDE = 30.0
_CAPTION = (
    "Every point is a case: predicted minus reference volume against the mean of both. The full line is the mean "
    "difference (bias), dashed lines are the limits of agreement, bias ± 1.96 standard deviations: 95 % of differences "
    "lie between them if they are normal, which they are not where they grow with the volume. All panels share their "
    "axes."
)


def volumes_ml(task: TaskResults, trainer: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    """(N,) of the reference and of the prediction, of the trainer's first seed, in the order of its cases."""
    columns = seed_zero(task, trainer).columns[label]
    return columns["volume_reference_mm3"] / _MM3_PER_ML, columns["volume_prediction_mm3"] / _MM3_PER_ML


def volume_agreement(
    task: TaskResults, label: str, styles: Mapping[str, Style], names: Mapping[str, str]
) -> Block | None:
    """A panel a trainer; None where no case has volumes."""
    volumes = {trainer: volumes_ml(task, trainer, label) for trainer in task.evaluations}
    known = {trainer: np.isfinite(np.stack(pair)).all(axis=0) for trainer, pair in volumes.items()}
    volumes = {trainer: pair for trainer, pair in volumes.items() if known[trainer].any()}
    if not volumes:
        return None
    agreements = {
        trainer: bland_altman(pair[0][known[trainer]], pair[1][known[trainer]]) for trainer, pair in volumes.items()
    }
    means = np.concatenate([((pair[0] + pair[1]) / 2)[known[trainer]] for trainer, pair in volumes.items()])
    wide = means.min() > 0 and means.max() > _WIDE * means.min()
    span = _span(volumes, known, agreements)
    panels = []
    for trainer, (reference, prediction) in volumes.items():
        style, chosen = styles[trainer], known[trainer]
        cases = [names[case] for case, is_known in zip(seed_zero(task, trainer).cases, chosen, strict=True) if is_known]
        mean, difference = ((reference + prediction) / 2)[chosen], (prediction - reference)[chosen]
        figure = new_figure("Mean of both volumes in ml", "Difference in ml", 300, margin_r=56)
        figure.add_trace(
            go.Scatter(
                x=numbers(mean),
                y=numbers(difference),
                mode="markers",
                name=style.text,
                meta=trainer,
                marker=style.marker(8, opacity=0.75),
                text=[f"{case}<br>{value:+.3g} ml" for case, value in zip(cases, difference, strict=True)],
                hoverinfo="text",
            )
        )
        _add_lines(figure, agreements[trainer])
        figure.update_yaxes(range=span)
        figure.update_xaxes(**_mean_axis(means, wide))
        panels.append(Panel(trainer, figure))
    table = table_of("Volumes, predicted minus reference, in ml", [_row(name, a) for name, a in agreements.items()])
    return Block(
        "volumes",
        "Volumes",
        _CAPTION,
        tuple(panels),
        (table, _cases_table(task, label, names)),
        tuple(volumes),
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


def _row(trainer: str, agreement: BlandAltman) -> dict[str, str]:
    return {
        "trainer": trainer,
        "cases": str(agreement.n),
        "bias": with_interval(agreement.bias, *agreement.bias_ci, decimals=2),
        "lower limit": with_interval(agreement.lower_limit, *agreement.lower_limit_ci, decimals=2),
        "upper limit": with_interval(agreement.upper_limit, *agreement.upper_limit_ci, decimals=2),
    }


def _cases_table(task: TaskResults, label: str, names: Mapping[str, str]) -> Table:
    first, *_ = task.evaluations
    cases = seed_zero(task, first).cases
    rows = []
    predicted = {
        trainer: dict(zip(seed_zero(task, trainer).cases, volumes_ml(task, trainer, label)[1], strict=True))
        for trainer in task.evaluations
    }
    for case, reference in zip(cases, volumes_ml(task, first, label)[0], strict=True):
        values = {trainer: rounded(found.get(case, np.nan), 3) for trainer, found in predicted.items()}
        rows.append({"case": names[case], "reference": rounded(reference, 3), **values})
    return table_of("Volumes of every case in ml", rows)
