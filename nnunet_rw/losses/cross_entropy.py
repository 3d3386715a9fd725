"""Losses that are a mean over voxels of a function of the true class's probability."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.losses.weighting import ReweightedLoss


class CrossEntropyLoss(ReweightedLoss):
    """Mean of w CE; binary cross-entropy per head for regions.

    The mean is over voxels, not over the sum of weights, as in the IW authors' code. All classes count, background
    too.
    """

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        if inputs.regions:
            values = -torch.where(inputs.onehot > 0, inputs.log_probabilities, inputs.log_complements)
        else:
            values = -inputs.log_probabilities.gather(1, inputs.labels)
        weights = self.weights(inputs)
        return inputs.mean(values if weights is None else values * weights)

    def unweighted_formula(self) -> str:
        return "mean(w CE)" if self.weighting else "mean(CE)"


class FocalLoss(ReweightedLoss):
    """One-vs-rest focal loss (Lin et al., arXiv 1708.02002), mean over voxels and classes.

    -alpha (1 - p)^gamma log p in the class, -(1 - alpha) p^gamma log(1 - p) outside it.

    Parameters
    ----------
    alpha : float
        0.75 is the IW paper's choice; the focal loss paper takes 0.25.
    gamma : float
    include_background : bool
        Default False: foreground classes against the rest.
    """

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0, include_background: bool = False, **options: Any):
        super().__init__(include_background=include_background, **options)
        if not 0 <= alpha <= 1:
            raise ValueError(f"Expected alpha from 0 to 1, but got {alpha}.")
        self.alpha, self.gamma = alpha, gamma

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        inside = self.chosen(inputs.onehot) > 0
        log_p, log_rest = self.chosen(inputs.log_probabilities), self.chosen(inputs.log_complements)
        # log of the probability given to the truth, and to the mistake
        log_right, log_wrong = torch.where(inside, log_p, log_rest), torch.where(inside, log_rest, log_p)
        balance = torch.where(inside, self.alpha, 1 - self.alpha)
        values = -balance * (self.gamma * log_wrong).exp() * log_right
        weights = self.weights(inputs)
        return inputs.mean(values if weights is None else values * weights)

    def unweighted_formula(self) -> str:
        return f"focal(alpha = {self.alpha:g}, gamma = {self.gamma:g})"
