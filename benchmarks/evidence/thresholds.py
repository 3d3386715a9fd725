"""What a training finds where it may have so many false positives: segmented anew, at a threshold of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json

from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.evaluation.metrics.thresholds import THRESHOLDS
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.postprocessing.threshold.fit import fit_threshold

# False positives a case.
PRICES = (10.0, 20.0, 40.0, 80.0, 160.0)


@dataclass(frozen=True)
class OperatingPoint:
    """A training's segmentations at one threshold, at thresholds that other cases chose, and at other prices.

    Attributes
    ----------
    threshold : float
        Foreground is above. The lowest that keeps within the false positives, see
        `nnunet_rw.evaluation.metrics.thresholds.OperatingPoints.within`; the highest where even that has more.
    false_positives : float
        A case.
    found : (L,) booleans
        Reference lesions of all cases by any overlap, sorted by case and number.
    dice : (N,) floats
        Of the cases, sorted.
    left_out_false_positives, left_out_found
        The same, each fifth of the cases at the threshold that the others chose.
    found_at_prices : dict of float to (L,) booleans or None
        With at most so many false positives a case, of `PRICES`; None where the highest threshold has more.
    """

    threshold: float
    false_positives: float
    found: np.ndarray
    dice: np.ndarray
    left_out_false_positives: float
    left_out_found: np.ndarray
    found_at_prices: dict[float, np.ndarray | None]


def operating_point(evaluation: Evaluation, label: str, false_positives: float) -> OperatingPoint:
    """At most so many false positives a case.

    Parameters
    ----------
    evaluation : Evaluation
        Of nnU-Net's validation of one fold, with probabilities.
    label : str
    false_positives : float
    """
    fit = fit_threshold(_source(evaluation), false_positives=false_positives, label=label, processes=1)
    position = 0 if fit.threshold is None else THRESHOLDS.index(fit.threshold)
    segmented = [case.at(position) for case in fit.cases]
    positions = {price: fit.points.within(price) for price in PRICES}
    found = np.concatenate([case.curve.found for case in fit.cases], axis=1)
    return OperatingPoint(
        threshold=THRESHOLDS[position],
        false_positives=float(np.mean([item.false_positives for item in segmented])),
        found=np.concatenate([item.found for item in segmented]),
        dice=np.array([item.dice for item in segmented]),
        left_out_false_positives=float(np.mean([item.false_positives for item in fit.left_out])),
        left_out_found=np.concatenate([item.found for item in fit.left_out]),
        found_at_prices={price: None if at is None else found[at] for price, at in positions.items()},
    )


def _source(evaluation: Evaluation) -> Source:
    rows = load_json(str(evaluation.folder / "summary.json"))["metric_per_case"]
    files = [_files(Path(row["reference_file"]), Path(row["prediction_file"])) for row in rows]
    # <model>/fold_0/validation/<case>.nii.gz
    dataset_json = load_json(str(files[0].prediction.parents[2] / "dataset.json"))
    return Source(evaluation.name, files, [], dataset_json, evaluation.folder)


def _files(reference: Path, prediction: Path) -> CaseFiles:
    case = prediction.name.removesuffix(".nii.gz")
    return CaseFiles(case, reference, prediction, prediction.with_name(f"{case}.npz"))
