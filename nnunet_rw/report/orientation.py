"""How to look at a volume: which axis to slice, and which way up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Of images as ITK and DICOM count them: towards the patient's left, back and head.
_SIGN_ON_SCREEN = (1, 1, -1)


@dataclass(frozen=True)
class View:
    """From a volume to a picture as a radiologist expects it: patient's right on the left, front or head on top.

    Attributes
    ----------
    axis : int, optional
        That slices are taken along: of the coarsest spacing, the first of several. None in two dimensions.
    transposed : bool
        The later of the two remaining axes runs down the picture.
    flipped : (bool, bool)
        Rows and columns of the picture.
    """

    axis: int | None = None
    transposed: bool = False
    flipped: tuple[bool, bool] = (False, False)

    def picture(self, volume: np.ndarray, index: int = 0) -> np.ndarray:
        """Slice ``index`` of an array (X, Y, Z), the whole of an array (X, Y); (rows, columns)."""
        plane = volume if self.axis is None else np.take(volume, index, self.axis)
        plane = plane.T if self.transposed else plane
        rows, columns = (slice(None, None, -1 if flipped else 1) for flipped in self.flipped)
        return plane[rows, columns]

    def pixel_mm(self, spacing_mm: Sequence[float]) -> tuple[float, float]:
        """Height and width of a pixel."""
        rows, columns = (step for axis, step in enumerate(spacing_mm) if axis != self.axis)
        return (columns, rows) if self.transposed else (rows, columns)

    def counts(self, mask: np.ndarray) -> np.ndarray:
        """Voxels of a mask in every slice."""
        if self.axis is None:
            return np.array([np.count_nonzero(mask)])
        return np.count_nonzero(mask, axis=tuple(axis for axis in range(mask.ndim) if axis != self.axis))


def view_of(spacing_mm: Sequence[float], properties: dict[str, Any]) -> View:
    """The view of a volume with this spacing and nnU-Net's properties; as it is stored where these tell no direction.

    Oblique axes count as the patient's axis that they are nearest to.
    """
    if len(spacing_mm) == 2:
        return View()
    axis = int(np.argmax(np.asarray(spacing_mm) > max(spacing_mm) * (1 - 1e-3)))
    directions = _directions(properties)
    if directions is None:
        return View(axis)
    nearest = np.abs(directions).argmax(axis=0)
    sign = np.sign(directions[nearest, range(3)])
    # Array axes are ITK's in reverse.
    nearest, sign = nearest[::-1], sign[::-1]
    rows, columns = (other for other in range(3) if other != axis)
    transposed = bool(nearest[rows] < nearest[columns])
    if transposed:
        rows, columns = columns, rows
    flipped = tuple(bool(sign[along] != _SIGN_ON_SCREEN[nearest[along]]) for along in (rows, columns))
    return View(axis, transposed, (flipped[0], flipped[1]))


def _directions(properties: dict[str, Any]) -> np.ndarray | None:
    """(3, 3): the patient's axes by ITK's axes."""
    if "sitk_stuff" in properties:
        return np.reshape(properties["sitk_stuff"]["direction"], (3, 3))
    stuff = properties.get("nibabel_stuff", {})
    affine = stuff.get("reoriented_affine", stuff.get("original_affine"))
    if affine is None:
        return None
    # NIfTI counts towards the patient's right and front.
    directions = np.array(affine)[:3, :3] * [[-1], [-1], [1]]
    return directions / np.linalg.norm(directions, axis=0)
