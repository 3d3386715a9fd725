"""A comparison of trainers to read, rounded and with a legend, and as CSV, JSON, Markdown and LaTeX files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from nnunet_rw.evaluation.comparison.metrics import METRICS
from nnunet_rw.evaluation.comparison.rows import Comparison, MatchedRow, MetricRow, RankingRow, RuleRow, SizeRow
from nnunet_rw.evaluation.comparison.statistics import MIN_UNITS
from nnunet_rw.maps.arrays import as_connectivity
from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.tables import (
    TOO_FEW,
    CellLike,
    Table,
    csv_text,
    escaped,
    json_value,
    number,
    p_value,
    rounded,
    with_ends,
)


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Metrics, lesions by size, and places under other rules; the last one only where there are lesions.

    Without several labels no column of labels, without seeds none of the noise.
    """
    out_of_fold = {(row.label, row.trainer) for row in comparison.rules}
    tables = [
        Table.of(
            f"Against {comparison.baseline}, {comparison.cases} cases",
            map(_metric_cells, comparison.metrics),
            "differences",
        ),
        Table.of(
            "Lesions by size: recall by any overlap, and false positives (FP) per case",
            [_size_cells(row, comparison.size_unit) for row in comparison.sizes],
            "sizes",
        ),
        Table.of(
            "By rules that other folds chose for no more false positives and no less Dice than the baseline has",
            rule_cells(comparison.rules, comparison.size_unit),
            "rules",
        ),
        Table.of(
            "Recall with no more false positives than the baseline, at a threshold chosen on these same cases",
            [_matched_cells(row) for row in comparison.matched if (row.label, row.challenger) not in out_of_fold],
            "equal_false_positives",
        ),
        Table.of(
            "Place by lesion-wise F1 (recall, FP per case), by rule, connectivity and minimum size",
            _ranking_cells(comparison.rankings, 1 + len(comparison.challengers), comparison.size_unit),
            "places",
        ),
    ]
    tables = [table.with_texts("label", comparison.label_texts) for table in tables]
    dropped = set() if len(comparison.family.labels) > 1 else {"label"}
    dropped |= set() if comparison.seeds else {"noise"}
    return [table.without(dropped) for table in tables if table.rows]


def legend(comparison: Comparison) -> list[str]:
    """What the tables mean, a sentence or two each."""
    reasons = sorted({row.no_p for row in comparison.metrics if row.no_p})
    endless = any(row.infinite for row in comparison.metrics)
    unit = "patients" if comparison.patients else "cases"
    return [
        "Differences are the trainer's mean minus the baseline's over the n cases for which both have a value, with "
        f"{intervals_text(comparison.patients)}",
        f"p: Wilcoxon's signed-rank test over {unit}, Holm-adjusted over {comparison.family}.",
        *(f"No p for {reason}." for reason in reasons),
        *(["Distances to or from an empty mask count as the image's diagonal."] if endless else []),
        *(
            [
                "By rules: lesions matched one to one; every case by the rule that was chosen without its fold, which "
                "may have more false positives there than in those of its choice. The baseline's best: by its own "
                "rule, or as segmented where that finds more."
            ]
            if comparison.rules
            else []
        ),
        "Places: * where it differs from the first row's, which is as evaluated. Lesions below the minimum are left "
        "out; what predicted ones of these have found stays found, and they are right.",
        *comparison.notes,
    ]


def intervals_text(patients: int | bool = False) -> str:
    """How intervals are made, the end of a sentence and what follows it; over patients or over cases."""
    unit = "patients" if patients else "cases"
    return (
        f"95 % studentised bootstrap intervals over {unit}, all lesions of one together; "
        f"{TOO_FEW} stands for none, where there are fewer than {MIN_UNITS} {unit}; there is none where all are alike."
    )


def terminal_text(comparison: Comparison) -> str:
    """Tables and legend."""
    tables = [f"{table.title}\n\n{table.text()}" for table in comparison_tables(comparison)]
    return "\n\n".join([*tables, "\n".join(legend(comparison))])


