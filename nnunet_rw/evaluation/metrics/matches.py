"""Reference and predicted lesions of a case: what is known of each, their pairs, and one-to-one assignment."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

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
    _, block = connected_components(coo_matrix(edges, shape=(num_lesions, num_lesions)), directed=False)
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
