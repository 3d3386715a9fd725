"""Evaluating a case of 160^3 voxels with 60 lesions, beside others' code for the same figures.

Rivals are panoptica, DisTorch and surface-distance where they can be imported, see benchmarks/README.md. What is
defined alike has to be equal before anything is timed: panoptica's panoptic quality and Dice of lesions, and DisTorch's
surface distances between voxel centres. Surface distances of panoptica's lesions are not: it averages the means of both
directions, here both surfaces are pooled. Nor are surface-distance's, which are between corners of voxels.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np
from scipy import ndimage

from benchmarks.harness import seconds_in_turns
from nnunet_rw.evaluation.metrics.detection import panoptic_quality
from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.overlap import overlap
from nnunet_rw.evaluation.metrics.surface import surface_metrics

SURFACES = "HD, HD95, ASSD, NSD"
LESIONS_WITH_DISTANCES = "the same, HD95 and ASSD of lesions"
SIZE = 160
LESIONS = 60
SPACING_MM = (1.0, 1.0, 1.0)
# Between two distances that voxels can have, 1 and 1.41 mm, which float32 tells apart as well.
TOLERANCE_MM = 1.2


def run() -> list[dict]:
    reference, prediction = _masks()
    rows = []
    for name, module, ours, theirs, tolerance in (
        (SURFACES, "distorch", _our_surface, _distorch, 1e-3),
        (SURFACES, "surface_distance", _our_surface, _surface_distance, None),
        ("PQ, SQ, RQ, Dice, IoU of lesions", "panoptica", _our_lesions, _panoptica, 1e-9),
        (LESIONS_WITH_DISTANCES, "panoptica", _our_lesion_distances, _panoptica_distances, 1e-9),
    ):
        if find_spec(module) is None:
            rows.append({"figures": name, "rival": f"{module} is not installed"})
            continue
        steps: dict[str, Callable[[], Any]] = {
            "ours": lambda run=ours: run(reference, prediction),
            module: theirs(reference, prediction),
        }
        if tolerance is not None:
            _check_equal(name, module, steps["ours"](), steps[module](), tolerance)
        seconds = seconds_in_turns(steps, rounds=5)
        rows.append(
            {
                "figures": name,
                "rival": module,
                "our_seconds": seconds["ours"],
                "rival_seconds": seconds[module],
                "ratio": seconds["ours"] / seconds[module],
            }
        )
    return rows


def _masks() -> tuple[np.ndarray, np.ndarray]:
    """Balls of 2 to 8 voxels' radius; the prediction is moved by a voxel, misses some and adds some."""
    rng = np.random.default_rng(0)
    grid = np.indices((SIZE,) * 3, dtype=np.float32)
    reference = np.zeros((SIZE,) * 3, bool)
    for centre, radius in zip(rng.uniform(10, SIZE - 10, (LESIONS, 3)), rng.uniform(2, 8, LESIONS), strict=True):
        reference |= ((grid - centre[:, None, None, None]) ** 2).sum(0) <= radius**2
    prediction = np.roll(reference, 1, axis=0)
    ids, count = ndimage.label(prediction)
    prediction &= ~np.isin(ids, rng.choice(np.arange(1, count + 1), count // 5, replace=False))
    for centre in rng.uniform(10, SIZE - 10, (6, 3)):
        prediction |= ((grid - centre[:, None, None, None]) ** 2).sum(0) <= 9
    return reference, prediction


def _our_surface(reference: np.ndarray, prediction: np.ndarray) -> tuple[float, ...]:
    found = surface_metrics(reference, prediction, SPACING_MM, TOLERANCE_MM)
    return found.hd_mm, found.hd95_mm, found.assd_mm, found.nsd


def _our_lesions(reference: np.ndarray, prediction: np.ndarray, distances: bool = False) -> tuple[float, ...]:
    """PQ, SQ, RQ and mean Dice of matched lesions."""
    matches = match_lesions(reference, prediction, SPACING_MM, distances=distances)
    quality = panoptic_quality(matches, 0.5)
    _ = overlap(reference, prediction).dice
    return quality.pq, quality.sq, quality.rq, float(matches.pairs.dice[matches.pairs.iou > 0.5].mean())


def _our_lesion_distances(reference: np.ndarray, prediction: np.ndarray) -> tuple[float, ...]:
    return _our_lesions(reference, prediction, distances=True)


def _check_equal(
    figures: str, module: str, ours: tuple[float, ...], theirs: tuple[float, ...], tolerance: float
) -> None:
    if not np.allclose(ours, theirs, rtol=tolerance, atol=0):
        raise ValueError(f"Expected {figures} as {module} has them, {theirs}, but got {ours}.")


def _distorch(reference: np.ndarray, prediction: np.ndarray) -> Callable[[], tuple[float, ...]]:
    """Between all pairs of border voxels in float32, on the CPU."""
    import torch
    from distorch.metrics import pixel_center_metrics

    masks = [torch.from_numpy(mask)[None] for mask in (reference, prediction)]

    def step() -> tuple[float, ...]:
        found = pixel_center_metrics(*masks, element_size=SPACING_MM, distance_threshold=TOLERANCE_MM)
        hd95 = torch.maximum(found.Hausdorff95_1_to_2, found.Hausdorff95_2_to_1)
        assd, nsd = found.AverageSymmetricSurfaceDistance, found.NormalizedSymmetricSurfaceDistance
        return tuple(float(value) for value in (found.Hausdorff, hd95, assd, nsd))

    return step


def _surface_distance(reference: np.ndarray, prediction: np.ndarray) -> Callable[[], None]:
    from surface_distance import metrics

    def step() -> None:
        distances = metrics.compute_surface_distances(reference, prediction, SPACING_MM)
        metrics.compute_robust_hausdorff(distances, 100)
        metrics.compute_robust_hausdorff(distances, 95)
        metrics.compute_average_surface_distance(distances)
        metrics.compute_surface_dice_at_tolerance(distances, TOLERANCE_MM)

    return step


def _panoptica_distances(reference: np.ndarray, prediction: np.ndarray) -> Callable[[], tuple[float, ...]]:
    return _panoptica(reference, prediction, ("HD95", "ASSD"))


def _panoptica(
    reference: np.ndarray, prediction: np.ndarray, more: tuple[str, ...] = ()
) -> Callable[[], tuple[float, ...]]:
    from panoptica import (
        ConnectedComponentsInstanceApproximator,
        InputType,
        NaiveThresholdMatching,
        Panoptica_Evaluator,
    )
    from panoptica.metrics import Metric

    evaluator = Panoptica_Evaluator(
        expected_input=InputType.SEMANTIC,
        instance_approximator=ConnectedComponentsInstanceApproximator(),
        instance_matcher=NaiveThresholdMatching(),
        instance_metrics=[Metric.DSC, Metric.IOU, *(Metric[name] for name in more)],
        global_metrics=[Metric.DSC],
        verbose=False,
    )
    arrays = prediction.astype(np.uint8), reference.astype(np.uint8)

    def step() -> tuple[float, ...]:
        result = next(iter(evaluator.evaluate(*arrays).values()))
        return result.pq, result.sq, result.rq, result.sq_dsc

    return step
