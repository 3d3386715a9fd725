"""Weights of a compound's terms that change from epoch to epoch.

A schedule maps the epoch, counted from 0, to a weight; being a function of the epoch alone it goes on where it was
when a training is continued. They come in pairs, one for the region term (Dice, cross-entropy), one for the
boundary term.
"""

from __future__ import annotations

from collections.abc import Callable

Schedule = Callable[[int], float]


def gradual_region(epoch: int) -> float:
    """max((100 - epoch) / 100, 0.01): Valverde & Tohka, arXiv 2108.01405, "gradual"."""
    return max((100 - epoch) / 100, 0.01)


def gradual_boundary(epoch: int) -> float:
    """1 - `gradual_region`."""
    return 1 - gradual_region(epoch)


def rebalance_region(epoch: int) -> float:
    """1 - `rebalance_boundary`."""
    return 1 - rebalance_boundary(epoch)


def rebalance_boundary(epoch: int) -> float:
    """0.01, and 0.01 more every epoch up to 0.99: Kervadec et al., arXiv 1812.07032, "rebalance"."""
    return min(0.01 * (epoch + 1), 0.99)


def increase_boundary(epoch: int) -> float:
    """0.01, and 0.01 more every epoch: Kervadec et al., arXiv 1812.07032, "increase"; the region term stays at 1."""
    return 0.01 * (epoch + 1)


SCHEDULES: dict[str, Schedule] = {
    function.__name__: function
    for function in (gradual_region, gradual_boundary, rebalance_region, rebalance_boundary, increase_boundary)
}


def weight_at(weight: float | str, epoch: int) -> float:
    """The weight itself, or that of the named schedule.

    Raises
    ------
    ValueError
        No schedule has that name.
    """
    if isinstance(weight, str):
        if weight not in SCHEDULES:
            raise ValueError(f"Unknown schedule {weight!r}. Known: {', '.join(SCHEDULES)}.")
        return SCHEDULES[weight](epoch)
    return float(weight)
