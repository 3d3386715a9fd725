"""What trainings cost: time and memory."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.report.benchmark_tables.cells import NOTHING, rounded

_OPTIONAL = ("peak GPU MiB",)


@dataclass(frozen=True)
class Resources:
    """One trainer over its folds and seeds; NaN where nothing is recorded.

    Attributes
    ----------
    runs, finished : int
    num_parameters : float
    seconds_per_epoch : float
        Median over all epochs.
    loader_wait_share : float
        Of the epochs' time, in which the training waited for batches.
    peak_host_mib, peak_gpu_mib : float
        Highest of all epochs.
    training_seconds, validation_seconds : float
        Of one training, all epochs; of the prediction of one fold's validation cases. Medians over finished trainings.
    """

    trainer: str
    runs: int
    finished: int
    num_parameters: float
    seconds_per_epoch: float
    loader_wait_share: float
    peak_host_mib: float
    peak_gpu_mib: float
    training_seconds: float
    validation_seconds: float


def resources(task: TaskResults) -> tuple[Resources, ...]:
    """One entry per trainer, in the order of the specification."""
    return tuple(_resources(task, trainer) for trainer in dict.fromkeys(run.trainer for run in task.runs))


def resource_rows(task: TaskResults) -> list[dict[str, str]]:
    """A row per trainer over its folds and seeds; keys are the column headers, the same in all rows."""
    rows = [_cells(found) for found in resources(task)]
    kept = [
        name for name in (rows[0] if rows else ()) if name not in _OPTIONAL or any(r[name] != NOTHING for r in rows)
    ]
    return [{name: row[name] for name in kept} for row in rows]


def resource_notes(results: BenchmarkResults) -> list[str]:
    """What the columns mean, and what makes times incomparable."""
    execution = results.specification.execution
    notes = [
        "Seconds per epoch: median over all epochs of all folds and seeds. Loader wait: share of that time in which "
        "the training waited for batches. Peak memory: highest of all epochs; of the host the resident size of the "
        "training process, or of the largest of its processes that have ended. Training and validation: median over "
        "finished trainings."
    ]
    if execution.jobs > 1 and execution.executor == "local":
        notes.append(f"Up to {execution.jobs} trainings shared the machine while they were timed.")
    return notes


def duration(seconds: float) -> str:
    """``34 s``, ``12.5 min`` or ``5.2 h``."""
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _resources(task: TaskResults, trainer: str) -> Resources:
    runs = [run for run in task.runs if run.trainer == trainer]
    records = [run.record for run in runs if run.record is not None]
    finished = [record for record in records if record.finished]
    epochs = [epoch for record in records for epoch in record.epochs]
    seconds = _numbers(epoch.seconds for epoch in epochs)
    waited = _numbers(epoch.loader_wait_seconds for epoch in epochs)
    return Resources(
        trainer=trainer,
        runs=len(runs),
        finished=len(finished),
        num_parameters=_largest(record.num_parameters for record in records),
        seconds_per_epoch=_median(seconds),
        loader_wait_share=sum(waited) / sum(seconds) if waited and sum(seconds) > 0 else math.nan,
        peak_host_mib=_largest(epoch.peak_host_mib for epoch in epochs),
        peak_gpu_mib=_largest(epoch.peak_gpu_mib for epoch in epochs),
        training_seconds=_median([sum(_numbers(epoch.seconds for epoch in record.epochs)) for record in finished]),
        validation_seconds=_median(_numbers(record.validation_seconds for record in finished)),
    )


def _cells(found: Resources) -> dict[str, str]:
    millions = found.num_parameters / 1e6
    wait = 100 * found.loader_wait_share
    return {
        "trainer": found.trainer,
        "trainings": f"{found.finished} of {found.runs}",
        "parameters": NOTHING if math.isnan(millions) else f"{millions:.2f} M",
        "s per epoch": NOTHING if math.isnan(found.seconds_per_epoch) else f"{found.seconds_per_epoch:.3g}",
        "loader wait": NOTHING if math.isnan(wait) else f"{rounded(wait, 1)} %",
        "peak host MiB": rounded(found.peak_host_mib, 0),
        "peak GPU MiB": rounded(found.peak_gpu_mib, 0),
        "training": duration(found.training_seconds),
        "validation": duration(found.validation_seconds),
    }


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _largest(values: Iterable[float | None]) -> float:
    return max(_numbers(values), default=math.nan)


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else math.nan
