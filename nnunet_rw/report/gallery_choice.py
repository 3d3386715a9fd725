"""Which cases and lesions a gallery shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nnunet_rw.evaluation.case_evaluation import CaseEvaluation
from nnunet_rw.evaluation.lesions import ROUNDING
from nnunet_rw.evaluation.recall import DEFAULT_EDGES_MM3


@dataclass(frozen=True)
class Missed:
    """A missed lesion: index of its case, its id, its size in mm3 (mm2 in two dimensions)."""

    case: int
    lesion: int
    volume_mm3: float


@dataclass(frozen=True)
class MissedOfSize:
    """The missed lesions of one size class, pooled over cases: how many, and some to look at.

    Attributes
    ----------
    low, high : float
        A lesion of volume v belongs here if low <= v < high.
    num_lesions, num_missed : int
        Counted lesions, and those of them that share no voxel with the prediction.
    examples : tuple of Missed
        From the largest to the smallest.
    """

    low: float
    high: float
    num_lesions: int
    num_missed: int
    examples: tuple[Missed, ...]


def worst_cases(evaluations: Sequence[CaseEvaluation], position: int, number: int) -> list[int]:
    """Indices of the cases of lowest Dice in the class at a position, the worst first.

    Of equal Dice, as among cases without any true positive, the one with more wrong voxels is worse. Cases without
    reference and prediction have no Dice and are left out: nothing is wrong with them.
    """
    counts = [case.classes[position].overlap for case in evaluations]
    defined = [index for index, count in enumerate(counts) if not math.isnan(count.dice)]
    return sorted(defined, key=lambda index: (counts[index].dice, -counts[index].fp - counts[index].fn))[:number]


def missed_by_size(
    evaluations: Sequence[CaseEvaluation],
    position: int,
    examples: int = 6,
    edges: Sequence[float] = DEFAULT_EDGES_MM3,
) -> list[MissedOfSize]:
    """Missed lesions of the class at a position, in size classes.

    Examples are spread evenly over the missed lesions in the order of their size, the largest always among them, so
    that they show what is usual in the class.
    """
    found = [case.classes[position].matches.reference for case in evaluations]
    case = np.repeat(np.arange(len(found)), [len(lesions) for lesions in found])
    lesion = np.concatenate([np.arange(len(lesions)) + 1 for lesions in found])
    volume, counted, missed = (
        np.concatenate([getattr(lesions, name) for lesions in found]) for name in ("volume_mm3", "counted", "missed")
    )
    classes = []
    for low, high in pairwise(edges):
        # Upwards, so that a lesion on an edge is not below it by rounding.
        inside = counted & (volume * (1 + ROUNDING) >= low) & (volume * (1 + ROUNDING) < high)
        chosen = np.flatnonzero(inside & missed)
        chosen = chosen[np.argsort(-volume[chosen], kind="stable")]
        shown = np.unique(np.linspace(0, len(chosen) - 1, min(examples, len(chosen))).round().astype(int))
        items = tuple(Missed(int(case[i]), int(lesion[i]), float(volume[i])) for i in chosen[shown])
        classes.append(MissedOfSize(low, high, int(inside.sum()), len(chosen), items))
    return classes
