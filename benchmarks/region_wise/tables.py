"""The tables of docs/region_wise.md, from the rows that `benchmarks.region_wise.collect` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial

from benchmarks import harness
from benchmarks.harness import read_rows
from benchmarks.region_wise.collect import BESIDE_STOCK, MEAN, PRODUCT, RRW, RRW_BETA, STOCK, STOCK_ADAM, trainer_rows
from benchmarks.tables import Column, Row, difference, markdown_table, of_seeds, table_of

# As a reader knows them, RRW first, then its rivals, then nnU-Net's own loss.
ALONE = {
    RRW: "RRW",
    RRW_BETA: "RRW, beta2 0.95",
    "RWPaper_Boundary": "boundary maps",
    "RWPaper_ActiveContour": "active contours",
    "RWPaper_Dice": "Dice",
    "RWPaper_Focal": "focal",
    "RWPaper_CE": "cross-entropy",
    "RWPaper_WCE": "weighted cross-entropy",
    STOCK_ADAM: "nnU-Net's Dice + cross-entropy",
}
BESIDE = {
    "RWPaper_Dice": "Dice",
    "RWPaper_RRW_Dice": "Dice + RRW, equal",
    "RWPaper_RRW_Dice_Gradual": "Dice + RRW, gradual",
    "RWPaper_Boundary_Dice": "Dice + boundary maps, equal",
    "RWPaper_Boundary_Dice_Gradual": "Dice + boundary maps, gradual",
    "RWPaper_CE": "cross-entropy",
    "RWPaper_RRW_CE": "cross-entropy + RRW, equal",
    "RWPaper_RRW_CE_Gradual": "cross-entropy + RRW, gradual",
    "RWPaper_Boundary_CE": "cross-entropy + boundary maps, equal",
    "RWPaper_Boundary_CE_Gradual": "cross-entropy + boundary maps, gradual",
}
# Loss, optimiser, and the trainer.
OPTIMISERS = (
    ("RRW", "Adam, 0.001", RRW),
    ("RRW", "Adam, 0.001, betas 0.9 and 0.95", RRW_BETA),
    ("RRW", "SGD, 0.01", "RWPaper_RRW_SGD"),
    ("nnU-Net's Dice + cross-entropy", "Adam, 0.001", STOCK_ADAM),
    ("nnU-Net's Dice + cross-entropy", "SGD, 0.01", STOCK),
)


def alone_table(result: str) -> str:
    """Every loss alone: overlap and distances of the classes, and the difference of their means to RRW."""
    rows = _by_trainer(result)
    columns: tuple[Column, ...] = (
        ("loss", lambda row: ALONE[row["trainer"]]),
        *_of_classes(rows.values()),
        ("Dice less RRW's", lambda row: _difference(row, RRW, "dice")),
        ("HD95 less RRW's", lambda row: _difference(row, RRW, "hd95_mm")),
        _TRAINER,
    )
    return table_of((rows[trainer] for trainer in ALONE if trainer in rows), columns)


def stability_table(result: str) -> str:
    """How steadily every loss alone trained."""
    rows = _by_trainer(result)
    columns: tuple[Column, ...] = (
        ("loss", lambda row: ALONE[row["trainer"]]),
        ("seeds", lambda row: str(row["seeds"])),
        ("seeds that never predict a class", lambda row: str(without_a_class(row))),
        ("pseudo-Dice at the end", lambda row: of_seeds([curve[-1] for curve in row["pseudo_dice_seeds"]])),
        ("largest fall below the best before", lambda row: of_seeds(row["largest_fall_seeds"])),
        ("largest rise of the loss", lambda row: of_seeds(row["loss_rise_seeds"], decimals=0, unit=" %")),
        ("gradient spikes", lambda row: ", ".join(map(str, row["gradient_spikes_seeds"]))),
    )
    return table_of((rows[trainer] for trainer in ALONE if trainer in rows), columns)


def beside_table(result: str) -> str:
    """Dice and cross-entropy alone and with maps beside them, at once ("equal") and step by step ("gradual")."""
    rows = _by_trainer(result)
    columns: tuple[Column, ...] = (
        ("loss", lambda row: BESIDE[row["trainer"]]),
        ("Dice", lambda row: _figure(row, "dice", MEAN)),
        ("HD95, mm", lambda row: _figure(row, "hd95_mm", MEAN)),
        ("Dice less that without maps", lambda row: _difference(row, without_maps(row["trainer"]), "dice")),
        ("Dice, gradual less equal", lambda row: _difference(row, equal_of(row["trainer"]), "dice")),
        ("HD95, gradual less equal", lambda row: _difference(row, equal_of(row["trainer"]), "hd95_mm")),
        _TRAINER,
    )
    return table_of((rows[trainer] for trainer in BESIDE if trainer in rows), columns)


def without_maps(trainer: str) -> str:
    """Of the term that a trainer of `BESIDE` has beside its maps, alone."""
    return f"RWPaper_{equal_of(trainer).rpartition('_')[2]}"


def equal_of(trainer: str) -> str:
    """A trainer without its schedule."""
    return trainer.removesuffix("_Gradual")


def optimisers_table(result: str) -> str:
    """RRW and nnU-Net's loss with Adam and with nnU-Net's SGD."""
    rows = _by_trainer(result)
    names = {trainer: (loss, optimiser) for loss, optimiser, trainer in OPTIMISERS}
    adam = {"RWPaper_RRW_SGD": RRW, RRW_BETA: RRW, STOCK: STOCK_ADAM}
    columns: tuple[Column, ...] = (
        ("loss", lambda row: names[row["trainer"]][0]),
        ("optimiser", lambda row: names[row["trainer"]][1]),
        *_of_classes(rows.values()),
        ("Dice less Adam's", lambda row: _difference(row, adam.get(row["trainer"], ""), "dice")),
        _TRAINER,
    )
    return table_of((rows[trainer] for trainer in names if trainer in rows), columns)


def weight_table(results: Sequence[str]) -> str:
    """nnU-Net's loss without and with maps of several weights beside it, dataset by dataset."""
    weights = {STOCK: "none", PRODUCT: "4Ramp"}
    columns: tuple[Column, ...] = (
        ("dataset", lambda row: row["task"]),
        (
            "weight of `rrw`",
            lambda row: weights.get(row["trainer"], row["trainer"].removeprefix(BESIDE_STOCK)),
        ),
        ("seeds", lambda row: str(row["seeds"])),
        ("cases", lambda row: str(row["cases"])),
        ("Dice", lambda row: _figure(row, "dice", MEAN)),
        ("less nnU-Net's", lambda row: _difference(row, STOCK, "dice")),
        ("HD95, mm", lambda row: _figure(row, "hd95_mm", MEAN)),
        ("less nnU-Net's, mm", lambda row: _difference(row, STOCK, "hd95_mm")),
        ("lesions found, %", lambda row: _figure(row, "lesion_recall", MEAN)),
        ("false positives per case", lambda row: _figure(row, "false_positives", MEAN)),
    )
    rows = [row for result in results for row in _by_trainer(result).values()]
    shown = [row for row in rows if row["trainer"] in weights or row["trainer"].startswith(BESIDE_STOCK)]
    return table_of(shown, columns)


