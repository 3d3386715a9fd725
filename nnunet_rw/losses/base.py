"""The interface of every loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from nnunet_rw.losses.distance_transform import Spacing
from nnunet_rw.losses.inputs import LossInputs


class SegmentationLoss(nn.Module, ABC):
    """A loss that works alone and as a term of a compound.

    Subclasses implement `compute` and name in `kinds` the maps that they need.

    Parameters
    ----------
    regions : bool
        Heads are overlapping regions (sigmoid) instead of exclusive classes (softmax).
    ignore_label : int, optional
        Label of unlabelled voxels; they count in no loss. With ``regions`` any integer, the target's last channel
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
