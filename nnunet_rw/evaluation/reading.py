"""Segmentations, probabilities and images of one case, checked before anything is computed from them."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_rw.evaluation.sources import CaseFiles
from nnunet_rw.util.readers import reason

# Headers are written in single precision. Of a spacing relative to it, whatever its size; of direction cosines.
_GEOMETRY_TOLERANCE = 1e-3
# Of an origin, in shares of a voxel's shortest side.
_ORIGIN_TOLERANCE = 0.05
# Of probabilities stored in half precision.
_PROBABILITY_TOLERANCE = 1e-3
_GIPL_HEADER_BYTES = 256


@dataclass(frozen=True)
class Case:
    """One case in memory; all arrays share their axes.

    Attributes
    ----------
    reference, prediction : integer arrays (X, Y[, Z])
    spacing_mm : tuple of float
        Per array axis.
    probabilities : float array (heads, X, Y[, Z]) or None
    image : float array (X, Y[, Z]) or None
        The first channel.
    properties : dict
        nnU-Net's, of the file that tells the spacing: what its writers need for a segmentation on the same grid.
    """

    reference: np.ndarray
    prediction: np.ndarray
    spacing_mm: tuple[float, ...]
    probabilities: np.ndarray | None = None
    image: np.ndarray | None = None
    properties: dict[str, Any] = field(default_factory=dict, repr=False)


def read_case(files: CaseFiles, reader: BaseReaderWriter, known_labels: Collection[int], num_heads: int) -> Case:
    """Read a case's files.

    Raises
    ------
    ValueError
        A file cannot be read, holds no whole numbers or unknown labels, or does not fit the reference in shape or
        geometry; no file tells the spacing; probabilities are none or of another shape.
    """
    reference, of_reference = _read_labels(files.reference, reader, known_labels)
    prediction, of_prediction = _read_labels(files.prediction, reader, known_labels)
    if prediction.shape != reference.shape:
        raise ValueError(
            f"Expected {files.prediction} to have the shape of its reference, {reference.shape}, but got "
            f"{prediction.shape}."
        )
    properties = _told_properties(files, reader, of_reference, of_prediction)
    probabilities = None
    if files.probabilities:
        probabilities = read_probabilities(files.probabilities, (num_heads, *reference.shape))
    image = None
    if files.images:
        image = _read(files.images[0], lambda path: reader.read_images((path,)))[0][0]
        if image.shape != reference.shape:
            raise ValueError(
                f"Expected {files.images[0]} to have the shape of the reference, {reference.shape}, but got "
                f"{image.shape}."
            )
    reference, spacing = without_slice_axis(reference, properties["spacing"])
    prediction, _ = without_slice_axis(prediction, properties["spacing"])
    if probabilities is not None:
        probabilities, _ = without_slice_axis(probabilities, properties["spacing"])
    if image is not None:
        image, _ = without_slice_axis(image, properties["spacing"])
    return Case(reference, prediction, spacing, probabilities, image, properties)


def read_labels(
    path: Path, reader: BaseReaderWriter, known_labels: Collection[int]
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Integer labels (X, Y[, Z]) of one file and mm per array axis; two-dimensional images have two axes.

    Raises
    ------
    ValueError
        The file cannot be read, holds no whole numbers or unknown labels, or tells no spacing.
    """
    labels, properties = _read_labels(path, reader, known_labels)
    if not _tells_spacing(path, reader):
        raise ValueError(_no_spacing(path))
    return without_slice_axis(labels, properties["spacing"])


def without_slice_axis(array: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, tuple[float, ...]]:
    """An array (..., X, Y, Z) and its spacing without the axis that nnU-Net's reader gave an image of two dimensions.

    Examples
    --------
    >>> flat, spacing = without_slice_axis(np.zeros((3, 1, 40, 30)), (999.0, 1.0, 2.0))
    >>> flat.shape, spacing
    ((3, 40, 30), (1.0, 2.0))
    """
    steps = tuple(float(step) for step in spacing)
    return (array[..., 0, :, :], steps[1:]) if is_two_dimensional(array.shape[-3:], steps) else (array, steps)


