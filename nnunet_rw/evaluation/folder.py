"""The folder of an evaluation, written and read back. Its columns are a stable interface: more may follow."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from nnunet_rw.evaluation.case import CaseEvaluation, ClassEvaluation
from nnunet_rw.evaluation.metrics.calibration import ProbabilityCounts
from nnunet_rw.evaluation.metrics.detection import found_lesions
from nnunet_rw.evaluation.metrics.froc import FrocCurve
from nnunet_rw.evaluation.metrics.matches import Lesions
from nnunet_rw.evaluation.metrics.rules import Outcomes, RuleGrid
from nnunet_rw.evaluation.metrics.thresholds import OperatingPoints
from nnunet_rw.evaluation.protocols import PROTOCOL_COLUMNS
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import has_fingerprint, write_atomically
from nnunet_rw.util.readers import DamagedFile, read_json, read_table, told

_OVERLAP = ("dice", "jaccard", "ppv", "sensitivity", "specificity")
_SURFACE = ("hd_mm", "hd95_mm", "assd_mm", "nsd")
_OF_PROBABILITY = ("average_precision", "calibration_error", "calibration_error_from_01")
# Columns of protocols follow these, where they were asked for.
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
    "n_found_25",
    "n_false_positive_25",
    "n_found_50",
    "n_false_positive_50",
    "volume_false_positive_mm3",
    "volume_missed_mm3",
    "matched_hd95_mm",
    "matched_assd_mm",
    *_OF_PROBABILITY,
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
    _write(
        written[1],
        REFERENCE_COLUMNS,
        (
            [*row, *apart]
            for case, found in rows
            for row, apart in zip(
                _lesion_rows(case, found, found.matches.reference), _overlaps(found.matches.reference), strict=True
            )
        ),
    )
    _write(
        written[2],
        PREDICTED_COLUMNS,
        (
            [*row, score, *apart]
            for case, found in rows
            for row, score, apart in zip(
                _lesion_rows(case, found, found.matches.predicted),
                found.matches.predicted.score,
                _overlaps(found.matches.predicted),
                strict=True,
            )
        ),
    )
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


def _read_rules(path: Path) -> dict[str, RuleTable]:
    if not path.is_file():
        return {}
    with told(path, _advice(path.parent), "holds no rules of an evaluation"), np.load(path) as file:
        tables = {}
        for number, label in enumerate(file["labels"].tolist()):
            grid = RuleGrid(
                *(tuple(file[f"{number}_{name}"].tolist()) for name in ("volumes_mm3", "thresholds")),
            )
            found, right, false = (file[f"{number}_{name}"].astype(np.int64) for name in Outcomes._fields[:3])
            outcomes = Outcomes(found, right, false, file[f"{number}_dice"])
            tables[str(label)] = RuleTable(grid, tuple(file[f"{number}_folds"].tolist()), outcomes)
    return tables


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
        *(
            int(number)
            for rule in ("overlap_25", "overlap_50")
            for number in (found_lesions(reference, rule).sum(), (~found_lesions(predicted, rule)).sum())
        ),
        found.matches.false_positive_mm3,
        found.matches.missed_mm3,
        _mean(reference.hd95_mm),
        _mean(reference.assd_mm),
        *(getattr(found.probability, name, math.nan) for name in _OF_PROBABILITY),
        *found.scores.values(),
    ]


def _mean(values: np.ndarray) -> float:
    """Of what is defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _overlaps(lesions: Lesions) -> Iterable[Sequence[float]]:
    return zip(lesions.covered, lesions.hd95_mm, lesions.assd_mm, strict=True)


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


_SCORES = ("dice", "jaccard", "ppv", "sensitivity", "specificity", "hd_mm", "hd95_mm", "assd_mm", "nsd")
_VOLUMES = ("volume_reference_mm3", "volume_prediction_mm3")
# The columns of numbers that are read; `evaluation_tables` writes more.
CASE_NUMBERS = (*_SCORES, *_VOLUMES, "n_lesions", "n_hit", "n_predicted", "n_false_positive")
# Read where they are there: earlier versions wrote none of them, and protocols write theirs only where asked to.
MORE_CASE_NUMBERS = (*CASE_COLUMNS[CASE_COLUMNS.index("n_found_25") :], *PROTOCOL_COLUMNS)
LESION_NUMBERS = ("lesion", "voxels", "volume_mm3", "dice", "hit", "matched")
TABLES = ("cases.csv", "lesions.csv", "predicted_lesions.csv")
OF_PROBABILITIES = ("froc.csv", "operating_points.csv", "reliability.csv", "rules.npz")
# Reference lesions below the minimum volume, and predicted lesions that touch these alone.
_NOT_COUNTED = ("ignored", "neutral")


