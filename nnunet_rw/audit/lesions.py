"""The lesions of a dataset: sizes, border voxels, how many and how unequal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3
from nnunet_rw.evaluation.metrics.lesions import ROUNDING
from nnunet_rw.evaluation.metrics.surface import border_voxels, neighbour_axes
from nnunet_rw.maps import lesion_components
from nnunet_rw.maps.checks import as_labels
from nnunet_rw.maps.kinds import LabelScheme

# One fewer than there are edges: a lesion of v mm3 is in class i with edges[i] <= v < edges[i + 1].
NUM_SIZE_CLASSES = len(DEFAULT_EDGES_MM3) - 1


@dataclass(frozen=True)
class Lesions:
    """Lesions: 26-connected components of every foreground class, or of every region.

    Attributes
    ----------
    label : int64 array (K,)
        Index of the class or region in the scheme's foreground.
    voxels, border_voxels : int64 arrays (K,)
        A voxel is border if a face neighbour is outside of the lesion or of the image, as for surface distances: one
        slice of a volume is an image.
    volume_mm3 : float64 array (K,)
        mm2 for two axes.
    """

    label: np.ndarray
    voxels: np.ndarray
    border_voxels: np.ndarray
    volume_mm3: np.ndarray

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def size_class(self) -> np.ndarray:
        """(K,) int64 from 0, the smallest, to ``NUM_SIZE_CLASSES - 1``."""
        # Upwards, so that a lesion on an edge is not below it by rounding.
        return np.digitize(self.volume_mm3 * (1 + ROUNDING), DEFAULT_EDGES_MM3[1:-1]).astype(np.int64)


def find_case_lesions(
    labels: np.ndarray, scheme: LabelScheme, spacing_mm: Sequence[float]
) -> tuple[Lesions, np.ndarray]:
    """The lesions of a case, and where they are.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        -1 is background; unlabelled voxels are in no lesion.

    Returns
    -------
    lesions : Lesions
    ids : int32 array (1 or regions, X, Y[, Z])
        Index in ``lesions`` + 1, 0 outside. Classes exclude each other and share one channel.
    """
    labels = as_labels(labels)
    layers = list(scheme.each_mask(labels)) if scheme.regions else [labels]
    ignore = None if scheme.regions else scheme.ignore_label  # which no region's mask holds
    ids = np.zeros((len(layers), *labels.shape), np.int32)
    axes = neighbour_axes(labels.shape)
    parts, offset = [], 0
    for channel, layer in enumerate(layers):
        found = lesion_components(layer, spacing=spacing_mm, ignore_label=ignore)
        border = [
            np.count_nonzero(border_voxels(found.ids[tuple(slice(*axis) for axis in box)] == number, axes))
            for number, box in enumerate(found.boxes, start=1)
        ]
        index = np.full(len(found), channel) if scheme.regions else _positions(found.labels, scheme)
        parts.append((index, found.voxels, border, found.volumes_mm3))
        np.add(found.ids, offset, out=ids[channel], where=found.ids > 0)
        offset += len(found)
    label, voxels, borders, volumes = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Lesions(label.astype(np.int64), voxels, borders.astype(np.int64), volumes), ids


def _positions(values: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Of labels in the scheme's foreground, each of which is one of them."""
    return np.array([scheme.foreground.index((int(value),)) for value in values], np.int64)


def pooled(parts: Sequence[Lesions]) -> Lesions:
    """All lesions of several cases."""
    names = ("label", "voxels", "border_voxels", "volume_mm3")
    return Lesions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


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
