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
    before = status_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    step()
    return status_mib("VmHWM") - before


def status_mib(name: str) -> float:
    """Memory of this process as Linux tells it: resident ("VmRSS"), or the most of it so far ("VmHWM").

    `resource.getrusage` would count what the process that started this one had in memory.
    """
    found = re.search(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
