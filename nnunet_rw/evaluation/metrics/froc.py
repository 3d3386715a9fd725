"""Free-response ROC: recall against false positives per case, over all thresholds of a lesion's score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_rw.evaluation.metrics.matches import LesionMatches

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
