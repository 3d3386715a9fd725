"""A comparison of trainers as CSV, JSON, Markdown and LaTeX files."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from nnunet_rw.evaluation.comparison_rows import Comparison, MatchedRow, MetricRow, RankingRow, SizeRow
from nnunet_rw.files import write_atomically
from nnunet_rw.report.comparison_tables import comparison_tables, legend

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
        equal_false_positives.csv where a challenger has probabilities. In CSV an empty cell stands for NaN; in JSON
        null stands for NaN, and for the end of a size class that has none.
    """
    contents = {
        "comparison.csv": _csv_text(comparison.metrics, MetricRow),
        "recall_by_size.csv": _csv_text(comparison.sizes, SizeRow),
        "ranking.csv": _csv_text(comparison.rankings, RankingRow),
        **({"equal_false_positives.csv": _csv_text(comparison.matched, MatchedRow)} if comparison.matched else {}),
        "comparison.json": json.dumps(_plain(asdict(comparison)), indent=2) + "\n",
        "comparison.md": markdown_text(comparison),
        "comparison.tex": latex_text(comparison),
    }
    # Not written by every comparison.
    (Path(folder) / "equal_false_positives.csv").unlink(missing_ok=True)
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