class _Summary(TypedDict):
    settings: dict[str, Any]


@dataclass(frozen=True)
class LesionRows:
    """L lesions, of the reference or of the prediction, sorted by case, label and number.

    Attributes
    ----------
    case, label : (L,) str
    lesion, voxels, volume_mm3 : (L,) float
    dice : (L,) float
        With the one-to-one partner; 0 without one, NaN where not counted.
    hit, matched : (L,) float
        1 or 0, found by any overlap or one-to-one; NaN where ignored or neutral, neither right nor wrong.
    """

    case: np.ndarray
    label: np.ndarray
    lesion: np.ndarray
    voxels: np.ndarray
    volume_mm3: np.ndarray
    dice: np.ndarray
    hit: np.ndarray
    matched: np.ndarray


@dataclass(frozen=True)
class Evaluation:
    """An evaluation folder.

    Attributes
    ----------
    folder : Path
    name : str
        Of the trainer.
    settings : dict
    cases : tuple of N str
        Sorted.
    labels : tuple of str
        As the table lists them.
    columns : dict of label to dict of column to (N,) float
        In the order of `cases`; NaN where undefined, inf where one of two masks is empty. Of `MORE_CASE_NUMBERS` those
        that were written.
    lesions, predicted : LesionRows
    froc : dict of label to FrocCurve
    operating_points : dict of label to OperatingPoints
    rules : dict of label to RuleTable
        All empty where the evaluation was made without probabilities.
    """

    folder: Path
    name: str
    settings: dict[str, Any]
    cases: tuple[str, ...]
    labels: tuple[str, ...]
    columns: dict[str, dict[str, np.ndarray]]
    lesions: LesionRows
    predicted: LesionRows
    froc: dict[str, FrocCurve] = field(default_factory=dict)
    operating_points: dict[str, OperatingPoints] = field(default_factory=dict)
    rules: dict[str, RuleTable] = field(default_factory=dict)

    def diagonals_mm(self) -> np.ndarray:
        """(N,) diagonals of the images, from one number for all or a number per case; NaN where none is told."""
        told = self.settings.get("image_diagonal_mm")
        values = [told.get(case) if isinstance(told, dict) else told for case in self.cases]
        return np.array([math.nan if value is None else float(value) for value in values])


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read the folder that ``nnunet-rw evaluate`` wrote.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is not as it was written, has no such column, no row or number where one belongs, or not each label of
        each case once.
    """
    folder = Path(folder)
    summary = read_summary(folder)
    # Earlier versions noted nothing of what they had written.
    written = {
        name: known for name, known in summary.get("written", {}).items() if name in (*TABLES, *OF_PROBABILITIES)
    }
    changed = changed_file(folder, written)
    if changed is not None:
        if not changed.is_file():
            raise FileNotFoundError(f"No {changed}. {_advice(folder)}")
        raise DamagedFile(f"{changed} is not as it was written: cut off, or edited. {_advice(folder)}")
    path = folder / "cases.csv"
    first_row = next(iter(read_table(path, (), _advice(folder))), {})
    names = (*CASE_NUMBERS, *(name for name in MORE_CASE_NUMBERS if name in first_row))
    texts, numbers = _read_table(path, ("case", "label"), names)
    rows = {key: row for row, key in enumerate(zip(*texts, strict=True))}
    cases, labels = tuple(sorted(set(texts[0]))), tuple(dict.fromkeys(texts[1]))
    if not cases:
        raise ValueError(f"{path} holds no case. {_advice(folder)}")
    absent = [(case, label) for label in labels for case in cases if (case, label) not in rows]
    if absent or len(rows) != len(texts[0]):
        problem = f"no row of label '{absent[0][1]}' for case '{absent[0][0]}'" if absent else "a case and label twice"
        raise ValueError(f"{path} holds {problem}. {_advice(folder)}")
    columns = {
        label: {
            name: values[[rows[case, label] for case in cases]] for name, values in zip(names, numbers, strict=True)
        }
        for label in labels
    }
    return Evaluation(
        folder=folder,
        name=str(summary.get("name") or folder.resolve().name),
        settings=summary["settings"],
        cases=cases,
        labels=labels,
        columns=columns,
        lesions=_read_lesions(folder / "lesions.csv", rows, _total(columns, "n_lesions")),
        predicted=_read_lesions(folder / "predicted_lesions.csv", rows, _total(columns, "n_predicted")),
        froc=_read_froc(folder / "froc.csv", columns),
        operating_points=_read_operating_points(folder / "operating_points.csv"),
        rules=_read_rules(folder / "rules.npz"),
    )


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of an evaluation's summary.json.

    Raises
    ------
    FileNotFoundError, DamagedFile
        There is none, or it is of something else.
    """
    return read_json(folder / "summary.json", _advice(folder), _Summary, "is no summary of an evaluation")


