"""What sizes and distances are in, and how lesions hang together, in words: in two dimensions as in three."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nnunet_rw.maps.arrays import as_connectivity


def size_unit(spacings_mm: Iterable[Sequence[float]]) -> str:
    """What sizes are in: mm3, of two axes mm2, or pixels where no file tells a spacing, so that all are 1 mm.

    Examples
    --------
    >>> [size_unit([spacing]) for spacing in ((1.0, 1.0, 1.0), (0.5, 0.5), (1.0, 1.0))]
    ['mm3', 'mm2', 'pixels']
    """
    found = set(map(tuple, spacings_mm))
    if any(len(spacing) == 3 for spacing in found):
        return "mm3"
    return "pixels" if found == {(1.0, 1.0)} else "mm2"


def length_unit(size: str) -> str:
    """What distances are in where sizes are in this.

    Examples
    --------
    >>> [length_unit(size) for size in ("mm3", "mm2", "pixels")]
    ['mm', 'mm', 'pixels']
    """
    return "pixels" if size == "pixels" else "mm"


def connected(connectivity: int, unit: str) -> str:
    """How lesions hang together, by a setting of three dimensions and what sizes are in.

    Examples
    --------
    >>> connected(26, "mm3"), connected(26, "pixels")
    ('26-connected', '8-connected')
    """
    return f"{as_connectivity(connectivity, 3 if unit == 'mm3' else 2)}-connected"


def raised(text: str) -> str:
    """The text with units as a figure has them.

    Examples
    --------
    >>> raised("100 mm3")
    '100 mm³'
    """
    return text.replace("mm3", "mm³").replace("mm2", "mm²")
