"""Losses that are a mean over lesions: all at once by scatter-add, so their number does not matter to the price."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_rw.losses.base import SegmentationLoss, check_options
from nnunet_rw.losses.distance_transform import nearest_id
from nnunet_rw.losses.inputs import ById, LossInputs
from nnunet_rw.maps.kinds import LESION_IDS


class LesionWiseLoss(SegmentationLoss):
    """Base of losses over (B, C, K + 1) sums per sample, foreground class and lesion."""

    kinds = (LESION_IDS,)

    def __init__(self, **heads: Any):
        super().__init__(**{"include_background": False, **heads})
        if self.include_background:
            raise ValueError("Expected include_background=False: background has no lesions.")

    @staticmethod
    def ids_by_class(inputs: LossInputs) -> torch.Tensor:
        """(B, C, ...) int64 ids of the lesions of each foreground class or region."""
        if inputs.regions:
            return inputs.lesion_ids
        return inputs.lesion_ids * (inputs.onehot[:, 1:] > 0)


class BlobLoss(LesionWiseLoss):
    """Dice loss of every lesion against the background, mean over lesions (Kofler et al., arXiv 2205.08209).

    For lesion i of a class: 1 - 2 sum_i(p) / (sum over i and the class's background of p^2 + V_i), the class's other
    lesions left out. Mean over the lesions of a class, over the samples that have any, over classes. A lesion cut by
    the patch, or in two pieces within it, stays one. Without lesions it is 0, so add it to a loss that sees the whole
    patch; the paper adds it to the same loss without lesions. The authors' code masks logits, where 0 is p = 0.5; the
    formula is followed here, which masks probabilities.

    Parameters
    ----------
    squared : bool
        False takes p in place of p^2.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[1, 0, 0, 1]]]])
    >>> round(BlobLoss()(logits, target).item(), 4)  # of both lesions 1 - 2 * 0.5 / (0.5 + 0.25 + 1)
    0.4286
    """

    def __init__(self, squared: bool = True, **heads: Any):
        super().__init__(**heads)
        self.squared = squared

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        p, y = self.chosen(inputs.probabilities), self.chosen(inputs.onehot)
        known = 1.0 if inputs.mask is None else inputs.mask.to(p.dtype)
        ids, number = self.ids_by_class(inputs), inputs.lesion_table.shape[2]
        size = p * p if self.squared else p
        sums = ById(ids, number).sums
        hit, predicted, voxels = sums(p * y)[..., 1:], sums(size * y)[..., 1:], sums(y)[..., 1:]
        background = (size * (1 - y) * known).flatten(2).sum(2)[..., None]
        losses = 1 - 2 * hit / (background + predicted + voxels).clamp_min(1e-8)
        return _mean_where(_mean_where(losses, voxels > 0, 2), (voxels > 0).any(2), 0).mean()

    def formula(self) -> str:
        return f"mean over lesions of 1 - 2 sum(p y) / sum(p{'^2' if self.squared else ''} + y)"


class CCDiceCELoss(LesionWiseLoss):
    """Dice and cross-entropy in every lesion's cell, mean over cells (Bouteille et al., arXiv 2511.17146).

    A lesion's cell are the voxels nearest to it (Voronoi), so a false positive counts against the lesion next to it.
    Per cell: 1 - (2 sum(p y) + smooth) / (sum(p + y) + smooth) + mean of the cross-entropy of the class against the
    rest (for two classes that is the softmax's). Mean over the cells of a class, over classes and over samples. A class
    without lesions has one cell, the patch. Cells are of the lesions in the patch; their pieces keep one identity.
    The paper adds this loss to Dice and cross-entropy of the whole patch.

    Parameters
    ----------
    smooth : float
        nnU-Net's 1e-5 by default.
    ce_weight : float
        Weight of the cross-entropy against Dice.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[1, 0, 0, 1]]]])
    >>> round(CCDiceCELoss(smooth=0)(logits, target).item(), 4)  # of both halves 1 - 2 * 0.5 / 2 - log 0.5
    1.1931
    """

    def __init__(self, smooth: float = 1e-5, ce_weight: float = 1.0, **heads: Any):
        super().__init__(**heads)
        check_options(smooth=smooth, ce_weight=ce_weight)
        self.smooth, self.ce_weight = smooth, ce_weight

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        p, y = self.chosen(inputs.probabilities), self.chosen(inputs.onehot)
        log_p, log_rest = self.chosen(inputs.log_probabilities), self.chosen(inputs.log_complements)
        known = torch.ones_like(p) if inputs.mask is None else inputs.mask.to(p.dtype).expand_as(p)
        cells = nearest_id(self.ids_by_class(inputs), inputs.spacing)
        number = inputs.lesion_table.shape[2]
        sums = ById(cells, number).sums
        hit, sizes, voxels = sums(p * y * known), sums((p + y) * known), sums(known)
        ce = sums(-torch.where(y > 0, log_p, log_rest) * known)
        dice = 1 - (2 * hit + self.smooth) / (sizes + self.smooth).clamp_min(1e-8)
        losses = dice + self.ce_weight * ce / voxels.clamp_min(1)
        return _mean_where(losses, voxels > 0, 2).mean()

    def formula(self) -> str:
        return f"mean over lesions' cells of 1 - 2 sum(p y) / sum(p + y) + {self.ce_weight:g} mean(CE)"


def _mean_where(values: torch.Tensor, mask: torch.Tensor, axis: int) -> torch.Tensor:
    """Mean over the chosen entries of an axis, 0 where there is none."""
    return torch.where(mask, values, 0).sum(axis) / mask.sum(axis).clamp_min(1)
