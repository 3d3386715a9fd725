"""Weights of an ensemble, and the size of what it drops, learned and tested on cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.datasets.folders import labels_of
from nnunet_rw.evaluation.comparison.groups import cases_apart, folds_note, units_of
from nnunet_rw.evaluation.metrics.lesions import LesionMatches, match_lesions
from nnunet_rw.evaluation.reading import read_case
from nnunet_rw.evaluation.sources import Source
from nnunet_rw.evaluation.units import size_unit
from nnunet_rw.postprocessing.ensemble.average import (
    choose_min_component_mm3,
    combine,
    counted_scores,
    is_improved,
    remove_small_components,
)
from nnunet_rw.postprocessing.ensemble.report import CLEANED, EQUAL, FITTED, CaseScores, FitReport, dice_gain, gains
from nnunet_rw.postprocessing.ensemble.weights import (
    ClassStatistics,
    EnsembleWeights,
    channel_names,
    class_statistics,
    fit_class_weights,
)
from nnunet_rw.postprocessing.predictions import (
    PairedCase,
    label_manager,
    model_probabilities,
    paired_cases,
    read_models,
    to_segmentation,
)
from nnunet_rw.util.parallel import list_in_processes

# Of each class, in the order of the dataset's foreground labels.
ClassMatches = tuple[LesionMatches, ...]


@dataclass(frozen=True)
class Candidate:
    """An ensemble to be tried.

    Attributes
    ----------
    weights : (M, C) floats or None
        None: equal.
    min_component_mm3 : mapping of str to float
    """

    weights: np.ndarray | None = None
    min_component_mm3: Mapping[str, float] = field(default_factory=dict)


def case_statistics(
    case: PairedCase, reader: BaseReaderWriter, dataset_json: Mapping[str, Any]
) -> tuple[ClassStatistics, ...]:
    """Sums for the weights of each channel of the probabilities.

    Raises
    ------
    ValueError
        See `nnunet_rw.postprocessing.predictions.read_models`.
    """
    labels = labels_of(dataset_json)
    models = read_models(case, reader, labels)
    reference = models[0].reference
    known = slice(None) if labels.ignore is None else reference != labels.ignore
    voxel_mm3 = float(np.prod(models[0].spacing_mm))
    by_channel = dict(zip(labels.channels, labels.foreground, strict=True))
    return tuple(
        class_statistics(
            [model_probabilities(model)[channel][known].ravel() for model in models],
            np.isin(reference[known].ravel(), by_channel.get(channel, 0)),
            voxel_mm3,
            background=channel not in by_channel,
        )
        for channel in range(labels.num_channels)
    )


def match_case(
    case: PairedCase,
    reader: BaseReaderWriter,
    dataset_json: dict[str, Any],
    candidates: Mapping[str, Candidate],
    models_too: bool = False,
) -> dict[str, ClassMatches]:
    """Lesions of the reference matched with those of each candidate and, by their position, of each model.

    Parameters
    ----------
    case, reader, dataset_json
        As for `case_statistics`.
    candidates : mapping of str to Candidate
    models_too : bool
        Match each model's own prediction as well, as "model 0", ...

    Raises
    ------
    ValueError
        As for `case_statistics`.
    """
    labels, manager = labels_of(dataset_json), label_manager(dataset_json)
    models = read_models(case, reader, labels)
    spacing = models[0].spacing_mm
    segmentations = {f"model {index}": model.prediction for index, model in enumerate(models) if models_too}
    for name, candidate in candidates.items():
        averaged = combine(map(model_probabilities, models), candidate.weights, manager.has_regions)
        segmentation = to_segmentation(averaged, manager)
        if any(candidate.min_component_mm3.values()):
            segmentation = remove_small_components(segmentation, manager, spacing, candidate.min_component_mm3)
        segmentations[name] = segmentation
    reference = models[0].reference
    known = None if labels.ignore is None else reference != labels.ignore
    return {
        name: tuple(
            match_lesions(np.isin(reference, label), np.isin(values, label), spacing, known=known)
            for label in labels.foreground
        )
        for name, values in segmentations.items()
    }


# What fitted weights must gain over equal ones, in mean Dice over cases, to be kept.
MIN_DICE_GAIN = 0.001
# Names the fit on all cases, beside the names of folds that are left out.
_NONE_LEFT_OUT = "none left out"


def fit_ensemble(
    sources: Sequence[Source],
    num_splits: int = 5,
    processes: int | None = None,
    groups: Mapping[str, str] | None = None,
) -> FitReport:
    """Learn convex weights per class and minimum volumes of predicted components on cross-validation.

    For every fold both are fitted on all other folds' cases, weights first, and applied to the cases of this fold. The
    fitted weights are kept only if the mean Dice of these cases is more than 0.001 above that of equal weights; else
    the weights are equal. The minimum volume of a class is kept if these cases' lesion F1 is higher with it and their
    Dice not lower by more than 0.001; else nothing is removed.

    Parameters
    ----------
    sources : sequence of Source
        A model each, from `nnunet_rw.evaluation.sources.cross_validation_source` with probabilities.
    num_splits : int
        Where a single fold is there its cases are split into so many.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.
    groups : mapping, optional
        The patient of every case: intervals and tests are over patients, and nothing is fitted on other cases of those
        that it is applied to.

    Returns
    -------
    FitReport

    Raises
    ------
    ValueError
        Fewer than two models, or one without probabilities; see
        `nnunet_rw.postprocessing.predictions.paired_cases`; or a file cannot be evaluated.
    """
    if len(sources) < 2:
        raise ValueError(f"Expected two or more models, but got {len(sources)}.")
    cases = paired_cases(sources, num_splits, groups=groups)
    units = [case.unit for case in cases]
    validated = sources[0].cases  # by trained folds; those of `cases` may be parts of one
    models = tuple(source.name for source in sources)
    reader, dataset_json = sources[0].reader, sources[0].dataset_json
    labels = labels_of(dataset_json)
    classes, channels = tuple(str(label) for label in labels.foreground), channel_names(labels)

    tasks: list[tuple[Any, ...]] = [(case, reader, dataset_json) for case in cases]
    statistics = list_in_processes(case_statistics, tasks, "Fitting", processes)
    weights = {name: _fit_weights(_without(statistics, cases, name)) for name in _names(cases)}
    candidates = {EQUAL: Candidate(), **{name: Candidate(values) for name, values in weights.items()}}
    tasks = [(case, reader, dataset_json, candidates, True) for case in cases]
    matches = list_in_processes(match_case, tasks, "Testing", processes)
    scores: dict[str, list[CaseScores]] = {
        model: [_scores(found[f"model {index}"]) for found in matches] for index, model in enumerate(models)
    }
    scores[EQUAL] = [_scores(found[EQUAL]) for found in matches]
    scores[FITTED] = [_scores(found[case.fold]) for found, case in zip(matches, cases, strict=True)]

    improvement = dice_gain(scores, classes, FITTED, EQUAL, units)
    chosen = FITTED if improvement is not None and improvement.comparison.mean > MIN_DICE_GAIN else EQUAL
    volumes = {
        name: _min_components(
            [found[name if chosen == FITTED else EQUAL] for found in _without(matches, cases, name)], classes
        )
        for name in weights
    }
    cleaning = {name: Candidate(weights[name] if chosen == FITTED else None, volumes[name]) for name in weights}
    tasks = [(case, reader, dataset_json, {CLEANED: cleaning[case.fold]}) for case in cases]
    if any(any(found.values()) for found in volumes.values()):
        matches = list_in_processes(match_case, tasks, "Removing", processes)
        scores[CLEANED] = [_scores(found[CLEANED]) for found in matches]
    else:
        scores[CLEANED] = scores[chosen]

    equal = np.full((len(models), len(channels)), 1 / len(models))
    # Files of a dataset are alike in whether they tell a spacing.
    without = replace(cases[0].files[0], probabilities=None)
    first = read_case(without, reader, labels.known, labels.num_channels)
    fitted = {name: EnsembleWeights(models, channels, values) for name, values in weights.items()}
    return FitReport(
        models=models,
        classes=classes,
        cases=tuple((case.case, case.fold) for case in cases),
        scores=scores,
        gains=gains(scores, models, classes, units),
        chosen=chosen,
        weights=EnsembleWeights(
            models,
            channels,
            weights[_NONE_LEFT_OUT] if chosen == FITTED else equal,
            _kept(scores, chosen, classes, volumes[_NONE_LEFT_OUT]),
        ),
        fitted=fitted.pop(_NONE_LEFT_OUT),
        fitted_without=fitted,
        volumes_mm3=volumes.pop(_NONE_LEFT_OUT),
        volumes_mm3_without=volumes,
        size_unit=size_unit([first.spacing_mm]),
        resampled="cases" if groups is None else "patients",
        notes=folds_note([files.fold for files in validated], units_of([files.case for files in validated], groups)),
    )


def _names(cases: Sequence[PairedCase]) -> list[str]:
    return [_NONE_LEFT_OUT, *sorted({case.fold for case in cases})]


def _without(values: Sequence[Any], cases: Sequence[PairedCase], left_out: str) -> list[Any]:
    """What belongs to other folds' cases, of other patients: the one place that decides what a fit may see."""
    seen = cases_apart([case.fold for case in cases], [case.unit for case in cases], left_out)
    return [value for value, kept in zip(values, seen, strict=True) if kept]


def _fit_weights(statistics: Sequence[Sequence[ClassStatistics]]) -> np.ndarray:
    """(M, C)."""
    return np.stack([fit_class_weights(channel) for channel in zip(*statistics, strict=True)], axis=1)


def _min_components(matches: Sequence[ClassMatches], classes: Sequence[str]) -> Mapping[str, float]:
    return dict(zip(classes, map(choose_min_component_mm3, zip(*matches, strict=True)), strict=True))


def _kept(
    scores: Mapping[str, Sequence[CaseScores]], chosen: str, classes: Sequence[str], volumes_mm3: Mapping[str, float]
) -> dict[str, float]:
    """The minimum volumes of the classes that removal improves in cases left out."""
    kept = {}
    for name, before, after in zip(
        classes, zip(*scores[chosen], strict=True), zip(*scores[CLEANED], strict=True), strict=True
    ):
        if volumes_mm3[name] and is_improved(before, after):
            kept[name] = volumes_mm3[name]
    return kept


def _scores(matches: ClassMatches) -> CaseScores:
    return tuple(counted_scores(found) for found in matches)
