"""The metrics per case that trainers are compared by, and whether evaluations may be compared pair by pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.evaluation.metrics.rules import ratio
from nnunet_rw.evaluation.protocols import CC, CC_COLUMNS, PROTOCOL_COLUMNS
from nnunet_rw.evaluation.tables import PROBABILITY

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Metric:
    """How the values of a metric come from the columns of a case table.

    Attributes
    ----------
    values : function of the columns, (N,) floats each, to (N,) floats
        NaN where undefined, inf where a distance has no end.
    higher_is_better : bool
    decimals : int
        That a table prints, at least.
    is_length : bool
        In mm, and so of any size; the others are shares and counts.
    column : str
        Which an evaluation has only where it was asked for it, or since a later version; "" of one that it always has.
    option : str
        Of ``nnunet-rw evaluate``, that writes it.
    largest : float
        That is possible; the smallest is 0.
    words : str
        How a reader knows it, in the middle of a sentence and without a unit; "" where the name of the metric does.
    """

    values: Callable[[Columns], np.ndarray]
    higher_is_better: bool
    decimals: int = 3
    is_length: bool = False
    column: str = ""
    option: str = ""
    largest: float = math.inf
    words: str = ""

    def decimals_of(self, *values: float) -> int:
        """That a table prints of values that stand side by side."""
        return enough_decimals(values, self.decimals) if self.is_length else self.decimals


def enough_decimals(values: Iterable[float], least: int) -> int:
    """Decimals that show two digits of the largest of some lengths or volumes: a voxel may have 0.0004 mm3.

    Parameters
    ----------
    values : floats
        NaN and inf tell nothing.
    least : int
        Of values from 0.1, or without any.
    """
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return max(least, 1 - math.floor(math.log10(largest))) if largest else least


def _column(name: str) -> Callable[[Columns], np.ndarray]:
    return lambda columns: columns[name]


def _more(name: str, higher_is_better: bool, option: str = "", decimals: int = 3) -> Metric:
    """A metric that is a column which not every evaluation has: a length, a volume or a share."""
    is_length = name.endswith(("_mm", "_mm3"))
    return Metric(_column(name), higher_is_better, decimals, is_length, name, option, math.inf if is_length else 1)


def _recall_at(share: int) -> Metric:
    name = f"n_found_{share}"
    return Metric(lambda columns: ratio(columns[name], columns["n_lesions"]), True, column=name, largest=1)


def _lesion_recall(columns: Columns) -> np.ndarray:
    return ratio(columns["n_hit"], columns["n_lesions"])


def _volume_error(columns: Columns) -> np.ndarray:
    reference = columns["volume_reference_mm3"]
    return ratio(np.abs(columns["volume_prediction_mm3"] - reference), reference)


# lesion_recall: share of a case's lesions that are hit, any overlap; without lesions undefined.
# false_positives: predicted lesions that touch no reference lesion; their mean is the number per case.
# volume_error: |predicted - reference| / reference volume; with an empty reference undefined.
# lesion_recall_25, lesion_recall_50: share of a case's lesions of which at least so many % are covered.
METRICS = {
    "dice": Metric(_column("dice"), True, largest=1, words="Dice"),
    "hd95_mm": Metric(_column("hd95_mm"), False, 2, is_length=True, words="HD95"),
    "nsd": Metric(_column("nsd"), True, largest=1, words="NSD"),
    "assd_mm": Metric(_column("assd_mm"), False, 2, is_length=True, words="ASSD"),
    "lesion_recall": Metric(_lesion_recall, True, largest=1, words="lesion recall per case"),
    "false_positives": Metric(_column("n_false_positive"), False, 2, words="false positives"),
    "volume_error": Metric(_volume_error, False, words="relative volume error"),
    "jaccard": Metric(_column("jaccard"), True, largest=1),
    "ppv": Metric(_column("ppv"), True, largest=1),
    "sensitivity": Metric(_column("sensitivity"), True, largest=1),
    "specificity": Metric(_column("specificity"), True, 5, largest=1),
    "hd_mm": Metric(_column("hd_mm"), False, 2, is_length=True, words="HD"),
    "lesion_recall_25": _recall_at(25),
    "lesion_recall_50": _recall_at(50),
    "volume_false_positive_mm3": _more("volume_false_positive_mm3", False, decimals=1),
    "volume_missed_mm3": _more("volume_missed_mm3", False, decimals=1),
    "matched_hd95_mm": _more("matched_hd95_mm", False, decimals=2),
    "matched_assd_mm": _more("matched_assd_mm", False, decimals=2),
    "average_precision": _more("average_precision", True, "--probabilities"),
    "calibration_error": _more("calibration_error", False, "--probabilities", 5),
    "calibration_error_from_01": _more("calibration_error_from_01", False, "--probabilities"),
    **{
        name: _more(name, not name.endswith("_mm"), f"--scores {'cc' if name in CC_COLUMNS else 'brats-...'}")
        for name in PROTOCOL_COLUMNS
    },
}
DEFAULT_METRICS = ("dice", "hd95_mm", "nsd", "assd_mm", "lesion_recall", "false_positives", "volume_error")


def metric_words(metric: str) -> str:
    """The name of a metric of `METRICS` as a reader knows it, without a unit."""
    return METRICS[metric].words or metric


@dataclass(frozen=True)
class Pairs:
    """A metric of two trainers on the cases for which both have it.

    Attributes
    ----------
    first, second : (n,) floats, finite
    defined : (N,) booleans
        Which of the cases these are.
    undefined_in_both, undefined_in_one : int
        Cases left out. Empty masks of one trainer alone, as a rule.
    infinite : int
        Pairs in which a distance without end stands as the image's diagonal.
    """

    first: np.ndarray
    second: np.ndarray
    defined: np.ndarray
    undefined_in_both: int
    undefined_in_one: int
    infinite: int


def case_values(seeds: Sequence[Evaluation], metric: str, label: str) -> tuple[np.ndarray, np.ndarray]:
    """A metric of every case: the mean over trainings that differ in their seed.

    Returns
    -------
    values : (N,) float
        NaN where any training leaves it undefined.
    endless : (N,) bool
        Where any training's distance has no end, and counts as the image's diagonal.

    Raises
    ------
    ValueError
        A distance has no end and no diagonal is known to stand for it.
    """
    values, endless = [], []
    for evaluation in seeds:
        found = METRICS[metric].values(evaluation.columns[label])
        infinite, diagonals_mm = np.isinf(found), evaluation.diagonals_mm()
        if np.isnan(diagonals_mm[infinite]).any():
            case = evaluation.cases[np.flatnonzero(infinite & np.isnan(diagonals_mm))[0]]
            raise ValueError(
                f"{metric} of case '{case}' in {evaluation.folder} has no end, and summary.json tells no "
                "image_diagonal_mm to stand for it. Evaluate again."
            )
        values.append(np.where(infinite, diagonals_mm, found))
        endless.append(infinite)
    return np.mean(values, axis=0), np.any(endless, axis=0)


def paired_values(first: Sequence[Evaluation], second: Sequence[Evaluation], metric: str, label: str) -> Pairs:
    """Values of two trainers on the same cases, each the mean over its seeds, see `case_values`."""
    (one, endless_one), (two, endless_two) = (case_values(seeds, metric, label) for seeds in (first, second))
    undefined = np.isnan(one).astype(int) + np.isnan(two)
    defined = undefined == 0
    return Pairs(
        first=one[defined],
        second=two[defined],
        defined=defined,
        undefined_in_both=int((undefined == 2).sum()),
        undefined_in_one=int((undefined == 1).sum()),
        infinite=int(((endless_one | endless_two) & defined).sum()),
    )


# Settings that change no figure that is compared; the diagonals belong to the references.
_INDIFFERENT = ("probabilities", "images", "image_diagonal_mm", "scores", "probability_values")
_NAMED = 3


def check_comparable(evaluations: Sequence[Evaluation]) -> None:
    """Whether all hold the same cases, labels, settings and reference lesions as the first.

    Raises
    ------
    ValueError
        Naming the first difference.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        _check_cases(first, other)
        if set(first.labels) != set(other.labels):
            raise ValueError(
                f"Expected the same labels in all evaluations, but got {', '.join(first.labels)} in {first.folder} and "
                f"{', '.join(other.labels)} in {other.folder}."
            )
        for key in sorted(first.settings.keys() | other.settings.keys()):
            values = first.settings.get(key), other.settings.get(key)
            if key not in _INDIFFERENT and values[0] != values[1]:
                raise ValueError(
                    f"Expected the same settings in all evaluations, but {key} is {values[0]} in {first.folder} and "
                    f"{values[1]} in {other.folder}. Evaluate again with equal options."
                )
        _check_scores(first, other)
        _check_references(first, other)


