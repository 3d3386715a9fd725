"""What the fit of an ensemble needs of each case: sums for the weights, then lesions under given weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.ensemble.class_weights import ClassStatistics, class_statistics
from nnunet_rw.ensemble.combination import combine
from nnunet_rw.ensemble.small_components import remove_small_components
from nnunet_rw.evaluation.labels import Labels, labels_of
from nnunet_rw.evaluation.lesions import match_lesions
from nnunet_rw.evaluation.matches import LesionMatches
from nnunet_rw.evaluation.reading import Case, read_case
from nnunet_rw.predictions.folds import PairedCase
from nnunet_rw.predictions.segmentations import label_manager, to_segmentation

# Of each class, in the order of the dataset's foreground labels.
ClassMatches = tuple[LesionMatches, ...]


@dataclass(frozen=True)
class Candidate:
    """An ensemble to be tried.

    Attributes
    ----------
    weights : (M, C) floats or None
        None: equal.
    min_component_mm3 : mapping of str to float
    """

    weights: np.ndarray | None = None
    min_component_mm3: Mapping[str, float] = field(default_factory=dict)


def case_statistics(
    case: PairedCase, reader: BaseReaderWriter, dataset_json: Mapping[str, Any]
) -> tuple[ClassStatistics, ...]:
    """Sums for the weights of each channel of the probabilities.

    Raises
    ------
    ValueError
        See `nnunet_rw.evaluation.reading.read_case`; or models have different references.
    """
    labels = labels_of(dataset_json)
    models = _read(case, reader, labels)
    reference = models[0].reference
    known = slice(None) if labels.ignore is None else reference != labels.ignore
    voxel_mm3 = float(np.prod(models[0].spacing_mm))
    by_channel = dict(zip(labels.channels, labels.foreground, strict=True))
    return tuple(
        class_statistics(
            [_probabilities(model)[channel][known].ravel() for model in models],
            np.isin(reference[known].ravel(), by_channel.get(channel, 0)),
            voxel_mm3,
            background=channel not in by_channel,
        )
        for channel in range(labels.num_channels)
    )


def match_case(
    case: PairedCase,
    reader: BaseReaderWriter,
    dataset_json: dict[str, Any],
    candidates: Mapping[str, Candidate],
    connectivity: int = 26,
    models_too: bool = False,
) -> dict[str, ClassMatches]:
    """Lesions of the reference matched with those of each candidate and, by their position, of each model.

    Parameters
    ----------
    case, reader, dataset_json
        As for `case_statistics`.
    candidates : mapping of str to Candidate
    connectivity : int
        Of lesions, in the matches and in the removal.
    models_too : bool
        Match each model's own prediction as well, as "model 0", ...

    Raises
    ------
    ValueError
        As for `case_statistics`.
    """
    labels, manager = labels_of(dataset_json), label_manager(dataset_json)
    models = _read(case, reader, labels)
    spacing = models[0].spacing_mm
    segmentations = {f"model {index}": model.prediction for index, model in enumerate(models) if models_too}
    for name, candidate in candidates.items():
        averaged = combine(map(_probabilities, models), candidate.weights, manager.has_regions)
        segmentation = to_segmentation(averaged, manager)
        if any(candidate.min_component_mm3.values()):
            segmentation = remove_small_components(
                segmentation, manager, spacing, candidate.min_component_mm3, connectivity
            )
        segmentations[name] = segmentation
    reference = models[0].reference
    known = None if labels.ignore is None else reference != labels.ignore
    return {
        name: tuple(
            match_lesions(np.isin(reference, label), np.isin(values, label), spacing, connectivity, known=known)
            for label in labels.foreground
        )
        for name, values in segmentations.items()
    }


def _read(case: PairedCase, reader: BaseReaderWriter, labels: Labels) -> list[Case]:
    models = [read_case(files, reader, labels.known, labels.num_channels) for files in case.files]
    for files, model in zip(case.files, models, strict=True):
        if not np.array_equal(model.reference, models[0].reference):
            raise ValueError(f"Expected {files.reference} and {case.files[0].reference} to be equal, but they differ.")
    return models


def _probabilities(model: Case) -> np.ndarray:
    if model.probabilities is None:
        raise ValueError("Expected probabilities, but got a prediction without them.")
    return model.probabilities
