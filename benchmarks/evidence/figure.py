"""The figure of the evidence: ``python -m benchmarks.evidence.figure``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter, ScalarFormatter

from benchmarks.child import CHECKOUT
from benchmarks.evidence.tables import Row, rows_of

FIGURE = CHECKOUT / "docs" / "images" / "evidence.png"
RESULTS = ("ms_patients", "idrid")
# Of the first trainer under either rule, and of the others under hysteresis.
GREY = "#555555"
# False positives per case, from which on the figure begins.
_FEWEST = 2
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")


def draw(rows: Sequence[Row], path: Path) -> None:
    """Lesions found against false positives per case, a panel per class.

    Parameters
    ----------
    rows : of `benchmarks.evidence.rules`
        The first trainer is the baseline.
    path : Path
    """
    classes = list(dict.fromkeys(row["class"] for row in rows))
    # The same trainer has the same colour in all panels; the baseline is grey.
    _, *others = dict.fromkeys(row["trainer"] for row in rows)
    colours = dict(zip(others, COLOURS, strict=False))
    columns = min(3, len(classes))
    lines = -(-len(classes) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(4 * columns, 3.1 * lines), layout="constrained", squeeze=False)
    for axis, name in zip(axes.flat, classes, strict=False):
        _panel(axis, [row for row in rows if row["class"] == name], colours)
        axis.set_title(name.replace("_", " "), fontsize=10)
    for axis in axes.flat[len(classes) :]:
        axis.set_axis_off()
    for axis in axes[:, 0]:
        axis.set_ylabel("lesions found, %")
    figure.supxlabel("false positives per case", fontsize=10)
    drawn = {line.get_label(): line for axis in axes.flat for line in axis.get_lines()}
    figure.legend(drawn.values(), drawn.keys(), loc="outside upper center", ncols=4, fontsize=8, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _panel(axis: Axes, rows: Sequence[Row], colours: dict[str, str]) -> None:
    drawn = [
        row
        for row in rows
        if row["family"] == "hysteresis" or (row["family"] == "single" and row["trainer"] not in colours)
    ]
    for trainer, family in dict.fromkeys((row["trainer"], row["family"]) for row in drawn):
        found = sorted(
            (row["false_positives"], 100 * row["recall"])
            for row in drawn
            if (row["trainer"], row["family"]) == (trainer, family)
        )
        rule = "one threshold" if family == "single" else "hysteresis"
        axis.plot(
            *zip(*found, strict=True),
            ":" if family == "single" else "-",
            marker="o",
            ms=3,
            lw=1.5,
            color=colours.get(trainer, GREY),
            label=f"{trainer}, {rule}",
        )
    if max(row["false_positives"] for row in drawn) < _FEWEST:
        most = max(100 * row["recall"] for row in drawn)
        told = f"at most {most:.0f} % found,\nbelow {_FEWEST} false positives per case"
        axis.text(0.5, 0.5, told, transform=axis.transAxes, ha="center", va="center", fontsize=9, color=GREY)
    axis.set_xscale("log")
    axis.set_xticks([2, 5, 10, 20, 50, 100])
    axis.xaxis.set_major_formatter(ScalarFormatter())
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylim(0, 80)
    axis.set_xlim(_FEWEST, 100)
    axis.grid(color="#e6e6e6", lw=0.6)
    axis.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw(rows_of(RESULTS), FIGURE)
