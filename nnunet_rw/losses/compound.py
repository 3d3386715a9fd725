"""Weighted sums of losses, weights that change from epoch to epoch, and such a sum in the place of nnU-Net's loss."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate

from nnunet_rw.losses.base import SegmentationLoss
from nnunet_rw.losses.distance_transform import Spacing
from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.store.layout import LESION_TABLE

Schedule = Callable[[int, int], float]

# Of the weight of a region term (Dice, cross-entropy) that has given way to a boundary term, in both papers.
_LEAST = 0.01


def gradual_region(epoch: int, num_epochs: int) -> float:
    """max(1 - 3 t, 0.01): Valverde & Tohka, arXiv 2108.01405, "gradual", over the first 100 of their 300 epochs."""
    return max(1 - 3 * epoch / num_epochs, _LEAST)


def gradual_boundary(epoch: int, num_epochs: int) -> float:
    """1 - `gradual_region`."""
    return 1 - gradual_region(epoch, num_epochs)


def falling(epoch: int, num_epochs: int) -> float:
    """1 - `rising`: a region term that gives way over the whole training."""
    return 1 - rising(epoch, num_epochs)


def rising(epoch: int, num_epochs: int) -> float:
    """From 0.01 in the first epoch to 0.99 in the last: Kervadec's "rebalance" stretched over the training."""
    last = max(1, num_epochs - 1)
    return _LEAST + (1 - 2 * _LEAST) * min(1.0, epoch / last)


def ramp_up(epoch: int, num_epochs: int) -> float:
    """From 0 to 1 over the first fifth of the training, for a term whose gradient is large at the start."""
    return min(1.0, 5 * epoch / num_epochs)


def rebalance_region(epoch: int, num_epochs: int) -> float:
    """1 - `rebalance_boundary`."""
    return 1 - rebalance_boundary(epoch, num_epochs)


def rebalance_boundary(epoch: int, num_epochs: int) -> float:
    """0.01, and 0.01 more every epoch up to 0.99, however long the training: Kervadec et al., arXiv 1812.07032."""
    return min(0.01 * (epoch + 1), 0.99)


def increase_boundary(epoch: int, num_epochs: int) -> float:
    """0.01, and 0.01 more every epoch: Kervadec et al., arXiv 1812.07032, "increase"; the region term stays at 1."""
    return 0.01 * (epoch + 1)


SCHEDULES: dict[str, Schedule] = {
    function.__name__: function
    for function in (
        gradual_region,
        gradual_boundary,
        falling,
        rising,
        ramp_up,
        rebalance_region,
        rebalance_boundary,
        increase_boundary,
    )
}


def weight_at(weight: float | str, epoch: int, num_epochs: int) -> float:
    """The weight itself, or that of the named schedule, which a number and a star may scale: "0.1 * ramp_up".

    Raises
    ------
    ValueError
        No schedule has that name, its scale or the number is none from 0 on, or the training has no epoch.
    """
    if not isinstance(weight, str):
        return _checked(float(weight), weight)
    if num_epochs < 1:
        raise ValueError(f"Expected a training of at least one epoch, but got {num_epochs}.")
    factor, star, name = weight.rpartition("*")
    name = name.strip()
    if name not in SCHEDULES:
        raise ValueError(f"Unknown schedule {weight!r}. Known: {', '.join(SCHEDULES)}.")
    try:
        scale = float(factor) if star else 1.0
    except ValueError:
        raise ValueError(f"Expected a number before the star of a schedule, but got {weight!r}.") from None
    return _checked(scale, weight) * SCHEDULES[name](epoch, num_epochs)


def _checked(number: float, weight: float | str) -> float:
    # Below 0 a loss would be learned the wrong way round.
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"Expected a weight, or the scale of a schedule, of at least 0, but got {weight!r}.")
    return number


@dataclass(frozen=True)
class Term:
    """One term of a compound loss.

    Attributes
    ----------
    loss : str
        Name for `nnunet_rw.losses.build`.
    weight : float or str
        A number, or the name of a schedule of `nnunet_rw.losses.compound`, scaled or not: "0.1 * ramp_up".
    options : dict
        Of the loss.
    """

    loss: str
    weight: float | str = 1.0
    options: dict[str, Any] = field(default_factory=dict)


class CompoundLoss(SegmentationLoss):
    """Sum of weighted losses. Probabilities, one-hot target and lesion weights are computed once for all of them.

    Parameters
    ----------
    terms : sequence of (name, weight, loss)
        Names must differ; they head the terms' curves in the training log. Weights are numbers or names of schedules.

    Examples
    --------
    >>> from nnunet_rw.losses import build
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> loss = build("compound", terms=(("ce", 1.0), ("dice", 3.0)))
    >>> round(loss(logits, target).item(), 4)  # -log 0.5 + 3 / 3
    1.6931
    """

    def __init__(self, terms: Sequence[tuple[str, float | str, SegmentationLoss]], **heads: Any):
        super().__init__(**heads)
        names = [name for name, _, _ in terms]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Expected terms with names that differ, but got {names}.")
        self.terms = {name: loss for name, _, loss in terms}
        self.registered = nn.ModuleList(self.terms.values())
        self.term_weights = {name: weight for name, weight, _ in terms}
        self.kinds = tuple(dict.fromkeys(kind for _, _, loss in terms for kind in loss.kinds))
        self.last_terms: dict[str, torch.Tensor] = {}
        self.set_epoch(0, 1)

    def set_epoch(self, epoch: int, num_epochs: int) -> None:
        """Move the schedules to an epoch, counted from 0, of a training of ``num_epochs``."""
        self.current_weights = {
            name: weight_at(weight, epoch, num_epochs) for name, weight in self.term_weights.items()
        }
        for loss in self.terms.values():
            if isinstance(loss, CompoundLoss):
                loss.set_epoch(epoch, num_epochs)

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        total = torch.zeros((), dtype=inputs.dtype, device=inputs.device)
        self.last_terms = {}
        for name, loss in self.terms.items():
            value = loss.compute(inputs)
            self.last_terms[name] = value.detach()
            total = total + self.current_weights[name] * value
        return total

    def formula(self) -> str:
        return " + ".join(
            f"{weight if isinstance(weight, str) else format(weight, 'g')} * {name}[{self.terms[name].formula()}]"
            for name, weight in self.term_weights.items()
        )


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
