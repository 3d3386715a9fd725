"""Region-wise maps: the weight that a voxel's probability of a class gets in the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_rw.maps.checks import as_labels
from nnunet_rw.maps.distance import interior_distance


def rectified_region_wise_maps(
    labels: np.ndarray,
    num_classes: int,
    spacing: Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> np.ndarray:
    """Rectified region-wise maps (Valverde & Tohka, Pattern Recognition 2022, arXiv 2108.01405).

    Inside class c the value is -D / max D, D the distance to the class's boundary and the maximum taken over the
    class; outside it is +1. So every class pulls with at most 1 per voxel, whatever its size.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        0 is background; -1 counts as background.
    num_classes : int
        Number of classes with the background.
    spacing : sequence of float, optional
        mm per array axis. Only its ratios matter.
    ignore_label : int, optional
        Unlabelled voxels; +1 in every map, to be masked by the loss.

    Returns
    -------
    float32 array (num_classes, X, Y[, Z]) in [-1, 1]
        An absent class is +1 everywhere; one that fills the volume is -1 everywhere.

    Examples
    --------
    >>> rectified_region_wise_maps(np.array([[0, 0, 1, 1]]), num_classes=2)
    array([[[-1. , -0.5,  1. ,  1. ]],
    <BLANKLINE>
           [[ 1. ,  1. , -0.5, -1. ]]], dtype=float32)
    """
    labels = as_labels(labels)
    distance = interior_distance(labels, spacing, ignore_label)
    maps = np.ones((num_classes, *labels.shape), np.float32)
    for label in range(num_classes):
        inside = labels == label
        deepest = distance.max(where=inside, initial=0)
        if deepest > 0:
            np.divide(distance, -deepest, out=maps[label], where=inside)
    return maps


def active_contour_maps(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Maps of the active contour loss (Chen et al., CVPR 2019): -1 inside the class, +1 outside.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        0 is background; -1 counts as background.
    num_classes : int
        Number of classes with the background.

    Returns
    -------
    float32 array (num_classes, X, Y[, Z])

    Examples
    --------
    >>> active_contour_maps(np.array([[0, 0, 1]]), num_classes=2)
    array([[[-1., -1.,  1.]],
    <BLANKLINE>
           [[ 1.,  1., -1.]]], dtype=float32)
    """
    labels = as_labels(labels)
    classes = np.arange(num_classes).reshape(-1, *(1,) * labels.ndim)
    return np.where(labels[None] == classes, np.float32(-1), np.float32(1))
