"""The report's tables in their order, as Markdown and as LaTeX."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nnunet_rw.benchmark.report.tables.leaderboard import (
    LESION_COLUMNS,
    SEED_DICE,
    SEED_RECALL,
    VOXEL_COLUMNS,
    best_cells,
    leaderboard_notes,
    leaderboard_rows,
)
from nnunet_rw.benchmark.report.tables.methods import bibtex, methods_latex, methods_text
from nnunet_rw.benchmark.report.tables.provenance import (
    provenance_rows,
    provenance_warnings,
    resource_notes,
    resource_rows,
    unfinished_lines,
)
from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.evaluation.comparison.tables import comparison_tables, latex_escape, legend

# Of the titles of `comparison_tables`, for the names of files.
_COMPARISON_NAMES = {"Against": "differences", "Lesions": "sizes", "Recall": "equal_false_positives", "Place": "places"}
# The leaderboard is too wide for a page: name, title and what is left out of either part.
_PARTS = (
    ("leaderboard", "Overlap and distances", {*LESION_COLUMNS, SEED_RECALL}),
    ("lesions", "Lesions", {*VOXEL_COLUMNS, SEED_DICE}),
)


@dataclass(frozen=True)
class Document:
    """A table to read.

    Attributes
    ----------
    name : str
        Of its file, without ending.
    title : str
    header : tuple of str
    rows : tuple of tuples of str
    bold : frozenset of (row, column)
        Indices.
    notes : tuple of str
        Of this table.
    """

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]] = frozenset()
    notes: tuple[str, ...] = ()


def documents(results: BenchmarkResults) -> list[Document]:
    """Task after task leaderboard, comparison and resources; provenance at the end. Empty tables are left out."""
    found = [document for task in results.tasks for document in _of_task(results, task)]
    rows = provenance_rows(results)
    # A column a task: versions are too long for a row.
    header = ("", *(row["task"] for row in rows))
    facts = [(name, *(row[name] for row in rows)) for name in rows[0] if name != "task"] if rows else []
    return [*found, *([Document("provenance", "Provenance", header, tuple(facts))] if facts else [])]


def _of_task(results: BenchmarkResults, task: TaskResults) -> list[Document]:
    found = []
    rows = leaderboard_rows(task)
    if rows:
        best, notes = best_cells(task), tuple(leaderboard_notes(results))
        for name, title, left_out in _PARTS:
            # One label needs no column.
            one_label = len({row["label"] for row in rows}) == 1
            header = tuple(key for key in rows[0] if key not in left_out and not (key == "label" and one_label))
            bold = frozenset((index, header.index(key)) for index, key in best if key in header)
            found.append(
                Document(f"{task.dataset}_{name}", f"{task.task}. {title}", header, _cells(rows, header), bold, notes)
            )
    if task.comparison:
        tables = comparison_tables(task.comparison)
        for table in tables:
            name = f"{task.dataset}_{_COMPARISON_NAMES[table.title.split()[0]]}"
            notes = tuple(legend(task.comparison)) if table is tables[0] else ()
            found.append(Document(name, f"{task.task}. {table.title}", table.header, tuple(table.rows), notes=notes))
    rows = resource_rows(task)
    if rows:
        header, notes = tuple(rows[0]), tuple(resource_notes(results))
        found.append(
            Document(
                f"{task.dataset}_resources", f"{task.task}. Time and memory", header, _cells(rows, header), notes=notes
            )
        )
    return found


def _cells(rows: Sequence[dict[str, str]], header: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(row[name] for name in header) for row in rows)


def report_markdown(results: BenchmarkResults) -> str:
    """What is unfinished, warnings, tables with notes, methods and references; notes that repeat are told once."""
    parts = ["# Benchmark"]
    for title, lines in (("Unfinished", unfinished_lines(results)), ("Warnings", provenance_warnings(results))):
        if lines:
            parts.append("\n".join([f"## {title}", "", *(f"- {escaped(line)}" for line in lines)]))
    told: set[tuple[str, ...]] = set()
    for document in documents(results):
        parts.append(f"## {escaped(document.title)}\n\n{markdown_table(document)}")
        if document.notes and document.notes not in told:
            parts.append("\n".join(f"- {escaped(note)}" for note in document.notes))
            told.add(document.notes)
    parts += [f"## Methods\n\n{methods_text(results).rstrip()}"]
    parts += [f"## References\n\n```bibtex\n{bibtex(results)}```"]
    return "\n\n".join(parts) + "\n"


def markdown_table(document: Document) -> str:
    """The table alone, its best values bold."""
    rows = [
        [
            f"**{escaped(cell)}**" if (row, column) in document.bold else escaped(cell)
            for column, cell in enumerate(cells)
        ]
        for row, cells in enumerate(document.rows)
    ]
    return "\n".join(
        [
            _markdown_row(map(escaped, document.header)),
            _markdown_row(["---"] * len(document.header)),
            *map(_markdown_row, rows),
        ]
    )


def escaped(text: str) -> str:
    """The text with what Markdown takes for markup, or for the end of a cell, escaped."""
    return "".join(f"\\{sign}" if sign in "\\|*<`" else sign for sign in " ".join(text.split()))


def _markdown_row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


_COMMENT = 110
# From so many columns on, a table is drawn as wide as the page.
_WIDE = 6


def latex_files(results: BenchmarkResults) -> dict[str, str]:
    """Contents by file name: tables, methods.tex, references.bib, and report.tex that puts them together."""
    tables = {f"{document.name}.tex": latex_table(document) for document in documents(results)}
    contents = {**tables, "methods.tex": methods_latex(results)}
    body = "\n".join(rf"\input{{{name}}}" for name in ("methods.tex", *tables))
    report = rf"""\documentclass{{article}}
\usepackage[utf8]{{inputenc}}
\usepackage[T1]{{fontenc}}
\usepackage[margin=2cm]{{geometry}}
\usepackage{{booktabs,graphicx}}
\begin{{document}}
{body}
\bibliographystyle{{plain}}
\bibliography{{references}}
\end{{document}}
"""
    return {**contents, "references.bib": bibtex(results), "report.tex": report}


def latex_table(document: Document) -> str:
    r"""A ``table`` for the packages booktabs and graphicx, its best values bold, its notes as comments."""
    width = len(document.header)
    rows = [
        [
            rf"\textbf{{{latex_escape(cell)}}}" if (row, column) in document.bold else latex_escape(cell)
            for column, cell in enumerate(cells)
        ]
        for row, cells in enumerate(document.rows)
    ]
    # Facts are sentences, which must break.
    columns = (
        "l" * width if document.name != "provenance" else "l" + rf"p{{{0.8 / (width - 1):.2f}\textwidth}}" * (width - 1)
    )
    tabular = "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _latex_row([latex_escape(cell) for cell in document.header]),
            r"\midrule",
            *map(_latex_row, rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
    if width >= _WIDE:
        tabular = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}%\n}}"
    comments = [f"% {line}" for note in document.notes for line in textwrap.wrap(note, _COMMENT)]
    return "\n".join(
        [
            *comments,
            r"\begin{table}[htbp]",
            r"\centering\small",
            rf"\caption{{{latex_escape(document.title)}}}",
            rf"\label{{tab:{document.name}}}",
            tabular,
            r"\end{table}",
            "",
        ]
    )


def _latex_row(cells: list[str]) -> str:
    # A bracket after a row's end would be taken for its option.
    return " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in cells) + r" \\"
