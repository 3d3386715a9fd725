"""The tables of the evidence, from the rows that `benchmarks.evidence.collect` wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.harness import read_rows
from benchmarks.tables import Column, Row, difference, markdown_table, number, points, table_of
from nnunet_rw.postprocessing.threshold.report import FAMILY_NAMES

# By their name in a table: the key, and how a value is written.
Figures = Mapping[str, tuple[str, Callable[[float | None], str]]]


def found_table(result: str) -> str:
    """What trainers find at the baseline's false positives, the best in small lesions first.

    Those that have more at every threshold come last.
    """
    baseline, *others = read_rows(result)
    columns = (
        _TRAINER,
        _SEEDS,
        ("threshold", lambda row: f"{row['matched_threshold']:.3g}"),
        ("false positives", lambda row: number(row["matched_false_positives"])),
        *_with_gain("small lesions found", "matched_small_recall"),
        *_with_gain("all found", "matched_recall"),
        *_with_gain("Dice", "matched_dice"),
    )
    return table_of(
        (baseline, *sorted(others, key=lambda row: (is_dearer(row), -row["matched_small_recall_gain"]))), columns
    )


def is_dearer(row: Row) -> bool:
    """Whether a trainer has more false positives than the baseline at every threshold."""
    return row["matched_false_positives"] > row["price"]


def equal_table(results: Mapping[str, str], trainer: str) -> str:
    """The baseline and a trainer at equal false positives, at thresholds that other cases chose.

    Parameters
    ----------
    results : dict of str to str
        What a test is to its training, and its result.
    trainer : str
    """
    columns = (
        *_TESTED,
        ("false positives per case", lambda row: f"{row['left_out_false_positives']:.0f}"),
        ("small lesions found", lambda row: f"{100 * row['left_out_small_recall']:.0f} %"),
    )
    return table_of(_tested(results, trainer), columns)


def half_table(results: Mapping[str, str], trainer: str) -> str:
    """The baseline and a trainer as they segment, at a probability of 0.5; parameters as for `equal_table`."""
    columns = (
        *_TESTED,
        ("false positives per case", lambda row: f"{row['false_positives']:.0f}{row['more']}"),
        ("small lesions found", lambda row: f"{100 * row['small_recall']:.0f} %"),
        ("lesion F1", lambda row: points(row["lesion_f1"])),
        ("Dice", lambda row: points(row["dice"])),
        ("time", lambda row: f"{row['time']:.2f}"),
    )
    return table_of(_tested(results, trainer), columns)


def _tested(results: Mapping[str, str], trainer: str) -> list[Row]:
    """Rows of the baseline and a trainer, in each test."""
    rows: list[Row] = []
    for tested, result in results.items():
        baseline, *others = read_rows(result)
        (found,) = [row for row in others if row["trainer"] == trainer]
        for row in (baseline, found):
            more = row["false_positives"] / baseline["false_positives"] - 1
            time = row["seconds_per_epoch"] / baseline["seconds_per_epoch"]
            rows.append({**row, "tested": tested, "time": time, "more": "" if row is baseline else f" ({more:+.0%})"})
    return rows


def rules_table(result: str, price: float) -> str:
    """Every trainer under every family of rules at one price, out of fold."""
    columns = (
        ("trainer", lambda row: f"`{_base(row)}`"),
        ("rule", lambda row: FAMILY_NAMES[row["family"]]),
        ("false positives", lambda row: number(row["false_positives"], decimals=1)),
        *_with_gain("found", "recall"),
        *_with_gain("small ones found", "small_recall"),
        ("lesion F1", lambda row: points(row["f1"])),
        *_with_gain("Dice", "dice"),
    )
    return table_of(read_rows(result, {"price": price}), columns)


def rules_at_prices_table(result: str) -> str:
    """Lesions found and Dice of every trainer and family of rules, a column per price."""
    rows = read_rows(result)
    prices = list(dict.fromkeys(row["price"] for row in rows))
    lines: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        lines.setdefault((f"`{_base(row)}`", FAMILY_NAMES[row["family"]]), []).append(
            " / ".join(points(row[key]) for key in ("small_recall", "recall", "dice"))
        )
    header = ["trainer", "rule", *(f"at most {price:g}" for price in prices)]
    return markdown_table(header, [[*names, *cells] for names, cells in lines.items()])


def _base(row: Row) -> str:
    """The trainer without length and seed."""
    return str(row["trainer"]).partition("_30epochs")[0]


def boundary_table(result: str) -> str:
    """Overlap and distances of every label and trainer."""
    columns = (
        ("label", lambda row: row["label"]),
        _TRAINER,
        _SEEDS,
        *_with_gain("Dice", "dice"),
        *_HD95,
        *_with_gain("NSD", "nsd"),
        _SECONDS,
    )
    return table_of(read_rows(result), columns)


def seeds_table(result: str, figures: Figures) -> str:
    """Figures of every seed, of the trainers that have several; of the baseline the largest difference is the noise.

    Parameters
    ----------
    result : str
    figures : Figures
        `OF_LESIONS` or `OF_BOUNDARIES`.
    """
    rows = [row for row in read_rows(result) if row["seeds"] > 1 or "dice_gain" not in row]
    labels = list(dict.fromkeys(row["label"] for row in rows))
    cells = [
        _seeds_cells(f"{name}, label {label}" if len(labels) > 1 else name, key, form, of_label)
        for name, (key, form) in figures.items()
        for label in labels
        for of_label in [[row for row in rows if row["label"] == label]]
    ]
    baseline, *others = [f"`{name}`" for name in dict.fromkeys(row["trainer"] for row in rows)]
    return markdown_table(["figure", baseline, "noise", *others], cells)


def _seeds_cells(name: str, key: str, form: Callable[[float | None], str], rows: Sequence[Row]) -> list[str]:
    baseline, *others = [", ".join(form(value) for value in row[f"{key}_seeds"]) for row in rows]
    noise = rows[0][f"{key}_noise"]
    return [name, baseline, form(noise), *others]


def _with_gain(header: str, figure: str, scale: float = 100, decimals: int = 1) -> tuple[Column, Column]:
    """The figure, and its difference to the baseline with an interval."""

    def gain(row: Row) -> str:
        if f"{figure}_gain" not in row:
            return ""
        value, low, high = (row[f"{figure}_gain{end}"] for end in ("", "_low", "_high"))
        return difference(value, low, high, scale, decimals)

    return (header, lambda row: number(row[figure], scale, decimals)), ("gain", gain)


_TRAINER: Column = ("trainer", lambda row: f"`{row['trainer']}`")
_TESTED: tuple[Column, ...] = (("tested in", lambda row: row["tested"]), _TRAINER)
_SEEDS: Column = ("seeds", lambda row: str(row["seeds"]))
_HD95 = _with_gain("HD95, mm", "hd95_mm", 1, 2)
_SECONDS: Column = ("s per epoch", lambda row: f"{row['seconds_per_epoch']:.0f}")
OF_LESIONS: Figures = {
    "small lesions found at equal false positives": ("matched_small_recall", points),
    "the same, at thresholds that other cases chose": ("left_out_small_recall", points),
    "their false positives": ("left_out_false_positives", number),
    "all found at equal false positives": ("matched_recall", points),
    "false positives": ("false_positives", number),
    "FROC average": ("froc_average", points),
    "lesion F1": ("lesion_f1", points),
    "Dice": ("dice", points),
    "HD95, mm": ("hd95_mm", number),
    "lesion Dice": ("lesion_dice", points),
}
OF_BOUNDARIES: Figures = {"Dice": ("dice", points), "HD95, mm": ("hd95_mm", number), "NSD": ("nsd", points)}
