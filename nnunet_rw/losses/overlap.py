"""Dice-like losses: a ratio of sums over voxels, per class or of all classes together."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch

from nnunet_rw.losses.base import ReweightedLoss, check_options
from nnunet_rw.losses.inputs import LossInputs


class OverlapLoss(ReweightedLoss):
    """1 - score, the score a ratio of the sums below; mean over samples and classes.

    Parameters
    ----------
    smooth : float
        Added to numerator and denominator. With 0, as in the references, a class that is neither there nor
        predicted scores 0 and has no gradient.
    batch_dice : bool
        Take the sums over the batch instead of per sample.
    ddp : bool
        With ``batch_dice``, over the batches of all processes.
    include_background : bool
        Default False.
    """

    squared = True

    def __init__(
        self,
        smooth: float = 0.0,
        batch_dice: bool = False,
        ddp: bool = False,
        include_background: bool = False,
        **options: Any,
    ):
        super().__init__(include_background=include_background, **options)
        check_options(smooth=smooth)
        self.smooth, self.batch_dice, self.ddp = smooth, batch_dice, ddp

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        weights = self.known_weights(inputs)
        of_heads = [None] * inputs.num_heads if weights is None else weights.expand_as(inputs.raw_logits).unbind(1)
        # Head by head: temporary tensors as large as the logits cost more time than the sums, and far more memory.
        sums = [
            self._sums_of_head(log_p.exp(), inputs.truth(head), of_heads[head])
            for head, log_p in enumerate(inputs.log_probabilities.unbind(1))
            if head > 0 or self.regions or self.include_background
        ]
        both, predicted, reference = (self._gathered(torch.stack(values, 1)) for values in zip(*sums, strict=True))
        numerator, denominator = self.ratio(both, predicted, reference)
        return self.reduced(1 - (numerator + self.smooth) / (denominator + self.smooth).clamp_min(1e-8))

    def _sums_of_head(
        self, p: torch.Tensor, truth: torch.Tensor, weights: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The (B) sums that `ratio` takes, of one head's (B, ...) probabilities, target and weights."""
        weighted = p if weights is None else p * weights
        reference = truth.to(p.dtype) if weights is None else torch.where(truth, weights, 0)
        predicted = weighted * p if self.squared else weighted
        return _sum(torch.where(truth, weighted, 0)), _sum(predicted), _sum(reference)

    def reduced(self, losses: torch.Tensor) -> torch.Tensor:
        """Scalar from (B, C) losses, or (C) over the batch."""
        return losses.mean()

    @abstractmethod
    def ratio(
        self, both: torch.Tensor, predicted: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Numerator and denominator from sum(w p y), sum(w p^2) (or sum(w p)) and sum(w y)."""

    def _gathered(self, sums: torch.Tensor) -> torch.Tensor:
        """(B, C) sums, or (C) over the batch."""
        if not self.batch_dice:
            return sums
        # Over the own batch first: processes may hold batches of different sizes.
        sums = sums.sum(0)
        if self.ddp:
            from nnunetv2.utilities.ddp_allgather import AllGatherGrad

            sums = AllGatherGrad.apply(sums).sum(0)
        return sums


class DiceLoss(OverlapLoss):
    """1 - 2 sum(w p y) / sum(w (p^2 + y^2)) (Milletari et al., arXiv 1606.04797).

    Parameters
    ----------
    squared : bool
        False takes sum(w (p + y)) for the denominator, as nnU-Net does.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(DiceLoss()(logits, target).item(), 4)  # 1 - 2 * 1 / (4 * 0.25 + 2)
    0.3333
    """

    def __init__(self, squared: bool = True, **options: Any):
        super().__init__(**options)
        self.squared = squared

    def ratio(
        self, both: torch.Tensor, predicted: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return 2 * both, predicted + reference

    def unweighted_formula(self) -> str:
        return "1 - 2 sum(w p y) / sum(w (p^2 + y^2))" if self.squared else "1 - 2 sum(w p y) / sum(w (p + y))"


class AsymmetricSimilarityLoss(OverlapLoss):
    """1 - (1 + b^2) sum(w p y) / sum(w (b^2 y^2 + p^2)) (Hashemi et al., arXiv 1803.11078).

    Parameters
    ----------
    beta : float
        Above 1 a missed voxel costs more than a false one. 1.5 is the IW paper's choice. Below 1 the form with p^2 is
        least at p = beta, not at 1, so that it takes the linear one.
    linear : bool
        The paper's Tversky form, p in place of p^2; default is the form of the IW authors' code.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(AsymmetricSimilarityLoss(beta=2)(logits, target).item(), 4)  # 1 - 5 * 1 / (4 * 2 + 4 * 0.25)
    0.4444
    """

    def __init__(self, beta: float = 1.5, linear: bool = False, **options: Any):
        super().__init__(**options)
        check_options(above=True, beta=beta)
        if beta < 1 and not linear:
            raise ValueError(f"Expected beta of at least 1, or linear=True with it, but got {beta}.")
        self.beta, self.squared = beta, not linear

    def ratio(
        self, both: torch.Tensor, predicted: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # The linear form, (1 + b^2) TP + b^2 FN + FP, is b^2 sum(w y) + sum(w p) written otherwise.
        return (1 + self.beta**2) * both, self.beta**2 * reference + predicted

    def unweighted_formula(self) -> str:
        power = "^2" if self.squared else ""
        return f"1 - (1 + b^2) sum(w p y) / sum(w (b^2 y + p{power})), b = {self.beta:g}"


class FocalTverskyLoss(OverlapLoss):
    """(1 - T)^(1 / gamma), T = sum(w p y) / sum(w (p y + alpha (1 - p) y + beta p (1 - y))), mean over classes.

    Abraham & Khan, ISBI 2019, arXiv 1810.07842. A nearly right class keeps a steep gradient; below 1 - T = 1e-6, where
    it would grow without bound, it is 0.

    Parameters
    ----------
    alpha, beta : float
        Weight of missed and of false voxels: 0.7 and 0.3 in the paper.
    gamma : float
        4/3 in the paper.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(FocalTverskyLoss(gamma=1)(logits, target).item(), 4)  # 1 - 1 / (1 + 0.7 * 1 + 0.3 * 1)
    0.5
    """

    squared = False

    def __init__(self, alpha: float = 0.7, beta: float = 0.3, gamma: float = 4 / 3, **options: Any):
        super().__init__(**options)
        check_options(alpha=alpha, beta=beta)
        check_options(above=True, gamma=gamma)
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def ratio(
        self, both: torch.Tensor, predicted: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return both, both + self.alpha * (reference - both) + self.beta * (predicted - both)

    def reduced(self, losses: torch.Tensor) -> torch.Tensor:
        return focused(losses, self.gamma).mean()

    def unweighted_formula(self) -> str:
        denominator = f"sum({self.w}(p y + {self.alpha:g} (1 - p) y + {self.beta:g} p (1 - y)))"
        return f"(1 - sum({self.w}p y) / {denominator})^(1 / {self.gamma:g})"


def focused(losses: torch.Tensor, gamma: float) -> torch.Tensor:
    """losses^(1 / gamma) with a bounded gradient at 0."""
    return losses.clamp_min(1e-6) ** (1 / gamma)


def _sum(values: torch.Tensor) -> torch.Tensor:
    """(B) sums of (B, ...)."""
    return values.flatten(1).sum(1)


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

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(GeneralizedDiceLoss()(logits, target).item(), 4)  # both classes have two voxels: 1 - 2 * 2 / 6
    0.3333
    """

    def __init__(self, linear: bool = False, **options: Any):
        super().__init__(**options)
        self.linear = linear

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        return self.losses(inputs).mean()

    def losses(self, inputs: LossInputs) -> torch.Tensor:
        """(B, 1) loss of every sample, (B, R) for regions."""
        p, y = inputs.probabilities, inputs.onehot
        weights = self.known_weights(inputs)
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
        sizes = sizes.flatten(3).sum(3)
        tiny = 1e-10 if self.linear else 0.0
        importance = 1 / ((volumes + tiny) ** 2 if self.linear else 1 + volumes**2)
        # Without a labelled voxel the score is 0, not the 1 that tiny by tiny would be.
        numerator = (importance * both).sum(2) + tiny * (sizes.sum(2) > 0)
        denominator = (importance * sizes).sum(2) + tiny
        return 1 - 2 * numerator / denominator.clamp_min(1e-12)

    def unweighted_formula(self) -> str:
        power, share = ("", "1 / V_c^2") if self.linear else ("^2", "1 / (1 + V_c^2)")
        return f"1 - 2 sum(v_c {self.w}p y) / sum(v_c {self.w}(p{power} + y)), v_c = {share}"


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

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(FocalGeneralizedDiceBCELoss(gamma=1)(logits, target).item(), 4)  # 1 / 3 - log 0.5
    1.0265
    """

    def __init__(self, gamma: float = 4 / 3, bce_weight: float = 1.0, **options: Any):
        super().__init__(**options)
        check_options(above=True, gamma=gamma)
        check_options(bce_weight=bce_weight)
        self.gamma, self.bce_weight = gamma, bce_weight

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        log_p, log_rest = self.chosen(inputs.log_probabilities), self.chosen(inputs.log_complements)
        bce = self.mean(inputs, -torch.where(self.chosen(inputs.onehot) > 0, log_p, log_rest))
        return focused(self.losses(inputs), self.gamma).mean() + self.bce_weight * bce

    def unweighted_formula(self) -> str:
        return f"({super().unweighted_formula()})^(1 / {self.gamma:g}) + {self.bce_weight:g} mean(BCE)"
