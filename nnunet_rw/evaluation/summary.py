"""Figures over all cases, each with the number of cases that it stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np

from nnunet_rw.evaluation.case import CaseEvaluation, ClassEvaluation, EvaluationSettings
from nnunet_rw.evaluation.comparison.groups import folds_note, units_of
from nnunet_rw.evaluation.metrics.detection import (
    Rule,
    count_detections,
    panoptic_quality,
    pool_panoptic,
    recall_by_size,
)
from nnunet_rw.evaluation.metrics.overlap import Overlap, bland_altman
from nnunet_rw.evaluation.metrics.probabilities import (
    FALSE_POSITIVES,
    PROBABILITY_VALUES,
    FrocCurve,
    average_recall,
    average_recall_up_to,
    pool_probabilities,
    recall_at,
)
from nnunet_rw.evaluation.protocols import protocol_options
from nnunet_rw.evaluation.sources import Source
from nnunet_rw.evaluation.tables import PROBABILITY, SURFACE
from nnunet_rw.evaluation.units import size_unit
from nnunet_rw.util.tables import json_value


@dataclass(frozen=True)
class Aggregate:
    """Summary of one metric over cases.

    Attributes
    ----------
    mean, median, sd : float
        Over the n values; the standard deviation has n - 1 in its denominator. NaN where n is 0 (sd: below 2).
    n : int
        Values that count, the penalised ones among them.
    n_undefined : int
        NaN values, left out.
    n_penalised : int
        Infinite values, for which the penalty stands.
    """

    mean: float
    median: float
    sd: float
    n: int
    n_undefined: int
    n_penalised: int


def aggregate(
    values: Sequence[float] | np.ndarray, penalty: float | Sequence[float] | np.ndarray | None = None
) -> Aggregate:
    """Mean, median and standard deviation of one metric; NaN is left out and counted, inf is penalised.

    Parameters
    ----------
    values : array (n,)
        One value per case. NaN: the metric is undefined there (two empty masks). Inf: one mask is empty, and no
        distance is large enough.
    penalty : float or array (n,), optional
        Stands for inf, in the unit of the values. For distances the diagonal of the image in mm, which no distance
        exceeds; one number for all cases or one each. Not needed where no value is inf.

    Returns
    -------
    Aggregate
        No value at all is no error: n is 0 and the rest NaN.

    Raises
    ------
    ValueError
        If a value is inf and there is no finite penalty for it, a value is -inf, or the number of penalties is wrong.
    """
    values = np.array(values, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"Expected one value per case, but got an array of shape {values.shape}.")
    if np.isneginf(values).any():
        raise ValueError("Expected numbers, NaN or inf, but got -inf.")
    infinite = np.isposinf(values)
    if infinite.any():
        values[infinite] = _penalties(penalty, len(values))[infinite]
        if not np.isfinite(values[infinite]).all():
            raise ValueError(
                f"Expected a finite penalty for {np.count_nonzero(infinite)} infinite values, but got {penalty}. "
                "Pass the diagonal of the image in mm."
            )
    defined = values[~np.isnan(values)]
    n = len(defined)
    return Aggregate(
        mean=float(defined.mean()) if n else np.nan,
        median=float(np.median(defined)) if n else np.nan,
        sd=float(defined.std(ddof=1)) if n > 1 else np.nan,
        n=n,
        n_undefined=len(values) - n,
        n_penalised=int(np.count_nonzero(infinite)),
    )


def _penalties(penalty: float | Sequence[float] | np.ndarray | None, num_values: int) -> np.ndarray:
    penalties = np.asarray(np.nan if penalty is None else penalty, dtype=np.float64)
    if penalties.shape not in ((), (num_values,)):
        raise ValueError(f"Expected one penalty or {num_values}, one per case, but got shape {penalties.shape}.")
    return np.broadcast_to(penalties, num_values)


_METRICS: dict[str, Callable[[ClassEvaluation], float]] = {
    "dice": lambda found: found.overlap.dice,
    "jaccard": lambda found: found.overlap.jaccard,
    "ppv": lambda found: found.overlap.ppv,
    "sensitivity": lambda found: found.overlap.sensitivity,
    "specificity": lambda found: found.overlap.specificity,
    "volume_difference_mm3": lambda found: found.volume.signed_mm3,
    "absolute_volume_difference_mm3": lambda found: found.volume.absolute_mm3,
    "relative_volume_difference": lambda found: found.volume.relative,
    "volume_false_positive_mm3": lambda found: found.matches.false_positive_mm3,
    "volume_missed_mm3": lambda found: found.matches.missed_mm3,
}
_PANOPTIC_THRESHOLDS = (0.5, 0.1)


def summarise(
    source: Source,
    settings: EvaluationSettings,
    cases: Sequence[CaseEvaluation],
    curves: dict[str, FrocCurve],
    groups: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Everything that summary.json holds: nnU-Net's keys with its values, and per class ("classes") the rest.

    Means leave out undefined values and tell how many; a distance to nothing counts as the image's diagonal. Intervals
    of recall are over patients where ``groups`` tells them; Bland-Altman's are over cases in either case. "inputs" and
    "labels" say what was evaluated: fingerprints of every case's files, and the dataset.json's entries.
    """
    units = units_of([case.files.case for case in cases], groups)
    folds = {case.files.case: case.files.fold for case in cases}
    axes = max(len(case.spacing_mm) for case in cases)
    of_probabilities = any(found.probability for case in cases for found in case.classes)
    labels = [found.label for found in cases[0].classes]
    return {
        **_as_nnunet(cases, labels),
        "name": source.name,
        "settings": {
            **{name: value for name, value in asdict(settings).items() if name != "scores"},
            # Only where there are some, as in evaluations of earlier versions.
            **({"scores": protocol_options(settings.scores, settings.tolerance_mm, axes)} if settings.scores else {}),
            # Earlier versions told fewer probabilities apart, and what follows from them differs.
            **({"probability_values": PROBABILITY_VALUES} if of_probabilities else {}),
            "image_diagonal_mm": {case.files.case: case.diagonal_mm for case in cases},
        },
        "size_unit": size_unit(case.spacing_mm for case in cases),
        "num_cases": len(cases),
        **({"num_patients": len(set(units))} if groups else {}),
        # Of evaluations in two folders there are none.
        **({"folds": folds} if any(folds.values()) else {}),
        "notes": list(folds_note(list(folds.values()), units)),
        "num_missing": len(source.missing),
        "missing_cases": source.missing,
        "inputs": {case.files.case: case.fingerprints for case in cases},
        "labels": source.label_entries,
        "classes": {
            label: json_value(_summarise_class(cases, position, curves.get(label), units))
            for position, label in enumerate(labels)
        },
    }


