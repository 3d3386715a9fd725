"""The report as one Markdown file."""

from __future__ import annotations

from collections.abc import Iterable

from nnunet_rw.benchmark.results import BenchmarkResults
from nnunet_rw.report.benchmark_tables.documents import Document, documents
from nnunet_rw.report.benchmark_tables.methods import bibtex, methods_text
from nnunet_rw.report.benchmark_tables.provenance import provenance_warnings
from nnunet_rw.report.benchmark_tables.unfinished import unfinished_lines


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
    return "\n".join([_line(map(escaped, document.header)), _line(["---"] * len(document.header)), *map(_line, rows)])


def escaped(text: str) -> str:
    """The text with what Markdown takes for markup, or for the end of a cell, escaped."""
    return "".join(f"\\{sign}" if sign in "\\|*<`" else sign for sign in " ".join(text.split()))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
