"""Peak memory of a process that writes maps: by size of a case, number of classes, and number of cases."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.child import in_child
from benchmarks.dataset_shares import COMMAND_KINDS
from benchmarks.inputs import CT_SHAPE, organ_labels
from benchmarks.memory import status_mib
from benchmarks.preprocessed_folder import settings_of, write_preprocessed
from nnunet_rw.maps.kinds import KINDS
from nnunet_rw.store.write import list_cases, write_case

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
            peaks = in_child("benchmarks.dataset_memory", "peaks_mib", [str(data_folder), classes + 1, list(kinds)], {})
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
