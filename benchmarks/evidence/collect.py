"""What a benchmark says of its trainers, as rows of results: ``python -m benchmarks.evidence.collect FOLDER NAME``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json

from benchmarks.harness import write_result
from benchmarks.trainings import case_values, paired_difference, seconds_per_epoch, spread, without_nan
from nnunet_rw.benchmark.results import TaskResults, read_results
from nnunet_rw.evaluation.comparison.intervals import cluster_bootstrap
from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.evaluation.metrics.froc import average_recall
from nnunet_rw.evaluation.metrics.rules import Decided, DecisionRule
from nnunet_rw.evaluation.metrics.thresholds import THRESHOLDS
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.postprocessing.threshold.fit import fit_rules

# A lesion of up to 20 voxels is less than three across.
SMALL_VOXELS = 20
SIZES_VOXELS = (1, 6, 11, 21, 51, 101, 1001, math.inf)
OF_CASES = ("dice", "hd95_mm", "nsd")


@dataclass(frozen=True)
class OperatingPoint:
    """A training's segmentations at one threshold, and at thresholds that other cases chose.

    Attributes
    ----------
    threshold : float
        Foreground is above. The one of most lesions that keeps within the false positives, see
        `nnunet_rw.evaluation.comparison.rule_choice.chosen_rule`; the highest where even that has more.
    false_positives : float
        A case.
    found : (L,) booleans
        Reference lesions of all cases by any overlap, sorted by case and number.
    dice : (N,) floats
        Of the cases, sorted.
    left_out_false_positives, left_out_found
        The same, each fifth of the cases at the threshold that the others chose.
    """

    threshold: float
    false_positives: float
    found: np.ndarray
    dice: np.ndarray
    left_out_false_positives: float
    left_out_found: np.ndarray


def operating_point(evaluation: Evaluation, label: str, false_positives: float) -> OperatingPoint:
    """At most so many false positives a case.

    Parameters
    ----------
    evaluation : Evaluation
        Of nnU-Net's validation of one fold, with probabilities.
    label : str
    false_positives : float
    """
    fit = fit_rules(
        _source(evaluation),
        false_positives=false_positives,
        label=label,
        families=("single",),
        matching="any_overlap",
        keeps_dice=False,
        processes=1,
    )
    (family,) = fit.choice.families
    threshold = THRESHOLDS[0] if family.rule is None else family.rule.low

    def segmented(thresholds: Sequence[float]) -> list[Decided]:
        """Each case at a threshold of its own."""
        return [
            case.components.decided(DecisionRule(at, at), "any_overlap")
            for case, at in zip(fit.cases, thresholds, strict=True)
        ]

    def found(cases: Sequence[Decided]) -> np.ndarray:
        return np.concatenate([case.found for case in cases])

    chosen = segmented([threshold] * len(fit.cases))
    left_out = segmented([family.rules_without[case.fold].low for case in fit.cases])
    return OperatingPoint(
        threshold=threshold,
        false_positives=float(np.mean([case.false_positives for case in chosen])),
        found=found(chosen),
        dice=np.array([case.dice for case in chosen]),
        left_out_false_positives=float(np.mean([case.false_positives for case in left_out])),
        left_out_found=found(left_out),
    )


def _source(evaluation: Evaluation) -> Source:
    rows = load_json(str(evaluation.folder / "summary.json"))["metric_per_case"]
    files = [_files(Path(row["reference_file"]), Path(row["prediction_file"])) for row in rows]
    # <model>/fold_0/validation/<case>.nii.gz
    dataset_json = load_json(str(files[0].prediction.parents[2] / "dataset.json"))
    return Source(evaluation.name, files, [], dataset_json, evaluation.folder)


def _files(reference: Path, prediction: Path) -> CaseFiles:
    case = prediction.name.removesuffix(".nii.gz")
    return CaseFiles(case, reference, prediction, prediction.with_name(f"{case}.npz"))


@dataclass(frozen=True)
class Training:
    """One seed of a trainer, judged on one label.

    Attributes
    ----------
    evaluation : Evaluation
    label : str
    price : float, optional
        False positives a case that it may have; None where lesions are not the question.
    """

    evaluation: Evaluation
    label: str
    price: float | None = None

    @cached_property
    def lesions(self) -> np.ndarray:
        """(L,) booleans: those of the label that count."""
        rows = self.evaluation.lesions
        return (rows.label == self.label) & ~np.isnan(rows.hit)

    @cached_property
    def small(self) -> np.ndarray:
        """(L,) booleans: those of at most `SMALL_VOXELS`."""
        return self.lesions & (self.evaluation.lesions.voxels <= SMALL_VOXELS)

    @cached_property
    def matched(self) -> OperatingPoint:
        """Its segmentations with at most `price` false positives a case."""
        assert self.price is not None
        return operating_point(self.evaluation, self.label, self.price)

    def of_cases(self, metric: str) -> np.ndarray:
        """(N,) values; a distance to nothing is the image's diagonal."""
        if metric == "matched_dice":
            return self.matched.dice
        return case_values(self.evaluation, self.label, metric)

    @cached_property
    def figures(self) -> dict[str, float]:
        """All that a training is judged by: at a probability of 0.5, or at the price where it is called matched.

        What is called left out is at the price as well, at thresholds that other cases chose.
        """
        rows, lesions, small = self.evaluation.lesions, self.lesions, self.small
        figures = {
            **{metric: float(np.nanmean(self.of_cases(metric))) for metric in OF_CASES},
            "lesion_dice": _mean(rows.dice[lesions]),
            "recall": _mean(rows.hit[lesions]),
            "small_recall": _mean(rows.hit[small]),
            "false_positives": self.false_positives,
            "lesion_f1": self._lesion_f1(),
            "froc_average": average_recall(self.evaluation.froc[self.label]),
        }
        if self.price is not None:
            figures |= {
                "matched_threshold": self.matched.threshold,
                "matched_false_positives": self.matched.false_positives,
                "matched_recall": _mean(self.matched.found[lesions]),
                "matched_small_recall": _mean(self.matched.found[small]),
                "matched_dice": float(np.nanmean(self.matched.dice)),
                "left_out_false_positives": self.matched.left_out_false_positives,
                "left_out_small_recall": _mean(self.matched.left_out_found[small]),
            }
        return figures

    @property
    def false_positives(self) -> float:
        """A case, as segmented."""
        return float(self.evaluation.columns[self.label]["n_false_positive"].mean())

    def _lesion_f1(self) -> float:
        rows = self.evaluation.predicted
        right = rows.hit[(rows.label == self.label) & ~np.isnan(rows.hit)]
        recall, precision = _mean(self.evaluation.lesions.hit[self.lesions]), _mean(right)
        return 2 * precision * recall / (precision + recall) if recall and precision > 0 else 0.0


