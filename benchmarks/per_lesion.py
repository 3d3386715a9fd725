"""Losses that are a mean over lesions, beside a loop over 200 lesions: forward and backward of a 128^3 patch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.harness import seconds_in_turns
from benchmarks.patches import cube_batch, loss_and_gradient
from benchmarks.reference_lesion_losses import blob_by_loop, cc_dice_ce_by_loop
from nnunet_rw.losses import build

REFERENCES = {"blob": blob_by_loop, "cc_dice_ce": cc_dice_ce_by_loop}


def run(size: int = 128, num_lesions: int = 200, rounds: int = 3) -> list[dict[str, Any]]:
    batch = cube_batch(size, num_lesions)
    rows = []
    for name, reference in REFERENCES.items():
        steps = {
            "ours": partial(loss_and_gradient, build(name), batch, batch.maps),
            "loop": partial(loss_and_gradient, reference, batch, batch.maps),
        }
        (value, gradient), (expected, expected_gradient) = (step() for step in steps.values())
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-3, atol=1e-8)
        seconds = seconds_in_turns(steps, rounds)
        rows.append(
            {
                "loss": name,
                "lesions": num_lesions,
                "seconds": seconds["ours"],
                "loop_seconds": seconds["loop"],
                "times_faster": seconds["loop"] / seconds["ours"],
            }
        )
    return rows
