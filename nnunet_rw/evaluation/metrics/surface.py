"""Distances between the surfaces of two masks.

The surface of a mask is its border voxels: those with a face neighbour (6 in 3D, 4 in 2D) outside the mask or outside
the image. Axes of one voxel have no neighbours, as in the losses: one slice of a volume is an image. Distances are
Euclidean, centre to centre, in mm, and every border voxel counts once, whatever the area it stands for. MONAI's metrics
are defined so, and MedPy's but for its HD95, a percentile of both directions pooled.

DeepMind's surface-distance measures between the voxel corners where marching cubes finds a surface, each weighted with
its area in mm2, and its percentiles are not interpolated. A border voxel's centre has such a corner half a voxel
diagonal away, and each corner a border voxel's centre, so the two Hausdorff distances differ by at most one voxel
diagonal. Nothing as strict holds for the weighted figures. On 240 pairs of overlapping balls of 5 to 14 mm radius with
spacing (1, 1, 1), (1, 1, 3), (0.7, 1.1, 2.5) and (0.5, 0.5, 5) mm, HD was equal, HD95 differed by up to 0.66 voxel
diagonals, ASSD by up to 0.25 (here mostly the larger) and NSD at 1 mm by up to 0.3 (here mostly the smaller): compare
NSD only with NSD of the same definition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import KDTree

from nnunet_rw.maps.arrays import as_masks, as_spacing, foreground_box
from nnunet_rw.maps.distance import distance_to

# Distances are float32: three voxels of 0.1 mm are not 0.3 mm to the last bit, but within a tolerance of 0.3 mm.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class SurfaceMetrics:
    """Agreement of two surfaces. Two empty masks have NaN everywhere; see each for what one empty mask gives.

    Attributes
    ----------
    hd_mm : float
        Hausdorff distance, the larger of the two directed maxima; inf where one mask is empty.
    hd95_mm : float
        The larger of the two directed 95th percentiles (linear interpolation); inf where one mask is empty.
    assd_mm : float
        Average symmetric surface distance, the mean over the border voxels of both masks pooled: the longer surface
        weighs more. Inf where one mask is empty.
    nsd : float
        Normalised surface distance (surface Dice): of the border voxels of both masks the fraction that has the other
        surface within the tolerance, in [0, 1]; 0 where one mask is empty.
    """

    hd_mm: float
    hd95_mm: float
    assd_mm: float
    nsd: float


def surface_metrics(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float = 1.0
) -> SurfaceMetrics:
    """Hausdorff distance, its 95th percentile, average symmetric surface distance and normalised surface distance.

    Parameters
    ----------
    reference, prediction : boolean array (X, Y[, Z])
        One class of each.
    spacing_mm : sequence of float
        mm per array axis.
    tolerance_mm : float
        Of `nsd`: the largest distance that is no disagreement, itself included. 0 accepts shared border voxels only.

    Returns
    -------
    SurfaceMetrics
        Raw values: infinities are for the aggregation to penalise.

    Raises
    ------
    ValueError
        If a mask is not boolean, not 2D or 3D, the shapes differ, or a spacing or the tolerance is impossible.

    Examples
    --------
    >>> reference, prediction = np.array([[True, False, False]]), np.array([[False, False, True]])
    >>> surface_metrics(reference, prediction, (1, 0.5), tolerance_mm=0.5)
    SurfaceMetrics(hd_mm=1.0, hd95_mm=1.0, assd_mm=1.0, nsd=0.0)
    """
    if not 0 <= tolerance_mm < np.inf:
        raise ValueError(f"Expected a tolerance of at least 0 mm, but got {tolerance_mm}.")
    return of_distances(surface_distances(reference, prediction, spacing_mm), tolerance_mm)


def of_distances(directed: tuple[np.ndarray, np.ndarray], tolerance_mm: float) -> SurfaceMetrics:
    """The same from the distances of each surface to the other, in mm; a surface without a point has none.

    Examples
    --------
    >>> of_distances((np.array([0.0, 2.0]), np.array([0.0])), tolerance_mm=1).hd_mm
    2.0
    """
    num_empty = sum(len(distances) == 0 for distances in directed)
    if num_empty == 2:
        return SurfaceMetrics(np.nan, np.nan, np.nan, np.nan)
    if num_empty == 1:
        return SurfaceMetrics(np.inf, np.inf, np.inf, 0.0)
    pooled = np.concatenate(directed)
    return SurfaceMetrics(
        hd_mm=float(pooled.max()),
        hd95_mm=max(float(np.percentile(distances, 95)) for distances in directed),
        assd_mm=float(pooled.mean()),
        nsd=share_within(pooled, tolerance_mm),
    )


def share_within(distances_mm: np.ndarray, tolerance_mm: float) -> float:
    """Of distances those up to a tolerance, itself included, whatever the last digit of either says.

    Examples
    --------
    >>> share_within(np.array([0.0, 0.3, 0.5, 2.0]), 0.1 * 3)
    0.5
    """
    return float(np.mean(distances_mm <= tolerance_mm * (1 + _ROUNDING)))


def surface_distances(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Distance from every border voxel of each mask to the nearest border voxel of the other.

    Parameters
    ----------
    reference, prediction : boolean array (X, Y[, Z])
    spacing_mm : sequence of float
        mm per array axis.

    Returns
    -------
    from_reference, from_prediction : float64 array (N,), float64 array (M,)
        In mm, in array order, from the N border voxels of the reference and the M of the prediction. A mask without a
        voxel has an empty array, and where only the other mask is empty all distances are inf.

    Raises
    ------
    ValueError
        If a mask is not boolean, not 2D or 3D, the shapes differ, or a spacing is impossible.

    Examples
    --------
    >>> reference, prediction = np.array([[True, False, False]]), np.array([[False, False, True]])
    >>> surface_distances(reference, prediction, (1, 0.5))
    (array([1.]), array([1.]))
    """
    reference, prediction = as_masks(reference=reference, prediction=prediction)
    spacing = as_spacing(spacing_mm, reference.ndim)
    box = foreground_box(reference | prediction) or (slice(0, 0),) * reference.ndim
    # A voxel at the edge of the box has its neighbour outside the box outside both masks: it is border either way.
    axes = neighbour_axes(reference.shape)
    reference_border, prediction_border = border_voxels(reference[box], axes), border_voxels(prediction[box], axes)
    return (
        _directed_distances(reference_border, prediction_border, spacing),
        _directed_distances(prediction_border, reference_border, spacing),
    )


