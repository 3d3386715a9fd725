"""Work on many cases in processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

from nnunetv2.configuration import default_num_processes
from tqdm import tqdm

Result = TypeVar("Result")

# Starting workers, each of which imports torch, takes longer than a few cases do.
MIN_TASKS_FOR_WORKERS = 8


def default_processes() -> int:
    """nnU-Net's number of processes, at most the processors of this machine."""
    return max(1, min(default_num_processes, os.cpu_count() or 1))


def in_processes(
    function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], description: str, processes: int | None = None
) -> Iterator[tuple[int, Result]]:
    """Call a function for each tuple of arguments, with a progress bar on a terminal.

    Spawned processes, because a forked torch may hang; in this process where there is little to do.

    Parameters
    ----------
    function : callable
        Of a module, so that processes can import it.
    tasks : sequence of tuples
        Its arguments.
    description : str
        Heads the progress bar.
    processes : int, optional
        Default: `default_processes`.

    Yields
    ------
    (index, result)
        As they are done, in any order. The first error ends it; what has not begun is cancelled. An interruption
        (Ctrl-C) ends the processes at once.

    Raises
    ------
    BrokenProcessPool
        A process died, most likely for want of memory.
    """
    number = min(processes or default_processes(), len(tasks))
    with tqdm(total=len(tasks), desc=description, unit="case", disable=None) as progress:
        if number <= 1 or len(tasks) < MIN_TASKS_FOR_WORKERS:
            for index, arguments in enumerate(tasks):
                yield index, function(*arguments)
                progress.update()
            return
        executor = ProcessPoolExecutor(number, mp_context=multiprocessing.get_context("spawn"))
        others = set(multiprocessing.active_children())
        try:
            with _interruptions_ignored():
                futures = {executor.submit(function, *arguments): index for index, arguments in enumerate(tasks)}
            for future in as_completed(futures):
                yield futures[future], future.result()
                progress.update()
        except KeyboardInterrupt:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            executor.shutdown(cancel_futures=True)


@contextmanager
def _interruptions_ignored() -> Iterator[None]:
    """What is started within ignores Ctrl-C, which a shell sends to every process: each would print where it was."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def list_in_processes(
    function: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], description: str, processes: int | None = None
) -> list[Result]:
    """All results of `in_processes`, in the order of the tasks."""
    done = dict(in_processes(function, tasks, description, processes))
    return [done[index] for index in range(len(tasks))]
