"""Timing of rivals in turns, so that what else the machine does hits all of them alike."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_PACKAGES = ("torch", "numpy", "scipy", "edt", "connected-components-3d", "panoptica", "surface-distance")
RESULTS = Path(__file__).with_name("results")


def seconds_in_turns(rivals: Mapping[str, Callable[[], Any]], rounds: int = 7) -> dict[str, float]:
    """Median seconds of each rival; every round runs all of them once, after one round that does not count.

    On a GPU a rival must wait for its result (`torch.cuda.synchronize`).
    """
    times: dict[str, list[float]] = {name: [] for name in rivals}
    for turn in range(rounds + 1):
        for name, run in rivals.items():
            start = time.perf_counter()
            run()
            if turn:
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    cpus = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return {
        "date": date.today().isoformat(),
        "cpu": cpus[0] if cpus else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        **_torch(),
    }


def _torch() -> dict[str, Any]:
    if find_spec("torch") is None:  # the evaluation does without
        return {}
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"threads": torch.get_num_threads(), "gpu": gpu}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def write_result(name: str, rows: list[dict[str, Any]]) -> Path:
    """Write ``results/<name>.json``: the machine, and a row per measurement."""
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n", encoding="utf-8")
    return path


def read_rows(name: str, where: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Rows of ``results/<name>.json`` with these keys and values; none where it was not measured."""
    path = RESULTS / f"{name}.json"
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    return matching(rows, where or {})


def matching(rows: Sequence[dict[str, Any]], where: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those that have these keys and values."""
    return [row for row in rows if all(row.get(key) == value for key, value in where.items())]


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.is_file() else []
