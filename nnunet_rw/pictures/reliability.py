"""The reliability curve of an evaluation: does what the network calls 0.7 lie in a lesion seven times of ten?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter

from nnunet_rw.util.files import replaced_whole
from nnunet_rw.util.readers import read_table

RELIABILITY_FIGURE = "reliability.png"
_ADVICE = "Evaluate again with --probabilities."


def draw_reliability(folder: Path, summary: Mapping[str, Any]) -> Path | None:
    """Draw the curve of every label of an evaluation that was made with probabilities.

    Parameters
    ----------
    folder : Path
        Of the evaluation, with reliability.csv.
    summary : mapping
        Of the evaluation.

    Returns
    -------
    Path or None
        The figure; None without probabilities, and then none of an earlier evaluation is left.
    """
    figure_path = folder / RELIABILITY_FIGURE
    if not (folder / "reliability.csv").is_file():
        figure_path.unlink(missing_ok=True)
        return None
    columns = ("label", "voxels", "mean_probability", "share")
    rows = read_table(folder / "reliability.csv", columns, _ADVICE)
    figure, axis = plt.subplots(figsize=(5.4, 5.2), layout="constrained")
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--", zorder=0)
    for label, found in summary["classes"].items():
        error = found["pooled_voxels"]["calibration_error_from_01"]
        told = "-" if error is None else f"{error:.3f}"
        points = np.array(
            [
                [float(row["mean_probability"]), float(row["share"])]
                for row in rows
                if row["label"] == label and row["voxels"] != "0"
            ]
        )
        axis.plot(*points.T, marker="o", markersize=4, label=f"{label}: error from 0.1 on {told}")
    axis.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="probability", ylabel="share of voxels in the reference")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.yaxis.set_major_formatter(PercentFormatter(1))
    axis.set_title(f"{summary['name']}: reliability", fontsize=12)
    axis.legend(loc="upper left", fontsize=9, title="label")
    with replaced_whole(figure_path, ".png") as path:
        figure.savefig(path, dpi=150)
    plt.close(figure)
    return figure_path
