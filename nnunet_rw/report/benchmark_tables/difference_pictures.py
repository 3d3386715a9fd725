"""A figure of the paired differences from the baseline."""

from __future__ import annotations

import math

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.compared_metrics import METRICS
from nnunet_rw.evaluation.comparison_rows import MetricRow
from nnunet_rw.report.benchmark_tables.leaderboard import METRIC_NAMES
from nnunet_rw.report.benchmark_tables.looks import Looks


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
