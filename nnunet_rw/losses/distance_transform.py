"""Exact Euclidean distance transforms of tensors, on the device where they are.

Losses that look at the *prediction's* boundary need a transform in every step. On a GPU it runs there, as one min-plus
pass per axis,

    f'(i) = min over j of f(j) + (s (i - j))^2,

which is exact because squared distances add over axes (Felzenszwalb & Huttenlocher, Theory of Computing 2012, take
the same passes by lower envelopes; n values compared at once suit a GPU better). On a CPU the libraries edt and SciPy
do it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from nnunet_rw.maps.distance import distance_to as distance_to_array
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE

_CHUNK_ELEMENTS = 2**26  # of a temporary tensor: 256 MB


def distance_to(mask: torch.Tensor, spacing: Sequence[float] | None = None) -> torch.Tensor:
    """Distance from every voxel to the nearest voxel of the mask.

    Parameters
    ----------
    mask : bool (B, C, X, Y[, Z])
    spacing : sequence of float, optional
        mm per spatial axis; without it the unit is the voxel.

    Returns
    -------
    float32 (B, C, X, Y[, Z])
        On the mask's device; 0 in the mask, the patch's diagonal where a sample's mask is empty.
    """
    spacing = _spacing_of(mask, spacing)
    if mask.device.type == "cpu":
        pieces = [distance_to_array(piece.numpy(), spacing) for piece in mask.flatten(0, 1)]
        return torch.from_numpy(np.stack(pieces)).view(mask.shape)
    return squared_distance(mask, spacing)[0].sqrt()


def target_distances(
    kind: str, target: torch.Tensor, known: torch.Tensor | None, regions: bool, spacing: Sequence[float] | None = None
) -> torch.Tensor:
    """Distance map of a target on its own device, as `nnunet_rw.maps.kinds.compute_distances` gives it for an array.

    Parameters
    ----------
    kind : "interior_distance" or "signed_distance"
    target : bool (B, C, X, Y[, Z])
        Per class, the background's first, or per region; False in unlabelled voxels.
    known : bool (B, 1, X, Y[, Z]), optional
        Labelled voxels; all without it.
    regions : bool
        Regions overlap, so each has an interior distance of its own.
    spacing : sequence of float, optional
        mm per spatial axis; without it the unit is the voxel.

    Returns
    -------
    float32 (B, 1 or C, X, Y[, Z])
    """
    outside = ~target if known is None else ~target & known
    inward = distance_to(outside, spacing) * target
    if kind == INTERIOR_DISTANCE and not regions:
        return inward.sum(1, keepdim=True)
    signed = distance_to(target, spacing) * outside - inward
    if kind == INTERIOR_DISTANCE:
        return signed.abs()
    present = target.flatten(2).any(2)
    return signed * present.view(*present.shape, *(1,) * (signed.ndim - 2))


def nearest_id(ids: torch.Tensor, spacing: Sequence[float] | None = None) -> torch.Tensor:
    """Id of the nearest voxel that has one: every lesion's cell (Voronoi region).

    Parameters
    ----------
    ids : int64 (B, C, X, Y[, Z])
        0 where there is none.
    spacing : sequence of float, optional
        mm per spatial axis; without it the unit is the voxel.

    Returns
    -------
    int64 (B, C, X, Y[, Z])
        0 everywhere where a sample has no id. Voxels as far from one lesion as from another may go to either.
    """
    spacing = _spacing_of(ids, spacing)
    if ids.device.type == "cpu":
        pieces = [_nearest_id_of_array(piece.numpy(), spacing) for piece in ids.flatten(0, 1)]
        return torch.from_numpy(np.stack(pieces)).view(ids.shape)
    _, nearest = squared_distance(ids > 0, spacing, ids)
    assert nearest is not None
    return nearest


def squared_distance(
    mask: torch.Tensor, spacing: Sequence[float], ids: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The min-plus passes on any device: squared distance to the mask and, with ids, the id at the nearest voxel."""
    spatial = mask.shape[2:]
    # Above every true distance, and what remains where the mask is empty.
    limit = sum((size * step) ** 2 for size, step in zip(spatial, spacing, strict=True))
    values = torch.where(mask, 0.0, limit)
    if ids is not None:
        ids = torch.where(mask, ids, 0)
    for axis, step in enumerate(spacing, start=2):
        values, ids = _pass_along(values, ids, axis, float(step))
    return values, ids


def _pass_along(
    values: torch.Tensor, ids: torch.Tensor | None, axis: int, step: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    # (n, lines): neighbouring threads then read neighbouring lines.
    lines = values.movedim(axis, 0)
    shape = lines.shape
    flat_ids = None if ids is None else ids.movedim(axis, 0).reshape(shape[0], -1)
    minimum, nearest = _min_plus(lines.reshape(shape[0], -1), flat_ids, step)
    return minimum.view(shape).movedim(0, axis), None if nearest is None else nearest.view(shape).movedim(0, axis)


def _min_plus(lines: torch.Tensor, ids: torch.Tensor | None, step: float) -> tuple[torch.Tensor, torch.Tensor | None]:
    if lines.device.type == "cuda":
        try:
            from nnunet_rw.losses.triton_min_plus import min_plus
        except ImportError:  # torch for Windows comes without Triton
            pass
        else:
            return min_plus(lines, ids, step)
    return min_plus_by_broadcast(lines, ids, step)


def min_plus_by_broadcast(
    lines: torch.Tensor, ids: torch.Tensor | None, step: float
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One pass in plain torch.

    Parameters
    ----------
    lines : float32 (n, L)
        Squared distances along n voxels of L lines.
    ids : int64 (n, L), optional
    step : float
        Voxel spacing along the line.

    Returns
    -------
    float32 (n, L), and int64 (n, L) or None
    """
    size, number = lines.shape
    position = torch.arange(size, device=lines.device, dtype=lines.dtype)
    parabola = ((position[:, None] - position) * step) ** 2
    minimum = torch.empty_like(lines)
    nearest = None if ids is None else torch.empty_like(ids)
    width = max(1, _CHUNK_ELEMENTS // (size * size))
    for start in range(0, number, width):
        part = slice(start, start + width)
        values, source = (parabola[:, :, None] + lines[None, :, part]).min(1)
        minimum[:, part] = values
        if ids is not None and nearest is not None:
            nearest[:, part] = ids[:, part].gather(0, source)
    return minimum, nearest


def _spacing_of(values: torch.Tensor, spacing: Sequence[float] | None) -> tuple[float, ...]:
    number = values.ndim - 2
    if spacing is None:
        return (1.0,) * number
    if len(spacing) != number:
        raise ValueError(f"Expected a spacing of {number} numbers, one per axis, but got {tuple(spacing)}.")
    return tuple(float(step) for step in spacing)


def _nearest_id_of_array(ids: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    if not ids.any() or math.prod(ids.shape) == 1:
        return ids
    indices = ndimage.distance_transform_edt(ids == 0, spacing, return_distances=False, return_indices=True)
    return ids[tuple(indices)]
