"""What the project wants of itself, and where the figure stands that tells whether it got it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness import read_rows


@dataclass(frozen=True)
class Target:
    """A limit of one figure in one row of ``results/<result>.json``.

    Attributes
    ----------
    what : str
        In words.
    result, figure : str
        File and key.
    limit : float
    at_least : bool
        The figure should not be below the limit, instead of not above.
    where : mapping
        Keys and values by which the row is found.
    """

    what: str
    result: str
    figure: str
    limit: float
    at_least: bool = False
    where: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> float | None:
        """None where there is no result, as for a GPU that nobody had."""
        found = [row[self.figure] for row in read_rows(self.result) if matches(row, self.where)]
        if len(found) > 1:
            raise ValueError(f"Expected one row of {self.result} for '{self.what}', but got {len(found)}.")
        return float(found[0]) if found else None

    @property
    def met(self) -> bool | None:
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.at_least else self.measured <= self.limit


def matches(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    return all(row.get(key) == value for key, value in where.items())


def _times_faster(what: str, result: str, limit: float, **where: Any) -> Target:
    return Target(f"{what}: times faster", result, "times_faster", limit, True, where)


_MAPS, _VOLUMES, _WEIGHTS = "rectified region-wise maps", "lesion volumes", "inverse-volume weights"
_STORED = "interior_distance and lesion_ids"
TARGETS = (
    _times_faster("RRW maps, MS lesions (240 x 240 x 154, 2 classes)", "maps", 12, volume="MS lesions", figures=_MAPS),
    _times_faster("RRW maps, CT (512 x 512 x 300, 3 classes)", "maps", 25, volume="CT", figures=_MAPS),
    Target(
        "the same: memory of the loop's", "maps", "peak_of_reference", 0.3, where={"volume": "CT", "figures": _MAPS}
    ),
    _times_faster("lesion volumes, MS lesions", "maps", 90, volume="MS lesions", figures=_VOLUMES),
    _times_faster("inverse-volume weights, MS lesions", "maps", 90, volume="MS lesions", figures=_WEIGHTS),
    _times_faster("lesion volumes, CT", "maps", 200, volume="CT", figures=_VOLUMES),
    _times_faster("inverse-volume weights, CT", "maps", 200, volume="CT", figures=_WEIGHTS),
    *(
        Target(
            f"`nnunet-rw maps`, {dataset}, {number} process{'es' if number > 1 else ''}: throughput of the libraries'",
            "dataset_maps",
            "of_libraries",
            0.85,
            True,
            {"dataset": dataset, "processes": number},
        )
        for dataset in ("MS lesions, real", "CT, synthetic")
        for number in (1, 2)
    ),
    *(
        Target(
            f"distance + lesion ids on disk, {name}: share of nnU-Net's arrays",
            "store",
            "of_preprocessed",
            0.4,
            where={"dataset": dataset, "stored": _STORED, "compact": False},
        )
        for name, dataset in (
            ("synthetic heads", "Dataset901_Benchmark"),
            ("hippocampus", "Dataset004_Hippocampus"),
            ("MS lesions", "Dataset011_MSLesion"),
        )
    ),
    Target(
        "loader, stored distances: time of nnU-Net's", "loader", "of_stock", 1.15, where={"maps": "distance, stored"}
    ),
    Target(
        "loader, distances of the patch: time of nnU-Net's",
        "loader",
        "of_stock",
        1.4,
        where={"maps": "distance, of the patch"},
    ),
    *(
        Target(f"{loss}: {what} of nnU-Net's Dice + CE", "losses", figure, limit, where={"loss": loss})
        for loss in ("RRW", "IW-Dice + IW-CE")
        for what, figure, limit in (("time", "seconds_of_stock", 1.0), ("memory", "peak_of_stock", 1.1))
    ),
    *(
        _times_faster(f"`{loss}`, 200 lesions, beside a loop over them", "per_lesion", 20, loss=loss)
        for loss in ("blob", "cc_dice_ce")
    ),
    Target(
        "HD, HD95, ASSD, NSD: time of surface-distance's",
        "evaluation",
        "ratio",
        1 / 2,
        where={"rival": "surface_distance"},
    ),
    Target("PQ, Dice of lesions: time of panoptica's", "evaluation", "ratio", 1 / 5, where={"rival": "panoptica"}),
    Target(
        "GPU: exact distances of 2 x 3 x 128^3, ms",
        "gpu_distance",
        "milliseconds",
        3,
        where={"transform": "distance to 6 masks"},
    ),
    Target(
        "GPU: their largest error, voxels",
        "gpu_distance",
        "largest_error_voxels",
        1e-3,
        where={"transform": "distance to 6 masks"},
    ),
    _times_faster("GPU: the same beside SciPy", "gpu_distance", 300, transform="distance to 6 masks"),
    Target(
        "GPU: epoch of RWTrainer, stored maps, of nnUNetTrainer's",
        "gpu_epochs",
        "epoch_seconds_of_stock",
        1.03,
        where={"trainer": "RWTrainer"},
    ),
    Target(
        "GPU: the same, maps on the device",
        "gpu_epochs",
        "epoch_seconds_of_stock",
        1.05,
        where={"trainer": "RWPatchTrainer"},
    ),
    Target(
        "GPU: peak memory of RWTrainer, of nnUNetTrainer's",
        "gpu_epochs",
        "peak_gpu_mib_of_stock",
        1.03,
        where={"trainer": "RWTrainer"},
    ),
)
