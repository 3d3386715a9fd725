"""Tables of cells that keep their numbers, and their one formatter: to text, Markdown, LaTeX and CSV.

The page's template draws the same cells as HTML.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

NOTHING = "-"
# Instead of an interval.
TOO_FEW = "[too few]"


@dataclass(frozen=True)
class Cell:
    """What stands in a cell.

    Attributes
    ----------
    text : str
    beside : tuple of str
        What goes with it, such as an interval and the number of cases.
    value : float
        The number that the cell stands for, by which it is sorted; NaN of words.
    best : bool
        Drawn bold.
    """

    text: str
    beside: tuple[str, ...] = ()
    value: float = math.nan
    best: bool = False

    def __str__(self) -> str:
        return " ".join((self.text, *self.beside))


# A whole number stands for itself, a text for words.
CellLike: TypeAlias = Cell | str | int


def rounded(value: float, decimals: int) -> str:
    """``0.612``, without the sign of a zero; `NOTHING` where the value is non-finite."""
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def number(value: float, decimals: int) -> Cell:
    """The value, `rounded`."""
    return Cell(rounded(value, decimals), value=value)


def with_ends(value: float, low: float, high: float, decimals: int) -> Cell:
    """``0.612 [0.580, 0.640]``, or `TOO_FEW` instead of an interval that is NaN; the value alone where all are alike.

    Cases that are all alike tell no spread, and an interval of no width would claim that new ones have none.
    """
    return Cell(rounded(value, decimals), _beside(value, (low, high), decimals, rounded), value)


def with_interval(value: float, interval: tuple[float, float], decimals: int = 3) -> Cell:
    """As `with_ends`."""
    return with_ends(value, *interval, decimals)


def signed(value: float, decimals: int = 3) -> str:
    """``+0.012``, as `rounded` but for the sign of what is above 0."""
    text = rounded(value, decimals)
    return f"+{text}" if math.isfinite(value) and float(text) > 0 else text


def signed_interval(value: float, interval: tuple[float, float], decimals: int = 3) -> str:
    """``+0.012 [-0.001, +0.020]``, as `with_ends` but for the signs."""
    return " ".join((signed(value, decimals), *_beside(value, interval, decimals, signed)))


def _beside(
    value: float, interval: tuple[float, float], decimals: int, text: Callable[[float, int], str]
) -> tuple[str, ...]:
    low, high = interval
    if math.isnan(low):
        return (TOO_FEW,) if math.isfinite(value) else ()
    return (f"[{text(low, decimals)}, {text(high, decimals)}]",) if low != high else ()


def counted(cell: Cell, n: int, of: str = "") -> Cell:
    """``0.612 (n = 20)``, or the cell alone where it has no value."""
    return cell if str(cell) == NOTHING else replace(cell, beside=(*cell.beside, f"(n = {n}{of})"))


def spread(values: Iterable[float], decimals: int) -> Cell:
    """``0.601 to 0.612``, lowest to highest of the finite values; nothing for fewer than two."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return Cell(NOTHING)
    return Cell(f"{rounded(min(finite), decimals)} to {rounded(max(finite), decimals)}", value=min(finite))


def p_value(value: float) -> Cell:
    """``0.020``, or ``<0.001``."""
    return Cell("<0.001", value=value) if value < 0.001 else number(value, 3)


