"""The threshold at which a trainer has no more false positives than it may, chosen and tested on cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.evaluation.comparison.intervals import RecallDifference, cluster_bootstrap
from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.overlap import overlap
from nnunet_rw.evaluation.metrics.thresholds import (
    THRESHOLDS,
    OperatingPoints,
    ThresholdedCase,
    operating_points,
    threshold_case,
)
from nnunet_rw.evaluation.reading import read_case
from nnunet_rw.evaluation.sources import Label, Labels, Source
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
    """

    case: str
    fold: str
    curve: ThresholdedCase
    baseline: Segmented | None

    def at(self, position: int) -> Segmented:
        """As segmented at one of `nnunet_rw.evaluation.metrics.thresholds.THRESHOLDS`."""
        curve = self.curve
        return Segmented(curve.found[position], int(curve.false_positives[position]), float(curve.dice[position]))


def compare_case(
    case: PairedCase,
    reader: BaseReaderWriter,
    labels: Labels,
    label: Label,
    connectivity: int,
    min_volume_mm3: float,
) -> ComparedCase:
    """Read a case of one model, with probabilities, and of the baseline where there is a second.

    Raises
    ------
    ValueError
        See `nnunet_rw.evaluation.reading.read_case`; or models have different references.
    """
    model, *others = [read_case(files, reader, labels.known, labels.num_channels) for files in case.files]
    if model.probabilities is None:
        raise ValueError(f"Expected the probabilities of case '{case.case}', but got a prediction without them.")
    known = None if labels.ignore is None else model.reference != labels.ignore
    reference = np.isin(model.reference, label)
    channel = labels.channels[labels.foreground.index(label)]
    baseline = None
    if others:
        (other,) = others
        if not np.array_equal(other.reference, model.reference):
            first, second = (files.reference for files in case.files)
            raise ValueError(f"Expected {second} and {first} to be equal, but they differ.")
        prediction = np.isin(other.prediction, label)
        matches = match_lesions(reference, prediction, model.spacing_mm, connectivity, min_volume_mm3, known)
        baseline = Segmented(
            matches.reference.hit[matches.reference.counted],
            int(matches.predicted.false_positive.sum()),
            overlap(reference, prediction, known).dice,
        )
    curve = threshold_case(
        reference, model.probabilities[channel], model.spacing_mm, connectivity, min_volume_mm3, known
    )
    return ComparedCase(case.case, case.fold, curve, baseline)


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
        A case, that the model may have.
    threshold : float or None
        Chosen on all cases; None where even the highest has more false positives.
    thresholds_without : dict of str to float
        By the fold left out, and applied to it; the highest where even that has more. How they differ tells how sure
        the threshold is.
    points : OperatingPoints
        Of all cases.
    left_out : tuple of Segmented
        Of each case, at the threshold chosen without its fold.
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
    threshold: float | None
    thresholds_without: dict[str, float]
    points: OperatingPoints
    left_out: tuple[Segmented, ...]
    recall: RecallDifference | None
    settings: dict[str, float]


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
) -> ThresholdFit:
    """Choose the lowest threshold that keeps within some false positives a case.

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
        Of that split and of the interval.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Raises
    ------
    ValueError
        Neither or both of a baseline and false positives, a label that is not there or not named among several; see
        `nnunet_rw.postprocessing.predictions.paired_cases`; or a file cannot be evaluated.
    """
    if (baseline is None) == (false_positives is None):
        got = "neither" if baseline is None else "both"
        raise ValueError(f"Expected a baseline or a number of false positives a case, but got {got}.")
    if false_positives is not None and not 0 <= false_positives < np.inf:
        raise ValueError(f"Expected false positives from 0 a case, but got {false_positives}.")
    labels = source.labels
    chosen = named_label(labels, label)
    pairs = paired_cases([source] if baseline is None else [source, baseline], num_splits, seed)
    reader = source.reader
    tasks = [(pair, reader, labels, chosen, connectivity, min_volume_mm3) for pair in pairs]
    cases = list_in_processes(compare_case, tasks, "Thresholding", processes)
    position = _position(cases, false_positives)
    without = {
        fold: _position([case for case in cases if case.fold != fold], false_positives) or 0
        for fold in sorted({case.fold for case in cases})
    }
    left_out = tuple(case.at(without[case.fold]) for case in cases)
    return ThresholdFit(
        model=source.name,
        baseline=None if baseline is None else baseline.name,
        label=str(chosen),
        cases=tuple(cases),
        false_positives=_allowed(cases, false_positives),
        threshold=None if position is None else THRESHOLDS[position],
        thresholds_without={fold: THRESHOLDS[position] for fold, position in without.items()},
        points=operating_points([case.curve for case in cases]),
        left_out=left_out,
        recall=_recall(cases, left_out, seed),
        settings={
            "connectivity": connectivity,
            "min_volume_mm3": min_volume_mm3,
            "num_splits": num_splits,
            "seed": seed,
        },
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


def _allowed(cases: Sequence[ComparedCase], false_positives: float | None) -> float:
    if false_positives is not None:
        return false_positives
    return float(np.mean([case.baseline.false_positives for case in cases if case.baseline]))


def _position(cases: Sequence[ComparedCase], false_positives: float | None) -> int | None:
    """Of the threshold among `THRESHOLDS`: the one place that decides what a choice may see."""
    return operating_points([case.curve for case in cases]).within(_allowed(cases, false_positives))


def _recall(cases: Sequence[ComparedCase], left_out: Sequence[Segmented], seed: int) -> RecallDifference | None:
    baselines = [case.baseline for case in cases if case.baseline]
    if not baselines:
        return None
    names = [case.case for case in cases for _ in case.curve.highest]
    hits = [np.concatenate([item.found for item in segmented]) for segmented in (baselines, left_out)]
    return cluster_bootstrap(np.array(names), hits[0], hits[1], seed=seed)
