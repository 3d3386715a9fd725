"""Lesions found and false positives, counted over cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from nnunet_rw.evaluation.matches import LesionMatches, Lesions

Rule = Literal["any_overlap", "one_to_one"]


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
        return _ratio(self.num_found, self.num_lesions)

    @property
    def precision(self) -> float:
        """Predicted lesions that are not false of all: NaN without any."""
        return _ratio(self.num_predicted - self.num_false_positives, self.num_predicted)

    @property
    def false_positives_per_case(self) -> float:
        return _ratio(self.num_false_positives, self.num_cases)


def count_detections(cases: Sequence[LesionMatches], rule: Rule = "any_overlap") -> Detection:
    """Count what was found over all cases.

    Under "any_overlap" a reference lesion is found by one shared voxel and a predicted lesion is false without any; so
    one predicted lesion may find several, and several may find one. Recall counts reference lesions and precision
    predicted ones, which is why they have no common number of true positives. Under "one_to_one" a reference lesion is
    found, and a predicted one not false, if it has a partner.

    Parameters
    ----------
    cases : sequence of LesionMatches
        One a case of one class; of several classes a case is one for each.
    rule : str

    Raises
    ------
    ValueError
        If the rule is unknown.
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
    """Which of the counted lesions of one side are found by the other: bool, one for each that is counted."""
    if rule not in get_args(Rule):
        raise ValueError(f"Expected the rule to be one of {get_args(Rule)}, but got {rule!r}.")
    return (lesions.hit if rule == "any_overlap" else lesions.matched)[lesions.counted]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
