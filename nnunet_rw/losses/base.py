"""The interface of every loss, and weights per voxel by the size of its lesion."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nnunet_rw.losses.distance_transform import Spacing
from nnunet_rw.losses.inputs import ById, LossInputs
from nnunet_rw.maps.kinds import LESION_IDS

SCOPES = ("patch", "case")


def check_options(above: bool = False, **options: float) -> None:
    """Refuse numbers that would turn a loss around, or switch it off.

    Parameters
    ----------
    above : bool
        0 is refused as well.
    **options

    Raises
    ------
    ValueError
        One is negative or non-finite.
    """
    for name, value in options.items():
        if not (math.isfinite(value) and value >= 0) or (above and value == 0):
            raise ValueError(f"Expected {name} {'above' if above else 'of at least'} 0, but got {value}.")


class SegmentationLoss(nn.Module, ABC):
    """A loss that works alone and as a term of a compound.

    Subclasses implement `compute` and name in `kinds` the maps that they need.

    Parameters
    ----------
    regions : bool
        Heads are overlapping regions (sigmoid) instead of exclusive classes (softmax).
    ignore_label : int, optional
        Label of ignored voxels; they count in no loss. With ``regions`` any integer, the target's last channel
        marks them.
    include_background : bool
        Whether head 0 counts. Regions have no background head; all of them always count.
    """

    kinds: tuple[str, ...] = ()

    def __init__(self, regions: bool = False, ignore_label: int | None = None, include_background: bool = True):
        super().__init__()
        self.regions = regions
        self.ignore_label = ignore_label
        self.include_background = include_background

    def forward(
        self,
        logits: torch.Tensor,
        target: torch.Tensor,
        maps: dict[str, torch.Tensor] | None = None,
        spacing: Spacing | None = None,
    ) -> torch.Tensor:
        """Scalar loss; parameters as of `LossInputs`."""
        return self.compute(LossInputs(logits, target, maps, spacing, self.regions, self.ignore_label))

    @abstractmethod
    def compute(self, inputs: LossInputs) -> torch.Tensor:
        """Scalar loss of inputs that other terms may share."""

    def chosen(self, values: torch.Tensor) -> torch.Tensor:
        """The (B, C, ...) channels that count."""
        return values if self.regions or self.include_background else values[:, 1:]

    def formula(self) -> str:
        """One line for the training log."""
        return type(self).__name__


@dataclass(frozen=True)
class InverseVolume:
    """Inverse lesion-volume weights (Shirokikh et al., MICCAI 2020, arXiv 2007.10033).

    w_i = (N / ((K + 1) V_i)) ^ power, clipped; K lesions and the background as one component more.

    Parameters
    ----------
    scope : "patch" or "case"
        Where N, K and V are counted. "patch" is the paper's: a lesion cut by the patch counts with what is left of
        it, so a sliver of a large lesion weighs as much as a small lesion. "case" takes the whole volume, so a lesion
        has one weight wherever the patch lies, and so has the background.
    power : float
        1 is the paper's; less is milder: 0 weights all voxels alike.
    w_min, w_max : float
        Range of the weights. w_min = 1, the paper's, lifts the background to 1 whenever there is a lesion; below it,
        background counts for less and false positives cost less.
    normalise : bool
        Scale lesion weights to a mean of 1 over the foreground and set the background's to 1: small lesions gain
        what large ones lose, and false positives cost as much as without weights. Where there are no lesions, in the
        patch or in the case as the scope is, weights are 1, with or without it.
    """

    scope: str = "patch"
    power: float = 1.0
    w_min: float = 1.0
    w_max: float = 2e5
    normalise: bool = False

    def __post_init__(self) -> None:
        if self.scope not in SCOPES:
            raise ValueError(f"Expected scope to be one of {SCOPES}, but got {self.scope!r}.")
        if not 0 <= self.w_min <= self.w_max or not self.w_max:
            raise ValueError(f"Expected 0 <= w_min <= w_max and w_max > 0, but got {self.w_min} and {self.w_max}.")
        check_options(power=self.power)

    def weights(self, inputs: LossInputs) -> torch.Tensor:
        """(B, 1, ...) weights, (B, R, ...) for regions; float32, no gradient."""
        with torch.no_grad():
            ids = inputs.lesion_ids
            voxels = self._voxels_in_patch(inputs, ids) if self.scope == "patch" else self._voxels_in_case(inputs, ids)
            return self._table(voxels).gather(2, ids.flatten(2)).view(ids.shape)

    def formula(self) -> str:
        weight = "N / ((K + 1) V)" if self.power == 1 else f"(N / ((K + 1) V))^{self.power:g}"
        scaled = ", mean 1 over the foreground" if self.normalise else ""
        return f"w = {weight} per {self.scope} in [{self.w_min:g}, {self.w_max:g}]{scaled}"

    def _table(self, voxels: torch.Tensor) -> torch.Tensor:
        """(B, G, K + 1) weight per component from its number of voxels, index 0 being the background."""
        total = voxels.sum(2, keepdim=True)
        lesions = (voxels[..., 1:] > 0).sum(2, keepdim=True)
        # Ids may have no voxel: lesions outside the patch, and the padding of shorter tables.
        weights = ((total / ((lesions + 1) * voxels.clamp_min(1))) ** self.power).clamp(self.w_min, self.w_max)
        if self.normalise:
            in_lesions = voxels[..., 1:].sum(2, keepdim=True)
            weights = weights * in_lesions / (weights * voxels)[..., 1:].sum(2, keepdim=True)
            weights[..., 0].fill_(1)
        return torch.where(lesions > 0, weights, 1.0)

    @staticmethod
    def _voxels_in_patch(inputs: LossInputs, ids: torch.Tensor) -> torch.Tensor:
        # Counted in integers: float32 stops counting at 2^24 voxels.
        one = torch.ones((), dtype=torch.int64, device=ids.device)
        sums = ById(ids, inputs.lesion_table.shape[2]).sums
        return sums(one if inputs.mask is None else one * inputs.mask).float()

    @staticmethod
    def _voxels_in_case(inputs: LossInputs, ids: torch.Tensor) -> torch.Tensor:
        table = inputs.lesion_table.float()
        voxels = table[:, :1].repeat(1, ids.shape[1], 1)
        if inputs.regions:
            channels = torch.arange(ids.shape[1], device=ids.device).view(1, -1, 1)
            voxels = torch.where(table[:, 1:] == channels, voxels, 0)
        voxels[..., 0] = table[:, :1, 0] - voxels[..., 1:].sum(2)
        return voxels


class ReweightedLoss(SegmentationLoss):
    """A loss whose voxels may be weighted.

    Parameters
    ----------
    reweight : "inverse_volume", optional
        Weights by lesion size; without it all voxels weigh 1.
    scope, power, w_min, w_max, normalise
        Of the weights, see `InverseVolume`.
    """

    def __init__(
        self,
        reweight: str | None = None,
        scope: str = "patch",
        power: float = 1.0,
        w_min: float = 1.0,
        w_max: float = 2e5,
        normalise: bool = False,
        **heads: Any,
    ):
        super().__init__(**heads)
        if reweight not in (None, "inverse_volume"):
            raise ValueError(f"Expected reweight to be 'inverse_volume' or None, but got {reweight!r}.")
        weighting = InverseVolume(scope, power, w_min, w_max, normalise)
        if reweight is None and weighting != InverseVolume():
            raise ValueError("Expected reweight='inverse_volume' with scope, power, w_min, w_max or normalise.")
        self.weighting = weighting if reweight else None
        if self.weighting:
            self.kinds = (*self.kinds, LESION_IDS)

    def weights(self, inputs: LossInputs) -> torch.Tensor | None:
        """(B, 1 or R, ...); shared by all terms of a compound that weigh alike."""
        if self.weighting is None:
            return None
        if self.weighting not in inputs.shared:
            inputs.shared[self.weighting] = self.weighting.weights(inputs)
        return inputs.shared[self.weighting]

    def known_weights(self, inputs: LossInputs) -> torch.Tensor | None:
        """As `weights`, 0 in ignored voxels; None where every voxel weighs 1."""
        weights = self.weights(inputs)
        if inputs.mask is None:
            return weights
        return inputs.mask.to(inputs.dtype) if weights is None else weights * inputs.mask

    def mean(self, inputs: LossInputs, values: torch.Tensor) -> torch.Tensor:
        """Mean of w times (B, C, ...) values over batch, channels and labelled voxels."""
        weights = self.weights(inputs)
        return inputs.mean(values if weights is None else values * weights)

    def formula(self) -> str:
        return (
            f"{self.unweighted_formula()}, {self.weighting.formula()}" if self.weighting else self.unweighted_formula()
        )

    @abstractmethod
    def unweighted_formula(self) -> str:
        """`formula` without what the weights are."""

    @property
    def w(self) -> str:
        """The factor of a weighted voxel in a formula."""
        return "w " if self.weighting else ""