def is_two_dimensional(shape: Sequence[int], spacing: Sequence[float]) -> bool:
    """Whether nnU-Net's reader made an image of two dimensions three: a first axis of one voxel, 999 mm or so wide."""
    return len(shape) == 3 and shape[0] == 1 and spacing[0] > 500 * max(spacing[1:])


def _read(path: Path, read: Callable[[str], Any]) -> tuple[np.ndarray, dict[str, Any]]:
    try:
        _check_whole(path)
        return read(str(path))
    except Exception as error:  # every reader has its own
        if "orthonormal" in str(error):
            raise ValueError(
                f"The axes of {path} are not at right angles, and SimpleITK reads no sheared images. Add to "
                f'dataset.json: "overwrite_image_reader_writer": "NibabelIO"'
            ) from error
        raise ValueError(f"{path} cannot be read ({reason(error)}). Copy or predict it again.") from error


def _check_whole(path: Path) -> None:
    """SimpleITK reads what there is of a truncated NIfTI or GIPL file and fills up with zeros."""
    if path.name.endswith((".nii", ".nii.gz")):
        image: Any = nibabel.load(path)
        stored = image.dataobj
        start, shape, voxel_bytes = stored.offset, stored.shape, stored.dtype.itemsize
    elif path.suffix == ".gipl":
        header = sitk.ImageFileReader()
        header.SetFileName(str(path))
        header.ReadImageInformation()
        start, shape = _GIPL_HEADER_BYTES, header.GetSize()
        voxel_bytes = sitk.Image([1, 1], header.GetPixelID()).GetSizeOfPixelComponent()
    else:
        return
    expected, there = start + math.prod(shape) * voxel_bytes, _num_bytes(path)
    if there < expected:
        raise ValueError(f"{there} bytes where its header tells of {expected}")


def _num_bytes(path: Path) -> int:
    """Of what is in the file, which is read to its end where it is compressed."""
    if path.suffix != ".gz":
        return path.stat().st_size
    with gzip.open(path) as file:
        return sum(len(part) for part in iter(lambda: file.read(1 << 20), b""))


def _tells_spacing(path: Path, reader: BaseReaderWriter) -> bool:
    """TIFF has its spacing in a file beside it, which nnU-Net leaves behind where it copies references."""
    return not isinstance(reader, Tiff3DIO) or path.with_suffix(".json").is_file()


def _told_properties(
    files: CaseFiles, reader: BaseReaderWriter, of_reference: dict[str, Any], of_prediction: dict[str, Any]
) -> dict[str, Any]:
    """The properties of the reference, or of the prediction where only that tells the spacing.

    Of a TIFF that tells none nnU-Net's reader takes it to be 1.
    """
    told = [of_reference] if _tells_spacing(files.reference, reader) else []
    if not told and files.raw_label and files.raw_label.is_file() and _tells_spacing(files.raw_label, reader):
        told = [_read(files.raw_label, reader.read_seg)[1]]
    if _tells_spacing(files.prediction, reader):
        told.append(of_prediction)
    if not told:
        raise ValueError(_no_spacing(files.reference))
    if len(told) == 2:
        _check_geometry(files, *told)
    return told[0]


def _no_spacing(path: Path) -> str:
    return (
        f"No file tells the spacing of {path}. Write {path.with_suffix('.json')} with the mm of a step along each axis "
        'of the array, such as {"spacing": [3.0, 1.0, 1.0]}'
    )


