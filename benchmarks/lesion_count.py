"""Does a per-lesion loss cost more with more lesions? 5 and 500 of them in a 128^3 patch, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from benchmarks.harness import seconds_in_turns
from nnunet_rw.layout import lesion_table_tensor
from nnunet_rw.losses import build
from nnunet_rw.maps.kinds import LESION_IDS, LabelScheme, compute_lesion_ids

SIZE = 128
COUNTS = (5, 500)
LOSSES = {"blob": {}, "cc_dice_ce": {}, "dice": {"reweight": "inverse_volume", "scope": "case"}}


def run() -> list[dict]:
    patches = {count: _patch(count) for count in COUNTS}
    logits = torch.randn(1, 2, SIZE, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    rows = []
    for name, options in LOSSES.items():
        steps = {str(count): _step(name, options, logits, *patches[count]) for count in COUNTS}
        seconds = seconds_in_turns(steps)
        few, many = (seconds[str(count)] for count in COUNTS)
        rows.append({"loss": name, **{f"seconds_{count}_lesions": seconds[str(count)] for count in COUNTS}})
        rows[-1]["ratio"] = many / few
    return rows


def _patch(count: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Cubes of 3 voxels on a grid: target and carried maps."""
    labels = np.zeros((SIZE, SIZE, SIZE), np.uint8)
    places = np.argwhere(np.ones((15, 15, 15)))
    for place in np.random.default_rng(0).permutation(places)[:count]:
        x, y, z = 8 * place + 4
        labels[x : x + 3, y : y + 3, z : z + 3] = 1
    ids, table = compute_lesion_ids(labels, LabelScheme.classes(2))
    assert len(table) == count
    maps = {
        LESION_IDS: torch.from_numpy(ids.astype(np.float32))[None],
        "lesion_table": lesion_table_tensor(table)[None],
    }
    return torch.from_numpy(labels.astype(np.int64))[None, None], maps


def _step(
    name: str, options: dict, logits: torch.Tensor, target: torch.Tensor, maps: dict[str, torch.Tensor]
) -> Callable[[], None]:
    loss = build(name, **options)

    def step() -> None:
        leaf = logits.clone().requires_grad_()
        loss(leaf, target, maps).backward()

    return step
