"""Region-wise losses: the mean of probability times map."""

from __future__ import annotations

from typing import Any

import torch

from nnunet_rw.losses.base import ReweightedLoss, check_options
from nnunet_rw.losses.inputs import ById, LossInputs, without_single_slices
from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE, INTERIOR_DISTANCE


def rectified_maps(interior_distance: torch.Tensor, onehot: torch.Tensor) -> torch.Tensor:
    """Rectified region-wise maps of a patch: -D / max D inside the class, +1 outside.

    Parameters
    ----------
    interior_distance : (B, 1, ...) or (B, C, ...)
    onehot : (B, C, ...)

    Returns
    -------
    (B, C, ...) in [-1, 1]
        The maximum is that of the class within the patch and sample. An absent class is +1 everywhere; one that fills
        the volume has no boundary, D is 0, and it is -1 everywhere.
    """
    inside = interior_distance.to(onehot.dtype) * onehot
    highest = inside.flatten(2).amax(2).view(*inside.shape[:2], *(1,) * (inside.ndim - 2))
    return torch.where(onehot > 0, -_share(inside, highest), 1.0)


def relative_depth(inputs: LossInputs) -> torch.Tensor:
    """(B, 1, ...) D / max D of every voxel's own class, as in `rectified_maps`; not for regions."""
    distance = inputs.interior_distance
    if distance.shape[1] > 1:
        distance = distance.gather(1, inputs.labels)
    if inputs.mask is not None:
        distance = distance * inputs.mask
    highest = ById(inputs.labels, inputs.num_heads).highest(distance)
    return _share(distance, highest.gather(2, inputs.labels.flatten(2)).view_as(distance))


def _share(inside: torch.Tensor, highest: torch.Tensor) -> torch.Tensor:
    """D / max D; 1 where there is no boundary, so that both are 0."""
    return torch.where(highest > 0, inside / highest.clamp_min(torch.finfo(inside.dtype).tiny), 1.0)


class RectifiedRegionWiseLoss(ReweightedLoss):
    """Mean of p z with rectified region-wise maps z (Valverde & Tohka, Pattern Recognition 2022, arXiv 2108.01405).

    Values in [-1, 1]: about -mean(D / max D) / C for a perfect prediction. The gradient is bounded, at most
    p (1 - p) (1 + D / max D) per voxel, and small: alone the loss needs an optimiser whose steps do not shrink with the
    gradient, such as its authors' Adam (docs/region_wise.md).

    Parameters
    ----------
    sum_classes : bool
        Sum over the classes instead of the paper's mean. The gradient at a voxel is then cross-entropy's times
        p (1 + D / max D), p the probability of its own class, whatever the number of classes: the form to be added to
        Dice and cross-entropy.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(RectifiedRegionWiseLoss()(logits, target).item(), 4)  # z of both classes: -1, -0.5, +1, +1
    0.0625
    """

    kinds = (INTERIOR_DISTANCE,)

    def __init__(self, sum_classes: bool = False, **options: Any):
        super().__init__(**options)
        self.sum_classes = sum_classes

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        if inputs.regions or not self.include_background:
            maps = self.chosen(rectified_maps(inputs.interior_distance, inputs.onehot))
            mean = self.mean(inputs, self.chosen(inputs.probabilities) * maps)
            return mean * maps.shape[1] if self.sum_classes else mean
        # Probabilities of classes add up to 1, and so does z of a voxel but for its own class: one channel says it all.
        total = self.mean(inputs, 1 - inputs.log_likelihood.exp() * (1 + relative_depth(inputs)))
        return total if self.sum_classes else total / inputs.num_heads

    def unweighted_formula(self) -> str:
        mean = "mean over voxels of sum over classes" if self.sum_classes else "mean"
        return f"{mean}({self.w}p z), z = -D / max D inside, +1 outside"


class BoundaryLoss(ReweightedLoss):
    """Mean of p z with signed distances z (Kervadec et al., arXiv 1812.07032).

    Parameters
    ----------
    inside_offset : float
        Added to z inside the class, in the maps' unit. 1 with voxel units gives the authors' code; their formula,
        followed by default, has none.
    include_background : bool
        Default False, as in the paper.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 0, 1]]]])
    >>> round(BoundaryLoss()(logits, target).item(), 4)  # 0.5 (3 + 2 + 1 - 1) / 4
    0.625
    """

    kinds = (BOUNDARY_DISTANCE,)

    def __init__(self, inside_offset: float = 0.0, include_background: bool = False, **options: Any):
        super().__init__(include_background=include_background, **options)
        self.inside_offset = inside_offset

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        maps = inputs.signed_distance
        if self.inside_offset:
            maps = torch.where(maps < 0, maps + self.inside_offset, maps)
        return self.mean(inputs, self.chosen(inputs.probabilities * maps))

    def unweighted_formula(self) -> str:
        return f"mean({self.w}p z), z = signed distance in mm"


