"""The components of a probability map at many thresholds, merged once instead of sought at each.

Components only grow and merge as the threshold falls. So the voxels above the lowest threshold are joined to their
neighbours once, in falling order of probability (Kruskal's algorithm), and the components of every threshold are read
off on the way. The cost follows the voxels above the lowest threshold, not the volume, and hardly the number of
thresholds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from nnunet_rw.maps.components import as_connectivity


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
    where = np.flatnonzero(probability > levels[-1])
    values = probability.ravel()[where].astype(np.float32)
    # The first threshold that a voxel is above.
    born = np.searchsorted(-levels, -values, side="right")
    first, second = _neighbours(where, probability.shape, connectivity)
    lesion = np.zeros(len(where), np.int64) if lesion_ids is None else lesion_ids.ravel()[where].astype(np.int64)
    return list(_merge(levels, values, born, first, second, lesion))


def _merge(
    levels: np.ndarray,
    values: np.ndarray,
    born: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    lesion: np.ndarray,
) -> Iterator[LevelComponents]:
    order = np.argsort(born, kind="stable")
    values, lesion = values[order], lesion[order]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    ends = np.searchsorted(born[order], np.arange(len(levels)), side="right")
    joined = np.maximum(born[first], born[second])
    by_level = np.argsort(joined, kind="stable")
    first, second = place[first[by_level]], place[second[by_level]]
    edge_ends = np.searchsorted(joined[by_level], np.arange(len(levels)), side="right")
    in_lesion = np.flatnonzero(lesion)
    # Of each voxel so far its component; of each component its size and peak.
    of_voxel, voxels, peak = np.empty(len(order), np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
    start = edge_start = 0
    found: LevelComponents | None = None
    for level, end, edge_end in zip(levels, ends, edge_ends, strict=True):
        if found is not None and end == start:
            found = replace(found, threshold=float(level))
            yield found
            continue
        # Every new voxel is a component of its own, until the edges join it to others.
        of_voxel[start:end] = np.arange(len(voxels), len(voxels) + end - start)
        voxels = np.append(voxels, np.ones(end - start, np.int64))
        peak = np.append(peak, values[start:end])
        one, other = of_voxel[first[edge_start:edge_end]], of_voxel[second[edge_start:edge_end]]
        graph = coo_matrix((np.ones(len(one), bool), (one, other)), shape=(len(voxels), len(voxels)))
        number, merged = connected_components(graph, directed=False)
        of_voxel[:end] = merged[of_voxel[:end]]
        voxels = np.bincount(merged, voxels, minlength=number).astype(np.int64)
        highest = np.full(number, -np.inf, np.float32)
        np.maximum.at(highest, merged, peak)
        peak, start, edge_start = highest, end, edge_end
        inside = in_lesion[: np.searchsorted(in_lesion, end)]
        width = int(lesion.max(initial=0)) + 1
        keys, shared = np.unique(of_voxel[inside] * width + lesion[inside], return_counts=True)
        found = LevelComponents(float(level), voxels, peak, keys // width, keys % width - 1, shared)
        yield found


def _neighbours(where: np.ndarray, shape: tuple[int, ...], connectivity: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions in ``where``, sorted flat indices, of the pairs of neighbouring voxels; each pair once."""
    # Within an array that is one voxel wider, no step leads around a border.
    wide = [size + 1 for size in shape]
    flat = np.ravel_multi_index(np.unravel_index(where, shape), wide)
    steps = np.cumprod([1, *wide[:0:-1]])[::-1]
    # So many axes may change at once.
    most = {4: 1, 8: 2, 6: 1, 18: 2, 26: 3}[connectivity]
    firsts, seconds = [], []
    for offset in product((-1, 0, 1), repeat=len(shape)):
        if offset <= (0,) * len(shape) or sum(map(abs, offset)) > most:
            continue
        wanted = flat + int(np.dot(offset, steps))
        at = np.searchsorted(flat, wanted)
        found = np.flatnonzero(flat[np.minimum(at, len(flat) - 1)] == wanted) if len(flat) else at
        firsts.append(found)
        seconds.append(at[found])
    return np.concatenate(firsts), np.concatenate(seconds)
