"""Slices of cases with what a prediction did to them, chosen, turned, cut and drawn as panels of a figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.datasets.folders import Labels
from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.reading import Case, read_case
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.pictures.overlays import COLOURS, Code, case_codes, lesion_ids
from nnunet_rw.util.parallel import in_processes

# Of images as ITK and DICOM count them: towards the patient's left, back and head.
_SIGN_ON_SCREEN = (1, 1, -1)


@dataclass(frozen=True)
class View:
    """From a volume to a picture as a radiologist expects it: patient's right on the left, front or head on top.

    Attributes
    ----------
    axis : int, optional
        That slices are taken along: of the coarsest spacing, the first of several. None in two dimensions.
    transposed : bool
        The later of the two remaining axes runs down the picture.
    flipped : (bool, bool)
        Rows and columns of the picture.
    """

    axis: int | None = None
    transposed: bool = False
    flipped: tuple[bool, bool] = (False, False)

    def picture(self, volume: np.ndarray, index: int = 0) -> np.ndarray:
        """Slice ``index`` of an array (X, Y, Z), the whole of an array (X, Y); (rows, columns)."""
        plane = volume if self.axis is None else np.take(volume, index, self.axis)
        plane = plane.T if self.transposed else plane
        rows, columns = (slice(None, None, -1 if flipped else 1) for flipped in self.flipped)
        return plane[rows, columns]

    def pixel_mm(self, spacing_mm: Sequence[float]) -> tuple[float, float]:
        """Height and width of a pixel."""
        rows, columns = (step for axis, step in enumerate(spacing_mm) if axis != self.axis)
        return (columns, rows) if self.transposed else (rows, columns)

    def counts(self, mask: np.ndarray) -> np.ndarray:
        """Voxels of a mask in every slice."""
        if self.axis is None:
            return np.array([np.count_nonzero(mask)])
        return np.count_nonzero(mask, axis=tuple(axis for axis in range(mask.ndim) if axis != self.axis))


def view_of(spacing_mm: Sequence[float], properties: dict[str, Any]) -> View:
    """The view of a volume with this spacing and nnU-Net's properties; as it is stored where these tell no direction.

    Oblique axes count as the patient's axis that they are nearest to.
    """
    if len(spacing_mm) == 2:
        return View()
    axis = int(np.argmax(np.asarray(spacing_mm) > max(spacing_mm) * (1 - 1e-3)))
    directions = _directions(properties)
    if directions is None:
        return View(axis)
    nearest = np.abs(directions).argmax(axis=0)
    sign = np.sign(directions[nearest, range(3)])
    # Array axes are ITK's in reverse.
    nearest, sign = nearest[::-1], sign[::-1]
    rows, columns = (other for other in range(3) if other != axis)
    transposed = bool(nearest[rows] < nearest[columns])
    if transposed:
        rows, columns = columns, rows
    flipped = tuple(bool(sign[along] != _SIGN_ON_SCREEN[nearest[along]]) for along in (rows, columns))
    return View(axis, transposed, (flipped[0], flipped[1]))


def _directions(properties: dict[str, Any]) -> np.ndarray | None:
    """(3, 3): the patient's axes by ITK's axes."""
    if "sitk_stuff" in properties:
        return np.reshape(properties["sitk_stuff"]["direction"], (3, 3))
    stuff = properties.get("nibabel_stuff", {})
    affine = stuff.get("reoriented_affine", stuff.get("original_affine"))
    if affine is None:
        return None
    # NIfTI counts towards the patient's right and front.
    directions = np.array(affine)[:3, :3] * [[-1], [-1], [1]]
    return directions / np.linalg.norm(directions, axis=0)


Window = tuple[float, float, float, float]


def outline(mask: np.ndarray) -> np.ndarray:
    """The sides that pixels of a mask do not share.

    Parameters
    ----------
    mask : boolean array (rows, columns)

    Returns
    -------
    float array (sides, 2, 2)
        From (x, y) to (x, y), where pixel centres are whole numbers.
    """
    framed = np.pad(mask, 1)
    rows, columns = np.nonzero(framed[1:-1, 1:] != framed[1:-1, :-1])
    upright = np.stack([np.stack([columns, rows], -1), np.stack([columns, rows + 1], -1)], 1)
    rows, columns = np.nonzero(framed[1:, 1:-1] != framed[:-1, 1:-1])
    level = np.stack([np.stack([columns, rows], -1), np.stack([columns + 1, rows], -1)], 1)
    return np.concatenate([upright, level]) - 0.5


def close_up(mask: np.ndarray, pixel_mm: tuple[float, float], width_mm: float) -> Window:
    """A square of this width about the middle of a mask's box; about the picture's for an empty mask."""
    middle = []
    for axis in (0, 1):
        occupied = np.flatnonzero(mask.any(axis=1 - axis))
        middle.append((occupied[0] + occupied[-1]) / 2 if len(occupied) else (mask.shape[axis] - 1) / 2)
    half_rows, half_columns = width_mm / pixel_mm[0] / 2, width_mm / pixel_mm[1] / 2
    return middle[1] - half_columns, middle[1] + half_columns, middle[0] - half_rows, middle[0] + half_rows


def within(window: Window, shape: Sequence[int]) -> Window:
    """The window moved, where it can be, so that it does not reach beyond a picture of this shape."""
    left, right, top, bottom = window
    right_shift, down_shift = _shift(left, right, shape[1]), _shift(top, bottom, shape[0])
    return left + right_shift, right + right_shift, top + down_shift, bottom + down_shift


def extent_mm(mask: np.ndarray, pixel_mm: tuple[float, float]) -> float:
    """The longer side of a mask's box; 0 for an empty mask."""
    sides = [0.0]
    for axis in (0, 1):
        occupied = np.flatnonzero(mask.any(axis=1 - axis))
        if len(occupied):
            sides.append(float(occupied[-1] + 1 - occupied[0]) * pixel_mm[axis])
    return max(sides)


