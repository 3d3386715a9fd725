"""The tables of the evidence, from the rows that `benchmarks.evidence.collect` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import read_rows
from benchmarks.tables import markdown_table

Row = Mapping[str, Any]


def found_table(result: str) -> str:
    """What trainers find at the baseline's false positives, the best in small lesions first.

    Those that have more at every threshold come last.
    """
    baseline, *others = read_rows(result)
    header = [
        "trainer",
        "seeds",
        "threshold",
        "false positives",
        "small lesions found",
        "gain",
        "all found",
        "gain",
        "Dice",
        "gain",
    ]
    rows = [
        [
            f"`{row['trainer']}`",
            str(row["seeds"]),
            f"{row['matched_threshold']:.3g}",
            _plain(row["matched_false_positives"]),
            _points(row["matched_small_recall"]),
            _gain(row, "matched_small_recall", 100, 1),
            _points(row["matched_recall"]),
            _gain(row, "matched_recall", 100, 1),
            _points(row["matched_dice"]),
            _gain(row, "matched_dice", 100, 1),
        ]
        for row in (baseline, *sorted(others, key=lambda row: (is_dearer(row), -row["matched_small_recall_gain"])))
    ]
    return markdown_table(header, rows)


def is_dearer(row: Row) -> bool:
    """Whether a trainer has more false positives than the baseline at every threshold."""
    return row["matched_false_positives"] > row["price"]


def segmented_table(result: str) -> str:
    """What trainers segment at a probability of 0.5, in the order of the rows."""
    header = [
        "trainer",
        "false positives",
        "small lesions found",
        "lesion F1",
        "FROC average",
        "Dice",
        "gain",
        "HD95, mm",
        "gain",
        "lesion Dice",
        "s per epoch",
    ]
    return markdown_table(header, [_segmented_cells(row) for row in read_rows(result)])


def answer_table(result: str, trainers: Sequence[str]) -> str:
    """The baseline and some trainers, in few columns."""
    header = [
        "trainer",
        "small lesions found, at equal false positives",
        "lesion F1",
        "Dice",
        "false positives a case",
        "time",
    ]
    baseline, *others = read_rows(result)
    rows = [
        [
            f"`{row['trainer']}`",
            f"{100 * row['matched_small_recall']:.0f} %",
            _points(row["lesion_f1"]),
            _points(row["dice"]),
            f"{row['false_positives']:.0f}",
            f"{row['seconds_per_epoch'] / baseline['seconds_per_epoch']:.2f}",
        ]
        for row in (baseline, *(row for name in trainers for row in others if row["trainer"] == name))
    ]
    return markdown_table(header, rows)


def boundary_table(result: str) -> str:
    """Overlap and distances of every label and trainer."""
    header = ["label", "trainer", "seeds", "Dice", "gain", "HD95, mm", "gain", "NSD", "gain", "s per epoch"]
    rows = [
        [
            row["label"],
            f"`{row['trainer']}`",
            str(row["seeds"]),
            _points(row["dice"]),
            _gain(row, "dice", 100, 1),
            _plain(row["hd95_mm"]),
            _gain(row, "hd95_mm", 1, 2),
            _points(row["nsd"]),
            _gain(row, "nsd", 100, 1),
            f"{row['seconds_per_epoch']:.0f}",
        ]
        for row in read_rows(result)
    ]
    return markdown_table(header, rows)


def seeds_table(result: str) -> str:
    """Figures of every seed, of the trainers that have several; of the baseline the largest difference is the noise."""
    baseline, *others = read_rows(result)
    repeated = [row for row in others if row["seeds"] > 1]
    figures = {
        "small lesions found at equal false positives": ("matched_small_recall", _points),
        "the same, thresholds chosen on other cases": ("left_out_small_recall", _points),
        "their false positives": ("left_out_false_positives", _plain),
        "all found at equal false positives": ("matched_recall", _points),
        "false positives": ("false_positives", _plain),
        "FROC average": ("froc_average", _points),
        "lesion F1": ("lesion_f1", _points),
        "Dice": ("dice", _points),
        "HD95, mm": ("hd95_mm", _plain),
        "lesion Dice": ("lesion_dice", _points),
    }
    rows = []
    for name, (key, form) in figures.items():
        of_each = [", ".join(form(value) for value in row[f"{key}_seeds"]) for row in (baseline, *repeated)]
        noise = baseline[f"{key}_noise"]
        rows.append([name, of_each[0], "" if noise is None else form(noise), *of_each[1:]])
    header = ["figure", f"`{baseline['trainer']}`", "noise", *(f"`{row['trainer']}`" for row in repeated)]
    return markdown_table(header, rows)


def _segmented_cells(row: Row) -> list[str]:
    return [
        f"`{row['trainer']}`",
        _plain(row["false_positives"]),
        _points(row["small_recall"]),
        _points(row["lesion_f1"]),
        _points(row["froc_average"]),
        _points(row["dice"]),
        _gain(row, "dice", 100, 1),
        _plain(row["hd95_mm"]),
        _gain(row, "hd95_mm", 1, 2),
        _points(row["lesion_dice"]),
        f"{row['seconds_per_epoch']:.0f}",
    ]


def _gain(row: Row, figure: str, scale: float, decimals: int) -> str:
    if f"{figure}_gain" not in row:
        return ""
    value, low, high = (row[f"{figure}_gain{end}"] for end in ("", "_low", "_high"))
    return f"{scale * value:+.{decimals}f} [{scale * low:+.{decimals}f}, {scale * high:+.{decimals}f}]"


def _points(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _plain(value: float) -> str:
    return f"{value:.2f}"
