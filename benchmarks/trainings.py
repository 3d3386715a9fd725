"""What the seeds of a benchmark's trainers give, of cases and in pairs: for the evidence and the reproductions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from nnunet_rw.benchmark.results import Run
from nnunet_rw.evaluation.comparison.metrics import METRICS
from nnunet_rw.evaluation.comparison.statistics import Interval, mean_interval
from nnunet_rw.evaluation.folder import Evaluation


def case_values(evaluation: Evaluation, label: str, metric: str) -> np.ndarray:
    """(N,) values of a metric, in the order of the cases; a distance to nothing is the image's diagonal."""
    values = METRICS[metric].values(evaluation.columns[label])
    return np.where(np.isinf(values), evaluation.diagonals_mm(), values)


def paired_difference(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> tuple[float, Interval]:
    """Mean over cases of the difference between two means over seeds, with its 95 % interval over the cases.

    Parameters
    ----------
    before, after : (N,) floats of every seed
        Of the same cases. Cases without a value are left out.
    """
    difference = np.mean(after, axis=0) - np.mean(before, axis=0)
    difference = difference[~np.isnan(difference)]
    return float(difference.mean()), mean_interval(difference)


def spread(values: Iterable[float]) -> float:
    """Largest difference between two seeds; NaN for one."""
    values = list(values)
    return max(values) - min(values) if len(values) > 1 else math.nan


def seconds_per_epoch(runs: Iterable[Run]) -> float:
    """Median; NaN where none was recorded."""
    seconds = [epoch.seconds for run in runs if run.record for epoch in run.record.epochs]
    return float(np.median(seconds)) if seconds else math.nan
