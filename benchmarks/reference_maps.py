"""Maps and weights as their papers' codes compute them: SciPy for every class, NumPy for every lesion in turn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def rectified_maps_by_loop(labels: np.ndarray, num_classes: int, spacing: Sequence[float]) -> np.ndarray:
    """Valverde & Tohka, Pattern Recognition 2022: one distance transform of the whole volume per class.

    Parameters
    ----------
    labels : integer array (X, Y, Z)
        Every class has a voxel.
    num_classes : int
    spacing : 3 floats, mm

    Returns
    -------
    float32 array (num_classes, X, Y, Z)
    """
    onehot = np.stack([labels == label for label in range(num_classes)]).astype(np.float32)
    maps = np.zeros_like(onehot)
    for label in range(num_classes):
        distance = ndimage.distance_transform_edt(onehot[label], sampling=spacing)
        maps[label] = -distance / distance.max()
    maps[onehot == 0] = 1
    return maps


def lesion_ids_by_loop(labels: np.ndarray) -> np.ndarray:
    """26-connected components of every foreground label in turn; int32 array of the labels' shape."""
    ids = np.zeros(labels.shape, np.int32)
    for label in np.unique(labels[labels > 0]):
        found, _ = ndimage.label(labels == label, np.ones((3, 3, 3)))
        ids[found > 0] = found[found > 0] + ids.max()
    return ids


def lesion_volumes_by_loop(ids: np.ndarray) -> np.ndarray:
    """Number of voxels of the lesion that a voxel belongs to, float32; 0 in the background."""
    volumes = np.zeros(ids.shape, np.float32)
    for lesion in np.unique(ids)[1:]:
        volumes[ids == lesion] = np.sum(ids == lesion)
    return volumes


def inverse_volume_weights_by_loop(ids: np.ndarray, w_min: float = 1.0, w_max: float = 2e5) -> np.ndarray:
    """Shirokikh et al., MICCAI 2020: w = N / ((K + 1) V), the background being a component too; float32."""
    weights = np.zeros(ids.shape, np.float32)
    components = np.unique(ids)
    for component in components:
        weights[ids == component] = ids.size / (len(components) * np.sum(ids == component))
    return np.clip(weights, w_min, w_max)
