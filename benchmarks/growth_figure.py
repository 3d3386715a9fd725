"""``python -m benchmarks.growth_figure``: docs/images/growth.png from results/growth.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt

from benchmarks.child import CHECKOUT
from benchmarks.harness import read_rows

FIGURE = CHECKOUT / "docs" / "images" / "growth.png"
_PANELS = {
    "voxels": "voxels (2 foreground classes)",
    "lesions": "lesions ({size}³ voxels, 1 class)",
    "classes": "foreground classes ({size}³ voxels)",
    "processes": "processes ({size}³ voxels each)",
}
# Told apart in black and white, and by the colour-blind.
_STYLES = {
    "interior distance": ("#0072B2", "o"),
    "RRW maps": ("#D55E00", "s"),
    "lesion ids": ("#009E73", "^"),
    "both stored, in memory": ("#CC79A7", "D"),
    "boundary distance": ("#666666", "v"),
}
_MOST_COPIES = "RRW maps"


def draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Seconds against what grows, a panel each; dotted, what a copy of the RRW maps takes."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    for axis, (grows, title) in zip(axes.flat, _PANELS.items(), strict=True):
        here = [row for row in rows if row["grows"] == grows and "seconds" in row]
        for name, (colour, marker) in _STYLES.items():
            line = [row for row in here if row["computation"] == name]
            if line:
                values = [row[grows] for row in line]
                axis.plot(values, [row["seconds"] for row in line], color=colour, marker=marker, ms=5, label=name)
        copies = [row for row in here if row["computation"] == _MOST_COPIES and "copy_seconds" in row]
        if copies:
            values, seconds = ([row[key] for row in copies] for key in (grows, "copy_seconds"))
            axis.plot(values, seconds, ":", color=_STYLES[_MOST_COPIES][0], label=f"one copy of {_MOST_COPIES}")
        axis.set(xscale="log", yscale="log", ylabel="seconds")
        axis.set_xlabel(title.format(**here[-1]) if here else grows)
        if grows == "processes":
            numbers = sorted({row["processes"] for row in here})
            axis.set_xticks(numbers, [str(number) for number in numbers])
            axis.minorticks_off()
        axis.grid(alpha=0.3, which="major")
    handles = {
        text: handle for axis in axes.flat for handle, text in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Draw the figure of the documentation."""
    draw(read_rows("growth"), FIGURE)
    print(FIGURE)


if __name__ == "__main__":
    main()
