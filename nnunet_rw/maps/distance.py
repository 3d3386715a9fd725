"""Euclidean distances, voxel centre to voxel centre, and the maps that papers make of them."""

from __future__ import annotations

from collections.abc import Sequence

import edt
import numpy as np

from nnunet_rw.maps.arrays import as_labels, as_mask, as_spacing, diagonal


def interior_distance(
    labels: np.ndarray, spacing: Sequence[float] | None = None, ignore_label: int | None = None
) -> np.ndarray:
    """Distance from every voxel to the nearest voxel of another label.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        -1 (nnU-Net's outside of the non-zero crop) counts as background.
    spacing : sequence of float, optional
        mm per array axis; without it the unit is the voxel.
    ignore_label : int, optional
        Ignored voxels. They are no class, so an edge towards them is no boundary: distances are taken to the
        nearest voxel *known* to be of another class.

    Returns
    -------
    float32 array of the shape of ``labels``
        Above 0 everywhere but in ignored voxels, which hold 0. Image borders are no boundary. Where no other label
        exists, the volume's diagonal.

    Examples
    --------
    >>> interior_distance(np.array([[0, 0, 1, 1, 1]]), spacing=(1, 2))
    array([[4., 2., 2., 4., 6.]], dtype=float32)
    """
    labels = as_labels(labels, ignore_label)
    spacing = as_spacing(spacing, labels.ndim)
    if ignore_label is not None:
        ignored = labels == ignore_label
        if ignored.any():
            return _interior_distance_of_known(labels, ignored, spacing)
    if labels.min() == labels.max():
        return np.full(labels.shape, diagonal(labels.shape, spacing), np.float32)
    return _edt(_shifted(labels), spacing)


def signed_distance(
    mask: np.ndarray, spacing: Sequence[float] | None = None, ignore: np.ndarray | None = None
) -> np.ndarray:
    """Distance to the mask's boundary: negative inside, positive outside.

    Inside it is minus the distance to the nearest voxel outside, outside the distance to the nearest voxel inside,
    centre to centre, so it is never 0 and jumps from -1 to +1 (voxel units) across the boundary.

    Parameters
    ----------
    mask : boolean array (X, Y[, Z])
    spacing : sequence of float, optional
        mm per array axis; without it the unit is the voxel.
    ignore : boolean array (X, Y[, Z]), optional
        Voxels of unknown class: neither inside nor outside, 0 in the result.

    Returns
    -------
    float32 array of the shape of ``mask``
        An empty mask gives + the volume's diagonal, a full one - the diagonal.

    Examples
    --------
    >>> signed_distance(np.array([[False, False, True, True]]))
    array([[ 2.,  1., -1., -2.]], dtype=float32)
    """
    mask = as_mask(mask)
    spacing = as_spacing(spacing, mask.ndim)
    if ignore is None or not ignore.any():
        if not mask.any():
            return np.full(mask.shape, diagonal(mask.shape, spacing), np.float32)
        distance = interior_distance(mask, spacing)
        return np.negative(distance, out=distance, where=mask)
    distance = distance_to(~mask & ~ignore, spacing)
    np.negative(distance, out=distance, where=mask)
    return np.where(ignore, np.float32(0), np.where(mask, distance, distance_to(mask & ~ignore, spacing)))


