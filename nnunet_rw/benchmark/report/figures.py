"""What figures are made of: how a trainer looks, panels and their words, and an empty figure."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np
import plotly.graph_objects as go

from nnunet_rw.util.tables import Table

INK, MUTED, GRID = "#1b1b1a", "#595957", "#e2e2dc"
# Okabe and Ito's, which the colour blind can tell apart, the last two darkened for a white ground; the baseline is
# drawn as ink.
COLOURS = (INK, "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#a87400", "#3b92c9")
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "triangle-down", "x", "star")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
# The same as paths of SVG, around (0, 0).
SYMBOL_PATHS = {
    "circle": "M5,0A5,5 0 1,1 -5,0A5,5 0 1,1 5,0Z",
    "diamond": "M0,-6L6,0L0,6L-6,0Z",
    "square": "M-4.6,-4.6H4.6V4.6H-4.6Z",
    "triangle-up": "M0,-5.6L5.6,4.4H-5.6Z",
    "cross": "M-2,-5.6H2V-2H5.6V2H2V5.6H-2V2H-5.6V-2H-2Z",
    "triangle-down": "M0,5.6L5.6,-4.4H-5.6Z",
    "x": "M0,-2.6L3.2,-5.8L5.8,-3.2L2.6,0L5.8,3.2L3.2,5.8L0,2.6L-3.2,5.8L-5.8,3.2L-2.6,0L-5.8,-3.2L-3.2,-5.8Z",
    "star": "M0,-6.4L1.5,-2L6.1,-2L2.4,0.8L3.8,5.2L0,2.5L-3.8,5.2L-2.4,0.8L-6.1,-2L-1.5,-2Z",
}
DASH_LENGTHS = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 5"}
# What the page's dark theme draws instead; the other colours fit both.
DARK = {
    INK: "#f1f1ee",
    MUTED: "#b4b4b0",
    GRID: "#363a40",
    "#0072b2": "#2d87c8",
    "#a87400": "#e69f00",
    "#3b92c9": "#8fd0f7",
}
# Of the page, by the name of its property, in the light and in the dark theme.
_PAGE_COLOURS = {
    "ground": ("#ffffff", "#15171a"),
    "raised": ("#f6f6f3", "#1d2024"),
    "ink": (INK, DARK[INK]),
    "muted": (MUTED, DARK[MUTED]),
    "line": ("#dcdcd6", "#363a40"),
    "accent": ("#005a8f", "#8cc8f0"),
    "notice": ("#8a4b00", "#f0b45a"),
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Style:
    """Of a trainer: its colour, plotly's names of its marker and line, and its name for plotly.

    Attributes
    ----------
    text : str
        The name with its signs escaped: plotly takes some of them for markup.
    """

    trainer: str
    colour: str
    symbol: str
    dash: str
    text: str

    @property
    def in_text(self) -> str:
        """Its colour as a property of the page, which has another value in a dark theme."""
        return f"var(--series-{COLOURS.index(self.colour)})"

    @property
    def path(self) -> str:
        """Its marker as a path of SVG."""
        return SYMBOL_PATHS[self.symbol]

    @property
    def dash_lengths(self) -> str:
        """Its dash as SVG has it."""
        return DASH_LENGTHS[self.dash]

    def marker(self, size: float = 9, **more: Any) -> dict[str, Any]:
        """Plotly's settings of its marker."""
        return {"color": self.colour, "symbol": self.symbol, "size": size, **more}

    def line(self, width: float = 2, **more: Any) -> dict[str, Any]:
        """Plotly's settings of its line."""
        return {"color": self.colour, "dash": self.dash, "width": width, **more}

    def faded(self, opacity: float) -> str:
        """Its colour for areas."""
        red, green, blue = (int(self.colour[start : start + 2], 16) for start in (1, 3, 5))
        return f"rgba({red},{green},{blue},{opacity})"


def trainer_styles(trainers: Iterable[str]) -> dict[str, Style]:
    """By name, in the order of the trainers; the first is the baseline."""
    looks = zip(trainers, cycle(COLOURS), cycle(SYMBOLS), cycle(DASHES), strict=False)
    return {name: Style(name, colour, symbol, dash, plot_text(name)) for name, colour, symbol, dash in looks}


def colour_properties(dark: bool) -> str:
    """CSS that defines the page's colours in a theme, and the properties of `Style.in_text`."""
    colours = {name: of_themes[dark] for name, of_themes in _PAGE_COLOURS.items()}
    colours |= {
        f"series-{number}": DARK.get(colour, colour) if dark else colour for number, colour in enumerate(COLOURS)
    }
    properties = " ".join(f"--{name}: {colour};" for name, colour in colours.items())
    return f"color-scheme: {'dark' if dark else 'light'}; {properties}"


def error_bar(value: float, ends: tuple[float, float], **more: Any) -> dict[str, Any] | None:
    """Plotly's settings of an interval about a value; None where it has none."""
    low, high = ends
    if not np.isfinite([value, low, high]).all():
        return None
    up, down = numbers([high - value, value - low])
    return {"type": "data", "symmetric": False, "array": [up], "arrayminus": [down], "thickness": 1.5, **more}


def logarithmic_ticks(low: float, high: float) -> dict[str, list[float] | list[str]]:
    """Plotly's settings of ticks at 1, 2 and 5 times powers of ten; over a wide range at those powers alone."""
    factors = (1, 2, 5) if high < 1000 * low else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return {"tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def plot_text(text: str) -> str:
    """The text for plotly, which would take ``<b>`` for markup."""
    return html.escape(text, quote=False)


def new_figure(x: str, y: str, height: int = 320, **layout: Any) -> go.Figure:
    """An empty figure with titles of its axes, no legend and no ground of its own.

    Parameters
    ----------
    x, y : str
        Titles; plotly's markup is escaped.
    height : int
        In pixels; the width is the page's.
    layout : of plotly
    """
    axis = {
        "gridcolor": GRID,
        "linecolor": MUTED,
        "tickcolor": MUTED,
        "zeroline": False,
        "automargin": True,
        "title": {"standoff": 10},
    }
    figure = go.Figure(layout={"template": {}})
    figure.update_layout(
        height=height,
        showlegend=False,
        margin={"l": 8, "r": 16, "t": 12, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": _FONT, "size": 13, "color": INK},
        hoverlabel={"font": {"family": _FONT, "size": 13}},
        hovermode="closest",
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": MUTED, "activecolor": INK},
        xaxis=axis,
        yaxis=axis,
    )
    figure.update_xaxes(title_text=plot_text(x))
    figure.update_yaxes(title_text=plot_text(y))
    return figure.update_layout(**layout)


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


def numbers(values: Iterable[float] | np.ndarray) -> list[float | None]:
    """Six digits of each, None where not finite: what plotly leaves out, and JSON can hold."""
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]
