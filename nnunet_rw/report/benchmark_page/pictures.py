"""Pictures within the page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, features

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
    """A PNG of `nnunet_rw.report.gallery.write_gallery`, without what its file tells besides the picture.

    Raises
    ------
    FileNotFoundError, OSError
        There is none, or it is no picture.
    """
    path = Path(path)
    kind = next((name for start, name in _KINDS.items() if path.stem.startswith(start)), "Picture")
    label = path.stem
    for start in _KINDS:
        label = label.removeprefix(start)
    title = f"{kind}, class {label}" if kind != "Picture" else "Picture"
    with Image.open(path) as image:
        pixels = image.convert("RGB")
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
