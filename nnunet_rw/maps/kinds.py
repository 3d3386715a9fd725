"""The kinds of map that are stored and carried: what each has in its channels, how it is computed and sampled.

Distances have no sign where they are stored and carried. A signed distance jumps from -1 to +1 between two voxels, so
it cannot be interpolated; its sign is that of the target, which nnU-Net augments anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from nnunet_rw.maps.arrays import as_connectivity, as_labels, as_spacing
from nnunet_rw.maps.distance import interior_distance, signed_distance
from nnunet_rw.maps.lesions import LesionsInBox, expand_in_box, find_lesions, with_locations

# Of each lesion this many voxels are kept in its table, for patches to be drawn around.
MAX_LOCATIONS = 64


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
        Label of ignored voxels.
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

    @property
    def all_foreground(self) -> tuple[int, ...]:
        """The labels that are foreground of any kind."""
        return tuple(sorted({label for group in self.foreground for label in group}))

    def masks(self, labels: np.ndarray) -> list[np.ndarray]:
        """One boolean mask per foreground class or region."""
        return list(self.each_mask(labels))

    def each_mask(self, labels: np.ndarray) -> Iterator[np.ndarray]:
        """As `masks`, one after the other: of a hundred classes, memory holds one."""
        for group in self.foreground:
            yield _is_one_of(labels, group)

    def num_labelled(self, labels: np.ndarray) -> int:
        """Number of voxels without the ignore label."""
        return labels.size if self.ignore_label is None else int(np.count_nonzero(labels != self.ignore_label))


def _is_one_of(labels: np.ndarray, group: tuple[int, ...]) -> np.ndarray:
    return labels == group[0] if len(group) == 1 else np.isin(labels, group)


@dataclass(frozen=True)
class MapKind:
    """A kind of map.

    Attributes
    ----------
    name : str
        Also of its folder.
    sampling : "linear" or "nearest"
        How values are interpolated. Linear ones are distances in mm: they are divided by the zoom, and keep growing
        beyond the image. The others are lesion ids, which beyond the image are those of its border.
    groups : function
        From a `LabelScheme` to the labels that each channel is about: its map says where they begin. The number of
        groups is that of the channels.
    compute : function, optional
        From labels, one group, scheme and spacing to a channel; of distances.
    """

    name: str
    sampling: Literal["linear", "nearest"]
    groups: Callable[[LabelScheme], tuple[tuple[int, ...], ...]]
    compute: Callable[[np.ndarray, tuple[int, ...], LabelScheme, tuple[float, ...]], np.ndarray] | None = None

    def num_channels(self, scheme: LabelScheme) -> int:
        return len(self.groups(scheme))


def _interior_channel(
    labels: np.ndarray, group: tuple[int, ...], scheme: LabelScheme, spacing: tuple[float, ...]
) -> np.ndarray:
    if scheme.regions:
        return _boundary_channel(labels, group, scheme, spacing)
    known = labels if scheme.ignore_label is None else labels[labels != scheme.ignore_label]
    if known.size == 0 or known.min() == known.max():
        return np.zeros(labels.shape, np.float32)
    return interior_distance(labels, spacing, scheme.ignore_label)


def _boundary_channel(
    labels: np.ndarray, group: tuple[int, ...], scheme: LabelScheme, spacing: tuple[float, ...]
) -> np.ndarray:
    ignore = None if scheme.ignore_label is None else labels == scheme.ignore_label
    return boundary_distance(_is_one_of(labels, group), spacing, ignore)


INTERIOR_DISTANCE, BOUNDARY_DISTANCE, LESION_IDS = "interior_distance", "boundary_distance", "lesion_ids"

KINDS: dict[str, MapKind] = {
    kind.name: kind
    for kind in (
        # Classes exclude each other, so one channel serves them all.
        MapKind(
            INTERIOR_DISTANCE,
            "linear",
            lambda scheme: scheme.foreground if scheme.regions else (scheme.all_foreground,),
            _interior_channel,
        ),
        MapKind(
            BOUNDARY_DISTANCE,
            "linear",
            lambda scheme: scheme.foreground if scheme.regions else (scheme.all_foreground, *scheme.foreground),
            _boundary_channel,
        ),
        MapKind(LESION_IDS, "nearest", lambda scheme: scheme.foreground),
    )
}


def serving_kind(kind: str, num_heads: int, regions: bool) -> str:
    """The kind that serves a loss that needs this one.

    Of a class and the background, and of a region and what is around it, the distance to the boundary is the interior
    distance of either side.
    """
    return INTERIOR_DISTANCE if kind == BOUNDARY_DISTANCE and (regions or num_heads == 2) else kind


def stored_kinds(kinds: Iterable[str], scheme: LabelScheme) -> tuple[str, ...]:
    """The kinds that are stored and carried for losses that need these (`serving_kind`), in the order of `KINDS`.

    Raises
    ------
    ValueError
        Unknown kind.
    """
    kinds = list(kinds)
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        raise ValueError(f"Unknown kind of map: {', '.join(unknown)}. Known: {', '.join(KINDS)}.")
    needed = {serving_kind(kind, scheme.num_heads, scheme.regions) for kind in kinds}
    return tuple(kind for kind in KINDS if kind in needed)


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
        Of the whole case; ignored ones do not count.
    locations : int64 array (N, 3)
        Voxels of the lesions, at most `MAX_LOCATIONS` of each, spread evenly over its voxels in array order.
    starts : int64 array (K + 1,)
        Those of lesion ``index`` are ``locations[starts[index] : starts[index + 1]]``.
    """

    channels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    voxels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 2), np.int64))
    num_voxels: int = 0
    locations: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    starts: np.ndarray = field(default_factory=lambda: np.zeros(1, np.int64))

    def __len__(self) -> int:
        return len(self.voxels)


