"""Methods: what was measured, and how it was compared."""

from __future__ import annotations

import math
from itertools import pairwise

from nnunet_rw.benchmark.results import BenchmarkResults
from nnunet_rw.evaluation.comparison import ALPHA
from nnunet_rw.evaluation.recall import DEFAULT_EDGES_MM3
from nnunet_rw.evaluation.statistics import MAX_EXACT, MIN_PAIRS
from nnunet_rw.evaluation.thresholds import THRESHOLDS


def evaluation_text(results: BenchmarkResults) -> str:
    """Metrics and their conventions."""
    settings = results.specification.evaluation
    with_froc = any(
        evaluation.froc
        for task in results.tasks
        for seeds in task.evaluations.values()
        for evaluation in seeds.values()
    )
    ignored = (
        f" Reference lesions below {settings.min_volume_mm3:g} mm3 were ignored, and so were predicted ones that touch "
        "these alone."
        if settings.min_volume_mm3
        else ""
    )
    sentences = [
        "The validation cases of all folds were pooled. Per case and label: the Dice coefficient; the normalised "
        f"surface distance (NSD) [@nikolov2021surface] with a tolerance of {settings.tolerance_mm:g} mm; HD95, the "
        "larger of the two directed 95th percentiles of the surface distances, and the average symmetric surface "
        "distance (ASSD), both in mm.",
        f"Lesions were {settings.connectivity}-connected components.{ignored} A reference lesion was found if a "
        "predicted one shares a voxel with it; a predicted lesion that touches no reference lesion was a false "
        "positive. Recall counts reference lesions and precision predicted ones, pooled over cases; F1 is their "
        "harmonic mean.",
        f"Recall is also given by lesion volume, in classes that were fixed beforehand: {_classes()}.",
    ]
    if with_froc:
        sentences.append(
            "FROC curves score each component of a foreground probability above 0.1 by its highest probability; their "
            "average is the mean recall at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per case [@setio2017luna16]."
        )
    if any(task.comparison and task.comparison.matched for task in results.tasks):
        sentences.append(
            "For recall at equal false positives the foreground probability was thresholded anew, at the lowest of "
            f"{len(THRESHOLDS)} thresholds from {THRESHOLDS[-1]:g} to {THRESHOLDS[0]:g} down to which a trainer had no "
            "more false positives per case than the baseline's segmentations; these thresholds were chosen on the "
            "evaluated cases."
        )
    return " ".join(sentences)


def statistics_text(results: BenchmarkResults) -> str:
    """Intervals and tests; of tests only where trainers were compared."""
    comparisons = [(task.task, task.comparison) for task in results.tasks if task.comparison]
    intervals = (
        "Intervals are of 95 %, bias-corrected and accelerated bootstrap intervals [@efron1987bca] of 10 000 "
        "resamples; they are not adjusted for their number. Means resample cases; recall of lesions resamples cases "
        "with all their lesions, since lesions of one case are found or missed together."
    )
    if not comparisons:
        return f"{intervals} Trainers were not compared: fewer than two were evaluated."
    baseline = comparisons[0][1].baseline
    families = "; ".join(f"{task}: {comparison.family}" for task, comparison in comparisons)
    sentences = [
        intervals,
        "Intervals of recall by lesion volume are Wilson's [@wilson1927inference], which take lesions for independent.",
        f"Every trainer was compared with `{baseline}` on the same cases, both with seed 0: the mean of the paired "
        "differences with its interval, and Wilcoxon's signed-rank test [@wilcoxon1945ranking], two-sided, exact up to "
        f"{MAX_EXACT} differences that are not zero, and not made with fewer than {MIN_PAIRS} pairs.",
        f"p-values were adjusted by Holm's procedure [@holm1979procedure] over all tests of a task ({families}).",
        f"A trainer is called better or worse where the adjusted p is below {ALPHA} and the interval does not hold 0.",
    ]
    if any(comparison.seeds for _, comparison in comparisons):
        sentences.append(
            "A difference no larger than the largest one between trainings of the baseline with different seeds is "
            "called within noise."
        )
    sentences.append("Folds share training cases; their means were not tested.")
    return " ".join(sentences)


def _classes() -> str:
    names = []
    for low, high in pairwise(DEFAULT_EDGES_MM3):
        if math.isinf(high):
            names.append(f"from {low:g} mm3")
        else:
            names.append(f"{low:g} to {high:g} mm3" if low else f"below {high:g} mm3")
    return ", ".join(names)
