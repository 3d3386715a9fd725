"""What the network is taught: a case's image, labels and maps side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk

from nnunet_rw.datasets.folders import Preprocessed
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
from nnunet_rw.store.files import open_map
from nnunet_rw.store.write import list_cases
from nnunet_rw.util.files import replaced_whole
from nnunet_rw.util.readers import read_case, told

_TITLES = {"lesion_volume_mm3": "log10 of the lesion's mm3"}


@dataclass(frozen=True)
class CaseVolumes:
    """A preprocessed case with its maps; all arrays (X, Y, Z)."""

    case: str
    image: np.ndarray
    labels: np.ndarray
    maps: dict[str, np.ndarray]
    spacing_mm: tuple[float, ...]
    scheme: LabelScheme


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
        "signed_distance": np.stack(signed),
        LESION_IDS: stored[LESION_IDS],
    }
    maps: dict[str, np.ndarray] = {}
    for kind, array in shown.items():
        names = [kind] if len(array) == 1 else [f"{kind}_{channel}" for channel in range(len(array))]
        maps.update(zip(names, array, strict=True))
    foreground = np.where(labels == scheme.ignore_label, 0, labels)
    maps["lesion_volume_mm3"] = lesion_volume_map(foreground, spacing_mm)
    if not scheme.regions and not settings.per_slice:
        rectified = rectified_region_wise_maps(labels, scheme.num_heads, spacing_mm, scheme.ignore_label)
        maps |= {f"rectified_region_wise_{channel}": values for channel, values in enumerate(rectified)}
    return CaseVolumes(case, image, labels, maps, spacing_mm, scheme)


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
    """Write a PNG of one slice: image, labels, and every map.

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
    panels = {"image": volumes.image, "labels": np.maximum(volumes.labels, 0), **volumes.maps}
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.2 * columns, 3.3 * rows), squeeze=False)
    figure.suptitle(f"{volumes.case}, slice {index}")
    aspect = volumes.spacing_mm[1] / volumes.spacing_mm[2]
    for axis in axes.flat:
        axis.axis("off")
    for axis, (name, volume) in zip(axes.flat, panels.items(), strict=False):
        drawn = axis.imshow(_shown(name, volume[index]), aspect=aspect, **_style(name, volume[index]))
        if name != "image":
            axis.contour(volumes.labels[index] > 0, levels=[0.5], colors="white", linewidths=0.6)
            figure.colorbar(drawn, ax=axis, fraction=0.046, pad=0.02)
        axis.set_title(_TITLES.get(name, name.replace("_", " ")), fontsize=9)
    figure.tight_layout()
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


def _shown(name: str, values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float32)
    return np.log10(values, where=values > 0, out=np.zeros_like(values)) if name == "lesion_volume_mm3" else values


def _style(name: str, values: np.ndarray) -> dict:
    if name == "image":
        return {"cmap": "gray"}
    if name == "labels" or name.startswith(LESION_IDS):
        return {"cmap": "nipy_spectral", "interpolation": "nearest"}
    if name.startswith(("signed", "rectified")):
        limit = float(np.abs(values).max()) or 1.0
        return {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    return {"cmap": "magma"}
