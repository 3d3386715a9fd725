"""One-to-one assignment of predicted to reference lesions."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

# Far below the smallest IoU that is ever assigned, far above the rounding of a sum of IoUs.
_TIE = 1e-9


def assign_one_to_one(reference: np.ndarray, predicted: np.ndarray, iou: np.ndarray) -> np.ndarray:
    """The pairs of the one-to-one assignment with the largest sum of IoU (Hungarian method).

    Of assignments whose sums agree to about 1e-9 the one with more pairs wins, then the one with the larger sum of
    squared IoU. What is still tied then has the same number of pairs and the same IoUs; the order of the pairs decides.

    Only lesions that are connected through pairs compete, so each connected block of the overlap graph is solved on its
    own: a block of one pair needs no solver, and the others are small however many lesions there are.

    Parameters
    ----------
    reference, predicted : integer array (P,)
        Index of the reference and of the predicted lesion of each candidate pair; no pair occurs twice.
    iou : float array (P,)
        In (0, 1].

    Returns
    -------
    boolean array (P,)
        True for the chosen pairs; every lesion is in at most one of them.
    """
    if len(iou) == 0:
        return np.zeros(0, bool)
    block = _blocks(reference, predicted)
    order = np.argsort(block, kind="stable")
    bounds = np.flatnonzero(np.diff(block[order], prepend=-1, append=-1))
    chosen = np.ones(len(iou), bool)
    for start, stop in pairwise(bounds):
        if stop - start > 1:
            pairs = order[start:stop]
            chosen[pairs] = _solve(reference[pairs], predicted[pairs], iou[pairs])
    return chosen


def _blocks(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Number of the connected part of the overlap graph that each pair lies in."""
    num_reference = reference.max() + 1
    num_lesions = num_reference + predicted.max() + 1
    edges = np.ones(len(reference), bool), (reference, predicted + num_reference)
    _, block = connected_components(coo_matrix(edges, shape=(num_lesions, num_lesions)), directed=False)
    return block[reference]


def _solve(reference: np.ndarray, predicted: np.ndarray, iou: np.ndarray) -> np.ndarray:
    row_ids, rows = np.unique(reference, return_inverse=True)
    column_ids, columns = np.unique(predicted, return_inverse=True)
    gain = np.zeros((len(row_ids), len(column_ids)))
    gain[rows, columns] = iou + _TIE * (1 + iou**2 / 100)
    assigned = np.zeros(gain.shape, bool)
    assigned[linear_sum_assignment(gain, maximize=True)] = True
    return assigned[rows, columns]
