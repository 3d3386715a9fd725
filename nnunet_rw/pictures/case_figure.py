"""What the network is taught: a case's image, labels and maps side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, LogNorm, TwoSlopeNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nnunet_rw.datasets.folders import Preprocessed, label_names, label_values
from nnunet_rw.evaluation.units import length_unit, raised, size_unit
from nnunet_rw.maps import lesion_volume_map, rectified_region_wise_maps
from nnunet_rw.maps.kinds import (
    BOUNDARY_DISTANCE,
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    LabelScheme,
    compute_distances,
    compute_lesion_ids,
)
from nnunet_rw.pictures.panels import outline
from nnunet_rw.store.files import open_map
from nnunet_rw.store.write import list_cases
from nnunet_rw.util.files import replaced_whole
from nnunet_rw.util.readers import read_case, told

SIGNED_DISTANCE, LESION_VOLUME, REGION_WISE = "signed_distance", "lesion_volume", "rectified_region_wise"


@dataclass(frozen=True)
class CaseVolumes:
    """A preprocessed case with its maps; all arrays (X, Y, Z).

    Attributes
    ----------
    maps : dict of str to array
        A map of several channels is several, with the number of the channel at the end of its name; that of volumes
        ends with their unit.
    class_names : tuple of str
        Of the scheme's foreground classes or regions.
    size_unit : str
        As of `nnunet_rw.evaluation.units.size_unit`.
    """

    case: str
    image: np.ndarray
    labels: np.ndarray
    maps: dict[str, np.ndarray]
    spacing_mm: tuple[float, ...]
    scheme: LabelScheme
    class_names: tuple[str, ...]
    size_unit: str


def load_case_volumes(preprocessed: Preprocessed, case: str | None = None) -> CaseVolumes:
    """A case with every map: read where it is stored, else computed.

    Parameters
    ----------
    preprocessed : Preprocessed
    case : str, optional
        Default: the first.

    Raises
    ------
    FileNotFoundError
        No preprocessed data.
    ValueError
        No such case; the message names some that are there.
    """
    settings = preprocessed.settings
    cases = list_cases(preprocessed.data_folder, settings)
    case = case or cases[0]
    if case not in cases:
        raise ValueError(f"No case {case!r} in {preprocessed.data_folder}. There are {_listed(cases)}.")
    folder = preprocessed.data_folder
    advice = settings.preprocess_advice(folder)
    stored_image, labels, _ = read_case(folder, case, advice)
    with told(folder / f"{case}.b2nd", advice):
        image = np.asarray(stored_image[:])[0]
    spacing_mm, scheme = settings.spacing_of(folder, case), settings.scheme
    stored: dict[str, np.ndarray] = {}
    for kind in settings.stored_kinds(KINDS):
        try:
            stored[kind] = np.asarray(open_map(folder, kind, case, settings)[:])
        except (FileNotFoundError, ValueError):
            if kind == LESION_IDS:
                stored[kind] = compute_lesion_ids(labels, scheme)[0]
            else:
                stored[kind] = compute_distances(kind, labels, scheme, spacing_mm, settings.per_slice)
    # As a loss sees it: with the sign of the labels. No loss uses the background's by default.
    distances = stored.get(BOUNDARY_DISTANCE, stored[INTERIOR_DISTANCE])[-len(scheme.foreground) :]
    signed = [
        np.where(mask, -distance, distance) for mask, distance in zip(scheme.masks(labels), distances, strict=True)
    ]
    shown = {
        INTERIOR_DISTANCE: stored[INTERIOR_DISTANCE],
        SIGNED_DISTANCE: np.stack(signed),
        LESION_IDS: stored[LESION_IDS],
    }
    maps: dict[str, np.ndarray] = {}
    for kind, array in shown.items():
        names = [kind] if len(array) == 1 else [f"{kind}_{channel}" for channel in range(len(array))]
        maps.update(zip(names, array, strict=True))
    foreground = np.where(labels == scheme.ignore_label, 0, labels)
    unit = size_unit([spacing_mm[1:] if settings.per_slice else spacing_mm])
    if settings.per_slice and len(labels) > 1:
        # Lesions extend over slices, whose distance the configuration does not tell.
        maps[f"{LESION_VOLUME}_voxels"] = lesion_volume_map(foreground)
    else:
        maps[f"{LESION_VOLUME}_{unit}"] = lesion_volume_map(foreground, spacing_mm)
    if not scheme.regions and not settings.per_slice:
        rectified = rectified_region_wise_maps(labels, scheme.num_heads, spacing_mm, scheme.ignore_label)
        maps |= {f"{REGION_WISE}_{channel}": values for channel, values in enumerate(rectified)}
    named = {label_values(label): name for label, name in label_names(preprocessed.dataset_json).items()}
    class_names = tuple(named[frozenset(group)] for group in scheme.foreground)
    return CaseVolumes(case, image, labels, maps, spacing_mm, scheme, class_names, unit)


def slice_with_most_lesions(volumes: CaseVolumes) -> int:
    """Index along axis 0; with no lesion the middle."""
    ids = [values for name, values in volumes.maps.items() if name.startswith(LESION_IDS)]
    masks = volumes.scheme.masks(volumes.labels)
    counts = [
        sum(len(np.unique(channel[index][mask[index]])) for channel, mask in zip(ids, masks, strict=True))
        for index in range(len(volumes.labels))
    ]
    return int(np.argmax(counts)) if max(counts) > 0 else len(counts) // 2


def draw_case(volumes: CaseVolumes, path: str | Path, index: int | None = None) -> int:
    """Write a PNG of one slice: the image, alone and with the outlines of the labels, and every map.

    Parameters
    ----------
    volumes : CaseVolumes
    path : path
        Of the PNG.
    index : int, optional
        Slice along axis 0; default the one with the most lesions.

    Returns
    -------
    int
        The slice.

    Raises
    ------
    ValueError
        The volume has no such slice.
    """
    index = slice_with_most_lesions(volumes) if index is None else index
    if not 0 <= index < len(volumes.labels):
        raise ValueError(f"Expected a slice from 0 to {len(volumes.labels) - 1}, but got {index}.")
    rows, step_rows, step_columns = volumes.labels.shape[1], *volumes.spacing_mm[1:]
    height = _WIDTH * min(max(rows * step_rows / (volumes.labels.shape[2] * step_columns), 0.5), 2)
    columns = 4
    lines = -(-(2 + len(volumes.maps)) // columns)
    size = columns * (_WIDTH + 0.8), lines * (height + 0.4) + 0.8
    figure, axes = plt.subplots(lines, columns, figsize=size, squeeze=False, layout="constrained")
    figure.suptitle(f"{volumes.case}, slice {index}", x=0.01, ha="left", fontsize=14, weight="bold")
    aspect = step_rows / step_columns
    for axis in axes.flat:
        axis.axis("off")
    for axis, title in zip(axes.flat, ("Image", "Labels, outlined on the image"), strict=False):
        low, high = np.nanpercentile(volumes.image, (1, 99.5))
        axis.imshow(volumes.image[index], cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
        axis.set_title(title, fontsize=_FONT, loc="left")
    _outline_classes(axes.flat[1], volumes, index)
    for axis, name in zip(axes.flat[2:], volumes.maps, strict=False):
        _draw_map(axis, name, volumes, index, aspect)
    handles, names = axes.flat[1].get_legend_handles_labels()
    if handles:
        figure.legend(handles, names, loc="outside lower left", ncols=8, frameon=False, fontsize=_FONT)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return index


def write_nifti(volumes: CaseVolumes, folder: str | Path) -> list[Path]:
    """Image, labels and maps as NIfTI files with the preprocessed spacing, for a viewer."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, volume in {"image": volumes.image, "labels": volumes.labels, **volumes.maps}.items():
        array = volume.astype(np.int32) if volume.dtype.kind in "iu" else volume.astype(np.float32)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(tuple(reversed(volumes.spacing_mm)))
        path = folder / f"{volumes.case}_{name}.nii.gz"
        with replaced_whole(path, ".nii.gz") as temporary:
            sitk.WriteImage(image, str(temporary))
        written.append(path)
    return written


