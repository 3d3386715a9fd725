"""Lesions of one mask, measured without a loop over them."""

from __future__ import annotations

import numpy as np

from nnunet_rw.maps.components import connected_components


class Components:
    """The foreground voxels of a mask, each with the index of its lesion."""

    def __init__(self, mask: np.ndarray, connectivity: int):
        self.ids = connected_components(mask.view(np.uint8), connectivity)
        self.mask = mask
        self.where = np.flatnonzero(mask)
        self.lesion = self.ids.ravel()[self.where].astype(np.int64) - 1
        self.voxels = np.bincount(self.lesion)

    def __len__(self) -> int:
        return len(self.voxels)

    def measures(self, spacing: tuple[float, ...], box: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Voxels, volumes and centroids."""
        centroids = np.empty((len(self), len(box)))
        for axis, indices in enumerate(np.unravel_index(self.where, self.ids.shape)):
            mean = np.bincount(self.lesion, indices) / self.voxels
            centroids[:, axis] = (mean + box[axis].start) * spacing[axis]
        return self.voxels, self.voxels * float(np.prod(spacing)), centroids

    def maxima(self, score: np.ndarray | None) -> np.ndarray:
        """Highest score of each lesion."""
        if score is None:
            return np.full(len(self), np.nan)
        values = score[self.mask]
        if np.isnan(values).any():
            raise ValueError("Expected a score for every voxel of a lesion, but got NaN.")
        return largest(self.lesion, values, len(self))


def occurring(lesion: np.ndarray, size: int) -> np.ndarray:
    """Which lesions occur."""
    return np.bincount(lesion, minlength=size) > 0


def largest(lesion: np.ndarray, values: np.ndarray, size: int, start: float = np.nan) -> np.ndarray:
    """Largest value of each lesion; ``start`` where there is none."""
    result = np.full(size, start)
    np.fmax.at(result, lesion, values)
    return result
