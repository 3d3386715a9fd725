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

from benchmarks.harness import LIBRARIES, seconds_at_once, seconds_in_turns, timed
from benchmarks.inputs import ct_labels, organ_labels
from benchmarks.preprocessed_folder import SPACING_MM, settings_of
from nnunet_rw.maps import rectified_region_wise_maps
from nnunet_rw.maps.kinds import (
    BOUNDARY_DISTANCE,
    INTERIOR_DISTANCE,
    LabelScheme,
    compute_distances,
    compute_lesion_ids,
)
from nnunet_rw.store.write import compressed_distances, compressed_lesions

COMPUTATIONS = ("interior distance", "RRW maps", "lesion ids", "both stored, in memory")
# Boundary distances of all heads of the largest volume would take longer than all else.
OF_CLASSES = (*COMPUTATIONS, "boundary distance")
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


def computation(name: str, labels: np.ndarray, num_classes: int) -> Callable[[], Any]:
    """A step of `OF_CLASSES`; ``num_classes`` counts the foreground."""
    scheme = LabelScheme.classes(num_classes + 1)
    if name == "interior distance":
        return partial(compute_distances, INTERIOR_DISTANCE, labels, scheme, SPACING_MM)
    if name == "boundary distance":
        return partial(compute_distances, BOUNDARY_DISTANCE, labels, scheme, SPACING_MM)
    if name == "RRW maps":
        return partial(rectified_region_wise_maps, labels, num_classes + 1, SPACING_MM)
    if name == "lesion ids":
        return partial(compute_lesion_ids, labels, scheme)
    settings = settings_of(num_classes + 1)

    def store() -> None:
        compressed_distances(INTERIOR_DISTANCE, labels, SPACING_MM, settings, False).to_cframe()
        compressed_lesions(labels, settings, False)[0].to_cframe()

    return store


def result_bytes(name: str, voxels: int, num_classes: int) -> int:
    """Bytes of a computation's result, before compression."""
    per_voxel = {
        "interior distance": 4,
        "RRW maps": 4 * (num_classes + 1),
        "boundary distance": 4 * (num_classes + 1),
        "lesion ids": 2 * num_classes,
        "both stored, in memory": 2 + 2 * num_classes,
    }
    return voxels * per_voxel[name]


def scattered_lesions(size: int, number: int) -> np.ndarray:
    """Labels (size, size, size) with lesions of 2^3 voxels at random places of a grid, uint8."""
    labels = np.zeros((size,) * 3, np.uint8)
    pitch = 4
    places = np.random.default_rng(0).permutation((size // pitch) ** 3)[:number]
    for corner in pitch * np.stack(np.unravel_index(places, (size // pitch,) * 3), axis=1) + 1:
        labels[tuple(slice(low, low + 2) for low in corner)] = 1
    return labels


def smallest_labels(num_lesions: int, num_classes: int) -> np.ndarray:
    """About the smallest cube that holds so many lesions of one voxel: what it takes is the interpreter's time."""
    number = max(num_lesions, num_classes)
    edge = math.ceil(round(number ** (1 / 3), 6))
    labels = np.zeros((2 * edge + 1,) * 3, np.uint8)
    places = np.stack(np.unravel_index(np.arange(number), (edge,) * 3))
    labels[tuple(2 * places + 1)] = np.arange(number) % num_classes + 1
    return labels