def changed_file(folder: Path, written: Mapping[str, dict[str, int | str]]) -> Path | None:
    """The first of an evaluation's files, by name with fingerprint, that is not there as it was written."""
    return next((folder / name for name, known in written.items() if not has_fingerprint(folder / name, known)), None)


def _total(columns: Mapping[str, Mapping[str, np.ndarray]], name: str) -> float:
    return sum(float(np.nansum(of_label[name])) for of_label in columns.values())


def _read_lesions(path: Path, known: Container[tuple[str, str]], counted: float) -> LesionRows:
    texts, numbers = _read_table(path, ("case", "label", "kind"), LESION_NUMBERS)
    if counted and not texts[0]:
        raise ValueError(f"{path} has no row, but cases.csv counts {counted:g} lesions. {_advice(path.parent)}")
    for key in zip(*texts[:2], strict=True):
        if key not in known:
            raise ValueError(
                f"{path} lists case '{key[0]}', label '{key[1]}', cases.csv does not. {_advice(path.parent)}"
            )
    case, label, kind = (np.array(values, dtype=str) for values in texts)
    for found in numbers[-2:]:
        found[np.isin(kind, _NOT_COUNTED)] = math.nan
    order = np.lexsort((numbers[0], label, case))
    return LesionRows(case[order], label[order], *(values[order] for values in numbers))


def _read_froc(path: Path, columns: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, FrocCurve]:
    if not path.is_file():
        return {}
    (label,), points = _read_table(path, ("label",), ("threshold", "false_positives_per_case", "recall"))
    _check_rows(path, label)
    curves = {}
    for name, values in columns.items():
        chosen = np.array(label) == name
        if chosen.any():
            lesions = values["n_lesions"]
            thresholds, false_positives, recall = (column[chosen] for column in points)
            curves[name] = FrocCurve(thresholds, false_positives, recall, len(lesions), int(lesions.sum()))
    return curves


def _read_operating_points(path: Path) -> dict[str, OperatingPoints]:
    if not path.is_file():
        return {}
    names = ("threshold", "false_positives_per_case", "recall", "precision", "dice")
    (label,), columns = _read_table(path, ("label",), names)
    _check_rows(path, label)
    return {
        name: OperatingPoints(*(column[np.array(label) == name] for column in columns)) for name in dict.fromkeys(label)
    }


def _check_rows(path: Path, rows: Sequence[str]) -> None:
    if not rows:
        raise ValueError(f"{path} has no row. {_advice(path.parent)}")


def _read_table(
    path: Path, text_columns: Sequence[str], number_columns: Sequence[str]
) -> tuple[list[list[str]], list[np.ndarray]]:
    """The columns, in the order asked for; an empty cell is NaN."""
    rows = read_table(path, (*text_columns, *number_columns), _advice(path.parent))
    texts = [[row[name] for row in rows] for name in text_columns]
    return texts, [np.array([_number(row[name], name, path) for row in rows], dtype=float) for name in number_columns]


def _number(text: str, column: str, path: Path) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        problem = f"expected a number in column '{column}', but got '{text}'"
        raise DamagedFile(f"{path}: {problem}. {_advice(path.parent)}") from error


def _advice(folder: Path) -> str:
    return f"Run: {command('evaluate', predictions='PREDICTIONS', references='REFERENCES', output=folder)}"