def _summarise_class(
    cases: Sequence[CaseEvaluation], position: int, curve: FrocCurve | None, units: Sequence[str]
) -> dict[str, Any]:
    found = [case.classes[position] for case in cases]
    matches = [item.matches for item in found]
    diagonals_mm = [case.diagonal_mm for case in cases]
    metrics = {name: asdict(aggregate([value(item) for item in found])) for name, value in _METRICS.items()}
    if all(item.surface for item in found):
        for name in SURFACE:
            metrics[name] = asdict(aggregate([getattr(item.surface, name) for item in found], diagonals_mm))
        for name in ("hd95_mm", "assd_mm"):
            apart = np.concatenate([getattr(item.reference, name) for item in matches])
            metrics[f"matched_{name}"] = asdict(aggregate(apart))
    lesion_dice = np.concatenate([item.reference.dice[item.reference.counted] for item in matches])
    metrics["lesion_dice"] = asdict(aggregate(lesion_dice))
    for name in found[0].scores:
        metrics[name] = asdict(aggregate([item.scores[name] for item in found]))
    counts = [item.probability for item in found if item.probability]
    for name in PROBABILITY if counts else ():
        metrics[name] = asdict(aggregate([getattr(item, name) for item in counts]))
    states = [item.overlap.status for item in found]
    volumes = [item.volume for item in found]
    summary = {
        "status": {state: states.count(state) for state in ("both", "both_empty", "only_reference", "only_prediction")},
        "metrics": metrics,
        "detection": {rule: _detection(matches, rule) for rule in get_args(Rule)},
        "panoptic": {str(threshold): _panoptic(matches, threshold) for threshold in _PANOPTIC_THRESHOLDS},
        "recall_by_size": [asdict(size) for size in recall_by_size(matches, units=units)],
        "bland_altman_mm3": asdict(
            bland_altman([item.reference_mm3 for item in volumes], [item.prediction_mm3 for item in volumes])
        ),
        # What a lesion-free case costs: every predicted voxel there is wrong.
        "false_positive_mm3_in_cases_without_lesion": aggregate(
            [volume.prediction_mm3 for volume in volumes if not volume.reference_mm3]
        ).mean,
    }
    if all(item.intensity for item in found):
        pairs = [item.intensity for item in found if item.intensity]
        summary["bland_altman_volume_x_intensity"] = asdict(bland_altman(*zip(*pairs, strict=True)))
    if counts:
        pooled = pool_probabilities(counts)
        summary["pooled_voxels"] = {
            "precision_recall_area": pooled.precision_recall_area,
            **{name: getattr(pooled, name) for name in PROBABILITY},
        }
    if curve:
        summary["froc"] = {
            "recall_at": {f"{fp:g}": recall for fp, recall in zip(FALSE_POSITIVES, recall_at(curve), strict=True)},
            "average_recall": average_recall(curve),
            "average_recall_0_to_5": average_recall_up_to(curve),
        }
    return summary


