"""Forward and backward of a loss of 2 x 3 x 128^3 logits, beside nnU-Net's own Dice + cross-entropy: time and memory.

The maps are given, as a loader with stored maps gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from benchmarks.harness import seconds_in_turns
from benchmarks.memory import peak_mib
from benchmarks.patches import Batch, loss_and_gradient, organ_batch
from nnunet_rw.losses import LOSSES, CompoundLoss, Term, build
from nnunet_rw.losses.compound import StockLoss
from nnunet_rw.maps.kinds import KINDS

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


def every_loss(device: str, size: int, rounds: int, write: Callable[[dict[str, Any]], None]) -> None:
    """A row for each loss of the package beside nnU-Net's own, of half-precision logits and with maps given.

    They take turns with nnU-Net's own, one after the other, so that each has its row as soon as it is measured; what
    fails is a row too.
    """
    whole = organ_batch(size, tuple(KINDS))
    dtype = torch.bfloat16 if device == "cpu" else torch.float16
    batch = Batch(whole.logits.to(dtype), whole.target, whole.maps).to(device)
    stock = partial(_mixed_precision, stock_loss(), batch)
    stock_peak = peak_mib(stock, device)
    for name in LOSSES:
        try:
            step = partial(_mixed_precision, build(name), batch, batch.maps)
            peak = peak_mib(step, device)
            seconds = seconds_in_turns({STOCK: stock, name: step}, rounds)
        except Exception as error:  # of a machine seen once: the others still count
            write({"loss": name, "failed": f"{type(error).__name__}: {error}"[:500]})
            continue
        write(
            {
                "loss": name,
                "seconds": seconds[name],
                "seconds_of_stock": seconds[name] / seconds[STOCK],
                "peak_mib": peak,
                "peak_of_stock": peak / stock_peak,
            }
        )


def _mixed_precision(loss: Callable[..., torch.Tensor], batch: Batch, *maps: Any) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.autocast(batch.logits.device.type, batch.logits.dtype):
        return loss_and_gradient(loss, batch, *maps)


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
