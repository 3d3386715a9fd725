"""Training curves: what every epoch and iteration brought."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from nnunet_rw.benchmark.report.page.blocks import Block, Panel, Table, numbers, table_of
from nnunet_rw.benchmark.report.page.styles import Style, logarithmic_ticks, new_figure
from nnunet_rw.benchmark.results import Run, TaskResults
from nnunet_rw.evaluation.comparison.cells import rounded
from nnunet_rw.training.records import Epoch, read_iterations

_POINTS = 100
_EPOCHS_IN_TABLE = 12
_CAPTION = (
    "Thin lines are trainings (folds and seeds), thick ones their median. Pseudo Dice is nnU-Net's, of patches of the "
    "validation cases. Losses of different trainers are different quantities: compare their shape, not their height. "
    "Values of iterations are medians of {window} in turn; the norm of the gradient is that before clipping."
)
Line = tuple[np.ndarray, np.ndarray]


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """(N,) medians of ``window`` values in turn, the last of what is left; NaN where none is finite."""
    padded = np.append(np.asarray(values, dtype=float), np.full(-len(values) % window, np.nan))
    padded[~np.isfinite(padded)] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(padded.reshape(-1, window), axis=1)


def training_curves(task: TaskResults, styles: Mapping[str, Style]) -> Block | None:
    """Panels over epochs and over iterations; None before the first epoch of any run."""
    runs = [run for run in task.runs if run.record and run.record.epochs]
    if not runs:
        return None
    trainers = [trainer for trainer in styles if any(run.trainer == trainer for run in runs)]
    panels = [
        Panel(title, _panel(runs, styles, "Epoch", name, _of_epochs(value)))
        for title, name, value in (
            ("Pseudo Dice", "Pseudo Dice", lambda epoch: epoch.pseudo_dice),
            ("Loss in training", "Loss", lambda epoch: epoch.train_loss),
            ("Loss in validation", "Loss", lambda epoch: epoch.val_loss),
        )
    ]
    iterations = {run.folder: found for run in runs if (found := _iterations(run))}
    longest = max((len(found["loss"]) for found in iterations.values()), default=0)
    window = -(-longest // _POINTS) or 1
    with_iterations = [run for run in runs if run.folder in iterations]
    for title, column in (("Loss by iteration", "loss"), ("Norm of the gradient", "gradient_norm")):
        if with_iterations:
            figure = _panel(with_iterations, styles, "Iteration", title, _of_iterations(iterations, column, window))
            if column == "gradient_norm":
                figure.update_yaxes(type="log", **_ticks(figure))
            panels.append(Panel(title, figure))
    each = f"{window} iterations" if window > 1 else "single iterations"
    return Block(
        "training", "Training", _CAPTION.format(window=each), tuple(panels), (_table(runs, trainers),), tuple(trainers)
    )


def _ticks(figure: go.Figure) -> dict[str, Any]:
    values = [value for trace in figure.data for value in trace.y if value]
    return dict(logarithmic_ticks(min(values), max(values))) if values and min(values) > 0 else {}


def _iterations(run: Run) -> dict[str, np.ndarray] | None:
    try:
        found = read_iterations(run.folder)
    except FileNotFoundError:
        return None
    return found if len(found["loss"]) else None


def _of_epochs(value: Callable[[Epoch], float]) -> Callable[[Run], Line]:
    def line(run: Run) -> Line:
        epochs = run.record.epochs if run.record else ()
        return np.array([epoch.epoch + 1.0 for epoch in epochs]), np.array([value(epoch) for epoch in epochs])

    return line


def _of_iterations(iterations: Mapping[Any, dict[str, np.ndarray]], column: str, window: int) -> Callable[[Run], Line]:
    def line(run: Run) -> Line:
        values = smoothed(iterations[run.folder][column], window)
        return (np.arange(len(values)) + 0.5) * window, values

    return line


def _panel(
    runs: Sequence[Run], styles: Mapping[str, Style], x: str, y: str, line_of: Callable[[Run], Line]
) -> go.Figure:
    figure = new_figure(x, y, 300)
    for trainer, style in styles.items():
        own = [run for run in runs if run.trainer == trainer]
        lines = [line_of(run) for run in own]
        if len(own) > 1:
            for run, line in zip(own, lines, strict=True):
                name = f"{style.text}<br>fold {run.fold}, seed {run.seed}"
                figure.add_trace(_trace(style, line, {"width": 1, "dash": "solid"}, name, opacity=0.35))
        if own:
            name = f"{style.text}{', median' if len(own) > 1 else ''}"
            figure.add_trace(_trace(style, _median(lines), {}, name))
    return figure


def _trace(style: Style, line: Line, look: dict[str, Any], name: str, opacity: float = 1) -> go.Scatter:
    return go.Scatter(
        x=numbers(line[0]),
        y=numbers(line[1]),
        mode="lines" if len(line[0]) > 1 else "markers",
        line={**style.line(2.2), **look},
        marker=style.marker(7),
        opacity=opacity,
        meta=style.trainer,
        hovertemplate=f"{name}<br>%{{x:.6g}}: %{{y:.4g}}<extra></extra>",
    )


def _median(lines: Sequence[Line]) -> Line:
    """At every x that a line has, of the lines that have it."""
    x = np.unique(np.concatenate([line[0] for line in lines]))
    values = np.full((len(lines), len(x)), np.nan)
    for row, (own_x, own_y) in zip(values, lines, strict=True):
        row[np.searchsorted(x, own_x)] = own_y
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return x, np.nanmedian(values, axis=0)


def _table(runs: Sequence[Run], trainers: Sequence[str]) -> Table:
    rows = []
    for trainer in trainers:
        records = [run.record for run in runs if run.trainer == trainer and run.record]
        length = max(len(record.epochs) for record in records)
        for number in np.unique(np.linspace(0, length - 1, min(_EPOCHS_IN_TABLE, length)).round().astype(int)):
            epochs = [record.epochs[number] for record in records if number < len(record.epochs)]
            medians = {
                "pseudo Dice": _finite_median([epoch.pseudo_dice for epoch in epochs]),
                "loss in training": _finite_median([epoch.train_loss for epoch in epochs]),
                "loss in validation": _finite_median([epoch.val_loss for epoch in epochs]),
            }
            cells = {name: rounded(value, 3) for name, value in medians.items()}
            rows.append({"trainer": trainer, "epoch": str(number + 1), "trainings": str(len(epochs)), **cells})
    return table_of("Medians over trainings, of some epochs", rows)


def _finite_median(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else np.nan
