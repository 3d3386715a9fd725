"""The tables of the evidence, from the rows that `benchmarks.evidence.rules` wrote."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from benchmarks.harness import read_rows
from benchmarks.tables import Column, Row, difference, markdown_table, number, of_seeds, points, table_of
from nnunet_rw.postprocessing.threshold.report import FAMILY_NAMES

# nnU-Net's loss, and the trainer for many small lesions: as short trainings need, both with Adam.
STOCK, SMALL_LESIONS = "nnUNetTrainerVanillaAdam1en3", "RWTrainer_SmallLesionsAdam"
# Porwal et al. 2020, doi 10.1016/j.media.2019.101561: the best of each class on its test images, at full resolution.
IDRID_BEST = {"microaneurysm": 0.50, "haemorrhage": 0.68, "hard_exudate": 0.89, "soft_exudate": 0.70}


def rules_table(results: Sequence[str], trainers: Collection[str], price: float | None = None) -> str:
    """Some trainers under every family of rules, out of fold; gains are over the first line of a class.

    Parameters
    ----------
    results : sequence of str
    trainers : collection of str
    price : float, optional
        False positives per case. Default: as many as the first trainer has at 0.5.
    """
    columns = (
        _CLASS,
        _TRAINER,
        ("rule", lambda row: FAMILY_NAMES[row["family"]]),
        _ALLOWED,
        ("false positives", lambda row: number(row["false_positives"], decimals=1)),
        *_with_gain("found", "recall"),
        *_with_gain("small ones found", "small_recall"),
        *_with_gain("lesion F1", "f1"),
        *_with_gain("Dice", "dice"),
    )
    return table_of([row for row in rows_of(results) if _has_price(row, price) and row["trainer"] in trainers], columns)


def trainers_table(
    results: Sequence[str],
    family: str,
    price: float | None = None,
    trainers: Collection[str] | None = None,
    classes: Collection[str] | None = None,
) -> str:
    """Trainers under rules of one family, out of fold; gains are over the first under rules of the same family.

    Parameters
    ----------
    results : sequence of str
    family : str
    price : float, optional
        False positives per case. Default: as many as the first trainer has at 0.5.
    trainers, classes : collections of str, optional
        Default: all.
    """
    columns = (
        _CLASS,
        _TRAINER,
        _SEEDS,
        *((_ALLOWED,) if price is None else ()),
        ("false positives", lambda row: number(row["false_positives"], decimals=1)),
        *_with_gain("small ones found", "small_recall", over="gain_of_trainer"),
        *_with_gain("all found", "recall", over="gain_of_trainer"),
        *_with_gain("lesion F1", "f1", over="gain_of_trainer"),
        *_with_gain("Dice", "dice", over="gain_of_trainer"),
    )
    rows = [
        row
        for row in rows_of(results)
        if row["family"] == family
        and _has_price(row, price)
        and (trainers is None or row["trainer"] in trainers)
        and (classes is None or row["class"] in classes)
    ]
    return table_of(rows, columns)


def prices_table(results: Sequence[str], family: str) -> str:
    """Small lesions found, all found and Dice of every trainer under rules of one family, a column per price."""
    rows = [row for row in rows_of(results) if row["family"] == family and not row["own"]]
    prices = list(dict.fromkeys(row["price"] for row in rows))
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        lines.setdefault((row["class"], f"`{row['trainer']}`"), []).append(
            " / ".join(points(row[key]) for key in ("small_recall", "recall", "dice"))
        )
    header = ["lesions", "trainer", *(f"at most {price:g}" for price in prices)]
    return markdown_table(header, [[*names, *cells] for names, cells in lines.items()])


def found_by_rules_table(price: float) -> str:
    """What nnU-Net's loss finds of the lesions of two classes under each family of rules, all and small ones."""
    lines = []
    for family in ("single", "single_volume", "hysteresis"):
        found = [
            points(_row(result, lesions, STOCK, family, price)[figure])
            for result, lesions in _TWO_KINDS
            for figure in ("recall", "small_recall")
        ]
        lines.append([FAMILY_NAMES[family], *found])
    header = [column for _, lesions in _TWO_KINDS for column in (f"{lesions}, found", "small ones")]
    return markdown_table(["rule", *header], lines)


