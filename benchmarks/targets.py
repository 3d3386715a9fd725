"""What the project wants of itself, and where the figure stands that tells whether it got it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import maps, store, synthetic_dataset
from benchmarks.dataset_maps import CT, MS
from benchmarks.harness import matching, read_rows
from benchmarks.losses import IW_DICE_CE, RRW
from benchmarks.tables import markdown_table


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

    def row(self, results: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What was measured beside what was wanted; "measured" and "met" are None where there is no such result."""
        values = [row[self.figure] for row in matching(results, self.where) if self.figure in row]
        if len(values) > 1:
            raise ValueError(f"Expected one row of {self.result} for '{self.what}', but got {len(values)}.")
        measured = values[0] if values else None
        met = None
        if measured is not None:
            met = measured >= self.limit if self.at_least else measured <= self.limit
        return {
            "figure": self.what,
            "measured": measured,
            "target": self.limit,
            "at_least": self.at_least,
            "met": met,
        }


def _times_faster(what: str, result: str, limit: float, **where: Any) -> Target:
    return Target(f"{what}: times faster", result, "times_faster", limit, True, where)


def _of_maps(what: str, ms_limit: float, ct_limit: float) -> list[Target]:
    return [
        _times_faster(f"{what}, {volume}", "maps", limit, volume=volume, figures=what)
        for volume, limit in (("MS lesions", ms_limit), ("CT", ct_limit))
    ]


def _of_losses(result: str) -> list[Target]:
    return [
        Target(f"{loss}: {what} of nnU-Net's loss", result, figure, limit, where={"loss": loss})
        for loss in (RRW, IW_DICE_CE)
        for what, figure, limit in (("time", "seconds_of_stock", 1.0), ("memory", "peak_of_stock", 1.1))
    ]


def _of_gpu_distance(what: str, figure: str, limit: float, at_least: bool = False) -> Target:
    return Target(what, "gpu_distance", figure, limit, at_least, {"transform": "distance to 6 masks"})


TARGETS = (
    *_of_maps(maps.REGION_WISE, 12, 25),
    Target(
        f"{maps.REGION_WISE}, CT: memory of the loop's",
        "maps",
        "peak_of_reference",
        0.3,
        where={"volume": "CT", "figures": maps.REGION_WISE},
    ),
    *_of_maps(maps.LESION_VOLUMES, 90, 200),
    *_of_maps(maps.WEIGHTS, 90, 200),
    *(
        Target(
            f"`nnunet-rw maps`, {dataset}, {number} process{'es' if number > 1 else ''}: throughput of the libraries'",
            "dataset_maps",
            "of_libraries",
            0.85,
            True,
            {"dataset": dataset, "processes": number},
        )
        for dataset in (MS, CT)
        for number in (1, 2)
    ),
    *(
        Target(
            f"distance + lesion ids on disk, {dataset}: share of nnU-Net's arrays",
            "store",
            "of_preprocessed",
            0.4,
            where={"dataset": dataset, "stored": store.BOTH, "compact": False},
        )
        for dataset in (synthetic_dataset.DATASET, "Dataset004_Hippocampus", "Dataset011_MSLesion")
    ),
    *(
        Target(f"loader, {maps}: time of nnU-Net's", "loader", "of_stock", limit, where={"maps": maps})
        for maps, limit in (("distance, stored", 1.15), ("distance, of the patch", 1.4))
    ),
    *_of_losses("losses"),
    *(
        _times_faster(f"`{loss}`, 200 lesions, beside a loop over them", "per_lesion", 20, loss=loss)
        for loss in ("blob", "cc_dice_ce")
    ),
    *(
        Target(f"{what}: time of {rival}'s", "evaluation", "ratio", limit, where={"rival": rival, "figures": figures})
        for what, figures, rival, limit in (
            ("HD, HD95, ASSD, NSD", "HD, HD95, ASSD, NSD", "surface_distance", 1 / 2),
            ("PQ, Dice of lesions", "PQ, SQ, RQ, Dice, IoU of lesions", "panoptica", 1 / 5),
        )
    ),
    *(
        Target(f"all rules of 512 x 512 x 600 voxels with 2 000 lesions, one core: {what}", "rules", figure, limit)
        for what, figure, limit in (("seconds", "seconds", 30), ("GiB", "peak_gib", 4))
    ),
    _of_gpu_distance("exact distance transform of 2 x 3 x 128^3, ms", "milliseconds", 3),
    _of_gpu_distance("its largest error, voxels", "largest_error_voxels", 1e-3),
    _of_gpu_distance("times faster than SciPy", "times_faster", 300, True),
    *_of_losses("gpu_losses"),
    *(
        Target(
            f"{trainer}: {what} of nnUNetTrainer's",
            "gpu_epochs",
            f"{figure}_of_stock",
            limit,
            where={"trainer": trainer},
        )
        for trainer, epoch_limit in (("RWTrainer", 1.03), ("RWTrainer_SmallLesions", 1.03), ("RWPatchTrainer", 1.05))
        for what, figure, limit in (("epoch", "epoch_seconds", epoch_limit), ("peak memory", "peak_gpu_mib", 1.05))
    ),
)


def targets_of(result: str, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The targets of a result that has these rows."""
    return [target.row(rows) for target in TARGETS if target.result == result]


def targets_table(targets: Sequence[Target] = TARGETS) -> str:
    """Every target, what was measured, and whether it is met."""
    cells = []
    for target in targets:
        row = target.row(read_rows(target.result))
        place = "GPU: " if target.result.startswith("gpu") else ""
        measured = "not measured" if row["measured"] is None else f"{row['measured']:.3g}"
        said = {True: "yes", False: "**no**", None: ""}[row["met"]]
        cells.append([f"{place}{target.what}", f"{'≥' if target.at_least else '≤'} {target.limit:g}", measured, said])
    return markdown_table(["figure", "target", "measured", "met"], cells)