class ActiveContourLoss(ReweightedLoss):
    """Region term mean(p z), z = -1 inside and +1 outside, and the contour's length (Chen et al., CVPR 2019).

    The region term equals the paper's up to a constant. The length is the mean of sqrt(sum of squared forward
    differences of p + 1e-8); one slice of a volume has the length of an image. Weights apply to the region term.

    Parameters
    ----------
    length_weight : float
        Weight of the length against the region term.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 0, 1]]]])
    >>> round(ActiveContourLoss(0, include_background=False)(logits, target).item(), 4)  # 0.5 (3 - 1) / 4
    0.25
    """

    def __init__(self, length_weight: float = 1.0, include_background: bool = True, **options: Any):
        super().__init__(include_background=include_background, **options)
        check_options(length_weight=length_weight)
        self.length_weight = length_weight

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        probabilities = self.chosen(inputs.probabilities)
        region = self.mean(inputs, probabilities * (1 - 2 * self.chosen(inputs.onehot)))
        mask = None if inputs.mask is None else without_single_slices(inputs.mask)
        return region + self.length_weight * self._length(without_single_slices(probabilities), mask)

    @staticmethod
    def _length(probabilities: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        axes = range(2, probabilities.ndim)
        if min(probabilities.shape[2:]) < 2:
            return probabilities.new_zeros(())
        here = _shifted(probabilities, None)
        steps = [(_shifted(probabilities, axis) - here) ** 2 for axis in axes]
        length = (sum(steps, torch.zeros_like(here)) + 1e-8).sqrt()
        if mask is None:
            return length.mean()
        labelled = torch.stack([_shifted(mask, axis) for axis in (None, *axes)]).all(0)
        return (length * labelled).sum() / (labelled.sum() * length.shape[1]).clamp_min(1)

    def unweighted_formula(self) -> str:
        return f"mean({self.w}p z), z = -1 inside, +1 outside, + {self.length_weight:g} length(p)"


class GeneralizedSurfaceLoss(ReweightedLoss):
    """1 - sum(z^2 (1 - y - p)^2) / sum(z^2), z the signed distance (Celaya et al., arXiv 2302.03868).

    From 0 for a perfect prediction to 1 for its opposite, whatever the size of the class; mean over samples and
    classes, an absent class giving 0. The paper weighs the classes against each other and leads over from Dice and
    cross-entropy; here classes weigh alike and schedules belong to the compound.

    Parameters
    ----------
    include_background : bool
        Default False.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(GeneralizedSurfaceLoss()(logits, target).item(), 4)  # 1 - 0.5^2
    0.75
    """

    kinds = (BOUNDARY_DISTANCE,)

    def __init__(self, include_background: bool = False, **options: Any):
        super().__init__(include_background=include_background, **options)

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        # By the largest distance, so that squares of far voxels neither overflow nor hide near ones.
        distance = self.chosen(inputs.boundary_distance)
        scale = distance.flatten(2).amax(2).clamp_min(1e-8)
        squared = (distance / scale.view(*scale.shape, *(1,) * (distance.ndim - 2))) ** 2
        for weights in (self.weights(inputs), inputs.mask):
            squared = squared if weights is None else squared * weights
        both = self.chosen(inputs.onehot) + self.chosen(inputs.probabilities)
        whole = squared.flatten(2).sum(2)
        missing = (squared * (both * (2 - both))).flatten(2).sum(2)  # 1 - (1 - both)^2
        return (missing / whole.clamp_min(torch.finfo(whole.dtype).tiny)).mean()

    def unweighted_formula(self) -> str:
        return f"1 - sum({self.w}z^2 (1 - y - p)^2) / sum({self.w}z^2), z = signed distance"


def _shifted(values: torch.Tensor, ahead: int | None) -> torch.Tensor:
    """All voxels but the last of every spatial axis; those one step ahead along one axis where one is given."""
    for axis in range(2, values.ndim):
        values = values.narrow(axis, int(axis == ahead), values.shape[axis] - 1)
    return values
