"""How the trainers of a task did: as numbers, and as a table with a row per label and trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.evaluation.comparison.groups import units_of
from nnunet_rw.evaluation.comparison.lesions import counted_rows
from nnunet_rw.evaluation.comparison.metrics import METRICS, case_values, enough_decimals, metric_words
from nnunet_rw.evaluation.comparison.rows import BETTER, NOT_SHOWN, NOT_TESTED, WITHIN_NOISE, WORSE
from nnunet_rw.evaluation.comparison.statistics import Interval, mean_interval, recall_interval
from nnunet_rw.evaluation.comparison.tables import intervals_text
from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3, Detection
from nnunet_rw.evaluation.metrics.probabilities import average_recall
from nnunet_rw.util.tables import NOTHING, Cell, CellLike, Table, as_cell, counted, number, spread, with_interval

# The first of the size classes, which are the same for all datasets.
SMALL_MM3 = DEFAULT_EDGES_MM3[1]


@dataclass(frozen=True)
class Estimate:
    """A mean over n cases, or the recall of n lesions; NaN and without interval for n = 0.

    Attributes
    ----------
    interval : Interval
        95 %, over cases or patients with all their lesions.
    n_penalised : int
        Cases whose distance to an empty mask counts as the image's diagonal.
    """

    value: float
    interval: Interval
    n: int
    n_penalised: int = 0


@dataclass(frozen=True)
class Standing:
    """One trainer and label: its first finished seed, what the other seeds gave, and the verdicts over all seeds.

    Attributes
    ----------
    seed : int
        The lowest whose folds are all done; 0 unless that is unfinished.
    dice, nsd, hd95_mm, false_positives : Estimate
        Means over cases, false positives lesion-free cases included.
    recall, small_recall : Estimate
        Any overlap, pooled over cases; small: below `SMALL_MM3`.
    precision, f1 : float
        Of the pooled lesions; precision NaN without a predicted lesion, and F1 then 0; NaN without a reference lesion.
    froc_average : float
        Recall at 1/8 to 8 false positives per case, averaged; NaN without probabilities.
    verdicts : dict of metric to verdict
        Of the comparison with the baseline; empty for the baseline, and for what is not compared.
    dice_of_seeds, recall_of_seeds : tuple of float
        One a finished seed.
    """

    label: str
    trainer: str
    seed: int
    cases: int
    dice: Estimate
    nsd: Estimate
    hd95_mm: Estimate
    recall: Estimate
    small_recall: Estimate
    precision: float
    f1: float
    false_positives: Estimate
    froc_average: float
    verdicts: dict[str, str]
    dice_of_seeds: tuple[float, ...]
    recall_of_seeds: tuple[float, ...]


def standings(task: TaskResults) -> tuple[Standing, ...]:
    """Label after label, the trainers in the order of the specification; empty where nothing is evaluated yet."""
    first = task.first_seeds
    labels = dict.fromkeys(label for evaluation in first.values() for label in evaluation.labels)
    return tuple(_standing(task, trainer, task.evaluations[trainer], label) for label in labels for trainer in first)


def mean_over_cases(
    evaluation: Evaluation, metric: str, label: str, groups: Mapping[str, str] | None = None
) -> Estimate:
    """Mean of a metric of `METRICS` over the cases that define it, endless distances as the image's diagonal.

    The interval is over patients where ``groups`` tells them.

    Raises
    ------
    ValueError
        A distance has no end, and the evaluation tells no diagonal.
    """
    values, endless = case_values([evaluation], metric, label)
    defined = ~np.isnan(values)
    units = np.array(units_of(evaluation.cases, groups))
    interval = mean_interval(values[defined], units[defined]).within(0, METRICS[metric].largest)
    mean = float(values[defined].mean()) if defined.any() else math.nan
    return Estimate(mean, interval, int(defined.sum()), int(endless.sum()))


def lesion_recall(
    evaluation: Evaluation, label: str, below_mm3: float = math.inf, groups: Mapping[str, str] | None = None
) -> Estimate:
    """Share of the reference lesions smaller than so many mm3 that are found by any overlap."""
    rows = evaluation.lesions
    chosen = counted_rows(rows, "hit", label, 0, below_mm3)
    hits = rows.hit[chosen] > 0
    interval = recall_interval(units_of(rows.case[chosen].tolist(), groups), hits)
    return Estimate(float(hits.mean()) if len(hits) else math.nan, interval, len(hits))


def _standing(task: TaskResults, trainer: str, seeds: dict[int, Evaluation], label: str) -> Standing:
    seed, groups = min(seeds), task.groups
    evaluation = seeds[seed]
    detection = pooled_detection(evaluation, label)
    curve = evaluation.froc.get(label)
    return Standing(
        label=label,
        trainer=trainer,
        seed=seed,
        cases=len(evaluation.cases),
        dice=mean_over_cases(evaluation, "dice", label, groups),
        nsd=mean_over_cases(evaluation, "nsd", label, groups),
        hd95_mm=mean_over_cases(evaluation, "hd95_mm", label, groups),
        recall=lesion_recall(evaluation, label, groups=groups),
        small_recall=lesion_recall(evaluation, label, SMALL_MM3, groups),
        precision=detection.precision,
        f1=_f1(detection),
        false_positives=mean_over_cases(evaluation, "false_positives", label, groups),
        froc_average=average_recall(curve) if curve else math.nan,
        verdicts=_verdicts(task, trainer, label) if seed == 0 else {},
        dice_of_seeds=tuple(mean_over_cases(seeds[k], "dice", label).value for k in sorted(seeds)),
        recall_of_seeds=tuple(pooled_detection(seeds[k], label).recall for k in sorted(seeds)),
    )


def pooled_detection(evaluation: Evaluation, label: str) -> Detection:
    """What the segmentations of all cases find, by any overlap."""
    columns = evaluation.columns[label]
    counts = [columns[name] for name in ("n_lesions", "n_hit", "n_predicted", "n_false_positive")]
    return Detection(len(evaluation.cases), *(int(np.nansum(count)) for count in counts))


def _f1(detection: Detection) -> float:
    """2 PR / (P + R), as places are given by: 0 where nothing is found."""
    precision, recall = detection.precision, detection.recall
    if math.isnan(recall):
        return math.nan
    return 2 * precision * recall / (precision + recall) if detection.num_found and precision > 0 else 0.0


def _verdicts(task: TaskResults, trainer: str, label: str) -> dict[str, str]:
    rows = task.comparison.metrics if task.comparison else ()
    return {
        # Equal values are within any noise, which is not worth a word.
        row.metric: NOT_SHOWN if row.difference == 0 else row.verdict
        for row in rows
        if (row.challenger, row.label) == (trainer, label)
    }


SMALL_RECALL = "small lesion recall"
AGAINST = "against the baseline"
# Header, attribute of `Standing`, decimals, whether higher is better: the columns that have a best value.
_VALUES = (
    ("Dice", "dice", 3, True),
    ("NSD", "nsd", 3, True),
    ("HD95", "hd95_mm", 2, False),
    ("lesion recall", "recall", 3, True),
    (SMALL_RECALL, "small_recall", 3, True),
    ("precision", "precision", 3, True),
    ("F1", "f1", 3, True),
    ("FP per case", "false_positives", 2, False),
    ("FROC average", "froc_average", 3, True),
)
VOXEL_COLUMNS = ("Dice", "NSD", "HD95")
LESION_COLUMNS = tuple(header for header, *_ in _VALUES if header not in VOXEL_COLUMNS)
SEED_DICE, SEED_RECALL = "Dice over seeds", "recall over seeds"
# Left out where no row has a value.
_OPTIONAL = ("seed", "NSD", "HD95", SMALL_RECALL, "FROC average", AGAINST, SEED_DICE, SEED_RECALL)
# Of each row, and the six columns that a reader sees first: the page lets others be switched on.
ROW_COLUMNS = ("trainer", "label", "seed")
FIRST_COLUMNS = ("Dice", "lesion recall", SMALL_RECALL, "F1", "FP per case", AGAINST)


def leaderboard_table(task: TaskResults, places: Sequence[Standing] | None = None) -> Table:
    """A row per label and trainer, the baseline first, the best values bold.

    Columns: label, trainer, and seed where one is not 0; Dice, NSD and HD95, mean with its interval and n; lesion
    recall, of all and of the smallest, with its interval and the number of lesions; precision, F1, false positives per
    case; FROC average, verdict and spread over seeds where there are any.

    Without rows where nothing is evaluated yet.

    Parameters
    ----------
    task : TaskResults
    places : sequence of Standing, optional
        The task's `standings`, which resample its cases, where they are known.
    """
    found = standings(task) if places is None else places
    decimals = {attribute: _decimals(found, attribute, least) for _, attribute, least, _ in _VALUES}
    best = _best(found)
    rows = [_cells(task, row, decimals) for row in found]
    rows = [
        {header: replace(cell, best=(index, header) in best) for header, cell in row.items()}
        for index, row in enumerate(rows)
    ]
    return Table.of("Leaderboard", rows).without_empty(_OPTIONAL)


def without_lone_label(leaderboard: Table) -> Table:
    """One label needs no column."""
    several = len({row["label"] for row in leaderboard.records}) > 1
    return leaderboard if several else leaderboard.without({"label"})


def _best(found: Sequence[Standing]) -> set[tuple[int, str]]:
    """(row index, column header) of the best values per label.

    Values that look alike when rounded are alike. None is best where all are alike, only one trainer has a value, or
    the means are over different numbers of cases.
    """
    best = set()
    for label in dict.fromkeys(row.label for row in found):
        for header, attribute, least, higher in _VALUES:
            decimals = _decimals(found, attribute, least)
            values = {
                index: round(_value(row, attribute), decimals)
                for index, row in enumerate(found)
                if row.label == label and math.isfinite(_value(row, attribute))
            }
            numbers = {getattr(getattr(found[index], attribute), "n", None) for index in values}
            if len(set(values.values())) > 1 and len(numbers) == 1:
                target = (max if higher else min)(values.values())
                best |= {(index, header) for index, value in values.items() if value == target}
    return best


def leaderboard_notes(results: BenchmarkResults) -> list[str]:
    """What the leaderboard's columns mean, a sentence or two each."""
    evaluations = [evaluation for task in results.tasks for evaluation in task.first_seeds.values()]
    if not evaluations:
        return ["Nothing is evaluated yet."]
    settings = results.specification.evaluation
    units = " or ".join(results.size_units)
    several = any(len(seeds) > 1 for task in results.tasks for seeds in task.evaluations.values())
    return [
        "Dice, NSD and HD95 are means over the n cases that define them, FP per case over all cases, with "
        f"{intervals_text(any(task.groups for task in results.tasks))}",
        f"NSD: share of both surfaces within {settings.tolerance_mm:g} {results.length_units}. HD95: 95th percentile "
        f"of the surface distances in {results.length_units}; distances to or from an empty mask count as the image's "
        "diagonal, and n tells how many did.",
        f"Lesions are {results.connected} and found by any overlap"
        f"{_minimum(settings.min_volume_mm3, units)}. Recall pools the lesions of all cases; its n counts lesions, its "
        "interval is Wilson's of as many independent lesions as their spread between cases leaves. An interval is left "
        "out where all cases are alike.",
        f"Small lesions are those of the first fixed size class, below {SMALL_MM3:g} {units}.",
        *(
            ["FROC average: mean recall at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per case."]
            if any(evaluation.froc for evaluation in evaluations)
            else []
        ),
        *(
            [
                "Against the baseline: better or worse needs both a Holm-adjusted p below 0.05 and an interval without "
                "0; within noise: no larger than the difference between seeds of the baseline. No difference is shown "
                "for metrics that are not named. Differences are paired, over the cases that both define, each the "
                "mean over a trainer's seeds."
            ]
            if any(task.comparison for task in results.tasks)
            else []
        ),
        "All columns are of seed 0, but the comparison with the baseline and those over seeds: lowest to highest."
        if several
        else "One seed: how much a repeated training differs is not known.",
        "Bold: the best value, whether or not a difference is shown; none where n differs between trainers, as it does "
        "where one alone leaves a lesion-free case empty.",
    ]


