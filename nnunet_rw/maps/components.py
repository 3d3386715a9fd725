"""Connected components of labels, and the box that holds them."""

from __future__ import annotations

import cc3d
import numpy as np

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