def _listed(cases: list[str]) -> str:
    return ", ".join(cases[:5]) + (" and others" if len(cases) > 5 else "")


# Inches of a panel, points of its title.
_WIDTH, _FONT = 3.2, 10
# Okabe and Ito's, which the colour-blind can tell apart, without those too dark for a grey image.
_CLASS_COLOURS = ("#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#009e73", "#d55e00")
# Nine strong and nine pale ones of 20; the two greys are the ground's.
_LESION_COLOURS = matplotlib.colormaps["tab20"]([0, 2, 4, 6, 8, 10, 12, 16, 18, 1, 3, 5, 7, 9, 11, 13, 17, 19])
_NOTHING = "#e4e4e0"


def _outline_classes(axis: Axes, volumes: CaseVolumes, index: int) -> None:
    """The outline of every class or region that the slice has, and of what is ignored."""
    labels = volumes.labels[index]
    masks = list(zip(volumes.class_names, volumes.scheme.masks(labels), strict=True))
    colours = [_CLASS_COLOURS[number % len(_CLASS_COLOURS)] for number in range(len(masks))]
    if volumes.scheme.ignore_label is not None:
        masks.append(("ignored", labels == volumes.scheme.ignore_label))
        colours.append("white")
    for (name, mask), colour in zip(masks, colours, strict=True):
        if mask.any():
            line: dict[str, Any] = {"color": colour, "linewidth": 1.2}
            axis.add_collection(LineCollection(list(outline(mask)), **line))
            axis.add_line(Line2D([], [], label=name, **line))


