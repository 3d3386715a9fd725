"""What the page is made of: figures with their caption and data, tables, pictures, prose."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from markupsafe import Markup, escape
from PIL import Image, features

from nnunet_rw.evaluation.comparison import cells
from nnunet_rw.evaluation.comparison.intervals import Interval


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


_KINDS = {"worst_cases_": "Cases of lowest Dice", "missed_lesions_": "Missed lesions by size"}
_OUTLINES = "Outlines: reference found or missed, prediction right or false, as the picture's legend names them."


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as a data URI, with the words that go with it; width and height in pixels."""

    uri: str
    title: str
    alternative: str
    width: int
    height: int


def embed_picture(path: str | Path, trainer: str) -> EmbeddedPicture:
    """A PNG of `nnunet_rw.pictures.gallery.write_gallery`, without what its file tells besides the picture.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It is no picture, or a part of one.
    """
    path = Path(path)
    kind = next((name for start, name in _KINDS.items() if path.stem.startswith(start)), "Picture")
    label = path.stem
    for start in _KINDS:
        label = label.removeprefix(start)
    title = f"{kind}, class {label}" if kind != "Picture" else "Picture"
    try:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:  # PIL's, of a broken PNG
        raise ValueError(
            f"{path} is no whole picture ({error}). Delete it and run the benchmark again, which draws it."
        ) from error
    file = io.BytesIO()
    if features.check("webp"):
        pixels.save(file, "WEBP", quality=82, method=4)
        kind_of_file = "webp"
    else:
        pixels.save(file, "PNG", optimize=True)
        kind_of_file = "png"
    data = base64.b64encode(file.getvalue()).decode()
    uri = f"data:image/{kind_of_file};base64,{data}"
    return EmbeddedPicture(uri, title, f"{title}, {trainer}. {_OUTLINES}", *pixels.size)


_HEADING = re.compile(r"(#+) +(.*)")
# What stands between backticks, or between two asterisks.
_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


def markdown_html(text: str, level: int) -> Markup:
    """HTML of the text, all its signs escaped.

    Parameters
    ----------
    text : str
        Blocks between blank lines.
    level : int
        Of all headings, as in ``<h3>``.
    """
    return Markup("\n").join(_block(block.strip(), level) for block in re.split(r"\n\s*\n", text) if block.strip())


def _block(block: str, level: int) -> Markup:
    heading = _HEADING.fullmatch(block)
    if heading:
        return Markup("<h{0}>{1}</h{0}>").format(level, _inline(heading[2]))
    if block.startswith("- "):
        items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
        rows = Markup("\n").join(Markup("<li>{}</li>").format(_inline(item.strip())) for item in items)
        return Markup("<ul>\n{}\n</ul>").format(rows)
    return Markup("<p>{}</p>").format(_inline(block))


def _inline(text: str) -> Markup:
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        tag, inside = ("code", found[1]) if found[1] else ("strong", found[2])
        parts += [escape(text[end : found.start()]), Markup("<{0}>{1}</{0}>").format(Markup(tag), inside)]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])