def _metric_cells(row: MetricRow) -> dict[str, CellLike]:
    decimals = METRICS[row.metric].decimals_of(row.baseline_mean, row.challenger_mean)
    left_out = row.undefined_in_both + row.undefined_in_one
    return {
        "label": row.label,
        "metric": row.metric,
        "trainer": row.challenger,
        "n": row.n,
        "left out": f"{left_out} ({row.undefined_in_one} of one)" if row.undefined_in_one else left_out,
        "baseline mean": number(row.baseline_mean, decimals),
        "trainer mean": number(row.challenger_mean, decimals),
        "difference": with_ends(row.difference, row.low, row.high, decimals),
        "p (Holm)": p_value(row.p_holm),
        "wins/ties/losses": f"{row.wins}/{row.ties}/{row.losses}",
        "noise": number(row.noise, decimals),
        "verdict": row.verdict,
    }


def _size_cells(row: SizeRow, unit: str) -> dict[str, CellLike]:
    every = (row.size_from_mm3, row.size_to_mm3) == (0, math.inf)
    end = "and more" if math.isinf(row.size_to_mm3) else f"to {row.size_to_mm3:g}"
    return {
        "label": row.label,
        "trainer": row.challenger,
        f"size in {unit}": "all" if every else f"{row.size_from_mm3:g} {end}",
        "lesions": row.lesions,
        "cases": row.cases,
        "baseline recall": number(row.baseline_recall, 3),
        "trainer recall": number(row.challenger_recall, 3),
        "difference": with_ends(row.difference, row.low, row.high, 3),
        "baseline FP": number(row.baseline_false_positives, 2),
        "trainer FP": number(row.challenger_false_positives, 2),
        "difference of FP": with_ends(
            row.false_positives_difference, row.false_positives_low, row.false_positives_high, 2
        ),
    }


def _matched_cells(row: MatchedRow) -> dict[str, CellLike]:
    return {
        "label": row.label,
        "trainer": row.challenger,
        "threshold": "none" if math.isnan(row.threshold) else f"{row.threshold:g}",
        "baseline FP": number(row.false_positives, 2),
        "trainer FP": number(row.challenger_false_positives, 2),
        "baseline recall": number(row.baseline_recall, 3),
        "trainer recall": number(row.challenger_recall, 3),
        "baseline Dice": number(row.baseline_dice, 3),
        "trainer Dice": number(row.challenger_dice, 3),
    }


def rule_cells(rows: Sequence[RuleRow], unit: str) -> list[dict[str, CellLike]]:
    """Of each label the baseline as it was segmented, then every trainer so, and by its rule in cases left out."""
    cells, labels = [], set()
    for row in rows:
        if row.label not in labels and row.trainer != row.baseline:
            of_baseline = row.allowed, row.baseline_recall, row.baseline_f1, row.baseline_dice
            cells.append(_rule_line(row.label, row.baseline, "as segmented", of_baseline))
        labels.add(row.label)
        half = row.half_false_positives, row.half_recall, row.half_f1, row.half_dice
        cells.append(_rule_line(row.label, row.trainer, "as segmented", half))
        rule = "none keeps within" if row.rule is None else row.rule.text(unit)
        cells.append(
            _rule_line(
                row.label,
                row.trainer,
                rule,
                (row.false_positives, row.recall, row.f1, row.dice),
                with_ends(row.false_positives - row.allowed, row.excess_low, row.excess_high, 2),
                with_ends(row.recall_difference, row.recall_low, row.recall_high, 3),
                with_ends(row.recall_gain, row.recall_gain_low, row.recall_gain_high, 3),
                with_ends(row.dice_gain, row.dice_gain_low, row.dice_gain_high, 3),
                f"{row.rules_in_folds} in {row.folds}",
            )
        )
    return cells