def neighbour_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """The axes of an image along which a voxel can have neighbours; of an image of one voxel the last.

    Examples
    --------
    >>> neighbour_axes((1, 40, 30))
    (1, 2)
    """
    return tuple(axis for axis, size in enumerate(shape) if size > 1) or (len(shape) - 1,)


def border_voxels(mask: np.ndarray, axes: Sequence[int] | None = None) -> np.ndarray:
    """The voxels of a mask with a face neighbour outside the mask or outside the image.

    Parameters
    ----------
    mask : boolean array (X, Y[, Z])
    axes : sequence of int, optional
        Along which neighbours lie. Default: `neighbour_axes` of the mask, which has to be that of the whole image then.

    Returns
    -------
    boolean array of the shape of ``mask``

    Examples
    --------
    >>> border_voxels(np.ones((3, 3), bool)).astype(int)
    array([[1, 1, 1],
           [1, 0, 1],
           [1, 1, 1]])
    """
    (mask,) = as_masks(mask=mask)
    return border_of_ids(mask, axes)


def border_of_ids(ids: np.ndarray, axes: Sequence[int] | None = None) -> np.ndarray:
    """The voxels of an array of ids with a face neighbour of another id, or outside the array.

    Where ids are those of components, these are the border voxels of their mask; where they number the parts of a
    divided mask, voxels at a dividing line are border as well.

    Parameters
    ----------
    ids : boolean or integer array (X, Y[, Z])
        0 for none.
    axes : sequence of int, optional
        As for `border_voxels`.

    Returns
    -------
    boolean array of the shape of ``ids``

    Examples
    --------
    >>> border_of_ids(np.array([[1, 1, 1, 2, 2]]))
    array([[ True, False,  True,  True,  True]])
    """
    inner = ids > 0
    for axis in neighbour_axes(ids.shape) if axes is None else axes:
        core, along = np.moveaxis(inner, axis, 0), np.moveaxis(ids, axis, 0)
        same = along[1:] == along[:-1]
        core[1:] &= same
        core[:-1] &= same
        core[:1] = core[-1:] = False
    return (ids > 0) & ~inner


class PointsById:
    """Points of a grid, grouped by the lesion that each belongs to.

    Parameters
    ----------
    where : tuple of integer arrays (N,)
        Index along each axis.
    ids : integer array (N,)
    spacing_mm : sequence of float
        mm per array axis.
    """

    def __init__(self, where: tuple[np.ndarray, ...], ids: np.ndarray, spacing_mm: Sequence[float]):
        self.points_mm = np.stack(where, axis=1) * np.asarray(spacing_mm)
        self._order = np.argsort(ids, kind="stable")
        self._ends = np.searchsorted(ids[self._order], np.arange(int(ids.max(initial=0)) + 2))

    def chosen(self, *ids: int) -> np.ndarray:
        """Which points are of these ids: int64 (M,), none of an id that is not there."""
        known = [number for number in ids if number + 1 < len(self._ends)]
        parts = [self._order[self._ends[number] : self._ends[number + 1]] for number in known]
        return np.concatenate(parts) if parts else self._order[:0]

    def of(self, *ids: int) -> np.ndarray:
        """Their coordinates in mm: float64 (M, axes)."""
        return self.points_mm[self.chosen(*ids)]


def border_points(ids: np.ndarray, spacing_mm: Sequence[float], axes: Sequence[int] | None = None) -> PointsById:
    """Where the border voxels of an array of ids are, see `border_of_ids`.

    Parameters
    ----------
    ids : integer array (X, Y[, Z])
        0 for none.
    spacing_mm, axes
        As for `surface_distances` and `border_voxels`.

    Examples
    --------
    >>> border_points(np.array([[0, 1, 0, 2, 2]]), (1, 0.5)).of(2)
    array([[0. , 1.5],
           [0. , 2. ]])
    """
    where = np.nonzero(border_of_ids(ids, axes))
    return PointsById(where, ids[where], spacing_mm)


def distances_between(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From every point to the nearest one of the other set, as `surface_distances` has it.

    By a tree of the points: lesions fill so little of a volume that no distance map of it is worth its cost.

    Parameters
    ----------
    first, second : float64 array (N, axes), float64 array (M, axes)

    Returns
    -------
    float64 array (N,), float64 array (M,)
        Inf where the other set is empty.

    Examples
    --------
    >>> distances_between(np.array([[0.0, 0.0]]), np.array([[0.0, 2.0], [3.0, 4.0]]))
    (array([2.]), array([2., 5.]))
    """
    return tuple(  # type: ignore[return-value]
        KDTree(target).query(origin)[0][:, 0] if len(target) and len(origin) else np.full(len(origin), np.inf)
        for origin, target in ((first, second), (second, first))
    )


def _directed_distances(origin: np.ndarray, target: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    if not target.any():
        return np.full(np.count_nonzero(origin), np.inf)
    return distance_to(target, spacing)[origin].astype(np.float64)
