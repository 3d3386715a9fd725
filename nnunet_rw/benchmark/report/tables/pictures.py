"""Figures of a benchmark for slides and papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnunet_rw.benchmark.report.tables.leaderboard import METRIC_NAMES, standings
from nnunet_rw.benchmark.report.tables.provenance import resources
from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.evaluation.comparison.metrics import METRICS
from nnunet_rw.evaluation.comparison.rows import MetricRow, SizeRow

# Okabe and Ito's, which the colour-blind can tell apart; the baseline is black.
_COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "osD^vPX*"
# Colour and marker by trainer.
Looks = Mapping[str, tuple[str, str]]


def looks_of(trainers: Sequence[str]) -> Looks:
    """A look for each trainer, the same in all figures."""
    return dict(zip(trainers, zip(cycle(_COLOURS), cycle(_MARKERS), strict=False), strict=False))


def draw_error_bars(axis: Axes, points: np.ndarray, trainer: str, looks: Looks) -> None:
    """Points (N, 4) of x, y, low and high; no bar where there is no interval."""
    x, y, low, high = points.T
    bars = np.nan_to_num(np.array([y - low, high - y])).clip(min=0)
    colour, marker = looks[trainer]
    axis.errorbar(x, y, bars, fmt=marker, color=colour, markersize=5, capsize=2, linewidth=1, label=trainer)


def panel_title(task: TaskResults, label: str, labels: int) -> str:
    """The task, and the label where there are several."""
    return f"{task.task}, label {label}" if labels > 1 else task.task


matplotlib.use("agg")


def draw_differences(task: TaskResults, looks: Looks) -> Figure | None:
    """Paired differences from the baseline with their intervals: a column a metric, a row a label."""
    rows = [row for row in task.comparison.metrics if row.n] if task.comparison else []
    if not task.comparison or not rows:
        return None
    metrics, labels = (list(dict.fromkeys(getattr(row, name) for row in rows)) for name in ("metric", "label"))
    trainers = task.comparison.challengers
    size = (1.5 + 1.9 * len(metrics), 1 + (0.5 + 0.35 * len(trainers)) * len(labels))
    figure, axes = plt.subplots(len(labels), len(metrics), figsize=size, squeeze=False, sharex="col")
    for row in rows:
        axis = axes[labels.index(row.label), metrics.index(row.metric)]
        _difference(axis, row, -trainers.index(row.challenger), looks)
    for index, axis in np.ndenumerate(axes):
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set_ylim(0.5 - len(trainers), 0.5)
        first = index[1] == 0
        axis.set_yticks([-k for k in range(len(trainers))], trainers if first else [""] * len(trainers), fontsize=8)
        if first and len(labels) > 1:
            axis.set_ylabel(f"label {labels[index[0]]}")
        if index[0] == 0:
            axis.set_title(_metric_title(metrics[index[1]]), fontsize=9)
        axis.tick_params(axis="x", labelsize=7)
    figure.suptitle(f"{task.task}: difference from {task.comparison.baseline}, 95 % intervals", fontsize=10)
    return figure


def _difference(axis: Axes, row: MetricRow, y: float, looks: Looks) -> None:
    colour, marker = looks[row.challenger]
    if not math.isnan(row.low):
        axis.plot([row.low, row.high], [y, y], color=colour, linewidth=1.2)
    axis.plot(row.difference, y, marker, color=colour, markersize=4)


def _metric_title(metric: str) -> str:
    """Its name, its unit, and where better lies."""
    name = METRIC_NAMES.get(metric, metric) + (" in mm" if metric.endswith("_mm") else "")
    return f"{name}\n{'better →' if METRICS[metric].higher_is_better else '← better'}"


matplotlib.use("agg")


def draw_recall_by_size(task: TaskResults, looks: Looks) -> Figure | None:
    """Recall with Wilson's intervals by size class, a panel a label."""
    rows = [row for row in task.comparison.sizes if row.lesions and not _every(row)] if task.comparison else []
    labels = dict.fromkeys(row.label for row in rows)
    if not task.comparison or not labels:
        return None
    figure, axes = plt.subplots(1, len(labels), figsize=(1.5 + 4.5 * len(labels), 3.8), squeeze=False, sharey=True)
    for axis, label in zip(axes[0], labels, strict=True):
        own = [row for row in rows if row.label == label]
        classes = list(dict.fromkeys((row.size_from_mm3, row.size_to_mm3, row.lesions) for row in own))
        trainers = [task.comparison.baseline, *task.comparison.challengers]
        for position, trainer in enumerate(trainers):
            shift = 0.6 * ((position + 0.5) / len(trainers) - 0.5)
            points = [
                (classes.index((row.size_from_mm3, row.size_to_mm3, row.lesions)) + shift, *_recall(row, trainer))
                for row in own
                # The baseline is in every challenger's rows.
                if row.challenger == (task.comparison.challengers[0] if position == 0 else trainer)
            ]
            draw_error_bars(axis, np.array(points), trainer, looks)
        axis.set_xticks(range(len(classes)), [f"{_size(low, high)}\nn = {lesions}" for low, high, lesions in classes])
        axis.set(xlabel="lesion volume in mm³", title=panel_title(task, label, len(labels)), ylim=(-0.04, 1.04))
    axes[0, 0].set_ylabel("recall (any overlap), 95 % Wilson interval")
    axes[0, 0].legend(fontsize=8)
    return figure


