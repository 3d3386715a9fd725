"""Trainers and rules for segmenting at fixed prices, out of fold: ``python -m benchmarks.evidence.rules``.

Writes ``results/evidence_rules_NAME.json``: for every price in false positives per case, every trainer and every family
of rules what is found in cases whose folds had no part in the choice, matched one to one.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.evidence.collect import SMALL_VOXELS
from benchmarks.harness import write_result
from benchmarks.trainings import without_nan
from nnunet_rw.evaluation.comparison.intervals import cluster_bootstrap, mean_interval
from nnunet_rw.evaluation.comparison.rule_choice import FamilyFit
from nnunet_rw.evaluation.sources import Source, cross_validation_source
from nnunet_rw.postprocessing.threshold.fit import RuleFit, fit_rules


def rule_rows(sources: Sequence[Source], prices: Sequence[float], label: str | None = None) -> list[dict[str, Any]]:
    """A row per price, trainer and family of rules; gains over the first trainer's single threshold at that price.

    Parameters
    ----------
    sources : sequence of Source
        Of the same cases, with probabilities.
    prices : sequence of float
        False positives per case.
    label : str, optional
        Default: the only one.
    """
    rows = []
    for price in prices:
        fits = [fit_rules(source, false_positives=price, label=label, keeps_dice=False) for source in sources]
        first = fits[0].choice.families[0]
        of_first = _found(fits[0], first)
        for fit in fits:
            for family in fit.choice.families:
                row = {"price": price, "trainer": fit.model, "family": family.family, **_row(fit, family)}
                if family is not first:
                    row |= _gains(fits[0], of_first, first, _found(fit, family), family)
                rows.append(without_nan(row))
    return rows


def _row(fit: RuleFit, family: FamilyFit) -> dict[str, Any]:
    return {
        "rule": None if family.rule is None else str(family.rule),
        "cases": len(fit.cases),
        "lesions": int(fit.num_lesions.sum()),
        "small_lesions": int(_small(fit).sum()),
        "false_positives": float(family.figures.false_positives_per_case),
        "recall": float(family.figures.recall),
        "small_recall": float(_found(fit, family)[_small(fit)].mean()),
        "f1": float(family.figures.f1),
        "dice": float(family.figures.dice),
    }


def _gains(
    fit: RuleFit, of_first: np.ndarray, first: FamilyFit, found: np.ndarray, family: FamilyFit
) -> dict[str, float]:
    units = np.repeat([case.unit for case in fit.cases], fit.num_lesions)
    small = _small(fit)
    gains = {}
    for name, chosen in (("recall", slice(None)), ("small_recall", small)):
        recall = cluster_bootstrap(units[chosen], of_first[chosen], found[chosen])
        gains[name] = (recall.difference, *recall.interval)
    more = family.left_out.dice - first.left_out.dice
    gains["dice"] = (float(np.nanmean(more)), *mean_interval(more[~np.isnan(more)]))
    return {
        f"{name}_gain{end}": value
        for name, values in gains.items()
        for end, value in zip(("", "_low", "_high"), values, strict=True)
    }


def _found(fit: RuleFit, family: FamilyFit) -> np.ndarray:
    """(L,) booleans: counted lesions of all cases, each case under the rule that was chosen without its fold."""
    return np.concatenate(
        [case.components.decided(family.rules_without[case.fold], "one_to_one").found for case in fit.cases]
    )


def _small(fit: RuleFit) -> np.ndarray:
    """(L,) booleans: counted lesions of at most `SMALL_VOXELS`."""
    components = [case.components for case in fit.cases]
    return np.concatenate([case.lesion_voxels[case.counted] <= SMALL_VOXELS for case in components])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="of the result, such as ms_patients")
    parser.add_argument("-d", required=True, help="dataset")
    parser.add_argument("-c", default="3d_fullres")
    parser.add_argument("--plans", default="nnUNetPlans")
    parser.add_argument("-tr", nargs="+", required=True, help="trainers with validation of --npz, the baseline first")
    parser.add_argument("--prices", nargs="+", type=float, default=[40, 20, 10], help="false positives per case")
    options = parser.parse_args()
    sources = [
        cross_validation_source(options.d, options.c, name, options.plans, probabilities=True) for name in options.tr
    ]
    print(write_result(f"evidence_rules_{options.name}", rule_rows(sources, options.prices)))


if __name__ == "__main__":
    main()
