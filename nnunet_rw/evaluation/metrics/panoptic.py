"""Panoptic quality: are the lesions found one by one, and how well are they drawn?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nnunet_rw.evaluation.metrics.matches import LesionMatches, assign_one_to_one


@dataclass(frozen=True)
class PanopticQuality:
    """Counts of one case, or summed over cases, and the three ratios in [0, 1] that follow from them.

    Attributes
    ----------
    tp, fp, fn : int
        Matched pairs, predicted lesions without and counted reference lesions without a partner.
    iou_sum : float
        Over the matched pairs.
    """

    tp: int
    fp: int
    fn: int
    iou_sum: float

    @property
    def pq(self) -> float:
        """Panoptic quality, SQ x RQ: 0 where nothing is matched, NaN where there is no lesion on either side."""
        return _ratio(self.iou_sum, self._half_lesions)

    @property
    def sq(self) -> float:
        """Segmentation quality, the mean IoU of the matched pairs: NaN without any."""
        return _ratio(self.iou_sum, self.tp)

    @property
    def rq(self) -> float:
        """Recognition quality, F1 of the lesions: 0 where nothing is matched, NaN without a lesion on either side."""
        return _ratio(self.tp, self._half_lesions)

    @property
    def _half_lesions(self) -> float:
        return self.tp + (self.fp + self.fn) / 2


def panoptic_quality(matches: LesionMatches, iou_threshold: float = 0.5) -> PanopticQuality:
    """Panoptic quality of one case (Kirillov et al., CVPR 2019, arXiv 1801.00868).

    PQ = (sum of IoU over TP) / (TP + FP / 2 + FN / 2), SQ = (sum of IoU over TP) / TP, RQ = TP / (TP + FP / 2 + FN / 2)

    From a threshold of 0.5 on pairs with IoU *above* it are matched, as in the paper: no lesion is in two of them.
    Below 0.5 that does not hold, and the pairs with IoU of *at least* the threshold compete in a one-to-one assignment;
    at 0.1 these are the pairs of `LesionPairs.matched`. Ignored reference lesions are no false negatives, neutral
    predicted lesions no false positives.

    Parameters
    ----------
    matches : LesionMatches
        Of one class in one case.
    iou_threshold : float
        In (0, 1).

    Returns
    -------
    PanopticQuality
        For a mean over cases leave out the NaN and print how many are left; over all lesions see `pool_panoptic`.

    Raises
    ------
    ValueError
        If the threshold is out of its range.

    Examples
    --------
    >>> from nnunet_rw.evaluation.metrics.lesions import match_lesions
    >>> reference, prediction = np.array([[1, 1, 1, 0, 1]], bool), np.array([[1, 1, 0, 0, 0]], bool)
    >>> round(panoptic_quality(match_lesions(reference, prediction, (1, 1))).pq, 4)  # 2 / 3 over 1 + 1 / 2
    0.4444
    """
    if not 0 < iou_threshold < 1:
        raise ValueError(f"Expected an IoU threshold between 0 and 1, but got {iou_threshold}.")
    pairs = matches.pairs
    if iou_threshold >= 0.5:
        matched = pairs.iou > iou_threshold
    else:
        matched = pairs.iou >= iou_threshold
        matched[matched] = assign_one_to_one(pairs.reference[matched], pairs.predicted[matched], pairs.iou[matched])
    tp = int(np.count_nonzero(matched))
    num_predicted = int(np.count_nonzero(matches.predicted.counted))
    num_reference = int(np.count_nonzero(matches.reference.counted))
    return PanopticQuality(tp, num_predicted - tp, num_reference - tp, float(pairs.iou[matched].sum()))


def pool_panoptic(cases: Iterable[PanopticQuality]) -> PanopticQuality:
    """Panoptic quality over the lesions of all cases together, as the paper has it: counts and IoUs are summed.

    Cases without a lesion add nothing but their false positives. No case at all gives NaN.

    Examples
    --------
    >>> pool_panoptic([PanopticQuality(1, 0, 1, 0.75), PanopticQuality(0, 2, 0, 0.0)])
    PanopticQuality(tp=1, fp=2, fn=1, iou_sum=0.75)
    """
    cases = list(cases)
    return PanopticQuality(
        sum(case.tp for case in cases),
        sum(case.fp for case in cases),
        sum(case.fn for case in cases),
        float(sum(case.iou_sum for case in cases)),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
