"""Missed lesions by size, close up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nnunet_rw.report.gallery_choice import MissedOfSize
from nnunet_rw.report.picture_geometry import close_up, extent_mm
from nnunet_rw.report.picture_panel import draw_panel, new_figure, save
from nnunet_rw.report.pictures import Picture

_WIDTH_INCHES, _HEIGHT_INCHES, _EMPTY_INCHES = 1.9, 2.2, 0.8
_LEAST_PIXELS = 24


def draw_missed_lesions(
    sizes: Sequence[MissedOfSize],
    pictures: Sequence[Sequence[tuple[Picture, str]]],
    path: str | Path,
    title: str = "",
    unit: str = "mm³",
) -> None:
    """Write a PNG: a row a size class, from the smallest, with examples of its missed lesions to one scale.

    Parameters
    ----------
    sizes : sequence of MissedOfSize
        Classes without any lesion are left out.
    pictures : sequence of sequences of (Picture, str)
        Of each size class: its examples and what to write above them.
    path : path
        Of the PNG.
    title, unit : str
        The unit is that of the sizes.
    """
    rows = [(size, list(shown)) for size, shown in zip(sizes, pictures, strict=True) if size.num_lesions]
    columns = 1 + max([1, *(len(shown) for _, shown in rows)])
    heights = [_HEIGHT_INCHES if shown else _EMPTY_INCHES for _, shown in rows]
    figure, axes = new_figure(heights or [_EMPTY_INCHES], columns, _WIDTH_INCHES, title)
    if not rows:
        axes[0, 0].text(0, 0.5, "No case has a lesion.", va="center", fontsize=12)
    for (label, *panels), (size, shown) in zip(axes, rows, strict=False):
        width_mm = _width_mm([picture for picture, _ in shown])
        scale = f"\n\npictures {width_mm:.3g} mm wide" if shown else ""
        label.text(0, 0.5, f"{_range(size, unit)}\n{size.num_missed} of {size.num_lesions} missed{scale}", va="center")
        for panel, (picture, text) in zip(panels, shown, strict=False):
            mask = picture.codes > 0 if picture.lesion is None else picture.lesion
            draw_panel(panel, picture, close_up(mask, picture.pixel_mm, width_mm))
            panel.set_title(text, fontsize=9)
    save(figure, path, [picture for _, shown in rows for picture, _ in shown])


def _width_mm(pictures: Sequence[Picture]) -> float:
    """Twice the largest lesion, at least some pixels."""
    return max(
        [
            0.0,
            *(
                max(2 * extent_mm(picture.lesion, picture.pixel_mm), _LEAST_PIXELS * max(picture.pixel_mm))
                for picture in pictures
                if picture.lesion is not None
            ),
        ]
    )


def _range(size: MissedOfSize, unit: str) -> str:
    if size.low <= 0:
        return f"below {size.high:g} {unit}"
    return f"{size.low:g} {unit} and more" if math.isinf(size.high) else f"{size.low:g} to {size.high:g} {unit}"
