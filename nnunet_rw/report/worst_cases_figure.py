"""The cases of lowest Dice, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from nnunet_rw.evaluation.case_evaluation import CaseEvaluation
from nnunet_rw.report.picture_geometry import close_up, extent_mm, within
from nnunet_rw.report.picture_panel import draw_panel, new_figure, save
from nnunet_rw.report.pictures import Picture

# Of a row; above its pictures stand two lines.
_WIDTH_INCHES, _TEXT_INCHES = 12.0, 0.45


def draw_worst_cases(shown: Sequence[tuple[Picture, str]], path: str | Path, title: str = "") -> None:
    """Write a PNG: of each case the slice, alone and with the overlay; where no case has an image, the overlay alone.

    Parameters
    ----------
    shown : sequence of (Picture, str)
        Cases and what to write above them. With none the PNG says so.
    path : path
        Of the PNG.
    title : str
    """
    pictures = [picture for picture, _ in shown]
    # Pairs of a picture without and with overlay, or single ones.
    per_case, per_row = (2, 2) if any(picture.image is not None for picture in pictures) else (1, 3)
    width = _WIDTH_INCHES / per_row / per_case
    columns, rows = min(len(shown), per_row) or 1, math.ceil(len(shown) / per_row) or 1
    figure, axes = new_figure([width + _TEXT_INCHES] * rows, columns * per_case, width, title)
    if not shown:
        axes[0, 0].text(0.5, 0.5, "No case has a lesion or a false positive.", ha="center", va="center", fontsize=12)
    for number, (picture, text) in enumerate(shown):
        row, column = divmod(number, columns)
        panels = axes[row, column * per_case : (column + 1) * per_case]
        window = within(close_up(picture.codes > 0, picture.pixel_mm, _width_mm(picture)), picture.codes.shape)
        for panel, overlay in zip(reversed(panels), (True, False), strict=False):
            draw_panel(panel, picture, window, overlay)
        panels[0].set_title(text, fontsize=10, loc="left")
    save(figure, path, pictures)


def case_title(evaluation: CaseEvaluation, position: int, picture: Picture, name: str | None = None) -> str:
    """Name, slice, Dice, recall and false positives of a case, in the class at a position.

    Another name may stand for its own.
    """
    found = evaluation.classes[position]
    lesions, predicted = found.matches.reference, found.matches.predicted
    number, hit, false = (int(mask.sum()) for mask in (lesions.counted, lesions.hit, predicted.false_positive))
    place = "" if picture.index is None else f", slice {picture.index}"
    recall = f"recall {hit / number:.2f} ({hit} of {number})" if number else "no lesion"
    wrong = f"{false} false positive{'' if false == 1 else 's'}"
    return f"{name or evaluation.files.case}{place}\nDice {found.overlap.dice:.2f}, {recall}, {wrong}"


def _width_mm(picture: Picture) -> float:
    """All that the overlay shows with a margin, at least half the picture, at most all of it."""
    whole = max(size * step for size, step in zip(picture.codes.shape, picture.pixel_mm, strict=True))
    return min(whole, max(whole / 2, 1.3 * extent_mm(picture.codes > 0, picture.pixel_mm)))
