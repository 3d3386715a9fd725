"""Evaluate all cases of a source, in processes, and write what was found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rw.datasets.folders import label_texts
from nnunet_rw.evaluation.case import CaseEvaluation, EvaluationSettings, evaluate_case
from nnunet_rw.evaluation.comparison.groups import units_of
from nnunet_rw.evaluation.comparison.metrics import enough_decimals
from nnunet_rw.evaluation.comparison.statistics import MIN_UNITS
from nnunet_rw.evaluation.folder import changed_file, read_summary
from nnunet_rw.evaluation.metrics.probabilities import PROBABILITY_VALUES, froc_curve, pool_probabilities
from nnunet_rw.evaluation.metrics.rules import Outcomes, RuleCase, RuleGrid, operating_points, volumes_to_try
from nnunet_rw.evaluation.protocols import check_protocols, columns_of, options_text
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.evaluation.summary import summarise
from nnunet_rw.evaluation.tables import OF_PROBABILITIES, TABLES, RuleTable, write_tables
from nnunet_rw.evaluation.units import length_unit
from nnunet_rw.util.files import fingerprint, has_fingerprint, write_atomically
from nnunet_rw.util.parallel import list_in_processes
from nnunet_rw.util.tables import rounded, text_table

_METRICS = ("dice", "hd95_mm", "assd_mm", "nsd", "lesion_dice")


def evaluation_text(summary: dict[str, Any]) -> str:
    """What most readers ask first, of the content of summary.json; every mean tells its n."""
    parts = [f"{summary['name']}: {summary['num_cases']} cases"]
    if summary["missing_cases"]:
        parts[0] += f"; {len(summary['missing_cases'])} without prediction left out"
    rows, sizes = [], []
    texts = label_texts(summary["labels"])
    classes = {texts.get(label, label): found for label, found in summary["classes"].items()}
    for label, found in classes.items():
        rows.append([label, *(_mean(found["metrics"].get(name), name.endswith("_mm")) for name in _METRICS)])
        sizes += [
            [label, _range(size, summary["size_unit"]), f"{size['num_found']} of {size['num_lesions']}", _recall(size)]
            for size in found["recall_by_size"]
        ]
    length = length_unit(summary["size_unit"])
    parts.append(text_table(("label", "Dice", f"HD95 {length}", f"ASSD {length}", "NSD", "Dice of lesions"), rows))
    detections = [
        [
            label,
            f"{_number(rule['recall'])} ({rule['num_found']} of {rule['num_lesions']})",
            _number(rule["precision"]),
            _number(rule["false_positives_per_case"]),
            *(_number(found["panoptic"][threshold]["pq"]) for threshold in ("0.5", "0.1")),
            _number(found.get("froc", {}).get("average_recall")),
        ]
        for label, found in classes.items()
        for rule in [found["detection"]["any_overlap"]]
    ]
    header = ("label", "lesions found", "precision", "false positives per case", "PQ", "PQ at 0.1", "FROC average")
    parts.append(text_table(header, detections))
    parts += _scores_text(summary["settings"].get("scores", {}), classes)
    parts.append(text_table(("label", "lesion size", "found", "recall (95 % interval)"), sizes))
    unit = "patients" if "num_patients" in summary else "cases"
    parts.append(
        f"Intervals are over {unit}, with all lesions of one together; none with fewer than {MIN_UNITS} {unit}."
    )
    return "\n\n".join([*parts, *summary["notes"]])


def _mean(values: dict[str, Any] | None, is_length: bool) -> str:
    if values is None or values["mean"] is None:
        return "-"
    penalised = f", {values['n_penalised']} at diagonal" if values["n_penalised"] else ""
    decimals = enough_decimals([values["mean"]], 3) if is_length else 3
    return f"{values['mean']:.{decimals}f} (n = {values['n']}{penalised})"


def _scores_text(options: dict[str, Any], classes: dict[str, Any]) -> list[str]:
    """Tables of the protocols that were asked for, each under its options."""
    parts = []
    for line, name in zip(options_text(options), options, strict=True):
        columns = columns_of(name)
        rows = [
            [label, *(_mean(found["metrics"][column], column.endswith("_mm")) for column in columns)]
            for label, found in classes.items()
        ]
        parts.append(line + "\n" + text_table(("label", *columns), rows))
    return parts


def _range(size: dict[str, Any], unit: str) -> str:
    if size["high"] is None:
        return f"from {size['low']:g} {unit}"
    return f"{size['low']:g} to {size['high']:g} {unit}"


def _recall(size: dict[str, Any]) -> str:
    if size["recall"] is None:
        return "-"
    if size["recall_low"] is None:
        return f"{size['recall']:.2f} (too few)"
    return f"{size['recall']:.2f} ({size['recall_low']:.2f} to {size['recall_high']:.2f})"


def _number(value: float | None) -> str:
    return rounded(math.nan if value is None else value, 2)


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
    source: Source,
    settings: EvaluationSettings,
    folder: str | Path,
    processes: int | None = None,
    groups: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Evaluate and write cases.csv, lesions.csv, predicted_lesions.csv and summary.json.

    With probabilities froc.csv, operating_points.csv, reliability.csv and rules.npz as well.

    Parameters
    ----------
    source, settings, processes
        As for `evaluate`.
    folder : path
        An earlier evaluation in it is replaced.
    groups : mapping of case to patient, optional
        Intervals of recall are then over patients.

    Returns
    -------
    dict
        The content of summary.json, which is written last.
    """
    check_protocols(settings.scores)
    units_of((files.case for files in source.cases), groups)  # a case without a patient is told before the work
    return write_evaluated(source, settings, evaluate(source, settings, processes), folder, groups=groups)


