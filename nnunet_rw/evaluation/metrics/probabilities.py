"""What probabilities tell beyond a mask: FROC curves, whole segmentations at every threshold, and calibration.

FROC curves fix the predicted lesions and drop them by score. At thresholds lesions are sought anew, as a user would who
segments with each: a trainer that marks nearly everything pays with Dice and false positives at low thresholds, and
what it finds at high ones is what it has.

Calibration and precision-recall curves follow from how many voxels of either kind have each probability. A probability
is rounded to half precision of its distance to the nearer of 0 and 1, one of 28 673 values: counts are small whatever
the volume, and cases are pooled by adding them. nnU-Net stores single precision and is often sure: next to 1, half
precision of the probability itself takes all above 0.99976 for 1, and with it most of the foreground.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import auc

from nnunet_rw.evaluation.metrics.lesions import ROUNDING, LesionMatches

FALSE_POSITIVES = (1 / 8, 1 / 4, 1 / 2, 1.0, 2.0, 4.0, 8.0)
CANDIDATE_THRESHOLD = 0.1


def candidates(probability: np.ndarray, threshold: float = CANDIDATE_THRESHOLD) -> np.ndarray:
    """Where a lesion might be: the mask whose components are the predicted lesions of a FROC curve.

    Components change with the threshold, so it is fixed, and each is scored by its maximum::

        match_lesions(reference, candidates(probability), spacing_mm, score=probability)

    The default of 0.1 keeps lesions that the argmax loses, and with them the right end of the curve. Its price: lesions
    close to each other may become one candidate and then are all found at its score. 0.5 gives the components that the
    segmentation has and a curve that ends at its recall, as Shirokikh et al. have it (see `average_recall_up_to`).

    Parameters
    ----------
    probability : float array (X, Y[, Z])
        Of the foreground, one class.
    threshold : float
        In [0, 1); the probability is above.

    Returns
    -------
    boolean array of the shape of ``probability``

    Raises
    ------
    ValueError
        If the threshold is out of its range or a probability is NaN.

    Examples
    --------
    >>> candidates(np.array([[0.05, 0.3]]))
    array([[False,  True]])
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"Expected a threshold from 0 to below 1, but got {threshold}.")
    probability = np.asarray(probability)
    if np.isnan(probability).any():
        raise ValueError("Expected probabilities, but got NaN.")
    return probability > threshold


@dataclass(frozen=True)
class FrocCurve:
    """A curve of T points, from none of the predicted lesions to all. Neither false positives nor recall ever fall.

    Attributes
    ----------
    thresholds : float64 (T,)
        Falling, the first inf; predicted lesions with a score of at least this count.
    false_positives : float64 (T,)
        A case, those without a lesion included.
    recall : float64 (T,)
        NaN without a reference lesion in any case.
    num_cases, num_lesions : int
    """

    thresholds: np.ndarray
    false_positives: np.ndarray
    recall: np.ndarray
    num_cases: int
    num_lesions: int


def froc_curve(cases: Sequence[LesionMatches]) -> FrocCurve:
    """FROC curve under "any overlap", pooled over cases.

    A reference lesion is found from the highest score of the predicted lesions that touch it on. Ignored reference and
    neutral predicted lesions count nowhere.

    Parameters
    ----------
    cases : sequence of LesionMatches
        From `match_lesions` with a ``score``, one per case, cases without a lesion included.

    Raises
    ------
    ValueError
        If there is no case, or predicted lesions have no score.

    Examples
    --------
    >>> from nnunet_rw.evaluation.metrics.lesions import match_lesions
    >>> score = np.array([[0.9, 0.0, 0.0, 0.4]])
    >>> curve = froc_curve([match_lesions(np.array([[1, 0, 0, 0]], bool), score > 0, (1, 1), score=score)])
    >>> curve.thresholds, curve.false_positives, curve.recall
    (array([inf, 0.9, 0.4]), array([0., 0., 1.]), array([0., 1., 1.]))
    """
    if len(cases) == 0:
        raise ValueError("Expected at least one case, but got none.")
    if any(np.isnan(case.predicted.score).any() for case in cases):
        raise ValueError("Expected predicted lesions with a score, but got NaN. Call match_lesions with score=...")
    found = np.concatenate([case.reference.score[case.reference.hit] for case in cases])
    false = np.concatenate([case.predicted.score[case.predicted.false_positive] for case in cases])
    num_lesions = sum(int(case.reference.counted.sum()) for case in cases)
    thresholds = np.append(np.inf, np.unique(np.concatenate([found, false]))[::-1])
    recall = _count_from(found, thresholds) / num_lesions if num_lesions else np.full(len(thresholds), np.nan)
    return FrocCurve(thresholds, _count_from(false, thresholds) / len(cases), recall, len(cases), num_lesions)


