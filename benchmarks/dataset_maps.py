"""``nnunet-rw maps`` over a dataset beside the libraries alone: throughput, where the rest goes, memory.

The libraries alone are one call of edt and one of cc3d per case, on labels in memory, by one process: nothing is read,
converted, compressed or written.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cc3d
import edt
import numpy as np

from benchmarks.child import CHECKOUT, folders, in_child
from benchmarks.harness import seconds_at_once, timed
from benchmarks.inputs import CT_SHAPE, ct_labels, ms_labels, organ_labels
from benchmarks.memory import status_mib
from benchmarks.preprocessed_folder import CONFIGURATION, DATASET, SPACING_MM, settings_of, write_preprocessed
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, KINDS, LESION_IDS
from nnunet_rw.store.write import list_cases, write_case

MS, CT = "MS lesions, real", "CT, synthetic"
DATASETS = {MS: ((240, 240, 154), 64), CT: (CT_SHAPE, 8)}
NUM_CLASSES = {MS: 2, CT: 3}
COMMAND_KINDS = (INTERIOR_DISTANCE, LESION_IDS)  # those that ``nnunet-rw maps`` writes if not told otherwise
_REST = "all else"
_PARTS = {
    "edt": ("edt.edt",),
    "cc3d": ("cc3d.connected_components",),
    "NumPy around edt": ("nnunet_rw.maps.kinds.interior_distance",),
    "NumPy around cc3d": ("nnunet_rw.store.write.compressed_lesions",),
    "conversion to float16": ("nnunet_rw.store.write.compressed_distances",),
    "compression": ("blosc2.zeros", "blosc2.NDArray.__setitem__", "blosc2.NDArray.to_cframe"),
    "reading labels": (
        "nnunet_rw.store.files._fingerprint",
        "nnunetv2.training.dataloading.nnunet_dataset.nnUNetDatasetBlosc2.load_case",
        "blosc2.NDArray.__getitem__",
    ),
    "writing files": ("nnunet_rw.store.write.write_atomically",),
}
# Shape, foreground classes, cases, kinds of map.
WRITTEN = (
    ((128, 128, 128), 1, 1, KINDS),
    ((128, 128, 128), 104, 1, KINDS),
    ((128, 128, 128), 1, 12, COMMAND_KINDS),
    ((256, 256, 256), 1, 1, COMMAND_KINDS),
    ((256, 256, 256), 1, 6, COMMAND_KINDS),
    ((256, 256, 256), 104, 1, COMMAND_KINDS),
    (CT_SHAPE, 1, 1, COMMAND_KINDS),
    (CT_SHAPE, 104, 1, COMMAND_KINDS),
)


def run(
    datasets: Mapping[str, tuple[tuple[int, int, int], int]] = DATASETS,
    processes: Sequence[int] = (1, 2),
    rounds: int = 1,
    **memory: Any,
) -> list[dict[str, Any]]:
    """Rows of "measured" throughput, share and memory.

    Parameters
    ----------
    datasets : mapping of `MS` or `CT` to (shape, number of cases)
    memory : of `memory_rows`
    """
    rows: list[dict[str, Any]] = []
    for name, (shape, num_cases) in datasets.items():
        with tempfile.TemporaryDirectory() as root:
            data_folder = write_preprocessed(Path(root), example_labels(name, shape), num_cases, NUM_CLASSES[name])
            about = {"dataset": name, "shape": "x".join(map(str, shape)), "cases": num_cases}
            throughput = throughput_rows(Path(root), name, shape, num_cases, processes, rounds)
            arguments = [str(data_folder), NUM_CLASSES[name], min(num_cases, 5)]
            shares = in_child("benchmarks.dataset_maps", "shares", arguments, {})
            rows += [{"measured": "throughput", **about, **row} for row in throughput]
            rows += [
                {"measured": "share", **about, **row, "nanoseconds_per_voxel": 1e9 * row["seconds"] / math.prod(shape)}
                for row in shares
            ]
    return rows + [{"measured": "memory", **row} for row in memory_rows(**memory)]


def example_labels(name: str, shape: Sequence[int]) -> list[np.ndarray]:
    """Different cases of a dataset: as many as are worth the time to make them."""
    if name == CT:
        return [ct_labels((shape[0], shape[1], shape[2]), seed=seed) for seed in range(2)]
    whole = ms_labels()
    corner = [(size - part) // 2 for size, part in zip(whole.shape, shape, strict=True)]
    labels = whole[tuple(slice(low, low + part) for low, part in zip(corner, shape, strict=True))]
    return [np.ascontiguousarray(view) for view in (labels, labels[::-1], labels[:, ::-1], labels[:, :, ::-1])]


def libraries_alone(name: str, shape: Sequence[int]) -> Callable[[], None]:
    """A step that computes what the maps of the example labels take from the libraries."""
    labels = example_labels(name, shape)
    # edt gives 0 where labels are 0, and distances within the background belong to the map.
    shifted = [case + np.uint8(1) for case in labels]

    def step() -> None:
        for case, above_zero in zip(labels, shifted, strict=True):
            edt.edt(above_zero, anisotropy=SPACING_MM, black_border=False, parallel=1)
            cc3d.connected_components(case, connectivity=26)

    return step


def throughput_rows(
    root: Path, name: str, shape: Sequence[int], num_cases: int, processes: Sequence[int], rounds: int
) -> list[dict[str, Any]]:
    """A row per number of processes; the command's time is that of the whole command."""
    examples = len(example_labels(name, shape))
    seconds: dict[int, list[float]] = {number: [] for number in processes}
    alone: dict[int, list[float]] = {number: [] for number in {1, *processes}}
    for _ in range(rounds):
        for number in alone:
            alone[number].append(seconds_at_once(libraries_alone, (name, shape), number, 1) / examples)
        for number in processes:
            seconds[number].append(command_seconds(root, ["-np", str(number), "--overwrite"]))
    start = command_seconds(root, [])
    voxels = math.prod(shape)
    rows = []
    for number in processes:
        per_second = num_cases / statistics.median(seconds[number])
        most = number / statistics.median(alone[1])
        rows.append(
            {
                "processes": number,
                "seconds": num_cases / per_second,
                "seconds_when_current": start,
                "cases_per_second": per_second,
                "mvoxels_per_second": per_second * voxels / 1e6,
                "libraries_mvoxels_per_second": most * voxels / 1e6,
                "of_libraries": per_second / most,
                "of_libraries_without_start": num_cases / (num_cases / per_second - start) / most,
                "libraries_at_once_of_libraries": number / statistics.median(alone[number]) / most,
            }
        )
    return rows


