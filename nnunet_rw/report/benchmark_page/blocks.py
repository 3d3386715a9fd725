"""What the page is made of: figures with their caption and data, tables, pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go

from nnunet_rw.evaluation.intervals import Interval
from nnunet_rw.report.benchmark_tables import cells


@dataclass(frozen=True)
class Table:
    """A table to read.

    Attributes
    ----------
    caption : str
    header : tuple of str
    rows : tuple of tuples of str
        As long as the header; the first cell names the row.
    best : frozenset of (int, int)
        Row and column of cells to be drawn bold.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Panel:
    """One plotly figure and the words above it."""

    title: str
    figure: go.Figure


@dataclass(frozen=True)
class Block:
    """Panels that belong together.

    Attributes
    ----------
    key : str
        Unique within a task and label, of letters.
    title, caption : str
    panels : tuple of Panel
    tables : tuple of Table
        The same data, for those who cannot see the panels.
    trainers : tuple of str
        That the panels show, for the key above them.
    """

    key: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    tables: tuple[Table, ...]
    trainers: tuple[str, ...] = field(default=())


def table_of(caption: str, rows: Sequence[dict[str, str]], best: Iterable[tuple[int, str]] = ()) -> Table:
    """A table from rows that all have the same keys, the headers."""
    header = tuple(rows[0]) if rows else ()
    bold = frozenset((row, header.index(column)) for row, column in best)
    return Table(caption, header, tuple(tuple(row.values()) for row in rows), bold)


def with_interval(value: float, low: float, high: float, decimals: int = 3) -> str:
    """``0.612 [0.580, 0.640]``, without interval where there is none."""
    return cells.with_interval(value, Interval(low, high), decimals)


def numbers(values: Iterable[float] | np.ndarray) -> list[float | None]:
    """Six digits of each, None where not finite: what plotly leaves out, and JSON can hold."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
