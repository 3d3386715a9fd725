"""The folder that an evaluation leaves on disk, read back."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rw.evaluation.froc import FrocCurve
from nnunet_rw.evaluation.thresholds import OperatingPoints

_SCORES = ("dice", "jaccard", "ppv", "sensitivity", "specificity", "hd_mm", "hd95_mm", "assd_mm", "nsd")
_VOLUMES = ("volume_reference_mm3", "volume_prediction_mm3")
# The columns of numbers that are read; `evaluation_tables` writes more.
CASE_NUMBERS = (*_SCORES, *_VOLUMES, "n_lesions", "n_hit", "n_predicted", "n_false_positive")
LESION_NUMBERS = ("lesion", "voxels", "volume_mm3", "dice", "hit", "matched")
# Reference lesions below the minimum volume, and predicted lesions that touch these alone.
_NOT_COUNTED = ("ignored", "neutral")


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
        In the order of `cases`; NaN where undefined, inf where one of two masks is empty.
    lesions, predicted : LesionRows
    froc : dict of label to FrocCurve
    operating_points : dict of label to OperatingPoints
        Both empty where the evaluation was made without probabilities.
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
        A file has no such column, no number where one belongs, or not each label of each case once.
    """
    folder = Path(folder)
    summary = _read_summary(folder / "summary.json")
    path = folder / "cases.csv"
    texts, numbers = _read_table(path, ("case", "label"), CASE_NUMBERS)
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
            name: values[[rows[case, label] for case in cases]]
            for name, values in zip(CASE_NUMBERS, numbers, strict=True)
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
        lesions=_read_lesions(folder / "lesions.csv", rows),
        predicted=_read_lesions(folder / "predicted_lesions.csv", rows),
        froc=_read_froc(folder / "froc.csv", columns),
        operating_points=_read_operating_points(folder / "operating_points.csv"),
    )


def _read_summary(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"No {path}. {_advice(path.parent)}")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON. {_advice(path.parent)}") from error
    if not isinstance(summary, dict) or not isinstance(summary.get("settings"), dict):
        raise ValueError(f"{path} tells no 'settings'. {_advice(path.parent)}")
    return summary


def _read_lesions(path: Path, known: Container[tuple[str, str]]) -> LesionRows:
    texts, numbers = _read_table(path, ("case", "label", "kind"), LESION_NUMBERS)
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
    return {
        name: OperatingPoints(*(column[np.array(label) == name] for column in columns)) for name in dict.fromkeys(label)
    }


def _read_table(
    path: Path, text_columns: Sequence[str], number_columns: Sequence[str]
) -> tuple[list[list[str]], list[np.ndarray]]:
    """The columns, in the order asked for; an empty cell is NaN."""
    if not path.is_file():
        raise FileNotFoundError(f"No {path}. {_advice(path.parent)}")
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        absent = [name for name in (*text_columns, *number_columns) if name not in (reader.fieldnames or ())]
        if absent:
            raise ValueError(f"{path} has no column '{absent[0]}'. {_advice(path.parent)}")
        rows = list(reader)
    texts = [[row[name] or "" for row in rows] for name in text_columns]
    return texts, [np.array([_number(row[name], name, path) for row in rows], dtype=float) for name in number_columns]


def _number(text: str | None, column: str, path: Path) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError as error:
        raise ValueError(f"{path}: expected a number in column '{column}', but got '{text}'.") from error


def _advice(folder: Path) -> str:
    return f"Run: nnunet-rw evaluate -o {folder}"
