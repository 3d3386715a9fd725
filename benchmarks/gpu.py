"""All that takes a GPU: distances, losses, agreement with the CPU, and epochs; each also to a file of its own.

What fails is told and left out, so that one command on a machine seen once brings back all that can be measured there.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from benchmarks import gpu_agreement, gpu_distance, gpu_epochs, losses
from benchmarks.harness import write_result


def run(dataset: str | None = None) -> list[dict[str, Any]]:
    """A row per target; ``dataset`` as of `gpu_epochs.run`."""
    if not torch.cuda.is_available():
        print("There is no GPU that torch can use: nothing was measured.", file=sys.stderr)
        raise SystemExit(2)
    return measured(
        {
            "gpu_distance": gpu_distance.run,
            "gpu_agreement": gpu_agreement.run,
            "gpu_losses": partial(losses.run, "cuda"),
            "gpu_epochs": partial(gpu_epochs.run, dataset),
        }
    )


def measured(parts: dict[str, Callable[[], list[dict[str, Any]]]]) -> list[dict[str, Any]]:
    """Run the parts, write what each gives, and compare it with the targets."""
    rows = []
    for name, part in parts.items():
        try:
            results = part()
        except Exception as error:
            traceback.print_exc()
            rows.append({"figure": name, "failed": f"{type(error).__name__}: {error}"[:500]})
            continue
        # At once: a machine that is lent may be taken back before the next is done.
        print(f"{write_result(name, results)} written")
        rows += TARGETS[name](results)
    return rows


def target_row(figure: str, value: float, target: float, at_least: bool = False) -> dict[str, Any]:
    """A figure beside what it should be."""
    met = value >= target if at_least else value <= target
    return {"figure": figure, "measured": value, "target": target, "at_least": at_least, "met": met}


def _distance(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first = rows[0]
    return [
        target_row("exact distance transform of 2 x 3 x 128^3, ms", first["milliseconds"], 3),
        target_row("its largest error, voxels", first["largest_error_voxels"], 1e-3),
        target_row("times faster than SciPy", first["times_faster"], 300, at_least=True),
    ]


def _losses(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    targets = []
    for row in rows:
        if row["loss"] in losses.WITH_TARGET:
            targets.append(target_row(f"{row['loss']}: time of nnU-Net's loss", row["seconds_of_stock"], 1.0))
            targets.append(target_row(f"{row['loss']}: memory of nnU-Net's loss", row["peak_of_stock"], 1.1))
    return targets


def _agreement(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        target_row(row["check"], row["largest_difference"], row["tolerance"])
        if "failed" not in row
        else {"figure": row["check"], "failed": row["failed"]}
        for row in rows
    ]


def _epochs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    targets = []
    for row, limit in zip(rows[1:], (1.03, 1.05), strict=True):
        name = row["trainer"]
        targets.append(target_row(f"{name}: epoch of nnUNetTrainer's", row["epoch_seconds_of_stock"], limit))
        targets.append(target_row(f"{name}: peak memory of nnUNetTrainer's", row["peak_gpu_mib_of_stock"], 1.03))
    return targets


TARGETS: dict[str, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    "gpu_distance": _distance,
    "gpu_agreement": _agreement,
    "gpu_losses": _losses,
    "gpu_epochs": _epochs,
}
