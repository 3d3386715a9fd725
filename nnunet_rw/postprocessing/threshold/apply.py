"""Segmentations of predictions at another threshold than nnU-Net's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.datasets.labels import Label, Labels, label_values, labels_of
from nnunet_rw.evaluation.reading import is_two_dimensional
from nnunet_rw.postprocessing.predictions import (
    open_folders,
    probabilities_of,
    properties_of,
    segment_folders,
    to_segmentation,
    write_segmentation,
)
from nnunet_rw.postprocessing.threshold.fit import named_label
from nnunet_rw.postprocessing.threshold.rule_report import ChosenRules
from nnunet_rw.postprocessing.threshold.rules import DecisionRule, apply_rule


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
    above = np.asarray(probabilities[channel], np.float32) > np.float32(threshold)
    return with_masks(probabilities, {channel: above}, {channel: contained})


def with_masks(
    probabilities: np.ndarray, masks: Mapping[int, np.ndarray], contained: Mapping[int, Sequence[int]]
) -> np.ndarray:
    """Probabilities that nnU-Net turns into a channel's label exactly where its mask is; of several masks the likelier.

    Parameters
    ----------
    probabilities : float array (C, X, Y[, Z])
    masks : dict of int to boolean array (X, Y[, Z])
        By channel.
    contained : dict of int to sequence of int
        By channel, those of the regions within its own: painted over it, they would reach beyond.

    Returns
    -------
    float32 array (C, X, Y[, Z]), a copy
    """
    decided = np.array(probabilities, dtype=np.float32)
    for channel, mask in masks.items():
        # Above or below all probabilities of other classes, and either side of 0.5 as that of a region.
        decided[channel] = np.where(mask, 2 + decided[channel], -1)
    for channel, mask in masks.items():
        for other in contained.get(channel, ()):
            decided[other][~mask] = -1
    return decided


def apply_rules(
    folder: str | Path, output: str | Path, chosen: ChosenRules, processes: int | None = None
) -> list[Path]:
    """Segment predictions anew by fitted rules, each label by its own; beside them goes applied_rules.json.

    Parameters
    ----------
    folder, output, processes
        As of `apply_threshold`.
    chosen : ChosenRules

    Raises
    ------
    FileNotFoundError, ValueError
        As of `apply_threshold`; or the rules were fitted on another dataset, or for labels that it has not.
    """
    predictions = open_folders([folder], output)
    dataset = predictions.plans.get("dataset_name", chosen.dataset)
    if dataset != chosen.dataset:
        raise ValueError(
            f"Expected predictions of {chosen.dataset}, on which the rules were fitted, but got {dataset}."
        )
    labels = labels_of(predictions.dataset_json)
    named = {name: named_label(labels, name) for name in chosen.rules}
    rules = {labels.channels[labels.foreground.index(label)]: chosen.rules[name] for name, label in named.items()}
    contained = {labels.channels[labels.foreground.index(label)]: _contained(labels, label) for label in named.values()}
    segment = partial(_segment_by_rules, rules=rules, contained=contained, connectivity=chosen.connectivity)
    record = {
        "rules": {name: rule._asdict() for name, rule in chosen.rules.items()},
        "connectivity": chosen.connectivity,
        "folder": str(predictions.folders[0].resolve()),
    }
    return segment_folders(predictions, Path(output), segment, ("applied_rules.json", record), "Segmenting", processes)


def _segment_by_rules(
    files: Sequence[Path],
    path: Path,
    rules: Mapping[int, DecisionRule],
    contained: Mapping[int, Sequence[int]],
    connectivity: int,
    reader: BaseReaderWriter,
    manager: LabelManager,
    transpose_backward: Sequence[int],
) -> None:
    (probabilities,) = probabilities_of(files, manager.num_segmentation_heads)
    shape = probabilities.shape[1:]
    properties = properties_of(files[0].with_suffix(".pkl"), shape, transpose_backward)
    spacing = [float(step) for step in properties["spacing"]]
    # As evaluations see images: without the slice axis, to which nnU-Net gives a spacing of its own.
    flat = is_two_dimensional(shape, spacing)
    voxel = math.prod(spacing[1:] if flat else spacing)
    masks = {}
    for channel, rule in rules.items():
        values = probabilities[channel][0] if flat else probabilities[channel]
        masks[channel] = apply_rule(values, rule, voxel, connectivity).reshape(shape)
    segmentation = to_segmentation(with_masks(probabilities, masks, contained), manager)
    write_segmentation(path, segmentation, reader, properties)


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
