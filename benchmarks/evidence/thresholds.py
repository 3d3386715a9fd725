"""Segmentations at another threshold than 0.5: what is found where a trainer may have so many false positives.

Not from FROC curves: their candidates are components of a low probability, and a trainer that marks nearly everything
has one that touches all lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunet_rw.evaluation.lesions import match_lesions
from nnunet_rw.evaluation.overlap import overlap
from nnunet_rw.evaluation.reading import read_labels, read_probabilities

# Falling.
THRESHOLDS = tuple(float(value) for value in np.round([0.999, 0.99, *np.arange(0.975, 0.09, -0.025)], 3))

Case = tuple[np.ndarray, np.ndarray, Sequence[float]]


@dataclass(frozen=True)
class OperatingPoint:
    """A training's segmentations at one threshold.

    Attributes
    ----------
    threshold : float
        Foreground is above.
    false_positives : float
        A case.
    found : (L,) booleans
        Reference lesions of all cases by any overlap, sorted by case and number.
    dice : (N,) floats
        Of the cases, sorted.
    """

    threshold: float
    false_positives: float
    found: np.ndarray
    dice: np.ndarray


def operating_point(evaluation: Path, label: int, false_positives: float) -> OperatingPoint:
    """At the lowest of `THRESHOLDS` down to which a training has at most so many false positives a case.

    It is the highest where even that has more. Below one that has more none is taken: where false positives grow
    together fewer of them mean no fewer mistakes.

    Parameters
    ----------
    evaluation : Path
        Folder of an evaluation of nnU-Net's validation, with probabilities.
    label : int
    false_positives : float
    """
    rows = load_json(str(evaluation / "summary.json"))["metric_per_case"]
    cases = [_case(row, label) for row in sorted(rows, key=lambda row: Path(row["prediction_file"]).name)]
    chosen = _point(cases, THRESHOLDS[0])
    for threshold in THRESHOLDS[1:]:
        point = _point(cases, threshold)
        if point.false_positives > false_positives:
            break
        chosen = point
    return chosen


def _point(cases: Sequence[Case], threshold: float) -> OperatingPoint:
    found, false, dice = [], [], []
    for reference, probability, spacing in cases:
        prediction = probability > threshold
        matches = match_lesions(reference, prediction, spacing)
        found.append(matches.reference.hit)
        false.append(matches.predicted.false_positive.sum())
        dice.append(overlap(reference, prediction).dice)
    return OperatingPoint(threshold, float(np.mean(false)), np.concatenate(found), np.array(dice))


def _case(row: dict, label: int) -> Case:
    prediction = Path(row["prediction_file"])
    reference, spacing = read_labels(Path(row["reference_file"]), SimpleITKIO(), (0, label))
    probabilities = read_probabilities(prediction.with_name(prediction.name.replace(".nii.gz", ".npz")))
    return reference == label, probabilities[label], spacing
