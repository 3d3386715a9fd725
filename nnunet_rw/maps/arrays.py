"""Labels and masks as the other rooms want them: checks, spacing, connected components, boxes."""

from __future__ import annotations

from collections.abc import Sequence

import cc3d
import numpy as np


def as_labels(labels: np.ndarray, ignore_label: int | None = None) -> np.ndarray:
    """The label array with nnU-Net's -1 (outside the non-zero crop) turned into background."""
    labels = np.asarray(labels)
    if ignore_label is not None and ignore_label < 0:
        raise ValueError(f"Expected an ignore label of at least 0, since below is background, but got {ignore_label}.")
    if labels.ndim not in (2, 3):
        raise ValueError(f"Expected labels of shape (X, Y[, Z]), but got {labels.shape}.")
    if labels.size == 0:
        raise ValueError(f"Expected labels with at least one voxel, but got shape {labels.shape}.")
    if labels.dtype == bool:
        return labels.view(np.uint8)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Expected integer labels, but got {labels.dtype}. Round or cast them first.")
    if np.issubdtype(labels.dtype, np.signedinteger) and labels.min() < 0:
        return np.maximum(labels, 0)
    return labels


def as_mask(mask: np.ndarray) -> np.ndarray:
    """A boolean array of two or three axes."""
    mask = np.asarray(mask)
    if mask.ndim not in (2, 3):
        raise ValueError(f"Expected a mask of shape (X, Y[, Z]), but got {mask.shape}.")
    return mask.astype(bool, copy=False)


def as_spacing(spacing: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """Spacing in mm per array axis; ones (the voxel is the unit) where none is given."""
    if spacing is None:
        return (1.0,) * ndim
    values = tuple(float(value) for value in spacing)
    if len(values) != ndim:
        raise ValueError(f"Expected one spacing per array axis ({ndim}), but got {len(values)}: {values}.")
    if not all(np.isfinite(value) and value > 0 for value in values):
        raise ValueError(f"Expected spacing above 0 mm on every axis, but got {values}.")
    return values


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Length of the volume's diagonal, outer corner to outer corner, in the unit of ``spacing``."""
    return float(np.linalg.norm(np.multiply(shape, spacing)))


_CONNECTIVITY_2D = {4: 4, 8: 8, 6: 4, 26: 8}


def as_connectivity(connectivity: int, ndim: int) -> int:
    """The connectivity as cc3d names it: 6, 18 or 26; 4 or 8 in two dimensions, where 6 and 26 mean these."""
    if ndim == 2:
        connectivity = _CONNECTIVITY_2D.get(connectivity, connectivity)
    allowed = (4, 8) if ndim == 2 else (6, 18, 26)
    if connectivity not in allowed:
        raise ValueError(f"Expected connectivity to be one of {allowed}, but got {connectivity}.")
    return connectivity


def connected_components(labels: np.ndarray, connectivity: int) -> np.ndarray:
    """Ids 1..K of the connected sets of equal labels above 0, in array order; 0 elsewhere.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        Nothing negative.
    connectivity : int
        As `as_connectivity` returns it.

    Returns
    -------
    unsigned integer array of the shape of ``labels``
    """
    # cc3d reads no array that it could not write to.
    writable = _unsigned(np.require(labels, requirements=["C", "W"]))
    return cc3d.connected_components(writable, connectivity=connectivity)  # type: ignore[call-overload]


def foreground_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...] | None:
    """The smallest box with all of a mask in it, ``margin`` voxels wider within the array; None for no voxel.

    Parameters
    ----------
    mask : boolean array, or integer array without negative values
        What is above 0 is in the mask.
    """
    box = _box(mask.view(np.uint8) if mask.dtype == bool else mask) if mask.size else None
    if box is None:
        return None
    return tuple(slice(max(0, low - margin), high + margin) for low, high in box)


def _box(values: np.ndarray) -> list[tuple[int, int]] | None:
    occupied = np.flatnonzero(values.max(axis=tuple(range(1, values.ndim))))
    if len(occupied) == 0:
        return None
    low, high = int(occupied[0]), int(occupied[-1]) + 1
    if values.ndim == 1:
        return [(low, high)]
    # Projected before the next axis, which is many times faster than one pass per axis over everything.
    return [(low, high), *(_box(values[low:high].max(axis=0)) or [])]


def _unsigned(labels: np.ndarray) -> np.ndarray:
    return labels.astype(np.uint8 if labels.max() <= 255 else np.uint32, copy=False)


def as_masks(**masks: np.ndarray) -> list[np.ndarray]:
    """The named masks in the order given: boolean, of two or three axes and of one shape, or a ValueError."""
    arrays = {name: np.asarray(mask) for name, mask in masks.items()}
    first, shape = next((name, array.shape) for name, array in arrays.items())
    if len(shape) not in (2, 3):
        raise ValueError(f"Expected {first} of shape (X, Y[, Z]), but got {shape}.")
    for name, array in arrays.items():
        if array.dtype != np.bool_:
            raise ValueError(f"Expected a boolean {name}, but got {array.dtype}. Pass labels == class_id.")
        if array.shape != shape:
            raise ValueError(f"Expected masks of equal shape, but got {shape} as {first} and {array.shape} as {name}.")
    return list(arrays.values())
