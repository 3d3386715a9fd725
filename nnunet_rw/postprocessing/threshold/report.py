"""The choice of a threshold, as files and for the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from nnunet_rw.evaluation.comparison.cells import with_interval
from nnunet_rw.evaluation.comparison.intervals import MIN_UNITS, NO_INTERVAL, Interval
from nnunet_rw.evaluation.folder import write_operating_points
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3
from nnunet_rw.evaluation.metrics.lesions import ROUNDING
from nnunet_rw.evaluation.metrics.thresholds import THRESHOLDS
from nnunet_rw.postprocessing.threshold.fit import Segmented, ThresholdFit
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.readers import read_json
from nnunet_rw.util.tables import text_table


class _Content(TypedDict):
    """What is read back of threshold.json."""

    label: str
    threshold: float


@dataclass(frozen=True)
class Threshold:
    """A probability of a label, None for the only one; foreground is above."""

    label: str | None
    threshold: float


def write_threshold(fit: ThresholdFit, folder: str | Path) -> list[Path]:
    """Write thresholds.csv, what is found at each, and threshold.json; return their paths.

    Where no threshold keeps within the false positives there is none to use: threshold.json is not written, and an
    earlier one removed. Intervals are of 95 %, their ends; null with too few cases.
    """
    folder = Path(folder)
    paths = [folder / "thresholds.csv", folder / "threshold.json"]
    paths[1].unlink(missing_ok=True)
    write_operating_points(paths[0], {fit.label: fit.points})
    if fit.threshold is None:
        return paths[:1]
    write_atomically(paths[1], (json.dumps(_as_json(fit), indent=2) + "\n").encode())
    return paths


def read_threshold(path: str | Path) -> Threshold:
    """From the file that ``nnunet-rw threshold --fit`` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It holds no threshold.
    """
    options = {"dataset": "DATASET", "configuration": "CONFIGURATION", "trainer": "TRAINER", "like": "TRAINER"}
    advice = f"Run: {command('threshold', fit=True, **options, output=Path(path).parent)}"
    content = read_json(path, advice, _Content, "holds no threshold")
    return Threshold(content["label"], float(content["threshold"]))


def summary(segmented: Sequence[Segmented]) -> dict[str, float | None]:
    """Means over cases: false positives, recall of the pooled lesions, Dice where it is defined; None where nowhere."""
    found = np.concatenate([item.found for item in segmented])
    dice = np.array([item.dice for item in segmented])
    defined = dice[~np.isnan(dice)]
    return {
        "false_positives_per_case": float(np.mean([item.false_positives for item in segmented])),
        "recall": float(found.mean()) if len(found) else None,
        "dice": float(defined.mean()) if len(defined) else None,
    }


def _ends(interval: Interval) -> list[float] | None:
    return None if math.isnan(interval.low) else list(interval)


def _as_json(fit: ThresholdFit) -> dict[str, Any]:
    baselines = [case.baseline for case in fit.cases if case.baseline]
    return {
        "label": fit.label,
        "threshold": fit.threshold,
        "model": fit.model,
        "baseline": fit.baseline,
        "false_positives_per_case": fit.false_positives,
        "margin": fit.margin,
        "num_cases": len(fit.cases),
        "num_lesions": sum(len(case.curve.highest) for case in fit.cases),
        "thresholds_without": fit.thresholds_without,
        "settings": fit.settings,
        "left_out": {
            **summary(fit.left_out),
            "false_positives_interval": _ends(fit.left_out_false_positives),
            "excess_interval": _ends(fit.left_out_excess),
        },
        "baseline_summary": summary(baselines) if baselines else None,
    }


_LISTED = (0.999, 0.99, *(round(0.1 * tenth, 1) for tenth in range(9, 0, -1)))
_LEGEND = """\
Lesions found: of the reference's, by any overlap, all and by size. F1 is that of lesions, Dice a mean over cases.
"Cases left out" are segmented at the threshold that was chosen without their fold: expect this of new cases.
Brackets: 95 % intervals, resampling {resampled}."""


def threshold_text(fit: ThresholdFit) -> str:
    """What is found at several thresholds, which one is chosen, and what it does in cases left out of the choice."""
    sizes = _sizes(fit)
    header = ("threshold", "false positives per case", "found", *sizes, "F1", "Dice", "")
    parts = [
        f"{fit.model}, label {fit.label}: {len(fit.cases)} cases in {len(fit.thresholds_without)} folds, "
        f"{sum(len(case.curve.highest) for case in fit.cases)} lesions",
        text_table(header, _point_rows(fit, sizes)),
        _choice(fit),
        _LEGEND.format(resampled=fit.resampled),
    ]
    if fit.threshold is not None:
        header = ("in cases left out", "false positives per case", "found", *sizes, "Dice")
        parts.insert(2, text_table(header, _outcomes(fit, sizes)))
    return "\n\n".join(parts)


def _sizes(fit: ThresholdFit) -> dict[str, np.ndarray]:
    """Booleans of all lesions by the name of their size; classes without a lesion are left out."""
    # Ten voxels of 1.47 mm3 are 14.7 mm3 to the user, but a little less in floating point.
    volume_mm3 = np.concatenate([case.curve.volume_mm3 for case in fit.cases]) * (1 + ROUNDING)
    classes = {
        f"from {low:g} mm3" if math.isinf(high) else f"{low:g} to {high:g} mm3": (volume_mm3 >= low)
        & (volume_mm3 < high)
        for low, high in pairwise(DEFAULT_EDGES_MM3)
    }
    return {name: chosen for name, chosen in classes.items() if chosen.any()}


def _point_rows(fit: ThresholdFit, sizes: dict[str, np.ndarray]) -> list[list[str]]:
    points = fit.points
    found = np.concatenate([case.curve.found for case in fit.cases], axis=1)
    rows = []
    for position, threshold in enumerate(THRESHOLDS):
        if threshold in _LISTED or threshold == fit.threshold:
            rows.append(
                [
                    f"{threshold:g}",
                    f"{points.false_positives[position]:.2f}",
                    _number(points.recall[position]),
                    *(_number(found[position][chosen].mean()) for chosen in sizes.values()),
                    _number(points.f1[position]),
                    _number(points.dice[position]),
                    "<- chosen" if threshold == fit.threshold else "",
                ]
            )
    return rows


def _outcomes(fit: ThresholdFit, sizes: dict[str, np.ndarray]) -> list[list[str]]:
    baselines = [case.baseline for case in fit.cases if case.baseline]
    rows = [_outcome(fit.baseline or "", baselines, sizes)] if baselines else []
    return [*rows, _outcome(fit.model, fit.left_out, sizes, fit.left_out_false_positives)]


def _outcome(
    name: str, segmented: Sequence[Segmented], sizes: dict[str, np.ndarray], interval: Interval = NO_INTERVAL
) -> list[str]:
    figures = summary(segmented)
    found = np.concatenate([item.found for item in segmented])
    return [
        name,
        with_interval(figures["false_positives_per_case"] or 0.0, interval, 2),
        _number(figures["recall"]),
        *(_number(found[chosen].mean()) for chosen in sizes.values()),
        _number(figures["dice"]),
    ]


def _choice(fit: ThresholdFit) -> str:
    allowed = f"{fit.false_positives:.2f} false positives per case"
    source = f", what {fit.baseline} has" if fit.baseline else ""
    sure = f" with a margin of {fit.margin:g}" if fit.margin else ""
    if fit.threshold is None:
        return f"No threshold{sure} keeps within {allowed}{source}. Nothing to apply was written."
    others = fit.thresholds_without.values()
    false = float(np.mean([item.false_positives for item in fit.left_out]))
    lines = [
        f"Threshold {fit.threshold:g}{sure} ({min(others):g} to {max(others):g} without a fold): on these cases at "
        f"most {allowed}{source}.",
        f"In cases left out {false:.2f} false positives per case, {round(false - fit.false_positives, 2) + 0.0:+.2f} "
        f"against that{_in_brackets(fit.left_out_excess, 2, fit.resampled)}.",
    ]
    if fit.margin:
        lines.append(
            f"Of thresholds chosen like this about {100 * fit.margin:g} % or more keep within it in new cases."
        )
    else:
        lines.append(
            "Of thresholds chosen like this about every second has more in new cases. With --margin 0.9 nine of ten "
            "keep within."
        )
    if fit.recall and not math.isnan(fit.recall.difference):
        lines.append(
            f"In cases left out {fit.recall.difference:+.3f} of the lesions found"
            f"{_in_brackets(fit.recall.interval, 3, fit.resampled)}."
        )
    return "\n".join(lines)


def _in_brackets(interval: Interval, decimals: int, units: str) -> str:
    """`` (-0.1 to +0.3, 95 %, resampling cases)``, or that there are too few of the units for an interval."""
    if math.isnan(interval.low):
        return f" (too few {units} for an interval, which takes {MIN_UNITS})"
    return f" ({interval.low:+.{decimals}f} to {interval.high:+.{decimals}f}, 95 %, resampling {units})"


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
