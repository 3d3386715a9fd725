"""Weighted sums of losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nnunet_rw.losses.base import SegmentationLoss
from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.losses.schedules import weight_at


@dataclass(frozen=True)
class Term:
    """One term of a compound loss.

    Attributes
    ----------
    loss : str
        Name for `nnunet_rw.losses.build`.
    weight : float or str
        A number, or the name of a schedule of `nnunet_rw.losses.schedules`, scaled or not: "0.1 * ramp_up".
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
        """Move the schedules to an epoch, counted from 0, of a training of so many."""
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
