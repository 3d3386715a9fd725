"""Rules that make a segmentation of probabilities (a threshold, hysteresis, a smallest volume), and what each does.

With any-overlap matching and a low threshold, components swallow several lesions at once and all of them count as
found. A rule is therefore judged by one-to-one matching, where a component finds one lesion at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from nnunet_rw.evaluation.metrics.component_tree import LevelComponents, component_levels
from nnunet_rw.evaluation.metrics.detection import Rule as Matching
from nnunet_rw.evaluation.metrics.lesions import MATCH_IOU, ROUNDING, assign_one_to_one, check_min_volume
from nnunet_rw.evaluation.metrics.probabilities import THRESHOLDS, OperatingPoints
from nnunet_rw.maps.arrays import as_connectivity, as_masks, as_spacing, connected_components, foreground_box


class DecisionRule(NamedTuple):
    """Foreground is above ``low``, in components whose peak is above ``high`` and that have ``min_volume_mm3`` or more.

    One threshold is a rule whose two thresholds are equal. A volume is an area in two dimensions.
    """

    low: float
    high: float
    min_volume_mm3: float = 0.0

    def text(self, unit: str = "mm3") -> str:
        """In words; the unit is that of `nnunet_rw.evaluation.units.size_unit`."""
        text = f"above {self.low:g}"
        if self.high != self.low:
            text += f", peak above {self.high:g}"
        return text + (f", from {self.min_volume_mm3:.4g} {unit}" if self.min_volume_mm3 else "")

    def __str__(self) -> str:
        return self.text()


# Whether the two thresholds may differ, and whether small components may go; from the simplest on.
FAMILIES = {
    "single": (False, False),
    "single_volume": (False, True),
    "hysteresis": (True, False),
    "hysteresis_volume": (True, True),
}


@dataclass(frozen=True)
class RuleGrid:
    """All K rules that are tried: every two thresholds of which the first is not above the second, and every volume.

    Attributes
    ----------
    volumes_mm3 : tuple of float
        Rising, from 0.
    thresholds : tuple of float
        Falling.
    """

    volumes_mm3: tuple[float, ...]
    thresholds: tuple[float, ...] = THRESHOLDS

    def __len__(self) -> int:
        return self.places.shape[1]

    @cached_property
    def places(self) -> np.ndarray:
        """int64 (3, K): positions of the lower threshold, the higher one and the volume, in the order of the rules."""
        shape = len(self.thresholds), len(self.thresholds), len(self.volumes_mm3)
        low, high, volume = np.indices(shape).reshape(3, -1)
        return np.stack([low, high, volume])[:, high <= low]

    def rule(self, index: int) -> DecisionRule:
        low, high, volume = self.places[:, index]
        return DecisionRule(self.thresholds[low], self.thresholds[high], self.volumes_mm3[volume])

    def family(self, name: str) -> np.ndarray:
        """Booleans (K,): the rules of one of `FAMILIES`."""
        hysteresis, volumes = FAMILIES[name]
        low, high, volume = self.places
        return (hysteresis | (high == low)) & (volumes | (volume == 0))


def volumes_to_try(voxels_mm3: Sequence[float]) -> tuple[float, ...]:
    """Smallest volumes of 0 and of 2 to 34 of the largest voxels.

    Examples
    --------
    >>> volumes_to_try([1.0, 0.5])
    (0.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0)
    """
    largest = max(voxels_mm3)
    return (0.0, *(number * largest for number in (2, 3, 5, 8, 13, 21, 34)))


class Outcomes(NamedTuple):
    """One class under K rules, or of N cases under one rule each.

    Attributes
    ----------
    found : integers
        Counted reference lesions that are found.
    right, false_positives : integers
        Predicted lesions, by whether they find one. Those that touch ignored lesions alone are neither.
    dice : floats
        NaN where both masks are empty.
    """

    found: np.ndarray
    right: np.ndarray
    false_positives: np.ndarray
    dice: np.ndarray


@dataclass(frozen=True)
class Decided:
    """One class of one case as a rule, or a model, segments it.

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

    @property
    def num_found(self) -> int:
        return int(self.found.sum())


