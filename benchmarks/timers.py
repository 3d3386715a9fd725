"""Where the time goes: in which of some functions, each without what it spends in the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

# Every call of a library that maps and lesion ids are computed with.
LIBRARIES = {
    "edt": ("edt.edt",),
    "cc3d": ("cc3d.connected_components",),
    "scipy": ("scipy.ndimage.find_objects",),
    "blosc2": ("blosc2.zeros", "blosc2.NDArray.__setitem__", "blosc2.NDArray.to_cframe"),
}


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
