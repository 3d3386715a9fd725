"""Generalised Dice: one ratio for all classes, rare ones weighing more."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.losses.overlap import focused
from nnunet_rw.losses.weighting import ReweightedLoss


class GeneralizedDiceLoss(ReweightedLoss):
    """1 - 2 sum_c v_c sum(w p y) / sum_c v_c sum(w (p^2 + y^2)), v_c = 1 / (1 + V_c^2), V_c the class's voxels.

    Sudre et al., arXiv 1707.03237, in the form of the IW authors' code; mean over samples. A region and what lies
    outside it are two classes; mean over regions.

    Parameters
    ----------
    linear : bool
        Kervadec's form: p in place of p^2, v_c = 1 / (V_c + 1e-10)^2, and 1e-10 added above and below. There a class
        absent from a sample outweighs all others, so that its false positives alone decide.
    include_background : bool
        Default True. Only foreground classes count without it.
    """

    def __init__(self, linear: bool = False, **options: Any):
        super().__init__(**options)
        self.linear = linear

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        return self.losses(inputs).mean()

    def losses(self, inputs: LossInputs) -> torch.Tensor:
        """(B, 1) loss of every sample, (B, R) for regions."""
        p, y = inputs.probabilities, inputs.onehot
        weights = self.weights(inputs)
        if inputs.mask is not None:
            weights = inputs.mask.to(p.dtype) if weights is None else weights * inputs.mask
        if inputs.regions:
            known = torch.ones_like(p) if inputs.mask is None else inputs.mask.to(p.dtype)
            weights = None if weights is None else weights.expand_as(p)[:, :, None]
            p, y = torch.stack([p, 1 - p], 2), torch.stack([y, known - y], 2)
        else:
            p, y = self.chosen(p)[:, None], self.chosen(y)[:, None]
            weights = None if weights is None else weights[:, None]
        # (B, 1 or R, classes)
        volumes = y.flatten(3).sum(3)
        weighted = p if weights is None else p * weights
        both = (weighted * y).flatten(3).sum(3)
        sizes = (weighted if self.linear else weighted * p) + (y if weights is None else y * weights)
        tiny = 1e-10 if self.linear else 0.0
        importance = 1 / ((volumes + tiny) ** 2 if self.linear else 1 + volumes**2)
        numerator = (importance * both).sum(2) + tiny
        denominator = (importance * sizes.flatten(3).sum(3)).sum(2) + tiny
        return 1 - 2 * numerator / denominator.clamp_min(1e-12)

    def unweighted_formula(self) -> str:
        weight = "w " if self.weighting else ""
        power, share = ("", "1 / V_c^2") if self.linear else ("^2", "1 / (1 + V_c^2)")
        return f"1 - 2 sum(v_c {weight}p y) / sum(v_c {weight}(p{power} + y)), v_c = {share}"


class FocalGeneralizedDiceBCELoss(GeneralizedDiceLoss):
    """(generalised Dice loss)^(1 / gamma) + bce_weight * binary cross-entropy of every counted class against the rest.

    The name is found in comparisons of losses for small lesions without a formula. Left open there, and set here: the
    exponent, which is the focal Tversky loss's (arXiv 1810.07842); the Dice term, which is `GeneralizedDiceLoss`; the
    weight of the cross-entropy, 1, its mean over voxels and classes, and its classes, which are those of the Dice term
    (one head for the background, by default, included).

    Parameters
    ----------
    gamma : float
    bce_weight : float
    """

    def __init__(self, gamma: float = 4 / 3, bce_weight: float = 1.0, **options: Any):
        super().__init__(**options)
        if gamma <= 0:
            raise ValueError(f"Expected gamma > 0, but got {gamma}.")
        self.gamma, self.bce_weight = gamma, bce_weight

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        log_p, log_rest = self.chosen(inputs.log_probabilities), self.chosen(inputs.log_complements)
        bce = self.mean(inputs, -torch.where(self.chosen(inputs.onehot) > 0, log_p, log_rest))
        return focused(self.losses(inputs), self.gamma).mean() + self.bce_weight * bce

    def unweighted_formula(self) -> str:
        return f"({super().unweighted_formula()})^(1 / {self.gamma:g}) + {self.bce_weight:g} mean(BCE)"
