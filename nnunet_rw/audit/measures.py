"""What is said of a dataset's lesions: how many, how large, how unequal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nnunet_rw.audit.lesions import Lesions, pooled
from nnunet_rw.evaluation.recall import DEFAULT_EDGES_MM3


@dataclass(frozen=True)
class LabelSummary:
    """The lesions of one class or region, over all cases.

    Attributes
    ----------
    label : str
    num_cases, num_lesions : int
        Cases with any lesion; lesions.
    per_case : (float, int, int)
        Median, lowest and highest number of lesions of a case, cases without any included.
    median_volume_mm3 : float
    gini : float
        See `gini`.
    largest_tenth_share : float
        See `largest_tenth_share`.
    border_share : float
        Of its voxels the share that is border.
    largest_lesion_share : float
        Of a case's voxels the share in its largest lesion, mean over the cases with any: 1 for one compact structure.

    The last five are NaN without a lesion.
    """

    label: str
    num_cases: int
    num_lesions: int
    per_case: tuple[float, int, int]
    median_volume_mm3: float
    gini: float
    largest_tenth_share: float
    border_share: float
    largest_lesion_share: float


@dataclass(frozen=True)
class SizeSummary:
    """The lesions of one size class, over all cases and labels; shares are of all lesions and of all their voxels.

    Attributes
    ----------
    low_mm3, high_mm3 : float
        A lesion of v mm3 is in the class if low <= v < high.
    """

    low_mm3: float
    high_mm3: float
    num_lesions: int
    lesion_share: float
    voxel_share: float


def gini(volumes: np.ndarray) -> float:
    """Gini coefficient of volumes (K,): 0 if all are alike, towards 1 if one holds nearly all; NaN for none.

    Half the mean absolute difference of two volumes over their mean, sum over i, j of |v_i - v_j| / (2 K sum v).
    """
    if len(volumes) == 0:
        return math.nan
    rising = np.sort(volumes)
    ranks = np.arange(1, len(rising) + 1)
    return float(2 * (ranks * rising).sum() / (len(rising) * rising.sum()) - (len(rising) + 1) / len(rising))


def largest_tenth_share(volumes: np.ndarray) -> float:
    """Share of the volume in the largest tenth of the lesions, rounded up to whole ones; NaN for none."""
    if len(volumes) == 0:
        return math.nan
    falling = np.sort(volumes)[::-1]
    return float(falling[: math.ceil(len(falling) / 10)].sum() / falling.sum())


def summarise_label(name: str, label: int, cases: Sequence[Lesions]) -> LabelSummary:
    """The lesions of the class or region at an index, in all cases."""
    own = [case.label == label for case in cases]
    counts = np.array([int(chosen.sum()) for chosen in own])
    voxels = [case.voxels[chosen] for case, chosen in zip(cases, own, strict=True)]
    border = sum(int(case.border_voxels[chosen].sum()) for case, chosen in zip(cases, own, strict=True))
    volumes = np.concatenate([case.volume_mm3[chosen] for case, chosen in zip(cases, own, strict=True)])
    any_lesion = len(volumes) > 0
    return LabelSummary(
        label=name,
        num_cases=int(np.count_nonzero(counts)),
        num_lesions=len(volumes),
        per_case=(float(np.median(counts)), int(counts.min()), int(counts.max())),
        median_volume_mm3=float(np.median(volumes)) if any_lesion else math.nan,
        gini=gini(volumes),
        largest_tenth_share=largest_tenth_share(volumes),
        border_share=border / int(sum(part.sum() for part in voxels)) if any_lesion else math.nan,
        largest_lesion_share=float(np.mean([part.max() / part.sum() for part in voxels if len(part)]))
        if any_lesion
        else math.nan,
    )


def summarise_sizes(cases: Sequence[Lesions]) -> tuple[SizeSummary, ...]:
    """The size classes of evaluations, rising; there must be a lesion."""
    lesions = pooled(cases)
    summaries = []
    for position, (low, high) in enumerate(pairwise(DEFAULT_EDGES_MM3)):
        inside = lesions.size_class == position
        number = int(inside.sum())
        share = float(lesions.voxels[inside].sum() / lesions.voxels.sum())
        summaries.append(SizeSummary(low, high, number, number / len(lesions), share))
    return tuple(summaries)
