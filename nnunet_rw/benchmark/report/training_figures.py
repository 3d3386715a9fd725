"""What training brought, epoch by epoch, and what it took: time and memory beside Dice and recall."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go

from nnunet_rw.benchmark.report.figures import Block, Panel, Style, error_bar, logarithmic_ticks, new_figure, numbers
from nnunet_rw.benchmark.report.leaderboard import Estimate, Standing
from nnunet_rw.benchmark.report.provenance import Resources, resource_table, resources_of
from nnunet_rw.benchmark.results import Run, TaskResults
from nnunet_rw.training.records import Epoch, RunRecord, read_iterations
from nnunet_rw.util.tables import CellLike, Table, number, with_interval

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
    rows: list[dict[str, CellLike]] = []
    for trainer in trainers:
        records = [run.record for run in runs if run.trainer == trainer and run.record]
        length = max(len(record.epochs) for record in records)
        for epoch in np.unique(np.linspace(0, length - 1, min(_EPOCHS_IN_TABLE, length)).round().astype(int).tolist()):
            found = [record.epochs[epoch] for record in records if epoch < len(record.epochs)]
            medians = {
                "pseudo Dice": _finite_median([one.pseudo_dice for one in found]),
                "loss in training": _finite_median([one.train_loss for one in found]),
                "loss in validation": _finite_median([one.val_loss for one in found]),
            }
            cells = {name: number(value, 3) for name, value in medians.items()}
            rows.append({"trainer": trainer, "epoch": epoch + 1, "trainings": len(found), **cells})
    return Table.of("Medians over trainings, of some epochs", rows)


def _finite_median(values: Sequence[float]) -> float:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.median(finite)) if finite else np.nan


_MIB_PER_GIB = 1024.0
_COST_CAPTION = (
    "Accuracy of a trainer's first seed, with 95 % intervals, against what its training took: the median "
    "time of an epoch and the highest memory, over folds. The share of the time that the loader kept the network "
    "waiting, and the time of validation, are in the table. {devices}"
)


def cost(task: TaskResults, places: Sequence[Standing], styles: Mapping[str, Style]) -> Block | None:
    """None where no evaluated trainer has a record.

    Parameters
    ----------
    places : sequence of Standing
        Of one label.
    """
    found: list[tuple[Standing, Resources]] = []
    records: list[RunRecord] = []
    for standing in places:
        own = [run for run in task.runs if (run.trainer, run.seed) == (standing.trainer, standing.seed)]
        took = resources_of(standing.trainer, own)
        # None before the first epoch.
        if np.isfinite(took.seconds_per_epoch):
            found.append((standing, took))
            records += [run.record for run in own if run.record]
    if not found:
        return None
    gpu = all(np.isfinite(took.peak_gpu_mib) for _, took in found)
    memory = "GPU" if gpu else "host"
    gib = [(took.peak_gpu_mib if gpu else took.peak_host_mib) / _MIB_PER_GIB for _, took in found]
    seconds = [took.seconds_per_epoch for _, took in found]
    trainers = tuple(standing.trainer for standing, _ in found)
    dice = [standing.dice for standing, _ in found]
    recall = [standing.recall for standing, _ in found]
    memory_axis = f"Peak {memory} memory in GiB"
    panels = (
        Panel("Dice and time", _cost_panel(trainers, seconds, dice, "Median seconds per epoch", "Mean Dice", styles)),
        Panel(
            "Recall and time",
            _cost_panel(trainers, seconds, recall, "Median seconds per epoch", "Lesion recall", styles),
        ),
        Panel("Dice and memory", _cost_panel(trainers, gib, dice, memory_axis, "Mean Dice", styles)),
        Panel("Recall and memory", _cost_panel(trainers, gib, recall, memory_axis, "Lesion recall", styles)),
    )
    points: list[dict[str, CellLike]] = [
        {
            "trainer": standing.trainer,
            "seed": standing.seed,
            "seconds per epoch": number(took.seconds_per_epoch, 1),
            "peak GPU memory in GiB": number(took.peak_gpu_mib / _MIB_PER_GIB, 2),
            "peak host memory in GiB": number(took.peak_host_mib / _MIB_PER_GIB, 2),
            "Dice": with_interval(standing.dice.value, standing.dice.interval),
            "lesion recall": with_interval(standing.recall.value, standing.recall.interval),
        }
        for standing, took in found
    ]
    resources = replace(resource_table(task), title="Resources of all trainings")
    tables = (resources, Table.of("The points", points))
    return Block("cost", "Time and memory", _COST_CAPTION.format(devices=_devices(records)), panels, tables, trainers)


def _cost_panel(
    trainers: Sequence[str],
    x: Sequence[float],
    y: Sequence[Estimate],
    x_name: str,
    y_name: str,
    styles: Mapping[str, Style],
) -> go.Figure:
    figure = new_figure(x_name, y_name, 300)
    for trainer, amount, estimate in zip(trainers, x, y, strict=True):
        style, (low, high) = styles[trainer], estimate.interval
        figure.add_trace(
            go.Scatter(
                x=numbers([amount]),
                y=numbers([estimate.value]),
                error_y=error_bar(estimate.value, estimate.interval),
                mode="markers",
                name=style.text,
                meta=trainer,
                marker=style.marker(13),
                text=[f"{style.text}<br>{with_interval(estimate.value, (low, high))} at {amount:.3g}"],
                hoverinfo="text",
            )
        )
    known = [value for value in x if np.isfinite(value)]
    if known:
        figure.update_xaxes(range=[0, 1.12 * max(known)])
    # About shares that are all alike plotly would draw from one less to one more.
    shares = [value for estimate in y for value in (estimate.value, *estimate.interval) if np.isfinite(value)]
    if shares:
        margin = 0.08 * (max(shares) - min(shares)) or 0.05
        figure.update_yaxes(range=[min(shares) - margin, max(shares) + margin])
    return figure


def _devices(records: Sequence[RunRecord]) -> str:
    names = sorted({session.device_name or session.device for record in records for session in record.sessions})
    if len(names) == 1:
        return f"All trained on: {names[0]}."
    return f"Trained on different devices, so that times do not compare: {', '.join(names)}." if names else ""
