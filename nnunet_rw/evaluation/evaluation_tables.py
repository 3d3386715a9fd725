"""The files of an evaluation. Their columns are a stable interface: more may follow, none changes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_rw.evaluation.case_evaluation import CaseEvaluation, ClassEvaluation
from nnunet_rw.evaluation.froc import FrocCurve
from nnunet_rw.evaluation.matches import Lesions
from nnunet_rw.evaluation.thresholds import OperatingPoints
from nnunet_rw.files import write_atomically

_OVERLAP = ("dice", "jaccard", "ppv", "sensitivity", "specificity")
_SURFACE = ("hd_mm", "hd95_mm", "assd_mm", "nsd")
CASE_COLUMNS = (
    "case",
    "label",
    "status",
    *_OVERLAP,
    *_SURFACE,
    "volume_reference_mm3",
    "volume_prediction_mm3",
    "n_lesions",
    "n_hit",
    "n_predicted",
    "n_false_positive",
    "n_matched",
    "intensity_reference",
    "intensity_prediction",
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
PREDICTED_COLUMNS = (*LESION_COLUMNS, "score")
FROC_COLUMNS = ("label", "threshold", "false_positives_per_case", "recall")
OPERATING_COLUMNS = (*FROC_COLUMNS, "precision", "f1", "dice")


def write_tables(
    folder: Path,
    cases: Sequence[CaseEvaluation],
    curves: Mapping[str, FrocCurve],
    points: Mapping[str, OperatingPoints],
) -> None:
    """Write cases.csv, lesions.csv, predicted_lesions.csv; froc.csv with curves, operating_points.csv with points."""
    rows = [(case, found) for case in cases for found in case.classes]
    _write(folder / "cases.csv", CASE_COLUMNS, (_case_row(case, found) for case, found in rows))
    _write(
        folder / "lesions.csv",
        LESION_COLUMNS,
        (row for case, found in rows for row in _lesion_rows(case, found, found.matches.reference)),
    )
    _write(
        folder / "predicted_lesions.csv",
        PREDICTED_COLUMNS,
        (
            [*row, score]
            for case, found in rows
            for row, score in zip(
                _lesion_rows(case, found, found.matches.predicted), found.matches.predicted.score, strict=True
            )
        ),
    )
    if curves:
        rows_of_curves = (
            (label, *point)
            for label, curve in curves.items()
            for point in zip(curve.thresholds, curve.false_positives, curve.recall, strict=True)
        )
        _write(folder / "froc.csv", FROC_COLUMNS, rows_of_curves)
    if points:
        write_operating_points(folder / "operating_points.csv", points)


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
    surface = [getattr(found.surface, name) for name in _SURFACE] if found.surface else [math.nan] * len(_SURFACE)
    reference, predicted = found.matches.reference, found.matches.predicted
    return [
        case.files.case,
        found.label,
        found.overlap.status,
        *(getattr(found.overlap, name) for name in _OVERLAP),
        *surface,
        found.volume.reference_mm3,
        found.volume.prediction_mm3,
        int(reference.counted.sum()),
        int(reference.hit.sum()),
        int(predicted.counted.sum()),
        int(predicted.false_positive.sum()),
        int(reference.matched.sum()),
        *(found.intensity or (math.nan, math.nan)),
    ]


def _lesion_rows(case: CaseEvaluation, found: ClassEvaluation, lesions: Lesions) -> Iterable[list[Any]]:
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
