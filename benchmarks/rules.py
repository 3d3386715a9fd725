"""All rules of a whole-body volume: its components at every threshold, and what each of 5 928 rules does with them."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from benchmarks.child import in_child
from benchmarks.memory import status_mib
from nnunet_rw.evaluation.metrics.rules import RuleGrid, rule_case, volumes_to_try

SHAPE = (512, 512, 600)
LESIONS = 2000
SPACING_MM = (1.0, 1.0, 1.0)


def run() -> list[dict[str, Any]]:
    """A row; in a process of its own, whose memory is counted with its two volumes."""
    one_thread = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return [in_child("benchmarks.rules", "measured", [list(SHAPE), LESIONS], one_thread)]


def measured(shape: list[int], lesions: int) -> dict[str, Any]:
    """Seconds of both steps on the processor, whatever else it does meanwhile, and the most memory of this process."""
    reference, probability = _volumes(tuple(shape), lesions)
    start = time.process_time()
    case = rule_case(reference, probability, SPACING_MM)
    components = time.process_time() - start
    grid = RuleGrid(volumes_to_try([case.voxel_mm3]))
    case.outcomes(grid)
    seconds = time.process_time() - start
    return {
        "voxels": "x".join(map(str, shape)),
        "lesions": len(case.lesion_voxels),
        "candidates": max(map(len, case.levels)),
        "voxels_above": int(case.levels[-1].voxels.sum()),
        "rules": len(grid),
        "seconds_components": components,
        "seconds": seconds,
        "peak_gib": status_mib("VmHWM") / 1024,
    }


def _volumes(shape: tuple[int, ...], lesions: int) -> tuple[np.ndarray, np.ndarray]:
    """Balls of 1 to 8 voxels' radius, and probabilities that fall from their middle, jagged; as many false ones."""
    rng = np.random.default_rng(0)
    reference, probability = np.zeros(shape, bool), np.zeros(shape, np.float32)
    margin = 16
    for number in range(2 * lesions):
        radius = float(rng.uniform(1, 8))
        size = int(np.ceil(1.6 * radius)) + 1
        centre = [int(rng.integers(margin, side - margin)) for side in shape]
        box = tuple(slice(place - size, place + size + 1) for place in centre)
        distance = np.sqrt(((np.indices((2 * size + 1,) * 3) - size) ** 2).sum(0)) / radius
        falling = rng.uniform(0.5, 1) * (1 - (distance / 1.6) ** 2) + rng.normal(0, 0.05, distance.shape)
        found = np.where(distance < 1.6, np.clip(falling, 0, 1), 0).astype(np.float32)
        probability[box] = np.maximum(probability[box], found)
        if number < lesions:
            reference[box] |= distance <= 1
    return reference, probability
