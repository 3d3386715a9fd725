"""Lesions of a reference and of a prediction: what is known of each, their pairs, and one-to-one assignment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix, csgraph

from nnunet_rw.evaluation.metrics.surface import border_points, distances_between, neighbour_axes, of_distances
from nnunet_rw.maps.arrays import as_connectivity, as_masks, as_spacing, connected_components, foreground_box

# Far below the smallest IoU that is ever assigned, far above the rounding of a sum of IoUs.
_TIE = 1e-9


def assign_one_to_one(reference: np.ndarray, predicted: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """The pairs of the one-to-one assignment with the largest sum of IoU (Hungarian method).

    Of assignments whose sums agree to about 1e-9 the one with more pairs wins, then the one with the larger sum of
    squared IoU. What is still tied then has the same number of pairs and the same IoUs; the order of the pairs decides.

    Only lesions that are connected through pairs compete, so each connected block of the overlap graph is solved on its
    own: a block of one pair needs no solver, and the others are small however many lesions there are.

    Parameters
    ----------
    reference, predicted : integer array (P,)
        Index of the reference and of the predicted lesion of each candidate pair; no pair occurs twice.
    iou : float array (P,)
        In (0, 1].

    Returns
    -------
    boolean array (P,)
        True for the chosen pairs; every lesion is in at most one of them.

    Examples
    --------
    >>> assign_one_to_one(np.array([0, 0, 1]), np.array([0, 1, 1]), np.array([0.6, 0.5, 0.4]))
    array([ True, False,  True])
    """
    if len(iou) == 0:
        return np.zeros(0, bool)
    block = _blocks(reference, predicted)
    order = np.argsort(block, kind="stable")
    bounds = np.flatnonzero(np.diff(block[order], prepend=-1, append=-1))
    chosen = np.ones(len(iou), bool)
    for start, stop in pairwise(bounds):
        if stop - start > 1:
            pairs = order[start:stop]
            chosen[pairs] = _solve(reference[pairs], predicted[pairs], iou[pairs])
    return chosen


def _blocks(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Number of the connected part of the overlap graph that each pair lies in."""
    num_reference = reference.max() + 1
    num_lesions = num_reference + predicted.max() + 1
    edges = np.ones(len(reference), bool), (reference, predicted + num_reference)
    _, block = csgraph.connected_components(coo_matrix(edges, shape=(num_lesions, num_lesions)), directed=False)
    return block[reference]


def _solve(reference: np.ndarray, predicted: np.ndarray, iou: np.ndarray) -> np.ndarray:
    row_ids, rows = np.unique(reference, return_inverse=True)
    column_ids, columns = np.unique(predicted, return_inverse=True)
    gain = np.zeros((len(row_ids), len(column_ids)))
    gain[rows, columns] = iou + _TIE * (1 + iou**2 / 100)
    assigned = np.zeros(gain.shape, bool)
    assigned[linear_sum_assignment(gain, maximize=True)] = True
    return assigned[rows, columns]


@dataclass(frozen=True)
class Lesions:
    """The K lesions of one side, the reference or the prediction. The lesion at index i has id i + 1.

    Attributes
    ----------
    voxels : int64 (K,)
    volume_mm3 : float64 (K,)
        In mm2 where masks have two axes.
    centroid_mm : float64 (K, ndim)
        Per array axis, from the centre of the array's first voxel: mean index times spacing.
    counted : bool (K,)
        False for lesions that are neither right nor wrong; their `hit` and `matched` are False as well.
    hit : bool (K,)
        "Any overlap": shares a voxel with a counted lesion of the other side.
    matched : bool (K,)
        "One-to-one": has a partner in the assignment of largest total IoU, in which each pair's IoU is at least 0.1.
    dice : float64 (K,)
        With the one-to-one partner; 0 without one, NaN where not counted.
    iou : float64 (K,)
        The best with any one lesion of the other side, the partner or another; 0 for no hit, NaN where not counted.
    kind : str (K,)
        How it overlaps the other side, see `nnunet_rw.evaluation.metrics.lesions.match_lesions`.
    score : float64 (K,)
        Of a predicted lesion: the maximum of the score array over it, NaN without scores. Of a reference lesion: the
        highest of the predicted lesions that share a voxel with it, NaN where there is none or it is not counted.
    covered : float64 (K,)
        Share of its voxels that lesions of the other side hold, ignored ones among them; NaN where not counted.
    hd95_mm, assd_mm : float64 (K,)
        Surface distances to the one-to-one partner, see `nnunet_rw.evaluation.metrics.surface`; NaN without one, or
        where no distances were asked for.
    """

    voxels: np.ndarray
    volume_mm3: np.ndarray
    centroid_mm: np.ndarray
    counted: np.ndarray
    hit: np.ndarray
    matched: np.ndarray
    dice: np.ndarray
    iou: np.ndarray
    kind: np.ndarray
    score: np.ndarray
    covered: np.ndarray
    hd95_mm: np.ndarray
    assd_mm: np.ndarray

    def __len__(self) -> int:
        return len(self.voxels)


