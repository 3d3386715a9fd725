"""Is a foreground probability right, voxel by voxel? Precision and recall over all thresholds, and calibration.

Both follow from how many voxels of either kind have each probability. nnU-Net stores half precision, which has 15 361
values from 0 to 1, so these counts are exact, small whatever the volume, and cases are pooled by adding them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc

_ONE = int(np.float16(1).view(np.uint16))
# Every half-precision number from 0 to 1, rising.
_VALUES = np.arange(_ONE + 1, dtype=np.uint16).view(np.float16).astype(np.float64)
RELIABILITY_BINS = 15
# As it is in half precision.
_UNCERTAIN_FROM = float(np.float16(0.1))


@dataclass(frozen=True)
class ProbabilityCounts:
    """Voxels of one class by their probability, of one case or of several.

    Attributes
    ----------
    positive, negative : integer (15361,)
        In the reference, and outside, at every half-precision number from 0 to 1, rising.
    """

    positive: np.ndarray
    negative: np.ndarray

    @property
    def voxels(self) -> np.ndarray:
        """Integer (15361,): of either kind."""
        return self.positive + self.negative

    @property
    def average_precision(self) -> float:
        """Sum over falling thresholds of precision times the gain in recall; NaN without a voxel in the reference.

        `sklearn.metrics.average_precision_score` of all voxels.
        """
        precision, recall = self._curve()
        return float(np.sum(np.diff(recall, prepend=0) * precision)) if len(recall) else float("nan")

    @property
    def precision_recall_area(self) -> float:
        """Area under the same curve by trapezoids, from precision 1 at recall 0 on; a little larger.

        `sklearn.metrics.auc` of `sklearn.metrics.precision_recall_curve`.
        """
        precision, recall = self._curve()
        return float(auc(np.append(0, recall), np.append(1, precision))) if len(recall) else float("nan")

    def _curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall at each probability that occurs, falling; empty without a voxel in the reference."""
        occurs = np.flatnonzero(self.voxels)[::-1]
        found, called = (np.cumsum(counts[occurs]) for counts in (self.positive, self.voxels))
        if not len(found) or not found[-1]:
            return np.zeros(0), np.zeros(0)
        return found / called, found / found[-1]

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (Guo et al., arXiv 1706.04599): |share in the reference - mean probability|.

        Mean over the bins of `reliability`, weighted by their voxels, in [0, 1]; NaN without a voxel.
        """
        return self._error(0.0)

    @property
    def calibration_error_from_01(self) -> float:
        """The same of the voxels with a probability of at least 0.1 alone.

        Nearly all voxels of a volume have a probability of about 0 and hide what the others are worth.
        """
        return self._error(_UNCERTAIN_FROM)

    def _error(self, lowest: float) -> float:
        bins = self.reliability(lowest)
        total = bins.voxels.sum()
        if not total:
            return float("nan")
        return float(np.nansum(bins.voxels * np.abs(bins.share - bins.mean_probability)) / total)

    def reliability(self, lowest: float = 0.0) -> Reliability:
        """What share of the voxels of about a probability is in the reference, in bins of equal width.

        Parameters
        ----------
        lowest : float
            Voxels of a smaller probability are left out.
        """
        edges = np.linspace(0, 1, RELIABILITY_BINS + 1)
        # A probability on an edge belongs to the bin below, as in the paper; 0 to the first.
        place = np.maximum(np.searchsorted(edges, _VALUES, side="left") - 1, 0)
        kept = np.flatnonzero(lowest <= _VALUES)
        positive, all_voxels, summed = (
            np.bincount(place[kept], weights[kept], minlength=RELIABILITY_BINS)
            for weights in (self.positive, self.voxels, self.voxels * _VALUES)
        )
        with np.errstate(invalid="ignore"):
            return Reliability(edges, all_voxels.astype(np.int64), summed / all_voxels, positive / all_voxels)


@dataclass(frozen=True)
class Reliability:
    """A reliability curve of B bins.

    Attributes
    ----------
    edges : float64 (B + 1,)
    voxels : int64 (B,)
    mean_probability, share : float64 (B,)
        Of the bin's voxels, and how many of them are in the reference; NaN of an empty bin. Above the diagonal the
        foreground is more frequent than its probability says.
    """

    edges: np.ndarray
    voxels: np.ndarray
    mean_probability: np.ndarray
    share: np.ndarray


def count_probabilities(
    reference: np.ndarray, probability: np.ndarray, known: np.ndarray | None = None
) -> ProbabilityCounts:
    """Count the voxels of one class of one case.

    Parameters
    ----------
    reference : boolean array (X, Y[, Z])
    probability : float array (X, Y[, Z])
        Of the foreground, 0 to 1; rounded to half precision.
    known : boolean array (X, Y[, Z]), optional
        False where the reference says nothing: these voxels count nowhere.

    Raises
    ------
    ValueError
        If the shapes differ or a probability is NaN.

    Examples
    --------
    >>> counts = count_probabilities(np.array([[True, False, True]]), np.array([[0.75, 0.5, 0.25]]))
    >>> counts.average_precision  # 1 / 2 * 1 + 1 / 2 * 2 / 3
    0.8333333333333333
    """
    probability = np.asarray(probability)
    if probability.shape != reference.shape:
        raise ValueError(f"Expected probabilities of shape {reference.shape}, but got {probability.shape}.")
    if known is not None:
        reference, probability = reference[known], probability[known]
    if np.isnan(probability).any():
        raise ValueError("Expected probabilities, but got NaN.")
    # Of numbers from 0 on, half precision rises with its bits. What rounding left beside [0, 1] is at its end; -0 is 0.
    bits = np.abs(np.clip(probability, 0, 1).astype(np.float16)).view(np.uint16)
    inside = np.bincount(bits[reference].ravel(), minlength=_ONE + 1)
    outside = np.bincount(bits.ravel(), minlength=_ONE + 1) - inside
    # Half the memory, which there is for every class of every case.
    return ProbabilityCounts(inside.astype(np.int32), outside.astype(np.int32))


def pool_probabilities(cases: Iterable[ProbabilityCounts]) -> ProbabilityCounts:
    """All voxels of several cases together, as IDRiD ranks them.

    Examples
    --------
    >>> case = count_probabilities(np.array([[True, False]]), np.array([[0.5, 0.5]]))
    >>> pool_probabilities([case, case]).average_precision
    0.5
    """
    positive, negative = np.zeros(_ONE + 1, np.int64), np.zeros(_ONE + 1, np.int64)
    for case in cases:
        positive += case.positive
        negative += case.negative
    return ProbabilityCounts(positive, negative)
