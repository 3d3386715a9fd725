"""What the fit of an ensemble found and gains, as files and for the terminal."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rw.evaluation.comparison.statistics import MIN_UNITS, PairedComparison, paired_comparison
from nnunet_rw.postprocessing.ensemble.average import Scores
from nnunet_rw.postprocessing.ensemble.weights import EnsembleWeights
from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.tables import csv_text, json_value, rounded, signed_interval, text_table

EQUAL, FITTED, CLEANED = "equal weights", "fitted weights", "small components removed"
MEAN = "mean of classes"

# Of each class.
CaseScores = tuple[Scores, ...]


@dataclass(frozen=True)
class Gain:
    """Dice of an ensemble minus that of something else, over the cases for which both have it.

    Attributes
    ----------
    label : str
        Or `MEAN`: of the classes that are defined for both.
    method, against : str
    comparison : PairedComparison
    """

    label: str
    method: str
    against: str
    comparison: PairedComparison


def gains(
    scores: Mapping[str, list[CaseScores]], models: Sequence[str], classes: Sequence[str], units: Sequence[str]
) -> tuple[Gain, ...]:
    """Gains of the ensembles over the best single model, and of fitted over equal weights.

    Per class and, of several, in their mean. The best model is the one with the highest mean on these very cases, which
    favours it, not the ensemble.

    Parameters
    ----------
    scores : mapping of str to N tuples of Scores
        By model, `EQUAL`, `FITTED` and `CLEANED`.
    models, classes : sequences of str
    units : sequence of N str
        The patient of each case, or the case itself: what intervals and tests are over.
    """
    found = []
    for label in (*classes, *([MEAN] if len(classes) > 1 else [])):
        means = {model: mean_of_defined(_dice(scores, model, classes, label)) for model in models}
        defined = {model: mean for model, mean in means.items() if not math.isnan(mean)}
        best = max(sorted(defined), key=defined.__getitem__, default=None)
        pairs = [(method, best) for method in (EQUAL, FITTED, CLEANED) if best] + [(FITTED, EQUAL)]
        found += [dice_gain(scores, classes, method, against, units, label) for method, against in pairs]
    return tuple(gain for gain in found if gain)


def dice_gain(
    scores: Mapping[str, list[CaseScores]],
    classes: Sequence[str],
    method: str,
    against: str,
    units: Sequence[str],
    label: str = MEAN,
) -> Gain | None:
    """The gain of a method; None where no case defines it."""
    ours, theirs = (np.array([[found.dice for found in case] for case in scores[name]]) for name in (method, against))
    if label != MEAN:
        position = classes.index(label)
        ours, theirs = ours[:, [position]], theirs[:, [position]]
    undefined = np.isnan(ours) | np.isnan(theirs)
    some = ~undefined.all(axis=1)
    if not some.any():
        return None
    first, second = (np.ma.array(values, mask=undefined).mean(axis=1).data[some] for values in (theirs, ours))
    return Gain(label, method, against, paired_comparison(first, second, units=np.array(units)[some]))


def _dice(scores: Mapping[str, list[CaseScores]], method: str, classes: Sequence[str], label: str) -> np.ndarray:
    values = np.array([[found.dice for found in case] for case in scores[method]])
    if label != MEAN:
        return values[:, classes.index(label)]
    return np.array([mean_of_defined(row) for row in values])


def mean_of_defined(values: np.ndarray) -> float:
    """Of the values that are not NaN; NaN for none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


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
        See `nnunet_rw.postprocessing.ensemble.report.gains`.
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
    size_unit : str
        As of `nnunet_rw.evaluation.units.size_unit`.
    resampled : str
        What intervals are over: "cases" or "patients".
    notes : tuple of str
        What the folds are not.
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
    size_unit: str
    resampled: str = "cases"
    notes: tuple[str, ...] = ()

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
    rows = (
        [case, fold, label, method, *asdict(scores).values()]
        for method, of_cases in report.scores.items()
        for (case, fold), of_classes in zip(report.cases, of_cases, strict=True)
        for label, scores in zip(report.classes, of_classes, strict=True)
    )
    paths = [folder / "cases.csv", folder / "weights.json"]
    contents = [csv_text(_COLUMNS, rows), json.dumps(as_json(report), indent=2) + "\n"]
    for path, content in zip(paths, contents, strict=True):
        write_atomically(path, content.encode())
    return paths


