"""The figure of docs/region_wise.md: ``python -m benchmarks.region_wise.figure``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from benchmarks.child import CHECKOUT
from benchmarks.harness import read_rows
from benchmarks.region_wise.collect import MEAN, RRW, trainer_rows
from benchmarks.region_wise.tables import ALONE, BESIDE, equal_of, without_maps

FIGURE = CHECKOUT / "docs" / "images" / "region_wise.png"
# Told apart by the colour-blind; RRW stands out, nnU-Net's loss is what everybody knows.
COLOURS = ("#D55E00", "#882255", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#E69F00", "#8C6D1F", "#333333")
EQUAL, GRADUAL, WITHOUT = "#0072B2", "#D55E00", "#333333"

Row = Mapping[str, Any]


def draw(rows: Sequence[Row], others: Sequence[Row], path: Path) -> None:
    """Courses of the losses alone, their Dice less that of RRW, and Dice of maps beside Dice and cross-entropy.

    Parameters
    ----------
    rows, others : of `benchmarks.region_wise.collect`
        In two dimensions, and in three; what is not measured is left out. Maps beside a loss are those of the
        dimensions with more of them.
    path : Path
    """
    groups = {
        name: {row["trainer"]: row for row in group if row["seeds"]} for name, group in (("2D", rows), ("3D", others))
    }
    groups = {name: group for name, group in groups.items() if group}
    rest = ["differences", "beside"]
    panels: list[Any] = [[*groups], rest] if len(groups) > 1 else [[*groups, *rest]]
    size = (13, 9) if len(groups) > 1 else (15, 4.8)
    with plt.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        figure, axes = plt.subplot_mosaic(panels, figsize=size, layout="constrained")
        for name, group in groups.items():
            _courses(axes[name], name, group)
        _differences(axes["differences"], groups)
        # In three where both have as many.
        best = max(reversed(groups), key=lambda name: len(set(BESIDE) & set(groups[name])), default="")
        _beside(axes["beside"], best, groups.get(best, {}))
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
    plt.close(figure)


def _courses(axis: Axes, title: str, rows: Mapping[str, Row]) -> None:
    """Named at the end of each line, in its colour."""
    ends = []
    for (trainer, name), colour in zip(ALONE.items(), COLOURS, strict=True):
        if trainer not in rows:
            continue
        curves = 100 * np.array(rows[trainer]["pseudo_dice_seeds"])
        iterations = rows[trainer]["iterations_per_epoch"] * np.arange(1, curves.shape[1] + 1)
        axis.fill_between(iterations, curves.min(0), curves.max(0), color=colour, alpha=0.15, lw=0)
        axis.plot(iterations, curves.mean(0), color=colour, lw=2.5 if trainer == RRW else 1.5)
        ends.append((float(curves.mean(0)[-1]), name, colour, iterations[-1]))
    places = apart([value for value, *_ in ends], 5.0)
    for (_, name, colour, last), place in zip(ends, places, strict=True):
        name = name.replace("cross-entropy", "CE")
        axis.text(1.02 * last, place, name, color=colour, va="center", fontsize=9.5)
        axis.set_xlim(0, last)
    axis.set(xlabel="iteration", ylabel="pseudo-Dice, %", ylim=(-2, 100))
    axis.set_title(f"Each loss alone, {title} (band: seeds)", fontsize=11, loc="left")
    axis.grid(alpha=0.3)


def _differences(axis: Axes, groups: Mapping[str, Mapping[str, Row]]) -> None:
    trainers = [trainer for trainer in ALONE if trainer != RRW][::-1]
    axis.axvline(0, color=COLOURS[0], lw=1.5)
    shifts = (0.13, -0.13) if len(groups) > 1 else (0.0,)
    for (name, group), shift, filled in zip(groups.items(), shifts, (True, False), strict=False):
        marker = "o" if filled else "s"
        for place, trainer in enumerate(trainers):
            if RRW not in group.get(trainer, {}).get("differences", {}):
                continue
            value, *interval = (
                np.nan if end is None else 100 * end for end in group[trainer]["differences"][RRW][f"dice_{MEAN}"]
            )
            colour = COLOURS[list(ALONE).index(trainer)]
            axis.plot(interval, [place + shift] * 2, color=colour, lw=2)
            axis.plot(value, place + shift, marker, color=colour, mfc=colour if filled else "white", ms=6)
        axis.plot([], [], marker, color=WITHOUT, mfc=WITHOUT if filled else "white", label=name)
    if len(groups) > 1:
        axis.legend(frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2)
    axis.set_yticks(range(len(trainers)), [_in_lines(ALONE[trainer]) for trainer in trainers])
    axis.set(ylim=(-0.6, len(trainers) - 0.4), xlabel="Dice less that of RRW, points")
    axis.set_title("Each loss alone (bar: 95 % over cases)", fontsize=11, loc="left")
    axis.grid(axis="x", alpha=0.3)


def _beside(axis: Axes, title: str, rows: Mapping[str, Row]) -> None:
    """A line per pair of losses: equal and gradual, and a bar where its term without maps is."""
    trainers = [trainer for trainer in BESIDE if equal_of(trainer) == trainer != without_maps(trainer)][::-1]
    marks = {"equal": ("", "o", EQUAL, 0.12), "gradual": ("_Gradual", "D", GRADUAL, -0.12)}
    for place, trainer in enumerate(trainers):
        alone = rows.get(without_maps(trainer))
        if alone is not None:
            axis.plot([100 * alone[f"dice_{MEAN}"]] * 2, [place - 0.35, place + 0.35], color=WITHOUT, lw=2)
        for ending, marker, colour, shift in marks.values():
            row = rows.get(trainer + ending)
            if row is None:
                continue
            seeds = [100 * value for value in row[f"dice_{MEAN}_seeds"]]
            axis.plot([min(seeds), max(seeds)], [place + shift] * 2, color=colour, lw=2)
            axis.plot(np.mean(seeds), place + shift, marker, color=colour, ms=6)
    handles = [
        plt.Line2D([], [], color=colour, marker=marker, label=name) for name, (_, marker, colour, _) in marks.items()
    ]
    handles.append(plt.Line2D([], [], color=WITHOUT, marker="|", ms=12, mew=2, ls="", label="without maps"))
    axis.legend(handles=handles, frameon=False, fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)
    names = [BESIDE[trainer].removesuffix(", equal").replace(" + ", "\n+ ") for trainer in trainers]
    axis.set_yticks(range(len(trainers)), names)
    axis.set(ylim=(-0.6, len(trainers) - 0.4), xlabel="Dice, %")
    axis.set_title(f"Maps beside a loss, {title} (bar: seeds)", fontsize=11, loc="left")
    axis.grid(axis="x", alpha=0.3)


def apart(values: Sequence[float], least: float) -> list[float]:
    """Values moved as little as need be so that neighbours are at least so far apart, in their order."""
    order = np.argsort(values)
    # Distances above the least may be 0: then the mean of what is pooled is closest (isotonic regression).
    wanted = np.asarray(values, dtype=float)[order] - least * np.arange(len(values))
    blocks: list[list[float]] = []
    for value in wanted:
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    moved = np.concatenate([np.full(len(block), np.mean(block)) for block in blocks]) if blocks else wanted
    places = np.empty(len(values))
    places[order] = moved + least * np.arange(len(values))
    return places.tolist()


def _in_lines(name: str) -> str:
    return name.replace("nnU-Net's ", "nnU-Net's\n").replace("weighted ", "weighted\n")


def main() -> None:
    """Draw the figure of the documentation."""
    draw(*(trainer_rows(read_rows(f"region_wise_{name}")) for name in ("2d", "3d")), FIGURE)
    print(FIGURE)


if __name__ == "__main__":
    main()
