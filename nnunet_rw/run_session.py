"""What a training runs on: device, memory, versions, commit."""

from __future__ import annotations

import math
import os
import platform
import subprocess
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch
import torch.distributed as dist

import nnunet_rw
from nnunet_rw.run_record import Git, Session

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