@dataclass(frozen=True)
class Table:
    """A table to read.

    Attributes
    ----------
    title : str
    header : tuple of str
    rows : tuple of tuples of Cell
        As long as the header; the first cell names the row.
    name : str
        Of its file, without ending.
    notes : tuple of str
        What the columns mean, a sentence or two each.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    name: str = ""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, title: str, rows: Iterable[Mapping[str, CellLike]], name: str = "", notes: Iterable[str] = ()) -> Table:
        """From rows that all have the same keys, the headers; without rows there is no header."""
        rows = list(rows)
        cells = tuple(tuple(map(as_cell, row.values())) for row in rows)
        return cls(title, tuple(rows[0]) if rows else (), cells, name, tuple(notes))

    @property
    def texts(self) -> tuple[tuple[str, ...], ...]:
        """The rows in words."""
        return tuple(tuple(map(str, row)) for row in self.rows)

    @property
    def records(self) -> list[dict[str, str]]:
        """The rows in words, by header."""
        return [dict(zip(self.header, row, strict=True)) for row in self.texts]

    def without(self, names: Collection[str]) -> Table:
        """The table without these columns."""
        kept = [index for index, name in enumerate(self.header) if name not in names]
        rows = tuple(tuple(row[index] for index in kept) for row in self.rows)
        return replace(self, header=tuple(self.header[index] for index in kept), rows=rows)

    def with_texts(self, name: str, texts: Mapping[str, str]) -> Table:
        """The table with other words in a column, if it has that, for those of its cells that have some."""
        place = self.header.index(name) if name in self.header else len(self.header)
        rows = tuple(
            tuple(Cell(texts.get(str(cell), str(cell))) if index == place else cell for index, cell in enumerate(row))
            for row in self.rows
        )
        return replace(self, rows=rows)

    def first(self, name: str) -> Table:
        """The table with this column before the others."""
        order = sorted(range(len(self.header)), key=lambda index: self.header[index] != name)
        rows = tuple(tuple(row[index] for index in order) for row in self.rows)
        return replace(self, header=tuple(self.header[index] for index in order), rows=rows)

    def without_empty(self, optional: Collection[str]) -> Table:
        """Without those of these columns in which no row has anything."""
        columns = zip(self.header, zip(*self.texts, strict=True), strict=True) if self.rows else ()
        return self.without([name for name, cells in columns if name in optional and set(cells) == {NOTHING}])

    def turned(self) -> Table:
        """A column for each row, for texts that are too long for a cell of a wide table."""
        if not self.rows:
            return self
        columns = list(zip(map(Cell, self.header), *self.rows, strict=True))
        return replace(self, header=tuple(map(str, columns[0])), rows=tuple(columns[1:]))

    def text(self) -> str:
        """Columns aligned left, the header underlined."""
        lines = [self.header, *self.texts]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        lines.insert(1, tuple("-" * width for width in widths))
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def markdown(self) -> str:
        """The table alone, the best values bold."""
        rows = [[f"**{escaped(str(cell))}**" if cell.best else escaped(str(cell)) for cell in row] for row in self.rows]
        lines = [list(map(escaped, self.header)), ["---"] * len(self.header), *rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def latex(self, rules: tuple[str, str, str] = (r"\hline",) * 3, columns: str = "") -> str:
        r"""A ``tabular``, the best values bold.

        Parameters
        ----------
        rules : three commands
            Above the header, below it, and below the rows; those of the package booktabs are ``\toprule``,
            ``\midrule`` and ``\bottomrule``.
        columns : str, optional
            Of ``tabular``; default: all aligned left.
        """
        rows = [
            [rf"\textbf{{{latex_escape(str(cell))}}}" if cell.best else latex_escape(str(cell)) for cell in row]
            for row in self.rows
        ]
        # A bracket after a row's end would be taken for its option.
        lines = [
            " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in line) + r" \\"
            for line in [list(map(latex_escape, self.header)), *rows]
        ]
        begin = rf"\begin{{tabular}}{{{columns or 'l' * len(self.header)}}}"
        return "\n".join([begin, rules[0], lines[0], rules[1], *lines[1:], rules[2], r"\end{tabular}"])


def as_cell(content: CellLike) -> Cell:
    """The cell itself, or one of a text or whole number."""
    if isinstance(content, Cell):
        return content
    return Cell(content) if isinstance(content, str) else Cell(str(content), value=content)


def text_table(header: Sequence[str], rows: Iterable[Sequence[CellLike]]) -> str:
    """`Table.text` of a table without a title."""
    return Table("", tuple(header), tuple(tuple(map(as_cell, row)) for row in rows)).text()


def escaped(text: str) -> str:
    """The text with what Markdown takes for markup, or for the end of a cell, escaped."""
    return "".join(f"\\{sign}" if sign in "\\|*<`" else sign for sign in " ".join(text.split()))


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: f"\\{sign}" for sign in "_&%#${}"},
}


def latex_escape(text: str) -> str:
    """The text with what LaTeX takes for commands escaped, and a minus sign before a number."""
    signs = [_LATEX.get(sign, sign) for sign in text]
    for i, sign in enumerate(text):
        if sign == "-" and text[i + 1 : i + 2].isdigit() and (i == 0 or text[i - 1] in " [("):
            signs[i] = "$-$"
    return "".join(signs)


def csv_text(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """CSV with all digits; an empty cell stands for NaN and None."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if value is None or _is_nan(value) else value for value in row] for row in rows)
    return file.getvalue()


def json_value(value: Any) -> Any:
    """The value as JSON has it, which knows no non-finite number and none of NumPy's: None stands for the former."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)
