"""Predictions of several models averaged, case by case, as nnU-Net's own ensembling does."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.datasets.labels import labels_of
from nnunet_rw.evaluation.reading import without_slice_axis
from nnunet_rw.postprocessing.ensemble.small_components import remove_small_components
from nnunet_rw.postprocessing.ensemble.weights import EnsembleWeights, channel_names
from nnunet_rw.postprocessing.predictions import (
    open_folders,
    probabilities_of,
    properties_of,
    segment_folders,
    to_segmentation,
    write_segmentation,
)
from nnunet_rw.util.files import write_atomically


def combine(
    probabilities: Iterable[np.ndarray], weights: np.ndarray | None = None, regions: bool = False
) -> np.ndarray:
    r"""Average the probabilities of M models, with a weight for each model and class.

    .. math:: q_c = \sum_m w_{mc} p_{mc}, \qquad p_c = q_c / \sum_{c'} q_{c'}

    The second step, which makes classes that exclude each other sum to 1 again, leaves their order, and with it the
    segmentation, unchanged. Regions do not exclude each other and keep :math:`q_c`.

    Parameters
    ----------
    probabilities : iterable of M float arrays (C, X, Y[, Z])
        Taken one by one, so that a generator needs the memory of one.
    weights : (M, C) floats, optional
        Convex for each class. Default: the plain mean, computed as nnU-Net 2.8 does, bit by bit.
    regions : bool
        Channels are regions.

    Returns
    -------
    float32 array (C, X, Y[, Z])
        Where every model with a weight for a class gives that class 0, the background, channel 0, is 1.

    Raises
    ------
    ValueError
        Not as many models as weights, or arrays of different shapes.
    """
    total = None
    number = 0
    for number, model in enumerate(probabilities, start=1):
        if weights is not None and number > len(weights):
            raise ValueError(f"Expected {len(weights)} models, one per row of the weights, but got more.")
        if total is not None and model.shape != total.shape:
            raise ValueError(f"Expected probabilities of equal shape, but got {total.shape} and {model.shape}.")
        if weights is not None:
            model = model * _per_channel(weights[number - 1], model.ndim)
        # A copy: the first model's array is the caller's.
        total = model.astype(np.float32) if total is None else np.add(total, model, out=total, casting="same_kind")
    if total is None or (weights is not None and number != len(weights)):
        raise ValueError(f"Expected {'a model' if weights is None else len(weights)} at least, but got {number}.")
    if weights is None:
        total /= number
    elif not regions:
        _normalise(total)
    return total


def _per_channel(weights: np.ndarray, ndim: int) -> np.ndarray:
    return weights.astype(np.float32).reshape(-1, *[1] * (ndim - 1))


def _normalise(total: np.ndarray) -> None:
    sums = total.sum(axis=0)
    nothing = sums <= 0
    if nothing.any():
        total[0][nothing] = 1
        sums[nothing] = 1
    total /= sums


def ensemble_folders(
    folders: Sequence[str | Path],
    output: str | Path,
    weights: EnsembleWeights | None = None,
    min_component_mm3: float | Mapping[str, float] | None = None,
    save_probabilities: bool = False,
    processes: int | None = None,
) -> list[Path]:
    """Average the probabilities of several models' predictions and write segmentations.

    With equal weights and nothing removed the result is that of nnUNetv2_ensemble. Beside the segmentations go the
    dataset.json and plans.json of the first folder and, last, ensemble.json, which tells what was averaged, and how.

    Parameters
    ----------
    folders : sequence of paths
        Of nnUNetv2_predict --save_probabilities, or validation folders of nnUNetv2_train --npz. Labels and the file
        format are those of the first.
    output : path
        Files of the same name are replaced, each at once.
    weights : EnsembleWeights, optional
        Default: equal. For the order of folders see `EnsembleWeights.in_order_of`.
    min_component_mm3 : float or mapping of str to float, optional
        Remove smaller predicted components, of all classes or of those named. Default: what the weights say.
    save_probabilities : bool
        Write the averaged probabilities too, before any removal, for a further ensemble.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Returns
    -------
    list of Path
        The segmentations, sorted.

    Raises
    ------
    FileNotFoundError
        A folder, probabilities, properties, dataset.json or plans.json are missing.
    ValueError
        Folders hold different cases or labels, arrays different shapes or NaN, properties that cannot be read, the
        weights do not fit, or the output is one of the folders.
    """
    predictions = open_folders(folders, output)
    inputs, labels = predictions.folders, labels_of(predictions.dataset_json)
    channels = channel_names(labels)
    if weights is not None and weights.channels != channels:
        raise ValueError(
            f"Expected weights for the labels of {inputs[0]}, {', '.join(channels)}, but got weights for "
            f"{', '.join(weights.channels)}."
        )
    values = None if weights is None else weights.in_order_of(inputs)
    if values is not None and np.all(values == 1 / len(inputs)):
        values = None
    volumes_mm3 = _volumes_mm3(min_component_mm3, weights, [str(label) for label in labels.foreground])
    segment = partial(_ensemble_case, weights=values, volumes_mm3=volumes_mm3, save_probabilities=save_probabilities)
    record = {
        "folders": [str(folder.resolve()) for folder in inputs],
        "weights": "equal" if values is None else dict(zip(channels, values.T.tolist(), strict=True)),
        "min_component_mm3": volumes_mm3,
    }
    return segment_folders(predictions, Path(output), segment, ("ensemble.json", record), "Averaging", processes)


def _ensemble_case(
    files: Sequence[Path],
    path: Path,
    weights: np.ndarray | None,
    volumes_mm3: Mapping[str, float],
    reader: BaseReaderWriter,
    manager: LabelManager,
    transpose_backward: Sequence[int],
    save_probabilities: bool,
) -> None:
    probabilities = combine(probabilities_of(files, manager.num_segmentation_heads), weights, manager.has_regions)
    properties = properties_of(files[0].with_suffix(".pkl"), probabilities.shape[1:], transpose_backward)
    segmentation = to_segmentation(probabilities, manager)
    if any(volumes_mm3.values()):
        image, spacing = without_slice_axis(segmentation, properties["spacing"])
        cleaned = remove_small_components(image, manager, spacing, volumes_mm3)
        segmentation = cleaned.reshape(segmentation.shape)
    if save_probabilities:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, probabilities=probabilities)
        # A case is known by its probabilities, so they follow its properties.
        write_atomically(path.parent / files[0].with_suffix(".pkl").name, pickle.dumps(properties))
        write_atomically(path.parent / files[0].name, buffer.getvalue())
    write_segmentation(path, segmentation, reader, properties)


def _volumes_mm3(
    given: float | Mapping[str, float] | None, weights: EnsembleWeights | None, classes: Sequence[str]
) -> dict[str, float]:
    """By class: what is given, else what the weights say."""
    if given is None:
        given = weights.min_component_mm3 if weights else {}
    volumes_mm3 = dict(given) if isinstance(given, Mapping) else dict.fromkeys(classes, float(given))
    for name, volume in volumes_mm3.items():
        if name not in classes or not 0 <= volume < np.inf:
            raise ValueError(f"Expected minimum volumes from 0 of {', '.join(classes)}, but got {volume} of {name}.")
    return volumes_mm3
