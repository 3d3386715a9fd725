"""The kinds of map that are stored and carried, and how each is computed from a label volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nnunet_rw.maps._checks import as_labels, as_spacing
from nnunet_rw.maps.distance import boundary_maps, interior_distance, signed_distance
from nnunet_rw.maps.lesions import LesionComponents, expand_lesions, lesion_components

INTERIOR_DISTANCE = "interior_distance"
SIGNED_DISTANCE = "signed_distance"
LESION_IDS = "lesion_ids"
KINDS = (INTERIOR_DISTANCE, SIGNED_DISTANCE, LESION_IDS)


@dataclass(frozen=True)
class LabelScheme:
    """What the network's heads mean.

    Attributes
    ----------
    foreground : tuple of tuples of int
        The labels of every foreground class, or of every region.
    regions : bool
        Heads are overlapping regions (sigmoid, no background head) instead of exclusive classes (softmax).
    ignore_label : int, optional
        Label of unlabelled voxels.
    """

    foreground: tuple[tuple[int, ...], ...]
    regions: bool = False
    ignore_label: int | None = None

    @classmethod
    def classes(cls, num_classes: int, ignore_label: int | None = None) -> LabelScheme:
        """Exclusive classes 0 (background) to ``num_classes - 1``."""
        return cls(tuple((label,) for label in range(1, num_classes)), False, ignore_label)

    @property
    def num_heads(self) -> int:
        return len(self.foreground) + (not self.regions)

    @property
    def highest_label(self) -> int:
        return max([label for group in self.foreground for label in group] + [self.ignore_label or 0])

    def num_channels(self, kind: str) -> int:
        """Number of channels of a map: classes exclude each other, so one interior distance serves them all."""
        if kind == LESION_IDS:
            return len(self.foreground)
        if kind == INTERIOR_DISTANCE and not self.regions:
            return 1
        return self.num_heads

    def masks(self, labels: np.ndarray) -> list[np.ndarray]:
        """One boolean mask per foreground class or region."""
        return [np.isin(labels, group) if len(group) > 1 else labels == group[0] for group in self.foreground]


@dataclass(frozen=True)
class LesionTable:
    """Every lesion of a case, over all channels of the lesion map; ``index + 1`` is the id.

    Attributes
    ----------
    channels, voxels : int64 arrays (K,)
        Channel of the lesion map, and size.
    boxes : int64 array (K, 3, 2)
        First voxel and one past the last, per axis.
    num_voxels : int
        Of the whole case; unlabelled ones do not count.
    """

    channels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    voxels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 2), np.int64))
    num_voxels: int = 0

    def __len__(self) -> int:
        return len(self.voxels)


def compute_distances(
    kind: str, labels: np.ndarray, scheme: LabelScheme, spacing: Sequence[float], per_slice: bool = False
) -> np.ndarray:
    """A distance map of a whole volume or patch.

    Parameters
    ----------
    kind : "interior_distance" or "signed_distance"
    labels : integer array (X, Y[, Z])
    scheme : LabelScheme
    spacing : sequence of float
        mm per array axis.
    per_slice : bool
        Distances within the slices of axis 0, as a 2D network sees them.

    Returns
    -------
    float32 array (channels, X, Y[, Z])
    """
    labels = as_labels(labels)
    spacing = as_spacing(spacing, labels.ndim)
    if per_slice:
        slices = [compute_distances(kind, piece, scheme, spacing[1:]) for piece in labels]
        return np.stack(slices, axis=1)
    if scheme.regions:
        ignore = None if scheme.ignore_label is None else labels == scheme.ignore_label
        return region_distances(kind, scheme.masks(labels), spacing, ignore)
    if kind == INTERIOR_DISTANCE:
        return interior_distance(labels, spacing, scheme.ignore_label)[None]
    return boundary_maps(labels, scheme.num_heads, spacing, ignore_label=scheme.ignore_label)


def region_distances(
    kind: str, masks: Sequence[np.ndarray], spacing: Sequence[float] | None, ignore: np.ndarray | None = None
) -> np.ndarray:
    """A distance map of overlapping regions; parameters as in `compute_distances`.

    Parameters
    ----------
    masks : sequence of R boolean arrays (X, Y[, Z])
    ignore : boolean array (X, Y[, Z]), optional
        Unlabelled voxels.

    Returns
    -------
    float32 array (R, X, Y[, Z])
    """
    maps = [signed_distance(mask, spacing, ignore) for mask in masks]
    if kind == INTERIOR_DISTANCE:
        return np.abs(np.stack(maps))
    # As for classes: a region without a voxel has no boundary and says nothing.
    return np.stack([values if mask.any() else np.zeros_like(values) for values, mask in zip(maps, masks, strict=True)])


def compute_lesion_ids(labels: np.ndarray, scheme: LabelScheme) -> tuple[np.ndarray, LesionTable]:
    """Lesion ids per foreground class or region, each carried one voxel beyond the lesion (`expand_lesions`).

    Returns
    -------
    ids : unsigned integer array (channels, X, Y[, Z])
        Unique over the channels. The labels decide which voxels are lesion.
    table : LesionTable
    """
    labels = as_labels(labels)
    ignored = 0 if scheme.ignore_label is None else int(np.count_nonzero(labels == scheme.ignore_label))
    return lesion_ids_of_masks(scheme.masks(labels), labels.size - ignored)


def lesion_ids_of_masks(masks: Sequence[np.ndarray], num_voxels: int) -> tuple[np.ndarray, LesionTable]:
    """As `compute_lesion_ids`, from one boolean mask (X, Y[, Z]) per foreground class or region.

    ``num_voxels`` is the number of labelled voxels.
    """
    found = [lesion_components(mask) for mask in masks]
    total = sum(len(components) for components in found)
    ids = np.zeros((len(found), *masks[0].shape), np.uint16 if total <= np.iinfo(np.uint16).max else np.uint32)
    offset = 0
    for channel, components in enumerate(found):
        expanded = expand_lesions(components.ids)
        ids[channel] = np.where(expanded > 0, expanded + offset, 0)
        offset += len(components)
    return ids, _table(found, num_voxels)


def _table(found: list[LesionComponents], num_voxels: int) -> LesionTable:
    return LesionTable(
        channels=np.repeat(np.arange(len(found)), [len(components) for components in found]),
        voxels=np.concatenate([components.voxels for components in found]),
        boxes=np.concatenate([components.boxes for components in found]),
        num_voxels=num_voxels,
    )
