"""Evaluate all cases of a source, in processes, and write what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from nnunet_rw.evaluation.case_evaluation import CaseEvaluation, EvaluationSettings, evaluate_case
from nnunet_rw.evaluation.evaluation_tables import write_tables
from nnunet_rw.evaluation.froc import froc_curve
from nnunet_rw.evaluation.sources import Source
from nnunet_rw.evaluation.summary import summarise
from nnunet_rw.evaluation.thresholds import operating_points
from nnunet_rw.files import write_atomically
from nnunet_rw.parallel import list_in_processes

_OF_PROBABILITIES = ("froc.csv", "operating_points.csv")


def evaluate(source: Source, settings: EvaluationSettings, processes: int | None = None) -> list[CaseEvaluation]:
    """Every case of a source, in its order.

    Parameters
    ----------
    source : Source
    settings : EvaluationSettings
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Raises
    ------
    ValueError
        A file cannot be evaluated; the message names it and says why.
    """
    reader, labels = source.reader, source.labels
    tasks = [(files, reader, labels, settings) for files in source.cases]
    return list_in_processes(evaluate_case, tasks, "Evaluating", processes)


def write_evaluation(
    source: Source, settings: EvaluationSettings, folder: str | Path, processes: int | None = None
) -> dict[str, Any]:
    """Evaluate and write cases.csv, lesions.csv, predicted_lesions.csv and summary.json.

    With probabilities froc.csv and operating_points.csv as well.

    Parameters
    ----------
    source, settings, processes
        As for `evaluate`.
    folder : path
        An earlier evaluation in it is replaced.

    Returns
    -------
    dict
        The content of summary.json, which is written last.
    """
    return write_evaluated(source, settings, evaluate(source, settings, processes), folder)


def write_evaluated(
    source: Source, settings: EvaluationSettings, cases: Sequence[CaseEvaluation], folder: str | Path
) -> dict[str, Any]:
    """`write_evaluation` of cases that `evaluate` returned."""
    folder = Path(folder)
    curves, points = {}, {}
    for position, found in enumerate(cases[0].classes):
        of_cases = [case.classes[position] for case in cases]
        candidates = [item.candidates for item in of_cases if item.candidates is not None]
        thresholded = [item.thresholded for item in of_cases if item.thresholded is not None]
        if len(candidates) == len(thresholded) == len(cases):
            curves[found.label], points[found.label] = froc_curve(candidates), operating_points(thresholded)
    summary = summarise(source, settings, cases, curves)
    # No summary stands beside tables of another evaluation, even if this one is interrupted.
    for name in ("summary.json", *_OF_PROBABILITIES):
        (folder / name).unlink(missing_ok=True)
    write_tables(folder, cases, curves, points)
    write_atomically(folder / "summary.json", (json.dumps(summary, indent=2, sort_keys=True) + "\n").encode())
    return summary


def ensure_evaluation(
    source: Source, settings: EvaluationSettings, processes: int | None = None, folder: Path | None = None
) -> Path:
    """The source's evaluation folder, its own or another, evaluated unless that `is_current`."""
    folder = folder or source.folder
    if not is_current(source, settings, folder):
        write_evaluation(source, settings, folder, processes)
    return folder


def is_current(source: Source, settings: EvaluationSettings, folder: Path) -> bool:
    """Whether a folder holds the evaluation of these cases, with equal settings, made after their files."""
    path = folder / "summary.json"
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        cases = {Path(case["prediction_file"]) for case in summary["metric_per_case"]}
        asked = _OF_PROBABILITIES if any(files.probabilities for files in source.cases) else ()
        return (
            all((folder / name).is_file() for name in asked)
            and cases == {files.prediction for files in source.cases}
            and all(summary["settings"].get(name) == value for name, value in asdict(settings).items())
            and path.stat().st_mtime
            >= max(file.stat().st_mtime for files in source.cases for file in (files.prediction, files.reference))
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False
