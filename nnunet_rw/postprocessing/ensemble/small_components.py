"""Predicted components too small to be believed: removed, and how small that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.datasets.labels import Label, label_values
from nnunet_rw.evaluation.metrics.lesions import ROUNDING
from nnunet_rw.evaluation.metrics.matches import LesionMatches
from nnunet_rw.evaluation.metrics.rules import kept_components
from nnunet_rw.maps.checks import as_spacing
from nnunet_rw.maps.components import as_connectivity


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


# What the mean Dice over cases may lose.
MAX_DICE_LOSS = 0.001
_CANDIDATES = 41


def remove_small_components(
    segmentation: np.ndarray,
    manager: LabelManager,
    spacing_mm: Sequence[float],
    min_component_mm3: Mapping[str, float],
    connectivity: int = 26,
) -> np.ndarray:
    """Remove the components of each class, or region, that are smaller than its minimum volume.

    A component of a class becomes background. One of a region leaves the region and all regions within it, and takes
    the label of the regions around it that are left: a small tumour core in a tumour becomes tumour, no hole.

    Parameters
    ----------
    segmentation : integer array (X, Y[, Z])
    manager : LabelManager
        nnU-Net's, of the dataset.
    spacing_mm : sequence of float
        mm per array axis.
    min_component_mm3 : mapping of str to float
        By "1" or "(1, 2)"; classes that are not named keep everything. One of exactly this volume stays. In mm2 in two
        dimensions.
    connectivity : int
        6, 18 or 26 in three dimensions.

    Returns
    -------
    array of the same shape and type, a copy

    Raises
    ------
    ValueError
        A volume is of no class or region, an array or option is impossible.
    """
    spacing = as_spacing(spacing_mm, segmentation.ndim)
    connectivity = as_connectivity(connectivity, segmentation.ndim)
    classes: list[Label] = [
        tuple(label) if isinstance(label, list | tuple) else int(label)
        for label in (manager.foreground_regions if manager.has_regions else manager.foreground_labels)
    ]
    unknown = sorted(set(min_component_mm3) - {str(label) for label in classes})
    if unknown:
        raise ValueError(f"Expected minimum volumes of {', '.join(map(str, classes))}, but got one of {unknown[0]}.")
    masks = [np.isin(segmentation, label) for label in classes]
    voxel_mm3 = float(np.prod(spacing))
    small = [
        mask & ~kept_components(mask, voxel_mm3, min_component_mm3.get(str(label), 0.0), connectivity)
        for mask, label in zip(masks, classes, strict=True)
    ]
    cleaned = segmentation.copy()
    changed = np.logical_or.reduce(small)
    cleaned[changed] = 0
    if manager.has_regions:
        for region, mask, paint in zip(classes, masks, manager.regions_class_order, strict=True):
            around = [
                lost for other, lost in zip(classes, small, strict=True) if label_values(region) <= label_values(other)
            ]
            cleaned[changed & mask & ~np.logical_or.reduce(around)] = paint
    return cleaned


def choose_min_component_mm3(cases: Sequence[LesionMatches]) -> float:
    """The minimum volume with the highest mean F1 of lesions over cases, of one class.

    F1 and Dice of a case are 1 where neither side has a lesion: all volumes are judged on all cases. A candidate is
    admitted if the mean Dice is not more than 0.001 below that without removal. Candidates are 41 quantiles of the
    predicted components' volumes; the smallest of equally good ones is taken, and 0 if none is better.

    Parameters
    ----------
    cases : sequence of LesionMatches
        Without a minimum volume of reference lesions.

    Returns
    -------
    float
        In mm3, 0 for no removal.
    """
    volumes = np.concatenate([np.zeros(0), *(case.predicted.volume_mm3 for case in cases)])
    if not len(volumes):
        return 0.0
    candidates = np.unique(np.quantile(volumes, np.linspace(0, 1, _CANDIDATES), method="lower"))
    before = [counted_scores(case) for case in cases]
    best, best_scores = 0.0, before
    for candidate in candidates:
        after = [counted_scores(case, float(candidate)) for case in cases]
        if is_improved(before, after) and _mean_f1(after) > _mean_f1(best_scores) + ROUNDING:
            best, best_scores = float(candidate), after
    return best


def is_improved(before: Sequence[Scores], after: Sequence[Scores]) -> bool:
    """Whether the mean F1 of the same cases is higher, and their mean Dice not lower by more than 0.001."""
    dice = [float(np.mean([scores.dice_or_1 for scores in cases])) for cases in (before, after)]
    return _mean_f1(after) > _mean_f1(before) + ROUNDING and dice[1] >= dice[0] - MAX_DICE_LOSS


def _mean_f1(cases: Sequence[Scores]) -> float:
    return float(np.mean([scores.f1 for scores in cases]))
