"""Whole segmentations at every threshold of the probability: what is found, and what it costs.

FROC curves (`nnunet_rw.evaluation.metrics.froc`) fix the predicted lesions and drop them by score. Here lesions are
sought anew at each threshold, as a user would who segments with it: a trainer that marks nearly everything pays with
Dice and false positives at low thresholds, and what it finds at high ones is what it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_rw.evaluation.metrics.checks import as_masks
from nnunet_rw.evaluation.metrics.lesions import ROUNDING, Components, check_min_volume, largest, occurring
from nnunet_rw.evaluation.metrics.overlap import Overlap
from nnunet_rw.maps.checks import as_spacing
from nnunet_rw.maps.components import as_connectivity, connected_components, foreground_box

# Falling.
THRESHOLDS = tuple(float(value) for value in np.round([0.999, 0.99, *np.arange(0.975, 0.09, -0.025)], 3))
# As nnU-Net stores probabilities: 0.3 is not above 0.3.
_THRESHOLDS = np.array(THRESHOLDS, np.float32)


@dataclass(frozen=True)
class ThresholdedCase:
    """One class of one case, segmented at each of the T `THRESHOLDS`.

    Attributes
    ----------
    highest : float64 (L,)
        Of each counted reference lesion, the highest probability in it: by any overlap it is found at lower thresholds.
    volume_mm3 : float64 (L,)
    false_positives, hits : int64 (T,)
        Predicted lesions that touch no reference lesion, and those that touch a counted one.
    dice : float64 (T,)
        NaN where both masks are empty.
    """

    highest: np.ndarray
    volume_mm3: np.ndarray
    false_positives: np.ndarray
    hits: np.ndarray
    dice: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """Booleans (T, L)."""
        return self.highest > _THRESHOLDS[:, None]


@dataclass(frozen=True)
class OperatingPoints:
    """All cases at each of T falling thresholds.

    Attributes
    ----------
    thresholds : float64 (T,)
        Foreground is above.
    false_positives : float64 (T,)
        A case, those without a lesion included.
    recall, precision : float64 (T,)
        Of the pooled lesions, by any overlap; NaN without any.
    dice : float64 (T,)
        Mean over the cases where it is defined.
    """

    thresholds: np.ndarray
    false_positives: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    dice: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """float64 (T,): 2 PR / (P + R), 0 where nothing is found."""
        product, total = self.precision * self.recall, self.precision + self.recall
        return np.divide(2 * product, total, out=np.zeros(len(total)), where=total > 0)

    def within(self, false_positives: float) -> int | None:
        """Position of the best threshold with at most a given number of false positives per case, see `best`."""
        # Tables hold ten digits.
        return self.best(self.false_positives <= false_positives * (1 + ROUNDING))

    def best(self, allowed: np.ndarray) -> int | None:
        """Position of the allowed threshold of highest recall; of equal ones that of the better Dice, then the lowest.

        Below a threshold that is not allowed another is taken only where its Dice is better than that of the best one
        above: where false positives grow together, fewer of them mean no fewer mistakes, and Dice tells. So none is
        chosen that another allowed one beats in recall and in Dice.

        Parameters
        ----------
        allowed : booleans (T,)
            Such as those that keep within some false positives.

        Returns
        -------
        int or None
            None where there is none.
        """
        above = np.logical_and.accumulate(allowed)
        dice = np.nan_to_num(self.dice, nan=1.0)  # nothing is there and nothing segmented
        best = self._most_found(above) if above.any() else 0
        chosen = above | (allowed & (dice > dice[best]))
        return self._most_found(chosen) if chosen.any() else None

    def _most_found(self, chosen: np.ndarray) -> int:
        positions = np.flatnonzero(chosen)
        keys = positions, np.nan_to_num(self.dice[positions], nan=1.0), np.nan_to_num(self.recall[positions])
        return int(positions[np.lexsort(keys)[-1]])


def threshold_case(
    reference: np.ndarray,
    probability: np.ndarray,
    spacing_mm: Sequence[float],
    connectivity: int = 26,
    min_volume_mm3: float = 0.0,
    known: np.ndarray | None = None,
) -> ThresholdedCase:
    """Segment one class of a case at each of `THRESHOLDS`, and count.

    Parameters
    ----------
    reference : boolean array (X, Y[, Z])
    probability : float array (X, Y[, Z])
        Of the foreground.
    spacing_mm, connectivity, min_volume_mm3, known
        As for `nnunet_rw.evaluation.metrics.lesions.match_lesions`, which finds and counts the same lesions.

    Raises
    ------
    ValueError
        If an array is not of the reference's shape or kind, a probability NaN or an option impossible.

    Notes
    -----
    Probabilities are compared in single precision, in which nnU-Net stores them.

    Examples
    --------
    >>> case = threshold_case(np.array([[True, False, False]]), np.array([[0.6, 0.0, 0.3]]), (1, 1))
    >>> both = [THRESHOLDS.index(0.5), THRESHOLDS.index(0.2)]
    >>> case.found[both].tolist(), case.false_positives[both].tolist()
    ([[True], [True]], [0, 1])
    """
    (reference,) = as_masks(reference=reference)
    spacing = as_spacing(spacing_mm, reference.ndim)
    connectivity = as_connectivity(connectivity, reference.ndim)
    probability = np.asarray(probability)
    if probability.shape != reference.shape or probability.dtype.kind != "f":
        raise ValueError(
            f"Expected probabilities of shape {reference.shape}, but got {probability.dtype} of {probability.shape}."
        )
    if np.isnan(probability).any():
        raise ValueError("Expected probabilities, but got NaN.")
    check_min_volume(min_volume_mm3)
    probability = probability.astype(np.float32, copy=False)
    if known is not None:
        _, known = as_masks(reference=reference, known=known)
        reference, probability = reference & known, np.where(known, probability, np.float32(0))
    box = foreground_box(reference | (probability > _THRESHOLDS[-1])) or (slice(0, 1),) * reference.ndim
    reference, probability = reference[box], probability[box]
    lesions = Components(reference, connectivity)
    volume_mm3 = lesions.voxels * float(np.prod(spacing))
    counted = volume_mm3 >= min_volume_mm3 * (1 - ROUNDING)
    counts = [_count(lesions, counted, probability > threshold, connectivity) for threshold in _THRESHOLDS]
    false_positives, hits, dice = (np.array(values) for values in zip(*counts, strict=True))
    highest = largest(lesions.lesion, probability.ravel()[lesions.where], len(lesions))
    return ThresholdedCase(highest[counted], volume_mm3[counted], false_positives, hits, dice)


def operating_points(cases: Sequence[ThresholdedCase]) -> OperatingPoints:
    """Pool cases.

    Raises
    ------
    ValueError
        If there is none.

    Examples
    --------
    >>> case = threshold_case(np.array([[True, False, False]]), np.array([[0.6, 0.0, 0.3]]), (1, 1))
    >>> operating_points([case]).precision[[THRESHOLDS.index(0.5), THRESHOLDS.index(0.2)]]
    array([1. , 0.5])
    """
    if not cases:
        raise ValueError("Expected at least one case, but got none.")
    false_positives, hits = (sum(getattr(case, name) for case in cases) for name in ("false_positives", "hits"))
    found = np.concatenate([case.found for case in cases], axis=1)
    dice = np.array([case.dice for case in cases])
    defined = ~np.isnan(dice)
    return OperatingPoints(
        thresholds=np.array(THRESHOLDS),
        false_positives=false_positives / len(cases),
        recall=_ratio(found.sum(axis=1), np.full(len(THRESHOLDS), found.shape[1])),
        precision=_ratio(hits, hits + false_positives),
        dice=_ratio(np.where(defined, dice, 0).sum(axis=0), defined.sum(axis=0)),
    )


def _count(
    lesions: Components, counted: np.ndarray, prediction: np.ndarray, connectivity: int
) -> tuple[int, int, float]:
    """False positives, hits and Dice."""
    ids = connected_components(prediction.view(np.uint8), connectivity)
    size = int(ids.max(initial=0)) + 1
    within = ids.ravel()[lesions.where]
    touching = occurring(within, size)[1:]
    hits = occurring(within[counted[lesions.lesion]], size)[1:]
    both = int((within > 0).sum())
    only_predicted = int(np.count_nonzero(ids)) - both
    dice = Overlap(tp=both, fp=only_predicted, fn=len(within) - both, tn=0).dice
    return int((~touching).sum()), int(hits.sum()), dice


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
