"""How much memory a computation takes at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any


def peak_mib(step: Callable[[], Any], device: str = "cpu") -> float:
    """Most memory that a step allocates beyond what is there before, in MiB.

    On a GPU by torch's own count, on a CPU by its profiler: neither counts what NumPy and SciPy take.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    assert profiler.profiler is not None
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        held += event.nbytes()  # negative where it is given back
        highest = max(highest, held)
    return highest / 2**20


def peak_rss_mib(step: Callable[[], Any]) -> float:
    """Most memory of this process beyond what it holds before, in MiB: of libraries too. Linux only.

    For a process of its own, see `benchmarks.child`.
    """
    process = Path("/proc/self")
    before = _status_kib("VmRSS")
    (process / "clear_refs").write_text("5")  # the peak is counted from here
    step()
    return (_status_kib("VmHWM") - before) / 1024


def _status_kib(name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])
