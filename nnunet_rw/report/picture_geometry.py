"""Outlines of masks, and which part of a picture to show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Window = tuple[float, float, float, float]


def outline(mask: np.ndarray) -> np.ndarray:
    """The sides that pixels of a mask do not share.

    Parameters
    ----------
    mask : boolean array (rows, columns)

    Returns
    -------
    float array (sides, 2, 2)
        From (x, y) to (x, y), where pixel centres are whole numbers.
    """
    framed = np.pad(mask, 1)
    rows, columns = np.nonzero(framed[1:-1, 1:] != framed[1:-1, :-1])
    upright = np.stack([np.stack([columns, rows], -1), np.stack([columns, rows + 1], -1)], 1)
    rows, columns = np.nonzero(framed[1:, 1:-1] != framed[:-1, 1:-1])
    level = np.stack([np.stack([columns, rows], -1), np.stack([columns + 1, rows], -1)], 1)
    return np.concatenate([upright, level]) - 0.5


def close_up(mask: np.ndarray, pixel_mm: tuple[float, float], width_mm: float) -> Window:
    """A square of this width about the middle of a mask's box; about the picture's for an empty mask."""
    middle = []
    for axis in (0, 1):
        occupied = np.flatnonzero(mask.any(axis=1 - axis))
        middle.append((occupied[0] + occupied[-1]) / 2 if len(occupied) else (mask.shape[axis] - 1) / 2)
    half_rows, half_columns = width_mm / pixel_mm[0] / 2, width_mm / pixel_mm[1] / 2
    return middle[1] - half_columns, middle[1] + half_columns, middle[0] - half_rows, middle[0] + half_rows


def within(window: Window, shape: Sequence[int]) -> Window:
    """The window moved, where it can be, so that it does not reach beyond a picture of this shape."""
    left, right, top, bottom = window
    right_shift, down_shift = _shift(left, right, shape[1]), _shift(top, bottom, shape[0])
    return left + right_shift, right + right_shift, top + down_shift, bottom + down_shift


def extent_mm(mask: np.ndarray, pixel_mm: tuple[float, float]) -> float:
    """The longer side of a mask's box; 0 for an empty mask."""
    sides = [0.0]
    for axis in (0, 1):
        occupied = np.flatnonzero(mask.any(axis=1 - axis))
        if len(occupied):
            sides.append(float(occupied[-1] + 1 - occupied[0]) * pixel_mm[axis])
    return max(sides)


def _shift(low: float, high: float, size: int) -> float:
    """By how much to move an interval into (-0.5, size - 0.5); one that is longer, to the middle of that."""
    if high - low >= size:
        return (size - 1) / 2 - (low + high) / 2
    return max(0.0, -0.5 - low) + min(0.0, size - 0.5 - high)
