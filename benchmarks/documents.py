"""The tables of the documentation, drawn from ``results/*.json``, so that no figure there is typed by hand."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks.child import CHECKOUT
from benchmarks.costs import costs_table, scaling_table
from benchmarks.evidence.tables import (
    SMALL_LESIONS,
    STOCK,
    areas_table,
    found_by_rules_table,
    gains_table,
    missed_table,
    prices_table,
    rules_table,
    trainers_table,
)
from benchmarks.harness import read_rows
from benchmarks.region_wise.tables import (
    alone_table,
    beside_table,
    optimisers_table,
    runs_table,
    stability_table,
    weight_table,
)
from benchmarks.tables import Table, markdown_table
from benchmarks.targets import targets_table

DOCUMENTS = (
    CHECKOUT / "README.md",
    *(
        CHECKOUT / "docs" / f"{name}.md"
        for name in ("evaluation", "evidence", "losses_compared", "performance", "region_wise")
    ),
    CHECKOUT / "benchmarks" / "measurements.md",
)
_PLACE = re.compile(r"(?P<begin><!-- table: (?P<name>\w+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
_SECONDS, _RATIO, _TIMES, _SHARE = ".3f", ".2f", ".0f", ".0%"
_BOUNDS = {
    "times a copy of the result": ("times_copy", ".0f"),
    "edt": ("edt_share", _SHARE),
    "cc3d": ("cc3d_share", _SHARE),
    "blosc2": ("blosc2_share", _SHARE),
    "interpreter, at most": ("interpreter_share_at_most", ".1%"),
}
_GRADIENT = {
    "of the others, at first": ("share_at_start", ".3g"),
    "trained": ("share_trained", ".3g"),
    "cosine, at first": ("cosine_at_start", _RATIO),
    "trained, cosine": ("cosine_trained", _RATIO),
}
_LOSSES = {
    "loss": ("loss", ""),
    "s": ("seconds", _SECONDS),
    "of nnU-Net's": ("seconds_of_stock", _RATIO),
    "MiB": ("peak_mib", ".0f"),
    "of nnU-Net's memory": ("peak_of_stock", _RATIO),
}
TABLES = {
    "maps": Table(
        "maps",
        {
            "volume": ("volume", ""),
            "voxels": ("shape", ""),
            "lesions": ("lesions", ""),
            "figures": ("figures", ""),
            "s": ("seconds", _SECONDS),
            "loop, s": ("reference_seconds", ".2f"),
            "times faster": ("times_faster", _TIMES),
            "MiB": ("peak_mib", ".0f"),
            "of the loop's memory": ("peak_of_reference", _RATIO),
        },
    ),
    "throughput": Table(
        "dataset_maps",
        {
            "dataset": ("dataset", ""),
            "voxels per case": ("shape", ""),
            "cases": ("cases", ""),
            "processes": ("processes", ""),
            "s": ("seconds", ".1f"),
            "Mvoxel/s": ("mvoxels_per_second", ".1f"),
            "libraries alone": ("libraries_mvoxels_per_second", ".1f"),
            "share of it": ("of_libraries", _RATIO),
            "without Python's start": ("of_libraries_without_start", _RATIO),
        },
        {"measured": "throughput"},
    ),
    "shares": Table(
        "dataset_maps",
        {
            "dataset": ("dataset", ""),
            "part": ("part", ""),
            "ns per voxel": ("nanoseconds_per_voxel", ".1f"),
            "share": ("share", _SHARE),
        },
        {"measured": "share"},
    ),
    "memory": Table(
        "dataset_maps",
        {
            "voxels": ("shape", ""),
            "classes": ("classes", ""),
            "cases": ("cases", ""),
            "maps": ("kinds", ""),
            "MiB before": ("start_mib", ".0f"),
            "MiB at most": ("peak_mib", ".0f"),
            "bytes per voxel": ("bytes_per_voxel", ".1f"),
        },
        {"measured": "memory"},
    ),
    "store": Table(
        "store",
        {
            "dataset": ("dataset", ""),
            "compact": ("compact", ""),
            "stored": ("stored", ""),
            "bytes per voxel": ("bytes_per_voxel", ".3f"),
            "of the preprocessed arrays": ("of_preprocessed", _SHARE),
            "ms to read a patch": ("milliseconds_per_patch", ".1f"),
            "s to write a case": ("seconds_to_write_a_case", ".2f"),
            "ms to check a case": ("milliseconds_to_check_a_case", ".1f"),
        },
    ),
    "growth_voxels": Table(
        "growth",
        {
            "voxels": ("voxels", ""),
            "computation": ("computation", ""),
            "s": ("seconds", _SECONDS),
            "ns per voxel": ("nanoseconds_per_voxel", ".1f"),
            **_BOUNDS,
        },
        {"grows": "voxels"},
    ),
    "growth_classes": Table(
        "growth",
        {
            "foreground classes": ("classes", ""),
            "computation": ("computation", ""),
            "s": ("seconds", _SECONDS),
            **_BOUNDS,
        },
        {"grows": "classes"},
    ),
    "loader": Table(
        "loader",
        {"maps": ("maps", ""), "s per sample": ("seconds_per_sample", _SECONDS), "of nnU-Net's": ("of_stock", _RATIO)},
    ),
    "losses": Table("losses", _LOSSES),
    "gpu_losses": Table("gpu_every_loss", {**_LOSSES, "s": ("seconds", ".4f")}),
    "gpu_epochs": Table(
        "gpu_epochs",
        {
            "trainer": ("trainer", ""),
            "s of an epoch": ("epoch_seconds", ".2f"),
            "of nnU-Net's": ("epoch_seconds_of_stock", _SECONDS),
            "waiting for patches, s": ("loader_wait_seconds", _SECONDS),
            "s of a step alone": ("step_seconds", _SECONDS),
            "of nnU-Net's step": ("step_seconds_of_stock", _SECONDS),
            "waits for the GPU added": ("waits_added", ""),
            "MiB": ("peak_gpu_mib", ".0f"),
            "of nnU-Net's memory": ("peak_gpu_mib_of_stock", _SECONDS),
        },
    ),
    "gpu_agreement": Table(
        "gpu_agreement",
        {
            "on a GPU and on a CPU": ("check", ""),
            "compared": ("cases", ""),
            "largest difference": ("largest_difference", ".1g"),
            "of": ("of", ""),
            "allowed": ("tolerance", ".0g"),
        },
    ),
    "per_lesion": Table(
        "per_lesion",
        {
            "loss": ("loss", ""),
            "s": ("seconds", _SECONDS),
            "loop, s": ("loop_seconds", ".2f"),
            "times faster": ("times_faster", _TIMES),
        },
    ),
    "evaluation": Table(
        "evaluation",
        {
            "figures": ("figures", ""),
            "rival": ("rival", ""),
            "s": ("our_seconds", _SECONDS),
            "rival, s": ("rival_seconds", _SECONDS),
            "of its time": ("ratio", _RATIO),
        },
    ),
    "coverage": Table(
        "coverage",
        {
            "distribution": ("distribution", ""),
            "cases": ("cases", ""),
            "interval holds the true value": ("coverage", ".1%"),
            "wrong verdicts": ("verdict_error", ".1%"),
        },
    ),
    "gradient_shares": Table(
        "gradient_shares",
        {
            "trainer": ("trainer", ""),
            "term": ("term", ""),
            "weight": ("weight", ""),
            **_GRADIENT,
        },
        {"measured": "trainers", "stock": False},
    ),
    "gradient_shares_classes": Table(
        "gradient_shares",
        {
            "`rrw`": ("trainer", ""),
            "classes": ("classes", ""),
            **_GRADIENT,
            "Dice of the foreground, trained": ("dice_trained", _RATIO),
        },
        {"measured": "classes", "stock": False},
    ),
    "threshold_margin": Table(
        "threshold_margin",
        {
            "cases of the choice": ("cases", ""),
            "false positives allowed": ("allowed", ""),
            "margin": ("margin", ""),
            "choices that keep within": ("kept", _SHARE),
            "true false positives, of those allowed": ("false_positives_of_allowed", _SHARE),
        },
    ),
    "lesion_count": Table(
        "lesion_count",
        {
            "loss": ("loss", ""),
            "5 lesions, s": ("seconds_5_lesions", _SECONDS),
            "500 lesions, s": ("seconds_500_lesions", _SECONDS),
            "ratio": ("ratio", _RATIO),
        },
    ),
}


def _shares_by_dataset() -> str:
    """A line per term of a trainer, with its shares in every dataset beside each other."""
    trainers = {row["trainer"] for row in read_rows("gradient_shares", {"measured": "trainers"})}
    found = read_rows("gradient_shares", {"measured": "datasets", "stock": False})
    rows = [row for row in found if row["trainer"] in trainers]
    datasets = list(dict.fromkeys(row["data"] for row in rows))
    lines: dict[tuple[str, ...], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        lines.setdefault((row["trainer"], row["term"], row["weight"]), {})[row["data"]] = row
    header = ["trainer", "term", "weight"]
    header += [f"{dataset.partition('_')[2]}, {when}" for dataset in datasets for when in ("at first", "trained")]
    return markdown_table(
        header,
        [
            [*line, *(f"{of[dataset][key]:.3g}" for dataset in datasets for key in ("share_at_start", "share_trained"))]
            for line, of in lines.items()
        ],
    )


_PATIENTS = ("ms_patients", "idrid")
COMPUTED: dict[str, Callable[[], str]] = {
    "targets": targets_table,
    "costs": costs_table,
    "gradient_shares_real": _shares_by_dataset,
    "scaling": scaling_table,
    "evidence_answer": partial(trainers_table, _PATIENTS, "hysteresis", 16.0),
    "evidence_found": partial(found_by_rules_table, 16.0),
    "evidence_gains": partial(gains_table, SMALL_LESIONS, 16.0),
    "evidence_rules": partial(rules_table, _PATIENTS, (STOCK, SMALL_LESIONS), 16.0),
    "evidence_rules_at_half": partial(rules_table, _PATIENTS, (STOCK,)),
    "evidence_trainers": partial(trainers_table, _PATIENTS, "hysteresis"),
    "evidence_dice": partial(trainers_table, ("idrid_dice",), "hysteresis", classes=("haemorrhage", "hard_exudate")),
    "evidence_prices": partial(prices_table, _PATIENTS, "hysteresis"),
    "evidence_areas": partial(areas_table, "idrid"),
    "evidence_missed": partial(missed_table, _PATIENTS),
    "evidence_boundaries": partial(weight_table, ("region_wise_weight_hippocampus",)),
    "region_wise_alone_2d": partial(alone_table, "region_wise_2d"),
    "region_wise_alone_2d_long": partial(alone_table, "region_wise_2d_long"),
    "region_wise_alone_3d": partial(alone_table, "region_wise_3d"),
    "region_wise_stability_2d": partial(stability_table, "region_wise_2d"),
    "region_wise_stability_3d": partial(stability_table, "region_wise_3d"),
    "region_wise_beside_2d": partial(beside_table, "region_wise_2d"),
    "region_wise_beside_3d": partial(beside_table, "region_wise_3d"),
    "region_wise_weight": partial(weight_table, ("region_wise_weight_hippocampus", "region_wise_weight_ms")),
    "region_wise_runs": partial(runs_table, ("stability_hippocampus", "stability_hippocampus_adam")),
    "region_wise_optimisers_2d": partial(optimisers_table, "region_wise_2d"),
    "region_wise_optimisers_3d": partial(optimisers_table, "region_wise_3d"),
}


def updated(text: str) -> str:
    """A document with its tables as the results are now.

    Raises
    ------
    KeyError
        The document asks for a table that is not there.
    """

    def table(place: re.Match[str]) -> str:
        name = place["name"]
        drawn = COMPUTED[name]() if name in COMPUTED else TABLES[name].markdown()
        return f"{place['begin']}{drawn}{place['end']}"

    return _PLACE.sub(table, text)


def update_documents() -> list[str]:
    """Write the tables into the documents; the names of those that changed."""
    changed = []
    for path in DOCUMENTS:
        before = path.read_text(encoding="utf-8")
        after = updated(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed.append(path.name)
    return changed