def check_metrics(evaluations: Sequence[Evaluation], metrics: Iterable[str]) -> None:
    """Whether all evaluations have the columns of these metrics, those of probabilities by the same version's count.

    Raises
    ------
    ValueError
        Naming the first that does not, and the option that writes it.
    """
    for name in metrics:
        metric = METRICS[name]
        for evaluation in evaluations:
            if metric.column and any(metric.column not in columns for columns in evaluation.columns.values()):
                raise ValueError(
                    f"No {name} in {evaluation.folder}. Evaluate again"
                    + (f" with {metric.option}." if metric.option else ".")
                )
        told_apart = [evaluation.settings.get("probability_values") for evaluation in evaluations]
        if name in PROBABILITY and len(set(told_apart)) > 1:
            earlier = evaluations[told_apart.index(None)] if None in told_apart else evaluations[0]
            raise ValueError(
                f"Expected {name} of equally rounded probabilities, but {earlier.folder} was made by another version. "
                "Evaluate again with --probabilities."
            )


def _check_scores(first: Evaluation, other: Evaluation) -> None:
    """The scores of two BraTS challenges are in columns of the same names."""
    told = [
        {name: options for name, options in evaluation.settings.get("scores", {}).items() if name != CC}
        for evaluation in (first, other)
    ]
    if all(told) and told[0] != told[1]:
        raise ValueError(
            f"Expected the scores of one challenge in all evaluations, but got {', '.join(told[0])} in {first.folder} "
            f"and {', '.join(told[1])} in {other.folder}. Evaluate again with equal --scores."
        )


