"""What is measured on a GPU; with ``pretend`` the same, tiny."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.child import CHECKOUT
from benchmarks.on_gpu.prepare import PRETEND_PLANS
from nnunet_rw.util.files import environment

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
    """The tests marked cuda but for the agreement, a part of its own; without a GPU their skipping is seen."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-n", "0", "-q", "-p", "no:cacheprovider", "tests/losses"]
    command += ["-k", "not agreement"]
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
    """Short epochs of each, of which the first compiles: time, loader's wait, memory, waits for the GPU.

    In one process: what torch compiles and cuDNN chooses for the network of one, which takes a minute and more, serves
    the others.
    """
    length = (2, 2, 1) if pretend else (3, 24, 3)
    stock: dict[str, Any] | None = None
    with nnunet_folders(data):
        from benchmarks.on_gpu.epochs import relative_to_stock, trained

        for trainer in TRAINERS:
            try:
                row = {"trainer": trainer, **trained(trainer, str(EPOCHS_OF), plans_of(device), device, *length)}
            except Exception as error:  # the others still count
                write({"trainer": trainer, "failed": f"{type(error).__name__}: {error}"[-4000:]})
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
    with nnunet_folders(data):
        from benchmarks.on_gpu.epochs import trained

        for trainer in ("RWTrainer_RRW", "nnUNetTrainer"):
            write({"trainer": trainer, **trained(trainer, str(TRAINING_OF), plans_of(device), device, *length)})


@contextmanager
def nnunet_folders(data: Path | None) -> Iterator[None]:
    """nnU-Net's folders for what is imported within: ``data``, and results that are thrown away."""
    if data is None:
        raise SystemExit("No --data: give the nnUNet_preprocessed of `python -m benchmarks.on_gpu.prepare`.")
    with (
        tempfile.TemporaryDirectory() as root,
        environment(nnUNet_raw=root, nnUNet_results=root, nnUNet_preprocessed=str(data.resolve())),
    ):
        yield


def plans_of(device: str) -> str:
    """Those of `prepare`: nnU-Net's own, or for a trial on a CPU a tiny network's."""
    return "nnUNetPlans" if device == "cuda" else PRETEND_PLANS
