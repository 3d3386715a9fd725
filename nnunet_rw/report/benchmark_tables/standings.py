"""How the trainers of a task did, as numbers: what the leaderboard rounds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.evaluation.aggregation import aggregate
from nnunet_rw.evaluation.compared_metrics import METRICS
from nnunet_rw.evaluation.comparison_rows import NOT_SHOWN
from nnunet_rw.evaluation.detection import Detection
from nnunet_rw.evaluation.evaluation_folder import Evaluation
from nnunet_rw.evaluation.froc import average_recall
from nnunet_rw.evaluation.intervals import Interval, bca_interval, cluster_bootstrap
from nnunet_rw.evaluation.lesions import ROUNDING
from nnunet_rw.evaluation.recall import DEFAULT_EDGES_MM3

# The first of the size classes, which are the same for all datasets.
SMALL_MM3 = DEFAULT_EDGES_MM3[1]


@dataclass(frozen=True)
class Estimate:
    """A mean over n cases, or the recall of n lesions; NaN and without interval for n = 0.

    Attributes
    ----------
    interval : Interval
        95 %, BCa; of recall by drawing cases with all their lesions.
    n_penalised : int
        Cases whose distance to an empty mask counts as the image's diagonal.
    """

    value: float
    interval: Interval
    n: int
    n_penalised: int = 0


@dataclass(frozen=True)
class Standing:
    """One trainer and label: its first finished seed, and what the other seeds gave.

    Attributes
    ----------
    seed : int
        The lowest whose folds are all done; 0 unless that is unfinished.
    dice, nsd, hd95_mm, false_positives : Estimate
        Means over cases, false positives lesion-free cases included.
    recall, small_recall : Estimate
        Any overlap, pooled over cases; small: below `SMALL_MM3`.
    precision, f1 : float
        Of the pooled lesions; precision NaN without a predicted lesion, and F1 then 0; NaN without a reference lesion.
    froc_average : float
        Recall at 1/8 to 8 false positives a case, averaged; NaN without probabilities.
    verdicts : dict of metric to verdict
        Of the comparison with the baseline; empty for the baseline, and for what is not compared.
    dice_of_seeds, recall_of_seeds : tuple of float
        One a finished seed.
    """

    label: str
    trainer: str
    seed: int
    cases: int
    dice: Estimate
    nsd: Estimate
    hd95_mm: Estimate
    recall: Estimate
    small_recall: Estimate
    precision: float
    f1: float
    false_positives: Estimate
    froc_average: float
    verdicts: dict[str, str]
    dice_of_seeds: tuple[float, ...]
    recall_of_seeds: tuple[float, ...]


def standings(task: TaskResults) -> tuple[Standing, ...]:
    """Label after label, the trainers in the order of the specification; empty where nothing is evaluated yet."""
    found = {trainer: seeds for trainer, seeds in task.evaluations.items() if seeds}
    labels = dict.fromkeys(label for seeds in found.values() for label in seeds[min(seeds)].labels)
    return tuple(_standing(task, trainer, seeds, label) for label in labels for trainer, seeds in found.items())


def mean_over_cases(evaluation: Evaluation, metric: str, label: str) -> Estimate:
    """Mean of a metric of `METRICS` over the cases that define it, endless distances as the image's diagonal.

    Raises
    ------
    ValueError
        A distance has no end, and the evaluation tells no diagonal.
    """
    values, diagonals_mm = METRICS[metric].values(evaluation.columns[label]), evaluation.diagonals_mm()
    try:
        found = aggregate(values, diagonals_mm)
    except ValueError as error:
        raise ValueError(f"{metric} in {evaluation.folder}: {error} Evaluate again.") from error
    penalised = np.where(np.isinf(values), diagonals_mm, values)
    return Estimate(found.mean, bca_interval(penalised[~np.isnan(penalised)]), found.n, found.n_penalised)


def lesion_recall(evaluation: Evaluation, label: str, below_mm3: float = math.inf) -> Estimate:
    """Share of the reference lesions smaller than so many mm3 that are found by any overlap."""
    rows = evaluation.lesions
    # As in `recall_by_size`: a lesion on the edge is not below it by rounding.
    chosen = (rows.label == label) & ~np.isnan(rows.hit) & (rows.volume_mm3 * (1 + ROUNDING) < below_mm3)
    hits = rows.hit[chosen] > 0
    # The difference from finding nothing is the recall itself.
    found = cluster_bootstrap(rows.case[chosen], np.zeros_like(hits), hits)
    return Estimate(found.challenger, found.interval, found.lesions)


def _standing(task: TaskResults, trainer: str, seeds: dict[int, Evaluation], label: str) -> Standing:
    seed = min(seeds)
    evaluation = seeds[seed]
    detection = _detection(evaluation, label)
    curve = evaluation.froc.get(label)
    return Standing(
        label=label,
        trainer=trainer,
        seed=seed,
        cases=len(evaluation.cases),
        dice=mean_over_cases(evaluation, "dice", label),
        nsd=mean_over_cases(evaluation, "nsd", label),
        hd95_mm=mean_over_cases(evaluation, "hd95_mm", label),
        recall=lesion_recall(evaluation, label),
        small_recall=lesion_recall(evaluation, label, SMALL_MM3),
        precision=detection.precision,
        f1=_f1(detection),
        false_positives=mean_over_cases(evaluation, "false_positives", label),
        froc_average=average_recall(curve) if curve else math.nan,
        verdicts=_verdicts(task, trainer, label) if seed == 0 else {},
        dice_of_seeds=tuple(aggregate(METRICS["dice"].values(seeds[k].columns[label])).mean for k in sorted(seeds)),
        recall_of_seeds=tuple(_detection(seeds[k], label).recall for k in sorted(seeds)),
    )


def _detection(evaluation: Evaluation, label: str) -> Detection:
    columns = evaluation.columns[label]
    counts = [columns[name] for name in ("n_lesions", "n_hit", "n_predicted", "n_false_positive")]
    return Detection(len(evaluation.cases), *(int(np.nansum(count)) for count in counts))


def _f1(detection: Detection) -> float:
    """2 PR / (P + R), as places are given by: 0 where nothing is found."""
    precision, recall = detection.precision, detection.recall
    if math.isnan(recall):
        return math.nan
    return 2 * precision * recall / (precision + recall) if detection.num_found and precision > 0 else 0.0


def _verdicts(task: TaskResults, trainer: str, label: str) -> dict[str, str]:
    rows = task.comparison.metrics if task.comparison else ()
    return {
        # Equal values are within any noise, which is not worth a word.
        row.metric: row.verdict if row.difference else NOT_SHOWN
        for row in rows
        if (row.challenger, row.label) == (trainer, label)
    }