def recall_at(curve: FrocCurve, false_positives: Sequence[float] = FALSE_POSITIVES) -> np.ndarray:
    """The highest recall with at most a given number of false positives per case.

    The curve is a staircase: between two points nothing is interpolated, beyond the last the recall stays.

    Parameters
    ----------
    curve : FrocCurve
    false_positives : sequence of float (N,)
        At least 0.

    Returns
    -------
    float64 array (N,)
        NaN where the curve has no recall.

    Examples
    --------
    >>> curve = FrocCurve(np.array([np.inf, 0.9, 0.4]), np.array([0.0, 1.0, 2.0]), np.array([0.25, 0.5, 1.0]), 1, 4)
    >>> recall_at(curve, [0, 1.5, 8])
    array([0.25, 0.5 , 1.  ])
    """
    allowed = np.asarray(false_positives, dtype=float)
    if not np.all(allowed >= 0):
        raise ValueError(f"Expected false positives of at least 0 per case, but got {false_positives}.")
    return curve.recall[np.searchsorted(curve.false_positives, allowed, side="right") - 1]


def average_recall(curve: FrocCurve, false_positives: Sequence[float] = FALSE_POSITIVES) -> float:
    """Mean of `recall_at` over 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per case (LUNA16's score).

    Examples
    --------
    >>> curve = FrocCurve(np.array([np.inf, 0.9, 0.4]), np.array([0.0, 1.0, 2.0]), np.array([0.25, 0.5, 1.0]), 1, 4)
    >>> average_recall(curve, [0, 1.5])
    0.375
    """
    return float(recall_at(curve, false_positives).mean())


def average_recall_up_to(curve: FrocCurve, most: float = 5.0) -> float:
    """Mean recall from 0 to a given number of false positives per case: area under the staircase over its width.

    Where the curve ends before, its last recall is kept. From 0 to 5 this is the figure that Shirokikh et al. (MICCAI
    2020, arXiv 2007.10033) report, with candidates of a probability above 0.5.

    Examples
    --------
    >>> curve = FrocCurve(np.array([np.inf, 0.9, 0.4]), np.array([0.0, 1.0, 2.0]), np.array([0.25, 0.5, 1.0]), 1, 4)
    >>> average_recall_up_to(curve, 4)  # (0.25 + 0.5 + 1 + 1) / 4
    0.6875
    """
    if not 0 < most < np.inf:
        raise ValueError(f"Expected more than 0 false positives per case, but got {most}.")
    bounds = np.minimum(np.append(curve.false_positives, np.inf), most)
    return float(np.sum(np.diff(bounds) * curve.recall) / most)


def _count_from(scores: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """How many scores are at least each threshold."""
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="left")