def boundary_distance(
    mask: np.ndarray, spacing: Sequence[float] | None = None, ignore: np.ndarray | None = None
) -> np.ndarray:
    """Distance to the mask's boundary without a sign: `nnunet_rw.maps.distance.signed_distance`, absolute.

    Returns
    -------
    float32 array of the shape of ``mask``
        0 everywhere where the mask has no voxel, or has all that are labelled: there is no boundary, and a map that is
        0 has no say in a loss.
    """
    known = mask if ignore is None else mask[~ignore]
    if not known.any() or known.all():
        return np.zeros(mask.shape, np.float32)
    distance = signed_distance(mask, spacing, ignore)
    return np.abs(distance, out=distance)


def compute_distances(
    kind: str, labels: np.ndarray, scheme: LabelScheme, spacing: Sequence[float], per_slice: bool = False
) -> np.ndarray:
    """A distance map of a whole volume or patch.

    Parameters
    ----------
    kind : "interior_distance" or "boundary_distance"
    labels : integer array (X, Y[, Z])
    scheme : LabelScheme
    spacing : sequence of float
        mm per array axis.
    per_slice : bool
        Distances within the slices of axis 0, as a 2D network sees them.

    Returns
    -------
    float32 array (channels, X, Y[, Z])
        Above 0 but in ignored voxels, and where there is no boundary: 0 everywhere.
    """
    return np.stack(list(distance_channels(kind, labels, scheme, spacing, per_slice)))


def distance_channels(
    kind: str, labels: np.ndarray, scheme: LabelScheme, spacing: Sequence[float], per_slice: bool = False
) -> Iterator[np.ndarray]:
    """As `compute_distances`, one channel after the other: of a hundred classes, memory holds one."""
    labels = as_labels(labels)
    spacing = as_spacing(spacing, labels.ndim)
    compute = KINDS[kind].compute
    if compute is None:
        raise ValueError(f"Expected a kind of distance, but got {kind!r}.")
    for group in KINDS[kind].groups(scheme):
        if per_slice:
            yield np.stack([compute(piece, group, scheme, spacing[1:]) for piece in labels])
        else:
            yield compute(labels, group, scheme, spacing)


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


def lesion_channels(masks: Iterable[np.ndarray], max_locations: int = 0) -> Iterator[LesionsInBox]:
    """The channels of `lesion_ids_of_masks` one after the other, each in its own lesions' box; 0 outside of it.

    With ``max_locations`` each comes with that many voxels of every lesion, see `LesionTable`.
    """
    offset = 0
    for mask in masks:
        found = find_lesions(mask.view(np.uint8), as_connectivity(26, mask.ndim))
        if max_locations:
            found = with_locations(found, max_locations)
        found = expand_in_box(found, mask.shape)
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
        locations=np.concatenate([lesions.locations for lesions in found]),
        starts=np.append(0, np.cumsum(np.concatenate([lesions.num_locations for lesions in found]))),
    )