def _detection(matches: Sequence[Any], rule: Any) -> dict[str, Any]:
    counts = count_detections(matches, rule)
    return {
        **asdict(counts),
        "recall": counts.recall,
        "precision": counts.precision,
        "false_positives_per_case": counts.false_positives_per_case,
    }


def _panoptic(matches: Sequence[Any], threshold: float) -> dict[str, Any]:
    per_case = [panoptic_quality(item, threshold) for item in matches]
    pooled = pool_panoptic(per_case)
    return {
        **asdict(pooled),
        "pq": pooled.pq,
        "sq": pooled.sq,
        "rq": pooled.rq,
        "pq_per_case": asdict(aggregate([item.pq for item in per_case])),
    }


def _as_nnunet(cases: Sequence[CaseEvaluation], labels: Sequence[str]) -> dict[str, Any]:
    """As nnUNetv2_evaluate_folder writes it; there an undefined value is NaN."""
    per_case: list[dict[str, Any]] = [
        {
            "reference_file": str(case.files.reference),
            "prediction_file": str(case.files.prediction),
            "metrics": {found.label: _nnunet_metrics(found.overlap) for found in case.classes},
        }
        for case in cases
    ]
    names = list(per_case[0]["metrics"][labels[0]])
    mean = {
        label: {name: aggregate([case["metrics"][label][name] for case in per_case]).mean for name in names}
        for label in labels
    }
    foreground = {name: float(np.mean([mean[label][name] for label in labels])) for name in names}
    return {"metric_per_case": per_case, "mean": mean, "foreground_mean": foreground}


def _nnunet_metrics(counts: Overlap) -> dict[str, float]:
    return {
        "Dice": counts.dice,
        "IoU": counts.jaccard,
        "FP": counts.fp,
        "TP": counts.tp,
        "FN": counts.fn,
        "TN": counts.tn,
        "n_pred": counts.fp + counts.tp,
        "n_ref": counts.fn + counts.tp,
    }
