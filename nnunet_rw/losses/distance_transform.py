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
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from nnunet_rw.maps.distance import distance_to as distance_to_array
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE

# mm per axis: of all samples, or a (B, axes) tensor of each.
Spacing = Sequence[float] | torch.Tensor

_CHUNK_ELEMENTS = 2**26  # of a temporary tensor: 256 MB


def distance_to(mask: torch.Tensor, spacing: Spacing | None = None) -> torch.Tensor:
    """Distance from every voxel to the nearest voxel of the mask.

    Parameters
    ----------
    mask : bool (B, C, X, Y[, Z])
    spacing : sequence of float, or (B, axes) tensor, optional
        mm per spatial axis, of all samples or of each; without it the unit is the voxel.

    Returns
    -------
    float32 (B, C, X, Y[, Z])
        On the mask's device; 0 in the mask, the patch's diagonal where a sample's mask is empty.
    """
    rows = spacing_rows(mask, spacing)
    if len(set(rows)) > 1:
        return torch.cat([distance_to(piece[None], row) for piece, row in zip(mask, rows, strict=True)])
    spacing = rows[0]
    if mask.device.type == "cpu":
        pieces = [distance_to_array(piece.numpy(), spacing) for piece in mask.flatten(0, 1)]
        return torch.from_numpy(np.stack(pieces)).view(mask.shape)
    return squared_distance(mask, spacing)[0].sqrt()


def target_distances(
    kind: str, target: torch.Tensor, known: torch.Tensor | None, regions: bool, spacing: Spacing | None = None
) -> torch.Tensor:
    """Distance map of a target on its own device, as `nnunet_rw.maps.kinds.compute_distances` gives it for an array.

    Parameters
    ----------
    kind : "interior_distance" or "boundary_distance"
    target : bool (B, C, X, Y[, Z])
        Per class, the background's first, or per region; False in ignored voxels.
    known : bool (B, 1, X, Y[, Z]), optional
        Labelled voxels; all without it.
    regions : bool
        Regions overlap, so each has an interior distance of its own.
    spacing : sequence of float, or (B, axes) tensor, optional
        mm per spatial axis, of all samples or of each; without it the unit is the voxel.

    Returns
    -------
    float32 (B, 1 or C, X, Y[, Z])
    """
    # Head by head: of many classes, memory holds the distances of one.
    heads = target.split(1, dim=1)
    if kind == INTERIOR_DISTANCE and not regions:
        result = torch.zeros(heads[0].shape, device=target.device)
        for head in heads:
            result += _to_boundary(head, known, spacing, inside_only=True)
        return result
    return torch.cat([_to_boundary(head, known, spacing) for head in heads], dim=1)


def _to_boundary(
    mask: torch.Tensor, known: torch.Tensor | None, spacing: Spacing | None, inside_only: bool = False
) -> torch.Tensor:
    """(B, 1, ...) distance to the mask's boundary; 0 in ignored voxels, and where a sample has no boundary."""
    outside = ~mask if known is None else ~mask & known
    distance = distance_to(outside, spacing) * mask
    if not inside_only:
        distance = distance + distance_to(mask, spacing) * outside
    bounded = mask.flatten(1).any(1) & outside.flatten(1).any(1)
    return distance * bounded.view(-1, *(1,) * (mask.ndim - 1))


def nearest_id(ids: torch.Tensor, spacing: Spacing | None = None) -> torch.Tensor:
    """Id of the nearest voxel that has one: every lesion's cell (Voronoi region).

    Parameters
    ----------
    ids : int64 (B, C, X, Y[, Z])
        0 where there is none.
    spacing : sequence of float, or (B, axes) tensor, optional
        mm per spatial axis, of all samples or of each; without it the unit is the voxel.

    Returns
    -------
    int64 (B, C, X, Y[, Z])
        0 everywhere where a sample has no id. Voxels as far from one lesion as from another may go to either.
    """
    rows = spacing_rows(ids, spacing)
    if len(set(rows)) > 1:
        return torch.cat([nearest_id(piece[None], row) for piece, row in zip(ids, rows, strict=True)])
    spacing = rows[0]
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
        kernel = _triton_kernel()
        if kernel is not None:
            return kernel(lines, ids, step)
    return min_plus_by_broadcast(lines, ids, step)


@cache
def _triton_kernel() -> Callable[..., Any] | None:
    """The kernel, or None where it cannot be used: no Triton (torch for Windows), no compiler, too old a GPU."""
    try:
        from nnunet_rw.losses.triton_min_plus import min_plus

        # Compiled here, for both of its forms: a failure in the midst of a training would end it.
        line = torch.zeros((2, 2), device="cuda")
        for ids in (None, torch.zeros((2, 2), dtype=torch.int64, device="cuda")):
            min_plus(line, ids, 1.0)
    except Exception as error:  # whatever a compiler or a driver comes up with
        warnings.warn(
            f"Triton cannot be used ({type(error).__name__}: {error}). Distances are computed by plain torch, slower.",
            stacklevel=2,
        )
        return None
    return min_plus


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


def spacing_rows(values: torch.Tensor, spacing: Spacing | None) -> list[tuple[float, ...]]:
    """The spacing of every sample of (B, C, X, Y[, Z]) values.

    Raises
    ------
    ValueError
        Not one number per axis.
    """
    batch, axes = values.shape[0], values.ndim - 2
    if spacing is None:
        return [(1.0,) * axes] * batch
    rows = spacing.tolist() if isinstance(spacing, torch.Tensor) and spacing.ndim == 2 else [list(spacing)] * batch
    if len(rows) != batch or any(len(row) != axes for row in rows):
        raise ValueError(f"Expected a spacing of {axes} numbers, one per axis, but got {spacing}.")
    return [tuple(float(step) for step in row) for row in rows]


def mean_spacing(spacing: Spacing | None) -> Sequence[float] | None:
    """One spacing for all samples."""
    if isinstance(spacing, torch.Tensor):
        return spacing.mean(0).tolist() if spacing.ndim == 2 else spacing.tolist()
    return spacing


def _nearest_id_of_array(ids: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    if not ids.any() or math.prod(ids.shape) == 1:
        return ids
    indices = ndimage.distance_transform_edt(ids == 0, spacing, return_distances=False, return_indices=True)
    return ids[tuple(indices)]
