"""Focal losses: cross-entropy that forgets what is easy."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.losses.weighting import ReweightedLoss


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
        return self.mean(inputs, -balance * (self.gamma * log_wrong).exp() * log_right)

    def unweighted_formula(self) -> str:
        return f"focal(alpha = {self.alpha:g}, gamma = {self.gamma:g})"


class SoftmaxFocalLoss(ReweightedLoss):
    """Focal loss of the softmax, -(1 - p)^gamma log p of the voxel's own class, mean over voxels.

    The form of the RW authors' comparison (arXiv 2108.01405), all classes alike. For regions the binary form, both
    sides alike, mean over regions.

    Parameters
    ----------
    gamma : float
    """

    def __init__(self, gamma: float = 2.0, **options: Any):
        super().__init__(**options)
        self.gamma = gamma

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        log_p, log_rest = inputs.log_probabilities, inputs.log_complements
        if inputs.regions:
            inside = inputs.onehot > 0
            log_right, log_wrong = torch.where(inside, log_p, log_rest), torch.where(inside, log_rest, log_p)
        else:
            log_right, log_wrong = log_p.gather(1, inputs.labels), log_rest.gather(1, inputs.labels)
        return self.mean(inputs, -(self.gamma * log_wrong).exp() * log_right)

    def unweighted_formula(self) -> str:
        return f"mean((1 - p)^{self.gamma:g} CE)"
