"""What maps cost for datasets of other sizes, worked out from what one machine measured: throughput, memory, disk."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.dataset_maps import CT
from benchmarks.harness import read_rows
from benchmarks.inputs import CT_SHAPE
from benchmarks.store import BOTH, PREPROCESSED
from benchmarks.synthetic_dataset import DATASET
from benchmarks.tables import markdown_table

PROCESSES, NODES = 16, 10


@dataclass(frozen=True)
class Dataset:
    """A dataset as preprocessed by nnU-Net.

    Attributes
    ----------
    mvoxels : float
        Million voxels of a case.
    classes : int
        Of the foreground.
    """

    name: str
    cases: int
    mvoxels: float
    classes: int


# Voxels of a case: where each number comes from stands in docs/scaling.md.
DATASETS = (
    Dataset("MSD Task03 Liver", 131, 126, 2),
    Dataset("TotalSegmentator", 1228, 20, 104),
    Dataset("AbdomenAtlas", 9262, 99, 9),
    Dataset("100 000 such CTs", 100_000, 99, 9),
)


@dataclass(frozen=True)
class Rates:
    """Measured on one core.

    Attributes
    ----------
    mvoxels_per_second : float
        Of ``nnunet-rw maps``, one process, CTs.
    class_seconds_per_mvoxel : float
        What a foreground class more adds: its mask is looked for in the whole volume.
    map_bytes, compact_bytes, array_bytes : float
        Stored per voxel: distance + lesion ids, the same compact, nnU-Net's arrays.
    memory_bytes : float
        At most resident per voxel.
    check_seconds : float
        Of one case, when a training starts.
    """

    mvoxels_per_second: float
    class_seconds_per_mvoxel: float
    map_bytes: float
    compact_bytes: float
    array_bytes: float
    memory_bytes: float
    check_seconds: float

    @classmethod
    def measured(cls) -> Rates:
        classes = sorted(
            (row["classes"], row["nanoseconds_per_voxel"])
            for row in read_rows("growth", {"grows": "classes", "computation": "lesion ids"})
        )
        (fewest, cheap), (most, dear) = classes[0], classes[-1]
        (throughput,) = read_rows("dataset_maps", {"measured": "throughput", "dataset": CT, "processes": 1})
        plain, compact = read_rows("store", {"dataset": DATASET, "stored": BOTH})
        arrays, _ = read_rows("store", {"dataset": DATASET, "stored": PREPROCESSED})
        memory = read_rows("dataset_maps", {"measured": "memory", "shape": "x".join(map(str, CT_SHAPE))})
        return cls(
            throughput["mvoxels_per_second"],
            (dear - cheap) / (most - fewest) / 1e3,
            plain["bytes_per_voxel"],
            compact["bytes_per_voxel"],
            arrays["bytes_per_voxel"],
            max(row["bytes_per_voxel"] for row in memory),
            plain["milliseconds_to_check_a_case"] / 1e3,
        )


def scaling_cells(dataset: Dataset, rates: Rates) -> dict[str, str]:
    """Time, disk and memory of a dataset, by heading."""
    per_case = dataset.mvoxels / rates.mvoxels_per_second
    # The measured throughput has two classes.
    per_case += max(0, dataset.classes - 2) * rates.class_seconds_per_mvoxel * dataset.mvoxels
    hours = dataset.cases * per_case / 3600
    gigabytes = dataset.cases * dataset.mvoxels * 1e6 / 1e9
    return {
        "dataset": dataset.name,
        "cases": str(dataset.cases),
        "Mvoxel a case": f"{dataset.mvoxels:g}",
        "classes": str(dataset.classes),
        "s a case": f"{per_case:.1f}",
        "1 core, h": f"{hours:.2g}",
        f"{PROCESSES} cores, h": f"{hours / PROCESSES:.2g}",
        f"{NODES} nodes of them, h": f"{hours / PROCESSES / NODES:.2g}",
        "maps, GB": f"{gigabytes * rates.map_bytes:.3g}",
        "compact, GB": f"{gigabytes * rates.compact_bytes:.3g}",
        "nnU-Net's arrays, GB": f"{gigabytes * rates.array_bytes:.3g}",
        "memory a process, GB": f"{dataset.mvoxels * rates.memory_bytes / 1e3:.2g}",
        "check at a start": _duration(dataset.cases * rates.check_seconds),
    }


def scaling_table() -> str:
    """What the datasets take."""
    rates = Rates.measured()
    rows = [scaling_cells(dataset, rates) for dataset in DATASETS]
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows])


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
