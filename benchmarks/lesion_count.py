"""Does a per-lesion loss cost more with more lesions? 5 and 500 of them in a 128^3 patch, forward and backward."""

from __future__ import annotations

from functools import partial

from benchmarks.harness import seconds_in_turns
from benchmarks.patches import cube_batch, loss_and_gradient
from nnunet_rw.losses import build

SIZE = 128
COUNTS = (5, 500)
LOSSES = {"blob": {}, "cc_dice_ce": {}, "dice": {"reweight": "inverse_volume", "scope": "case"}}


def run() -> list[dict]:
    batches = {count: cube_batch(SIZE, count) for count in COUNTS}
    rows = []
    for name, options in LOSSES.items():
        loss = build(name, **options)
        steps = {str(count): partial(loss_and_gradient, loss, batch, batch.maps) for count, batch in batches.items()}
        seconds = seconds_in_turns(steps)
        few, many = (seconds[str(count)] for count in COUNTS)
        rows.append({"loss": name, **{f"seconds_{count}_lesions": seconds[str(count)] for count in COUNTS}})
        rows[-1]["ratio"] = many / few
    return rows
