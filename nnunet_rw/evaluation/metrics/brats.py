"""Lesion-wise scores as the BraTS challenges of 2023 compute them.

Reference lesions that touch after a dilation are one. Each is compared with all predicted components that its dilation
meets, however far these reach: Dice, HD95 and NSD. Every predicted component that meets none is a lesion more, with
Dice and NSD 0 and an HD95 of 374 mm, and so is a missed one. Lesions up to a volume are left out, and with them what is
predicted there. The case's score is the mean over lesions; of a case without any it is perfect.

Dice and HD95 are those of the challenge's code (github.com/rachitsaluja/BraTS-2023-Metrics, 43c9052), which measures
HD95 with DeepMind's surface-distance: between the voxel corners that the surface of marching cubes passes, each
weighted with the surface's area there. That code has no NSD; it is defined per lesion as in the code of 2024
(github.com/rachitsaluja/BraTS-2024-Metrics, f1131e3), the mean of both surfaces' shares within a tolerance, surfaces
being border voxels. What else changed in 2024 (predicted components merged by dilation, small ones dropped, the image's
diagonal as penalty) is not followed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from scipy.ndimage import binary_dilation, generate_binary_structure
from skimage.measure import marching_cubes

from nnunet_rw.evaluation.metrics.surface import PointsById, border_points, distances_between, share_within
from nnunet_rw.evaluation.protocols import NSD_TOLERANCES_MM, PENALTY_MM, Challenge
from nnunet_rw.maps.arrays import as_connectivity, as_masks, as_spacing, connected_components, foreground_box


@dataclass(frozen=True)
class BratsScores:
    """Means over the lesions of a case.

    Attributes
    ----------
    dice, hd95_mm : float
    nsd : tuple of float
        At each of `NSD_TOLERANCES_MM`.
    num_lesions, num_missed, num_false_positives : int
        Reference lesions that count, how many of them no predicted component meets, and predicted components that meet
        no reference lesion of any size.
    """

    dice: float
    hd95_mm: float
    nsd: tuple[float, ...]
    num_lesions: int
    num_missed: int
    num_false_positives: int


# Of a case in which nothing is scored.
_PERFECT = BratsScores(1.0, 0.0, (1.0,) * len(NSD_TOLERANCES_MM), 0, 0, 0)


def brats_scores(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], challenge: Challenge
) -> BratsScores:
    """Score one region of one case.

    Parameters
    ----------
    reference, prediction : boolean array (X, Y[, Z])
        In two dimensions components are 8-connected, volumes areas and surfaces contours.
    spacing_mm : sequence of float
        mm per array axis. The dilation is in voxels whatever these are.
    challenge : Challenge

    Raises
    ------
    ValueError
        If a mask is not boolean, not 2D or 3D, the shapes differ, or a spacing is impossible.

    Examples
    --------
    >>> reference, prediction = np.array([[1, 1, 0, 0, 0, 0]], bool), np.array([[1, 1, 0, 0, 0, 1]], bool)
    >>> brats_scores(reference, prediction, (1, 1), Challenge(dilation=1, ignored_up_to_mm3=0)).dice
    0.5
    """
    reference, prediction = as_masks(reference=reference, prediction=prediction)
    spacing = as_spacing(spacing_mm, reference.ndim)
    box = foreground_box(reference | prediction, margin=challenge.dilation)
    if box is None:
        return _PERFECT
    # Border voxels at the image's edge are border in the box as well: axes of one voxel have no neighbours here.
    reference, prediction = reference[box], prediction[box]
    connectivity = as_connectivity(26, reference.ndim)
    structure = generate_binary_structure(reference.ndim, 2)
    dilated = binary_dilation(reference, structure, iterations=challenge.dilation)
    near = connected_components(dilated.view(np.uint8), connectivity)
    lesion, component = near * reference, connected_components(prediction.view(np.uint8), connectivity)
    num_lesions, num_components = int(near.max()), int(component.max())

    voxels = np.bincount(lesion.ravel(), minlength=num_lesions + 1)[1:]
    predicted_voxels = np.bincount(component.ravel(), minlength=num_components + 1)
    shared = np.bincount(lesion[prediction], minlength=num_lesions + 1)[1:]
    where = prediction & dilated
    pairs = np.unique(np.stack([near[where], component[where]], axis=1).astype(np.int64), axis=0)
    met = [pairs[pairs[:, 0] == number, 1] for number in range(1, num_lesions + 1)]
    counted = np.flatnonzero(voxels * np.prod(spacing) > challenge.ignored_up_to_mm3)
    num_false_positives = num_components - len(np.unique(pairs[:, 1]))
    num_scored = len(counted) + num_false_positives
    if num_scored == 0:
        return _PERFECT

    corners = [_Corners(ids, spacing) for ids in (lesion, component)]
    axes = tuple(range(reference.ndim))
    borders = [border_points(ids, spacing, axes) for ids in (lesion, component)]
    dice, hd95_mm, nsd, num_missed = 0.0, num_false_positives * PENALTY_MM, np.zeros(len(NSD_TOLERANCES_MM)), 0
    for index in counted.tolist():
        components = met[index].tolist()
        if not components:
            num_missed += 1
            hd95_mm += PENALTY_MM
            continue
        dice += 2 * shared[index] / (voxels[index] + predicted_voxels[components].sum())
        hd95_mm += _weighted_hd95(corners[0].of(index + 1), corners[1].of(*components))
        directed = distances_between(borders[0].of(index + 1), borders[1].of(*components))
        nsd += [
            np.mean([share_within(distances, tolerance) for distances in directed]) for tolerance in NSD_TOLERANCES_MM
        ]
    return BratsScores(
        dice=float(dice / num_scored),
        hd95_mm=float(hd95_mm / num_scored),
        nsd=tuple(float(value / num_scored) for value in nsd),
        num_lesions=len(counted),
        num_missed=num_missed,
        num_false_positives=num_false_positives,
    )


class _Corners:
    """The voxel corners that a mask's surface passes, by component, with the surface's area (2D: length) at each.

    No corner belongs to two components: those of the two voxels would touch.
    """

    def __init__(self, ids: np.ndarray, spacing_mm: tuple[float, ...]):
        padded = np.pad(ids, 1)
        windows = list(product((0, 1), repeat=ids.ndim))
        views = [
            padded[tuple(slice(step, size - 1 + step) for step, size in zip(window, padded.shape, strict=True))]
            for window in windows
        ]
        code = np.zeros(views[0].shape, np.uint8)
        owner = np.zeros(views[0].shape, ids.dtype)
        for bit, view in enumerate(views):
            code |= (view > 0).astype(np.uint8) << np.uint8(bit)
            np.maximum(owner, view, out=owner)
        where = np.nonzero((code > 0) & (code < 2 ** len(windows) - 1))
        self._points = PointsById(where, owner[where], spacing_mm)
        self._areas = _areas(spacing_mm)[code[where]]

    def of(self, *ids: int) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, axes) in mm and areas (N,)."""
        chosen = self._points.chosen(*ids)
        return self._points.points_mm[chosen], self._areas[chosen]


