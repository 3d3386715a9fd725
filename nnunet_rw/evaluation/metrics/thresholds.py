"""Whole segmentations at every threshold of the probability: what is found, and what it costs.

FROC curves (`nnunet_rw.evaluation.metrics.froc`) fix the predicted lesions and drop them by score. Here lesions are
sought anew at each threshold, as a user would who segments with it: a trainer that marks nearly everything pays with
Dice and false positives at low thresholds, and what it finds at high ones is what it has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_rw.evaluation.metrics.lesions import ROUNDING

# Falling. Networks that learned with Dice crowd most of their foreground into a hundredth, often 0.98 to 0.99. With
# thresholds further apart, nothing would lie between many false positives and none.
THRESHOLDS = (
    *(0.99999, 0.9999, 0.9995, 0.999, 0.998, 0.996, 0.994, 0.992),
    *(0.99, 0.989, 0.988, 0.987, 0.986, 0.985, 0.984, 0.983, 0.982, 0.981, 0.98),
    *(0.975, 0.97, 0.96, 0.94, 0.92, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.4, 0.3, 0.25, 0.2, 0.1),
)


@dataclass(frozen=True)
class OperatingPoints:
    """All cases at each of T falling thresholds.

    Attributes
    ----------
    thresholds : float64 (T,)
        Foreground is above.
    false_positives : float64 (T,)
        A case, those without a lesion included.
    recall, precision : float64 (T,)
        Of the pooled lesions, by any overlap; NaN without any.
    dice : float64 (T,)
        Mean over the cases where it is defined.
    """

    thresholds: np.ndarray
    false_positives: np.ndarray
    recall: np.ndarray
    precision: np.ndarray
    dice: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """float64 (T,): 2 PR / (P + R), 0 where nothing is found."""
        product, total = self.precision * self.recall, self.precision + self.recall
        return np.divide(2 * product, total, out=np.zeros(len(total)), where=total > 0)

    def within(self, false_positives: float) -> int | None:
        """Position of the threshold of highest recall with at most a number of false positives per case; None of none.

        Of equal recall the better Dice, then the lower threshold. Below a threshold that exceeds the false positives
        another is taken only where its Dice is better than that of the best one above: where false positives grow
        together, fewer of them mean no fewer mistakes, and Dice tells. So none is chosen that another within them beats
        in recall and in Dice.
        """
        # Tables hold ten digits.
        allowed = self.false_positives <= false_positives * (1 + ROUNDING)
        above = np.logical_and.accumulate(allowed)
        dice = np.nan_to_num(self.dice, nan=1.0)  # nothing is there and nothing segmented
        best = self._most_found(above) if above.any() else 0
        chosen = above | (allowed & (dice > dice[best]))
        return self._most_found(chosen) if chosen.any() else None

    def _most_found(self, chosen: np.ndarray) -> int:
        positions = np.flatnonzero(chosen)
        keys = positions, np.nan_to_num(self.dice[positions], nan=1.0), np.nan_to_num(self.recall[positions])
        return int(positions[np.lexsort(keys)[-1]])
