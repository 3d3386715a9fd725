"""What the fit of an ensemble found, and what it gains."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rw.ensemble.gains import CaseScores, Gain, mean_of_defined
from nnunet_rw.ensemble.weights import EnsembleWeights
from nnunet_rw.files import write_atomically

_COLUMNS = ("case", "fold", "label", "model", "dice", "n_lesions", "n_hit", "n_predicted", "n_false_positive")


@dataclass(frozen=True)
class FitReport:
    """The fit of an ensemble.

    Attributes
    ----------
    models, classes : tuple of str
    cases : tuple of (case, fold)
    scores : dict of str to list of tuple of Scores
        By model and for `EQUAL`, `FITTED` (cross-fitted) and `CLEANED` (the chosen of both, cross-fitted volumes): of
        each case, of each class.
    gains : tuple of Gain
        See `nnunet_rw.ensemble.gains.gains`.
    chosen : str
        `EQUAL` or `FITTED`.
    weights : EnsembleWeights
        To be used.
    fitted : EnsembleWeights
        Fitted on all cases, without minimum volumes.
    fitted_without : dict of str to EnsembleWeights
        By the fold left out, and applied to it. How they differ tells how sure the weights are.
    volumes_mm3 : dict of str to float
        Minimum volumes of components by class, for the chosen weights, found on all cases; `weights` holds those kept.
    volumes_mm3_without : dict of str to such dicts
        By the fold left out.
    """

    models: tuple[str, ...]
    classes: tuple[str, ...]
    cases: tuple[tuple[str, str], ...]
    scores: Mapping[str, list[CaseScores]]
    gains: tuple[Gain, ...]
    chosen: str
    weights: EnsembleWeights
    fitted: EnsembleWeights
    fitted_without: Mapping[str, EnsembleWeights]
    volumes_mm3: Mapping[str, float]
    volumes_mm3_without: Mapping[str, Mapping[str, float]]

    def summary(self, method: str, position: int) -> dict[str, float]:
        """Means over cases of one class: Dice with its n, F1, recall of all lesions, false positives a case."""
        scores = [found[position] for found in self.scores[method]]
        dice = np.array([found.dice for found in scores])
        lesions = sum(found.n_lesions for found in scores)
        return {
            "dice": mean_of_defined(dice),
            "n": int((~np.isnan(dice)).sum()),
            "f1": float(np.mean([found.f1 for found in scores])),
            "n_lesions": lesions,
            "recall": sum(found.n_hit for found in scores) / lesions if lesions else math.nan,
            "false_positives_per_case": float(np.mean([found.n_false_positive for found in scores])),
        }


def write_fit(report: FitReport, folder: str | Path) -> list[Path]:
    """Write cases.csv and, last, weights.json for ``nnunet-rw ensemble --weights``; return their paths."""
    folder = Path(folder)
    rows = io.StringIO(newline="")
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for method, of_cases in report.scores.items():
        for (case, fold), of_classes in zip(report.cases, of_cases, strict=True):
            for label, scores in zip(report.classes, of_classes, strict=True):
                cells = asdict(scores) | {"dice": "" if math.isnan(scores.dice) else repr(scores.dice)}
                writer.writerow([case, fold, label, method, *cells.values()])
    paths = [folder / "cases.csv", folder / "weights.json"]
    contents = [rows.getvalue(), json.dumps(as_json(report), indent=2) + "\n"]
    for path, content in zip(paths, contents, strict=True):
        write_atomically(path, content.encode())
    return paths


def as_json(report: FitReport) -> dict[str, Any]:
    """What `nnunet_rw.ensemble.weights.read_weights` reads, and how it was found."""
    content = {
        **report.weights.as_json(),
        "chosen": report.chosen,
        "fitted": report.fitted.as_json()["weights"],
        "fitted_without": {name: weights.as_json()["weights"] for name, weights in report.fitted_without.items()},
        "volumes_mm3": dict(report.volumes_mm3),
        "volumes_mm3_without": {name: dict(volumes) for name, volumes in report.volumes_mm3_without.items()},
        "num_cases": len(report.cases),
        "summary": {
            method: {label: report.summary(method, position) for position, label in enumerate(report.classes)}
            for method in report.scores
        },
        "dice_gains": [
            {"label": gain.label, "method": gain.method, "against": gain.against, **asdict(gain.comparison)}
            for gain in report.gains
        ],
    }
    return _finite(content)


def _finite(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
