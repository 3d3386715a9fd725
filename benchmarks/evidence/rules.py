"""Trainers and rules for segmenting at fixed prices, out of fold: ``python -m benchmarks.evidence.rules``.

Writes ``results/evidence_rules_NAME.json``: for every class, price in false positives per case, trainer and family of
rules what is found in cases whose folds had no part in the choice, matched one to one; with a benchmark's evaluations
``results/evidence_areas_NAME.json`` as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json

from benchmarks.harness import write_result
from nnunet_rw.datasets.folders import label_names
from nnunet_rw.evaluation.comparison.rule_choice import Figures, RuleCases, choose_rules, figures
from nnunet_rw.evaluation.comparison.statistics import cluster_bootstrap, jackknife_interval, mean_interval
from nnunet_rw.evaluation.metrics.rules import FAMILIES, DecisionRule, Outcomes
from nnunet_rw.evaluation.sources import Source, cross_validation_source
from nnunet_rw.postprocessing.threshold.fit import FittedCase, fitted_cases, rule_cases
from nnunet_rw.util.tables import json_value

HALF = DecisionRule(0.5, 0.5)
# A lesion of up to 20 voxels is less than three across.
SMALL_VOXELS = 20


@dataclass(frozen=True)
class Training:
    """The cross-validation of one class by one trainer and seed."""

    cases: tuple[FittedCase, ...]

    @cached_property
    def under_rules(self) -> RuleCases:
        return rule_cases(self.cases)

    @cached_property
    def lesion_voxels(self) -> np.ndarray:
        """int64 (L,): of the counted lesions, case by case."""
        components = [case.components for case in self.cases]
        return np.concatenate([case.lesion_voxels[case.counted] for case in components])

    @property
    def small(self) -> np.ndarray:
        """(L,) booleans: lesions of at most `SMALL_VOXELS`."""
        return self.lesion_voxels <= SMALL_VOXELS

    @cached_property
    def unit_of_lesion(self) -> np.ndarray:
        """(L,) names."""
        return np.repeat([case.unit for case in self.cases], self.under_rules.num_lesions)

    @cached_property
    def own_false_positives(self) -> float:
        """Per case, above a probability of 0.5."""
        return fmean(case.components.decided(HALF).false_positives for case in self.cases)

    def left_out(self, price: float) -> dict[str, LeftOut]:
        """By the family of rules, each chosen to have at most so many false positives per case in other folds."""
        found = {}
        for family in choose_rules(replace(self.under_rules, false_positives=price, keeps_dice=False)).families:
            decided = [case.components.decided(family.rules_without[case.fold], "one_to_one") for case in self.cases]
            found[family.family] = LeftOut(
                family.rule, family.figures, np.concatenate([case.found for case in decided]), family.left_out
            )
        return found


@dataclass(frozen=True)
class LeftOut:
    """What is found in cases left out of the choice of a rule.

    Attributes
    ----------
    rule : DecisionRule or None
        Chosen on all cases; None where none keeps within the price.
    figures : Figures
    found : (L,) booleans
        Counted lesions, case by case.
    outcomes : Outcomes
        (N,) each.
    """

    rule: DecisionRule | None
    figures: Figures
    found: np.ndarray
    outcomes: Outcomes

    def f1_of(self, seen: np.ndarray, num_lesions: np.ndarray) -> float:
        """Of some of the cases, (N,) booleans."""
        return float(figures(Outcomes(*(values[seen] for values in self.outcomes)), num_lesions[seen]).f1)


def rule_rows(trainers: Mapping[str, Sequence[Training]], prices: Sequence[float]) -> list[dict[str, Any]]:
    """A row per price, trainer and family of rules.

    Figures are means over the seeds, ``..._seeds`` those of each. Gains are over the first trainer: ``..._gain`` over
    its single threshold at that price, ``..._gain_of_trainer`` over its rules of the same family, with the ends of 95 %
    intervals over cases, or patients, of the means over the seeds.

    Parameters
    ----------
    trainers : mapping of str to sequence of Training
        The seeds of each, on the same cases.
    prices : sequence of float
        False positives per case. The first price is always that of the first trainer at 0.5, the mean of its seeds.
    """
    first = next(iter(trainers))
    own = fmean(training.own_false_positives for training in trainers[first])
    rows = []
    for price in (own, *prices):
        found = {name: [training.left_out(price) for training in seeds] for name, seeds in trainers.items()}
        of_first = {family: [seed[family] for seed in found[first]] for family in FAMILIES}
        for name, seeds in found.items():
            for family in FAMILIES:
                of_seeds = [seed[family] for seed in seeds]
                row = _row(name, trainers[name], of_seeds) | {"price": price, "own": price == own, "family": family}
                lesions = trainers[first][0]
                if (name, family) != (first, "single"):
                    row |= _gains(lesions, of_first["single"], of_seeds, "gain")
                if name != first:
                    row |= _gains(lesions, of_first[family], of_seeds, "gain_of_trainer")
                rows.append(json_value(row))
    return rows


def _row(trainer: str, trainings: Sequence[Training], of_seeds: Sequence[LeftOut]) -> dict[str, Any]:
    small = trainings[0].small
    each = {
        "false_positives": [float(seed.figures.false_positives_per_case) for seed in of_seeds],
        "recall": [float(seed.figures.recall) for seed in of_seeds],
        "small_recall": [float(seed.found[small].mean()) if small.any() else np.nan for seed in of_seeds],
        "f1": [float(seed.figures.f1) for seed in of_seeds],
        "dice": [float(seed.figures.dice) for seed in of_seeds],
    }
    return {
        "trainer": trainer,
        "seeds": len(of_seeds),
        "rules": [None if seed.rule is None else str(seed.rule) for seed in of_seeds],
        "cases": len(trainings[0].cases),
        "lesions": len(small),
        "small_lesions": int(small.sum()),
        **{name: fmean(values) for name, values in each.items()},
        **{f"{name}_seeds": values for name, values in each.items()},
    }


def _gains(lesions: Training, before: Sequence[LeftOut], after: Sequence[LeftOut], name: str) -> dict[str, float]:
    hits = [np.mean([seed.found for seed in seeds], axis=0) for seeds in (before, after)]
    gains = {}
    for figure, chosen in (("recall", np.ones_like(lesions.small)), ("small_recall", lesions.small)):
        recall = cluster_bootstrap(lesions.unit_of_lesion[chosen], *(hit[chosen] for hit in hits))
        gains[figure] = (recall.difference, *recall.interval)
    units, num_lesions = np.array([case.unit for case in lesions.cases]), lesions.under_rules.num_lesions

    def f1_difference(seen: np.ndarray) -> float:
        one, other = (fmean(seed.f1_of(seen, num_lesions) for seed in seeds) for seeds in (after, before))
        return one - other

    gains["f1"] = (f1_difference(units == units), *jackknife_interval(units, f1_difference).within(-1, 1))
    dice = [np.mean([seed.outcomes.dice for seed in seeds], axis=0) for seeds in (before, after)]
    more = dice[1] - dice[0]
    defined = ~np.isnan(more)
    gains["dice"] = (float(more[defined].mean()), *mean_interval(more[defined], units[defined]).within(-1, 1))
    return {
        f"{figure}_{name}{end}": value
        for figure, values in gains.items()
        for end, value in zip(("", "_low", "_high"), values, strict=True)
    }


def read_trainers(sources: Mapping[str, Sequence[Source]], label: str | None = None) -> dict[str, list[Training]]:
    """The trainings of one class; the only one where none is named."""
    return {name: [Training(fitted_cases(source, label=label)) for source in seeds] for name, seeds in sources.items()}


def area_rows(benchmark: Path, sources: Mapping[str, Sequence[Source]], label: str) -> list[dict[str, Any]]:
    """A row per trainer: the area under the precision-recall curve of the voxels of all cases, from its evaluations."""
    rows = []
    for name, seeds in sources.items():
        folders = [next((benchmark / "evaluations").glob(f"*/{source.name}")) for source in seeds]
        classes = [load_json(str(folder / "summary.json"))["classes"][label] for folder in folders]
        areas = [found["pooled_voxels"]["precision_recall_area"] for found in classes]
        rows.append({"trainer": name, "seeds": len(areas), "area": fmean(areas), "area_seeds": areas})
    return rows


def class_names(source: Source) -> dict[str, str]:
    """What dataset.json calls each foreground class, by its label as evaluations name it."""
    names = label_names(source.dataset_json)
    return {str(label): names[label] for label in source.labels.foreground}


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """What trainings are of."""
    parser.add_argument("name", help="of the result, such as ms_patients")
    parser.add_argument("-d", required=True, help="dataset")
    parser.add_argument("-c", default="3d_fullres")
    parser.add_argument("--plans", default="nnUNetPlans")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_dataset(parser)
    parser.add_argument("--length", required=True, help="of the trainers' names, such as _30epochs_50iterations")
    parser.add_argument(
        "-tr", nargs="+", required=True, help="trainers with validation of --npz, the baseline first; NAME:2 of 2 seeds"
    )
    parser.add_argument("-f", nargs="+", default=(), help="folds; default: every one that was validated")
    parser.add_argument("--prices", nargs="+", type=float, default=[16, 8, 4], help="false positives per case")
    parser.add_argument("--benchmark", type=Path, help="its folder, for areas under the precision-recall curve")
    options = parser.parse_args()
    sources: dict[str, list[Source]] = {}
    for name, _, seeds in (given.partition(":") for given in options.tr):
        trained = [f"{name}{options.length}_seed{seed}" for seed in range(int(seeds or 1))]
        sources[name] = [
            cross_validation_source(options.d, options.c, trainer, options.plans, options.f, probabilities=True)
            for trainer in trained
        ]
    first, *_ = next(iter(sources.values()))
    rules, areas = [], []
    for label, name in class_names(first).items():
        rules += [{"class": name} | row for row in rule_rows(read_trainers(sources, label), options.prices)]
        if options.benchmark:
            areas += [{"class": name} | row for row in area_rows(options.benchmark, sources, label)]
    print(write_result(f"evidence_rules_{options.name}", rules))
    if areas:
        print(write_result(f"evidence_areas_{options.name}", areas))


if __name__ == "__main__":
    main()