# Falling. Networks that learned with Dice crowd most of their foreground into a hundredth, often 0.98 to 0.99. With
# thresholds further apart, nothing would lie between many false positives and none.
THRESHOLDS = (
    *(0.99999, 0.9999, 0.9995, 0.999, 0.998, 0.996, 0.994, 0.992),
    *(0.99, 0.989, 0.988, 0.987, 0.986, 0.985, 0.984, 0.983, 0.982, 0.981, 0.98),
    *(0.975, 0.97, 0.96, 0.94, 0.92, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1),
)


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
        """Position of the threshold of highest recall with at most a number of false positives per case; None of none.

        Of equal recall the better Dice, then the lower threshold. Below a threshold that exceeds the false positives
        another is taken only where its Dice is better than that of the best one above: where false positives grow
        together, fewer of them mean no fewer mistakes, and Dice tells. So none is chosen that another within them beats
        in recall and in Dice.
        """
        # Tables hold ten digits.
        allowed = self.false_positives <= false_positives * (1 + ROUNDING)
        above = np.logical_and.accumulate(allowed)
        dice = np.nan_to_num(self.dice, nan=1.0)  # nothing is there and nothing segmented
        best = self._most_found(above) if above.any() else 0
        chosen = above | (allowed & (dice > dice[best]))
        return self._most_found(chosen) if chosen.any() else None

    def _most_found(self, chosen: np.ndarray) -> int:
        positions = np.flatnonzero(chosen)
        keys = positions, np.nan_to_num(self.dice[positions], nan=1.0), np.nan_to_num(self.recall[positions])
        return int(positions[np.lexsort(keys)[-1]])


_HALF = int(np.float16(0.5).view(np.uint16))
# Every half-precision number from 0 to 0.5, and 1 minus each; rising. Close to either end they are 6e-8 apart, as
# numbers of single precision are below 1.
_LOWER = np.arange(_HALF + 1, dtype=np.uint16).view(np.float16).astype(np.float64)
_VALUES = np.concatenate([_LOWER, 1 - _LOWER[-2::-1]])
PROBABILITY_VALUES = len(_VALUES)
RELIABILITY_BINS = 15
# As it is in half precision.
_UNCERTAIN_FROM = float(np.float16(0.1))


@dataclass(frozen=True)
class ProbabilityCounts:
    """Voxels of one class by their probability, of one case or of several.

    Attributes
    ----------
    positive, negative : integer (28673,)
        In the reference, and outside, by rising probability: half-precision numbers from 0 to 0.5, and from there 1
        minus such numbers.
    """

    positive: np.ndarray
    negative: np.ndarray

    @property
    def voxels(self) -> np.ndarray:
        """Integer (28673,): of either kind."""
        return self.positive + self.negative

    @property
    def average_precision(self) -> float:
        """Sum over falling thresholds of precision times the gain in recall; NaN without a voxel in the reference.

        `sklearn.metrics.average_precision_score` of all voxels, but for the rounding of probabilities.
        """
        precision, recall = self._curve()
        return float(np.sum(np.diff(recall, prepend=0) * precision)) if len(recall) else float("nan")

    @property
    def precision_recall_area(self) -> float:
        """Area under the same curve by trapezoids, from precision 1 at recall 0 on; a little larger.

        `sklearn.metrics.auc` of `sklearn.metrics.precision_recall_curve`, but for that rounding.
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
        Of the foreground, 0 to 1; its distance to the nearer end is rounded to half precision.
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
    probability = np.clip(probability, 0, 1)
    bits = np.abs(np.minimum(probability, 1 - probability).astype(np.float16)).view(np.uint16)
    place = np.where(probability > 0.5, np.uint16(PROBABILITY_VALUES - 1) - bits, bits)
    inside = np.bincount(place[reference].ravel(), minlength=PROBABILITY_VALUES)
    outside = np.bincount(place.ravel(), minlength=PROBABILITY_VALUES) - inside
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
    positive, negative = np.zeros(PROBABILITY_VALUES, np.int64), np.zeros(PROBABILITY_VALUES, np.int64)
    for case in cases:
        positive += case.positive
        negative += case.negative
    return ProbabilityCounts(positive, negative)
