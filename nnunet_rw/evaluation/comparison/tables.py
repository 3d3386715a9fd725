"""A comparison of trainers to read, rounded and with a legend, and as CSV, JSON, Markdown and LaTeX files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

from nnunet_rw.evaluation.comparison.cells import NOTHING, TOO_FEW, rounded, with_ends
from nnunet_rw.evaluation.comparison.intervals import MIN_UNITS
from nnunet_rw.evaluation.comparison.metrics import METRICS
from nnunet_rw.evaluation.comparison.rows import Comparison, MatchedRow, MetricRow, RankingRow, RuleRow, SizeRow
from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.tables import text_table


class Table(NamedTuple):
    """A table to read."""

    title: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


def comparison_tables(comparison: Comparison) -> list[Table]:
    """Metrics, lesions by size, and places under other rules; the last one only where there are lesions.

    Without several labels no column of labels, without seeds none of the noise.
    """
    out_of_fold = {(row.label, row.challenger) for row in comparison.rules}
    tables = {
        f"Against {comparison.baseline}, {comparison.cases} cases": [_metric_cells(row) for row in comparison.metrics],
        "Lesions by size: recall by any overlap, and false positives (FP) per case": [
            _size_cells(row) for row in comparison.sizes
        ],
        "With no more false positives and no less Dice than the baseline, by rules that other folds chose": [
            _rule_cells(row) for row in comparison.rules
        ],
        "Recall with no more false positives than the baseline, at a threshold chosen on these same cases": [
            _matched_cells(row) for row in comparison.matched if (row.label, row.challenger) not in out_of_fold
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
    unit = "patients" if comparison.patients else "cases"
    return [
        "Differences are the trainer's mean minus the baseline's over the n cases for which both have a value, with "
        f"{intervals_text(comparison.patients)}",
        f"p: Wilcoxon's signed-rank test over {unit}, Holm-adjusted over {comparison.family}.",
        *(f"No p for {reason}." for reason in reasons),
        *(["Distances to or from an empty mask count as the image's diagonal."] if endless else []),
        *(
            ["By rules: lesions matched one to one; every case by the rule that was chosen without its fold."]
            if comparison.rules
            else []
        ),
        "Places: * where it differs from the first row's, which is as evaluated.",
        *comparison.notes,
    ]


def intervals_text(patients: int | bool = False) -> str:
    """How intervals are made, the end of a sentence and what follows it; over patients or over cases."""
    unit = "patients" if patients else "cases"
    return (
        f"95 % studentised bootstrap intervals over {unit}, all lesions of one together; "
        f"{TOO_FEW} stands for none, where there are fewer than {MIN_UNITS} {unit}."
    )


def terminal_text(comparison: Comparison) -> str:
    """Tables and legend."""
    tables = [f"{table.title}\n\n{text_table(table.header, table.rows)}" for table in comparison_tables(comparison)]
    return "\n\n".join([*tables, "\n".join(legend(comparison))])


def _metric_cells(row: MetricRow) -> dict[str, str]:
    decimals = METRICS[row.metric].decimals_of(row.baseline_mean, row.challenger_mean)
    left_out = row.undefined_in_both + row.undefined_in_one
    return {
        "label": row.label,
        "metric": row.metric,
        "trainer": row.challenger,
        "n": str(row.n),
        "left out": f"{left_out} ({row.undefined_in_one} of one)" if row.undefined_in_one else str(left_out),
        "baseline mean": rounded(row.baseline_mean, decimals),
        "trainer mean": rounded(row.challenger_mean, decimals),
        "difference": with_ends(row.difference, row.low, row.high, decimals),
        "p (Holm)": _p(row.p_holm),
        "wins/ties/losses": f"{row.wins}/{row.ties}/{row.losses}",
        "noise": rounded(row.noise, decimals),
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
        "baseline recall": rounded(row.baseline_recall, 3),
        "trainer recall": rounded(row.challenger_recall, 3),
        "difference": with_ends(row.difference, row.low, row.high, 3),
        "baseline FP": rounded(row.baseline_false_positives, 2),
        "trainer FP": rounded(row.challenger_false_positives, 2),
        "difference of FP": with_ends(
            row.false_positives_difference, row.false_positives_low, row.false_positives_high, 2
        ),
    }


def _matched_cells(row: MatchedRow) -> dict[str, str]:
    return {
        "label": row.label,
        "trainer": row.challenger,
        "threshold": "none" if math.isnan(row.threshold) else f"{row.threshold:g}",
        "baseline FP": rounded(row.false_positives, 2),
        "trainer FP": rounded(row.challenger_false_positives, 2),
        "baseline recall": rounded(row.baseline_recall, 3),
        "trainer recall": rounded(row.challenger_recall, 3),
        "baseline Dice": rounded(row.baseline_dice, 3),
        "trainer Dice": rounded(row.challenger_dice, 3),
    }


def _rule_cells(row: RuleRow) -> dict[str, str]:
    return {
        "label": row.label,
        "trainer": row.challenger,
        "rule": "none keeps within" if row.rule is None else str(row.rule),
        "rules in folds": f"{row.rules_in_folds} of {row.folds}",
        "baseline FP": rounded(row.allowed, 2),
        "trainer FP": rounded(row.false_positives, 2),
        "baseline recall": rounded(row.baseline_recall, 3),
        "trainer recall": rounded(row.recall, 3),
        "difference": with_ends(row.recall_difference, row.recall_low, row.recall_high, 3),
        "baseline F1": rounded(row.baseline_f1, 3),
        "trainer F1": rounded(row.f1, 3),
        "baseline Dice": rounded(row.baseline_dice, 3),
        "trainer Dice": rounded(row.dice, 3),
    }


def _ranking_cells(rows: Sequence[RankingRow], trainers: int) -> list[dict[str, str]]:
    """A line per rule and minimum size, a column per trainer."""
    lines = []
    for start in range(0, len(rows), trainers):
        first = rows[start]
        places = {
            row.trainer: f"{row.rank}{'' if row.rank == row.rank_as_evaluated else '*'}: {rounded(row.f1, 3)} "
            f"({rounded(row.recall, 3)}, {rounded(row.false_positives_per_case, 2)})"
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


def _p(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    return "<0.001" if value < 0.001 else f"{value:.3f}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: f"\\{sign}" for sign in "_&%#${}"},
}


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
        "comparison.csv": _csv_text(comparison.metrics, MetricRow),
        "recall_by_size.csv": _csv_text(comparison.sizes, SizeRow),
        "ranking.csv": _csv_text(comparison.rankings, RankingRow),
        **({"rules.csv": _csv_text(comparison.rules, RuleRow)} if comparison.rules else {}),
        **({"equal_false_positives.csv": _csv_text(comparison.matched, MatchedRow)} if comparison.matched else {}),
        "comparison.json": json.dumps(_plain(asdict(comparison)), indent=2) + "\n",
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

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    def escaped(cells: Sequence[str]) -> list[str]:
        return [cell.replace("|", "\\|").replace("*", "\\*") for cell in cells]

    parts = []
    for table in comparison_tables(comparison):
        head = [f"## {table.title}", "", line(escaped(table.header)), line(["---"] * len(table.header))]
        parts.append("\n".join([*head, *(line(escaped(row)) for row in table.rows)]))
    sentences = "\n".join(f"- {sentence}" for sentence in escaped(legend(comparison)))
    return "\n\n".join([*parts, sentences]) + "\n"


def latex_text(comparison: Comparison) -> str:
    """Tables as LaTeX ``tabular``, for which no package is needed; titles and legend as comments."""

    def line(cells: Sequence[str]) -> str:
        return " & ".join(latex_escape(cell) for cell in cells) + r" \\"

    parts = []
    for table in comparison_tables(comparison):
        begin = [f"% {table.title}", rf"\begin{{tabular}}{{{'l' * len(table.header)}}}", r"\hline"]
        rows = [line(row) for row in table.rows]
        parts.append("\n".join([*begin, line(table.header), r"\hline", *rows, r"\hline", r"\end{tabular}"]))
    return "\n\n".join([*parts, "\n".join(f"% {sentence}" for sentence in legend(comparison))]) + "\n"


def latex_escape(text: str) -> str:
    """The text with what LaTeX takes for commands escaped, and a minus sign before a number."""
    signs = [_LATEX.get(sign, sign) for sign in text]
    for i, sign in enumerate(text):
        if sign == "-" and text[i + 1 : i + 2].isdigit() and (i == 0 or text[i - 1] in " [("):
            signs[i] = "$-$"
    return "".join(signs)


def _csv_text(rows: Sequence[Any], row_type: type) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([field.name for field in fields(row_type)])
    for row in rows:
        writer.writerow(["" if _is_nan(value) else value for value in asdict(row).values()])
    return file.getvalue()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if _is_nan(value) or value == math.inf else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
