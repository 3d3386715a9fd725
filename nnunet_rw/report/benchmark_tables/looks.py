"""How trainers look in figures, and marks with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes

from nnunet_rw.benchmark.results import TaskResults

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