@dataclass(frozen=True)
class ReferenceLesions(Lesions):
    """Reference lesions; each is either ignored, hit or missed."""

    @property
    def ignored(self) -> np.ndarray:
        """Bool (K,): smaller than the minimum volume."""
        return ~self.counted

    @property
    def missed(self) -> np.ndarray:
        """Bool (K,): shares no voxel with the prediction."""
        return self.counted & ~self.hit


@dataclass(frozen=True)
class PredictedLesions(Lesions):
    """Predicted lesions, none of which is too small; each is either neutral, hit or a false positive."""

    @property
    def neutral(self) -> np.ndarray:
        """Bool (K,): shares voxels with ignored reference lesions alone."""
        return ~self.counted

    @property
    def false_positive(self) -> np.ndarray:
        """Bool (K,): shares no voxel with the reference."""
        return self.counted & ~self.hit


@dataclass(frozen=True)
class LesionPairs:
    """The P pairs of a counted reference lesion and a predicted lesion that share a voxel.

    Attributes
    ----------
    reference, predicted : int64 (P,)
        Index (id - 1) of the two lesions.
    voxels : int64 (P,)
        Shared.
    iou, dice : float64 (P,)
        Of the two lesions, in (0, 1].
    matched : bool (P,)
        In the one-to-one assignment.
    """

    reference: np.ndarray
    predicted: np.ndarray
    voxels: np.ndarray
    iou: np.ndarray
    dice: np.ndarray
    matched: np.ndarray

    def __len__(self) -> int:
        return len(self.voxels)


@dataclass(frozen=True)
class LesionMatches:
    """Reference and predicted lesions of one class in one case, and the pairs among them."""

    reference: ReferenceLesions
    predicted: PredictedLesions
    pairs: LesionPairs

    @property
    def false_positive_mm3(self) -> float:
        """Volume of the predicted lesions that touch no reference lesion; autoPET's with a connectivity of 18."""
        return float(self.predicted.volume_mm3[self.predicted.false_positive].sum())

    @property
    def missed_mm3(self) -> float:
        """Volume of the reference lesions that no prediction touches, autoPET's false negative volume."""
        return float(self.reference.volume_mm3[self.reference.missed].sum())


