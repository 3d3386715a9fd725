"""Segmentations of predictions at another threshold than nnU-Net's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.evaluation.sources import Label, Labels, label_values, labels_of
from nnunet_rw.postprocessing.predictions import (
    open_folders,
    probabilities_of,
    properties_of,
    segment_folders,
    to_segmentation,
    write_segmentation,
)
from nnunet_rw.postprocessing.threshold.fit import named_label


def apply_threshold(
    folder: str | Path, output: str | Path, threshold: float, label: str | None = None, processes: int | None = None
) -> list[Path]:
    """Segment predictions anew: the label is where its probability is above the threshold, and nowhere else.

    Elsewhere the most probable of the other classes is; other regions keep nnU-Net's 0.5, but none within the
    thresholded one reaches beyond it. With a single class 0.5 gives what nnU-Net segments. Beside the segmentations go
    the folder's dataset.json and plans.json and, last, applied_threshold.json.

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
        A threshold or label that cannot be, probabilities or properties that cannot be read, or the output is the
        folder.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"Expected a threshold from 0 to below 1, but got {threshold}.")
    predictions = open_folders([folder], output)
    labels = labels_of(predictions.dataset_json)
    chosen = named_label(labels, label)
    segment = partial(
        _segment_case,
        threshold=threshold,
        channel=labels.channels[labels.foreground.index(chosen)],
        contained=_contained(labels, chosen),
    )
    record = {"label": str(chosen), "threshold": threshold, "folder": str(predictions.folders[0].resolve())}
    return segment_folders(
        predictions, Path(output), segment, ("applied_threshold.json", record), "Thresholding", processes
    )


def threshold_channel(
    probabilities: np.ndarray, channel: int, threshold: float, contained: Sequence[int] = ()
) -> np.ndarray:
    """Probabilities that nnU-Net turns into a channel's label exactly above a threshold.

    Parameters
    ----------
    probabilities : float array (C, X, Y[, Z])
    channel : int
    threshold : float
    contained : sequence of int
        Channels of the regions within the channel's: painted over it, they would reach beyond.

    Returns
    -------
    float32 array (C, X, Y[, Z]), a copy
    """
    decided = np.array(probabilities, dtype=np.float32)
    above = decided[channel] > np.float32(threshold)
    # Above or below all probabilities of other classes, and either side of 0.5 as that of a region.
    decided[channel] = np.where(above, 2, -1)
    for other in contained:
        decided[other][~above] = -1
    return decided


def _contained(labels: Labels, label: Label) -> list[int]:
    """Channels of the regions within a region."""
    return [
        channel
        for other, channel in zip(labels.foreground, labels.channels, strict=True)
        if label_values(other) < label_values(label)
    ]


def _segment_case(
    files: Sequence[Path],
    path: Path,
    threshold: float,
    channel: int,
    contained: Sequence[int],
    reader: BaseReaderWriter,
    manager: LabelManager,
    transpose_backward: Sequence[int],
) -> None:
    (probabilities,) = probabilities_of(files, manager.num_segmentation_heads)
    properties = properties_of(files[0].with_suffix(".pkl"), probabilities.shape[1:], transpose_backward)
    segmentation = to_segmentation(threshold_channel(probabilities, channel, threshold, contained), manager)
    write_segmentation(path, segmentation, reader, properties)
