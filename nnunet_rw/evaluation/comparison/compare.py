"""Is one trainer better than another? Evaluations of the same cases, compared case by case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from nnunet_rw.evaluation.comparison.groups import folds_note, units_of
from nnunet_rw.evaluation.comparison.lesions import (
    compare_at_equal_false_positives,
    compare_by_rules,
    compare_by_size,
    rank_by_rule,
)
from nnunet_rw.evaluation.comparison.metrics import (
    DEFAULT_METRICS,
    METRICS,
    check_comparable,
    check_metrics,
    paired_values,
)
from nnunet_rw.evaluation.comparison.rows import (
    BETTER,
    NOT_SHOWN,
    NOT_TESTED,
    WITHIN_NOISE,
    WORSE,
    Comparison,
    Family,
    MetricRow,
)
from nnunet_rw.evaluation.comparison.statistics import ALPHA, Interval, holm, paired_comparison, shown_difference
from nnunet_rw.evaluation.folder import Evaluation, read_evaluation
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3
from nnunet_rw.evaluation.units import connected


def compare_evaluations(
    folders: Sequence[str | Path],
    baseline_seeds: Sequence[str | Path] = (),
    metrics: Sequence[str] = DEFAULT_METRICS,
    edges_mm3: Sequence[float] = DEFAULT_EDGES_MM3,
    seed: int = 0,
    resamples: int = 10_000,
    otherwise_connected: Sequence[Sequence[str | Path]] = (),
    challenger_seeds: Sequence[Sequence[str | Path]] = (),
    groups: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare evaluation folders with the first of them, the baseline.

    Where a trainer has several seeds every case is the mean over them: the spread between seeds is then within the
    values that are tested, and no seed is chosen.

    Parameters
    ----------
    folders : at least two
    baseline_seeds : evaluation folders of the baseline trained again with other seeds
        The largest difference between any two of them and the baseline is the noise.
    metrics : names of `METRICS`
    edges_mm3 : ascending
        A lesion of v mm3 is in the size class with edges[i] <= v < edges[i + 1].
    seed, resamples : of the bootstrap
    otherwise_connected : sequences of evaluation folders
        Of the same trainers, in the same order, with lesions of another connectivity: they are ranked as well.
    challenger_seeds : sequences of evaluation folders
        Of each challenger trained again with other seeds, in the order of the challengers; none of them by default.
    groups : mapping of case to patient, optional
        Intervals resample patients and tests take their means. Default: each case stands for itself.

    Raises
    ------
    FileNotFoundError, ValueError
        A folder is no evaluation, or not of the same cases, labels, settings and references; fewer than two folders,
        one given twice, seeds of more or fewer challengers than there are, an unknown metric, edges that do not ascend,
        or a case without a patient.
    """
    of_trainers = (baseline_seeds, *(challenger_seeds or [()] * (len(folders) - 1)))
    check_request(len(folders), len(of_trainers) - 1, metrics, edges_mm3)
    _check_once([*folders, *(folder for of_one in of_trainers for folder in of_one)])
    evaluations = [read_evaluation(folder) for folder in folders]
    others_of = [[read_evaluation(folder) for folder in seeds] for seeds in of_trainers]
    every = [*evaluations, *(seed for seeds in others_of for seed in seeds)]
    check_comparable(every)
    check_metrics(every, metrics)
    others = [[read_evaluation(folder) for folder in group] for group in otherwise_connected]
    for group in others:
        check_comparable(group)
        if len(group) != len(folders) or group[0].cases != evaluations[0].cases:
            raise ValueError("Expected evaluations of another connectivity of the same trainers and cases.")
    baseline, *challengers = (
        (first, *seeds) for first, seeds in zip(_with_distinct_names(evaluations), others_of, strict=True)
    )
    first = [trainings[0] for trainings in (baseline, *challengers)]
    units = units_of(first[0].cases, groups)
    rows = [
        _compare(baseline, challenger, metric, label, units, seed, resamples)
        for label in first[0].labels
        for challenger in challengers
        for metric in metrics
    ]
    adjusted = holm([row.p for row in rows])
    rows = [_with_verdict(row, float(p_holm)) for row, p_holm in zip(rows, adjusted, strict=True)]
    names = tuple(challenger.name for challenger in first[1:])
    return Comparison(
        baseline=first[0].name,
        challengers=names,
        seeds=tuple(str(evaluation.folder) for evaluation in baseline[1:]),
        cases=len(first[0].cases),
        settings={name: value for name, value in first[0].settings.items() if name != "image_diagonal_mm"},
        label_texts=first[0].label_texts,
        size_unit=first[0].size_unit,
        family=Family(tuple(metrics), names, first[0].labels, int(np.isfinite(adjusted).sum())),
        metrics=tuple(rows),
        sizes=compare_by_size(baseline, challengers, edges_mm3, seed, resamples, groups),
        rankings=rank_by_rule(first, edges_mm3[:-1], others),
        notes=(
            *_notes([baseline, *challengers], rows, len(set(units)), bool(others)),
            *dict.fromkeys(note for trainer in first for note in folds_note(trainer.folds, units) if trainer.folds),
        ),
        matched=compare_at_equal_false_positives(first[0], first[1:]),
        rules=compare_by_rules(first[0], first[1:], seed, groups),
        patients=len(set(units)) if groups else 0,
    )


def noise_floor(seeds: Sequence[Evaluation], metric: str, label: str) -> float:
    """Largest absolute mean difference of a metric between any two trainings that differ in their seed.

    NaN for a single one, or where no two have a case in common that defines the metric.
    """
    pairs = (paired_values([first], [second], metric, label) for first, second in combinations(seeds, 2))
    return max((abs(float((pair.second - pair.first).mean())) for pair in pairs if len(pair.first)), default=math.nan)