class Components:
    """The foreground voxels of a mask, each with the index of its lesion."""

    def __init__(self, mask: np.ndarray, connectivity: int):
        self.ids = connected_components(mask.view(np.uint8), connectivity)
        self.mask = mask
        self.where = np.flatnonzero(mask)
        self.lesion = self.ids.ravel()[self.where].astype(np.int64) - 1
        self.voxels = np.bincount(self.lesion)

    def __len__(self) -> int:
        return len(self.voxels)

    def measures(self, spacing: tuple[float, ...], box: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Voxels, volumes and centroids."""
        centroids = np.empty((len(self), len(box)))
        for axis, indices in enumerate(np.unravel_index(self.where, self.ids.shape)):
            mean = np.bincount(self.lesion, indices) / self.voxels
            centroids[:, axis] = (mean + box[axis].start) * spacing[axis]
        return self.voxels, self.voxels * float(np.prod(spacing)), centroids

    def maxima(self, score: np.ndarray | None) -> np.ndarray:
        """Highest score of each lesion."""
        if score is None:
            return np.full(len(self), np.nan)
        values = score[self.mask]
        if np.isnan(values).any():
            raise ValueError("Expected a score for every voxel of a lesion, but got NaN.")
        return largest(self.lesion, values, len(self))


def occurring(lesion: np.ndarray, size: int) -> np.ndarray:
    """Which lesions occur.

    Examples
    --------
    >>> occurring(np.array([0, 2, 2]), size=3)
    array([ True, False,  True])
    """
    return np.bincount(lesion, minlength=size) > 0


def largest(lesion: np.ndarray, values: np.ndarray, size: int, start: float = np.nan) -> np.ndarray:
    """Largest value of each lesion; ``start`` where there is none.

    Examples
    --------
    >>> largest(np.array([0, 2, 2]), np.array([0.5, 0.1, 0.9]), size=3)
    array([0.5, nan, 0.9])
    """
    result = np.full(size, start)
    np.fmax.at(result, lesion, values)
    return result


MATCH_IOU = 0.1
# Ten voxels of 1.47 mm3 are 14.7 mm3 to the user, but a little less in floating point.
ROUNDING = 1e-9


def in_size(volume_mm3: np.ndarray, low: float, high: float = math.inf) -> np.ndarray:
    """Booleans: lesions of a size class, from ``low``, inclusive, to ``high``, exclusive.

    A lesion on an edge is not below it by rounding.

    Examples
    --------
    >>> in_size(np.array([10 * 0.7 * 0.7 * 3]), 14.7)
    array([ True])
    """
    upwards = volume_mm3 * (1 + ROUNDING)
    return (upwards >= low) & (upwards < high)


def match_lesions(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    connectivity: int = 26,
    min_volume_mm3: float = 0.0,
    known: np.ndarray | None = None,
    score: np.ndarray | None = None,
    distances: bool = False,
) -> LesionMatches:
    """Find the lesions of two masks and match them by both rules, "any overlap" and "one-to-one".

    Reference lesions below the minimum volume are ignored: neither hit nor missed, and no partner of any other. A
    predicted lesion that touches ignored ones alone is neutral, neither hit nor false positive.

    The kind of a lesion says how it overlaps the other side. It is the first of these that applies:

    ignored, neutral
        Not counted.
    missed, false_positive
        Overlaps no lesion.
    merged
        In one of its pairs the predicted lesion overlaps several counted reference lesions.
    split
        In one of its pairs the reference lesion is overlapped by several predicted lesions.
    under_segmented
        It and its one partner overlap nothing else, and less than half of the reference lesion's voxels are predicted.
    over_segmented
        As before, with half or more of them predicted, but IoU < 0.1: the predicted lesion is far too large.
    matched
        It and its one partner overlap nothing else and agree better than that.

    The one-to-one assignment is another question: every lesion of kind "matched" is matched, merged, split and
    under-segmented ones may be, over-segmented ones never are.

    Parameters
    ----------
    reference, prediction : boolean array (X, Y[, Z])
        One class of each. With an empty reference all predicted lesions are false positives, with an empty prediction
        all reference lesions are missed.
    spacing_mm : sequence of float
        mm per array axis.
    connectivity : int
        6, 18 or 26 in three dimensions; 4 or 8 in two, where 6 and 26 mean these.
    min_volume_mm3 : float
        Smaller reference lesions are ignored; one of exactly this volume is not. In mm2 in two dimensions.
    known : boolean array (X, Y[, Z]), optional
        False where the reference says nothing (nnU-Net's ignore label). These voxels are background in both masks
        before lesions are sought: a lesion that they cut in two is two, in the reference and in the prediction alike.
    score : float array (X, Y[, Z]), optional
        Probability or logit of the foreground.
    distances : bool
        Measure how far the surfaces of one-to-one partners are apart.

    Returns
    -------
    LesionMatches
        Lesions in the order, and with the ids, of `nnunet_rw.maps.lesion_components` of the masks.

    Raises
    ------
    ValueError
        If a mask is not boolean, not 2D or 3D, the shapes differ, an option is impossible or a lesion's score is NaN.

    Examples
    --------
    >>> reference, prediction = np.array([[1, 1, 0, 1, 0, 0]], bool), np.array([[0, 1, 0, 0, 0, 1]], bool)
    >>> matches = match_lesions(reference, prediction, (1, 1))
    >>> matches.reference.hit, matches.predicted.false_positive
    (array([ True, False]), array([False,  True]))
    """
    reference, prediction = as_masks(reference=reference, prediction=prediction)
    spacing = as_spacing(spacing_mm, reference.ndim)
    connectivity = as_connectivity(connectivity, reference.ndim)
    check_min_volume(min_volume_mm3)
    if score is not None and np.shape(score) != reference.shape:
        raise ValueError(f"Expected scores of the masks' shape, {reference.shape}, but got {np.shape(score)}.")
    if known is not None:
        _, known = as_masks(reference=reference, known=known)
        reference, prediction = reference & known, prediction & known

    # Lesions fill little of a volume.
    box = foreground_box(reference | prediction) or (slice(0, 1),) * reference.ndim
    truth, found = (Components(mask[box], connectivity) for mask in (reference, prediction))
    counted = truth.voxels * np.prod(spacing) >= min_volume_mm3 * (1 - ROUNDING)
    first, second, shared = _overlaps(truth, found)
    chosen = counted[first]
    pairs = _matched_pairs(first[chosen], second[chosen], shared[chosen], truth.voxels, found.voxels)
    # Right, or wrong without doubt.
    counted_found = occurring(pairs.predicted, len(found)) | ~occurring(second, len(found))
    kinds = _kinds(pairs, truth.voxels)
    scores = found.maxima(None if score is None else np.asarray(score)[box])
    apart = np.full((len(pairs), 2), np.nan)
    if distances:
        apart[pairs.matched] = _distances(pairs, truth, found, spacing, neighbour_axes(reference.shape))
    return LesionMatches(
        ReferenceLesions(
            *truth.measures(spacing, box),
            **_outcome(pairs, pairs.reference, counted, {"ignored": ~counted}, "missed", kinds),
            score=largest(pairs.reference, scores[pairs.predicted], len(truth)),
            covered=_covered(first, shared, truth.voxels, counted),
            hd95_mm=largest(pairs.reference, apart[:, 0], len(truth)),
            assd_mm=largest(pairs.reference, apart[:, 1], len(truth)),
        ),
        PredictedLesions(
            *found.measures(spacing, box),
            **_outcome(pairs, pairs.predicted, counted_found, {"neutral": ~counted_found}, "false_positive", kinds),
            score=scores,
            covered=_covered(second, shared, found.voxels, counted_found),
            hd95_mm=largest(pairs.predicted, apart[:, 0], len(found)),
            assd_mm=largest(pairs.predicted, apart[:, 1], len(found)),
        ),
        pairs,
    )


def check_min_volume(min_volume_mm3: float) -> None:
    if not 0 <= min_volume_mm3 < np.inf:
        raise ValueError(f"Expected min_volume_mm3 of at least 0, but got {min_volume_mm3}.")


def _overlaps(truth: Components, found: Components) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reference lesion, predicted lesion and shared voxels: their joint histogram, where it is not 0."""
    both = truth.where[found.ids.ravel()[truth.where] > 0]
    ids = truth.ids.ravel()[both].astype(np.int64), found.ids.ravel()[both].astype(np.int64)
    values, shared = np.unique(ids[0] * (len(found) + 1) + ids[1], return_counts=True)
    return values // (len(found) + 1) - 1, values % (len(found) + 1) - 1, shared


def _covered(lesion: np.ndarray, shared: np.ndarray, voxels: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return np.where(counted, np.bincount(lesion, shared, minlength=len(voxels)) / voxels, np.nan)


def _distances(
    pairs: LesionPairs, truth: Components, found: Components, spacing: tuple[float, ...], axes: tuple[int, ...]
) -> np.ndarray:
    """HD95 and ASSD of the matched pairs: float64 (M, 2)."""
    reference, predicted = (border_points(side.ids, spacing, axes) for side in (truth, found))
    rows = []
    for pair in np.flatnonzero(pairs.matched):
        surfaces = reference.of(int(pairs.reference[pair]) + 1), predicted.of(int(pairs.predicted[pair]) + 1)
        metrics = of_distances(distances_between(*surfaces), 0.0)
        rows.append((metrics.hd95_mm, metrics.assd_mm))
    return np.reshape(rows, (-1, 2))


def _matched_pairs(
    reference: np.ndarray,
    predicted: np.ndarray,
    shared: np.ndarray,
    reference_voxels: np.ndarray,
    predicted_voxels: np.ndarray,
) -> LesionPairs:
    total = reference_voxels[reference] + predicted_voxels[predicted]
    iou = shared / (total - shared)
    matched = iou >= MATCH_IOU
    matched[matched] = assign_one_to_one(reference[matched], predicted[matched], iou[matched])
    return LesionPairs(reference, predicted, shared, iou, 2 * shared / total, matched)


def _kinds(pairs: LesionPairs, reference_voxels: np.ndarray) -> dict[str, np.ndarray]:
    """Which pairs are of which kind, in order of precedence."""
    return {
        "merged": np.bincount(pairs.predicted)[pairs.predicted] > 1,
        "split": np.bincount(pairs.reference)[pairs.reference] > 1,
        "under_segmented": pairs.voxels / reference_voxels[pairs.reference] < 0.5,
        "over_segmented": pairs.iou < MATCH_IOU,
        "matched": np.ones(len(pairs), bool),
    }


def _outcome(
    pairs: LesionPairs,
    lesion: np.ndarray,
    counted: np.ndarray,
    uncounted: dict[str, np.ndarray],
    alone: str,
    kinds: dict[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """What the pairs say of the lesions of one side; ``lesion`` is that side's column of the pairs."""
    size = len(counted)
    hit = occurring(lesion, size)
    choices = {**uncounted, alone: ~hit, **{name: occurring(lesion[pair], size) for name, pair in kinds.items()}}
    dice = largest(lesion[pairs.matched], pairs.dice[pairs.matched], size, start=0.0)
    iou = largest(lesion, pairs.iou, size, start=0.0)
    return {
        "counted": counted,
        "hit": hit,
        "matched": occurring(lesion[pairs.matched], size),
        "dice": np.where(counted, dice, np.nan),
        "iou": np.where(counted, iou, np.nan),
        "kind": np.select(list(choices.values()), list(choices), ""),
    }
