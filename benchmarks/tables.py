"""Markdown tables of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness import read_rows


@dataclass(frozen=True)
class Table:
    """Some rows and columns of a result.

    Attributes
    ----------
    result : str
        Name of the file.
    columns : mapping of str to (str, str)
        Heading to key and format; the format "" is for text.
    where : mapping
        Keys and values of the rows that are shown.
    """

    result: str
    columns: Mapping[str, tuple[str, str]]
    where: Mapping[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        rows = read_rows(self.result, self.where)
        cells = [[_cell(row.get(key), form) for key, form in self.columns.values()] for row in rows]
        return markdown_table(list(self.columns), cells)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of a table, each with its end."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: Any, form: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else format(value, form)
