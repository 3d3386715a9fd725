"""How the cost of maps grows with voxels, lesions, classes and processes, and what bounds it.

One is changed and the others stay. Beside each time stand that of one NumPy copy of the result, which is what memory
bandwidth allows, and the shares of the libraries and of the interpreter; the remainder is NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.at_once import seconds_at_once
from benchmarks.harness import seconds_in_turns
from benchmarks.inputs import ct_labels, organ_labels
from benchmarks.map_steps import COMPUTATIONS, OF_CLASSES, computation, result_bytes, scattered_lesions, smallest_labels
from benchmarks.timers import LIBRARIES, timed
from nnunet_rw.maps.kinds import LabelScheme, compute_lesion_ids

SIZES = (64, 128, 256, 512)
LESIONS = (1, 10, 100, 1000, 2000)
CLASSES = (1, 4, 20, 104)
PROCESSES = (1, 2)
_SLOW_ROUNDS, _SLOW_BYTES = 3, 2e8  # fewer rounds for large results


def run(
    sizes: Sequence[int] = SIZES,
    lesions: Sequence[int] = LESIONS,
    classes: Sequence[int] = CLASSES,
    processes: Sequence[int] = PROCESSES,
    size: int = 128,
    rounds: int = 5,
) -> list[dict[str, Any]]:
    """Rows by what "grows".

    Parameters
    ----------
    sizes, lesions, classes, processes : sequences of int
        Edge of a cubic volume; lesions; foreground classes; processes at the same time.
    size : int
        Edge of the volume where not the voxels grow.
    """
    rows = []
    for edge in sizes:
        if _peak_bytes(edge) > 0.8 * _available_bytes():
            rows.append({"grows": "voxels", "size": edge, "skipped": "memory is short"})
            continue
        rows += measured("voxels", ct_labels((edge,) * 3, num_lesions=100), 2, COMPUTATIONS, rounds)
    for number in lesions:
        rows += measured("lesions", scattered_lesions(size, number), 1, COMPUTATIONS, rounds)
    for number in classes:
        rows += measured("classes", organ_labels((size,) * 3, number), number, OF_CLASSES, rounds)
    for number in processes:
        for name in COMPUTATIONS:
            seconds = seconds_at_once(step_of, (name, size), number, rounds)
            about = {"grows": "processes", "processes": number, "computation": name, **_volume(size**3)}
            rows.append({**about, "seconds": seconds, "mvoxels_per_second": number * size**3 / seconds / 1e6})
    return rows


def measured(
    grows: str, labels: np.ndarray, num_classes: int, computations: Sequence[str], rounds: int
) -> list[dict[str, Any]]:
    """A row per computation on the same labels."""
    num_lesions = len(compute_lesion_ids(labels, LabelScheme.classes(num_classes + 1))[1])
    smallest = smallest_labels(num_lesions, num_classes)
    rows = []
    for name in computations:
        step = computation(name, labels, num_classes)
        source = np.ones(result_bytes(name, labels.size, num_classes), np.uint8)
        copy = {"copy": partial(np.copyto, np.empty_like(source), source)}
        seconds, shares = _seconds_and_shares(
            step, copy, min(rounds, _SLOW_ROUNDS) if source.size > _SLOW_BYTES else rounds
        )
        del copy, source  # gigabytes
        interpreter, libraries = _seconds_and_shares(computation(name, smallest, num_classes), {}, rounds)
        python = (1 - sum(libraries.values())) * interpreter["step"] / seconds["step"]
        rows.append(
            {
                "grows": grows,
                **_volume(labels.size),
                "lesions": num_lesions,
                "classes": num_classes,
                "processes": 1,
                "computation": name,
                "seconds": seconds["step"],
                "nanoseconds_per_voxel": 1e9 * seconds["step"] / labels.size,
                "copy_seconds": seconds["copy"],
                "times_copy": seconds["step"] / seconds["copy"],
                **{f"{library}_share": share for library, share in shares.items()},
                "interpreter_share_at_most": min(python, 1.0),
            }
        )
    return rows


def step_of(name: str, size: int) -> Callable[[], Any]:
    """A step of a process of its own."""
    return computation(name, ct_labels((size,) * 3, num_lesions=100), 2)


def _seconds_and_shares(
    step: Callable[[], Any], rivals: Mapping[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of the "step" and its rivals, and the libraries' shares of the step."""
    with timed({**LIBRARIES, "rest": ("benchmarks.growth._call",)}) as inside:
        seconds = seconds_in_turns({"step": lambda: _call(step), **rivals}, rounds)
    whole = sum(inside.values())
    return seconds, {library: inside[library] / whole for library in LIBRARIES}


def _call(step: Callable[[], Any]) -> None:
    step()


def _volume(voxels: int) -> dict[str, Any]:
    return {"size": round(voxels ** (1 / 3)), "voxels": voxels}


def _peak_bytes(edge: int) -> int:
    """About the most that the computations need: labels, distances, RRW maps of three classes, and a copy."""
    return edge**3 * (1 + 4 + 3 * 4 * 3)


def _available_bytes() -> float:
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    return found[0] if found else math.inf
