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

from benchmarks import losses
from benchmarks.harness import write_result
from benchmarks.on_gpu import agreement, distance, epochs
from benchmarks.targets import Target, targets_of


def run(dataset: str | None = None) -> list[dict[str, Any]]:
    """A row per target; ``dataset`` as of `epochs.run`."""
    if not torch.cuda.is_available():
        print("There is no GPU that torch can use: nothing was measured.", file=sys.stderr)
        raise SystemExit(2)
    return measured(
        {
            "gpu_distance": distance.run,
            "gpu_agreement": agreement.run,
            "gpu_losses": partial(losses.run, "cuda"),
            "gpu_epochs": partial(epochs.run, dataset),
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
        rows += _checks(results) if name == "gpu_agreement" else targets_of(name, results)
    return rows


def _checks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each check has a tolerance of its own."""
    return [
        Target(row["check"], "gpu_agreement", "largest_difference", row["tolerance"]).row([row])
        if "failed" not in row
        else {"figure": row["check"], "failed": row["failed"]}
        for row in rows
    ]
