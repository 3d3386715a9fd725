"""What is known of every reference and predicted lesion of a case, and of the pairs among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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
        How it overlaps the other side, see `nnunet_rw.evaluation.lesions.match_lesions`.
    score : float64 (K,)
        Of a predicted lesion: the maximum of the score array over it, NaN without scores. Of a reference lesion: the
        highest of the predicted lesions that share a voxel with it, NaN where there is none or it is not counted.
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
