"""The threshold at which a trainer has no more false positives than it may, chosen and tested on cross-validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from scipy.stats import gamma

from nnunet_rw.datasets.labels import Label, Labels
from nnunet_rw.evaluation.comparison.intervals import Interval, RecallDifference, cluster_bootstrap, mean_interval
from nnunet_rw.evaluation.metrics.lesions import ROUNDING, match_lesions
from nnunet_rw.evaluation.metrics.overlap import overlap
from nnunet_rw.evaluation.metrics.thresholds import (
    THRESHOLDS,
    OperatingPoints,
    ThresholdedCase,
    operating_points,
    threshold_case,
)
from nnunet_rw.evaluation.reading import read_case
from nnunet_rw.evaluation.sources import Source
from nnunet_rw.postprocessing.predictions import PairedCase, paired_cases
from nnunet_rw.util.parallel import list_in_processes


@dataclass(frozen=True)
class Segmented:
    """One segmentation of one class of one case.

    Attributes
    ----------
    found : boolean (L,)
        Counted reference lesions, by any overlap.
    false_positives : int
    dice : float
        NaN where both masks are empty.
    """

    found: np.ndarray
    false_positives: int
    dice: float


@dataclass(frozen=True)
class ComparedCase:
    """A case at every threshold, and as the baseline segments it.

    Attributes
    ----------
    case : str
    fold : str
        Its threshold is chosen on the cases of other folds alone.
    curve : ThresholdedCase
    baseline : Segmented or None
    unit : str
        The patient, or the case itself.
    """

    case: str
    fold: str
    curve: ThresholdedCase
    baseline: Segmented | None
    unit: str

    def at(self, position: int) -> Segmented:
        """As segmented at one of `nnunet_rw.evaluation.metrics.thresholds.THRESHOLDS`."""
        curve = self.curve
        return Segmented(curve.found[position], int(curve.false_positives[position]), float(curve.dice[position]))


class ComparedMasks(NamedTuple):
    """One class of one case: the reference, a model's probabilities, and what a baseline segments.

    Attributes
    ----------
    reference : boolean array (X, Y[, Z])
    probability : float array of that shape
    known : boolean array of that shape, or None where all voxels are labelled
    baseline : boolean array of that shape, or None without one
    spacing_mm : tuple of float
    """

    reference: np.ndarray
    probability: np.ndarray
    known: np.ndarray | None
    baseline: np.ndarray | None
    spacing_mm: tuple[float, ...]


def compared_masks(case: PairedCase, reader: BaseReaderWriter, labels: Labels, label: Label) -> ComparedMasks:
    """Read a case of one model, with probabilities, and of the baseline where there is a second.

    Raises
    ------
    ValueError
        See `nnunet_rw.evaluation.reading.read_case`; or models have different references.
    """
    model, *others = [read_case(files, reader, labels.known, labels.num_channels) for files in case.files]
    if model.probabilities is None:
        raise ValueError(f"Expected the probabilities of case '{case.case}', but got a prediction without them.")
    baseline = None
    for other in others:
        if not np.array_equal(other.reference, model.reference):
            first, second = (files.reference for files in case.files)
            raise ValueError(f"Expected {second} and {first} to be equal, but they differ.")
        baseline = np.isin(other.prediction, label)
    return ComparedMasks(
        np.isin(model.reference, label),
        model.probabilities[labels.channels[labels.foreground.index(label)]],
        None if labels.ignore is None else model.reference != labels.ignore,
        baseline,
        model.spacing_mm,
    )


def compare_case(
    case: PairedCase,
    reader: BaseReaderWriter,
    labels: Labels,
    label: Label,
    connectivity: int,
    min_volume_mm3: float,
) -> ComparedCase:
    """A case at every threshold; see `compared_masks`."""
    masks = compared_masks(case, reader, labels, label)
    settings = connectivity, min_volume_mm3, masks.known
    baseline = None
    if masks.baseline is not None:
        matches = match_lesions(masks.reference, masks.baseline, masks.spacing_mm, *settings)
        baseline = Segmented(
            matches.reference.hit[matches.reference.counted],
            int(matches.predicted.false_positive.sum()),
            overlap(masks.reference, masks.baseline, masks.known).dice,
        )
    curve = threshold_case(masks.reference, masks.probability, masks.spacing_mm, *settings)
    return ComparedCase(case.case, case.fold, curve, baseline, case.unit)


@dataclass(frozen=True)
class ThresholdFit:
    """A threshold, and what it does.

    Attributes
    ----------
    model : str
    baseline : str or None
    label : str
    cases : tuple of ComparedCase
    false_positives : float
        Per case, that the model may have.
    margin : float or None
        Confidence with which new cases keep within them; None without a margin.
    threshold : float or None
        Chosen on all cases; None where none keeps within the false positives.
    thresholds_without : dict of str to float
        By the fold left out, and applied to it; the highest where none keeps within. How they differ tells how sure
        the threshold is.
    points : OperatingPoints
        Of all cases.
    left_out : tuple of Segmented
        Of each case, at the threshold chosen without its fold.
    left_out_false_positives : Interval
        95 % of their mean per case.
    left_out_excess : Interval
        95 % of the mean of what they have more than may be; with a baseline the difference to it, case by case.
    recall : RecallDifference or None
        Of `left_out` to the baseline, resampling cases.
    settings : dict
        Connectivity, minimum volume, number of splits and seed.
    """

    model: str
    baseline: str | None
    label: str
    cases: tuple[ComparedCase, ...]
    false_positives: float
    margin: float | None
    threshold: float | None
    thresholds_without: dict[str, float]
    points: OperatingPoints
    left_out: tuple[Segmented, ...]
    left_out_false_positives: Interval
    left_out_excess: Interval
    recall: RecallDifference | None
    settings: dict[str, float]

    @property
    def resampled(self) -> str:
        """What intervals are over, in a word."""
        return units_word(self.cases)


def fit_threshold(
    source: Source,
    baseline: Source | None = None,
    false_positives: float | None = None,
    label: str | None = None,
    connectivity: int = 26,
    min_volume_mm3: float = 0.0,
    num_splits: int = 5,
    seed: int = 0,
    processes: int | None = None,
    margin: float | None = None,
    groups: Mapping[str, str] | None = None,
) -> ThresholdFit:
    """Choose the threshold that finds most lesions within some false positives per case.

    Parameters
    ----------
    source : Source
        From `nnunet_rw.evaluation.sources.cross_validation_source` with probabilities.
    baseline : Source, optional
        Of the same cases. Its segmentations' false positives are those that the model may have, and its lesions are
        compared.
    false_positives : float, optional
        A case; instead of a baseline.
    label : str, optional
        As evaluations name it, "1" or "(1, 2)". Default: the only one.
    connectivity, min_volume_mm3
        See `nnunet_rw.evaluation.metrics.lesions.match_lesions`.
    num_splits : int
        Where a single fold is there its cases are split into so many.
    seed : int
        Of that split and of the intervals.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.
    margin : float, optional
        Confidence, in (0.5, 1), with which new cases keep within the false positives, see `chosen_position`.
    groups : mapping, optional
        The patient of every case: intervals, and the margin, are over patients.

    Raises
    ------
    ValueError
        Neither or both of a baseline and false positives, an impossible margin or too few cases for one, a label that
        is not there or not named among several; see `nnunet_rw.postprocessing.predictions.paired_cases`; or a file
        cannot be evaluated.
    """
    if (baseline is None) == (false_positives is None):
        got = "neither" if baseline is None else "both"
        raise ValueError(f"Expected a baseline or a number of false positives a case, but got {got}.")
    if false_positives is not None and not 0 <= false_positives < np.inf:
        raise ValueError(f"Expected false positives from 0 a case, but got {false_positives}.")
    if margin is not None and not 0.5 < margin < 1:
        raise ValueError(f"Expected a margin above 0.5 and below 1, such as 0.9, but got {margin}.")
    labels = source.labels
    chosen = named_label(labels, label)
    pairs = paired_cases([source] if baseline is None else [source, baseline], num_splits, seed, groups)
    reader = source.reader
    tasks = [(pair, reader, labels, chosen, connectivity, min_volume_mm3) for pair in pairs]
    cases = list_in_processes(compare_case, tasks, "Thresholding", processes)
    folds, units = [case.fold for case in cases], [case.unit for case in cases]
    fewest = min(len({case.unit for case in cases if case.fold != fold}) for fold in folds)
    if margin is not None and np.isnan(upper_bound(np.arange(fewest), margin)):
        what = "cases" if groups is None else "patients"
        raise ValueError(
            f"Expected more {what} for a margin, but a fold is left with {fewest} of {len(set(units))} to choose on. "
            "Leave --margin out."
        )
    choose = partial(chosen_position, false_positives=false_positives, margin=margin, seed=seed)
    position = choose(cases)
    without = {fold: choose([case for case in cases if case.fold != fold]) or 0 for fold in sorted(set(folds))}
    left_out = tuple(case.at(without[case.fold]) for case in cases)
    false = np.array([item.false_positives for item in left_out], dtype=float)
    return ThresholdFit(
        model=source.name,
        baseline=None if baseline is None else baseline.name,
        label=str(chosen),
        cases=tuple(cases),
        false_positives=float(_allowed(cases, false_positives).mean()),
        margin=margin,
        threshold=None if position is None else THRESHOLDS[position],
        thresholds_without={fold: THRESHOLDS[position] for fold, position in without.items()},
        points=operating_points([case.curve for case in cases]),
        left_out=left_out,
        left_out_false_positives=mean_interval(false, units, seed=seed),
        left_out_excess=mean_interval(false - _allowed(cases, false_positives), units, seed=seed),
        recall=_recall(cases, left_out, seed),
        settings={
            "connectivity": connectivity,
            "min_volume_mm3": min_volume_mm3,
            "num_splits": num_splits,
            "seed": seed,
        },
    )


def chosen_position(
    cases: Sequence[ComparedCase],
    false_positives: float | None = None,
    margin: float | None = None,
    seed: int = 0,
    resamples: int = 10_000,
) -> int | None:
    """Of the threshold among `THRESHOLDS`: the one place that decides what a choice may see.

    Without a margin the mean of the cases' false positives keeps within what is allowed, with one its upper confidence
    bound: of the false positives, or with a baseline of the difference to it, case by case. Thresholds are tried from
    the highest down to the first that does not keep within, so that trying many costs no confidence.

    Parameters
    ----------
    cases : sequence of ComparedCase
    false_positives : float, optional
        Per case; default: as many as the baseline has in each.
    margin : float, optional
        Confidence of the bound, in (0.5, 1).
    seed, resamples : int
        Of the bound.

    Returns
    -------
    int or None
        None where none keeps within.
    """
    points = operating_points([case.curve for case in cases])
    allowed = _allowed(cases, false_positives)
    if margin is None:
        return points.within(float(allowed.mean()))
    counts = np.array([case.curve.false_positives for case in cases])
    units = [case.unit for case in cases]
    bounds = np.array(
        [
            upper_bound(excess, margin, seed, resamples, units) if excess.sum() <= 0 else np.inf
            for excess in (counts - allowed[:, None]).T
        ]
    )
    if false_positives is not None:
        # Where few are seen the bootstrap knows little of those that are not: Poisson's exact bound is the least.
        bounds = np.maximum(bounds, gamma.ppf(margin, counts.sum(axis=0) + 1) / len(cases) - false_positives)
    return points.best(bounds <= ROUNDING)


def upper_bound(
    values: np.ndarray,
    confidence: float,
    seed: int = 0,
    resamples: int = 10_000,
    units: Sequence[str] | None = None,
) -> float:
    """One-sided upper confidence bound of a mean over cases; NaN where there are too few units for an interval.

    Parameters
    ----------
    values : (N,) floats
    confidence : float
        In (0.5, 1).
    seed, resamples : int
        Of the bootstrap.
    units : (N,) names, optional
        The patient of each; each is its own where none are given.
    """
    return mean_interval(values, units, resamples=resamples, confidence=2 * confidence - 1, seed=seed).high


def units_word(cases: Sequence[Any]) -> str:
    """ "patients" where some cases are of one that has another name, "cases" otherwise."""
    return "patients" if any(case.unit != case.case for case in cases) else "cases"


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


def _allowed(cases: Sequence[ComparedCase], false_positives: float | None) -> np.ndarray:
    """(N,) floats: what each case may have."""
    if false_positives is not None:
        return np.full(len(cases), float(false_positives))
    return np.array([case.baseline.false_positives for case in cases if case.baseline], dtype=float)


def _recall(cases: Sequence[ComparedCase], left_out: Sequence[Segmented], seed: int) -> RecallDifference | None:
    baselines = [case.baseline for case in cases if case.baseline]
    if not baselines:
        return None
    names = [case.unit for case in cases for _ in case.curve.highest]
    hits = [np.concatenate([item.found for item in segmented]) for segmented in (baselines, left_out)]
    return cluster_bootstrap(np.array(names), hits[0], hits[1], seed=seed)