def command_seconds(root: Path, options: Sequence[str]) -> float:
    """Seconds of ``nnunet-rw maps``, from the start of Python to its end."""
    command = [sys.executable, "-m", "nnunet_rw", "maps", "-d", DATASET, "-c", CONFIGURATION, *options]
    environment = {**os.environ, **folders(root), "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    subprocess.run(command, env=environment, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def shares(data_folder: str, num_classes: int, num_cases: int) -> list[dict[str, Any]]:
    """A row per part of writing a case: seconds, and share of the whole."""
    first, *cases = list_cases(data_folder)[:num_cases]
    settings = settings_of(num_classes)
    write_case(data_folder, first, COMMAND_KINDS, settings)  # does not count
    start = time.perf_counter()
    with timed(_PARTS) as seconds:
        for case in cases:
            write_case(data_folder, case, COMMAND_KINDS, settings)
    whole = time.perf_counter() - start
    seconds[_REST] = whole - sum(seconds.values())
    return [{"part": part, "seconds": value / len(cases), "share": value / whole} for part, value in seconds.items()]


def memory_rows(
    written: Sequence[tuple[tuple[int, int, int], int, int, Sequence[str]]] = WRITTEN,
) -> list[dict[str, Any]]:
    """A row per shape, number of foreground classes, number of cases and kinds; each in a process of its own."""
    rows = []
    for shape, classes, num_cases, kinds in written:
        with tempfile.TemporaryDirectory() as root:
            labels = organ_labels(shape, classes)
            data_folder = write_preprocessed(Path(root), [labels], num_cases, classes + 1)
            del labels
            peaks = in_child("benchmarks.dataset_maps", "peaks_mib", [str(data_folder), classes + 1, list(kinds)], {})
        voxels = shape[0] * shape[1] * shape[2]
        rows.append(
            {
                "shape": "x".join(map(str, shape)),
                "classes": classes,
                "cases": num_cases,
                "kinds": ", ".join(kinds),
                **peaks,
                "bytes_per_voxel": (peaks["peak_mib"] - peaks["start_mib"]) * 2**20 / voxels,
            }
        )
    return rows


def peaks_mib(data_folder: str, num_classes: int, kinds: Sequence[str]) -> dict[str, float]:
    """Most resident memory of this process before its first case, and after all cases."""
    settings = settings_of(num_classes)
    cases = list_cases(data_folder)
    start = status_mib("VmHWM")
    for case in cases:
        write_case(data_folder, case, kinds, settings)
    return {"start_mib": start, "peak_mib": status_mib("VmHWM")}