def _rule_line(
    label: str,
    trainer: str,
    segmented: str,
    figures: tuple[float, float, float, float],
    more_false_positives: CellLike = "",
    recall_difference: CellLike = "",
    recall_gain: CellLike = "",
    dice_gain: CellLike = "",
    rules_in_folds: str = "",
) -> dict[str, CellLike]:
    false_positives, recall, f1, dice = figures
    return {
        "label": label,
        "trainer": trainer,
        "segmented": segmented,
        "FP per case": number(false_positives, 2),
        "recall": number(recall, 3),
        "lesion F1": number(f1, 3),
        "Dice": number(dice, 3),
        "FP against the baseline": more_false_positives,
        "recall against the baseline as segmented": recall_difference,
        "against its best": recall_gain,
        "Dice against its best": dice_gain,
        "rules in folds": rules_in_folds,
    }


def _ranking_cells(rows: Sequence[RankingRow], trainers: int, unit: str) -> list[dict[str, CellLike]]:
    """A line per rule and minimum size, a column per trainer."""
    lines: list[dict[str, CellLike]] = []
    for start in range(0, len(rows), trainers):
        first = rows[start]
        places: dict[str, CellLike] = {
            row.trainer: f"{row.rank}{'' if row.rank == row.rank_as_evaluated else '*'}: {rounded(row.f1, 3)} "
            f"({rounded(row.recall, 3)}, {rounded(row.false_positives_per_case, 2)})"
            for row in rows[start : start + trainers]
        }
        setting: dict[str, CellLike] = {
            "rule": first.rule,
            "connected": as_connectivity(first.connectivity, 3 if unit == "mm3" else 2),
            f"minimum in {unit}": f"{first.min_volume_mm3:g}",
            "lesions": first.lesions,
        }
        lines.append({"label": first.label, **setting, **places})
    return lines


def write_comparison(comparison: Comparison, folder: str | Path) -> list[Path]:
    """Write the comparison, with all its digits as CSV and JSON, rounded as Markdown and LaTeX.

    Returns
    -------
    list of Path
        comparison.csv, recall_by_size.csv, ranking.csv, comparison.json, comparison.md, comparison.tex, and
        rules.csv and equal_false_positives.csv where a challenger has probabilities. In CSV an empty cell stands for
        NaN; in JSON null stands for NaN, and for the end of a size class that has none.
    """
    contents = {
        "comparison.csv": _rows_csv(comparison.metrics, MetricRow),
        "recall_by_size.csv": _rows_csv(comparison.sizes, SizeRow),
        "ranking.csv": _rows_csv(comparison.rankings, RankingRow),
        **({"rules.csv": _rows_csv(comparison.rules, RuleRow)} if comparison.rules else {}),
        **({"equal_false_positives.csv": _rows_csv(comparison.matched, MatchedRow)} if comparison.matched else {}),
        "comparison.json": json.dumps(json_value(asdict(comparison)), indent=2) + "\n",
        "comparison.md": markdown_text(comparison),
        "comparison.tex": latex_text(comparison),
    }
    # Not written by every comparison.
    for name in ("rules.csv", "equal_false_positives.csv"):
        (Path(folder) / name).unlink(missing_ok=True)
    for name, content in contents.items():
        write_atomically(Path(folder) / name, content.encode())
    return [Path(folder) / name for name in contents]


def markdown_text(comparison: Comparison) -> str:
    """Tables and legend as Markdown."""
    tables = [f"## {table.title}\n\n{table.markdown()}" for table in comparison_tables(comparison)]
    sentences = "\n".join(f"- {escaped(sentence)}" for sentence in legend(comparison))
    return "\n\n".join([*tables, sentences]) + "\n"


def latex_text(comparison: Comparison) -> str:
    """Tables as LaTeX ``tabular``, for which no package is needed; titles and legend as comments."""
    tables = [f"% {table.title}\n{table.latex()}" for table in comparison_tables(comparison)]
    return "\n\n".join([*tables, "\n".join(f"% {sentence}" for sentence in legend(comparison))]) + "\n"


def _rows_csv(rows: Sequence[Any], row_type: type) -> str:
    return csv_text([field.name for field in fields(row_type)], (asdict(row).values() for row in rows))
