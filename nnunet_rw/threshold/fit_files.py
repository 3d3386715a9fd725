"""The files that the choice of a threshold leaves, and the one that is read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rw.evaluation.evaluation_tables import write_operating_points
from nnunet_rw.files import write_atomically
from nnunet_rw.threshold.cases import Segmented
from nnunet_rw.threshold.fitting import ThresholdFit


@dataclass(frozen=True)
class Threshold:
    """A probability of a label, None for the only one; foreground is above."""

    label: str | None
    threshold: float


def write_threshold(fit: ThresholdFit, folder: str | Path) -> list[Path]:
    """Write thresholds.csv, what is found at each, and threshold.json; return their paths.

    Where no threshold keeps within the false positives there is none to use: threshold.json is not written, and an
    earlier one removed.
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
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No {path}. Run: nnunet-rw threshold --fit")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Threshold(str(content["label"]), float(content["threshold"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no threshold. Run: nnunet-rw threshold --fit") from error


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


def _as_json(fit: ThresholdFit) -> dict[str, Any]:
    baselines = [case.baseline for case in fit.cases if case.baseline]
    return {
        "label": fit.label,
        "threshold": fit.threshold,
        "model": fit.model,
        "baseline": fit.baseline,
        "false_positives_per_case": fit.false_positives,
        "num_cases": len(fit.cases),
        "num_lesions": sum(len(case.curve.highest) for case in fit.cases),
        "thresholds_without": fit.thresholds_without,
        "settings": fit.settings,
        "left_out": summary(fit.left_out),
        "baseline_summary": summary(baselines) if baselines else None,
    }
