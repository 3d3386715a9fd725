"""A comparison of losses by their stability, as a table and as a figure."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from nnunet_rw.audit.stability.curves import CLIP_NORM, Curves, moving_mean, pooled_dice, window_of
from nnunet_rw.util.tables import text_table

_HEADER = (
    "loss",
    "runs",
    "diverged",
    "all background",
    "rise of the loss",
    "gradient spikes",
    "steps clipped",
    "predicted / true",
    "pseudo-Dice",
)
_LEGEND = """\
Diverged and all background count runs; the others are the median (lowest to highest) over the seeds.
diverged: the loss ended above its start by more than two standard errors, or non-finite
all background: predicted less than 1 % of the foreground in the last tenth of the iterations
rise of the loss: largest, of its moving mean above the lowest so far, relative to the moving mean's range
gradient spikes: norms above ten times the median of the 25 before; steps clipped: at nnU-Net's norm of 12
predicted / true, pseudo-Dice: foreground voxels and Dice of the last tenth's training patches"""


def stability_table(summaries: Mapping[str, Mapping[str, Any]], optimizer: str) -> str:
    """A row per loss, and below what the columns mean.

    Parameters
    ----------
    summaries : mapping of str to what `nnunet_rw.audit.stability.curves.summarise_runs` returns
        By name of the loss.
    optimizer : str
        Of all runs, in words.
    """
    table = text_table(_HEADER, [_row(name, summary) for name, summary in summaries.items()])
    return f"{table}\n\nOptimiser: {optimizer}. {_LEGEND}"


def _row(name: str, summary: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        str(summary["runs"]),
        str(summary["diverged"]),
        str(summary["all_background"]),
        _spread(summary["largest_rise"], ".0%"),
        _spread(summary["gradient_spikes"], ".0f"),
        _spread(summary["clipped_share"], ".0%"),
        _spread(summary["predicted_over_true"], ".2f"),
        _spread(summary["pseudo_dice"], ".3f"),
    )


def _spread(values: list[float] | None, digits: str) -> str:
    if values is None:
        return "none"
    low, median, high = (format(value, digits) for value in values)
    return f"{median} ({low} to {high})"


matplotlib.use("agg")


def draw_stability(curves: Mapping[str, Sequence[Curves]], path: str | Path, title: str = "") -> None:
    """Write a PNG: every seed a thin line, the median over the seeds a thick one.

    Losses have axes of their own, since their units differ; gradient norms (logarithmic, with nnU-Net's clip) and Dice
    have one for all. Loss and Dice are those of a moving tenth of the iterations, drawn at its end; the loss of every
    iteration is pale behind it. A cross marks where a non-finite loss ended a run.

    Parameters
    ----------
    curves : mapping of str to sequence of Curves
        By name of the loss, a training a seed; at least one.
    path : path
        Of the PNG.
    title : str
        Above all columns, such as the optimiser of all runs.
    """
    length = max(len(run.loss) for runs in curves.values() for run in runs)
    window = window_of(length)
    figure, axes = plt.subplots(3, len(curves), figsize=(4.4 * len(curves), 8), squeeze=False, sharex=True)
    for (loss, norm, dice), (name, runs) in zip(axes.T, curves.items(), strict=True):
        for run in runs:
            loss.plot(run.loss, color="C0", linewidth=0.4, alpha=0.25)
            if not np.isfinite(run.loss[-1]):
                loss.plot(len(run.loss) - 1, 0.5, "rx", transform=loss.get_xaxis_transform())
        _draw_seeds(loss, [moving_mean(run.loss, min(window, len(run.loss))) for run in runs], runs, length)
        _draw_seeds(norm, [run.gradient_norm for run in runs], runs, length)
        _draw_seeds(dice, [pooled_dice(run, min(window, len(run.loss))) for run in runs], runs, length)
        norm.axhline(CLIP_NORM, color="grey", linestyle="--", linewidth=0.8)
        norm.set_yscale("log", nonpositive="mask")
        dice.set(ylim=(0, 1), xlabel="iteration")
        loss.set_title(f"{name} ({len(runs)} seeds)", fontsize=10)
    for row, label in zip(axes, ("loss", "gradient norm before clipping", "Dice of training patches"), strict=True):
        row[0].set_ylabel(label)
    limits = [norm.get_ylim() for norm in axes[1]]
    for norm in axes[1]:
        norm.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_seeds(axis: Axes, lines: Sequence[np.ndarray], runs: Sequence[Curves], length: int) -> None:
    """Lines that end with their run, thin, and their median, thick."""
    aligned = np.full((len(lines), length), np.nan)
    for row, values, run in zip(aligned, lines, runs, strict=True):
        row[len(run.loss) - len(values) : len(run.loss)] = np.where(np.isfinite(values), values, np.nan)
    axis.plot(aligned.T, color="C0", linewidth=0.8, alpha=0.7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # iterations that no run has a value of
        axis.plot(np.nanmedian(aligned, axis=0), color="black", linewidth=2)