def gains_table(trainer: str, price: float) -> str:
    """What a trainer gains under rules of several families, at two prices."""
    lines = []
    for asked, family in (
        (None, "hysteresis"),
        (price, "hysteresis"),
        (price, "single_volume"),
        (price, "single"),
    ):
        line = ["as many as above 0.5" if asked is None else f"{asked:g} per case", FAMILY_NAMES[family]]
        for result, lesions, figure in (
            ("idrid", "hard_exudate", "small_recall"),
            ("idrid", "haemorrhage", "recall"),
            ("ms_patients", "MS lesion", "small_recall"),
        ):
            row = _row(result, lesions, trainer, family, asked)
            for name in (figure, "dice"):
                line.append(difference(*(row[f"{name}_gain_of_trainer{end}"] for end in ("", "_low", "_high"))))
        lines.append(line)
    found = ("small hard exudates", "all haemorrhages", "small MS lesions")
    return markdown_table(["allowed", "rule", *(column for name in found for column in (name, "Dice"))], lines)


def _row(result: str, lesions: str, trainer: str, family: str, price: float | None) -> Row:
    (row,) = (
        row
        for row in rows_of((result,))
        if (row["class"], row["trainer"], row["family"]) == (lesions, trainer, family) and _has_price(row, price)
    )
    return row


def areas_table(result: str) -> str:
    """The area under the precision-recall curve of voxels of every class and trainer, and the challenge's best."""
    columns = (
        _CLASS,
        _TRAINER,
        ("area under the precision-recall curve", lambda row: of_seeds(row["area_seeds"], scale=1, decimals=2)),
        ("best of the challenge", lambda row: number(IDRID_BEST.get(row["class"]))),
    )
    return table_of(read_rows(f"evidence_areas_{result}"), columns)


def missed_table(results: Sequence[str]) -> str:
    """Of every class and size of lesions, how those that are missed differ from those that are found."""
    columns = (
        _CLASS,
        ("size", lambda row: row["size"]),
        ("lesions", lambda row: str(row["lesions"])),
        ("found", lambda row: points(row["found"])),
        ("contrast of found ones", lambda row: number(row["contrast_found"])),
        ("of missed ones", lambda row: number(row["contrast_missed"])),
        ("missed, best voxel above 0.5", lambda row: points(row["missed_above_half"])),
        ("missed, none above 0.1", lambda row: points(row["missed_below_tenth"])),
    )
    return table_of([row for result in results for row in read_rows(f"evidence_missed_{result}")], columns)


def rows_of(results: Sequence[str]) -> list[Row]:
    """All rows of some results, one after the other."""
    return [row for result in results for row in read_rows(f"evidence_rules_{result}")]


def _with_gain(header: str, figure: str, over: str = "gain") -> tuple[Column, Column]:
    """The figure over seeds, and its difference to the baseline with an interval, by the rows' name for it."""

    def gain(row: Row) -> str:
        if f"{figure}_{over}" not in row:
            return ""
        value, low, high = (row[f"{figure}_{over}{end}"] for end in ("", "_low", "_high"))
        return "" if value is None else difference(value, low, high)

    return (header, lambda row: of_seeds(row[f"{figure}_seeds"])), ("gain", gain)


def _has_price(row: Row, price: float | None) -> bool:
    return bool(row["own"]) if price is None else row["price"] == price and not row["own"]


# Of which the rules are compared.
_TWO_KINDS = (("ms_patients", "MS lesion"), ("idrid", "hard_exudate"))
_CLASS: Column = ("lesions", lambda row: row["class"])
_TRAINER: Column = ("trainer", lambda row: f"`{row['trainer']}`")
_SEEDS: Column = ("seeds", lambda row: str(row["seeds"]))
_ALLOWED: Column = ("allowed", lambda row: number(row["price"], decimals=1))
