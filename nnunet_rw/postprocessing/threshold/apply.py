"""Segmentations of predictions by other rules than nnU-Net's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.datasets.folders import Label, Labels, label_values, labels_of
from nnunet_rw.evaluation.metrics.rules import DecisionRule, apply_rule
from nnunet_rw.evaluation.reading import without_slice_axis
from nnunet_rw.postprocessing.predictions import (
    PredictionFolders,
    open_folders,
    probabilities_of,
    properties_of,
    segment_folders,
    to_segmentation,
    trained_model_of,
    write_segmentation,
)
from nnunet_rw.postprocessing.threshold.fit import named_label
from nnunet_rw.postprocessing.threshold.report import ChosenRules, FittedModel

ANY_MODEL = FittedModel()


def threshold_rules(threshold: float, label: str | None = None) -> ChosenRules:
    """A single threshold of the user's own, in [0, 1); of the only label where none is named.

    Raises
    ------
    ValueError
        A threshold that cannot be.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"Expected a threshold from 0 to below 1, but got {threshold}.")
    return ChosenRules(ANY_MODEL, 26, {label or "": DecisionRule(threshold, threshold)})


def apply_rules(
    folder: str | Path, output: str | Path, chosen: ChosenRules, processes: int | None = None
) -> list[Path]:
    """Segment predictions anew: each label of a rule is where that keeps it, and nowhere else.

    Elsewhere the most probable of the other classes is, where two rules meet the likelier; other regions keep nnU-Net's
    0.5, but none within one of a rule reaches beyond it. With a single class a threshold of 0.5 gives what nnU-Net
    segments. Beside the segmentations go the folder's dataset.json and plans.json and, last, applied_rules.json.

    Parameters
    ----------
    folder : path
        Of nnUNetv2_predict --save_probabilities, or a validation folder of nnUNetv2_train --npz.
    output : path
        Files of the same name are replaced, once all cases are segmented.
    chosen : ChosenRules
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
        Rules of another model or for labels that are not there, probabilities or properties that cannot be read, or
        the output is the folder.
    """
    predictions = open_folders([folder], output)
    check_fitted_on(chosen.fitted_on, predictions)
    labels = labels_of(predictions.dataset_json)
    named = [(named_label(labels, name or None), rule) for name, rule in chosen.rules.items()]
    channel = {label: labels.channels[labels.foreground.index(label)] for label, _ in named}
    segment = partial(
        _segment_case,
        rules={channel[label]: rule for label, rule in named},
        contained={channel[label]: _contained(labels, label) for label, _ in named},
        connectivity=chosen.connectivity,
    )
    record = {
        "rules": {str(label): rule._asdict() for label, rule in named},
        "connectivity": chosen.connectivity,
        "folder": str(predictions.folders[0].resolve()),
    }
    return segment_folders(predictions, Path(output), segment, ("applied_rules.json", record), "Segmenting", processes)


def check_fitted_on(fitted_on: FittedModel, predictions: PredictionFolders) -> None:
    """Refuse, with a ValueError, rules of another model than the predictions tell of.

    plans.json tells dataset, plans and their configurations; the trainer and its configuration are known where the
    folder is within a trained model's, <trainer>__<plans>__<configuration>/fold_0/validation.
    """
    plans, folder = predictions.plans, predictions.folders[0]
    told = {"dataset": plans.get("dataset_name"), "plans": plans.get("plans_name")}
    of_model = trained_model_of(folder)
    if of_model is not None:
        told["trainer"], _, told["configuration"] = of_model
    for name, found in told.items():
        expected = getattr(fitted_on, name)
        if expected and found and found != expected:
            raise ValueError(
                f"Expected predictions of {name} {expected}, on which the rules were fitted, but {folder} is of "
                f"{found}. Fit rules for it, or name a threshold with --at."
            )
    known = plans.get("configurations") or {}
    if fitted_on.configuration and known and fitted_on.configuration not in known:
        raise ValueError(
            f"Expected predictions of configuration {fitted_on.configuration}, on which the rules were fitted, but the "
            f"plans of {folder} have {', '.join(known)} alone."
        )


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
    image, spacing = without_slice_axis(probabilities, properties["spacing"])
    voxel_mm3 = math.prod(spacing)
    masks = {channel: apply_rule(image[channel], rule, voxel_mm3, connectivity) for channel, rule in rules.items()}
    segmentation = to_segmentation(with_masks(image, masks, contained), manager)
    write_segmentation(path, segmentation.reshape(shape), reader, properties)
