"""Segmentations from probabilities, as nnU-Net makes and writes them."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_rw.files import write_atomically
from nnunet_rw.parallel import in_processes
from nnunet_rw.predictions.folders import PredictionFolders


def to_segmentation(probabilities: np.ndarray, manager: LabelManager) -> np.ndarray:
    """nnU-Net's labels for probabilities (C, X, Y[, Z]): integers (X, Y[, Z]), regions painted in their order."""
    return np.asarray(manager.convert_probabilities_to_segmentation(probabilities))


def label_manager(dataset_json: dict[str, Any]) -> LabelManager:
    """nnU-Net's default one."""
    return LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))


def segment_folders(
    predictions: PredictionFolders,
    output: Path,
    segment: Callable[..., None],
    record: tuple[str, dict[str, Any]],
    description: str,
    processes: int | None = None,
) -> list[Path]:
    """Write a segmentation for every case, and what nnU-Net and a reader need beside them.

    Parameters
    ----------
    predictions : PredictionFolders
    output : Path
        Files of the same name are replaced, each at once. Gets dataset.json and plans.json.
    segment : callable
        Of a module. Called with the case's files of probabilities, one a folder, the path to be written, and by name
        nnU-Net's ``reader`` and ``manager`` of labels.
    record : (name of a file, content)
        What was done, as JSON. Written last, and an earlier one removed first, so that no segmentations stand beside
        the record of others even after an interruption.
    description : str
        Heads the progress bar.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Returns
    -------
    list of Path
        The segmentations, sorted.
    """
    dataset_json, plans = predictions.dataset_json, predictions.plans
    manager = PlansManager(plans)
    function = partial(
        segment, reader=manager.image_reader_writer_class(), manager=manager.get_label_manager(dataset_json)
    )
    written = [output / f"{case}{dataset_json.get('file_ending', '.nii.gz')}" for case in predictions.cases]
    tasks: Sequence[tuple[Any, ...]] = [
        ([folder / f"{case}.npz" for folder in predictions.folders], path)
        for case, path in zip(predictions.cases, written, strict=True)
    ]
    name, content = record
    (output / name).unlink(missing_ok=True)
    _write_json(output / "dataset.json", dataset_json)
    _write_json(output / "plans.json", plans)
    for _ in in_processes(function, tasks, description, processes):
        pass
    _write_json(output / name, content)
    return written


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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=4) + "\n").encode())
