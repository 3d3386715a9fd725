"""The metrics per case that trainers are compared by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from nnunet_rw.evaluation.evaluation_folder import Evaluation

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
        That a table prints.
    """

    values: Callable[[Columns], np.ndarray]
    higher_is_better: bool
    decimals: int = 3


def _column(name: str) -> Callable[[Columns], np.ndarray]:
    return lambda columns: columns[name]


def _lesion_recall(columns: Columns) -> np.ndarray:
    return _ratio(columns["n_hit"], columns["n_lesions"])


def _volume_error(columns: Columns) -> np.ndarray:
    reference = columns["volume_reference_mm3"]
    return _ratio(np.abs(columns["volume_prediction_mm3"] - reference), reference)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


# lesion_recall: share of a case's lesions that are hit, any overlap; without lesions undefined.
# false_positives: predicted lesions that touch no reference lesion; their mean is the number per case.
# volume_error: |predicted - reference| / reference volume; with an empty reference undefined.
METRICS = {
    "dice": Metric(_column("dice"), True),
    "hd95_mm": Metric(_column("hd95_mm"), False, 2),
    "nsd": Metric(_column("nsd"), True),
    "assd_mm": Metric(_column("assd_mm"), False, 2),
    "lesion_recall": Metric(_lesion_recall, True),
    "false_positives": Metric(_column("n_false_positive"), False, 2),
    "volume_error": Metric(_volume_error, False),
    "jaccard": Metric(_column("jaccard"), True),
    "ppv": Metric(_column("ppv"), True),
    "sensitivity": Metric(_column("sensitivity"), True),
    "specificity": Metric(_column("specificity"), True, 5),
    "hd_mm": Metric(_column("hd_mm"), False, 2),
}
DEFAULT_METRICS = ("dice", "hd95_mm", "nsd", "assd_mm", "lesion_recall", "false_positives", "volume_error")


@dataclass(frozen=True)
class Pairs:
    """A metric of two trainers on the cases for which both have it.

    Attributes
    ----------
    first, second : (n,) floats, finite
    undefined_in_both, undefined_in_one : int
        Cases left out. Empty masks of one trainer alone, as a rule.
    infinite : int
        Pairs in which a distance without end stands as the image's diagonal.
    """

    first: np.ndarray
    second: np.ndarray
    undefined_in_both: int
    undefined_in_one: int
    infinite: int


def paired_values(first: Evaluation, second: Evaluation, metric: str, label: str) -> Pairs:
    """Values of two evaluations of the same cases.

    Raises
    ------
    ValueError
        A distance has no end and no diagonal is known to stand for it.
    """
    values = [METRICS[metric].values(evaluation.columns[label]) for evaluation in (first, second)]
    infinite = np.zeros(len(first.cases), dtype=bool)
    for position, evaluation in enumerate((first, second)):
        endless = np.isinf(values[position])
        diagonals_mm = evaluation.diagonals_mm()
        if np.isnan(diagonals_mm[endless]).any():
            case = evaluation.cases[np.flatnonzero(endless & np.isnan(diagonals_mm))[0]]
            raise ValueError(
                f"{metric} of case '{case}' in {evaluation.folder} has no end, and summary.json tells no "
                "image_diagonal_mm to stand for it. Evaluate again."
            )
        values[position] = np.where(endless, diagonals_mm, values[position])
        infinite |= endless
    undefined = np.isnan(values).sum(0)
    defined = undefined == 0
    return Pairs(
        first=values[0][defined],
        second=values[1][defined],
        undefined_in_both=int((undefined == 2).sum()),
        undefined_in_one=int((undefined == 1).sum()),
        infinite=int((infinite & defined).sum()),
    )