def write_evaluated(
    source: Source,
    settings: EvaluationSettings,
    cases: Sequence[CaseEvaluation],
    folder: str | Path,
    pictures: Sequence[Path] = (),
    groups: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`write_evaluation` of cases that `evaluate` returned; pictures in the folder belong to the evaluation."""
    folder = Path(folder)
    curves, points, probabilities, rules = {}, {}, {}, {}
    for position, found in enumerate(cases[0].classes):
        of_cases = [case.classes[position] for case in cases]
        candidates = [item.candidates for item in of_cases if item.candidates is not None]
        ruled = [item.ruled for item in of_cases if item.ruled is not None]
        counts = [item.probability for item in of_cases if item.probability is not None]
        if len(counts) == len(cases):
            probabilities[found.label] = pool_probabilities(counts)
        if len(candidates) == len(ruled) == len(cases):
            curves[found.label], points[found.label] = froc_curve(candidates), operating_points(ruled)
            rules[found.label] = _rule_table(cases, ruled)
    summary = summarise(source, settings, cases, curves, groups)
    # No summary stands beside tables of another evaluation, even if this one is interrupted.
    for name in ("summary.json", *OF_PROBABILITIES):
        (folder / name).unlink(missing_ok=True)
    written = [*write_tables(folder, cases, curves, points, probabilities, rules), *pictures]
    summary["written"] = {path.relative_to(folder).as_posix(): fingerprint(path, timed=False) for path in written}
    write_atomically(folder / "summary.json", (json.dumps(summary, indent=2, sort_keys=True) + "\n").encode())
    return summary


def _rule_table(cases: Sequence[CaseEvaluation], ruled: Sequence[RuleCase]) -> RuleTable:
    """In the order of the cases' names."""
    grid = RuleGrid(volumes_to_try([case.voxel_mm3 for case in ruled]))
    order = sorted(range(len(cases)), key=lambda position: cases[position].files.case)
    outcomes = [ruled[position].outcomes(grid) for position in order]
    folds = tuple(cases[position].files.fold for position in order)
    return RuleTable(grid, folds, Outcomes(*(np.stack(values) for values in zip(*outcomes, strict=True))))


def ensure_evaluation(
    source: Source,
    settings: EvaluationSettings,
    processes: int | None = None,
    folder: Path | None = None,
    otherwise: Path | None = None,
) -> Path:
    """The folder of an evaluation that `is_current`, made where there is none.

    Parameters
    ----------
    source, settings, processes
        As for `evaluate`.
    folder : path, optional
        Default: the source's own.
    otherwise : path, optional
        Looked into as well, and written to instead: the first folder stays as it is.
    """
    folders = [folder or source.folder, *([otherwise] if otherwise else [])]
    for known in folders:
        if is_current(source, settings, known):
            return known
    write_evaluation(source, settings, folders[-1], processes)
    return folders[-1]


def is_current(source: Source, settings: EvaluationSettings, folder: Path) -> bool:
    """Whether a folder holds, undamaged, the evaluation of these very files and labels with equal settings.

    Files are known by what they hold, not by where they lie or when they were written. An earlier version may have
    written fewer tables, or told fewer probabilities apart: its evaluation is none of these.
    """
    with_probabilities = all(files.probabilities for files in source.cases)
    tables = {*TABLES, *(OF_PROBABILITIES if with_probabilities else ())}
    try:
        summary = read_summary(folder)
        inputs = summary["inputs"]
        return (
            all(summary["settings"].get(name) == value for name, value in asdict(settings).items() if name != "scores")
            and summary["settings"].get("scores", {}).keys() >= set(settings.scores)
            and (not with_probabilities or summary["settings"].get("probability_values") == PROBABILITY_VALUES)
            and summary["labels"] == source.label_entries
            and inputs.keys() == {files.case for files in source.cases}
            and sorted(summary["missing_cases"]) == sorted(source.missing)
            and summary["written"].keys() >= tables
            and changed_file(folder, summary["written"]) is None
            and all(_are_known(files, inputs[files.case]) for files in source.cases)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _are_known(files: CaseFiles, known: dict[str, dict[str, int | str]]) -> bool:
    """Whether the files are those that were evaluated. Curves that nobody asks for are read, so they must hold too."""
    present = files.read
    beside = files.prediction.with_name(f"{files.case}.npz")
    if "probabilities" in known and beside.is_file():
        present["probabilities"] = beside
    return all(has_fingerprint(path, known[kind]) for kind, path in present.items())
