"""Markdown tables of results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.harness import read_rows

Row = Mapping[str, Any]
# Its header, and the cell of a row.
Column = tuple[str, Callable[[Row], str]]


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


def table_of(rows: Iterable[Row], columns: Sequence[Column]) -> str:
    """A line per row."""
    return markdown_table([header for header, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def number(value: float | None, scale: float = 1, decimals: int = 2) -> str:
    """A scaled number; nothing for None."""
    return "" if value is None else f"{scale * value:.{decimals}f}"


points = partial(number, scale=100, decimals=1)


def of_seeds(values: Sequence[float | None], scale: float = 100, decimals: int = 1, unit: str = "") -> str:
    """The mean, and in brackets the lowest and the highest of several seeds; nothing where they have no value."""
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = number(sum(known) / len(known), scale, decimals) + unit
    if len(known) < 2:
        return mean
    return f"{mean} ({number(min(known), scale, decimals)} to {number(max(known), scale, decimals)})"


def difference(value: float, low: float | None, high: float | None, scale: float = 100, decimals: int = 1) -> str:
    """A difference with its interval, all with their signs; "[too few]" where there are too few cases for one."""
    if low is None or high is None:
        return f"{scale * value:+.{decimals}f} [too few]"
    return "{} [{}, {}]".format(*(f"{scale * end:+.{decimals}f}" for end in (value, low, high)))


def _cell(value: Any, form: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else format(value, form)
