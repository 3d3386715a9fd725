"""Figures of lesions found: by size, and by what they cost."""

from __future__ import annotations

import math

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.comparison_rows import SizeRow
from nnunet_rw.report.benchmark_tables.looks import Looks, draw_error_bars, panel_title


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
