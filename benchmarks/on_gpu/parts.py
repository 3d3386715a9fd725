"""What is measured on a GPU; with ``pretend`` the same, tiny."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.child import CHECKOUT, in_child
from benchmarks.on_gpu.epochs import relative_to_stock
from benchmarks.on_gpu.prepare import PRETEND_PLANS

Write = Callable[[dict[str, Any]], None]

TRAINERS = (
    "nnUNetTrainer",
    "RWTrainer",
    "RWTrainer_SmallLesions",
    "RWPatchTrainer",
    "RWTrainer_CCDiceCE",
    "RWTrainer_HausdorffDT",
)
# Of the two datasets of `prepare`: many small lesions for the epochs, the hippocampus for what is trained on.
EPOCHS_OF, TRAINING_OF = 51, 4


def tests(device: str, data: Path | None, pretend: bool, write: Write) -> None:
    """The tests marked cuda; without a GPU they are skipped, which is seen here too."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-n", "0", "-q", "-p", "no:cacheprovider", "tests/losses"]
    done = subprocess.run(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout)
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    write({"exit_code": done.returncode, **counts, "tail": done.stdout[-2000:]})
    if done.returncode:
        raise SystemExit(done.returncode)


def distance(device: str, data: Path | None, pretend: bool, write: Write) -> None:
    from benchmarks.on_gpu.distance import run

    for row in run(device, *((16, 1) if pretend else ())):
        write(row)


def losses_of_targets(device: str, data: Path | None, pretend: bool, write: Write) -> None:
    from benchmarks import losses

    for row in losses.run(device, *((16, 1) if pretend else ())):
        write(row)


def every_loss(device: str, data: Path | None, pretend: bool, write: Write) -> None:
    """Each beside nnU-Net's own, of half-precision logits, as a training with mixed precision hands them over."""
    from benchmarks import losses

    losses.every_loss(device, *((16, 1) if pretend else (128, 5)), write=write)


def epochs(device: str, data: Path | None, pretend: bool, write: Write) -> None:
    """Two short epochs of each, of which the first compiles: time, loader's wait, memory, waits for the GPU."""
    stock: dict[str, Any] | None = None
    length = (2, 2, 2) if pretend else (2, 40, 15)
    for trainer in TRAINERS:
        try:
            row = trained(trainer, EPOCHS_OF, device, data, *length)
        except RuntimeError as error:  # its process's; the others still count
            write({"trainer": trainer, "failed": str(error)})
            continue
        if trainer == TRAINERS[0]:
            stock = row
        write(relative_to_stock(row, stock) if stock else row)


def agreement(device: str, data: Path | None, pretend: bool, write: Write) -> None:
    from benchmarks.on_gpu.agreement import checked

    for row in checked(device):
        write(row)


def training(device: str, data: Path | None, pretend: bool, write: Write) -> None:
    """As many epochs as there is time for: curves of the region-wise loss alone and of stock nnU-Net, in turns."""
    length = (2, 2, 1) if pretend else (10, 100, 1)
    for trainer in ("RWTrainer_RRW", "nnUNetTrainer"):
        write(trained(trainer, TRAINING_OF, device, data, *length))


def trained(
    trainer: str, dataset: int, device: str, data: Path | None, epochs: int, iterations: int, repeats: int
) -> dict[str, Any]:
    """A training of nnU-Net's stock plans of a dataset of `prepare`, in a process of its own."""
    if data is None:
        raise SystemExit("No --data: give the nnUNet_preprocessed of `python -m benchmarks.on_gpu.prepare`.")
    with tempfile.TemporaryDirectory() as root:
        environment = {"nnUNet_raw": root, "nnUNet_results": root, "nnUNet_preprocessed": str(data.resolve())}
        plans = "nnUNetPlans" if device == "cuda" else PRETEND_PLANS
        arguments = [trainer, str(dataset), plans, device, epochs, iterations, repeats]
        return {"trainer": trainer, **in_child("benchmarks.on_gpu.epochs", "trained", arguments, environment)}
