"""The tables of an evaluation, written. Their columns are a stable interface: more may follow."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rw.evaluation.case import CaseEvaluation, ClassEvaluation
from nnunet_rw.evaluation.metrics.detection import found_lesions
from nnunet_rw.evaluation.metrics.lesions import Lesions
from nnunet_rw.evaluation.metrics.probabilities import FrocCurve, OperatingPoints, ProbabilityCounts
from nnunet_rw.evaluation.metrics.rules import Outcomes, RuleGrid
from nnunet_rw.util.files import write_atomically

TABLES = ("cases.csv", "lesions.csv", "predicted_lesions.csv")
OF_PROBABILITIES = ("froc.csv", "operating_points.csv", "reliability.csv", "rules.npz")
OVERLAP = ("dice", "jaccard", "ppv", "sensitivity", "specificity")
SURFACE = ("hd_mm", "hd95_mm", "assd_mm", "nsd")
PROBABILITY = ("average_precision", "calibration_error", "calibration_error_from_01")
# Columns of protocols follow these, where they were asked for.
CASE_COLUMNS = (
    "case",
    "label",
    "status",
    *OVERLAP,
    *SURFACE,
    "volume_reference_mm3",
    "volume_prediction_mm3",
    "n_lesions",
    "n_hit",
    "n_predicted",
    "n_false_positive",
    "n_matched",
    "intensity_reference",
    "intensity_prediction",
    "n_found_25",
    "n_false_positive_25",
    "n_found_50",
    "n_false_positive_50",
    "volume_false_positive_mm3",
    "volume_missed_mm3",
    "matched_hd95_mm",
    "matched_assd_mm",
    *PROBABILITY,
)
LESION_COLUMNS = (
    "case",
    "label",
    "lesion",
    "voxels",
    "volume_mm3",
    "z_mm",
    "y_mm",
    "x_mm",
    "hit",
    "matched",
    "dice",
    "iou",
    "kind",
)
# Behind what a lesion of either side has.
REFERENCE_COLUMNS = (*LESION_COLUMNS, "covered", "hd95_mm", "assd_mm")
PREDICTED_COLUMNS = (*LESION_COLUMNS, "score", "covered", "hd95_mm", "assd_mm")
FROC_COLUMNS = ("label", "threshold", "false_positives_per_case", "recall")
OPERATING_COLUMNS = (*FROC_COLUMNS, "precision", "f1", "dice")
RELIABILITY_COLUMNS = ("label", "probability_from", "probability_to", "voxels", "mean_probability", "share")


@dataclass(frozen=True)
class RuleTable:
    """What every rule does in every case, lesions matched one to one; a choice among them can be made at any price.

    Attributes
    ----------
    grid : RuleGrid
        Of K rules.
    folds : tuple of N str
        Of the cross-validation, in the order of the cases' names; "" of cases of none.
    outcomes : Outcomes
        (N, K) each.
    """

    grid: RuleGrid
    folds: tuple[str, ...]
    outcomes: Outcomes


def write_tables(
    folder: Path,
    cases: Sequence[CaseEvaluation],
    curves: Mapping[str, FrocCurve],
    points: Mapping[str, OperatingPoints],
    probabilities: Mapping[str, ProbabilityCounts],
    rules: Mapping[str, RuleTable],
) -> list[Path]:
    """Write cases.csv, lesions.csv and predicted_lesions.csv.

    And what is given by label: froc.csv with curves, operating_points.csv with points, reliability.csv with
    probabilities, rules.npz with rules.

    Returns
    -------
    list of Path
        The files written.
    """
    rows = [(case, found) for case in cases for found in case.classes]
    written = [folder / name for name in TABLES]
    columns = (*CASE_COLUMNS, *rows[0][1].scores)
    _write(written[0], columns, (_case_row(case, found) for case, found in rows))
    sides = ("reference", REFERENCE_COLUMNS), ("predicted", PREDICTED_COLUMNS)
    for path, (side, columns) in zip(written[1:], sides, strict=True):
        lesions = ((case, found, getattr(found.matches, side)) for case, found in rows)
        _write(path, columns, (row for lesions_of in lesions for row in _lesion_rows(*lesions_of, columns)))
    if curves:
        rows_of_curves = (
            (label, *point)
            for label, curve in curves.items()
            for point in zip(curve.thresholds, curve.false_positives, curve.recall, strict=True)
        )
        written.append(folder / OF_PROBABILITIES[0])
        _write(written[-1], FROC_COLUMNS, rows_of_curves)
    if points:
        written.append(folder / OF_PROBABILITIES[1])
        write_operating_points(written[-1], points)
    if probabilities:
        written.append(folder / OF_PROBABILITIES[2])
        bins = ((label, counts.reliability()) for label, counts in probabilities.items())
        _write(
            written[-1],
            RELIABILITY_COLUMNS,
            (
                (label, *row)
                for label, found in bins
                for row in zip(
                    found.edges[:-1], found.edges[1:], found.voxels, found.mean_probability, found.share, strict=True
                )
            ),
        )
    if rules:
        written.append(folder / OF_PROBABILITIES[3])
        _write_rules(written[-1], rules)
    return written


def _write_rules(path: Path, rules: Mapping[str, RuleTable]) -> None:
    """By label, see `RuleTable`; counts in as few bytes as they need."""
    arrays: dict[str, np.ndarray] = {"labels": np.array(list(rules))}
    for number, table in enumerate(rules.values()):
        arrays[f"{number}_thresholds"] = np.array(table.grid.thresholds)
        arrays[f"{number}_volumes_mm3"] = np.array(table.grid.volumes_mm3)
        arrays[f"{number}_folds"] = np.array(table.folds)
        for name, values in table.outcomes._asdict().items():
            small = values.astype(np.uint32) if values.dtype.kind in "iu" else values
            arrays[f"{number}_{name}"] = small
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())


def write_operating_points(path: Path, points: Mapping[str, OperatingPoints]) -> None:
    """Write a row per label and threshold."""
    rows = (
        (label, *row)
        for label, found in points.items()
        for row in zip(
            found.thresholds, found.false_positives, found.recall, found.precision, found.f1, found.dice, strict=True
        )
    )
    _write(path, OPERATING_COLUMNS, rows)


def _case_row(case: CaseEvaluation, found: ClassEvaluation) -> list[Any]:
    surface = [getattr(found.surface, name) for name in SURFACE] if found.surface else [math.nan] * len(SURFACE)
    reference, predicted = found.matches.reference, found.matches.predicted
    return [
        case.files.case,
        found.label,
        found.overlap.status,
        *(getattr(found.overlap, name) for name in OVERLAP),
        *surface,
        found.volume.reference_mm3,
        found.volume.prediction_mm3,
        int(reference.counted.sum()),
        int(reference.hit.sum()),
        int(predicted.counted.sum()),
        int(predicted.false_positive.sum()),
        int(reference.matched.sum()),
        *(found.intensity or (math.nan, math.nan)),
        *(
            int(number)
            for rule in ("overlap_25", "overlap_50")
            for number in (found_lesions(reference, rule).sum(), (~found_lesions(predicted, rule)).sum())
        ),
        found.matches.false_positive_mm3,
        found.matches.missed_mm3,
        _mean(reference.hd95_mm),
        _mean(reference.assd_mm),
        *(getattr(found.probability, name, math.nan) for name in PROBABILITY),
        *found.scores.values(),
    ]


def _mean(values: np.ndarray) -> float:
    """Of what is defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _lesion_rows(
    case: CaseEvaluation, found: ClassEvaluation, lesions: Lesions, columns: Sequence[str]
) -> Iterable[list[Any]]:
    more = [getattr(lesions, name) for name in columns[len(LESION_COLUMNS) :]]
    for index in range(len(lesions)):
        centroid = [math.nan] * (3 - lesions.centroid_mm.shape[1]) + list(lesions.centroid_mm[index])
        yield [
            case.files.case,
            found.label,
            index + 1,
            int(lesions.voxels[index]),
            lesions.volume_mm3[index],
            *centroid,
            int(lesions.hit[index]),
            int(lesions.matched[index]),
            lesions.dice[index],
            lesions.iou[index],
            lesions.kind[index],
            *(values[index] for values in more),
        ]


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)
    write_atomically(path, text.getvalue().encode())


def _cell(value: Any) -> str:
    """Empty for what is undefined, "inf" for a distance to nothing."""
    if isinstance(value, str | int):
        return str(value)
    return "" if math.isnan(value) else f"{float(value):.10g}"