def as_json(report: FitReport) -> dict[str, Any]:
    """What `nnunet_rw.postprocessing.ensemble.weights.read_weights` reads, and how it was found."""
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
    return json_value(content)


_LEGEND = """\
Scores of fitted weights and of removal are those of cases left out of the fit. Weights and minimum volumes are
those of the fit on all cases, with the lowest and highest of the fits without a fold.
Dice over the n cases where it is defined; F1 of lesions is 1 where neither side has any, found by any overlap.
Gains: mean difference in Dice per case with its 95 % studentised bootstrap interval over {resampled}; p of Wilcoxon's
signed-rank test, not corrected. Neither with fewer than {few} {resampled}.
The best single model is the best on these very cases, which favours it."""


def report_text(report: FitReport) -> str:
    """Scores of every model and ensemble, gains, weights and minimum volumes."""
    folds = len({fold for _, fold in report.cases})
    parts = [
        f"Ensemble of {', '.join(report.models)}: {len(report.cases)} cases in {folds} folds",
        text_table(
            ("label", "model", "Dice (n)", "lesion F1", "lesions found", "false positives a case"), _score_rows(report)
        ),
        text_table(("label", "Dice of", "minus Dice of", "gain (95 %)", "n", "p"), list(map(_gain_row, report.gains))),
        text_table(("label", *report.models), _weight_rows(report)),
        _choice(report),
        _LEGEND.format(resampled=report.resampled, few=MIN_UNITS),
        *report.notes,
    ]
    return "\n\n".join(parts)


def _score_rows(report: FitReport) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for position, label in enumerate(report.classes):
        for method in report.scores:
            found = report.summary(method, position)
            rows.append(
                (
                    label,
                    method,
                    f"{rounded(found['dice'], 3)} ({found['n']})",
                    rounded(found["f1"], 3),
                    f"{rounded(found['recall'], 2)} of {found['n_lesions']}",
                    rounded(found["false_positives_per_case"], 2),
                )
            )
    return rows


def _gain_row(gain: Gain) -> tuple[str, ...]:
    found = gain.comparison
    return (
        gain.label,
        gain.method,
        gain.against,
        signed_interval(found.mean, found.interval),
        str(found.n),
        "-" if math.isnan(found.p) else f"{found.p:.3g}",
    )


def _weight_rows(report: FitReport) -> list[list[str]]:
    """Of the fit on all cases, with the range over the folds left out."""
    rows = []
    for position, channel in enumerate(report.fitted.channels):
        row = ["background" if channel == "0" else channel]
        for model in range(len(report.models)):
            others = [weights.values[model, position] for weights in report.fitted_without.values()]
            value = report.fitted.values[model, position]
            row.append(f"{value:.2f} ({min(others):.2f} to {max(others):.2f})")
        rows.append(row)
    return rows


def _choice(report: FitReport) -> str:
    lines = {
        FITTED: "Kept: the fitted weights; their mean Dice is more than 0.001 above that of equal weights.",
        EQUAL: "Kept: equal weights; the mean Dice of the fitted ones is not more than 0.001 higher.",
    }
    kept = report.weights.min_component_mm3
    found = []
    for label, volume_mm3 in report.volumes_mm3.items():
        others = [volumes[label] for volumes in report.volumes_mm3_without.values()]
        outcome = "kept" if label in kept else "not kept: the lesion F1 of cases left out is not higher"
        found.append(
            f"Minimum volume of {label}: {volume_mm3:g} {report.size_unit} ({min(others):g} to {max(others):g}), "
            + (outcome if volume_mm3 else "nothing to remove")
        )
    return "\n".join([lines[report.chosen], *found])
