"""CC-Metrics: every reference lesion scored in its own part of the image (Jaus et al., arXiv 2410.18684).

Each voxel belongs to the reference lesion that is nearest. Within the part of a lesion, Dice and surface distances are
those of the lesion and of all that is predicted there, and the case's score is the mean over lesions, however large.

As the authors' code (github.com/alexanderjaus/CC-Metrics, 20a704b) has it: lesions are 26-connected, nearness is
measured in voxels, a voxel as near to two lesions belongs to the one that comes first in the array, and a prediction
that is cut between two parts has a surface there. A part without a prediction has Dice and NSD 0; for its distances,
which have no end, the code wants a number, here the image's diagonal. Without a reference lesion the score is perfect
where nothing is predicted, and the worst where something is. Distances are in mm here, in voxels there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import KDTree

from nnunet_rw.evaluation.metrics.surface import (
    border_of_ids,
    border_points,
    distances_between,
    neighbour_axes,
    of_distances,
)
from nnunet_rw.maps.arrays import as_connectivity, as_masks, as_spacing, connected_components, diagonal, foreground_box


@dataclass(frozen=True)
class CCScores:
    """Means over the reference lesions of a case."""

    dice: float
    hd95_mm: float
    assd_mm: float
    nsd: float


def cc_scores(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], tolerance_mm: float = 1.0
) -> CCScores:
    """Score one class of one case.

    Parameters
    ----------
    reference, prediction : boolean array (X, Y[, Z])
    spacing_mm : sequence of float
        mm per array axis.
    tolerance_mm : float
        Of NSD.

    Raises
    ------
    ValueError
        If a mask is not boolean, not 2D or 3D, the shapes differ, or a spacing is impossible.

    Examples
    --------
    >>> reference, prediction = np.array([[1, 1, 0, 0, 0, 1]], bool), np.array([[1, 1, 0, 0, 0, 0]], bool)
    >>> cc_scores(reference, prediction, (1, 1)).dice
    0.5
    """
    reference, prediction = as_masks(reference=reference, prediction=prediction)
    spacing = as_spacing(spacing_mm, reference.ndim)
    worst = CCScores(0.0, diagonal(reference.shape, spacing), diagonal(reference.shape, spacing), 0.0)
    if not reference.any():
        return worst if prediction.any() else CCScores(1.0, 0.0, 0.0, 1.0)
    axes = neighbour_axes(reference.shape)
    box = foreground_box(reference | prediction)
    assert box is not None
    reference, prediction = reference[box], prediction[box]
    lesion = connected_components(reference.view(np.uint8), as_connectivity(26, reference.ndim))
    part = nearest_lesion(lesion, prediction)
    num_lesions = int(lesion.max())
    voxels, predicted, shared = (
        np.bincount(ids.ravel(), minlength=num_lesions + 1)[1:] for ids in (lesion, part, part * reference)
    )
    surfaces = [border_points(ids, spacing, axes) for ids in (lesion, part)]
    rows = np.empty((num_lesions, 4))
    for index in range(num_lesions):
        if not predicted[index]:
            rows[index] = worst.dice, worst.hd95_mm, worst.assd_mm, worst.nsd
            continue
        found = of_distances(distances_between(*(points.of(index + 1) for points in surfaces)), tolerance_mm)
        dice = 2 * shared[index] / (voxels[index] + predicted[index])
        rows[index] = dice, found.hd95_mm, found.assd_mm, found.nsd
    return CCScores(*(float(value) for value in rows.mean(axis=0)))


def nearest_lesion(lesion: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The lesion that is nearest to each wanted voxel, in voxels; of several as near the one of the lowest id.

    Parameters
    ----------
    lesion : integer array (X, Y[, Z])
        Ids, 0 for none; at least one lesion.
    wanted : boolean array of its shape

    Returns
    -------
    int64 array of its shape
        0 where it is not wanted.

    Examples
    --------
    >>> nearest_lesion(np.array([[1, 0, 0, 0, 2]]), np.array([[False, True, True, True, True]]))
    array([[0, 1, 1, 2, 2]])
    """
    nearest = np.where(wanted, lesion, 0).astype(np.int64)
    outside = np.nonzero(wanted & (lesion == 0))
    if len(outside[0]) == 0:
        return nearest
    # From outside, the nearest voxel of a lesion is one of its border.
    border = border_of_ids(lesion)
    at, owner = np.argwhere(border), lesion[border].astype(np.int64)
    tree, points = KDTree(at), np.stack(outside, axis=1)
    result, left, several = np.empty(len(points), np.int64), np.arange(len(points)), 4
    while len(left):
        several = min(several, len(at))
        index = tree.query(points[left], k=several)[1].reshape(len(left), several)
        squared = ((at[index] - points[left, None]) ** 2).sum(axis=2)
        tied = squared == squared.min(axis=1, keepdims=True)
        result[left] = np.where(tied, owner[index], np.iinfo(np.int64).max).min(axis=1)
        # Where all of them are as near, there may be more.
        left = left[tied.all(axis=1)] if several < len(at) else left[:0]
        several *= 4
    nearest[outside] = result
    return nearest
