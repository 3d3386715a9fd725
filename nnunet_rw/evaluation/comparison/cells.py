"""Cells of the tables: means and shares with their intervals and numbers."""

from __future__ import annotations

import math

from nnunet_rw.evaluation.comparison.intervals import Interval

NOTHING = "-"
# Instead of an interval.
TOO_FEW = "[too few]"


def rounded(value: float, decimals: int) -> str:
    """``0.612``, without the sign of a zero; `NOTHING` where the value is non-finite."""
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def with_ends(value: float, low: float, high: float, decimals: int) -> str:
    """``0.612 [0.580, 0.640]``, or `TOO_FEW` instead of an interval that is NaN."""
    if math.isnan(low):
        return f"{rounded(value, decimals)} {TOO_FEW}" if math.isfinite(value) else NOTHING
    return f"{rounded(value, decimals)} [{rounded(low, decimals)}, {rounded(high, decimals)}]"


def with_interval(value: float, interval: Interval, decimals: int) -> str:
    """As `with_ends`; the value alone where all cases are alike."""
    return rounded(value, decimals) if interval.low == interval.high else with_ends(value, *interval, decimals)


def counted(cell: str, n: int, of: str = "") -> str:
    """``0.612 (n = 20)``, or the cell alone where it has no value."""
    return cell if cell == NOTHING else f"{cell} (n = {n}{of})"


def spread(values: list[float], decimals: int) -> str:
    """``0.601 to 0.612``, lowest to highest of the finite values; nothing for fewer than two."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return NOTHING
    return f"{rounded(min(finite), decimals)} to {rounded(max(finite), decimals)}"
