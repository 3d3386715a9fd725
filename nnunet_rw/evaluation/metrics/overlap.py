"""Voxels of two masks counted, and the ratios that follow from the four counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnunet_rw.evaluation.metrics.checks import as_masks

Status = Literal["both", "both_empty", "only_reference", "only_prediction"]


@dataclass(frozen=True)
class Overlap:
    """Confusion counts of one class in one case. Every ratio lies in [0, 1] and is NaN where it is 0 / 0.

    Attributes
    ----------
    tp, fp, fn, tn : int
        Voxels in both masks, in the prediction alone, in the reference alone, in neither.

    Examples
    --------
    >>> Overlap(tp=3, fp=1, fn=2, tn=94).dice
    0.6666666666666666
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def status(self) -> Status:
        """Which of the two masks holds a voxel."""
        if self.tp or (self.fp and self.fn):
            return "both"
        if self.fn:
            return "only_reference"
        return "only_prediction" if self.fp else "both_empty"

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN): 0 where one mask is empty, NaN where both are."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def jaccard(self) -> float:
        """TP / (TP + FP + FN), intersection over union: 0 where one mask is empty, NaN where both are."""
        return _ratio(self.tp, self.tp + self.fp + self.fn)

    @property
    def ppv(self) -> float:
        """TP / (TP + FP), positive predictive value or precision: NaN where the prediction is empty."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN), recall: NaN where the reference is empty."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        """TN / (TN + FP): NaN where the reference fills the image."""
        return _ratio(self.tn, self.tn + self.fp)


def overlap(reference: np.ndarray, prediction: np.ndarray, known: np.ndarray | None = None) -> Overlap:
    """Count the voxels of two masks.

    Parameters
    ----------
    reference, prediction : boolean array (X, Y[, Z])
        One class of each.
    known : boolean array (X, Y[, Z]), optional
        False where the reference says nothing (nnU-Net's ignore label). These voxels count nowhere, so a mask that
        lies wholly among them is empty.

    Returns
    -------
    Overlap

    Raises
    ------
    ValueError
        If a mask is not boolean, not 2D or 3D, or the shapes differ.

    Examples
    --------
    >>> overlap(np.array([[True, True, False]]), np.array([[False, True, True]]))
    Overlap(tp=1, fp=1, fn=1, tn=0)
    """
    reference, prediction = as_masks(reference=reference, prediction=prediction)
    num_voxels = reference.size
    if known is not None:
        _, known = as_masks(reference=reference, known=known)
        num_voxels = int(np.count_nonzero(known))
        reference, prediction = reference & known, prediction & known
    tp = np.count_nonzero(reference & prediction)
    fp = np.count_nonzero(prediction) - tp
    fn = np.count_nonzero(reference) - tp
    return Overlap(int(tp), int(fp), int(fn), int(num_voxels - tp - fp - fn))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
