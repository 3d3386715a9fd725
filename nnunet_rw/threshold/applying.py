"""Segmentations of predictions at another threshold than nnU-Net's."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_pickle
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_rw.evaluation.labels import labels_of
from nnunet_rw.files import write_atomically
from nnunet_rw.parallel import in_processes
from nnunet_rw.predictions.folders import cases_of_folders, dataset_and_plans, probabilities_of
from nnunet_rw.predictions.segmentations import to_segmentation, write_segmentation
from nnunet_rw.threshold.fitting import named_label


def apply_threshold(
    folder: str | Path, output: str | Path, threshold: float, label: str | None = None, processes: int | None = None
) -> list[Path]:
    """Segment predictions anew: the label is where its probability is above the threshold, and nowhere else.

    Elsewhere the most probable of the other classes stays; other regions keep nnU-Net's 0.5. With a single class 0.5
    gives what nnU-Net segments. Beside the segmentations go the folder's dataset.json and plans.json, and
    threshold.json.

    Parameters
    ----------
    folder : path
        Of nnUNetv2_predict --save_probabilities, or a validation folder of nnUNetv2_train --npz.
    output : path
        Files of the same name are replaced, each at once.
    threshold : float
        In [0, 1).
    label : str, optional
        "1" or "(1, 2)". Default: the only one.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Returns
    -------
    list of Path
        The segmentations, sorted.

    Raises
    ------
    FileNotFoundError
        The folder, probabilities, properties, dataset.json or plans.json are missing.
    ValueError
        A threshold or label that cannot be, probabilities that cannot be read, or the output is the folder.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"Expected a threshold from 0 to below 1, but got {threshold}.")
    folder, output = Path(folder), Path(output)
    cases = cases_of_folders([folder], output)
    dataset_json, plans = dataset_and_plans([folder])
    labels = labels_of(dataset_json)
    chosen = named_label(labels, label)
    manager = PlansManager(plans)
    function = partial(
        _segment_case,
        threshold=threshold,
        channel=labels.channels[labels.foreground.index(chosen)],
        reader=manager.image_reader_writer_class(),
        manager=manager.get_label_manager(dataset_json),
    )
    written = [output / f"{case}{dataset_json.get('file_ending', '.nii.gz')}" for case in cases]
    tasks = [(folder / f"{case}.npz", path) for case, path in zip(cases, written, strict=True)]
    record = {"label": str(chosen), "threshold": threshold, "folder": str(folder.resolve())}
    for name, content in (("dataset", dataset_json), ("plans", plans), ("threshold", record)):
        write_atomically(output / f"{name}.json", (json.dumps(content, indent=4) + "\n").encode())
    for _ in in_processes(function, tasks, "Thresholding", processes):
        pass
    return written


def threshold_channel(probabilities: np.ndarray, channel: int, threshold: float) -> np.ndarray:
    """Probabilities (C, X, Y[, Z]), a copy, that nnU-Net turns into the channel's label exactly above a threshold."""
    decided = np.array(probabilities, dtype=np.float32)
    # Above or below all probabilities of other classes, and either side of 0.5 as that of a region.
    decided[channel] = np.where(probabilities[channel] > threshold, 2, -1)
    return decided


def _segment_case(
    file: Path, path: Path, threshold: float, channel: int, reader: BaseReaderWriter, manager: LabelManager
) -> None:
    properties = load_pickle(str(file.with_suffix(".pkl")))
    (probabilities,) = probabilities_of([file], manager.num_segmentation_heads)
    segmentation = to_segmentation(threshold_channel(probabilities, channel, threshold), manager)
    write_segmentation(path, segmentation, reader, properties)
