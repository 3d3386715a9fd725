"""Where the time of writing a case's maps goes."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.preprocessed_folder import settings_of
from benchmarks.timers import timed
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS
from nnunet_rw.store.write import list_cases, write_case

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
