"""Segmentations from probabilities, as nnU-Net makes and writes them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.files import write_atomically


def to_segmentation(probabilities: np.ndarray, manager: LabelManager) -> np.ndarray:
    """nnU-Net's labels for probabilities (C, X, Y[, Z]): integers (X, Y[, Z]), regions painted in their order."""
    return np.asarray(manager.convert_probabilities_to_segmentation(probabilities))


def label_manager(dataset_json: dict[str, Any]) -> LabelManager:
    """nnU-Net's default one."""
    return LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))


def write_segmentation(
    path: Path, segmentation: np.ndarray, reader: BaseReaderWriter, properties: dict[str, Any]
) -> None:
    """Write a file that is there wholly or not at all.

    Parameters
    ----------
    path : Path
    segmentation : integer array (X, Y, Z)
    reader : BaseReaderWriter
        nnU-Net's, of the file format.
    properties : dict
        That nnU-Net stored beside the probabilities.
    """
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / path.name
        reader.write_seg(segmentation, str(temporary), properties)
        write_atomically(path, temporary.read_bytes())
