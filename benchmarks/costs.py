"""What a user pays for maps and losses beside nnU-Net alone, and what datasets of other sizes would take.

The second is worked out from what one machine measured, not run at that size.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import evaluation
from benchmarks.dataset_maps import CT, MS
from benchmarks.harness import read_rows
from benchmarks.inputs import CT_SHAPE
from benchmarks.losses import IW_DICE_CE, WITH_RRW
from benchmarks.store import BOTH, PREPROCESSED
from benchmarks.synthetic_dataset import DATASET
from benchmarks.tables import markdown_table

PROCESSES = 16


def costs_table() -> str:
    """What is paid for, and what it costs beside nnU-Net alone."""
    lines = [(f"writing maps once: {dataset}", f"{_seconds_per_case(dataset):.1f} s per case") for dataset in (MS, CT)]
    for compact, option in ((False, ""), (True, ", `--compact`")):
        shares = [row["of_preprocessed"] for row in read_rows("store", {"stored": BOTH, "compact": compact})]
        size = f"{100 * min(shares):.0f} to {100 * max(shares):.0f} % of nnU-Net's arrays"
        lines.append((f"maps on disk{option}", size))
    lines += [
        (f"loading a patch: {row['maps']}", f"{row['of_stock']:.2f} x nnU-Net's loader")
        for row in read_rows("loader")
        if row["maps"] != "none"
    ]
    for trainer, loss in (("RWTrainer", WITH_RRW), ("RWTrainer_SmallLesions", IW_DICE_CE)):
        (row,) = read_rows("losses", {"loss": loss})
        cost = f"{row['seconds_of_stock']:.2f} x nnU-Net's loss, memory {row['peak_of_stock']:.2f} x"
        lines.append((f"loss and gradient: `{trainer}`", cost))
    for row in read_rows("gpu_epochs")[1:]:
        step, epoch = row["step_seconds_of_stock"], row["epoch_seconds_of_stock"]
        cost = f"{step:.2f} x nnU-Net's step, {epoch:.2f} x its epoch, memory {row['peak_gpu_mib_of_stock']:.2f} x"
        lines.append((f"training on a GPU: `{row['trainer']}`", cost))
    # A figure may stand beside several rivals.
    seconds = {row["figures"]: row["our_seconds"] for row in read_rows("evaluation")}
    of_case = sum(seconds[figures] for figures in (evaluation.SURFACES, evaluation.LESIONS_WITH_DISTANCES))
    lines.append(("evaluating a case", f"{of_case:.1f} s"))
    return markdown_table(["what", "cost"], lines)


def _seconds_per_case(dataset: str) -> float:
    (row,) = read_rows("dataset_maps", {"measured": "throughput", "dataset": dataset, "processes": 1})
    return 1 / row["cases_per_second"]


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


# Voxels of a case: where each number comes from stands in benchmarks/measurements.md.
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
    map_bytes, array_bytes : float
        Stored per voxel: distance + lesion ids, and nnU-Net's arrays.
    memory_bytes : float
        At most resident per voxel.
    check_seconds : float
        Of one case, when a training starts.
    """

    mvoxels_per_second: float
    class_seconds_per_mvoxel: float
    map_bytes: float
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
        plain, _ = read_rows("store", {"dataset": DATASET, "stored": BOTH})
        arrays, _ = read_rows("store", {"dataset": DATASET, "stored": PREPROCESSED})
        memory = read_rows("dataset_maps", {"measured": "memory", "shape": "x".join(map(str, CT_SHAPE))})
        return cls(
            throughput["mvoxels_per_second"],
            (dear - cheap) / (most - fewest) / 1e3,
            plain["bytes_per_voxel"],
            arrays["bytes_per_voxel"],
            max(row["bytes_per_voxel"] for row in memory),
            plain["milliseconds_to_check_a_case"] / 1e3,
        )


def scaling_cells(dataset: Dataset, rates: Rates) -> dict[str, str]:
    """Time, disk and memory of a dataset, by heading; the measured throughput has two classes."""
    per_case = dataset.mvoxels / rates.mvoxels_per_second
    per_case += max(0, dataset.classes - 2) * rates.class_seconds_per_mvoxel * dataset.mvoxels
    hours = dataset.cases * per_case / 3600
    gigabytes = dataset.cases * dataset.mvoxels * 1e6 / 1e9
    return {
        "dataset": dataset.name,
        "cases": str(dataset.cases),
        "Mvoxels per case": f"{dataset.mvoxels:g}",
        "classes": str(dataset.classes),
        f"hours, {PROCESSES} cores": _two_digits(hours / PROCESSES),
        "maps, GB": _two_digits(gigabytes * rates.map_bytes),
        "nnU-Net's arrays, GB": _two_digits(gigabytes * rates.array_bytes),
        "memory per process, GB": _two_digits(dataset.mvoxels * rates.memory_bytes / 1e3),
        "check at a training's start": _duration(dataset.cases * rates.check_seconds),
    }


def scaling_table() -> str:
    """What the datasets take."""
    rates = Rates.measured()
    rows = [scaling_cells(dataset, rates) for dataset in DATASETS]
    return markdown_table(list(rows[0]), [list(row.values()) for row in rows])


def _two_digits(value: float) -> str:
    """Such as 0.024, 1.4 and 19000."""
    return f"{float(f'{value:.2g}'):g}"


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
