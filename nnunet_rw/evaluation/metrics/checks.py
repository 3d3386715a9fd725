"""Validation shared by the metrics of a case."""

from __future__ import annotations

import numpy as np


def as_masks(**masks: np.ndarray) -> list[np.ndarray]:
    """The named masks in the order given: boolean, of two or three axes and of one shape, or a ValueError."""
    arrays = {name: np.asarray(mask) for name, mask in masks.items()}
    first, shape = next((name, array.shape) for name, array in arrays.items())
    if len(shape) not in (2, 3):
        raise ValueError(f"Expected {first} of shape (X, Y[, Z]), but got {shape}.")
    for name, array in arrays.items():
        if array.dtype != np.bool_:
            raise ValueError(f"Expected a boolean {name}, but got {array.dtype}. Pass labels == class_id.")
        if array.shape != shape:
            raise ValueError(f"Expected masks of equal shape, but got {shape} as {first} and {array.shape} as {name}.")
    return list(arrays.values())
