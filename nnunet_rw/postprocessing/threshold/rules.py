"""Rules that make a segmentation of probabilities (a threshold, hysteresis, a smallest volume), and what each does.

With any-overlap matching and a low threshold, components swallow several lesions at once and all of them count as
found. A rule is therefore judged by one-to-one matching, where a component finds one lesion at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nnunet_rw.evaluation.metrics.component_tree import LevelComponents, component_levels
from nnunet_rw.evaluation.metrics.detection import Rule as Matching
from nnunet_rw.evaluation.metrics.lesions import MATCH_IOU, ROUNDING
from nnunet_rw.evaluation.metrics.matches import assign_one_to_one
from nnunet_rw.maps.components import as_connectivity, connected_components, foreground_box

# Falling; the lower and the higher threshold are two of them.
GRID = tuple(float(value) for value in np.round([0.995, 0.99, 0.98, *np.arange(0.95, 0.09, -0.05)], 3))


class DecisionRule(NamedTuple):
    """Foreground is above ``low``, in components whose peak is above ``high`` and that have ``min_volume_mm3`` or more.

    One threshold is a rule whose two thresholds are equal. A volume is an area in two dimensions.
    """

    low: float
    high: float
    min_volume_mm3: float = 0.0

    def __str__(self) -> str:
        text = f"above {self.low:g}"
        if self.high != self.low:
            text += f", peak above {self.high:g}"
        return text + (f", from {self.min_volume_mm3:.4g} mm3" if self.min_volume_mm3 else "")


@dataclass(frozen=True)
class RuleGrid:
    """All rules that are tried: L thresholds, each as the lower and as the higher one, and V smallest volumes.

    Attributes
    ----------
    thresholds : tuple of float (L,)
        Falling.
    volumes_mm3 : tuple of float (V,)
        Rising, from 0.
    """

    thresholds: tuple[float, ...]
    volumes_mm3: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        return len(self.thresholds), len(self.thresholds), len(self.volumes_mm3)

    def rule(self, low: int, high: int, volume: int) -> DecisionRule:
        """At a position of an array of this shape."""
        return DecisionRule(self.thresholds[low], self.thresholds[high], self.volumes_mm3[volume])

    def allowed(self, hysteresis: bool, volumes: bool) -> np.ndarray:
        """Booleans (L, L, V): the rules of a family. The higher threshold comes first, so high <= low in position."""
        low, high, volume = np.indices(self.shape)
        return (high <= low if hysteresis else high == low) & (volumes | (volume == 0))


@dataclass(frozen=True)
class RuleOutcomes:
    """One class of one case under every rule of a grid: arrays (L, L, V), meaningless where high is below low.

    Attributes
    ----------
    false_positives, right : int64
        Predicted lesions, by whether they match none. Those that touch ignored lesions alone are neither.
    found : int64
        Reference lesions that are counted and matched.
    shared, predicted : int64
        Voxels: of prediction and reference both, and predicted.
    num_lesions, reference : int
        Counted lesions, and voxels of all lesions.
    """

    false_positives: np.ndarray
    right: np.ndarray
    found: np.ndarray
    shared: np.ndarray
    predicted: np.ndarray
    num_lesions: int
    reference: int

    @property
    def dice(self) -> np.ndarray:
        """float64 (L, L, V): NaN where both masks are empty."""
        total = self.predicted + self.reference
        return np.divide(2 * self.shared, total, out=np.full(total.shape, np.nan), where=total > 0)


@dataclass(frozen=True)
class Decided:
    """One class of one case as a rule segments it.

    Attributes
    ----------
    found : boolean (R,)
        Counted reference lesions.
    right, false_positives : int
        Predicted lesions.
    dice : float
        NaN where both masks are empty.
    """

    found: np.ndarray
    right: int
    false_positives: int
    dice: float


@dataclass(frozen=True)
class RuleCase:
    """What is needed of one class of one case to tell what any rule does in it: no voxels, only components.

    Attributes
    ----------
    levels : tuple of LevelComponents
        Of the thresholds of a grid.
    lesion_voxels : int64 (R,)
        Of the reference's lesions.
    counted : boolean (R,)
        Those that are not too small to count.
    voxel_mm3 : float
    """

    levels: tuple[LevelComponents, ...]
    lesion_voxels: np.ndarray
    counted: np.ndarray
    voxel_mm3: float

    @property
    def volume_mm3(self) -> np.ndarray:
        """float64 (L,) of the counted lesions."""
        return self.lesion_voxels[self.counted] * self.voxel_mm3

    def outcomes(self, grid: RuleGrid, matching: Matching = "one_to_one") -> RuleOutcomes:
        """What every rule of a grid does."""
        per_low = [
            _at_low(level, grid, self.lesion_voxels, self.counted, self.voxel_mm3, matching) for level in self.levels
        ]
        false, right, found, shared, predicted = (np.stack(part) for part in zip(*per_low, strict=True))
        return RuleOutcomes(
            false, right, found, shared, predicted, int(self.counted.sum()), int(self.lesion_voxels.sum())
        )

    def decided(self, grid: RuleGrid, place: tuple[int, int, int], matching: Matching = "one_to_one") -> Decided:
        """What the rule at a place of the grid does, lesion by lesion."""
        rule, level = grid.rule(*place), self.levels[place[0]]
        kept = level.peak > np.float32(rule.high)
        kept &= level.voxels * self.voxel_mm3 * (1 + ROUNDING) >= rule.min_volume_mm3
        of_kept = kept[level.component]
        component, lesion, shared = (values[of_kept] for values in (level.component, level.lesion, level.shared))
        touching = np.bincount(component, minlength=len(level)) > 0
        of_counted = self.counted[lesion]
        hits = np.bincount(component[of_counted], minlength=len(level)) > 0
        pairs = component[of_counted], lesion[of_counted], shared[of_counted]
        if matching == "one_to_one":
            pairs = _partners(*pairs, level.voxels, self.lesion_voxels)
        right = np.bincount(pairs[0], minlength=len(level)) > 0
        found = np.bincount(pairs[1], minlength=len(self.counted)) > 0
        false_positives = int((kept & ~touching).sum() + hits.sum() - right.sum())
        predicted, reference = int(level.voxels[kept].sum()), int(self.lesion_voxels.sum())
        total = predicted + reference
        dice = 2 * int(shared.sum()) / total if total else float("nan")
        return Decided(found[self.counted], int(right.sum()), false_positives, dice)


def rule_case(
    reference: np.ndarray,
    probability: np.ndarray,
    voxel_mm3: float,
    thresholds: Sequence[float],
    connectivity: int = 26,
    min_volume_mm3: float = 0.0,
) -> RuleCase:
    """Read the components of a case once.

    Parameters
    ----------
    reference : boolean array (X, Y[, Z])
    probability : float array (X, Y[, Z])
        Both without what the reference does not know.
    voxel_mm3 : float
    thresholds : sequence of float
        Of a grid: falling.
    connectivity, min_volume_mm3
        As for `nnunet_rw.evaluation.metrics.lesions.match_lesions`: the volume is that of reference lesions that count.
    """
    connectivity = as_connectivity(connectivity, reference.ndim)
    box = foreground_box(reference | (probability > np.float32(thresholds[-1]))) or (slice(0, 1),) * reference.ndim
    reference, probability = reference[box], probability[box]
    ids = connected_components(reference.view(np.uint8), connectivity)
    voxels = np.bincount(ids.ravel())[1:]
    counted = voxels * voxel_mm3 >= min_volume_mm3 * (1 - ROUNDING)
    return RuleCase(tuple(component_levels(probability, thresholds, connectivity, ids)), voxels, counted, voxel_mm3)


def _at_low(
    level: LevelComponents,
    grid: RuleGrid,
    lesion_voxels: np.ndarray,
    counted: np.ndarray,
    voxel_mm3: float,
    matching: Matching,
) -> tuple[np.ndarray, ...]:
    """False positives, right ones, lesions found, shared and predicted voxels: (L, V) each, by peak and volume."""
    # A component is kept by the rules from this position on of the higher threshold, up to that of the volume.
    thresholds = np.asarray(grid.thresholds, np.float32)
    from_high = np.searchsorted(-thresholds, -level.peak, side="right")
    volume = level.voxels * voxel_mm3 * (1 + ROUNDING)
    to_volume = np.searchsorted(np.asarray(grid.volumes_mm3), volume, side="right") - 1
    shape = len(grid.thresholds), len(grid.volumes_mm3)

    def kept_sum(chosen: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        table = np.zeros(shape, np.int64)
        here = from_high[chosen], to_volume[chosen]
        inside = (here[0] < shape[0]) & (here[1] >= 0)
        values = 1 if weights is None else weights[inside]
        np.add.at(table, (here[0][inside], here[1][inside]), values)
        return table.cumsum(0)[:, ::-1].cumsum(1)[:, ::-1]

    everything = np.arange(len(level))
    predicted = kept_sum(everything, level.voxels)
    shared = kept_sum(level.component, level.shared)
    touching = np.bincount(level.component, minlength=len(level)) > 0
    of_counted = counted[level.lesion]
    touching_counted = np.bincount(level.component[of_counted], minlength=len(level)) > 0
    untouched = kept_sum(np.flatnonzero(~touching))
    hits = kept_sum(np.flatnonzero(touching_counted))
    component, lesion, overlap = (values[of_counted] for values in (level.component, level.lesion, level.shared))
    if matching == "any_overlap":
        return untouched, hits, _lesions_touched(component, lesion, from_high, to_volume, shape), shared, predicted
    iou = _iou(component, lesion, overlap, level.voxels, lesion_voxels)
    near = iou >= MATCH_IOU
    found = _assigned(component[near], lesion[near], iou[near], from_high, to_volume, shape)
    return untouched + hits - found, found, found, shared, predicted


def _iou(
    component: np.ndarray, lesion: np.ndarray, shared: np.ndarray, component_voxels: np.ndarray, voxels: np.ndarray
) -> np.ndarray:
    return shared / (component_voxels[component] + voxels[lesion] - shared)


def _partners(
    component: np.ndarray, lesion: np.ndarray, shared: np.ndarray, component_voxels: np.ndarray, voxels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pairs of the one-to-one assignment."""
    iou = _iou(component, lesion, shared, component_voxels, voxels)
    chosen = iou >= MATCH_IOU
    chosen[chosen] = assign_one_to_one(component[chosen], lesion[chosen], iou[chosen])
    return component[chosen], lesion[chosen], shared[chosen]


