"""A compound loss in the place of nnU-Net's: called with outputs and targets only, on one scale or several."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import interpolate

from nnunet_rw.losses.base import SegmentationLoss
from nnunet_rw.losses.compound import CompoundLoss
from nnunet_rw.losses.distance_transform import Spacing
from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.store.layout import LESION_TABLE


class StockLoss(SegmentationLoss):
    """nnU-Net's own loss as a term of a compound; it sees logits and target as nnU-Net hands them over."""

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        return self.loss(inputs.raw_logits, inputs.raw_target)

    def formula(self) -> str:
        return type(self.loss).__name__


class MappedLoss(nn.Module):
    """A compound loss with the maps of the present batch bound to it.

    Parameters
    ----------
    loss : CompoundLoss
    scale_weights : sequence of float, optional
        One per deep-supervision output; a scale of weight 0 is not computed. Without it there is one output.
    spacing_mm : sequence of float, or (B, axes) tensor, optional
        Of the first output, for distances that a loss takes itself. The other outputs' voxels are larger.
    """

    def __init__(
        self,
        loss: CompoundLoss,
        scale_weights: Sequence[float] | None = None,
        spacing_mm: Spacing | None = None,
    ):
        super().__init__()
        self.loss = loss
        self.scale_weights = scale_weights
        self.spacing_mm = spacing_mm
        self.maps: dict[str, torch.Tensor] = {}
        self._history: dict[str, list[torch.Tensor]] = defaultdict(list)

    def forward(
        self, output: torch.Tensor | Sequence[torch.Tensor], target: torch.Tensor | Sequence[torch.Tensor]
    ) -> torch.Tensor:
        """Weighted sum over the scales; the maps are resampled to each output's shape on their own device.

        Maps that did not come with the batch are computed from the first target, on its device.
        """
        if self.scale_weights is None:
            value = self.loss(output, target, self.maps, self.spacing_mm)
            self._remember(self.loss.last_terms)
            return value
        maps = self._complete(output[0], target[0])
        total = output[0].new_zeros((), dtype=torch.float32)
        terms: dict[str, torch.Tensor] = {}
        for weight, logits, labels in zip(self.scale_weights, output, target, strict=True):
            if weight == 0:
                continue
            resampled = resample_maps(maps, logits.shape[2:])
            total = total + weight * self.loss(logits, labels, resampled, self._spacing(output[0], logits))
            for name, value in self.loss.last_terms.items():
                terms[name] = terms.get(name, 0) + weight * value
        self._remember(terms)
        return total

    def _complete(self, logits: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        inputs = LossInputs(logits, target, self.maps, self.spacing_mm, self.loss.regions, self.loss.ignore_label)
        return inputs.complete(self.loss.kinds)

    def pop_term_means(self) -> dict[str, float]:
        """Mean of every term, before its weight, over the calls since the last time."""
        means = {name: torch.stack(values).float().mean().item() for name, values in self._history.items()}
        self._history.clear()
        return means

    def _spacing(self, full: torch.Tensor, logits: torch.Tensor) -> Spacing | None:
        if self.spacing_mm is None:
            return None
        factors = [size / coarse for size, coarse in zip(full.shape[2:], logits.shape[2:], strict=True)]
        if isinstance(self.spacing_mm, torch.Tensor):
            return self.spacing_mm * torch.tensor(factors)
        return tuple(step * factor for step, factor in zip(self.spacing_mm, factors, strict=True))

    def _remember(self, terms: dict[str, torch.Tensor]) -> None:
        # Kept on the device: reading a value here would make every step wait for the GPU.
        for name, value in terms.items():
            self._history[name].append(value)


def resample_maps(maps: dict[str, torch.Tensor], shape: Sequence[int]) -> dict[str, torch.Tensor]:
    """Maps at the spatial shape of a deep-supervision output.

    Takes the same voxels as nnU-Net takes for the target (nearest-exact), so maps and target agree; distances keep
    their unit (mm), so a boundary is as far away on every scale.
    """
    return {
        kind: values
        if kind == LESION_TABLE or values.shape[2:] == tuple(shape)
        else interpolate(values, tuple(shape), mode="nearest-exact")
        for kind, values in maps.items()
    }
