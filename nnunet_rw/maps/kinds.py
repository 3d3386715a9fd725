"""The kinds of map that are stored and carried, and how each is computed from a label volume."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from nnunet_rw.maps._checks import as_labels, as_spacing
from nnunet_rw.maps.components import as_connectivity
from nnunet_rw.maps.distance import interior_distance, signed_distance
from nnunet_rw.maps.lesions import LesionsInBox, expand_in_box, find_lesions

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
        return list(self.each_mask(labels))

    def each_mask(self, labels: np.ndarray) -> Iterator[np.ndarray]:
        """As `masks`, one after the other: of a hundred classes, memory holds one."""
        for group in self.foreground:
            yield _is_one_of(labels, group)

    def head_mask(self, labels: np.ndarray, head: int) -> np.ndarray:
        """The boolean mask of one of the network's heads: the first is the background, unless heads are regions."""
        return _is_one_of(labels, (self.foreground if self.regions else ((0,), *self.foreground))[head])

    def num_labelled(self, labels: np.ndarray) -> int:
        """Number of voxels without the ignore label."""
        return labels.size if self.ignore_label is None else int(np.count_nonzero(labels != self.ignore_label))


def _is_one_of(labels: np.ndarray, group: tuple[int, ...]) -> np.ndarray:
    return labels == group[0] if len(group) == 1 else np.isin(labels, group)


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
    return np.stack(list(distance_channels(kind, labels, scheme, spacing, per_slice)))


def distance_channels(
    kind: str, labels: np.ndarray, scheme: LabelScheme, spacing: Sequence[float], per_slice: bool = False
) -> Iterator[np.ndarray]:
    """As `compute_distances`, one channel after the other: of a hundred classes, memory holds one."""
    labels = as_labels(labels)
    spacing = as_spacing(spacing, labels.ndim)
    for channel in range(scheme.num_channels(kind)):
        if per_slice:
            yield np.stack([_distance_channel(kind, piece, scheme, spacing[1:], channel) for piece in labels])
        else:
            yield _distance_channel(kind, labels, scheme, spacing, channel)


def _distance_channel(
    kind: str, labels: np.ndarray, scheme: LabelScheme, spacing: tuple[float, ...], channel: int
) -> np.ndarray:
    if kind == INTERIOR_DISTANCE and not scheme.regions:
        return interior_distance(labels, spacing, scheme.ignore_label)
    ignore = None if scheme.ignore_label is None else labels == scheme.ignore_label
    return _distance_of_mask(kind, scheme.head_mask(labels, channel), spacing, ignore)


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
    return np.stack([_distance_of_mask(kind, mask, spacing, ignore) for mask in masks])


def _distance_of_mask(
    kind: str, mask: np.ndarray, spacing: Sequence[float] | None, ignore: np.ndarray | None
) -> np.ndarray:
    if kind == SIGNED_DISTANCE and not mask.any():
        # As in `boundary_maps`: what has no voxel has no boundary and says nothing.
        return np.zeros(mask.shape, np.float32)
    distance = signed_distance(mask, spacing, ignore)
    return distance if kind == SIGNED_DISTANCE else np.abs(distance, out=distance)


def compute_lesion_ids(labels: np.ndarray, scheme: LabelScheme) -> tuple[np.ndarray, LesionTable]:
    """Lesion ids per foreground class or region, each carried one voxel beyond the lesion (`expand_lesions`).

    Returns
    -------
    ids : unsigned integer array (channels, X, Y[, Z])
        Unique over the channels. The labels decide which voxels are lesion.
    table : LesionTable
    """
    labels = as_labels(labels)
    return lesion_ids_of_masks(scheme.masks(labels), scheme.num_labelled(labels))


def lesion_ids_of_masks(masks: Sequence[np.ndarray], num_voxels: int) -> tuple[np.ndarray, LesionTable]:
    """As `compute_lesion_ids`, from one boolean mask (X, Y[, Z]) per foreground class or region.

    ``num_voxels`` is the number of labelled voxels.
    """
    found = list(lesion_channels(masks))
    table = list_lesions(found, num_voxels)
    ids = np.zeros((len(found), *masks[0].shape), np.uint16 if len(table) <= np.iinfo(np.uint16).max else np.uint32)
    for channel, lesions in enumerate(found):
        ids[channel][lesions.box] = lesions.ids
    return ids, table


def lesion_channels(masks: Iterable[np.ndarray]) -> Iterator[LesionsInBox]:
    """The channels of `lesion_ids_of_masks` one after the other, each in its own lesions' box; 0 outside of it."""
    offset = 0
    for mask in masks:
        found = expand_in_box(find_lesions(mask.view(np.uint8), as_connectivity(26, mask.ndim)), mask.shape)
        ids = found.ids.astype(np.uint32, copy=False)
        np.add(ids, offset, out=ids, where=ids > 0, casting="unsafe")
        offset += len(found.voxels)
        yield replace(found, ids=ids)


def list_lesions(found: Sequence[LesionsInBox], num_voxels: int) -> LesionTable:
    """The table of what `lesion_channels` gave."""
    return LesionTable(
        channels=np.repeat(np.arange(len(found)), [len(lesions.voxels) for lesions in found]),
        voxels=np.concatenate([lesions.voxels for lesions in found]),
        boxes=np.concatenate([lesions.boxes for lesions in found]),
        num_voxels=num_voxels,
    )