class _Look(NamedTuple):
    """How a map is drawn.

    Attributes
    ----------
    title : str
    of : function
        From a slice's values to `imshow`'s options.
    line : str
        Colour of the labels' outlines.
    unit : str
        Of the colour bar, with {length} and {size} for those of distances and sizes; "" draws none.
    extend : "neither" or "max"
        Whether that shows the colour of what lies above.
    """

    title: str
    of: Callable[[np.ndarray], dict[str, Any]]
    line: str
    unit: str = ""
    extend: str = "neither"


def _distance(values: np.ndarray) -> dict[str, Any]:
    return {"X": values, "cmap": "magma", "vmin": 0, "vmax": float(values.max()) or 1.0}


def _signed(values: np.ndarray) -> dict[str, Any]:
    """Half of the scale is the inside's, which may reach a few mm where the outside reaches a hundred."""
    norm = TwoSlopeNorm(0, min(float(values.min()), 0) or -1.0, max(float(values.max()), 0) or 1.0)
    return {"X": values, "cmap": "RdBu_r", "norm": norm}


def _categories(values: np.ndarray) -> dict[str, Any]:
    """A colour each, in the order of their numbers; neighbours mostly follow each other."""
    numbers = np.searchsorted(np.unique(values[values > 0]), values) % len(_LESION_COLOURS)
    colours = ListedColormap(_LESION_COLOURS).with_extremes(bad=_NOTHING)
    shown = np.ma.masked_where(values == 0, numbers)
    return {"X": shown, "cmap": colours, "vmin": 0, "vmax": len(_LESION_COLOURS) - 1}


def _volumes(values: np.ndarray) -> dict[str, Any]:
    """Logarithmic, over whole powers of ten."""
    found = values[values > 0]
    low, high = (float(found.min()), float(found.max())) if found.size else (1.0, 1.0)
    lowest = math.floor(math.log10(low))
    highest = max(math.ceil(math.log10(high)), lowest + 1)
    colours = matplotlib.colormaps["viridis"].with_extremes(bad=_NOTHING)
    return {"X": np.ma.masked_where(values == 0, values), "cmap": colours, "norm": LogNorm(10.0**lowest, 10.0**highest)}


def _rectified(values: np.ndarray) -> dict[str, Any]:
    """The outside is +1 throughout: a colour of its own, which leaves the scale to the inside."""
    return {"X": values, "cmap": matplotlib.colormaps["Blues_r"].with_extremes(over="#f6c9b4"), "vmin": -1, "vmax": 0}


_LOOKS = {
    INTERIOR_DISTANCE: _Look("Distance to another label", _distance, "white", "{length}"),
    SIGNED_DISTANCE: _Look("Signed distance to the boundary", _signed, "black", "{length}, negative inside"),
    LESION_IDS: _Look("Lesions, each with a rim of a voxel", _categories, "black"),
    LESION_VOLUME: _Look("Volume of the lesion", _volumes, "black", "{size}"),
    REGION_WISE: _Look("Region-wise map, rectified", _rectified, "black", "share of the deepest; +1 outside", "max"),
}


def _draw_map(axis: Axes, name: str, volumes: CaseVolumes, index: int, aspect: float) -> None:
    """One map with the outlines of what it is about, and its colour bar."""
    look = next(look for start, look in _LOOKS.items() if name.startswith(start))
    values = volumes.maps[name][index].astype(np.float32)
    drawn = axis.imshow(**look.of(values), aspect=aspect, interpolation="nearest")
    suffix, masks = _about(name, volumes, index)
    for mask in masks:
        axis.add_collection(LineCollection(list(outline(mask)), colors=look.line, linewidths=0.5))
    axis.set_title(look.title + suffix, fontsize=_FONT, loc="left")
    if look.unit:
        bar = axis.figure.colorbar(drawn, ax=axis, fraction=0.04, pad=0.02, aspect=30, extend=look.extend)
        units = {"length": length_unit(volumes.size_unit), "size": raised(name.rpartition("_")[2])}
        bar.set_label(look.unit.format(**units), fontsize=_FONT - 1)
        bar.ax.tick_params(labelsize=_FONT - 2)
        if isinstance(drawn.norm, TwoSlopeNorm):
            ticks = _two_sided_ticks(*drawn.get_clim())
            bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])


def _about(name: str, volumes: CaseVolumes, index: int) -> tuple[str, list[np.ndarray]]:
    """What to add to the title of a map of one class, and the masks of the classes that the map is about."""
    masks = volumes.scheme.masks(volumes.labels[index])
    number = name.rpartition("_")[2]
    if not number.isdigit():
        return "", masks
    # Region-wise maps begin with the background's, which is about all others.
    channel = int(number) - name.startswith(REGION_WISE)
    return (": background", masks) if channel < 0 else (f": {volumes.class_names[channel]}", [masks[channel]])


def _two_sided_ticks(low: float, high: float) -> list[float]:
    """Round numbers on either side of 0."""
    steps = [1, 2, 5, 10]
    sides = (MaxNLocator(3, steps=steps).tick_values(low, 0), MaxNLocator(4, steps=steps).tick_values(0, high))
    return [float(tick) for tick in np.unique(np.concatenate(sides)) if low <= tick <= high]
