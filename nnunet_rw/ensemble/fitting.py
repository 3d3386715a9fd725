"""Weights of an ensemble, and the size of what it drops, learned and tested on cross-validation.

Everything reported for a case comes from weights and minimum volumes that were fitted on the cases of other folds; what
is kept for use is fitted on all cases in the same way. No test case is ever read. Whether fitted or equal weights are
kept is decided by the cross-fitted figures of all cases, which favours the kept ones a little; both are reported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nnunet_rw.ensemble.case_fitting import Candidate, ClassMatches, case_statistics, match_case
from nnunet_rw.ensemble.class_weights import ClassStatistics, fit_class_weights
from nnunet_rw.ensemble.fit_report import FitReport
from nnunet_rw.ensemble.gains import CLEANED, EQUAL, FITTED, CaseScores, dice_gain, gains
from nnunet_rw.ensemble.scores import counted_scores
from nnunet_rw.ensemble.small_components import choose_min_component_mm3, is_improved
from nnunet_rw.ensemble.weights import EnsembleWeights, channel_names
from nnunet_rw.evaluation.labels import labels_of
from nnunet_rw.evaluation.sources import Source
from nnunet_rw.parallel import list_in_processes
from nnunet_rw.predictions.folds import PairedCase, paired_cases

# What fitted weights must gain over equal ones, in mean Dice over cases, to be kept.
MIN_DICE_GAIN = 0.001
# Names the fit on all cases, beside the names of folds that are left out.
_NONE_LEFT_OUT = "none left out"


def fit_ensemble(
    sources: Sequence[Source],
    num_splits: int = 5,
    connectivity: int = 26,
    seed: int = 0,
    processes: int | None = None,
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
    connectivity : int
        Of lesions: 6, 18 or 26.
    seed : int
        Of that split and of the intervals.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Returns
    -------
    FitReport

    Raises
    ------
    ValueError
        Fewer than two models, or one without probabilities; see `nnunet_rw.predictions.folds.paired_cases`; or a file
        cannot be evaluated.
    """
    if len(sources) < 2:
        raise ValueError(f"Expected two or more models, but got {len(sources)}.")
    cases = paired_cases(sources, num_splits, seed)
    models = tuple(source.name for source in sources)
    reader, dataset_json = sources[0].reader, sources[0].dataset_json
    labels = labels_of(dataset_json)
    classes, channels = tuple(str(label) for label in labels.foreground), channel_names(labels)

    tasks: list[tuple[Any, ...]] = [(case, reader, dataset_json) for case in cases]
    statistics = list_in_processes(case_statistics, tasks, "Fitting", processes)
    weights = {name: _fit_weights(_without(statistics, cases, name)) for name in _names(cases)}
    candidates = {EQUAL: Candidate(), **{name: Candidate(values) for name, values in weights.items()}}
    tasks = [(case, reader, dataset_json, candidates, connectivity, True) for case in cases]
    matches = list_in_processes(match_case, tasks, "Testing", processes)
    scores: dict[str, list[CaseScores]] = {
        model: [_scores(found[f"model {index}"]) for found in matches] for index, model in enumerate(models)
    }
    scores[EQUAL] = [_scores(found[EQUAL]) for found in matches]
    scores[FITTED] = [_scores(found[case.fold]) for found, case in zip(matches, cases, strict=True)]

    improvement = dice_gain(scores, classes, FITTED, EQUAL, seed)
    chosen = FITTED if improvement is not None and improvement.comparison.mean > MIN_DICE_GAIN else EQUAL
    volumes = {
        name: _min_components(
            [found[name if chosen == FITTED else EQUAL] for found in _without(matches, cases, name)], classes
        )
        for name in weights
    }
    cleaning = {name: Candidate(weights[name] if chosen == FITTED else None, volumes[name]) for name in weights}
    tasks = [(case, reader, dataset_json, {CLEANED: cleaning[case.fold]}, connectivity) for case in cases]
    if any(any(found.values()) for found in volumes.values()):
        matches = list_in_processes(match_case, tasks, "Removing", processes)
        scores[CLEANED] = [_scores(found[CLEANED]) for found in matches]
    else:
        scores[CLEANED] = scores[chosen]

    equal = np.full((len(models), len(channels)), 1 / len(models))
    fitted = {name: EnsembleWeights(models, channels, values) for name, values in weights.items()}
    return FitReport(
        models=models,
        classes=classes,
        cases=tuple((case.case, case.fold) for case in cases),
        scores=scores,
        gains=gains(scores, models, classes, seed),
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
    )


def _names(cases: Sequence[PairedCase]) -> list[str]:
    return [_NONE_LEFT_OUT, *sorted({case.fold for case in cases})]


def _without(values: Sequence[Any], cases: Sequence[PairedCase], left_out: str) -> list[Any]:
    """What belongs to cases of other folds: the one place that decides what a fit may see."""
    return [value for value, case in zip(values, cases, strict=True) if case.fold != left_out]


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
