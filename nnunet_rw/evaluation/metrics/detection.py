"""Lesions found and false positives over cases: recall by lesion size, with intervals, and panoptic quality."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np

from nnunet_rw.evaluation.comparison.statistics import recall_interval
from nnunet_rw.evaluation.metrics.lesions import LesionMatches, Lesions, assign_one_to_one, in_size
from nnunet_rw.evaluation.metrics.overlap import share

Rule = Literal["any_overlap", "one_to_one", "overlap_25", "overlap_50"]
# The share of a lesion that has to be covered.
_SHARES = {"overlap_25": 0.25, "overlap_50": 0.5}


@dataclass(frozen=True)
class Detection:
    """Lesions of several cases, pooled. Ignored reference and neutral predicted lesions are not in any number.

    Attributes
    ----------
    num_cases : int
        Those without a lesion included.
    num_lesions, num_found : int
        Reference lesions, and how many of them are found.
    num_predicted, num_false_positives : int
        Predicted lesions, and how many of them are false.
    """

    num_cases: int
    num_lesions: int
    num_found: int
    num_predicted: int
    num_false_positives: int

    @property
    def recall(self) -> float:
        """Found reference lesions of all: NaN without any."""
        return share(self.num_found, self.num_lesions)

    @property
    def precision(self) -> float:
        """Predicted lesions that are not false of all: NaN without any."""
        return share(self.num_predicted - self.num_false_positives, self.num_predicted)

    @property
    def false_positives_per_case(self) -> float:
        return share(self.num_false_positives, self.num_cases)


def count_detections(cases: Sequence[LesionMatches], rule: Rule = "any_overlap") -> Detection:
    """Count what was found over all cases.

    Under "any_overlap" a reference lesion is found by one shared voxel and a predicted lesion is false without any; so
    one predicted lesion may find several, and several may find one. Recall counts reference lesions and precision
    predicted ones, which is why they have no common number of true positives. Under "one_to_one" a reference lesion is
    found, and a predicted one not false, if it has a partner. Under "overlap_25" and "overlap_50" a lesion is found,
    or right, if at least a quarter or a half of its voxels are covered by lesions of the other side, however many.

    Parameters
    ----------
    cases : sequence of LesionMatches
        One a case of one class; of several classes a case is one for each.
    rule : str

    Raises
    ------
    ValueError
        If the rule is unknown.

    Examples
    --------
    >>> from nnunet_rw.evaluation.metrics.lesions import match_lesions
    >>> reference, prediction = np.array([[1, 1, 0, 1, 0, 0]], bool), np.array([[0, 1, 0, 0, 0, 1]], bool)
    >>> count_detections([match_lesions(reference, prediction, (1, 1))])
    Detection(num_cases=1, num_lesions=2, num_found=1, num_predicted=2, num_false_positives=1)
    """
    found = [found_lesions(case.reference, rule) for case in cases]
    right = [found_lesions(case.predicted, rule) for case in cases]
    return Detection(
        num_cases=len(cases),
        num_lesions=sum(len(lesions) for lesions in found),
        num_found=sum(int(lesions.sum()) for lesions in found),
        num_predicted=sum(len(lesions) for lesions in right),
        num_false_positives=sum(int((~lesions).sum()) for lesions in right),
    )


def found_lesions(lesions: Lesions, rule: Rule = "any_overlap") -> np.ndarray:
    """Which of the counted lesions of one side are found by the other: bool, one for each that is counted.

    Examples
    --------
    >>> from nnunet_rw.evaluation.metrics.lesions import match_lesions
    >>> reference, prediction = np.array([[1, 1, 0, 1, 0, 0]], bool), np.array([[0, 1, 0, 0, 0, 1]], bool)
    >>> found_lesions(match_lesions(reference, prediction, (1, 1)).reference)
    array([ True, False])
    """
    if rule not in get_args(Rule):
        raise ValueError(f"Expected the rule to be one of {get_args(Rule)}, but got {rule!r}.")
    if rule in _SHARES:
        return lesions.covered[lesions.counted] >= _SHARES[rule]
    return (lesions.hit if rule == "any_overlap" else lesions.matched)[lesions.counted]


# Of size classes, fixed beforehand so that trainers and datasets compare.
DEFAULT_EDGES_MM3 = (0.0, 10.0, 100.0, 1000.0, math.inf)


def size_name(low: float, high: float, unit: str = "mm3") -> str:
    """Of a size class, from, inclusive, to, exclusive.

    Examples
    --------
    >>> [size_name(0, 10), size_name(10, 100), size_name(1000, math.inf, "mm³"), size_name(0, math.inf)]
    ['below 10 mm3', '10 to 100 mm3', 'from 1000 mm³', 'all sizes']
    """
    if low <= 0:
        return "all sizes" if math.isinf(high) else f"below {high:g} {unit}"
    return f"from {low:g} {unit}" if math.isinf(high) else f"{low:g} to {high:g} {unit}"


@dataclass(frozen=True)
class SizeRecall:
    """Recall of the lesions of one size class, pooled over cases.

    Attributes
    ----------
    low, high : float
        Bounds of the class, see `nnunet_rw.evaluation.metrics.lesions.in_size`.
    num_lesions, num_found : int
    recall : float
        NaN without a lesion.
    recall_low, recall_high : float
        Of its interval, see `nnunet_rw.evaluation.comparison.statistics.recall_interval`; NaN where lesions are of too
        few units.
    """

    low: float
    high: float
    num_lesions: int
    num_found: int
    recall: float
    recall_low: float
    recall_high: float


def recall_by_size(
    cases: Sequence[LesionMatches],
    edges_mm3: Sequence[float] = DEFAULT_EDGES_MM3,
    units: Sequence[str] | None = None,
) -> list[SizeRecall]:
    """Recall of small and large lesions by any overlap, over the reference lesions of all cases together.

    Classes are fixed beforehand, not taken from the lesions, so that trainers and datasets compare: by default below
    10, 10 to 100, 100 to 1000 and from 1000 mm3 on (a sphere of 2.7, 5.8 and 12.4 mm across).

    Parameters
    ----------
    cases : sequence of LesionMatches
        Ignored lesions do not count.
    edges_mm3 : sequence of float
        Rising; two bound one class. A lesion on an edge is in the upper class, one beyond the first or last in none.
    units : sequence of str, optional
        The patient of each case. Default: each case stands for itself.

    Returns
    -------
    list of SizeRecall
        One a class, rising.

    Raises
    ------
    ValueError
        If the edges do not rise.

    Examples
    --------
    >>> from nnunet_rw.evaluation.metrics.lesions import match_lesions
    >>> reference, prediction = np.array([[1, 1, 0, 1, 0, 0]], bool), np.array([[0, 1, 0, 0, 0, 1]], bool)
    >>> sizes = recall_by_size([match_lesions(reference, prediction, (1, 1))], edges_mm3=(0, 2, 10))
    >>> [(size.low, size.num_found, size.num_lesions) for size in sizes]
    [(0, 0, 1), (2, 1, 1)]
    """
    if len(edges_mm3) < 2 or not all(low < high for low, high in pairwise(edges_mm3)):
        raise ValueError(f"Expected two or more rising edges, but got {edges_mm3}.")
    volumes, found, owners = [np.zeros(0)], [np.zeros(0, bool)], [np.zeros(0, int)]
    unit_of_case = np.arange(len(cases)) if units is None else np.unique(units, return_inverse=True)[1]
    for case, owner in zip(cases, unit_of_case, strict=True):
        lesions = case.reference
        volumes.append(lesions.volume_mm3[lesions.counted])
        found.append(found_lesions(lesions))
        owners.append(np.full(len(found[-1]), owner))
    volume_mm3, hit, unit_of_lesion = map(np.concatenate, (volumes, found, owners))
    classes = []
    for low, high in pairwise(edges_mm3):
        inside = in_size(volume_mm3, low, high)
        num_lesions, num_found = int(inside.sum()), int(hit[inside].sum())
        recall = num_found / num_lesions if num_lesions else math.nan
        interval = recall_interval(unit_of_lesion[inside], hit[inside])
        classes.append(SizeRecall(low, high, num_lesions, num_found, recall, *interval))
    return classes


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
        return share(self.iou_sum, self._half_lesions)

    @property
    def sq(self) -> float:
        """Segmentation quality, the mean IoU of the matched pairs: NaN without any."""
        return share(self.iou_sum, self.tp)

    @property
    def rq(self) -> float:
        """Recognition quality, F1 of the lesions: 0 where nothing is matched, NaN without a lesion on either side."""
        return share(self.tp, self._half_lesions)

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
