"""Is one trainer better than another? Evaluations of the same cases, compared case by case."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from nnunet_rw.evaluation.comparison.lesions import compare_at_equal_false_positives, compare_by_size, rank_by_rule
from nnunet_rw.evaluation.comparison.metrics import DEFAULT_METRICS, METRICS, check_comparable, paired_values
from nnunet_rw.evaluation.comparison.rows import BETTER, NOT_SHOWN, WITHIN_NOISE, WORSE, Comparison, Family, MetricRow
from nnunet_rw.evaluation.comparison.statistics import holm, paired_comparison
from nnunet_rw.evaluation.folder import Evaluation, read_evaluation
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3

ALPHA = 0.05


def compare_evaluations(
    folders: Sequence[str | Path],
    baseline_seeds: Sequence[str | Path] = (),
    metrics: Sequence[str] = DEFAULT_METRICS,
    edges_mm3: Sequence[float] = DEFAULT_EDGES_MM3,
    seed: int = 0,
    resamples: int = 10_000,
    otherwise_connected: Sequence[Sequence[str | Path]] = (),
) -> Comparison:
    """Compare evaluation folders with the first of them, the baseline.

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

    Raises
    ------
    FileNotFoundError, ValueError
        A folder is no evaluation, or not of the same cases, labels, settings and references; fewer than two folders,
        one given twice, an unknown metric, or edges that do not ascend.
    """
    _check_arguments(folders, baseline_seeds, metrics, edges_mm3)
    evaluations = [read_evaluation(folder) for folder in (*folders, *baseline_seeds)]
    check_comparable(evaluations)
    others = [[read_evaluation(folder) for folder in group] for group in otherwise_connected]
    for group in others:
        check_comparable(group)
        if len(group) != len(folders) or group[0].cases != evaluations[0].cases:
            raise ValueError("Expected evaluations of another connectivity of the same trainers and cases.")
    baseline, *challengers = _with_distinct_names(evaluations[: len(folders)])
    seeds = evaluations[len(folders) :]
    rows = [
        _compare(baseline, challenger, [baseline, *seeds], metric, label, seed, resamples)
        for label in baseline.labels
        for challenger in challengers
        for metric in metrics
    ]
    adjusted = holm([row.p for row in rows])
    rows = [_with_verdict(row, float(p_holm)) for row, p_holm in zip(rows, adjusted, strict=True)]
    names = tuple(challenger.name for challenger in challengers)
    return Comparison(
        baseline=baseline.name,
        challengers=names,
        seeds=tuple(str(evaluation.folder) for evaluation in seeds),
        cases=len(baseline.cases),
        settings={name: value for name, value in baseline.settings.items() if name != "image_diagonal_mm"},
        family=Family(tuple(metrics), names, baseline.labels, int(np.isfinite(adjusted).sum())),
        metrics=tuple(rows),
        sizes=compare_by_size(baseline, challengers, edges_mm3, seed, resamples),
        rankings=rank_by_rule([baseline, *challengers], edges_mm3[:-1], others),
        notes=_notes(baseline, rows, seeds, bool(others)),
        matched=compare_at_equal_false_positives(baseline, challengers),
    )


def noise_floor(seeds: Sequence[Evaluation], metric: str, label: str) -> float:
    """Largest absolute mean difference of a metric between any two trainings that differ in their seed.

    NaN for a single one, or where no two have a case in common that defines the metric.
    """
    pairs = (paired_values(first, second, metric, label) for first, second in combinations(seeds, 2))
    return max((abs(float((pair.second - pair.first).mean())) for pair in pairs if len(pair.first)), default=math.nan)


def _compare(
    baseline: Evaluation,
    challenger: Evaluation,
    seeds: Sequence[Evaluation],
    metric: str,
    label: str,
    seed: int,
    resamples: int,
) -> MetricRow:
    pairs = paired_values(baseline, challenger, metric, label)
    found = paired_comparison(
        pairs.first, pairs.second, METRICS[metric].higher_is_better, resamples, 1 - ALPHA, seed=seed
    )
    return MetricRow(
        label=label,
        metric=metric,
        baseline=baseline.name,
        challenger=challenger.name,
        n=found.n,
        undefined_in_both=pairs.undefined_in_both,
        undefined_in_one=pairs.undefined_in_one,
        infinite=pairs.infinite,
        baseline_mean=float(pairs.first.mean()) if found.n else math.nan,
        challenger_mean=float(pairs.second.mean()) if found.n else math.nan,
        difference=found.mean,
        low=found.interval.low,
        high=found.interval.high,
        median=found.median,
        p=found.p,
        p_holm=math.nan,
        no_p=found.no_p,
        wins=found.wins,
        ties=found.ties,
        losses=found.losses,
        noise=noise_floor(seeds, metric, label),
        verdict="",
    )


def _with_verdict(row: MetricRow, p_holm: float) -> MetricRow:
    verdict = NOT_SHOWN
    if abs(row.difference) <= row.noise:
        verdict = WITHIN_NOISE
    elif p_holm < ALPHA and (row.low > 0 or row.high < 0):
        verdict = BETTER if (row.low > 0) == METRICS[row.metric].higher_is_better else WORSE
    return replace(row, p_holm=p_holm, verdict=verdict)


def _notes(
    baseline: Evaluation, rows: Sequence[MetricRow], seeds: Sequence[Evaluation], several_connectivities: bool
) -> tuple[str, ...]:
    notes = []
    if not several_connectivities:
        notes.append(
            f"Lesions are {baseline.settings.get('connectivity', '?')}-connected in all evaluations; for another "
            "connectivity evaluate all again with it and compare those folders."
        )
    made = sum(not math.isnan(row.p) for row in rows)
    most = max(row.n for row in rows)
    # The smallest p is that of n equal signs.
    if made and made * 2 / 2**most >= ALPHA:
        notes.append(
            f"Too few cases for so many tests: {most} cases cannot give an adjusted p below {ALPHA} in a family of "
            f"{made}. Compare by fewer metrics, or take more cases."
        )
    if any(row.undefined_in_one for row in rows):
        notes.append(
            "Some metrics are undefined for one trainer alone, as Dice of a lesion-free case that it leaves empty and "
            "the other does not. Such pairs are left out; false_positives tells their cost."
        )
    if seeds:
        notes.append(
            f"Noise: the largest difference between the means of {len(seeds) + 1} trainings of {baseline.name} with "
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


def _check_arguments(
    folders: Sequence[str | Path],
    baseline_seeds: Sequence[str | Path],
    metrics: Sequence[str],
    edges_mm3: Sequence[float],
) -> None:
    if len(folders) < 2:
        raise ValueError(f"Expected at least two evaluations to compare, the baseline first, but got {len(folders)}.")
    paths = [Path(folder).resolve() for folder in (*folders, *baseline_seeds)]
    twice = [path for path in paths if paths.count(path) > 1]
    if twice:
        raise ValueError(f"Expected every evaluation once, but got {twice[0]} twice.")
    unknown = [metric for metric in metrics if metric not in METRICS]
    if unknown or not metrics or len(set(metrics)) < len(metrics):
        raise ValueError(f"Expected metrics out of {', '.join(METRICS)}, each once, but got {', '.join(metrics)}.")
    if len(edges_mm3) < 2 or not all(low < high for low, high in pairwise(edges_mm3)):
        raise ValueError(f"Expected two or more ascending edges in mm3, but got {', '.join(map(str, edges_mm3))}.")
