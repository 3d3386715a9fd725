"""The lesions of a dataset: sizes, border voxels, how many and how unequal, and which of its cases share some.

Cases share lesions where they are crops of one image, copies, or had lesions implanted twice; folds must not part them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3
from nnunet_rw.evaluation.metrics.lesions import in_size
from nnunet_rw.evaluation.metrics.surface import border_voxels, neighbour_axes
from nnunet_rw.maps import lesion_components
from nnunet_rw.maps.arrays import as_labels
from nnunet_rw.maps.kinds import LabelScheme

# One fewer than there are edges: a lesion of v mm3 is in class i with edges[i] <= v < edges[i + 1].
NUM_SIZE_CLASSES = len(DEFAULT_EDGES_MM3) - 1
# A lesion this large has an outline that no other lesion has by chance, so that equal masks in two cases are the same
# lesion. Of smaller ones, and of regular ones that synthetic data are made of, that would not be true.
MIN_VOXELS = 50


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
        return np.stack([in_size(self.volume_mm3, edge) for edge in DEFAULT_EDGES_MM3[1:-1]]).sum(0, dtype=np.int64)


def find_case_lesions(
    labels: np.ndarray, scheme: LabelScheme, spacing_mm: Sequence[float]
) -> tuple[Lesions, np.ndarray]:
    """The lesions of a case, and where they are.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        -1 is background; ignored voxels are in no lesion.

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


@dataclass(frozen=True)
class SharedLesions:
    """Pairs of cases with lesions of exactly the same shape.

    Attributes
    ----------
    lesions : int
        Shapes that are in several cases.
    pairs : tuple of (str, str)
        The cases that have one in common, sorted.
    parted : tuple of int
        For every fold the number of these pairs of which one case is trained on and the other validated; empty where
        there are no folds yet.
    """

    lesions: int
    pairs: tuple[tuple[str, str], ...]
    parted: tuple[int, ...]


def lesion_shapes(lesions: Lesions, ids: np.ndarray) -> frozenset[str]:
    """Digests of the masks of a case's large, irregular lesions.

    Parameters
    ----------
    lesions, ids
        Of `find_case_lesions`.
    """
    digests = set()
    for channel in ids:
        for number, box in enumerate(find_objects(channel), start=1):
            if box is None or lesions.voxels[number - 1] < MIN_VOXELS:
                continue
            mask = channel[box] == number
            if any(np.array_equal(mask, np.flip(mask, axis)) for axis in range(mask.ndim)):
                continue
            what = f"{lesions.label[number - 1]} {mask.shape} ".encode()
            digests.add(blake2b(what + np.packbits(mask).tobytes(), digest_size=16).hexdigest())
    return frozenset(digests)


def shared_lesions(
    shapes: Mapping[str, frozenset[str]], folds: Sequence[Mapping[str, Any]] | None = None
) -> SharedLesions:
    """Which cases share lesions, and how many of these pairs each fold parts.

    Parameters
    ----------
    shapes : mapping of case to the digests of `lesion_shapes`
    folds : sequence of mappings with the cases in ``train`` and ``val``, optional
        As nnU-Net's ``splits_final.json`` has them.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for case in sorted(shapes):
        for shape in shapes[case]:
            owners[shape].append(case)
    several = [cases for cases in owners.values() if len(cases) > 1]
    pairs = {pair for cases in several for pair in combinations(cases, 2)}
    parted = []
    for fold in folds or ():
        train, val = set(fold["train"]), set(fold["val"])
        parted.append(sum((one in train and two in val) or (one in val and two in train) for one, two in pairs))
    return SharedLesions(len(several), tuple(sorted(pairs)), tuple(parted))
