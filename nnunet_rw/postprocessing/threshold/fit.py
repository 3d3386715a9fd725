"""Rules that turn a trainer's probabilities into segmentations, fitted on the cases of its cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.datasets.folders import Label, Labels, label_texts
from nnunet_rw.evaluation.comparison.groups import folds_note, units_of
from nnunet_rw.evaluation.comparison.rule_choice import Aim, Figures, RuleCases, RuleChoice, choose_rules, figures
from nnunet_rw.evaluation.metrics.detection import Rule as Matching
from nnunet_rw.evaluation.metrics.detection import found_lesions
from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.overlap import overlap
from nnunet_rw.evaluation.metrics.probabilities import OperatingPoints
from nnunet_rw.evaluation.metrics.rules import (
    FAMILIES,
    Decided,
    Outcomes,
    RuleCase,
    RuleGrid,
    operating_points,
    pooled,
    rule_case,
    volumes_to_try,
)
from nnunet_rw.evaluation.sources import Source
from nnunet_rw.evaluation.units import size_unit
from nnunet_rw.postprocessing.predictions import PairedCase, model_probabilities, paired_cases, read_models
from nnunet_rw.util.parallel import list_in_processes


@dataclass(frozen=True)
class FittedCase:
    """A case under every rule, and as the baseline segments it.

    Attributes
    ----------
    case : str
    fold : str
        Its rule is chosen on the cases of other folds alone.
    components : RuleCase
    baseline : Decided
        By another model, or by the model itself as it was segmented.
    unit : str
        The patient, or the case itself.
    spacing_mm : tuple of float
    """

    case: str
    fold: str
    components: RuleCase
    baseline: Decided
    unit: str
    spacing_mm: tuple[float, ...]


class ComparedMasks(NamedTuple):
    """One class of one case: the reference, a model's probabilities, and what the baseline segmented.

    Attributes
    ----------
    reference : boolean array (X, Y[, Z])
    probability : float array of that shape
    known : boolean array of that shape, or None where all voxels are labelled
    baseline : boolean array of that shape
    spacing_mm : tuple of float
    """

    reference: np.ndarray
    probability: np.ndarray
    known: np.ndarray | None
    baseline: np.ndarray
    spacing_mm: tuple[float, ...]


@dataclass(frozen=True)
class RuleFit:
    """The rules of one label.

    Attributes
    ----------
    model, label, label_text : str
        The label as evaluations name it, and with its name.
    baseline : str
        Whose segmentations are compared: of another model, or the model's own.
    cases : tuple of FittedCase
    false_positives : float
        Per case, that a rule may have.
    least_dice : float
        That it must have in the cases whose reference has a voxel: the baseline's; NaN without this condition.
    aim : "recall", "f1" or "dice"
    margin : float or None
        Confidence with which new cases keep within the false positives; None without a margin.
    compared : Outcomes
        (N,) each: of the baseline.
    num_lesions : int64 (N,)
    choice : RuleChoice
    points : OperatingPoints
        Of single thresholds, all cases, by any overlap.
    settings : dict
        Matching, connectivity, minimum volume of the reference, number of splits and seed.
    together : tuple of Decided, optional
        Of each case, by the rules of all labels together, see `nnunet_rw.postprocessing.threshold.apply`.
    notes : tuple of str
        What the folds are not.
    """

    model: str
    label: str
    label_text: str
    baseline: str
    cases: tuple[FittedCase, ...]
    false_positives: float
    least_dice: float
    aim: Aim
    margin: float | None
    compared: Outcomes
    num_lesions: np.ndarray
    choice: RuleChoice
    points: OperatingPoints
    settings: dict[str, float | str]
    together: tuple[Decided, ...] | None = None
    notes: tuple[str, ...] = ()

    @property
    def resampled(self) -> str:
        """What intervals are over, in a word."""
        return "patients" if any(case.unit != case.case for case in self.cases) else "cases"

    @property
    def size_unit(self) -> str:
        """What lesions are measured in."""
        return size_unit(case.spacing_mm for case in self.cases)

    @property
    def num_with_reference(self) -> int:
        """Cases whose reference has a voxel, over which Dice must be kept."""
        return sum(bool(len(case.components.lesion_voxels)) for case in self.cases)

    @property
    def baseline_figures(self) -> Figures:
        return figures(self.compared, self.num_lesions)

    @property
    def together_figures(self) -> Figures | None:
        return None if self.together is None else figures(pooled(self.together), self.num_lesions)

    @property
    def matching(self) -> Matching:
        return "any_overlap" if self.settings["matching"] == "any_overlap" else "one_to_one"


class NoLesions(ValueError):
    """A class that a rule is to be chosen for is in none of the cases."""


def fit_rules(
    source: Source,
    baseline: Source | None = None,
    false_positives: float | None = None,
    label: str | None = None,
    aim: Aim = "recall",
    families: Sequence[str] = tuple(FAMILIES),
    margin: float | None = None,
    matching: Matching = "one_to_one",
    keeps_dice: bool = True,
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
        model itself as it was segmented, with several classes where each is the most probable.
    false_positives : float, optional
        Per case; in place of the baseline's.
    label : str, optional
        As evaluations name it, "1" or "(1, 2)". Default: the only one.
    aim, families, margin
        See `nnunet_rw.evaluation.comparison.rule_choice.choose_rules`.
    matching : "one_to_one" or "any_overlap"
        What counts as found, see `nnunet_rw.evaluation.metrics.detection.count_detections`.
    keeps_dice : bool
        Whether a rule's Dice may not be below the baseline's.
    connectivity, min_volume_mm3
        See `nnunet_rw.evaluation.metrics.lesions.match_lesions`.
    num_splits : int
        Where folds leave nothing to choose on, as a single one, the cases are split into so many parts.
    seed : int
        Of that split and of the intervals.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.
    groups : mapping, optional
        The patient of every case: intervals, and the margin, are over patients.

    Raises
    ------
    ValueError
        An impossible option, a label that is not there, not named among several, or without lesions (`NoLesions`); see
        `nnunet_rw.postprocessing.predictions.paired_cases`; or a file cannot be evaluated.
    """
    if false_positives is not None and not 0 <= false_positives < np.inf:
        raise ValueError(f"Expected false positives per case from 0, but got {false_positives}.")
    if margin is not None and not 0.5 < margin < 1:
        raise ValueError(f"Expected a margin above 0.5 and below 1, such as 0.9, but got {margin}.")
    chosen = named_label(source.labels, label)
    cases = fitted_cases(
        source, baseline, str(chosen), matching, connectivity, min_volume_mm3, num_splits, seed, processes, groups
    )
    label_text = label_texts(source.dataset_json)[str(chosen)]
    if not any(case.components.counted.any() for case in cases):
        raise NoLesions(f"{label_text}: no lesion in the cases of {source.name}, so no rule can be chosen for it.")
    pooled_cases = replace(rule_cases(cases, matching), false_positives=false_positives, keeps_dice=keeps_dice)
    return RuleFit(
        model=source.name,
        label=str(chosen),
        label_text=label_text,
        baseline=f"{source.name} as segmented" if baseline is None else baseline.name,
        cases=cases,
        false_positives=float(pooled_cases.allowed.mean()),
        least_dice=pooled_cases.least_dice,
        aim=aim,
        margin=margin,
        compared=pooled_cases.baseline,
        num_lesions=pooled_cases.num_lesions,
        choice=choose_rules(pooled_cases, aim, families, margin, seed),
        points=operating_points([case.components for case in cases]),
        settings={
            "matching": matching,
            "connectivity": connectivity,
            "min_volume_mm3": min_volume_mm3,
            "num_splits": num_splits,
            "seed": seed,
        },
        notes=folds_note(
            [files.fold for files in source.cases], units_of([files.case for files in source.cases], groups)
        ),
    )