def draw_froc(task: TaskResults, looks: Looks) -> Figure | None:
    """FROC curves of the first seed, a panel a label; false positives on a scale that is logarithmic from 1/8 on."""
    curves = [
        (label, trainer, curve)
        for trainer, seeds in task.evaluations.items()
        for label, curve in seeds[min(seeds)].froc.items()
        if curve.num_lesions
    ]
    labels = dict.fromkeys(label for label, *_ in curves)
    if not labels:
        return None
    figure, axes = plt.subplots(1, len(labels), figsize=(1 + 4.5 * len(labels), 3.8), squeeze=False, sharey=True)
    for axis, label in zip(axes[0], labels, strict=True):
        for name, trainer, curve in curves:
            if name == label:
                # Beyond its last point a curve goes on level.
                false_positives = np.append(curve.false_positives, max(8.0, curve.false_positives[-1]))
                recall = np.append(curve.recall, curve.recall[-1])
                axis.step(false_positives, recall, where="post", color=looks[trainer][0], label=trainer)
        axis.set_xscale("symlog", linthresh=1 / 8, linscale=0.3)
        axis.set_xticks([0, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8], ["0", "1/8", "1/4", "1/2", "1", "2", "4", "8"])
        axis.set(
            xlim=(0, 8), ylim=(0, 1.02), xlabel="false positives per case", title=panel_title(task, label, len(labels))
        )
    axes[0, 0].set_ylabel("lesion recall")
    axes[0, 0].legend(fontsize=8)
    return figure


def _recall(row: SizeRow, trainer: str) -> tuple[float, float, float]:
    if trainer == row.baseline:
        return row.baseline_recall, row.baseline_low, row.baseline_high
    return row.challenger_recall, row.challenger_low, row.challenger_high


def _every(row: SizeRow) -> bool:
    return (row.size_from_mm3, row.size_to_mm3) == (0, math.inf)


def _size(low: float, high: float) -> str:
    if math.isinf(high):
        return f"from {low:g}"
    return f"{low:g} to {high:g}" if low else f"below {high:g}"


matplotlib.use("agg")


def draw_training(task: TaskResults, looks: Looks) -> Figure | None:
    """Training and validation loss and pseudo-Dice by epoch: every training thin, the median of a trainer's thick."""
    records = [run.record for run in task.runs if run.record is not None and run.record.epochs]
    if not records:
        return None
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    for trainer in dict.fromkeys(record.trainer for record in records):
        own = [record for record in records if record.trainer == trainer]
        for axis, name in zip(axes, ("train_loss", "val_loss", "pseudo_dice"), strict=True):
            values = np.full((len(own), max(len(record.epochs) for record in own)), np.nan)
            for line, record in zip(values, own, strict=True):
                line[: len(record.epochs)] = [getattr(epoch, name) for epoch in record.epochs]
            colour = looks[trainer][0]
            axis.plot(values.T, color=colour, linewidth=0.5, alpha=0.4)
            known = ~np.isnan(values).all(0)
            epochs = np.arange(values.shape[1])[known]
            axis.plot(epochs, np.nanmedian(values[:, known], axis=0), color=colour, linewidth=1.8, label=trainer)
    for axis, label in zip(axes, ("training loss", "validation loss", "pseudo-Dice"), strict=True):
        axis.set(xlabel="epoch", ylabel=label)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[2].legend(fontsize=8)
    figure.suptitle(f"{task.task}: losses of different trainers have different units", fontsize=10)
    return figure


def draw_speed(task: TaskResults, looks: Looks) -> Figure | None:
    """Dice with its interval against the seconds of an epoch, a panel a label."""
    seconds = {found.trainer: found.seconds_per_epoch for found in resources(task)}
    rows = [row for row in standings(task) if math.isfinite(seconds.get(row.trainer, math.nan)) and row.dice.n]
    labels = dict.fromkeys(row.label for row in rows)
    if not labels:
        return None
    figure, axes = plt.subplots(1, len(labels), figsize=(1 + 4 * len(labels), 3.6), squeeze=False, sharey=True)
    for axis, label in zip(axes[0], labels, strict=True):
        for row in rows:
            if row.label == label:
                point = (seconds[row.trainer], row.dice.value, *row.dice.interval)
                draw_error_bars(axis, np.array([point]), row.trainer, looks)
        axis.set(xlabel="seconds per epoch (median)", title=panel_title(task, label, len(labels)))
        axis.set_xlim(left=0, right=1.15 * max(seconds[row.trainer] for row in rows))
    axes[0, 0].set_ylabel("Dice")
    axes[0, 0].legend(fontsize=8)
    return figure


matplotlib.use("agg")


DPI = 200


def write_pictures(results: BenchmarkResults, folder: Path) -> list[Path]:
    """Write each figure of each task as PNG and PDF; what has nothing to show is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    looks = looks_of(results.specification.trainers)
    drawings: dict[str, Callable[[TaskResults, Looks], Figure | None]] = {
        "recall_by_size": draw_recall_by_size,
        "froc": draw_froc,
        "differences": draw_differences,
        "training": draw_training,
        "speed": draw_speed,
    }
    written = []
    for task in results.tasks:
        for name, draw in drawings.items():
            figure = draw(task, looks)
            if figure is None:
                continue
            figure.tight_layout()
            for ending in ("png", "pdf"):
                written.append(folder / f"{task.dataset}_{name}.{ending}")
                # Equal results give equal files.
                metadata = {"CreationDate": None} if ending == "pdf" else {}
                figure.savefig(written[-1], dpi=DPI, metadata=metadata)
            plt.close(figure)
    return written
