"""The folder of an evaluation, read back."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from nnunet_rw.datasets.folders import label_texts
from nnunet_rw.evaluation.metrics.probabilities import FrocCurve, OperatingPoints
from nnunet_rw.evaluation.metrics.rules import Outcomes, RuleGrid
from nnunet_rw.evaluation.protocols import PROTOCOL_COLUMNS
from nnunet_rw.evaluation.tables import CASE_COLUMNS, OF_PROBABILITIES, TABLES, RuleTable
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import has_fingerprint
from nnunet_rw.util.readers import DamagedFile, read_json, read_table, told

# The columns of numbers that are read; `nnunet_rw.evaluation.tables` writes more.
CASE_NUMBERS = CASE_COLUMNS[CASE_COLUMNS.index("dice") : CASE_COLUMNS.index("n_matched")]
# Read where they are there: earlier versions wrote none of them, and protocols write theirs only where asked to.
MORE_CASE_NUMBERS = (*CASE_COLUMNS[CASE_COLUMNS.index("n_found_25") :], *PROTOCOL_COLUMNS)
LESION_NUMBERS = ("lesion", "voxels", "volume_mm3", "dice", "hit", "matched")
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
    label_texts : dict of str to str
        As of `nnunet_rw.datasets.folders.label_texts`; empty in evaluations of earlier versions.
    size_unit : str
        As of `nnunet_rw.evaluation.units.size_unit`.
    folds : tuple of N str
        Of the cross-validation, "" where there is none or it is not told.
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
    label_texts: dict[str, str] = field(default_factory=dict)
    size_unit: str = "mm3"
    folds: tuple[str, ...] = ()
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
        # Earlier versions did not tell these.
        label_texts=label_texts(summary["labels"]) if "labels" in summary else {},
        size_unit=str(summary.get("size_unit", "mm3")),
        folds=tuple(str(summary.get("folds", {}).get(case, "")) for case in cases),
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