def _shift(low: float, high: float, size: int) -> float:
    """By how much to move an interval into (-0.5, size - 0.5); one that is longer, to the middle of that."""
    if high - low >= size:
        return (size - 1) / 2 - (low + high) / 2
    return max(0.0, -0.5 - low) + min(0.0, size - 0.5 - high)


class Wanted(NamedTuple):
    """What to show: a case and class, by their index in the source, and a reference lesion by its id.

    Without a lesion it is the slice with most error that is shown.
    """

    case: int
    label: int
    lesion: int | None = None


@dataclass(frozen=True)
class Picture:
    """One slice; a view's rows and columns.

    Attributes
    ----------
    image : float32 array (rows, columns) or None
        From 0, dark, to 1, bright: the first and the 99.5th percentile of the volume.
    codes : uint8 array (rows, columns)
        See `nnunet_rw.pictures.overlays.Code`.
    pixel_mm : (float, float)
        Height and width of a pixel.
    index : int, optional
        Of the slice, from 0; None in two dimensions.
    lesion : boolean array (rows, columns) or None
        The one that was wanted.
    """

    image: np.ndarray | None
    codes: np.ndarray
    pixel_mm: tuple[float, float]
    index: int | None
    lesion: np.ndarray | None = None


def take_pictures(
    source: Source, settings: EvaluationSettings, wanted: Iterable[Wanted], processes: int | None = None
) -> dict[Wanted, Picture]:
    """Take all pictures, reading each case once.

    Parameters
    ----------
    source : Source
        Of its images the first channel is shown, where it has any.
    settings : EvaluationSettings
        As of the evaluation that numbered the lesions.
    wanted : iterable of Wanted
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Raises
    ------
    ValueError
        A file cannot be read or does not fit.
    """
    by_case: dict[int, list[Wanted]] = {}
    for item in dict.fromkeys(wanted):
        by_case.setdefault(item.case, []).append(item)
    reader, labels = source.reader, source.labels
    tasks = [(source.cases[case], reader, labels, settings, items) for case, items in by_case.items()]
    pictures: dict[Wanted, Picture] = {}
    if tasks:
        for _, taken in in_processes(_pictures_of_case, tasks, "Pictures", processes):
            pictures.update(taken)
    return pictures


def _pictures_of_case(
    files: CaseFiles, reader: BaseReaderWriter, labels: Labels, settings: EvaluationSettings, wanted: list[Wanted]
) -> dict[Wanted, Picture]:
    case = read_case(replace(files, probabilities=None), reader, labels.known, labels.num_channels)
    view = view_of(case.spacing_mm, case.properties)
    codes = {
        position: case_codes(case, labels.foreground[position], labels.ignore, settings)
        for position in {item.label for item in wanted}
    }
    pictures = {}
    for item in wanted:
        lesion = None
        if item.lesion is not None:
            known = True if labels.ignore is None else case.reference != labels.ignore
            mask = np.isin(case.reference, labels.foreground[item.label]) & known
            lesion = lesion_ids(mask, settings.connectivity) == item.lesion
        pictures[item] = _picture(case, codes[item.label], lesion, view)
    return pictures


def _picture(case: Case, codes: np.ndarray, lesion: np.ndarray | None, view: View) -> Picture:
    index = _fullest(view, [lesion] if lesion is not None else [_error(codes), codes > 0])
    image = None
    if case.image is not None:
        low, high = np.nanpercentile(case.image, (1, 99.5))
        shown = np.nan_to_num(view.picture(case.image, index).astype(np.float32))
        image = np.clip((shown - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    return Picture(
        image=image,
        codes=view.picture(codes, index).copy(),
        pixel_mm=view.pixel_mm(case.spacing_mm),
        index=None if view.axis is None else index,
        lesion=None if lesion is None else view.picture(lesion, index).copy(),
    )


def _error(codes: np.ndarray) -> np.ndarray:
    return np.isin(codes, (Code.UNPREDICTED, Code.MISSED, Code.EXCESS, Code.FALSE_POSITIVE))


def _fullest(view: View, masks: list[np.ndarray]) -> int:
    """The slice with most voxels of the first mask that has any, the middle where none has."""
    counts = [view.counts(mask) for mask in masks]
    return next((int(count.argmax()) for count in counts if count.any()), len(counts[0]) // 2)


matplotlib.use("agg")


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
