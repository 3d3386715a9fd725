"""The figure of the evidence: ``python -m benchmarks.evidence.figure``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.child import CHECKOUT
from benchmarks.evidence.tables import is_dearer
from benchmarks.harness import read_rows

FIGURE = CHECKOUT / "docs" / "images" / "evidence.png"
# Beyond, a loss is written as a number.
FURTHEST_POINTS = -15.0
STOCK, OTHER, CHOSEN = "#555555", "#0072B2", "#D55E00"


def draw(rows: Sequence[Mapping[str, Any]], chosen: str, path: Path) -> None:
    """Gains in small lesions found and in Dice, a line per trainer, and recall by size of the chosen and the baseline.

    Parameters
    ----------
    rows : of `benchmarks.evidence.collect`, the baseline first
    chosen : str
        The trainer to be seen.
    path : Path
    """
    baseline, *others = rows
    # At equal false positives: who always has more has no place here.
    others = sorted((row for row in others if not is_dearer(row)), key=lambda row: row["matched_small_recall_gain"])
    figure, axes = plt.subplots(
        1, 3, figsize=(12, 0.9 + 0.27 * max(len(others), 9)), width_ratios=(1, 0.8, 1.1), layout="constrained"
    )
    _forest(axes[0], others, "matched_small_recall", chosen, baseline)
    axes[0].set_xlabel("small lesions found at equal\nfalse positives, points more")
    axes[0].set_title("bars: 95 % intervals over cases", fontsize=8)
    _forest(axes[1], others, "dice", chosen, baseline)
    axes[1].set_xlabel("Dice, points more")
    axes[1].set_yticklabels([])
    axes[1].set_title("grey: between seeds of nnUNetTrainer", fontsize=8)
    _by_size(axes[2], [baseline, *(row for row in others if row["trainer"] == chosen)])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _forest(axis: Axes, rows: Sequence[Mapping[str, Any]], figure: str, chosen: str, baseline: Mapping) -> None:
    noise = baseline[f"{figure}_noise"]
    if noise is not None:
        axis.axvspan(-100 * noise, 100 * noise, color="#dddddd", lw=0)
    axis.axvline(0, color=STOCK, lw=1)
    for place, row in enumerate(rows):
        value, low, high = (
            math.nan if row[f"{figure}_gain{end}"] is None else 100 * row[f"{figure}_gain{end}"]
            for end in ("", "_low", "_high")
        )
        colour = CHOSEN if row["trainer"] == chosen else OTHER
        if value < FURTHEST_POINTS:
            axis.text(FURTHEST_POINTS, place, f"\u2190 {value:.0f}", color=colour, fontsize=8, va="center")
            continue
        axis.plot([max(low, FURTHEST_POINTS), high], [place, place], color=colour, lw=1.5)
        axis.plot(value, place, "o", color=colour, ms=5)
    axis.set_yticks(range(len(rows)), [_short(row["trainer"]) for row in rows], fontsize=8)
    axis.set_xlim(left=FURTHEST_POINTS - 1)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.grid(axis="x", alpha=0.3)


def _by_size(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for row, colour, marker in zip(rows, (STOCK, CHOSEN), "so", strict=False):
        classes = row["matched_recall_by_size"]
        axis.plot([100 * item["recall"] for item in classes], color=colour, marker=marker, label=row["trainer"])
    sizes = [item["from_voxels"] for item in classes]
    ends = [f"-{after - 1}" for after in sizes[1:]] + ["+"]
    names = [f"{size}{end}\n({item['lesions']})" for size, end, item in zip(sizes, ends, classes, strict=True)]
    axis.set_xticks(range(len(names)), names, fontsize=7)
    axis.set_yticks(np.arange(0, 101, 20))
    axis.set(ylim=(0, 102), xlabel="size of the lesion in voxels (lesions)", ylabel="found at equal false positives, %")
    axis.legend(fontsize=8, frameon=False)
    axis.grid(alpha=0.3)


def _short(trainer: str) -> str:
    if trainer.startswith("RWTrial_"):
        return f"{trainer.removeprefix('RWTrial_')} (trial)"
    return trainer.removeprefix("RWTrainer_")


def main() -> None:
    """Draw the figure of the documentation."""
    draw(read_rows("evidence_ms_lesions"), "RWTrainer_SmallLesions", FIGURE)
    print(FIGURE)


if __name__ == "__main__":
    main()