def trainer_rows(task: TaskResults, label: str, of_lesions: bool = True) -> list[dict[str, Any]]:
    """A row per trainer, the baseline first: means over seeds, and gains over the baseline with 95 % intervals.

    ``<figure>_noise`` is the largest difference between two seeds of the baseline.

    Parameters
    ----------
    task : TaskResults
    label : str
    of_lesions : bool
        Also segment at a threshold of each training's own with at most the baseline's false positives, mean over its
        seeds. For one class, with probabilities.
    """
    first = next(iter(task.evaluations.values()))
    price = fmean(Training(evaluation, label).false_positives for evaluation in first.values()) if of_lesions else None
    trainers = {
        name: [Training(evaluation, label, price) for evaluation in seeds.values()]
        for name, seeds in task.evaluations.items()
    }
    baseline = next(iter(trainers.values()))
    rows = []
    for name, trainings in trainers.items():
        row: dict[str, Any] = {
            "task": task.task,
            "label": label,
            "trainer": name,
            "seeds": len(trainings),
            "cases": len(trainings[0].evaluation.cases),
            "lesions": int(trainings[0].lesions.sum()),
            "small_lesions": int(trainings[0].small.sum()),
            "price": price,
            "seconds_per_epoch": seconds_per_epoch(run for run in task.runs if run.trainer == name),
        }
        for figure in trainings[0].figures:
            values = [training.figures[figure] for training in trainings]
            noise = spread(training.figures[figure] for training in baseline)
            row |= {figure: fmean(values), f"{figure}_seeds": values, f"{figure}_noise": noise}
        if trainings is not baseline:
            row |= _gains(baseline, trainings)
        if of_lesions:
            row["matched_recall_by_size"] = _by_size(trainings)
        rows.append(without_nan(row))
    return rows


def _gains(baseline: Sequence[Training], trainings: Sequence[Training]) -> dict[str, float]:
    """Of means over seeds, with intervals by resampling cases."""
    row: dict[str, float] = {}
    first = baseline[0]
    of_cases = OF_CASES
    if first.price is not None:
        of_cases = (*OF_CASES, "matched_dice")
        found = [_found(group) for group in (baseline, trainings)]
        case = first.evaluation.lesions.case
        for name, chosen in (("matched_recall", first.lesions), ("matched_small_recall", first.small)):
            recall = cluster_bootstrap(case[chosen], found[0][chosen], found[1][chosen])
            row |= _gain(name, recall.difference, recall.interval)
    for metric in of_cases:
        before, after = ([item.of_cases(metric) for item in group] for group in (baseline, trainings))
        row |= _gain(metric, *paired_difference(before, after))
    return row


def _gain(name: str, value: float, interval: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_gain": value, f"{name}_gain_low": interval[0], f"{name}_gain_high": interval[1]}


def _found(trainings: Sequence[Training]) -> np.ndarray:
    """(L,) share of the seeds that find a lesion."""
    return np.mean([training.matched.found for training in trainings], axis=0)


def _by_size(trainings: Sequence[Training]) -> list[dict[str, float]]:
    first, found = trainings[0], _found(trainings)
    voxels = first.evaluation.lesions.voxels
    classes = [(low, first.lesions & (voxels >= low) & (voxels < high)) for low, high in pairwise(SIZES_VOXELS)]
    return [
        {"from_voxels": low, "lesions": int(chosen.sum()), "recall": _mean(found[chosen])}
        for low, chosen in classes
        if chosen.any()
    ]


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else math.nan


def main() -> None:
    """Write ``results/evidence_NAME.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="of a benchmark")
    parser.add_argument("name", help="of the result, such as ms_lesions")
    parser.add_argument("--lesions", action="store_true", help="at equal false positives; for one class")
    options = parser.parse_args()
    rows = []
    for task in read_results(options.folder).tasks:
        seeds = next(iter(task.evaluations.values()))
        for label in next(iter(seeds.values())).labels:
            rows += trainer_rows(task, label, options.lesions)
    print(write_result(f"evidence_{options.name}", rows))


if __name__ == "__main__":
    main()
