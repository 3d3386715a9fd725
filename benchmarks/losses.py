"""Forward and backward of a loss of 2 x 3 x 128^3 logits, beside nnU-Net's own Dice + cross-entropy: time and memory.

The maps are given, as a loader with stored maps gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from benchmarks.harness import seconds_in_turns
from benchmarks.memory import peak_mib
from benchmarks.patches import loss_and_gradient, organ_batch
from nnunet_rw.losses import CompoundLoss, Term, build
from nnunet_rw.losses.deep_supervision import StockLoss

STOCK = "nnU-Net's Dice + CE"
RRW, IW_DICE_CE, WITH_RRW = "RRW", "IW-Dice + IW-CE", "nnU-Net's Dice + CE + RRW"
_BALANCED = {"reweight": "inverse_volume", "power": 0.5, "normalise": True}


def run(device: str = "cpu", size: int = 128, rounds: int = 7) -> list[dict[str, Any]]:
    batch = organ_batch(size).to(device)
    steps: dict[str, Callable[[], Any]] = {STOCK: partial(loss_and_gradient, stock_loss(), batch)}
    for name, loss in {RRW: build("rrw"), IW_DICE_CE: iw_dice_ce(), WITH_RRW: with_rrw()}.items():
        steps[name] = partial(loss_and_gradient, loss, batch, batch.maps)
    peaks = {name: peak_mib(step, device) for name, step in steps.items()}
    seconds = seconds_in_turns(steps, rounds)
    return [
        {
            "loss": name,
            "seconds": seconds[name],
            "seconds_of_stock": seconds[name] / seconds[STOCK],
            "peak_mib": peaks[name],
            "peak_of_stock": peaks[name] / peaks[STOCK],
        }
        for name in steps
    ]


def stock_loss() -> nn.Module:
    """nnU-Net's loss of exclusive classes, with the options that its trainer gives it."""
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    return DC_and_CE_loss(dice, {}, weight_ce=1, weight_dice=1, dice_class=MemoryEfficientSoftDiceLoss)


def iw_dice_ce() -> CompoundLoss:
    """The loss of RWTrainer_IWDiceCE."""
    return build("compound", terms=[Term("dice", 1.0, {**_BALANCED, "smooth": 1e-5}), Term("ce", 1.0, _BALANCED)])


def with_rrw() -> CompoundLoss:
    """The loss of RWTrainer."""
    return CompoundLoss([("nnunet", 1.0, StockLoss(stock_loss())), ("rrw", 1.0, build("rrw"))])
