"""The tables of a comparison of trainers, to read: rounded, with a legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from nnunet_rw.evaluation.compared_metrics import METRICS
from nnunet_rw.evaluation.comparison_rows import Comparison, MatchedRow, MetricRow, RankingRow, SizeRow
from nnunet_rw.report.table import text_table

_NOTHING = "-"


class Table(NamedTuple):
    """A table to read."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Metrics, lesions by size, and places under other rules; the last one only where there are lesions.

    Without several labels no column of labels, without seeds none of the noise.
    """
    tables = {
        f"Against {comparison.baseline}, {comparison.cases} cases": [_metric_cells(row) for row in comparison.metrics],
        "Lesions by size: recall by any overlap, and false positives (FP) per case": [
            _size_cells(row) for row in comparison.sizes
        ],
        "Recall with no more false positives than the baseline, at a threshold of the trainer's own": [
            _matched_cells(row) for row in comparison.matched
        ],
        "Place by lesion-wise F1 (recall, FP per case), by rule, connectivity and minimum size": _ranking_cells(
            comparison.rankings, 1 + len(comparison.challengers)
        ),
    }
    dropped = set() if len(comparison.family.labels) > 1 else {"label"}
    dropped |= set() if comparison.seeds else {"noise"}
    return [
        Table(
            title,
            tuple(name for name in rows[0] if name not in dropped),
            [tuple(cell for name, cell in row.items() if name not in dropped) for row in rows],
        )
        for title, rows in tables.items()
        if rows
    ]


def legend(comparison: Comparison) -> list[str]:
    """What the tables mean, a sentence or two each."""
    reasons = sorted({row.no_p for row in comparison.metrics if row.no_p})
    endless = any(row.infinite for row in comparison.metrics)
    return [
        "Differences are the trainer's mean minus the baseline's over the n cases for which both have a value, with "
        "95 % BCa bootstrap intervals; those of recall draw cases, all lesions of a case together.",
        f"p: Wilcoxon's signed-rank test over cases, Holm-adjusted over {comparison.family}.",
        *(f"No p for {reason}." for reason in reasons),
        *(["Distances to or from an empty mask count as the image's diagonal."] if endless else []),
        "Places: * where it differs from the first row's, which is as evaluated.",
        *comparison.notes,
    ]


def terminal_text(comparison: Comparison) -> str:
    """Tables and legend."""
    tables = [f"{table.title}\n\n{text_table(table.header, table.rows)}" for table in comparison_tables(comparison)]
    return "\n\n".join([*tables, "\n".join(legend(comparison))])


def _metric_cells(row: MetricRow) -> dict[str, str]:
    decimals = METRICS[row.metric].decimals
    left_out = row.undefined_in_both + row.undefined_in_one
    return {
        "label": row.label,
        "metric": row.metric,
        "trainer": row.challenger,
        "n": str(row.n),
        "left out": f"{left_out} ({row.undefined_in_one} of one)" if row.undefined_in_one else str(left_out),
        "baseline mean": _rounded(row.baseline_mean, decimals),
        "trainer mean": _rounded(row.challenger_mean, decimals),
        "difference": _with_interval(row.difference, row.low, row.high, decimals),
        "p (Holm)": _p(row.p_holm),
        "wins/ties/losses": f"{row.wins}/{row.ties}/{row.losses}",
        "noise": _rounded(row.noise, decimals),
        "verdict": row.verdict,
    }


def _size_cells(row: SizeRow) -> dict[str, str]:
    every = (row.size_from_mm3, row.size_to_mm3) == (0, math.inf)
    end = "and more" if math.isinf(row.size_to_mm3) else f"to {row.size_to_mm3:g}"
    return {
        "label": row.label,
        "trainer": row.challenger,
        "size in mm3": "all" if every else f"{row.size_from_mm3:g} {end}",
        "lesions": str(row.lesions),
        "cases": str(row.cases),
        "baseline recall": _rounded(row.baseline_recall, 3),
        "trainer recall": _rounded(row.challenger_recall, 3),
        "difference": _with_interval(row.difference, row.low, row.high, 3),
        "baseline FP": _rounded(row.baseline_false_positives, 2),
        "trainer FP": _rounded(row.challenger_false_positives, 2),
        "difference of FP": _with_interval(
            row.false_positives_difference, row.false_positives_low, row.false_positives_high, 2
        ),
    }


def _matched_cells(row: MatchedRow) -> dict[str, str]:
    return {
        "label": row.label,
        "trainer": row.challenger,
        "threshold": "none" if math.isnan(row.threshold) else f"{row.threshold:g}",
        "baseline FP": _rounded(row.false_positives, 2),
        "trainer FP": _rounded(row.challenger_false_positives, 2),
        "baseline recall": _rounded(row.baseline_recall, 3),
        "trainer recall": _rounded(row.challenger_recall, 3),
        "baseline Dice": _rounded(row.baseline_dice, 3),
        "trainer Dice": _rounded(row.challenger_dice, 3),
    }


def _ranking_cells(rows: Sequence[RankingRow], trainers: int) -> list[dict[str, str]]:
    """A line per rule and minimum size, a column per trainer."""
    lines = []
    for start in range(0, len(rows), trainers):
        first = rows[start]
        places = {
            row.trainer: f"{row.rank}{'' if row.rank == row.rank_as_evaluated else '*'}: {_rounded(row.f1, 3)} "
            f"({_rounded(row.recall, 3)}, {_rounded(row.false_positives_per_case, 2)})"
            for row in rows[start : start + trainers]
        }
        setting = {
            "rule": first.rule,
            "connected": str(first.connectivity),
            "minimum in mm3": f"{first.min_volume_mm3:g}",
            "lesions": str(first.lesions),
        }
        lines.append({"label": first.label, **setting, **places})
    return lines


def _rounded(value: float, decimals: int) -> str:
    if not math.isfinite(value):
        return _NOTHING
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def _with_interval(value: float, low: float, high: float, decimals: int) -> str:
    if math.isnan(low):
        return _rounded(value, decimals)
    return f"{_rounded(value, decimals)} [{_rounded(low, decimals)}, {_rounded(high, decimals)}]"


def _p(value: float) -> str:
    if math.isnan(value):
        return _NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"
