"""What the growth of the cost is measured with: computations by name, and labels for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.preprocessed_folder import SPACING_MM, settings_of
from nnunet_rw.maps import rectified_region_wise_maps
from nnunet_rw.maps.kinds import (
    BOUNDARY_DISTANCE,
    INTERIOR_DISTANCE,
    LabelScheme,
    compute_distances,
    compute_lesion_ids,
)
from nnunet_rw.store.write import compressed_distances, compressed_lesions

COMPUTATIONS = ("interior distance", "RRW maps", "lesion ids", "both stored, in memory")
# Boundary distances of all heads of the largest volume would take longer than all else.
OF_CLASSES = (*COMPUTATIONS, "boundary distance")


def computation(name: str, labels: np.ndarray, num_classes: int) -> Callable[[], Any]:
    """A step of `OF_CLASSES`; ``num_classes`` counts the foreground."""
    scheme = LabelScheme.classes(num_classes + 1)
    if name == "interior distance":
        return partial(compute_distances, INTERIOR_DISTANCE, labels, scheme, SPACING_MM)
    if name == "boundary distance":
        return partial(compute_distances, BOUNDARY_DISTANCE, labels, scheme, SPACING_MM)
    if name == "RRW maps":
        return partial(rectified_region_wise_maps, labels, num_classes + 1, SPACING_MM)
    if name == "lesion ids":
        return partial(compute_lesion_ids, labels, scheme)
    settings = settings_of(num_classes + 1)

    def store() -> None:
        compressed_distances(INTERIOR_DISTANCE, labels, SPACING_MM, settings, False).to_cframe()
        compressed_lesions(labels, settings, False)[0].to_cframe()

    return store


def result_bytes(name: str, voxels: int, num_classes: int) -> int:
    """Bytes of a computation's result, before compression."""
    per_voxel = {
        "interior distance": 4,
        "RRW maps": 4 * (num_classes + 1),
        "boundary distance": 4 * (num_classes + 1),
        "lesion ids": 2 * num_classes,
        "both stored, in memory": 2 + 2 * num_classes,
    }
    return voxels * per_voxel[name]


def scattered_lesions(size: int, number: int) -> np.ndarray:
    """Labels (size, size, size) with lesions of 2^3 voxels at random places of a grid, uint8."""
    labels = np.zeros((size,) * 3, np.uint8)
    pitch = 4
    places = np.random.default_rng(0).permutation((size // pitch) ** 3)[:number]
    for corner in pitch * np.stack(np.unravel_index(places, (size // pitch,) * 3), axis=1) + 1:
        labels[tuple(slice(low, low + 2) for low in corner)] = 1
    return labels


def smallest_labels(num_lesions: int, num_classes: int) -> np.ndarray:
    """About the smallest cube that holds so many lesions of one voxel: what it takes is the interpreter's time."""
    number = max(num_lesions, num_classes)
    edge = math.ceil(round(number ** (1 / 3), 6))
    labels = np.zeros((2 * edge + 1,) * 3, np.uint8)
    places = np.stack(np.unravel_index(np.arange(number), (edge,) * 3))
    labels[tuple(2 * places + 1)] = np.arange(number) % num_classes + 1
    return labels