def _check_cases(first: Evaluation, other: Evaluation) -> None:
    if first.cases == other.cases:
        return
    only = [
        (evaluation.folder, sorted(set(evaluation.cases) - set(rest.cases)))
        for evaluation, rest in ((first, other), (other, first))
    ]
    told = [
        f"{len(names)} only in {folder} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
        for folder, names in only
        if names
    ]
    shared = len(set(first.cases) & set(other.cases))
    raise ValueError(
        f"Expected the same cases in all evaluations, but got {' and '.join(told)}, {shared} in both. "
        "A paired comparison needs every case from every trainer."
    )


def _check_references(first: Evaluation, other: Evaluation) -> None:
    same = all(
        np.array_equal(getattr(first.lesions, name), getattr(other.lesions, name))
        for name in ("case", "label", "lesion", "voxels")
    )
    same = same and np.allclose(first.diagonals_mm(), other.diagonals_mm(), rtol=1e-4, atol=0, equal_nan=True)
    for label in first.labels:
        one, two = (evaluation.columns[label]["volume_reference_mm3"] for evaluation in (first, other))
        same = same and np.allclose(one, two, rtol=1e-4, atol=0, equal_nan=True)
    if not same:
        raise ValueError(
            f"The references of {first.folder} and {other.folder} differ. Evaluate against the same files."
        )
