"""What a reader asks of one class in one case: Dice, lesions found, false positives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnunet_rw.evaluation.lesions import ROUNDING
from nnunet_rw.evaluation.matches import LesionMatches


@dataclass(frozen=True)
class Scores:
    """One class of one case; lesions are found by any overlap.

    Attributes
    ----------
    dice : float
        NaN where neither side has a voxel.
    n_lesions, n_hit : int
        Reference lesions, and how many of them are found.
    n_predicted, n_false_positive : int
        Predicted lesions, and how many of them touch no reference lesion.
    """

    dice: float
    n_lesions: int
    n_hit: int
    n_predicted: int
    n_false_positive: int

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision: 0 where one side has no lesion, 1 where neither has."""
        if not self.n_lesions and not self.n_predicted:
            return 1.0
        if not self.n_hit:
            return 0.0
        recall = self.n_hit / self.n_lesions
        precision = 1 - self.n_false_positive / self.n_predicted
        return 2 * recall * precision / (recall + precision)

    @property
    def dice_or_1(self) -> float:
        """Dice, 1 where neither side has a voxel."""
        return 1.0 if np.isnan(self.dice) else self.dice


def counted_scores(matches: LesionMatches, min_component_mm3: float = 0.0) -> Scores:
    """The scores that are left when smaller predicted lesions are removed.

    Exact for classes; for regions, whose voxels may belong to several, as if there were no other region.

    Parameters
    ----------
    matches : LesionMatches
        Without a minimum volume of reference lesions: all count.
    min_component_mm3 : float
    """
    predicted, pairs = matches.predicted, matches.pairs
    kept = predicted.volume_mm3 >= min_component_mm3 * (1 - ROUNDING)
    pair_kept = kept[pairs.predicted]
    shared = pairs.voxels[pair_kept].sum()
    voxels = matches.reference.voxels.sum() + predicted.voxels[kept].sum()
    return Scores(
        dice=float(2 * shared / voxels) if voxels else float("nan"),
        n_lesions=len(matches.reference),
        n_hit=len(np.unique(pairs.reference[pair_kept])),
        n_predicted=int(kept.sum()),
        n_false_positive=int((kept & ~predicted.hit).sum()),
    )
