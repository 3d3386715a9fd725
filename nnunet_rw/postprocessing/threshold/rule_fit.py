"""Families of rules fitted together at one price, and tested on the cases left out of the choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.datasets.labels import Label, Labels
from nnunet_rw.evaluation.comparison.intervals import Interval, RecallDifference, cluster_bootstrap, mean_interval
from nnunet_rw.evaluation.metrics.detection import Rule as Matching
from nnunet_rw.evaluation.metrics.detection import found_lesions
from nnunet_rw.evaluation.metrics.lesions import ROUNDING, match_lesions
from nnunet_rw.evaluation.metrics.overlap import overlap
from nnunet_rw.evaluation.sources import Source
from nnunet_rw.postprocessing.predictions import PairedCase, paired_cases
from nnunet_rw.postprocessing.threshold.fit import compared_masks, named_label, units_word
from nnunet_rw.postprocessing.threshold.rules import (
    GRID,
    Decided,
    DecisionRule,
    RuleCase,
    RuleGrid,
    RuleOutcomes,
    rule_case,
    volumes_to_try,
)
from nnunet_rw.util.parallel import list_in_processes

# Whether the two thresholds may differ, and whether small components may go; from the simplest on.
FAMILIES = {
    "threshold": (False, False),
    "threshold + minimum volume": (False, True),
    "hysteresis": (True, False),
    "hysteresis + minimum volume": (True, True),
}
Aim = Literal["recall", "f1", "dice"]
_HALF = GRID.index(0.5)


@dataclass(frozen=True)
class FittedCase:
    """A case under every rule, and as the baseline segments it.

    Attributes
    ----------
    case : str
    fold : str
        Its rule is chosen on the cases of other folds alone.
    components : RuleCase
    baseline : Decided or None
    unit : str
        The patient, or the case itself.
    """

    case: str
    fold: str
    components: RuleCase
    baseline: Decided | None
    unit: str


@dataclass(frozen=True)
class FamilyFit:
    """The best rule of a family, and what it does in cases left out of the choice.

    Attributes
    ----------
    family : str
        A key of `FAMILIES`.
    rule : DecisionRule or None
        Chosen on all cases; None where none keeps the conditions.
    rules_without : dict of str to DecisionRule
        By the fold left out, and applied to it; where none keeps the conditions, the one of fewest false positives.
    left_out : tuple of Decided
        Of each case, under the rule chosen without its fold.
    recall : RecallDifference
        Of `left_out` to the baseline, resampling cases.
    false_positives, dice : Interval
        95 %, of the mean difference to the baseline per case.
    """

    family: str
    rule: DecisionRule | None
    rules_without: dict[str, DecisionRule]
    left_out: tuple[Decided, ...]
    recall: RecallDifference
    false_positives: Interval
    dice: Interval


@dataclass(frozen=True)
class RuleFit:
    """All families at one price.

    Attributes
    ----------
    model, label : str
    baseline : str
        Whose segmentations are compared: of another model, or the model's own above 0.5.
    cases : tuple of FittedCase
    false_positives : float
        Per case, that a rule may have.
    least_dice : float
        That it must have: the baseline's.
    aim : "recall", "f1" or "dice"
        What the chosen rule has most of.
    baseline_cases : tuple of Decided
    families : tuple of FamilyFit
    settings : dict
        Matching, connectivity, minimum volume of the reference, number of splits and seed.
    """

    model: str
    label: str
    baseline: str
    cases: tuple[FittedCase, ...]
    false_positives: float
    least_dice: float
    aim: Aim
    baseline_cases: tuple[Decided, ...]
    families: tuple[FamilyFit, ...]
    settings: dict[str, float | str]

    @property
    def resampled(self) -> str:
        """What intervals are over, in a word."""
        return units_word(self.cases)

    @property
    def best(self) -> FamilyFit | None:
        """The family whose rules have most of the aim in cases left out; of equal ones the simplest."""
        able = [family for family in self.families if family.rule is not None]
        return max(able, key=lambda family: _aimed(family.left_out, self.aim), default=None)


def fit_rules(
    source: Source,
    baseline: Source | None = None,
    false_positives: float | None = None,
    label: str | None = None,
    aim: Aim = "recall",
    matching: Matching = "one_to_one",
    connectivity: int = 26,
    min_volume_mm3: float = 0.0,
    num_splits: int = 5,
    seed: int = 0,
    processes: int | None = None,
    groups: Mapping[str, str] | None = None,
) -> RuleFit:
    """Choose, for each family, the rule with most of an aim within the false positives and with no less Dice.

    Parameters
    ----------
    source : Source
        From `nnunet_rw.evaluation.sources.cross_validation_source` with probabilities.
    baseline : Source, optional
        Of the same cases: its false positives are those that a rule may have, and its Dice is the least. Default: the
        model's own segmentation above 0.5.
    false_positives : float, optional
        Per case; in place of the baseline's.
    label : str, optional
        As evaluations name it, "1" or "(1, 2)". Default: the only one.
    aim : "recall", "f1" or "dice"
        Recall and F1 are those of lesions.
    matching : "one_to_one" or "any_overlap"
        What counts as found, see `nnunet_rw.evaluation.metrics.detection.count_detections`.
    connectivity, min_volume_mm3
        See `nnunet_rw.evaluation.metrics.lesions.match_lesions`.
    num_splits : int
        Where a single fold is there its cases are split into so many.
    seed : int
        Of that split and of the intervals.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.
    groups : mapping, optional
        The patient of every case: intervals are over patients.

    Raises
    ------
    ValueError
        An unknown aim or impossible number, a label that is not there or not named among several; see
        `nnunet_rw.postprocessing.predictions.paired_cases`; or a file cannot be evaluated.
    """
    if aim not in get_args(Aim):
        raise ValueError(f"Expected the aim to be one of {get_args(Aim)}, but got {aim!r}.")
    if false_positives is not None and not 0 <= false_positives < np.inf:
        raise ValueError(f"Expected false positives per case from 0, but got {false_positives}.")
    labels = source.labels
    chosen = named_label(labels, label)
    pairs = paired_cases([source] if baseline is None else [source, baseline], num_splits, seed, groups)
    tasks = [(pair, source.reader, labels, chosen, connectivity, min_volume_mm3, matching) for pair in pairs]
    cases = tuple(list_in_processes(fitted_case, tasks, "Components", processes))
    grid = RuleGrid(GRID, volumes_to_try([case.components.voxel_mm3 for case in cases]))
    half = [case.components.decided(grid, (_HALF, _HALF, 0), matching) for case in cases]
    compared = tuple(case.baseline or own for case, own in zip(cases, half, strict=True))
    outcomes = [case.components.outcomes(grid, matching) for case in cases]
    choice = _Choice(grid, cases, outcomes, compared, false_positives, aim)
    families = [
        _fit_family(name, choice, grid.allowed(*kind), matching, seed, named=baseline is not None)
        for name, kind in FAMILIES.items()
    ]
    return RuleFit(
        model=source.name,
        label=str(chosen),
        baseline=source.name + " above 0.5" if baseline is None else baseline.name,
        cases=cases,
        false_positives=choice.price(range(len(cases))),
        least_dice=choice.least_dice(range(len(cases))),
        aim=aim,
        baseline_cases=compared,
        families=tuple(families),
        settings={
            "matching": matching,
            "connectivity": connectivity,
            "min_volume_mm3": min_volume_mm3,
            "num_splits": num_splits,
            "seed": seed,
        },
    )


def fitted_case(
    case: PairedCase,
    reader: BaseReaderWriter,
    labels: Labels,
    label: Label,
    connectivity: int,
    min_volume_mm3: float,
    matching: Matching,
) -> FittedCase:
    """The components of a case, and what the baseline does in it; see `compared_masks`."""
    masks = compared_masks(case, reader, labels, label)
    reference, probability = masks.reference, masks.probability.astype(np.float32, copy=False)
    baseline = None
    if masks.baseline is not None:
        matches = match_lesions(reference, masks.baseline, masks.spacing_mm, connectivity, min_volume_mm3, masks.known)
        right = found_lesions(matches.predicted, matching)
        baseline = Decided(
            found_lesions(matches.reference, matching),
            int(right.sum()),
            int((~right).sum()),
            overlap(reference, masks.baseline, masks.known).dice,
        )
    if masks.known is not None:
        reference, probability = reference & masks.known, np.where(masks.known, probability, np.float32(0))
    voxel_mm3 = float(np.prod(masks.spacing_mm))
    components = rule_case(reference, probability, voxel_mm3, GRID, connectivity, min_volume_mm3)
    return FittedCase(case.case, case.fold, components, baseline, case.unit)


@dataclass(frozen=True)
class _Choice:
    """The one place that decides what a choice may see: some of the cases."""

    grid: RuleGrid
    cases: Sequence[FittedCase]
    outcomes: Sequence[RuleOutcomes]
    baseline: Sequence[Decided]
    false_positives: float | None
    aim: Aim

    def price(self, seen: Sequence[int]) -> float:
        if self.false_positives is not None:
            return self.false_positives
        return float(np.mean([self.baseline[index].false_positives for index in seen]))

    def least_dice(self, seen: Sequence[int]) -> float:
        return _mean_dice([self.baseline[index] for index in seen])

    def best(self, seen: Sequence[int], family: np.ndarray) -> tuple[tuple[int, int, int], bool]:
        """Place of the best rule of a family, and whether it keeps the conditions."""
        outcomes = [self.outcomes[index] for index in seen]
        false, right, found = (sum(getattr(case, name) for case in outcomes) for name in _COUNTS)
        dice = _nanmean([case.dice for case in outcomes])
        per_case = false / len(seen)
        within = family & (per_case <= self.price(seen) * (1 + ROUNDING))
        least = self.least_dice(seen)
        within &= (dice >= least - ROUNDING) | np.isnan(least)
        if not within.any():
            return _middle(family, (-false, dice)), False
        recall = found / max(1, sum(case.num_lesions for case in outcomes))
        aimed = {"recall": recall, "f1": _f1(recall, right, false), "dice": dice}[self.aim]
        return _middle(within, (aimed, dice, -false)), True


_COUNTS = ("false_positives", "right", "found")


def _fit_family(
    name: str, choice: _Choice, family: np.ndarray, matching: Matching, seed: int, named: bool
) -> FamilyFit:
    everything = range(len(choice.cases))
    place, kept = choice.best(everything, family)
    folds = [case.fold for case in choice.cases]
    without = {
        fold: choice.best([index for index in everything if folds[index] != fold], family)[0]
        for fold in sorted(set(folds))
    }
    left_out = tuple(case.components.decided(choice.grid, without[case.fold], matching) for case in choice.cases)
    units = np.array([case.unit for case in choice.cases])
    of_lesions = [case.unit for case in choice.cases for _ in case.components.volume_mm3]
    hits = [np.concatenate([item.found for item in decided]) for decided in (choice.baseline, left_out)]
    differences = {
        figure: np.array(
            [getattr(new, figure) - getattr(old, figure) for new, old in zip(left_out, choice.baseline, strict=True)],
            dtype=float,
        )
        for figure in ("false_positives", "dice")
    }
    defined = ~np.isnan(differences["dice"])
    return FamilyFit(
        family=name,
        rule=choice.grid.rule(*place) if kept else None,
        rules_without={fold: choice.grid.rule(*chosen) for fold, chosen in without.items()},
        left_out=left_out,
        recall=cluster_bootstrap(np.array(of_lesions), hits[0], hits[1], seed=seed),
        false_positives=mean_interval(differences["false_positives"], units, seed=seed),
        dice=mean_interval(differences["dice"][defined], units[defined], seed=seed),
    )


def summary(decided: Sequence[Decided]) -> dict[str, float]:
    """Over cases: false positives per case, recall and F1 of the pooled lesions, mean Dice where it is defined."""
    found = np.concatenate([item.found for item in decided])
    false, right = (sum(getattr(item, name) for item in decided) for name in ("false_positives", "right"))
    recall = float(found.mean()) if len(found) else float("nan")
    return {
        "false_positives_per_case": false / len(decided),
        "recall": recall,
        "f1": float(_f1(np.array(recall), np.array(right), np.array(false))),
        "dice": _mean_dice(decided),
    }


def _aimed(decided: Sequence[Decided], aim: Aim) -> float:
    value = summary(decided)[aim]
    return -np.inf if np.isnan(value) else value


def _mean_dice(decided: Sequence[Decided]) -> float:
    dice = np.array([item.dice for item in decided])
    return float(dice[~np.isnan(dice)].mean()) if (~np.isnan(dice)).any() else float("nan")


def _f1(recall: np.ndarray, right: np.ndarray, false: np.ndarray) -> np.ndarray:
    """2 PR / (P + R), 0 where nothing is found."""
    predicted = right + false
    precision = np.divide(right, predicted, out=np.zeros(np.shape(predicted)), where=predicted > 0)
    total = precision + recall
    return np.divide(2 * precision * recall, total, out=np.zeros(np.shape(total)), where=total > 0)


def _nanmean(values: Sequence[np.ndarray]) -> np.ndarray:
    stacked = np.stack(values)
    defined = ~np.isnan(stacked)
    total = np.where(defined, stacked, 0).sum(0)
    return np.divide(total, defined.sum(0), out=np.full(total.shape, np.nan), where=defined.any(0))


def _middle(allowed: np.ndarray, keys: Sequence[np.ndarray]) -> tuple[int, int, int]:
    """The allowed place of the largest first key, ties by the next ones: the middle of those that are as good.

    At the edge of a plateau the next case is over it. No volume is taken rather than a small one.
    """
    places = np.argwhere(allowed)
    for key in keys:
        values = np.nan_to_num(key[tuple(places.T)], nan=-np.inf)
        places = places[values >= values.max() - ROUNDING]
    places = places[places[:, 2] == places[:, 2].min()]
    return tuple(map(int, places[np.abs(places - places.mean(0)).sum(1).argmin()]))  # type: ignore[return-value]
