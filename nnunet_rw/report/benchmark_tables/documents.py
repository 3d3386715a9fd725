"""The report's tables in their order, each with a title and notes, for Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.report.benchmark_tables.leaderboard import (
    LESION_COLUMNS,
    SEED_DICE,
    SEED_RECALL,
    VOXEL_COLUMNS,
    best_cells,
    leaderboard_notes,
    leaderboard_rows,
)
from nnunet_rw.report.benchmark_tables.provenance import provenance_rows
from nnunet_rw.report.benchmark_tables.resources import resource_notes, resource_rows
from nnunet_rw.report.comparison_tables import comparison_tables, legend

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
