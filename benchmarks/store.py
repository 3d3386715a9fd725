"""Size of stored maps beside nnU-Net's preprocessed arrays, and time to read a patch of each."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import blosc2
import numpy as np

from benchmarks.child import folders, in_child
from benchmarks.harness import seconds_in_turns
from benchmarks.synthetic_dataset import CONFIGURATION
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS
from nnunet_rw.store.files import FOLDER_NAME, MapSettings

SHAPE = (190, 190, 190)  # about 160^3 once nnU-Net has cut away what is around the head
CASES = 3
MOST_CASES = 20  # of a real dataset
KINDS = (INTERIOR_DISTANCE, LESION_IDS)
BOTH, DATA, PREPROCESSED = " and ".join(KINDS), "nnU-Net's data", "nnU-Net's data and segmentation"


def run(
    datasets: Sequence[str] = (), shape: Sequence[int] = SHAPE, cases: int = CASES, patch_size: int = 128
) -> list[dict[str, Any]]:
    """Rows of a synthetic dataset, and of copies of preprocessed ones.

    Parameters
    ----------
    datasets : sequence of str
        Ids or names, in the folders that nnU-Net's variables name.
    shape, cases
        Of the synthetic dataset.
    patch_size : int
        Edge of the patches that are read.
    """
    rows = []
    with tempfile.TemporaryDirectory() as root:
        environment = {**folders(Path(root)), "nnUNet_n_proc_DA": "0"}
        prepared = in_child("benchmarks.synthetic_dataset", "prepare", [root, cases, list(shape)], environment)
        rows += in_child("benchmarks.store", "store_rows", [prepared["dataset"], patch_size], environment)
    for dataset in datasets:
        with tempfile.TemporaryDirectory() as root:
            environment = folders(Path(root))
            name = _copy(dataset, Path(environment["nnUNet_preprocessed"]))
            rows += in_child("benchmarks.store", "store_rows", [name, patch_size], environment)
    return rows


def store_rows(dataset: str, patch_size: int, rounds: int = 21) -> list[dict[str, Any]]:
    """A row per map and compression, in a process that knows nnU-Net's folders; the maps are written there."""
    from nnunet_rw.datasets.folders import open_preprocessed
    from nnunet_rw.store.files import map_path, missing_maps
    from nnunet_rw.store.write import ensure_maps, list_cases

    data = open_preprocessed(dataset, CONFIGURATION)
    cases = list_cases(data.data_folder)
    data_size = _bytes_of(data.data_folder / f"{case}.b2nd" for case in cases)
    arrays = data_size + _bytes_of(data.data_folder.glob("*_seg.b2nd"))
    voxels = sum(int(np.prod(_open(data.data_folder / f"{case}.b2nd").shape[1:])) for case in cases)
    rows = []
    for compact in (False, True):
        start = time.perf_counter()
        ensure_maps(data.data_folder, KINDS, data.settings, num_processes=1, overwrite=True, compact=compact)
        seconds = time.perf_counter() - start
        start = time.perf_counter()
        assert not missing_maps(data.data_folder, cases, KINDS, data.settings)
        checking = time.perf_counter() - start
        sizes = {
            kind: _bytes_of(map_path(data.data_folder, kind, case, data.settings) for case in cases) for kind in KINDS
        }
        sizes |= {BOTH: sum(sizes.values()), DATA: data_size, PREPROCESSED: arrays}
        reading = seconds_in_turns(patch_readers(data.data_folder, cases, patch_size, data.settings), rounds)
        for stored, read in reading.items():
            size = sizes[stored]
            rows.append(
                {
                    "dataset": dataset,
                    "cases": len(cases),
                    "mvoxels": voxels / 1e6,
                    "compact": compact,
                    "stored": stored,
                    "bytes_per_voxel": size / voxels,
                    "of_preprocessed": size / arrays,
                    "milliseconds_per_patch": 1e3 * read,
                    "of_data_reading": read / reading[DATA],
                }
            )
            if stored == BOTH:
                rows[-1]["seconds_to_write_a_case"] = seconds / len(cases)
                rows[-1]["milliseconds_to_check_a_case"] = 1e3 * checking / len(cases)
    return rows


def patch_readers(
    data_folder: Path, cases: Sequence[str], patch_size: int, settings: MapSettings
) -> dict[str, Callable[[], None]]:
    """Functions that open the next case and read a patch at a random place: the same case and place for each.

    Of an axis shorter than the patch all is read.
    """
    places = np.random.default_rng(0).random((1000, 3))

    def read(names: Sequence[str], turns: Iterator[int]) -> None:
        turn = next(turns)
        for name in names:
            array = _open(data_folder / name.format(case=cases[turn % len(cases)]))
            sizes = np.minimum(array.shape[1:], patch_size)
            lows = (places[turn % len(places)] * (np.array(array.shape[1:]) - sizes + 1)).astype(int)
            array[(slice(None), *(slice(low, low + size) for low, size in zip(lows, sizes, strict=True)))]

    maps = {kind: [f"{FOLDER_NAME}/{kind}/{settings.folder_name(kind)}/{{case}}.b2nd"] for kind in KINDS}
    arrays = {DATA: ["{case}.b2nd"], PREPROCESSED: ["{case}.b2nd", "{case}_seg.b2nd"]}
    files = {**arrays, **maps, BOTH: [name for names in maps.values() for name in names]}
    return {stored: partial(read, names, itertools.count()) for stored, names in files.items()}


def _open(path: Path) -> blosc2.NDArray:
    """As nnU-Net opens an array."""
    return blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, mmap_mode="r")


def _bytes_of(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _copy(dataset: str, preprocessed: Path) -> str:
    """Copy the first cases of a dataset, without its maps; its name."""
    from nnunet_rw.datasets.folders import open_preprocessed
    from nnunet_rw.store.write import list_cases

    data = open_preprocessed(dataset, CONFIGURATION)
    folder = preprocessed / data.dataset_folder.name
    copied = folder / data.data_folder.name
    copied.mkdir(parents=True)
    for name in ("dataset.json", "nnUNetPlans.json"):
        shutil.copyfile(data.dataset_folder / name, folder / name)
    for case in list_cases(data.data_folder)[:MOST_CASES]:
        for ending in (".b2nd", "_seg.b2nd", ".pkl"):
            shutil.copyfile(data.data_folder / f"{case}{ending}", copied / f"{case}{ending}")
    return data.dataset_folder.name
