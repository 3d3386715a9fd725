"""What an ensemble gains in Dice, case by case."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_rw.ensemble.scores import Scores
from nnunet_rw.evaluation.statistics import PairedComparison, paired_comparison

EQUAL, FITTED, CLEANED = "equal weights", "fitted weights", "small components removed"
MEAN = "mean of classes"

# Of each class.
CaseScores = tuple[Scores, ...]


@dataclass(frozen=True)
class Gain:
    """Dice of an ensemble minus that of something else, over the cases for which both have it.

    Attributes
    ----------
    label : str
        Or `MEAN`: of the classes that are defined for both.
    method, against : str
    comparison : PairedComparison
    """

    label: str
    method: str
    against: str
    comparison: PairedComparison


def gains(
    scores: Mapping[str, list[CaseScores]], models: Sequence[str], classes: Sequence[str], seed: int = 0
) -> tuple[Gain, ...]:
    """Gains of the ensembles over the best single model, and of fitted over equal weights.

    Per class and, of several, in their mean. The best model is the one with the highest mean on these very cases, which
    favours it, not the ensemble.

    Parameters
    ----------
    scores : mapping of str to N tuples of Scores
        By model, `EQUAL`, `FITTED` and `CLEANED`.
    models, classes : sequences of str
    seed : int
        Of the bootstrap.
    """
    found = []
    for label in (*classes, *([MEAN] if len(classes) > 1 else [])):
        means = {model: mean_of_defined(_dice(scores, model, classes, label)) for model in models}
        defined = {model: mean for model, mean in means.items() if not math.isnan(mean)}
        best = max(sorted(defined), key=defined.__getitem__, default=None)
        pairs = [(method, best) for method in (EQUAL, FITTED, CLEANED) if best] + [(FITTED, EQUAL)]
        found += [dice_gain(scores, classes, method, against, seed, label) for method, against in pairs]
    return tuple(gain for gain in found if gain)


def dice_gain(
    scores: Mapping[str, list[CaseScores]],
    classes: Sequence[str],
    method: str,
    against: str,
    seed: int = 0,
    label: str = MEAN,
) -> Gain | None:
    """The gain of a method; None where no case defines it."""
    ours, theirs = (np.array([[found.dice for found in case] for case in scores[name]]) for name in (method, against))
    if label != MEAN:
        position = classes.index(label)
        ours, theirs = ours[:, [position]], theirs[:, [position]]
    undefined = np.isnan(ours) | np.isnan(theirs)
    some = ~undefined.all(axis=1)
    if not some.any():
        return None
    first, second = (np.ma.array(values, mask=undefined).mean(axis=1).data[some] for values in (theirs, ours))
    return Gain(label, method, against, paired_comparison(first, second, seed=seed))


def _dice(scores: Mapping[str, list[CaseScores]], method: str, classes: Sequence[str], label: str) -> np.ndarray:
    values = np.array([[found.dice for found in case] for case in scores[method]])
    if label != MEAN:
        return values[:, classes.index(label)]
    return np.array([mean_of_defined(row) for row in values])


def mean_of_defined(values: np.ndarray) -> float:
    """Of the values that are not NaN; NaN for none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan
