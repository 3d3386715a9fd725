"""Label volumes of the size that users have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

CT_SHAPE = (512, 512, 300)
CT_SPACING_MM = (0.8, 0.8, 1.5)
MS_SPACING_MM = (1.0, 1.0, 1.0)
_CROPS = Path(__file__).with_name("ms_lesion_crops.npz")


def ms_crops() -> np.ndarray:
    """Real lesion masks, uint8 (4, 72, 80, 64) of 1 mm (Lesjak et al., Neuroinformatics 2017, CC-BY)."""
    with np.load(_CROPS) as content:
        shape = tuple(int(size) for size in content["shape"])
        return np.unpackbits(content["bits"], count=int(np.prod(shape))).reshape(shape)


def ms_labels() -> np.ndarray:
    """The crops of `ms_crops` side by side in 240 x 240 x 154 voxels of 1 mm, uint8.

    They hold 110 lesions, as many as a patient of the database that they come from (3316 in 30 patients).
    """
    labels = np.zeros((240, 240, 154), np.uint8)
    for crop, (x, y) in zip(ms_crops(), ((48, 40), (48, 120), (120, 40), (120, 120)), strict=True):
        labels[x : x + crop.shape[0], y : y + crop.shape[1], 45 : 45 + crop.shape[2]] = crop
    return labels


def ct_labels(shape: tuple[int, int, int] = CT_SHAPE, num_lesions: int = 250, seed: int = 0) -> np.ndarray:
    """An abdominal CT's labels, synthetic, uint8: 0 background, 1 an organ where the liver is, 2 lesions in it.

    The organ is an ellipsoid of 7 % of the volume, the lesions are ellipsoids of log-normal volumes (median 4e-6 of
    the volume, 315 voxels of a whole CT). Some touch and become one.
    """
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    size = np.asarray(shape)
    organ_radii = size * (0.25, 0.22, 0.31)
    organ_centre = size * (0.38, 0.45, 0.5)
    _add_ellipsoid(labels, organ_centre, organ_radii, 1)
    volumes = labels.size * np.clip(rng.lognormal(np.log(4e-6), 1.6, num_lesions), 0, 1e-3)
    for volume in volumes:
        centre = organ_centre + organ_radii * 0.85 * _in_unit_ball(rng)
        radii = np.exp(rng.normal(0, 0.2, 3)) * (3 * volume / (4 * np.pi)) ** (1 / 3)
        _add_ellipsoid(labels, np.rint(centre), radii, 2)
    return labels


def organ_labels(shape: tuple[int, int, int], num_classes: int, seed: int = 0) -> np.ndarray:
    """Many organs, as TotalSegmentator has them: one ellipsoid per class 1 to ``num_classes``, uint8."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint8)
    size = np.asarray(shape)
    for label in range(1, num_classes + 1):
        _add_ellipsoid(labels, size * rng.uniform(0.2, 0.8, 3), size * rng.uniform(0.03, 0.1, 3), label)
    return labels


def _in_unit_ball(rng: np.random.Generator) -> np.ndarray:
    direction = rng.standard_normal(3)
    return direction / np.linalg.norm(direction) * rng.uniform() ** (1 / 3)


def _add_ellipsoid(labels: np.ndarray, centre: Sequence[float], radii: Sequence[float], label: int) -> None:
    """Its centre voxel at least."""
    box = tuple(slice(max(0, int(np.ceil(c - r))), max(0, int(c + r)) + 1) for c, r in zip(centre, radii, strict=True))
    level = sum(((grid - c) / max(r, 0.5)) ** 2 for grid, c, r in zip(np.ogrid[box], centre, radii, strict=True))
    labels[box][level <= 1] = label
