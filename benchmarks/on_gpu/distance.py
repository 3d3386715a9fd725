"""The exact distance transform on the device, beside SciPy's: 2 x 3 masks of 128^3 voxels."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from benchmarks.harness import seconds_in_turns
from benchmarks.inputs import ct_labels
from nnunet_rw.losses.distance_transform import squared_distance, target_distances
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE

SPACING = (1.0, 1.0, 1.0)


def run(device: str = "cuda", size: int = 128, rounds: int = 30) -> list[dict[str, Any]]:
    masks = class_masks(size)
    on_device = masks.to(device)
    steps = {
        "distance to 6 masks": partial(_distance, on_device),
        "RRW's distance of 2 targets": partial(_rrw_distance, on_device),
    }
    references = {
        "distance to 6 masks": lambda: np.stack([_scipy(mask.numpy()) for mask in masks.flatten(0, 1)]),
        "RRW's distance of 2 targets": lambda: np.stack([_scipy_interior(sample.numpy()) for sample in masks]),
    }
    rows = []
    for name, step in steps.items():
        expected = torch.from_numpy(references[name]())
        error = (step().cpu().double().flatten() - expected.flatten()).abs().max()
        seconds = seconds_in_turns({"device": step}, rounds)["device"]
        scipy_seconds = seconds_in_turns({"scipy": references[name]}, rounds=2)["scipy"]
        rows.append(
            {
                "transform": name,
                "shape": list(masks.shape),
                "milliseconds": 1e3 * seconds,
                "scipy_milliseconds": 1e3 * scipy_seconds,
                "times_faster": scipy_seconds / seconds,
                "largest_error_voxels": float(error),
            }
        )
    return rows


def class_masks(size: int) -> torch.Tensor:
    """bool (2, 3, X, Y, Z): background, organ and lesions of two patients."""
    labels = torch.from_numpy(np.stack([ct_labels((size,) * 3, num_lesions=100, seed=seed) for seed in range(2)]))
    return torch.stack([labels == label for label in range(3)], 1)


def _distance(masks: torch.Tensor) -> torch.Tensor:
    # Not `distance_to`: on a CPU that is the library's.
    return _waited_for(squared_distance(masks, SPACING)[0].sqrt())


def _rrw_distance(masks: torch.Tensor) -> torch.Tensor:
    return _waited_for(target_distances(INTERIOR_DISTANCE, masks, None, False, SPACING))


def _waited_for(values: torch.Tensor) -> torch.Tensor:
    if values.is_cuda:
        torch.cuda.synchronize()
    return values


def _scipy(mask: np.ndarray) -> np.ndarray:
    return ndimage.distance_transform_edt(~mask)


def _scipy_interior(classes: np.ndarray) -> np.ndarray:
    return sum(ndimage.distance_transform_edt(mask) for mask in classes)