@dataclass(frozen=True)
class RuleCase:
    """What is needed of one class of one case to tell what any rule does in it: no voxels, only components.

    Attributes
    ----------
    levels : tuple of LevelComponents
        By threshold.
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

    def outcomes(self, grid: RuleGrid, matching: Matching = "one_to_one") -> Outcomes:
        """What each of the K rules of a grid does: (K,) each. The grid has the thresholds of the levels."""
        per_low = [self._at_low(position, grid, matching) for position in range(len(self.levels))]
        found, right, false, shared, predicted = (np.concatenate(part) for part in zip(*per_low, strict=True))
        return Outcomes(found, right, false, ratio(2 * shared, predicted + int(self.lesion_voxels.sum())))

    def decided(self, rule: DecisionRule, matching: Matching = "one_to_one") -> Decided:
        """What a rule does, lesion by lesion; its lower threshold is that of a level."""
        level = next(level for level in self.levels if level.threshold == np.float32(rule.low))
        kept = level.peak > np.float32(rule.high)
        kept &= level.voxels * self.voxel_mm3 * (1 + ROUNDING) >= rule.min_volume_mm3
        of_kept = kept[level.component]
        component, lesion, shared = (values[of_kept] for values in (level.component, level.lesion, level.shared))
        touching = np.bincount(component, minlength=len(level)) > 0
        of_counted = self.counted[lesion]
        hits = np.bincount(component[of_counted], minlength=len(level)) > 0
        pairs = component[of_counted], lesion[of_counted]
        if matching == "one_to_one":
            iou = _iou(*pairs, shared[of_counted], level.voxels, self.lesion_voxels)
            partners = iou >= MATCH_IOU
            partners[partners] = assign_one_to_one(pairs[0][partners], pairs[1][partners], iou[partners])
            pairs = pairs[0][partners], pairs[1][partners]
        right = np.bincount(pairs[0], minlength=len(level)) > 0
        found = np.bincount(pairs[1], minlength=len(self.counted)) > 0
        false_positives = int((kept & ~touching).sum() + hits.sum() - right.sum())
        total = int(level.voxels[kept].sum() + self.lesion_voxels.sum())
        dice = 2 * int(shared.sum()) / total if total else float("nan")
        return Decided(found[self.counted], int(right.sum()), false_positives, dice)

    def _at_low(self, position: int, grid: RuleGrid, matching: Matching) -> tuple[np.ndarray, ...]:
        """Found, right and false lesions, shared and predicted voxels of the rules of one lower threshold, in order."""
        level = self.levels[position]
        # A component is kept by the rules from this position on of the higher threshold, up to that of the volume.
        from_high = np.searchsorted(-np.asarray(grid.thresholds, np.float32), -level.peak, side="right")
        volume = level.voxels * self.voxel_mm3 * (1 + ROUNDING)
        to_volume = np.searchsorted(np.asarray(grid.volumes_mm3), volume, side="right") - 1
        shape = position + 1, len(grid.volumes_mm3)

        def kept_sum(chosen: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
            here = from_high[chosen] * shape[1] + to_volume[chosen]
            table = np.bincount(here, weights, shape[0] * shape[1]).reshape(shape)
            return np.rint(_from_corner(table)).astype(np.int64)

        predicted = kept_sum(np.arange(len(level)), level.voxels)
        shared = kept_sum(level.component, level.shared)
        of_counted = self.counted[level.lesion]
        component, lesion, overlap = (values[of_counted] for values in (level.component, level.lesion, level.shared))
        untouched = kept_sum(np.flatnonzero(np.bincount(level.component, minlength=len(level)) == 0))
        hits = kept_sum(np.flatnonzero(np.bincount(component, minlength=len(level))))
        if matching == "any_overlap":
            found = _number_kept(lesion, from_high[component], to_volume[component], shape)
            return found.ravel(), hits.ravel(), untouched.ravel(), shared.ravel(), predicted.ravel()
        iou = _iou(component, lesion, overlap, level.voxels, self.lesion_voxels)
        near = iou >= MATCH_IOU
        found = _number_assigned(component[near], lesion[near], iou[near], from_high, to_volume, shape)
        return found.ravel(), found.ravel(), (untouched + hits - found).ravel(), shared.ravel(), predicted.ravel()


def rule_case(
    reference: np.ndarray,
    probability: np.ndarray,
    spacing_mm: Sequence[float],
    connectivity: int = 26,
    min_volume_mm3: float = 0.0,
    known: np.ndarray | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
) -> RuleCase:
    """Read the components of a case once.

    Parameters
    ----------
    reference : boolean array (X, Y[, Z])
    probability : float array (X, Y[, Z])
        Of the foreground. Compared in single precision, in which nnU-Net stores it.
    spacing_mm, connectivity, min_volume_mm3, known
        As for `nnunet_rw.evaluation.metrics.lesions.match_lesions`, which finds and counts the same lesions.
    thresholds : sequence of float
        Falling.

    Raises
    ------
    ValueError
        If an array is not of the reference's shape or kind, a probability NaN or an option impossible.

    Examples
    --------
    >>> case = rule_case(np.array([[True, False, False]]), np.array([[0.6, 0.0, 0.3]]), (1, 1))
    >>> [case.decided(DecisionRule(at, at)).false_positives for at in (0.5, 0.2)]
    [0, 1]
    """
    (reference,) = as_masks(reference=reference)
    voxel_mm3 = float(np.prod(as_spacing(spacing_mm, reference.ndim)))
    connectivity = as_connectivity(connectivity, reference.ndim)
    probability = np.asarray(probability)
    if probability.shape != reference.shape or probability.dtype.kind != "f":
        raise ValueError(
            f"Expected probabilities of shape {reference.shape}, but got {probability.dtype} of {probability.shape}."
        )
    if np.isnan(probability.max(initial=0)):
        raise ValueError("Expected probabilities, but got NaN.")
    check_min_volume(min_volume_mm3)
    if known is not None:
        _, known = as_masks(reference=reference, known=known)
        reference, probability = reference & known, np.where(known, probability, 0)
    box = foreground_box(reference | (probability > np.float32(thresholds[-1]))) or (slice(0, 1),) * reference.ndim
    reference, probability = reference[box], probability[box].astype(np.float32, copy=False)
    ids = connected_components(reference.view(np.uint8), connectivity)
    voxels = np.bincount(ids.ravel())[1:]
    counted = voxels * voxel_mm3 >= min_volume_mm3 * (1 - ROUNDING)
    return RuleCase(tuple(component_levels(probability, thresholds, connectivity, ids)), voxels, counted, voxel_mm3)


def operating_points(cases: Sequence[RuleCase]) -> OperatingPoints:
    """Pool cases at each of `THRESHOLDS`, lesions found by any overlap.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> case = rule_case(np.array([[True, False, False]]), np.array([[0.6, 0.0, 0.3]]), (1, 1))
    >>> operating_points([case]).precision[[THRESHOLDS.index(0.5), THRESHOLDS.index(0.2)]]
    array([1. , 0.5])
    """
    if not cases:
        raise ValueError("Expected at least one case, but got none.")
    at_each = [pooled([case.decided(DecisionRule(at, at), "any_overlap") for case in cases]) for at in THRESHOLDS]
    outcomes = Outcomes(*(np.stack(values, axis=1) for values in zip(*at_each, strict=True)))
    found, right, false = (values.sum(axis=0) for values in outcomes[:3])
    lesions = np.full(len(THRESHOLDS), sum(int(case.counted.sum()) for case in cases))
    return OperatingPoints(
        thresholds=np.array(THRESHOLDS),
        false_positives=false / len(cases),
        recall=ratio(found, lesions),
        precision=ratio(right, right + false),
        dice=mean_dice(outcomes.dice),
    )


def pooled(decided: Sequence[Decided]) -> Outcomes:
    """(N,) each, of N cases.

    Examples
    --------
    >>> one = Decided(np.array([True, False]), right=1, false_positives=3, dice=0.5)
    >>> pooled([one, one]).false_positives.tolist()
    [3, 3]
    """
    columns = [(item.num_found, item.right, item.false_positives, item.dice) for item in decided]
    found, right, false, dice = zip(*columns, strict=True)
    return Outcomes(np.array(found), np.array(right), np.array(false), np.array(dice))


def mean_dice(dice: np.ndarray) -> np.ndarray:
    """Over the first axis, where it is defined; NaN where nowhere.

    Examples
    --------
    >>> mean_dice(np.array([[0.5, np.nan], [0.7, np.nan]])).tolist()
    [0.6, nan]
    """
    defined = ~np.isnan(dice)
    return ratio(np.where(defined, dice, 0).sum(0), defined.sum(0))


def ratio(part: np.ndarray, whole: np.ndarray, otherwise: float = np.nan) -> np.ndarray:
    """Element by element; something else where there is no whole.

    Examples
    --------
    >>> ratio(np.array([1, 0]), np.array([2, 0]), otherwise=0.0)
    array([0.5, 0. ])
    """
    return np.divide(part, whole, out=np.full(np.shape(whole), otherwise), where=np.asarray(whole) > 0)


def apply_rule(probability: np.ndarray, rule: DecisionRule, voxel_mm3: float, connectivity: int = 26) -> np.ndarray:
    """The mask that a rule makes of probabilities: boolean (X, Y[, Z]).

    Examples
    --------
    >>> row = np.array([[0.4, 0.9, 0.0, 0.4]], np.float32)
    >>> apply_rule(row, DecisionRule(0.3, 0.8), 1.0)
    array([[ True,  True, False, False]])
    """
    probability = probability.astype(np.float32, copy=False)
    mask = probability > np.float32(rule.low)
    seeds = probability > np.float32(rule.high) if rule.high != rule.low else None
    return kept_components(mask, voxel_mm3, rule.min_volume_mm3, connectivity, seeds)


def kept_components(
    mask: np.ndarray,
    voxel_mm3: float,
    min_volume_mm3: float = 0.0,
    connectivity: int = 26,
    seeds: np.ndarray | None = None,
) -> np.ndarray:
    """The components of a mask that are no smaller than a volume, and hold a seed.

    Parameters
    ----------
    mask : boolean array (X, Y[, Z])
    voxel_mm3 : float
        mm2 in two dimensions.
    min_volume_mm3 : float
        A component of exactly this volume stays.
    connectivity : int
        6, 18 or 26; 4 or 8 in two dimensions, where 6 and 26 mean these.
    seeds : boolean array (X, Y[, Z]), optional
        Default: every component has one.

    Examples
    --------
    >>> kept_components(np.array([[True, True, False, True]]), 1.0, min_volume_mm3=2.0)
    array([[ True,  True, False, False]])
    """
    connectivity = as_connectivity(connectivity, mask.ndim)
    if seeds is None and min_volume_mm3 <= 0:
        return mask
    ids = connected_components(mask.view(np.uint8), connectivity)
    voxels = np.bincount(ids.ravel())
    keep = voxels * voxel_mm3 * (1 + ROUNDING) >= min_volume_mm3
    if seeds is not None:
        keep &= np.bincount(ids[seeds], minlength=len(voxels)) > 0
    keep[0] = False
    return keep[ids]


def _from_corner(table: np.ndarray) -> np.ndarray:
    """Of what is kept from a position of the threshold on, up to one of the volume: all that is kept there."""
    return table.cumsum(0)[:, ::-1].cumsum(1)[:, ::-1]


def _iou(
    component: np.ndarray, lesion: np.ndarray, shared: np.ndarray, component_voxels: np.ndarray, voxels: np.ndarray
) -> np.ndarray:
    return shared / (component_voxels[component] + voxels[lesion] - shared)


def _number_kept(
    lesion: np.ndarray, from_high: np.ndarray, to_volume: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """(H, V) lesions of which one of their components is kept."""
    number = np.zeros(shape, np.int64)
    for high, volume in np.ndindex(shape):
        number[high, volume] = len(np.unique(lesion[(from_high <= high) & (to_volume >= volume)]))
    return number


def _number_assigned(
    component: np.ndarray,
    lesion: np.ndarray,
    iou: np.ndarray,
    from_high: np.ndarray,
    to_volume: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """(H, V) pairs of the one-to-one assignment among the kept components."""
    contested = np.zeros(len(component), bool)
    if len(component):
        contested = (np.bincount(component)[component] > 1) | (np.bincount(lesion)[lesion] > 1)
    # Who has no rival is assigned wherever it is kept; only the others depend on who else is.
    alone = component[~contested]
    here = from_high[alone] * shape[1] + to_volume[alone]
    number = _from_corner(np.bincount(here, minlength=shape[0] * shape[1]).reshape(shape))
    if not contested.any():
        return number
    component, lesion, iou = component[contested], lesion[contested], iou[contested]
    first, last = from_high[component], to_volume[component]
    known: dict[bytes, int] = {}
    for high, volume in np.ndindex(shape):
        kept = (first <= high) & (last >= volume)
        if kept.any():
            key = kept.tobytes()
            if key not in known:
                known[key] = int(assign_one_to_one(component[kept], lesion[kept], iou[kept]).sum())
            number[high, volume] += known[key]
    return number
