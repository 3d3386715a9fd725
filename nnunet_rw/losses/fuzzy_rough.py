"""Fuzzy rough boundary-wise losses (Lin et al., Information Sciences 2024)."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.losses.weighting import ReweightedLoss
from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE


class FuzzyRoughLoss(ReweightedLoss):
    """Mean of c (p - y)^2 over the voxels with c > 0 of a batch, c = 1 - exp(-d^2 / a); mean over classes.

    d is the distance to the target's boundary: errors there weigh little, since nobody knows exactly where it runs;
    from a few voxels on all weigh alike. An absent class has d = 0, so no loss, as in the authors' code (where a batch
    of absent classes is 0 / 0): add it to a loss that sees false positives. That code divides by the number of products
    above 0, which is the same until p rounds to 0 or 1: then the mean would rise as the prediction gets better.

    Parameters
    ----------
    alpha : float
        In the squared unit of the maps (mm^2 in training). 1 in the authors' code, in voxels.
    include_background : bool
        Default False.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(FuzzyRoughLoss()(logits, target).item(), 4)  # 0.5^2 (2 - e^-4 - e^-1) / 2
    0.2017
    """

    kinds = (BOUNDARY_DISTANCE,)

    def __init__(self, alpha: float = 1.0, include_background: bool = False, **options: Any):
        super().__init__(include_background=include_background, **options)
        if alpha <= 0:
            raise ValueError(f"Expected alpha above 0, but got {alpha}.")
        self.alpha = alpha

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        certainty = self._certainty(inputs.boundary_distance) + self._of_prediction(inputs)
        certainty = self.chosen(certainty if inputs.mask is None else certainty * inputs.mask)
        count = (certainty > 0).transpose(0, 1).flatten(1).sum(1)
        weights = self.weights(inputs)
        certainty = certainty if weights is None else certainty * weights
        terms = certainty * self.chosen((inputs.probabilities - inputs.onehot) ** 2)
        return (terms.transpose(0, 1).flatten(1).sum(1) / count.clamp_min(1)).mean()

    def _certainty(self, distance: torch.Tensor) -> torch.Tensor:
        return -torch.expm1(-(distance**2) / self.alpha)

    def _of_prediction(self, inputs: LossInputs) -> torch.Tensor | float:
        return 0.0

    def unweighted_formula(self) -> str:
        return f"sum({'w ' if self.weighting else ''}c (p - y)^2) / n, c = 1 - exp(-d_y^2 / {self.alpha:g})"


class DualFuzzyRoughLoss(FuzzyRoughLoss):
    """The same with the distance to the predicted boundary as well: (2 - exp(-d_y^2 / a) - exp(-d_p^2 / a)) (p - y)^2.

    d_p as in `HausdorffDTLoss`: of p > 0.5 in the patch, on the device, without gradient.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(DualFuzzyRoughLoss()(logits, target).item(), 4)  # no p > 0.5, so no d_p: as FuzzyRoughLoss
    0.2017
    """

    def _of_prediction(self, inputs: LossInputs) -> torch.Tensor:
        return self._certainty(inputs.predicted_boundary_distance())

    def unweighted_formula(self) -> str:
        return f"{super().unweighted_formula()} + 1 - exp(-d_p^2 / {self.alpha:g})"
