"""Cells of the tables: means and shares with their intervals and numbers."""

from __future__ import annotations

import math

from nnunet_rw.evaluation.comparison.intervals import Interval
from nnunet_rw.evaluation.comparison.tables import _NOTHING as NOTHING
from nnunet_rw.evaluation.comparison.tables import _rounded as rounded
from nnunet_rw.evaluation.comparison.tables import _with_interval

__all__ = ["NOTHING", "counted", "rounded", "spread", "with_interval"]


def with_interval(value: float, interval: Interval, decimals: int) -> str:
    """``0.612 [0.580, 0.640]``, or ``[too few]`` instead of an interval; the value alone where all cases are alike."""
    return rounded(value, decimals) if interval.low == interval.high else _with_interval(value, *interval, decimals)


def counted(cell: str, n: int, of: str = "") -> str:
    """``0.612 (n = 20)``, or the cell alone where it has no value."""
    return cell if cell == NOTHING else f"{cell} (n = {n}{of})"


def spread(values: list[float], decimals: int) -> str:
    """``0.601 to 0.612``, lowest to highest of the finite values; nothing for fewer than two."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return NOTHING
    return f"{rounded(min(finite), decimals)} to {rounded(max(finite), decimals)}"
