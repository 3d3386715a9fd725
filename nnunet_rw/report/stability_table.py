"""The table that `nnunet-rw stability` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_rw.report.table import text_table

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
diverged: the loss ended above its start by more than two standard errors, or as no number
all background: predicted less than 1 % of the foreground in the last tenth of the iterations
rise of the loss: largest, of its moving mean above the lowest so far, relative to the moving mean's range
gradient spikes: norms above ten times the median of the 25 before; steps clipped: at nnU-Net's norm of 12
predicted / true, pseudo-Dice: foreground voxels and Dice of the last tenth's training patches"""


def stability_table(summaries: Mapping[str, Mapping[str, Any]], optimizer: str) -> str:
    """A row per loss, and below what the columns mean.

    Parameters
    ----------
    summaries : mapping of str to what `nnunet_rw.stability.measures.summarise_runs` returns
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
