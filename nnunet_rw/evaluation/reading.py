"""Segmentations, probabilities and images of one case, checked before anything is computed from them."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_rw.evaluation.sources import CaseFiles
from nnunet_rw.util.readers import reason

# Headers are written in single precision.
_GEOMETRY_TOLERANCE = 1e-3


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
    """

    reference: np.ndarray
    prediction: np.ndarray
    spacing_mm: tuple[float, ...]
    probabilities: np.ndarray | None = None
    image: np.ndarray | None = None


def read_case(files: CaseFiles, reader: BaseReaderWriter, known_labels: Collection[int], num_heads: int) -> Case:
    """Read a case's files.

    Raises
    ------
    ValueError
        A file cannot be read, holds no whole numbers or unknown labels, or does not fit the reference in shape or
        geometry; probabilities are no numbers or of another shape.
    """
    reference, properties = _read_labels(files.reference, reader, known_labels)
    prediction, other = _read_labels(files.prediction, reader, known_labels)
    if prediction.shape != reference.shape:
        raise ValueError(
            f"Expected {files.prediction} to have the shape of its reference, {reference.shape}, but got "
            f"{prediction.shape}."
        )
    if _tells_geometry(files.reference, reader) and _tells_geometry(files.prediction, reader):
        _check_geometry(files, properties, other)
    known = properties if _tells_geometry(files.reference, reader) else other
    spacing = tuple(float(step) for step in known["spacing"])
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
    if is_two_dimensional(reference.shape, spacing):
        reference, prediction, spacing = reference[0], prediction[0], spacing[1:]
        probabilities = None if probabilities is None else probabilities[:, 0]
        image = None if image is None else image[0]
    return Case(reference, prediction, spacing, probabilities, image)


def read_labels(
    path: Path, reader: BaseReaderWriter, known_labels: Collection[int]
) -> tuple[np.ndarray, tuple[float, ...]]:
    """Integer labels (X, Y[, Z]) of one file and mm per array axis; two-dimensional images have two axes.

    Raises
    ------
    ValueError
        The file cannot be read, or holds no whole numbers or unknown labels.
    """
    labels, properties = _read_labels(path, reader, known_labels)
    spacing = tuple(float(step) for step in properties["spacing"])
    return (labels[0], spacing[1:]) if is_two_dimensional(labels.shape, spacing) else (labels, spacing)


def is_two_dimensional(shape: Sequence[int], spacing: Sequence[float]) -> bool:
    """Whether nnU-Net's reader made an image of two dimensions three: a first axis of one voxel, 999 mm or so wide."""
    return len(shape) == 3 and shape[0] == 1 and spacing[0] > 500 * max(spacing[1:])


def _read(path: Path, read: Callable[[str], Any]) -> tuple[np.ndarray, dict[str, Any]]:
    try:
        _check_whole(path)
        return read(str(path))
    except Exception as error:  # every reader has its own
        raise ValueError(f"{path} cannot be read ({reason(error)}). Copy or predict it again.") from error


def _check_whole(path: Path) -> None:
    """SimpleITK reads what there is of a truncated NIfTI file and fills up with zeros."""
    if path.suffix == ".gz":
        with gzip.open(path) as file:
            while file.read(1 << 20):
                pass


def _tells_geometry(path: Path, reader: BaseReaderWriter) -> bool:
    """TIFF has its spacing in a file beside it, which nnU-Net leaves behind where it copies references."""
    return not isinstance(reader, Tiff3DIO) or path.with_suffix(".json").is_file()


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
            same = expected.shape == got.shape
            if not same or not np.allclose(expected, got, rtol=_GEOMETRY_TOLERANCE, atol=_GEOMETRY_TOLERANCE):
                raise ValueError(
                    f"Expected {files.prediction} to have the {name} of its reference, {_short(expected)}, but got "
                    f"{_short(got)}."
                )


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
        The file cannot be read, or holds NaN, infinity or another shape.
    """
    try:
        with np.load(path) as archive:
            probabilities = archive["probabilities"]
    except Exception as error:  # of NumPy, zip and zlib
        raise ValueError(f"{path} holds no probabilities ({reason(error)}). Predict again.") from error
    if shape is not None and probabilities.shape != tuple(shape):
        raise ValueError(f"Expected probabilities of shape {tuple(shape)} in {path}, but got {probabilities.shape}.")
    if not np.all(np.isfinite(probabilities)):
        raise ValueError(f"{path} holds values that are no numbers. Predict again.")
    return probabilities


def _short(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in np.ravel(values)) + ")"
