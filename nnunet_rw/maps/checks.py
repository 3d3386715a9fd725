"""Validation shared by the map functions."""

from __future__ import annotations

from collections.abc import Sequence

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