def _compare(
    baseline: Sequence[Evaluation],
    challenger: Sequence[Evaluation],
    metric: str,
    label: str,
    units: Sequence[str],
    seed: int,
    resamples: int,
) -> MetricRow:
    pairs = paired_values(baseline, challenger, metric, label)
    found = paired_comparison(
        pairs.first,
        pairs.second,
        METRICS[metric].higher_is_better,
        resamples,
        1 - ALPHA,
        seed,
        np.array(units)[pairs.defined],
    )
    return MetricRow(
        label=label,
        metric=metric,
        baseline=baseline[0].name,
        challenger=challenger[0].name,
        n=found.n,
        undefined_in_both=pairs.undefined_in_both,
        undefined_in_one=pairs.undefined_in_one,
        infinite=pairs.infinite,
        baseline_mean=float(pairs.first.mean()) if found.n else math.nan,
        challenger_mean=float(pairs.second.mean()) if found.n else math.nan,
        difference=found.mean,
        **found.interval.within(-METRICS[metric].largest, METRICS[metric].largest)._asdict(),
        median=found.median,
        p=found.p,
        p_holm=math.nan,
        no_p=found.no_p,
        wins=found.wins,
        ties=found.ties,
        losses=found.losses,
        noise=noise_floor(baseline, metric, label),
        verdict="",
    )


def _with_verdict(row: MetricRow, p_holm: float) -> MetricRow:
    verdict = NOT_SHOWN
    if abs(row.difference) <= row.noise:
        verdict = WITHIN_NOISE
    elif math.isnan(p_holm):
        verdict = NOT_TESTED
    elif shown_difference(p_holm, Interval(row.low, row.high)):
        verdict = BETTER if (row.low > 0) == METRICS[row.metric].higher_is_better else WORSE
    return replace(row, p_holm=p_holm, verdict=verdict)


def _notes(
    trainers: Sequence[Sequence[Evaluation]], rows: Sequence[MetricRow], units: int, several_connectivities: bool
) -> tuple[str, ...]:
    notes, baseline = [], trainers[0]
    if not several_connectivities and "connectivity" in baseline[0].settings:
        lesions = connected(baseline[0].settings["connectivity"], baseline[0].size_unit)
        notes.append(
            f"Lesions are {lesions} in all evaluations; for another connectivity evaluate all again with it and "
            "compare those folders."
        )
    made = sum(not math.isnan(row.p) for row in rows)
    if units < len(baseline[0].cases):
        notes.append(f"Cases are of {units} patients: intervals resample these, and tests are of their means.")
    # The smallest p is that of n equal signs.
    if made and made * 2 / 2**units >= ALPHA:
        noun = "cases" if units == len(baseline[0].cases) else "patients"
        notes.append(
            f"Too few {noun} for so many tests: {units} {noun} cannot give an adjusted p below {ALPHA} in a family of "
            f"{made}. Compare by fewer metrics, or take more {noun}."
        )
    if any(row.undefined_in_one for row in rows):
        notes.append(
            "Some metrics are undefined for one trainer alone, as Dice of a lesion-free case that it leaves empty and "
            "the other does not. Such pairs are left out; false_positives tells their cost."
        )
    if any(len(seeds) > 1 for seeds in trainers):
        numbers = ", ".join(f"{seeds[0].name} {len(seeds)}" for seeds in trainers)
        notes.append(
            f"Every case is the mean over a trainer's seeds ({numbers}); places and equal false positives are of the "
            "first seed."
        )
    if len(baseline) > 1:
        notes.append(
            f"Noise: the largest difference between the means of {len(baseline)} trainings of {baseline[0].name} with "
            "other seeds."
        )
    return tuple(notes)


def _with_distinct_names(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """Evaluations of equal names take their folder's."""
    names = [evaluation.name for evaluation in evaluations]
    return [
        replace(evaluation, name=str(evaluation.folder)) if names.count(evaluation.name) > 1 else evaluation
        for evaluation in evaluations
    ]


def check_request(
    number: int, with_seeds: int | None, metrics: Sequence[str], edges_mm3: Sequence[float] = DEFAULT_EDGES_MM3
) -> None:
    """Whether a comparison can be made of so many trainers, before any is evaluated.

    Parameters
    ----------
    number : int
        Of trainers, the baseline among them.
    with_seeds : int or None
        Challengers that other seeds are given of; None where of none.
    metrics, edges_mm3
        As of `compare_evaluations`.

    Raises
    ------
    ValueError
        Fewer than two, seeds of some challengers alone, or metrics or edges that cannot be.
    """
    if number < 2:
        raise ValueError(f"Expected at least two evaluations to compare, the baseline first, but got {number}.")
    if with_seeds not in (None, number - 1):
        raise ValueError(f"Expected seeds of {number - 1} challengers, but got those of {with_seeds}.")
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown or not metrics or len(set(metrics)) < len(metrics):
        raise ValueError(f"Expected metrics out of {', '.join(METRICS)}, each once, but got {', '.join(metrics)}.")
    if len(edges_mm3) < 2 or not all(low < high for low, high in pairwise(edges_mm3)):
        raise ValueError(f"Expected two or more ascending edges in mm3, but got {', '.join(map(str, edges_mm3))}.")


def _check_once(folders: Sequence[str | Path]) -> None:
    paths = [Path(folder).resolve() for folder in folders]
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise ValueError(f"Expected every evaluation once, but got {twice[0]} twice.")
