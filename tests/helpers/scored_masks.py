"""Pairs of masks that the official codes of protocols were run on: balls, some of them predicted, moved or merged."""

import numpy as np

SHAPE = (34, 40, 37)


def scored_masks(seed, shape=SHAPE, spacing_mm=None, most=3.6):
    """Reference and prediction, boolean; NumPy's legacy generator, whose stream is frozen.

    Parameters
    ----------
    seed : int
    spacing_mm : tuple of float, optional
        Balls are round in mm.
    most : float
        mm, the largest radius.
    """
    draw = np.random.RandomState(seed)
    spacing = np.ones(len(shape)) if spacing_mm is None else np.asarray(spacing_mm)
    grid = np.stack(np.indices(shape), axis=-1) * spacing
    sides = np.zeros((2, *shape), bool)
    for ball in range(14):
        centre = draw.uniform(0, 1, len(shape)) * np.asarray(shape) * spacing
        radius = draw.uniform(0.6, most)
        moved = centre + draw.uniform(-1.5, 1.5, len(shape))
        if ball % 5 != 1:
            sides[0] |= np.linalg.norm(grid - centre, axis=-1) <= radius
        if ball % 5 != 3:
            sides[1] |= np.linalg.norm(grid - moved, axis=-1) <= radius * draw.uniform(0.8, 1.6)
    return sides[0], sides[1]
