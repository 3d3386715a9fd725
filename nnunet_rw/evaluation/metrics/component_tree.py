"""The components of a probability map at many thresholds, merged once instead of sought at each.

Components only grow and merge as the threshold falls. So the voxels above the lowest threshold are joined to their
neighbours once, in falling order of probability (Kruskal's algorithm), and the components of every threshold are read
off on the way. The cost follows the voxels above the lowest threshold, not the volume, and hardly the number of
thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from nnunet_rw.maps.arrays import as_connectivity


@dataclass(frozen=True)
class LevelComponents:
    """The K components of what is above one threshold, in no particular order, and what they share with R lesions.

    Attributes
    ----------
    threshold : float
        In single precision; the foreground is above.
    voxels : int64 (K,)
    peak : float32 (K,)
        Highest probability.
    component, lesion, shared : int64 (P,)
        The pairs of a component and a lesion that share voxels, and how many.
    """

    threshold: float
    voxels: np.ndarray
    peak: np.ndarray
    component: np.ndarray
    lesion: np.ndarray
    shared: np.ndarray

    def __len__(self) -> int:
        return len(self.voxels)


def component_levels(
    probability: np.ndarray,
    thresholds: Sequence[float],
    connectivity: int = 26,
    lesion_ids: np.ndarray | None = None,
) -> list[LevelComponents]:
    """The components above each threshold, with their size, peak and overlaps.

    Parameters
    ----------
    probability : float array (X, Y[, Z])
        Compared in single precision, in which nnU-Net stores it.
    thresholds : sequence of float
        Falling.
    connectivity : int
        6, 18 or 26; 4 or 8 in two dimensions, where 6 and 26 mean these.
    lesion_ids : integer array (X, Y[, Z]), optional
        1..R in the lesions of a reference, 0 elsewhere.

    Returns
    -------
    list of LevelComponents
        One per threshold.

    Raises
    ------
    ValueError
        If thresholds do not fall, the connectivity is impossible or the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> row = np.array([[0.9, 0.4, 0.7, 0.0, 0.6]], np.float32)
    >>> [level.voxels.tolist() for level in component_levels(row, [0.5, 0.3], connectivity=4)]
    [[1, 1, 1], [3, 1]]
    """
    levels = np.asarray(thresholds, np.float32)
    if len(levels) == 0 or (np.diff(levels) >= 0).any():
        raise ValueError(f"Expected falling thresholds, but got {list(thresholds)}.")
    connectivity = as_connectivity(connectivity, probability.ndim)
    if lesion_ids is not None and lesion_ids.shape != probability.shape:
        raise ValueError(f"Expected lesion ids of shape {probability.shape}, but got {lesion_ids.shape}.")
    above = probability > levels[-1]
    # The first threshold that a voxel is above.
    values = probability[above].astype(np.float32, copy=False)
    born = np.searchsorted(-levels, -values, side="right").astype(np.min_scalar_type(len(levels)))
    lesion = np.zeros(len(values), np.int64) if lesion_ids is None else lesion_ids[above].astype(np.int64)
    order = np.argsort(born, kind="stable")
    place = np.empty(len(order), np.int32 if len(order) < 2**31 else np.int64)
    place[order] = np.arange(len(order))
    where = np.flatnonzero(above)
    faces, corners = (
        [
            _Edges(first, second, born, place, len(levels))
            for first, second in _neighbours(where, probability.shape, connectivity, faces)
        ]
        for faces in (True, False)
    )
    ends = np.searchsorted(born[order], np.arange(len(levels)), side="right")
    return list(_merge(levels, values[order], lesion[order], ends, faces, corners))


class _Edges:
    """Neighbours along one direction: places of both in the order of birth, sorted by the threshold that joins them."""

    def __init__(
        self, first: np.ndarray, second: np.ndarray, born: np.ndarray, place: np.ndarray, num_levels: int
    ) -> None:
        joined = np.maximum(born[first], born[second])
        order = np.argsort(joined, kind="stable")
        self.ends = np.concatenate([[0], np.bincount(joined, minlength=num_levels).cumsum()])
        self.first, self.second = place[first[order]], place[second[order]]

    def at(self, level: int) -> tuple[np.ndarray, np.ndarray]:
        """Those that one threshold joins."""
        chosen = slice(self.ends[level], self.ends[level + 1])
        return self.first[chosen], self.second[chosen]


def _merge(
    levels: np.ndarray,
    values: np.ndarray,
    lesion: np.ndarray,
    ends: np.ndarray,
    faces: Sequence[_Edges],
    corners: Sequence[_Edges],
) -> Iterator[LevelComponents]:
    # Of each voxel so far its component; of each component its size and peak; of each pair its voxels.
    of_voxel = np.empty(len(values), np.int32 if len(values) < 2**31 else np.int64)
    voxels, peak = np.zeros(0, np.int64), np.zeros(0, np.float32)
    keys, shared = np.zeros(0, np.int64), np.zeros(0, np.int64)
    width = int(lesion.max(initial=0)) + 1
    start = 0
    for level, (threshold, end) in enumerate(zip(levels, ends, strict=True)):
        # Every new voxel is a component of its own, until the edges join it to others.
        of_voxel[start:end] = np.arange(len(voxels), len(voxels) + end - start)
        merged = np.arange(len(voxels) + end - start)
        # Most of the neighbours around a corner are of one component already once those that share a face are joined.
        for edges in (faces, corners):
            merged = _joined(merged, of_voxel, [found.at(level) for found in edges])
        of_voxel[:end] = merged[of_voxel[:end]]
        number = int(merged.max(initial=-1)) + 1
        voxels = np.bincount(merged, np.append(voxels, np.ones(end - start)), minlength=number).astype(np.int64)
        highest = np.full(number, -np.inf, np.float32)
        np.maximum.at(highest, merged, np.append(peak, values[start:end]))
        peak = highest
        inside = start + np.flatnonzero(lesion[start:end])
        found = np.concatenate(
            [merged[keys // width] * width + keys % width, of_voxel[inside] * width + lesion[inside]]
        )
        keys, inverse = np.unique(found, return_inverse=True)
        counts = np.append(shared, np.ones(len(inside)))
        shared = np.bincount(inverse, counts, minlength=len(keys)).astype(np.int64)
        start = end
        yield LevelComponents(float(threshold), voxels, peak, keys // width, keys % width - 1, shared)


def _joined(merged: np.ndarray, of_voxel: np.ndarray, edges: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Components after more edges between voxels; ``merged`` numbers them after the earlier ones."""
    firsts, seconds = [], []
    for first, second in edges:
        one, other = merged[of_voxel[first]], merged[of_voxel[second]]
        differ = one != other
        firsts.append(one[differ])
        seconds.append(other[differ])
    if not sum(map(len, firsts)):
        return merged
    one, other = np.concatenate(firsts), np.concatenate(seconds)
    number = int(merged.max()) + 1
    graph = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(number, number))
    return connected_components(graph, directed=False)[1][merged]


def _neighbours(
    where: np.ndarray, shape: tuple[int, ...], connectivity: int, faces: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Positions in ``where``, sorted flat indices, of the pairs of neighbouring voxels, each pair once.

    A direction at a time, either those along an axis or all others of the connectivity.
    """
    # Within an array that is one voxel wider, no step leads around a border.
    wide = [size + 1 for size in shape]
    flat = np.ravel_multi_index(np.unravel_index(where, shape), wide)
    steps = np.cumprod([1, *wide[:0:-1]])[::-1]
    # So many axes may change at once.
    most = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}[connectivity]
    for offset in product((-1, 0, 1), repeat=len(shape)):
        axes = sum(map(abs, offset))
        if offset <= (0,) * len(shape) or axes > most or (axes == 1) != faces or not len(flat):
            continue
        wanted = flat + int(np.dot(offset, steps))
        at = np.searchsorted(flat, wanted)
        found = np.flatnonzero(flat[np.minimum(at, len(flat) - 1)] == wanted)
        yield found, at[found]