def _lesions_touched(
    component: np.ndarray, lesion: np.ndarray, from_high: np.ndarray, to_volume: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """(L, V) lesions that a kept component touches."""
    found = np.zeros(shape, np.int64)
    for high, volume in np.ndindex(shape):
        kept = (from_high[component] <= high) & (to_volume[component] >= volume)
        found[high, volume] = len(np.unique(lesion[kept]))
    return found


def _assigned(
    component: np.ndarray,
    lesion: np.ndarray,
    iou: np.ndarray,
    from_high: np.ndarray,
    to_volume: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """(L, V) pairs of the one-to-one assignment among the kept components."""
    found = np.zeros(shape, np.int64)
    if len(component) == 0:
        return found
    contested = (np.bincount(component)[component] > 1) | (np.bincount(lesion)[lesion] > 1)
    # Who has no rival is assigned wherever it is kept; only the others depend on who else is.
    for high, volume in np.ndindex(shape):
        kept = (from_high[component] <= high) & (to_volume[component] >= volume)
        found[high, volume] = int((kept & ~contested).sum())
        rivals = kept & contested
        if rivals.any():
            found[high, volume] += int(assign_one_to_one(component[rivals], lesion[rivals], iou[rivals]).sum())
    return found


def volumes_to_try(voxels_mm3: Sequence[float]) -> tuple[float, ...]:
    """Smallest volumes of 0 and of 2 to 34 of the largest voxels."""
    largest = max(voxels_mm3)
    return (0.0, *(number * largest for number in (2, 3, 5, 8, 13, 21, 34)))


def apply_rule(probability: np.ndarray, rule: DecisionRule, voxel_mm3: float, connectivity: int = 26) -> np.ndarray:
    """The mask that a rule makes of probabilities: boolean (X, Y[, Z])."""
    connectivity = as_connectivity(connectivity, probability.ndim)
    probability = probability.astype(np.float32, copy=False)
    mask = probability > np.float32(rule.low)
    if rule.high == rule.low and not rule.min_volume_mm3:
        return mask
    ids = connected_components(mask.view(np.uint8), connectivity)
    voxels = np.bincount(ids.ravel())
    seeds = np.bincount(ids.ravel()[probability.ravel() > np.float32(rule.high)], minlength=len(voxels)) > 0
    keep = seeds & (voxels * voxel_mm3 * (1 + ROUNDING) >= rule.min_volume_mm3)
    keep[0] = False
    return keep[ids]
