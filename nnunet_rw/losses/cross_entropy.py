"""Cross-entropy: plain, weighted by class, of the worst voxels alone; and focal losses, which forget what is easy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nnunet_rw.losses.base import ReweightedLoss, check_options
from nnunet_rw.losses.inputs import LossInputs


def cross_entropy(inputs: LossInputs) -> torch.Tensor:
    """(B, 1, ...) cross-entropy per voxel; (B, R, ...) binary cross-entropy for regions."""
    if inputs.regions:
        return -torch.where(inputs.onehot > 0, inputs.log_probabilities, inputs.log_complements)
    return -inputs.log_likelihood


class CrossEntropyLoss(ReweightedLoss):
    """Mean of w CE; binary cross-entropy per head for regions.

    The mean is over voxels, not over the sum of weights, as in the IW authors' code. All classes count, background
    too.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(CrossEntropyLoss()(logits, target).item(), 4)  # -log 0.5
    0.6931
    """

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        return self.mean(inputs, cross_entropy(inputs))

    def unweighted_formula(self) -> str:
        return "mean(w CE)" if self.weighting else "mean(CE)"


class WeightedCrossEntropyLoss(ReweightedLoss):
    """Cross-entropy with more weight on the foreground.

    By default every foreground class against the rest, its positive voxels weighing (N - sum p) / sum p, which the
    prediction sets (Sudre et al., arXiv 1707.03237, in the form of the IW authors' code): N voxels of the batch,
    the weight taking part in the gradient.

    Parameters
    ----------
    class_weights : sequence of float, optional
        Given weights instead: one per class (background first) for the cross-entropy of the softmax, the mean over
        voxels not divided by them; one per region for its positive voxels.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(WeightedCrossEntropyLoss(class_weights=(1, 3))(logits, target).item(), 4)  # -(1 + 1 + 3 + 3) log 0.5 / 4
    1.3863
    """

    def __init__(self, class_weights: Sequence[float] | None = None, **options: Any):
        super().__init__(**{"include_background": False, **options})
        self.class_weights = None if class_weights is None else tuple(float(weight) for weight in class_weights)
        for weight in self.class_weights or ():
            check_options(class_weights=weight)

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        if self.class_weights is not None:
            weights = self._given(inputs)
            if inputs.regions:
                weights = torch.where(inputs.onehot > 0, weights.view(-1, *(1,) * (inputs.raw_logits.ndim - 2)), 1.0)
            else:
                weights = weights[inputs.labels]
            return self.mean(inputs, weights * cross_entropy(inputs))
        p, y = self.chosen(inputs.probabilities), self.chosen(inputs.onehot) > 0
        known = p if inputs.mask is None else p * inputs.mask
        count = p[:, :1].numel() if inputs.mask is None else inputs.mask.sum()
        predicted = known.transpose(0, 1).flatten(1).sum(1).clamp_min(1e-8)
        weights = ((count - predicted) / predicted).view(-1, *(1,) * (p.ndim - 2))
        log_p, log_rest = self.chosen(inputs.log_probabilities), self.chosen(inputs.log_complements)
        return self.mean(inputs, -torch.where(y, weights * log_p, log_rest))

    def _given(self, inputs: LossInputs) -> torch.Tensor:
        assert self.class_weights is not None
        if len(self.class_weights) != inputs.num_heads:
            raise ValueError(f"Expected class_weights for {inputs.num_heads} heads, but got {len(self.class_weights)}.")
        # Filled in on the device: a copy of a list would make every step wait for the GPU.
        return torch.stack([inputs.logits.new_full((), weight) for weight in self.class_weights])

    def unweighted_formula(self) -> str:
        if self.class_weights is not None:
            return f"mean(CE), classes weighing {', '.join(f'{weight:g}' for weight in self.class_weights)}"
        return "mean(CE one-vs-rest), positives weighing (N - sum p) / sum p"


class TopKLoss(ReweightedLoss):
    """Mean of the worst k % of voxels' cross-entropy, over the whole batch, as nnU-Net's TopKLoss.

    Of regions each for itself. At least one voxel is taken, so that a tiny deep-supervision output has a loss (the
    mean of none is NaN), and only labelled ones, so that k is k % of those. Weights count before the choice.

    Parameters
    ----------
    k : float
        Per cent, above 0 and at most 100.

    Examples
    --------
    >>> logits = torch.tensor([[[[0.0, 0.0, 0.0, 9.0]], [[0.0, 0.0, 0.0, 0.0]]]])
    >>> target = torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(TopKLoss(k=25)(logits, target).item(), 4)  # log(1 + e^9), the last of four voxels
    9.0001
    """

    def __init__(self, k: float = 10.0, **options: Any):
        super().__init__(**options)
        if not 0 < k <= 100:
            raise ValueError(f"Expected k above 0 and at most 100 per cent, but got {k}.")
        self.k = k

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        values, weights = cross_entropy(inputs), self.weights(inputs)
        if weights is not None:
            values = values * weights
        heads = values.transpose(0, 1).flatten(1)
        if inputs.mask is None:
            return heads.topk(max(1, int(heads.shape[1] * self.k / 100)), sorted=False).values.mean()
        # The number of labelled voxels stays on the device: no step waits for it.
        known = inputs.mask.transpose(0, 1).flatten(1)
        count = known.sum()
        worst = heads.masked_fill(~known, -torch.inf).sort(descending=True).values
        number = (count * self.k / 100).floor().clamp_min(1)
        chosen = torch.arange(heads.shape[1], device=heads.device) < torch.minimum(number, count)
        return torch.where(chosen, worst, 0).sum() / (number * len(heads))

    def unweighted_formula(self) -> str:
        return f"mean of the worst {self.k:g} % of {self.w}CE"


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

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(FocalLoss()(logits, target).item(), 4)  # -(0.75 + 0.25) / 2 0.5^2 log 0.5
    0.0866
    """

    def __init__(self, alpha: float = 0.75, gamma: float = 2.0, include_background: bool = False, **options: Any):
        super().__init__(include_background=include_background, **options)
        if not 0 <= alpha <= 1:
            raise ValueError(f"Expected alpha from 0 to 1, but got {alpha}.")
        check_options(gamma=gamma)
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

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(SoftmaxFocalLoss()(logits, target).item(), 4)  # -0.5^2 log 0.5
    0.1733
    """

    def __init__(self, gamma: float = 2.0, **options: Any):
        super().__init__(**options)
        check_options(gamma=gamma)
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
