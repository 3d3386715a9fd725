"""Scores of challenges, computed only where they are asked for, each by its name and with its options written down.

Imports nothing that takes long: a benchmark's specification names them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nnunet_rw.maps.arrays import as_connectivity

PENALTY_MM = 374.0
NSD_TOLERANCES_MM = (0.5, 1.0)


@dataclass(frozen=True)
class Challenge:
    """What tells one challenge's protocol from another's.

    Attributes
    ----------
    dilation : int
        Of the reference, in voxels.
    ignored_up_to_mm3 : float
        Lesions of at most this volume are left out.
    """

    dilation: int
    ignored_up_to_mm3: float


CHALLENGES = {
    "brats-gli": Challenge(3, 50),
    "brats-men": Challenge(1, 50),
    "brats-met": Challenge(1, 2),
    "brats-ped": Challenge(3, 50),
    "brats-ssa": Challenge(3, 50),
}

CC = "cc"
PROTOCOLS = (*CHALLENGES, CC)
BRATS_COLUMNS = ("brats_dice", "brats_hd95_mm", *(f"brats_nsd_{tolerance:g}mm" for tolerance in NSD_TOLERANCES_MM))
CC_COLUMNS = ("cc_dice", "cc_hd95_mm", "cc_assd_mm", "cc_nsd")
PROTOCOL_COLUMNS = (*BRATS_COLUMNS, *CC_COLUMNS)


def columns_of(name: str) -> tuple[str, ...]:
    """The columns that a protocol writes."""
    return CC_COLUMNS if name == CC else BRATS_COLUMNS


def check_protocols(names: Sequence[str]) -> None:
    """Raise a ValueError unless each is known, given once, and at most one of them is of BraTS."""
    unknown = [name for name in names if name not in PROTOCOLS]
    if unknown:
        raise ValueError(f"Expected scores out of {', '.join(PROTOCOLS)}, but got {unknown[0]}.")
    of_brats = [name for name in names if name in CHALLENGES]
    if len(of_brats) > 1 or len(set(names)) < len(names):
        raise ValueError(
            f"Expected each score once and those of one BraTS challenge, but got {', '.join(names)}. Evaluate into "
            "another folder (-o) for another."
        )


def protocol_options(names: Sequence[str], tolerance_mm: float, num_axes: int = 3) -> dict[str, dict[str, Any]]:
    """What a reader has to know of each protocol, for the settings of an evaluation."""
    options: dict[str, dict[str, Any]] = {}
    connectivity = as_connectivity(26, num_axes)
    for name in names:
        if name == CC:
            options[name] = {"connectivity": connectivity, "nearness": "voxels", "penalty": "image diagonal"}
            options[name]["nsd_tolerance_mm"] = tolerance_mm
        else:
            options[name] = {"connectivity": connectivity, **asdict(CHALLENGES[name]), "penalty_mm": PENALTY_MM}
            options[name]["nsd_tolerances_mm"] = list(NSD_TOLERANCES_MM)
    return options


def options_text(options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line per protocol, such as "cc: connectivity 26, ...".

    Examples
    --------
    >>> options_text({"cc": {"connectivity": 26, "penalty": "image diagonal"}})
    ['cc: connectivity 26, penalty image diagonal']
    """
    return [
        f"{name}: " + ", ".join(f"{key} {_option(value)}" for key, value in values.items())
        for name, values in options.items()
    ]


def _option(value: Any) -> str:
    if isinstance(value, list):
        return " and ".join(map(_option, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def protocol_scores(
    names: Sequence[str],
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: tuple[float, ...],
    tolerance_mm: float,
) -> dict[str, float]:
    """The values of the columns of these protocols, of one class of one case.

    Parameters
    ----------
    names : sequence of str
        Of `PROTOCOLS`.
    reference, prediction : boolean array (X, Y[, Z])
    spacing_mm : tuple of float
    tolerance_mm : float
        Of the NSD of CC-Metrics.
    """
    from nnunet_rw.evaluation.metrics.brats import brats_scores
    from nnunet_rw.evaluation.metrics.cc_metrics import cc_scores

    values: dict[str, float] = {}
    for name in names:
        if name == CC:
            cc = cc_scores(reference, prediction, spacing_mm, tolerance_mm)
            values |= zip(CC_COLUMNS, (cc.dice, cc.hd95_mm, cc.assd_mm, cc.nsd), strict=True)
        else:
            brats = brats_scores(reference, prediction, spacing_mm, CHALLENGES[name])
            values |= zip(BRATS_COLUMNS, (brats.dice, brats.hd95_mm, *brats.nsd), strict=True)
    return values
