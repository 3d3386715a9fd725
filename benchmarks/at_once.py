"""The same work in several processes at the same time."""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import Any

_PATIENCE_SECONDS = 600


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
        context.Process(target=_work, args=(prepare, arguments, rounds, barrier, results)) for _ in range(processes)
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


def _work(prepare: Callable, arguments: tuple[Any, ...], rounds: int, barrier: Barrier, results: Queue) -> None:
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
