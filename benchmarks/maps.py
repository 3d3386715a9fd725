"""Rectified region-wise maps, lesion volumes and inverse-volume weights, beside the loops of their papers' codes.

Of whole volumes, in one process: real MS lesions in 240 x 240 x 154 voxels; and a synthetic CT of 512 x 512 x 300,
with an organ and about 200 lesions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.child import in_child
from benchmarks.inputs import CT_SPACING_MM, MS_SPACING_MM, ct_labels, ms_labels
from benchmarks.memory import peak_rss_mib
from nnunet_rw.maps.distance import rectified_region_wise_maps
from nnunet_rw.maps.lesions import inverse_volume_weights, lesion_components, lesion_volume_map

VOLUMES: dict[str, tuple[Callable[[], np.ndarray], tuple[float, float, float], int]] = {
    "MS lesions": (ms_labels, MS_SPACING_MM, 5),
    "CT": (ct_labels, CT_SPACING_MM, 1),
}
REGION_WISE = "rectified region-wise maps"
LESION_VOLUMES, WEIGHTS = "lesion volumes", "inverse-volume weights"


def run(names: tuple[str, ...] = tuple(VOLUMES)) -> list[dict[str, Any]]:
    """Three rows per volume. The values must agree."""
    return [row for name in names for row in _rows(name)]


def _rows(name: str) -> list[dict[str, Any]]:
    make, spacing, rounds = VOLUMES[name]
    labels = make()
    rivals = _rivals(labels, spacing)
    shared = {
        "volume": name,
        "shape": " x ".join(map(str, labels.shape)),
        "classes": int(labels.max()) + 1,
        "lesions": len(lesion_components(labels)),
    }
    rows = []
    for what, steps in rivals.items():
        # Distances are float64 in SciPy; figures of lesions must be the same bit by bit.
        seconds = _seconds(steps, rounds, tolerance=1e-5 if what == REGION_WISE else 0.0)
        row = {
            **shared,
            "figures": what,
            "seconds": seconds["ours"],
            "reference_seconds": seconds["loop"],
            "times_faster": seconds["loop"] / seconds["ours"],
        }
        if what == REGION_WISE:
            # Alone in a process: memory that was given back is not always seen as free.
            peaks = {rival: in_child("benchmarks.maps", "peak_of", [name, what, rival], {}) for rival in steps}
            row |= {
                "peak_mib": peaks["ours"],
                "reference_peak_mib": peaks["loop"],
                "peak_of_reference": peaks["ours"] / peaks["loop"],
            }
        rows.append(row)
    return rows


def _seconds(steps: dict[str, Callable[[], np.ndarray]], rounds: int, tolerance: float) -> dict[str, float]:
    """Medians over rounds; ours has one round beforehand, the loop none: over the lesions of a CT it takes minutes."""
    times: dict[str, list[float]] = {rival: [] for rival in steps}
    steps["ours"]()
    for _ in range(rounds):
        values = []
        for rival in ("ours", "loop", "ours", "ours"):
            start = perf_counter()
            value = steps[rival]()
            times[rival].append(perf_counter() - start)
            values.append(value)
        assert np.abs(values[0] - values[1]).max() <= tolerance
    return {rival: median(measured) for rival, measured in times.items()}


def peak_of(name: str, what: str, rival: str) -> float:
    """Most memory, in MiB, that a rival takes beside its input."""
    make, spacing, _ = VOLUMES[name]
    return peak_rss_mib(_rivals(make(), spacing)[what][rival])


def _rivals(labels: np.ndarray, spacing: tuple[float, ...]) -> dict[str, dict[str, Callable[[], Any]]]:
    num_classes = int(labels.max()) + 1
    ids = lesion_components(labels).ids
    return {
        REGION_WISE: {
            "ours": partial(rectified_region_wise_maps, labels, num_classes, spacing),
            "loop": partial(rectified_maps_by_loop, labels, num_classes, spacing),
        },
        LESION_VOLUMES: {"ours": partial(lesion_volume_map, labels), "loop": partial(_volumes_by_loop, labels)},
        # Both from ids, as the paper's code has it.
        WEIGHTS: {"ours": partial(inverse_volume_weights, ids), "loop": partial(inverse_volume_weights_by_loop, ids)},
    }


def _volumes_by_loop(labels: np.ndarray) -> np.ndarray:
    return lesion_volumes_by_loop(lesion_ids_by_loop(labels))


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


def inverse_volume_weights_by_loop(ids: np.ndarray) -> np.ndarray:
    """Shirokikh et al., MICCAI 2020: w = N / ((K + 1) V), the background being a component too; float32."""
    weights = np.zeros(ids.shape, np.float32)
    components = np.unique(ids)
    for component in components:
        weights[ids == component] = ids.size / (len(components) * np.sum(ids == component))
    return np.clip(weights, 1.0, 2e5)
