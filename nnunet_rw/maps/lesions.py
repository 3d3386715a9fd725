"""Lesions of a label volume: their identity, their volume, and the weights that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from nnunet_rw.maps.arrays import as_connectivity, as_labels, as_spacing, connected_components, foreground_box


@dataclass(frozen=True)
class LesionComponents:
    """Connected components of every foreground label.

    Attributes
    ----------
    ids : int32 array (X, Y[, Z])
        0 in the background, 1..K in lesions.
    labels : int64 array (K,)
        Label of lesion ``id = index + 1``.
    voxels : int64 array (K,)
    volumes_mm3 : float64 array (K,)
        In mm3 (mm2 for two axes), or voxels where no spacing was given.
    boxes : int64 array (K, ndim, 2)
        First voxel and one past the last, per axis.
    """

    ids: np.ndarray
    labels: np.ndarray
    voxels: np.ndarray
    volumes_mm3: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


def lesion_components(
    labels: np.ndarray,
    connectivity: int = 26,
    spacing: Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> LesionComponents:
    """Find the lesions: connected components of each foreground label on its own.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        0 and below is background.
    connectivity : int
        6, 18 or 26 in three dimensions; 4 or 8 in two, where 6 and 26 mean these.
    spacing : sequence of float, optional
        mm per array axis; without it volumes are counted in voxels.
    ignore_label : int, optional
        Counted as background: nobody knows whether a lesion is there.

    Examples
    --------
    >>> found = lesion_components(np.array([[1, 1, 0, 1]]), spacing=(1, 3))
    >>> found.ids, found.volumes_mm3
    (array([[1, 1, 0, 2]], dtype=int32), array([6., 3.]))
    """
    labels = as_labels(labels, ignore_label)
    spacing = as_spacing(spacing, labels.ndim)
    found = find_lesions(labels, as_connectivity(connectivity, labels.ndim), ignore_label)
    ids = np.zeros(labels.shape, np.int32)
    ids[found.box] = found.ids
    return LesionComponents(ids, found.labels, found.voxels, found.voxels * float(np.prod(spacing)), found.boxes)


@dataclass(frozen=True)
class LesionsInBox:
    """As `LesionComponents`, with the ids of the foreground's box alone.

    Attributes
    ----------
    box : tuple of slices
        Empty where there is no lesion.
    ids : unsigned integer array of the box's shape
    labels, voxels, boxes
        As in `LesionComponents`; ``boxes`` count from the volume's first voxel.
    locations : int64 array (N, ndim)
        Some voxels of every lesion, lesion by lesion, see `with_locations`; none unless asked for.
    num_locations : int64 array (K,)
        How many of them are each lesion's.
    """

    box: tuple[slice, ...]
    ids: np.ndarray
    labels: np.ndarray
    voxels: np.ndarray
    boxes: np.ndarray
    locations: np.ndarray
    num_locations: np.ndarray


def find_lesions(labels: np.ndarray, connectivity: int, ignore_label: int | None = None) -> LesionsInBox:
    """As `lesion_components`: lesions fill little of a volume, so what is done in their box alone costs little.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        As `as_labels` returns it.
    connectivity : int
        As `as_connectivity` returns it.
    """
    box, cropped, ids = _ids_in_box(labels, connectivity, ignore_label)
    inside = ids > 0
    voxels = np.bincount(ids[inside], minlength=1)
    lesion_labels = np.zeros(len(voxels), np.int64)
    lesion_labels[ids[inside]] = cropped[inside]
    boxes = [
        [[axis.start + offset.start, axis.stop + offset.start] for axis, offset in zip(lesion, box, strict=True)]
        for lesion in (ndimage.find_objects(ids) if ids.size else [])
    ]
    return LesionsInBox(
        box,
        ids,
        lesion_labels[1:],
        voxels[1:],
        np.array(boxes, np.int64).reshape(-1, labels.ndim, 2),
        locations=np.zeros((0, labels.ndim), np.int64),
        num_locations=np.zeros(len(boxes), np.int64),
    )


def with_locations(found: LesionsInBox, limit: int) -> LesionsInBox:
    """With at most ``limit`` voxels of every lesion, spread evenly over its voxels in array order."""
    flat = np.flatnonzero(found.ids)
    by_lesion = flat[np.argsort(found.ids.ravel()[flat], kind="stable")]
    kept = np.minimum(found.voxels, limit)
    lesion = np.repeat(np.arange(len(kept)), kept)
    number = np.arange(len(lesion)) - np.repeat(np.cumsum(kept) - kept, kept)
    # The middles of as many equal stretches of the lesion's voxels.
    within = ((number + 0.5) * found.voxels[lesion] / kept[lesion]).astype(np.int64)
    chosen = by_lesion[(np.cumsum(found.voxels) - found.voxels)[lesion] + within]
    positions = np.stack(np.unravel_index(chosen, found.ids.shape), axis=1) if found.ids.size else found.locations
    first = np.array([axis.start for axis in found.box])
    return replace(found, locations=positions + first, num_locations=kept)


def _ids_in_box(
    labels: np.ndarray, connectivity: int, ignore_label: int | None
) -> tuple[tuple[slice, ...], np.ndarray, np.ndarray]:
    """The foreground's box, and what is in it: labels, and the number of each voxel's lesion; all empty without any."""
    if ignore_label is not None:
        labels = np.where(labels == ignore_label, 0, labels)
    box = foreground_box(labels) or (slice(0, 0),) * labels.ndim
    cropped = labels[box]
    ids = connected_components(cropped, connectivity) if cropped.size else np.zeros(cropped.shape, np.uint16)
    return box, cropped, ids


def lesion_volume_map(
    labels: np.ndarray,
    spacing: Sequence[float] | None = None,
    connectivity: int = 26,
    ignore_label: int | None = None,
) -> np.ndarray:
    """Volume of the lesion that a voxel belongs to.

    Returns
    -------
    float32 array of the shape of ``labels``
        mm3 with ``spacing``, voxels without; 0 in the background. Parameters as in `lesion_components`.

    Examples
    --------
    >>> lesion_volume_map(np.array([[1, 1, 0, 1]]), spacing=(1, 3))
    array([[6., 6., 0., 3.]], dtype=float32)
    """
    labels = as_labels(labels, ignore_label)
    voxel_mm3 = float(np.prod(as_spacing(spacing, labels.ndim)))
    box, _, ids = _ids_in_box(labels, as_connectivity(connectivity, labels.ndim), ignore_label)
    foreground = ids > 0
    ids = ids[foreground]
    volumes = np.zeros(labels.shape, np.float32)
    volumes[box][foreground] = (np.bincount(ids) * voxel_mm3).astype(np.float32)[ids]
    return volumes


def inverse_volume_weights(
    components: np.ndarray,
    w_min: float = 1.0,
    w_max: float = 2e5,
    power: float = 1.0,
    normalise: bool = False,
) -> np.ndarray:
    """Inverse lesion-volume weights (Shirokikh et al., MICCAI 2020, arXiv 2007.10033).

    w_i = N / ((K + 1) V_i) for each of the K lesions and for the background, which counts as one component more;
    N is the number of voxels, V_i the component's. Without clipping the weights sum to N.

    Parameters
    ----------
    components : integer array of any shape
        Component id per voxel, 0 for background. Ids need not be consecutive: lesions outside a crop do not count.
    w_min, w_max : float
        Weights are clipped to this range. The paper clips at 1, which lifts the background to 1 in any volume
        with a lesion; 0 keeps the formula's background.
    power : float
        Exponent of the weight before clipping: 1 is the paper's formula, 0 weights every voxel alike.
    normalise : bool
        Scale the lesions' weights to a mean of 1 over the foreground and set the background's to 1: lesions then
        share the weight that the foreground has anyway, and false positives cost as much as without weights.

    Returns
    -------
    float32 array of the shape of ``components``
        1 everywhere where there is no lesion.

    Examples
    --------
    >>> inverse_volume_weights(np.array([0, 0, 0, 1, 1, 2]))  # 6 voxels, 2 lesions: 6 / (3 V)
    array([1., 1., 1., 1., 1., 2.], dtype=float32)
    """
    components = np.asarray(components)
    box = foreground_box(components)
    if box is None:
        return np.ones(components.shape, np.float32)
    foreground = components[box] > 0
    ids = components[box][foreground]
    voxels = np.bincount(ids)
    voxels[0] = components.size - len(ids)
    count = np.count_nonzero(voxels[1:])
    table = (components.size / ((count + 1) * np.maximum(voxels, 1))) ** power  # ids may have no voxel
    table = np.clip(table, w_min, w_max)
    if normalise:
        table /= (table[1:] * voxels[1:]).sum() / voxels[1:].sum()
        table[0] = 1.0
    weights = np.full(components.shape, table[0], np.float32)
    weights[box][foreground] = table.astype(np.float32)[ids]
    return weights


def expand_lesions(ids: np.ndarray) -> np.ndarray:
    """Lesion ids carried one voxel (26-neighbourhood) into the background.

    A label volume that is resampled linearly and an id volume that is resampled by nearest neighbour disagree at
    the lesions' rim, but never by more than one voxel: a sample that becomes lesion lies in a cell with a lesion
    voxel at one of its corners, and the nearest voxel is a corner of the same cell. So one voxel of margin is
    enough for every lesion voxel to find an id; where two lesions meet, the higher id wins.

    Parameters
    ----------
    ids : integer array (X, Y[, Z])

    Returns
    -------
    array of the shape and dtype of ``ids``
        Lesion voxels keep their own id.

    Examples
    --------
    >>> expand_lesions(np.array([[0, 0, 1, 0, 0]]))
    array([[0, 1, 1, 1, 0]])
    """
    expanded = ids
    for axis in range(ids.ndim):  # the maximum over a cube is that over lines along each axis in turn
        before, expanded = expanded, expanded.copy()
        lines, widened = (np.moveaxis(array, axis, 0) for array in (before, expanded))
        np.maximum(widened[1:], lines[:-1], out=widened[1:])
        np.maximum(widened[:-1], lines[1:], out=widened[:-1])
    np.copyto(expanded, ids, where=ids > 0)
    return expanded


def expand_in_box(found: LesionsInBox, shape: Sequence[int]) -> LesionsInBox:
    """`expand_lesions` of the lesions of a volume of this shape: their box becomes one voxel wider."""
    if found.ids.size == 0:
        return found
    box = tuple(
        slice(max(0, axis.start - 1), min(size, axis.stop + 1)) for axis, size in zip(found.box, shape, strict=True)
    )
    ids = np.zeros([axis.stop - axis.start for axis in box], found.ids.dtype)
    inner = tuple(
        slice(axis.start - wide.start, axis.stop - wide.start) for axis, wide in zip(found.box, box, strict=True)
    )
    ids[inner] = found.ids
    return replace(found, box=box, ids=expand_lesions(ids))