def boundary_maps(
    labels: np.ndarray,
    num_classes: int,
    spacing: Sequence[float] | None = None,
    inside_offset: float = 0,
    ignore_label: int | None = None,
) -> np.ndarray:
    """Signed distance to every class's boundary (Kervadec et al., arXiv 1812.07032).

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        0 is background; -1 counts as background.
    num_classes : int
        Number of classes with the background.
    spacing : sequence of float, optional
        mm per array axis; without it the unit is the voxel.
    inside_offset : float
        Added inside the class, in the map's unit. 1 in voxel units gives the authors' code, whose boundary voxels
        hold 0; the paper's formula has no offset.
    ignore_label : int, optional
        Ignored voxels; 0 in every map.

    Returns
    -------
    float32 array (num_classes, X, Y[, Z])
        A class without a voxel, or without one outside of it, has a map of zeros: its boundary does not exist, so it
        has no say. (A code that leaves the previous class's distances there punishes the wrong class.)

    Examples
    --------
    >>> boundary_maps(np.array([[0, 0, 1, 1]]), num_classes=3)[1:]  # no voxel of class 2
    array([[[ 2.,  1., -1., -2.]],
    <BLANKLINE>
           [[ 0.,  0.,  0.,  0.]]], dtype=float32)
    """
    labels = as_labels(labels, ignore_label)
    ignore = None if ignore_label is None else labels == ignore_label
    maps = np.zeros((num_classes, *labels.shape), np.float32)
    for label in range(num_classes):
        mask = labels == label
        known = mask if ignore is None else mask[~ignore]
        if not known.any() or known.all():
            continue
        maps[label] = signed_distance(mask, spacing, ignore)
        if inside_offset:
            maps[label][mask] += inside_offset
    return maps


def rectified_region_wise_maps(
    labels: np.ndarray,
    num_classes: int,
    spacing: Sequence[float] | None = None,
    ignore_label: int | None = None,
) -> np.ndarray:
    """Rectified region-wise maps (Valverde & Tohka, Pattern Recognition 2022, arXiv 2108.01405).

    Inside class c the value is -D / max D, D the distance to the class's boundary and the maximum taken over the
    class; outside it is +1. So every class pulls with at most 1 per voxel, whatever its size.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        0 is background; -1 counts as background.
    num_classes : int
        Number of classes with the background.
    spacing : sequence of float, optional
        mm per array axis. Only its ratios matter.
    ignore_label : int, optional
        Ignored voxels; +1 in every map, to be masked by the loss.

    Returns
    -------
    float32 array (num_classes, X, Y[, Z]) in [-1, 1]
        An absent class is +1 everywhere; one that fills the volume is -1 everywhere.

    Examples
    --------
    >>> rectified_region_wise_maps(np.array([[0, 0, 1, 1]]), num_classes=2)
    array([[[-1. , -0.5,  1. ,  1. ]],
    <BLANKLINE>
           [[ 1. ,  1. , -0.5, -1. ]]], dtype=float32)
    """
    labels = as_labels(labels, ignore_label)
    distance = interior_distance(labels, spacing, ignore_label)
    maps = np.ones((num_classes, *labels.shape), np.float32)
    for label in range(num_classes):
        inside = labels == label
        deepest = distance.max(where=inside, initial=0)
        if deepest > 0:
            np.divide(distance, -deepest, out=maps[label], where=inside)
    return maps


def distance_to(mask: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
    """Distance from every voxel to the nearest voxel of the mask.

    Parameters
    ----------
    mask : boolean array (X, Y[, Z])
    spacing : sequence of float, optional
        mm per array axis; without it the unit is the voxel.

    Returns
    -------
    float32 array of the shape of ``mask``
        0 in the mask; the volume's diagonal where it is empty.

    Examples
    --------
    >>> distance_to(np.array([[False, False, True]]), spacing=(1, 2))
    array([[4., 2., 0.]], dtype=float32)
    """
    mask = as_mask(mask)
    spacing = as_spacing(spacing, mask.ndim)
    if not mask.any():
        return np.full(mask.shape, diagonal(mask.shape, spacing), np.float32)
    return _edt((~mask).view(np.uint8), spacing)


def _edt(data: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    return edt.edt(np.ascontiguousarray(data), anisotropy=spacing, black_border=False, parallel=1)


def _shifted(labels: np.ndarray) -> np.ndarray:
    """Labels + 1 in the smallest unsigned type: edt takes 0 for "outside" and is fastest on uint8."""
    highest = int(labels.max()) + 1
    dtype = np.uint8 if highest <= 255 else np.uint16 if highest <= 65535 else np.uint32
    return np.add(labels, 1, dtype=dtype, casting="unsafe")


def _interior_distance_of_known(labels: np.ndarray, ignored: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    distance = np.zeros(labels.shape, np.float32)
    for label in np.unique(labels[~ignored]):
        inside = labels == label
        distance[inside] = distance_to(~inside & ~ignored, spacing)[inside]
    return distance
