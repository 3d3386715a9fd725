"""What is written down of a training in nnU-Net's fold folder: ``run.json`` and ``iterations.csv``."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from pydantic import BeforeValidator, Field, TypeAdapter

import nnunet_rw
from nnunet_rw.util.files import named, write_atomically
from nnunet_rw.util.readers import read_json, told

ITERATIONS_FILE = "iterations.csv"
_ADVICE = "Remove the training's folder and train again."
COLUMNS = ("epoch", "iteration", "loss", "gradient_norm", "loader_wait_seconds")


def append_iterations(folder: str | Path, rows: Iterable[Sequence[float]]) -> None:
    """Add rows of `COLUMNS`, to be followed by the record that tells of their epoch."""
    path = Path(folder) / ITERATIONS_FILE
    with named(path), open(path, "a", encoding="utf-8", newline="") as file:
        file.writelines(",".join(map(str, row)) + "\n" for row in rows)
        file.flush()
        os.fsync(file.fileno())


def keep_iterations(folder: str | Path, epochs: Container[int]) -> None:
    """Make the file, and leave in it only the rows of some epochs."""
    path = Path(folder) / ITERATIONS_FILE
    rows = _rows_of(path, epochs) if path.is_file() else []
    write_atomically(path, "".join(f"{row}\n" for row in (",".join(COLUMNS), *rows)).encode())


def iterations_of(folder: str | Path, epochs: Container[int]) -> dict[str, np.ndarray]:
    """Columns (N,) float64 of the rows of some epochs.

    Raises
    ------
    FileNotFoundError, DamagedFile
        There is no file, or it is damaged.
    """
    path = Path(folder) / ITERATIONS_FILE
    rows = [row.split(",") for row in _rows_of(path, epochs)]
    with told(path, _ADVICE):
        values = np.array(rows, dtype=np.float64).reshape(-1, len(COLUMNS))
    return dict(zip(COLUMNS, values.T, strict=True))


def _rows_of(path: Path, epochs: Container[int]) -> list[str]:
    # A process that is killed may leave half a row, which has no end.
    with told(path, _ADVICE):
        rows = path.read_text(encoding="utf-8").split("\n")[1:-1]
        return [row.rstrip("\r") for row in rows if int(row.partition(",")[0]) in epochs]


RUN_FILE = "run.json"

# JSON has no NaN: it is null there, as is infinity.
_Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]


@dataclass(frozen=True)
class Git:
    """The checkout that the package was run from.

    Attributes
    ----------
    commit : str
    changed : bool
        Whether files of the package or of the trainers were not as in that commit.
    """

    commit: str
    changed: bool


@dataclass(frozen=True)
class Session:
    """One start of the training; ``--c`` adds another.

    Attributes
    ----------
    started : str
        ISO 8601, UTC.
    first_epoch : int
    device, device_name : str
        "cpu" or "cuda", and which.
    num_gpus : int
        As given to nnU-Net: 1 on a CPU.
    cpu_count : int
        That the process may use.
    versions : dict of package to version
        "cuda" is None where torch has none.
    git : Git, optional
        None where the package was installed otherwise.
    """

    started: str
    first_epoch: int
    device: str
    device_name: str
    num_gpus: int
    cpu_count: int
    versions: dict[str, str | None]
    git: Git | None


@dataclass(frozen=True)
class Epoch:
    """One epoch. Non-finite numbers are NaN.

    Attributes
    ----------
    epoch : int
        From 0.
    seconds : float
        Training and validation iterations, without checkpoints and figures.
    loader_wait_seconds : float
        Of `seconds`, how long the training iterations waited for their patches.
    peak_host_mib : float
        Largest resident size so far of the process, or of its largest child that has ended; loading workers, which
        still run, are not counted. NaN on Windows.
    peak_gpu_mib, peak_gpu_reserved_mib : float, optional
        Most memory of this epoch's tensors, and most that torch held for them, on the (first) GPU; None on a CPU.
    train_loss, val_loss, pseudo_dice, learning_rate : float
        As in nnU-Net's log.
    """

    epoch: int
    seconds: float
    loader_wait_seconds: float
    peak_host_mib: _Number
    peak_gpu_mib: float | None
    train_loss: _Number
    val_loss: _Number
    pseudo_dice: _Number
    learning_rate: float
    peak_gpu_reserved_mib: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """A training.

    Attributes
    ----------
    trainer, class_name : str
        Without and with length and seed.
    seed : int
    dataset, configuration, plans : str
    fold : int or "all"
    num_epochs, iterations_per_epoch : int
    batch_size : int
        Of all GPUs together.
    patch_size : tuple of int
    num_parameters : int
        Of the network.
    loss : str
    optimizer : str
        With its settings, as "SGD, lr 0.01, momentum 0.99, Nesterov, weight decay 3e-05, poly"; "" in older records.
    plans_sha256, splits_sha256 : str
        `content_hash` of the plans and of splits_final.json; the latter None where there is no such file.
    sessions : tuple of Session
        Those whose epochs are kept, and the present one.
    epochs : tuple of Epoch
    validation_seconds : float, optional
        Of nnU-Net's validation after the last epoch; None before it.
    validation_tta : bool, optional
        Whether that mirrored each case (test-time augmentation); None before it, and in older records, which did.
    version : 1
        Of the format.
    """

    version: Literal[1] = 1
    trainer: str
    class_name: Annotated[str, Field(alias="class")]
    seed: int
    dataset: str
    configuration: str
    plans: str
    fold: int | str
    num_epochs: int
    iterations_per_epoch: int
    batch_size: int
    patch_size: tuple[int, ...]
    num_parameters: int
    loss: str
    optimizer: str = ""
    plans_sha256: str
    splits_sha256: str | None
    sessions: tuple[Session, ...]
    epochs: tuple[Epoch, ...]
    validation_seconds: float | None = None
    validation_tta: bool | None = None

    @property
    def finished(self) -> bool:
        """Whether all epochs are there."""
        return [epoch.epoch for epoch in self.epochs] == list(range(self.num_epochs))


_ADAPTER = TypeAdapter(RunRecord)


def read_run_record(folder: str | Path) -> RunRecord | None:
    """The record in a fold folder, or None where there is none.

    Raises
    ------
    ValueError
        It is damaged.
    """
    path = Path(folder) / RUN_FILE
    try:
        with told(path, "Move it elsewhere: without it the training counts, but nothing is known of it."):
            return _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None


def write_run_record(folder: str | Path, record: RunRecord) -> None:
    """Write the record; what was there before is replaced at once or not at all."""
    write_atomically(Path(folder) / RUN_FILE, _ADAPTER.dump_json(record, by_alias=True, indent=2) + b"\n")


def read_iterations(folder: str | Path) -> dict[str, np.ndarray]:
    """The training iterations of the epochs that the record tells of.

    Returns
    -------
    dict of column to (N,) float64
        "epoch", "iteration" (within the epoch, from 0), "loss" (with several GPUs, the first one's), "gradient_norm"
        (before clipping) and "loader_wait_seconds". In mixed precision the norm is infinite or NaN in the iterations
        that nnU-Net skips; it is NaN throughout where a trainer does not clip.

    Raises
    ------
    FileNotFoundError
        A file is missing.
    ValueError
        A file is damaged.
    """
    record = read_run_record(folder)
    if record is None:
        raise FileNotFoundError(f"No {RUN_FILE} in {folder}. Trainings with a seed have one: -tr nnUNetTrainer_seed0")
    # Rows of an epoch are written before its entry in run.json: those of one that was cut short are left out.
    return iterations_of(folder, {epoch.epoch for epoch in record.epochs})


def other_than_recorded(record: RunRecord, loss: str, optimizer: str) -> tuple[str, str] | None:
    """What was recorded, and what there is, where a training's loss or optimiser is another; None where neither is.

    An empty optimiser, of an older record, is SGD with whatever settings: there was no choice.
    """
    if record.loss != loss:
        return f"the loss {record.loss}", f"the loss {loss}"
    before, now = record.optimizer or "SGD", optimizer or "SGD"
    told = bool(record.optimizer and optimizer)
    same = before == now if told else before.partition(",")[0] == now.partition(",")[0]
    return None if same else (before, now)


def content_hash(path: str | Path) -> str | None:
    """SHA-256 of what a JSON file says, however it is laid out; None where there is no such file.

    Raises
    ------
    DamagedFile
        It says nothing.
    """
    return json_hash(read_json(path, "Restore it.", Any)) if Path(path).is_file() else None


def json_hash(content: Any) -> str:
    """SHA-256 of what can be written as JSON. Of nnU-Net's plans, whether to continue is left out."""
    if isinstance(content, dict):
        content = {key: value for key, value in content.items() if key != "continue_training"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

_ROOT = Path(nnunet_rw.__file__).resolve().parents[1]
_PACKAGES = ("nnunetv2", "batchgenerators", "batchgeneratorsv2", "dynamic_network_architectures", "numpy")


def this_session(first_epoch: int, device: torch.device) -> Session:
    """The session that begins now."""
    return Session(
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        first_epoch=first_epoch,
        device=device.type,
        device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name(),
        num_gpus=dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1,
        cpu_count=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        versions={
            "nnunet_rw": nnunet_rw.__version__,
            **{package: version(package) for package in _PACKAGES},
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda,
            "python": platform.python_version(),
        },
        git=git_state(_ROOT),
    )


def git_state(root: Path) -> Git | None:
    """Commit of a checkout; None where the folder is none, or git is not installed or refuses to say."""
    found = _git(root, "rev-parse", "--show-toplevel", "HEAD")
    if found is None:
        return None
    toplevel, commit = found.splitlines()
    # An installed package may lie in an environment within somebody else's checkout.
    if Path(toplevel).resolve() != root.resolve():
        return None
    status = _git(root, "status", "--porcelain", "--", "nnunet_rw", "trainers")
    return None if status is None else Git(commit, changed=bool(status))


def peak_host_mib() -> float:
    """Largest resident size so far of this process, or of its largest child that has ended.

    Children that still run, such as nnU-Net's loading workers, are not counted: the system tells of them when they end.
    NaN on Windows.
    """
    if resource is None:
        return math.nan
    # No sum: a child's size begins with that of the process it was split from.
    sizes = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    per_mib = 2**20 if sys.platform == "darwin" else 2**10
    return max(sizes) / per_mib


def _git(root: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
