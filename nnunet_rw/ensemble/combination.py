"""Probabilities of several models as one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


def combine(
    probabilities: Iterable[np.ndarray], weights: np.ndarray | None = None, regions: bool = False
) -> np.ndarray:
    r"""Average the probabilities of M models, with a weight for each model and class.

    .. math:: q_c = \sum_m w_{mc} p_{mc}, \qquad p_c = q_c / \sum_{c'} q_{c'}

    The second step, which makes classes that exclude each other sum to 1 again, leaves their order, and with it the
    segmentation, unchanged. Regions do not exclude each other and keep :math:`q_c`.

    Parameters
    ----------
    probabilities : iterable of M float arrays (C, X, Y[, Z])
        Taken one by one, so that a generator needs the memory of one.
    weights : (M, C) floats, optional
        Convex for each class. Default: the plain mean, computed as nnU-Net 2.8 does, bit by bit.
    regions : bool
        Channels are regions.

    Returns
    -------
    float32 array (C, X, Y[, Z])
        Where every model with a weight for a class gives that class 0, the background, channel 0, is 1.

    Raises
    ------
    ValueError
        Not as many models as weights, or arrays of different shapes.
    """
    total = None
    number = 0
    for number, model in enumerate(probabilities, start=1):
        if weights is not None and number > len(weights):
            raise ValueError(f"Expected {len(weights)} models, one per row of the weights, but got more.")
        if total is not None and model.shape != total.shape:
            raise ValueError(f"Expected probabilities of equal shape, but got {total.shape} and {model.shape}.")
        if weights is not None:
            model = model * _per_channel(weights[number - 1], model.ndim)
        # A copy: the first model's array is the caller's.
        total = model.astype(np.float32) if total is None else np.add(total, model, out=total, casting="same_kind")
    if total is None or (weights is not None and number != len(weights)):
        raise ValueError(f"Expected {'a model' if weights is None else len(weights)} at least, but got {number}.")
    if weights is None:
        total /= number
    elif not regions:
        _normalise(total)
    return total


def _per_channel(weights: np.ndarray, ndim: int) -> np.ndarray:
    return weights.astype(np.float32).reshape(-1, *[1] * (ndim - 1))


def _normalise(total: np.ndarray) -> None:
    sums = total.sum(axis=0)
    nothing = sums <= 0
    if nothing.any():
        total[0][nothing] = 1
        sums[nothing] = 1
    total /= sums