def _decimals(rows: Sequence[Standing], attribute: str, least: int) -> int:
    """That the column of an attribute prints: of lengths as many as they need."""
    return enough_decimals([_value(row, attribute) for row in rows], least) if attribute.endswith("_mm") else least


def _cells(task: TaskResults, row: Standing, decimals: Mapping[str, int]) -> dict[str, Cell]:
    cells: dict[str, CellLike] = {
        "label": task.label_text(row.label),
        "trainer": row.trainer,
        "seed": row.seed if any(min(seeds) for seeds in task.evaluations.values() if seeds) else NOTHING,
    }
    for header, attribute, *_ in _VALUES:
        value = getattr(row, attribute)
        shown = _estimate if isinstance(value, Estimate) else number
        cells[header] = shown(value, decimals[attribute])
    cells |= {
        AGAINST: _verdict(task, row),
        SEED_DICE: spread(row.dice_of_seeds, 3),
        SEED_RECALL: spread(row.recall_of_seeds, 3),
    }
    return {header: as_cell(cell) for header, cell in cells.items()}


def _estimate(estimate: Estimate, decimals: int) -> Cell:
    penalised = f", {estimate.n_penalised} at diagonal" if estimate.n_penalised else ""
    return counted(with_interval(estimate.value, estimate.interval, decimals), estimate.n, penalised)


