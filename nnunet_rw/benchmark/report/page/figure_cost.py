"""What accuracy costs: time and memory beside Dice and recall."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from nnunet_rw.benchmark.report.page.blocks import Block, Panel, numbers, table_of, with_interval
from nnunet_rw.benchmark.report.page.styles import Style, new_figure
from nnunet_rw.benchmark.report.tables.leaderboard import Estimate, Standing
from nnunet_rw.benchmark.report.tables.provenance import resource_rows
from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.comparison.cells import rounded
from nnunet_rw.training.records import RunRecord

_MIB_PER_GIB = 1024.0
_CAPTION = (
    "Accuracy of a trainer's first seed, with 95 % intervals, against what its training took: the median "
    "time of an epoch and the highest memory, over folds. The share of the time that the loader kept the network "
    "waiting, and the time of validation, are in the table. {devices}"
)


@dataclass(frozen=True)
class Cost:
    """Of the trainings of one trainer and seed.

    Attributes
    ----------
    seconds : float
        Median of all their epochs.
    gpu_gib, host_gib : float
        Highest memory; NaN where it is not known.
    """

    seconds: float
    gpu_gib: float
    host_gib: float


def training_cost(records: Sequence[RunRecord]) -> Cost | None:
    """None before the first epoch."""
    epochs = [epoch for record in records for epoch in record.epochs]
    if not epochs:
        return None
    gpu = [epoch.peak_gpu_mib for epoch in epochs if epoch.peak_gpu_mib is not None]
    host = [epoch.peak_host_mib for epoch in epochs if np.isfinite(epoch.peak_host_mib)]
    return Cost(
        float(np.median([epoch.seconds for epoch in epochs])),
        max(gpu) / _MIB_PER_GIB if gpu else np.nan,
        max(host) / _MIB_PER_GIB if host else np.nan,
    )


def cost(task: TaskResults, places: Sequence[Standing], styles: Mapping[str, Style]) -> Block | None:
    """None where no evaluated trainer has a record.

    Parameters
    ----------
    places : sequence of Standing
        Of one label.
    """
    found: list[tuple[Standing, Cost]] = []
    records: list[RunRecord] = []
    for standing in places:
        own = [
            run.record
            for run in task.runs
            if run.record and (run.trainer, run.seed) == (standing.trainer, standing.seed)
        ]
        of_training = training_cost(own)
        if of_training:
            found.append((standing, of_training))
            records += own
    if not found:
        return None
    gpu = all(np.isfinite(of_training.gpu_gib) for _, of_training in found)
    memory = "GPU" if gpu else "host"
    gib = [of_training.gpu_gib if gpu else of_training.host_gib for _, of_training in found]
    seconds = [of_training.seconds for _, of_training in found]
    trainers = tuple(standing.trainer for standing, _ in found)
    dice = [standing.dice for standing, _ in found]
    recall = [standing.recall for standing, _ in found]
    memory_axis = f"Peak {memory} memory in GiB"
    panels = (
        Panel("Dice and time", _panel(trainers, seconds, dice, "Median seconds an epoch", "Mean Dice", styles)),
        Panel("Recall and time", _panel(trainers, seconds, recall, "Median seconds an epoch", "Lesion recall", styles)),
        Panel("Dice and memory", _panel(trainers, gib, dice, memory_axis, "Mean Dice", styles)),
        Panel("Recall and memory", _panel(trainers, gib, recall, memory_axis, "Lesion recall", styles)),
    )
    points = [
        {
            "trainer": standing.trainer,
            "seed": str(standing.seed),
            "seconds an epoch": rounded(of_training.seconds, 1),
            "peak GPU memory in GiB": rounded(of_training.gpu_gib, 2),
            "peak host memory in GiB": rounded(of_training.host_gib, 2),
            "Dice": with_interval(standing.dice.value, *standing.dice.interval),
            "lesion recall": with_interval(standing.recall.value, *standing.recall.interval),
        }
        for standing, of_training in found
    ]
    tables = (table_of("Resources of all trainings", resource_rows(task)), table_of("The points", points))
    return Block("cost", "Time and memory", _CAPTION.format(devices=_devices(records)), panels, tables, trainers)


def _panel(
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
        error = None
        if np.isfinite([low, high]).all():
            up, down = numbers([high - estimate.value, estimate.value - low])
            error = {"type": "data", "symmetric": False, "array": [up], "arrayminus": [down], "thickness": 1.5}
        figure.add_trace(
            go.Scatter(
                x=numbers([amount]),
                y=numbers([estimate.value]),
                error_y=error,
                mode="markers",
                name=style.text,
                meta=trainer,
                marker=style.marker(13),
                text=[f"{style.text}<br>{with_interval(estimate.value, low, high)} at {amount:.3g}"],
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