def runs_table(results: Sequence[str]) -> str:
    """Runs of ``nnunet-rw stability``, by optimiser and loss."""
    header = ["optimiser", "loss", "seeds", "all background", "largest rise of the loss", "pseudo-Dice"]
    lines = []
    for result in results:
        content = json.loads((harness.RESULTS / f"{result}.json").read_text(encoding="utf-8"))
        for loss, runs in content["losses"].items():
            # Kept as the lowest, the median and the highest of the seeds.
            rise, dice = (
                "{:{form}} ({:{form}} to {:{form}})".format(median, low, high, form=form)
                for form, (low, median, high) in ((".0%", runs["largest_rise"]), (".3f", runs["pseudo_dice"]))
            )
            # Without a name it is nnU-Net's own.
            name, rate = (content["settings"].get(key) for key in ("optimizer_name", "initial_lr"))
            optimiser = f"{'Adam' if name == 'adam' else 'SGD'}, {rate or 0.01:g}"
            lines.append([optimiser, f"`{loss}`", str(runs["runs"]), str(runs["all_background"]), rise, dice])
    return markdown_table(header, lines)


def _by_trainer(result: str) -> dict[str, Row]:
    """A row of every trainer."""
    return {row["trainer"]: row for row in trainer_rows(read_rows(result))}


def _of_classes(rows: Iterable[Row]) -> list[Column]:
    """Both metrics of every class."""
    names = [key[5:-6] for key in next(iter(rows), {}) if key.startswith("dice_") and key.endswith("_seeds")]
    return [
        (f"{title}, {name}", partial(_figure, metric=metric, name=name))
        for title, metric in (("Dice", "dice"), ("HD95 in mm", "hd95_mm"))
        for name in names
        if name != MEAN
    ]


def _figure(row: Row, metric: str, name: str) -> str:
    """Nothing where it was not evaluated."""
    key = f"{metric}_{name}_seeds"
    return of_seeds(row[key], *_FORMS[metric]) if key in row else ""


def _difference(row: Row, other: str, metric: str) -> str:
    """Of the mean over classes; nothing where the two have no seed in common."""
    if other not in row["differences"]:
        return ""
    value, low, high = row["differences"][other][f"{metric}_{MEAN}"]
    return difference(value, low, high, *_FORMS[metric])


def without_a_class(row: Row) -> int:
    """Seeds that predict nothing of a class in all cases."""
    counts = [values for key, values in row.items() if key.startswith("unpredicted_")]
    return sum(row["cases"] in of_seed for of_seed in zip(*counts, strict=True))


_TRAINER: Column = ("trainer", lambda row: f"`{row['trainer']}`")
# Scale and decimals.
_FORMS: dict[str, tuple[float, int]] = {
    "dice": (100, 1),
    "hd95_mm": (1, 2),
    "lesion_recall": (100, 1),
    "false_positives": (1, 1),
}
