"""Figures of trainings: their course, and what accuracy costs."""

from __future__ import annotations

import math

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.report.benchmark_tables.looks import Looks, draw_error_bars, panel_title
from nnunet_rw.report.benchmark_tables.resources import resources
from nnunet_rw.report.benchmark_tables.standings import standings


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