def _weighted_hd95(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]) -> float:
    """The larger of the distances that 95 % of each surface's area do not exceed; not interpolated."""
    directed = distances_between(first[0], second[0])
    percentiles = []
    for distances, areas in zip(directed, (first[1], second[1]), strict=True):
        order = np.lexsort((areas, distances))
        share = np.cumsum(areas[order]) / np.sum(areas)
        percentiles.append(distances[order[np.searchsorted(share, 0.95)]])
    return float(max(percentiles))


@cache
def _areas(spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Area (2D: length) of the surface between the voxels around a corner, by which of them are in the mask.

    Marching cubes halfway between voxels (Lorensen and Cline), of the smaller of the two sides: with that choice areas
    are those of DeepMind's table. In two dimensions every voxel that stands alone cuts off its own corner.
    """
    ndim = len(spacing_mm)
    shape, num_voxels = (2,) * ndim, 2**ndim
    areas = np.zeros(2**num_voxels)
    for code in range(1, len(areas) - 1):
        inside = np.array([code >> bit & 1 for bit in range(num_voxels)])
        if inside.sum() > num_voxels / 2:
            inside = 1 - inside
        cube = inside.reshape(shape).astype(np.float32)
        if ndim == 2:
            step = np.asarray(spacing_mm)
            alone = np.linalg.norm(step) / 2
            # Two neighbours share a straight line, along the axis on which they lie.
            straight = [step[axis] for axis in (0, 1) if np.ptp(cube, axis=axis).max() == 0]
            areas[code] = straight[0] if straight else inside.sum() * alone
            continue
        vertices, faces, *_ = marching_cubes(cube, 0.5, method="lorensen")
        corners = vertices.astype(np.float64)[faces] * np.asarray(spacing_mm)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        areas[code] = np.linalg.norm(normals, axis=1).sum() / 2
    return areas