def _read_labels(
    path: Path, reader: BaseReaderWriter, known_labels: Collection[int]
) -> tuple[np.ndarray, dict[str, Any]]:
    values, properties = _read(path, reader.read_seg)
    if len(values) != 1:
        raise ValueError(f"Expected a segmentation of one channel in {path}, but got {len(values)}.")
    labels = values[0]
    if not np.all(np.isfinite(labels)) or not np.array_equal(labels, np.rint(labels)):
        raise ValueError(f"Expected whole numbers in {path}, but got others. Are these probabilities?")
    labels = labels.astype(np.int32)
    unknown = sorted(set(np.unique(labels).tolist()) - set(known_labels))
    if unknown:
        raise ValueError(
            f"{path} holds label {unknown[0]}, which the dataset.json does not list "
            f"({', '.join(map(str, sorted(known_labels)))})."
        )
    return labels, properties


def _check_geometry(files: CaseFiles, reference: dict[str, Any], prediction: dict[str, Any]) -> None:
    """Origin, spacing and direction, as far as the reader knows them."""
    for key in ("spacing", "sitk_stuff", "nibabel_stuff"):
        if key not in reference or key not in prediction:
            continue
        for name, expected, got in _numbers(key, reference[key], prediction[key]):
            allowed = _allowed(name, expected, min(reference["spacing"]))
            if expected.shape != got.shape or not np.all(np.abs(got - expected) <= allowed):
                raise ValueError(
                    f"Expected {files.prediction} to have the {name} of its reference, {_short(expected)}, but got "
                    f"{_short(got)}."
                )


def _allowed(name: str, expected: np.ndarray, shortest_mm: float) -> np.ndarray | float:
    """By how much the numbers of a geometry may differ, so that images of microscopes are told apart as well."""
    if name == "spacing":
        return _GEOMETRY_TOLERANCE * expected
    if name == "origin":
        return _ORIGIN_TOLERANCE * shortest_mm
    if name.endswith("affine"):  # a step along each axis, then the origin
        steps_mm = np.linalg.norm(expected[:3, :3], axis=0)
        return np.append(_GEOMETRY_TOLERANCE * steps_mm, _ORIGIN_TOLERANCE * steps_mm.min())
    return _GEOMETRY_TOLERANCE


def _numbers(key: str, expected: Any, got: Any) -> list[tuple[str, np.ndarray, np.ndarray]]:
    pairs = [(key, np.asarray(expected), np.asarray(got))]
    if isinstance(expected, dict):
        pairs = [(name, np.asarray(expected[name]), np.asarray(got[name])) for name in expected if name in got]
    # One of nnU-Net's readers notes the orientation's name as well.
    return [pair for pair in pairs if pair[1].dtype.kind in "iuf"]


def read_probabilities(path: Path, shape: Sequence[int] | None = None) -> np.ndarray:
    """The probabilities that nnU-Net stored, (heads, X, Y, Z), of the given shape if any.

    Raises
    ------
    ValueError
        The file cannot be read, or holds what is no probability, or another shape.
    """
    try:
        with np.load(path) as archive:
            probabilities = archive["probabilities"]
    except Exception as error:  # of NumPy, zip and zlib
        raise ValueError(f"{path} holds no probabilities ({reason(error)}). Predict again.") from error
    if shape is not None and probabilities.shape != tuple(shape):
        raise ValueError(f"Expected probabilities of shape {tuple(shape)} in {path}, but got {probabilities.shape}.")
    if probabilities.ndim != 4 or probabilities.dtype.kind not in "fiu":
        raise ValueError(
            f"Expected probabilities of shape (channels, X, Y, Z) in {path}, but got {probabilities.dtype} of shape "
            f"{probabilities.shape}. Predict again."
        )
    lowest, highest = float(probabilities.min(initial=0)), float(probabilities.max(initial=0))
    if not math.isfinite(lowest + highest):
        raise ValueError(f"{path} holds non-finite values. Predict again.")
    if lowest < -_PROBABILITY_TOLERANCE or highest > 1 + _PROBABILITY_TOLERANCE:
        raise ValueError(
            f"Expected probabilities from 0 to 1 in {path}, but got {lowest:.4g} to {highest:.4g}. Are these logits? "
            "Predict again with --save_probabilities, or train with --npz."
        )
    return probabilities


def _short(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in np.ravel(values)) + ")"
