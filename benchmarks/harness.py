"""Timing: of rivals in turns, of several processes at once, and of parts of a step; and results as files."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any
from unittest.mock import patch

_PACKAGES = ("torch", "numpy", "scipy", "edt", "connected-components-3d", "panoptica", "surface-distance")
RESULTS = Path(__file__).with_name("results")
_PATIENCE_SECONDS = 600
# Every call of a library that maps and lesion ids are computed with.
LIBRARIES = {
    "edt": ("edt.edt",),
    "cc3d": ("cc3d.connected_components",),
    "scipy": ("scipy.ndimage.find_objects",),
    "blosc2": ("blosc2.zeros", "blosc2.NDArray.__setitem__", "blosc2.NDArray.to_cframe"),
}


def seconds_in_turns(rivals: Mapping[str, Callable[[], Any]], rounds: int = 7) -> dict[str, float]:
    """Median seconds of each rival; every round runs all of them once, after one round that does not count.

    In turns, so that what else the machine does hits all of them alike.

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


def seconds_at_once(
    prepare: Callable[..., Callable[[], Any]], arguments: tuple[Any, ...], processes: int, rounds: int = 3
) -> float:
    """Median seconds of a step while ``processes`` processes do it; the slowest of them counts.

    Parameters
    ----------
    prepare : callable
        Of a module. Called in every process; returns the step, which is run once before it counts.
    arguments : tuple
        Of ``prepare``.
    """
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(processes), context.Queue()
    workers = [
        context.Process(target=_work_at_once, args=(prepare, arguments, rounds, barrier, results))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    try:
        seconds = [results.get(timeout=_PATIENCE_SECONDS) for _ in workers]
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()
    return statistics.median(max(turn) for turn in zip(*seconds, strict=True))


def _work_at_once(prepare: Callable, arguments: tuple[Any, ...], rounds: int, barrier: Barrier, results: Queue) -> None:
    step = prepare(*arguments)
    step()
    seconds = []
    for _ in range(rounds):
        barrier.wait(_PATIENCE_SECONDS)
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    results.put(seconds)
    # Not ended before it is read.
    results.close()
    results.join_thread()


@contextmanager
def timed(parts: Mapping[str, tuple[str, ...]]) -> Iterator[dict[str, float]]:
    """Within it, the seconds spent in functions add up in the dict that it gives.

    A profiler does not see the functions of Cython modules, and slows down all others.

    Parameters
    ----------
    parts : mapping of str to tuple of str
        Functions by the dotted name under which they are looked up when they are called.
    """
    seconds = dict.fromkeys(parts, 0.0)
    inner = [0.0]  # seconds in timed functions, of every call that is not over yet
    with ExitStack() as stack:
        for part, targets in parts.items():
            for target in targets:
                patcher = patch(target)
                original, _ = patcher.get_original()
                patcher.new = _timed(original, part, seconds, inner)
                stack.enter_context(patcher)
        yield seconds


def _timed(function: Callable[..., Any], part: str, seconds: dict[str, float], inner: list[float]) -> Any:
    @wraps(function, updated=())
    def call(*arguments: Any, **options: Any) -> Any:
        inner.append(0.0)
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            elapsed = time.perf_counter() - start
            seconds[part] += elapsed - inner.pop()
            inner[-1] += elapsed

    return call


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


def write_result(name: str, rows: list[dict[str, Any]], folder: Path | None = None, **about: Any) -> Path:
    """Write ``results/<name>.json``, or that of another folder: the machine, and a row per measurement.

    Whole or not at all, whenever the process is stopped; ``about`` is told with the machine.
    """
    path = (folder or RESULTS) / f"{name}.json"
    temporary = path.with_name(f".{path.name}")
    content = {"machine": {**machine(), **about}, "rows": rows}
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
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
