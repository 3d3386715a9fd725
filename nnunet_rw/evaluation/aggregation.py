"""One number from many cases, with the number of cases that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Aggregate:
    """Summary of one metric over cases.

    Attributes
    ----------
    mean, median, sd : float
        Over the n values; the standard deviation has n - 1 in its denominator. NaN where n is 0 (sd: below 2).
    n : int
        Values that count, the penalised ones among them.
    n_undefined : int
        NaN values, left out.
    n_penalised : int
        Infinite values, for which the penalty stands.
    """

    mean: float
    median: float
    sd: float
    n: int
    n_undefined: int
    n_penalised: int


def aggregate(
    values: Sequence[float] | np.ndarray, penalty: float | Sequence[float] | np.ndarray | None = None
) -> Aggregate:
    """Mean, median and standard deviation of one metric; NaN is left out and counted, inf is penalised.

    Parameters
    ----------
    values : array (n,)
        One value a case. NaN: the metric is undefined there (two empty masks). Inf: one mask is empty, and no distance
        is large enough.
    penalty : float or array (n,), optional
        Stands for inf, in the unit of the values. For distances the diagonal of the image in mm, which no distance
        exceeds; one number for all cases or one each. Not needed where no value is inf.

    Returns
    -------
    Aggregate
        No value at all is no error: n is 0 and the rest NaN.

    Raises
    ------
    ValueError
        If a value is inf and there is no finite penalty for it, a value is -inf, or the number of penalties is wrong.
    """
    values = np.array(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"Expected one value a case, but got an array of shape {values.shape}.")
    if np.isneginf(values).any():
        raise ValueError("Expected numbers, NaN or inf, but got -inf.")
    infinite = np.isposinf(values)
    if infinite.any():
        values[infinite] = _penalties(penalty, len(values))[infinite]
        if not np.isfinite(values[infinite]).all():
            raise ValueError(
                f"Expected a finite penalty for {np.count_nonzero(infinite)} infinite values, but got {penalty}. "
                "Pass the diagonal of the image in mm."
            )
    defined = values[~np.isnan(values)]
    n = len(defined)
    return Aggregate(
        mean=float(defined.mean()) if n else np.nan,
        median=float(np.median(defined)) if n else np.nan,
        sd=float(defined.std(ddof=1)) if n > 1 else np.nan,
        n=n,
        n_undefined=len(values) - n,
        n_penalised=int(np.count_nonzero(infinite)),
    )


def _penalties(penalty: float | Sequence[float] | np.ndarray | None, num_values: int) -> np.ndarray:
    penalties = np.asarray(np.nan if penalty is None else penalty, dtype=np.float64)
    if penalties.shape not in ((), (num_values,)):
        raise ValueError(f"Expected one penalty or {num_values}, one a case, but got shape {penalties.shape}.")
    return np.broadcast_to(penalties, num_values)
