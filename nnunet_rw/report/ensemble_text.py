"""The fit of an ensemble for the terminal."""

from __future__ import annotations

import math

from nnunet_rw.ensemble.fit_report import FitReport
from nnunet_rw.ensemble.gains import EQUAL, FITTED, Gain
from nnunet_rw.report.table import text_table

_LEGEND = """\
Scores of fitted weights and of removal are those of cases left out of the fit. Weights and minimum volumes are
those of the fit on all cases, with the lowest and highest of the fits without a fold.
Dice over the n cases where it is defined; F1 of lesions is 1 where neither side has any, found by any overlap.
Gains: mean difference in Dice per case with its 95 % BCa interval; p of Wilcoxon's signed-rank test, not corrected.
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
        _LEGEND,
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
                    f"{_number(found['dice'])} ({found['n']})",
                    _number(found["f1"]),
                    f"{_number(found['recall'], 2)} of {found['n_lesions']}",
                    _number(found["false_positives_per_case"], 2),
                )
            )
    return rows


def _gain_row(gain: Gain) -> tuple[str, ...]:
    found = gain.comparison
    interval = f"{_signed(found.interval.low)} to {_signed(found.interval.high)}"
    return (
        gain.label,
        gain.method,
        gain.against,
        f"{_signed(found.mean)} ({interval})",
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
            f"Minimum volume of {label}: {volume_mm3:g} mm3 ({min(others):g} to {max(others):g}), "
            + (outcome if volume_mm3 else "nothing to remove")
        )
    return "\n".join([lines[report.chosen], *found])


def _number(value: float, digits: int = 3) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.3f}"
