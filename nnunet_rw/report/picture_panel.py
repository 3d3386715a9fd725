"""One slice with what a prediction did to it, as a panel of a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from nnunet_rw.report.overlay_codes import COLOURS, Code
from nnunet_rw.report.picture_geometry import Window, outline
from nnunet_rw.report.pictures import Picture

_DPI = 100
# Beyond a picture, and of one without image.
_GROUND, _BLANK = "#262626", 0.25
_LEGEND_INCHES = 0.5
_YELLOW = (240, 228, 66)
Shade = tuple[float, float, float]


class Outline(NamedTuple):
    """A kind of lesion, the codes of its voxels and its line."""

    name: str
    codes: tuple[Code, ...]
    shade: Shade
    width: float


def _shade(red: int, green: int, blue: int) -> Shade:
    return red / 255, green / 255, blue / 255


# Thin lines on thick ones, which leaves both to be seen.
OUTLINES = (
    Outline("Reference, found", (Code.FOUND, Code.UNPREDICTED), _shade(*COLOURS[Code.FOUND]), 2.4),
    Outline("Reference, missed", (Code.MISSED,), _shade(*COLOURS[Code.MISSED]), 2.4),
    Outline("Prediction of a found lesion", (Code.FOUND, Code.EXCESS), _shade(*_YELLOW), 1.1),
    Outline("Prediction, false positive", (Code.FALSE_POSITIVE,), _shade(*COLOURS[Code.FALSE_POSITIVE]), 1.8),
    Outline("Not counted", (Code.NOT_COUNTED,), _shade(*COLOURS[Code.NOT_COUNTED]), 1.1),
)


def new_figure(heights: Sequence[float], columns: int, width: float, title: str) -> tuple[Figure, np.ndarray]:
    """A figure with room for a title and the legend.

    Parameters
    ----------
    heights : sequence of float
        Inches of the rows.
    columns : int
    width : float
        Inches of a column.
    title : str

    Returns
    -------
    figure, axes : Figure, array (rows, columns) of Axes
        Without ticks and frames.
    """
    size = max(columns * width, 8), sum(heights) + 2 * _LEGEND_INCHES
    legend = _LEGEND_INCHES / size[1]
    figure, axes = plt.subplots(
        len(heights),
        columns,
        figsize=size,
        squeeze=False,
        gridspec_kw={"height_ratios": heights},
        layout=ConstrainedLayoutEngine(rect=(0, legend, 1, 1 - legend)),
    )
    figure.suptitle(title, fontsize=13)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.set_frame_on(False)
    return figure, axes


def draw_panel(axis: Axes, picture: Picture, window: Window, overlay: bool = True) -> None:
    """Draw a picture; the outlines of reference and prediction, coloured by what became of each lesion.

    Parameters
    ----------
    axis : Axes
    picture : Picture
        Without an image the ground is dark.
    window : (left, right, top, bottom)
        What is seen of it, in pixels; it may reach beyond the picture.
    overlay : bool
        False draws the image alone.
    """
    rows, columns = picture.codes.shape
    aspect = picture.pixel_mm[0] / picture.pixel_mm[1]
    image = np.full((rows, columns), _BLANK, np.float32) if picture.image is None else picture.image
    axis.imshow(image, cmap="gray", vmin=0, vmax=1, aspect=aspect, interpolation="nearest")
    if overlay:
        for kind in OUTLINES:
            lines = list(outline(np.isin(picture.codes, kind.codes)))
            axis.add_collection(LineCollection(lines, colors=[kind.shade], linewidths=kind.width, capstyle="round"))
    left, right, top, bottom = window
    axis.set(xlim=(left, right), ylim=(bottom, top), facecolor=_GROUND)
    axis.set_frame_on(True)


def save(figure: Figure, path: str | Path, pictures: Iterable[Picture]) -> None:
    """Write a PNG, with a legend of what the pictures show."""
    present = set(np.unique(np.concatenate([[0], *(picture.codes.ravel() for picture in pictures)])).tolist())
    shown = [kind for kind in OUTLINES if present.intersection(kind.codes)]
    if shown:
        handles = [Line2D([], [], color=kind.shade, linewidth=kind.width + 0.6, label=kind.name) for kind in shown]
        style = {"facecolor": _GROUND, "framealpha": 1, "labelcolor": "white", "fontsize": 10}
        figure.legend(handles=handles, loc="lower center", ncols=len(handles), **style)
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