def _verdict(task: TaskResults, row: Standing) -> str:
    if not task.comparison:
        return NOTHING
    if row.trainer == task.comparison.baseline:
        return "baseline"
    return verdict_text(row.verdicts) if row.verdicts else "not compared"


def verdict_text(verdicts: Mapping[str, str]) -> str:
    """``better: Dice; worse: false positives``: metrics by verdict; "no difference shown" where no metric has another.

    "too few cases" where no metric could be tested.

    Parameters
    ----------
    verdicts : mapping of metric to verdict
        As in `MetricRow`.
    """
    names: dict[str, Sequence[str]] = {
        verdict: [metric_words(metric) for metric, found in verdicts.items() if found == verdict]
        for verdict in (BETTER, WORSE, WITHIN_NOISE)
    }
    told = [f"{verdict}: {', '.join(metrics)}" for verdict, metrics in names.items() if metrics]
    untested = verdicts and all(found == NOT_TESTED for found in verdicts.values())
    return "; ".join(told) or (NOT_TESTED if untested else NOT_SHOWN)


def _value(row: Standing, attribute: str) -> float:
    value = getattr(row, attribute)
    return value.value if isinstance(value, Estimate) else value


def _minimum(volume_mm3: float, units: str) -> str:
    return f"; reference lesions below {volume_mm3:g} {units} are ignored" if volume_mm3 else ""