def fitted_cases(
    source: Source,
    baseline: Source | None = None,
    label: str | None = None,
    matching: Matching = "one_to_one",
    connectivity: int = 26,
    min_volume_mm3: float = 0.0,
    num_splits: int = 5,
    seed: int = 0,
    processes: int | None = None,
    groups: Mapping[str, str] | None = None,
) -> tuple[FittedCase, ...]:
    """Read the cases of a model's cross-validation; parameters and errors as of `fit_rules`."""
    chosen = named_label(source.labels, label)
    pairs = paired_cases([source] if baseline is None else [source, baseline], num_splits, seed, groups)
    tasks = [(pair, source.reader, source.labels, chosen, connectivity, min_volume_mm3, matching) for pair in pairs]
    return tuple(list_in_processes(fitted_case, tasks, "Components", processes))


def rule_cases(cases: Sequence[FittedCase], matching: Matching = "one_to_one") -> RuleCases:
    """What every rule does in the cases: the price is the baseline's false positives, the least Dice is its own."""
    components = [case.components for case in cases]
    grid = RuleGrid(volumes_to_try([case.voxel_mm3 for case in components]))
    return RuleCases(
        grid=grid,
        outcomes=[case.outcomes(grid, matching) for case in components],
        num_lesions=np.array([int(case.counted.sum()) for case in components]),
        baseline=pooled([case.baseline for case in cases]),
        folds=[case.fold for case in cases],
        units=[case.unit for case in cases],
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
    settings = masks.spacing_mm, connectivity, min_volume_mm3, masks.known
    components = rule_case(masks.reference, masks.probability, *settings)
    baseline = decided_mask(masks.reference, masks.baseline, *settings, matching)
    return FittedCase(case.case, case.fold, components, baseline, case.unit, masks.spacing_mm)


def decided_mask(
    reference: np.ndarray,
    segmented: np.ndarray,
    spacing_mm: Sequence[float],
    connectivity: int,
    min_volume_mm3: float,
    known: np.ndarray | None,
    matching: Matching,
) -> Decided:
    """What a segmentation finds; parameters as of `nnunet_rw.evaluation.metrics.lesions.match_lesions`."""
    matches = match_lesions(reference, segmented, spacing_mm, connectivity, min_volume_mm3, known)
    right = found_lesions(matches.predicted, matching)
    return Decided(
        found_lesions(matches.reference, matching),
        int(right.sum()),
        int((~right).sum()),
        overlap(reference, segmented, known).dice,
    )


def compared_masks(case: PairedCase, reader: BaseReaderWriter, labels: Labels, label: Label) -> ComparedMasks:
    """Read a case of one model, with probabilities, and of the baseline where there is a second model.

    Raises
    ------
    ValueError
        See `nnunet_rw.postprocessing.predictions.read_models`; or the model has no probabilities.
    """
    models = read_models(case, reader, labels)
    model, baseline = models[0], models[-1]
    return ComparedMasks(
        np.isin(model.reference, label),
        model_probabilities(model)[labels.channels[labels.foreground.index(label)]].astype(np.float32, copy=False),
        None if labels.ignore is None else model.reference != labels.ignore,
        np.isin(baseline.prediction, label),
        model.spacing_mm,
    )


def named_label(labels: Labels, name: str | None) -> Label:
    """The foreground label of this name; the only one where none is given.

    Raises
    ------
    ValueError
        There is none, or there are several.
    """
    by_name = {str(label): label for label in labels.foreground}
    if name is None and len(by_name) > 1:
        raise ValueError(f"The dataset has several labels. Give --label with one of {', '.join(by_name)}.")
    if name is not None and name not in by_name:
        raise ValueError(f"Expected a label out of {', '.join(by_name)}, but got {name}.")
    return labels.foreground[0] if name is None else by_name[name]
