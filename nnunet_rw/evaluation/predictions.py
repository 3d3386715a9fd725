"""A folder of predicted segmentations against a folder of references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_rw.evaluation.detection import Detection, detect_lesions, dice


@dataclass(frozen=True)
class CaseResult:
    """One class of one case."""

    case: str
    label: int
    detection: Detection
    dice: float


def evaluate_folder(
    predictions: str | Path, references: str | Path, labels: Sequence[int], file_ending: str = ".nii.gz"
) -> list[CaseResult]:
    """Detection and Dice of every predicted case and class.

    Parameters
    ----------
    predictions, references : paths
        Files of the same name belong together.
    labels : sequence of int
        The foreground classes.
    file_ending : str

    Raises
    ------
    FileNotFoundError
        No prediction, or a prediction without a reference.
    ValueError
        A prediction has another shape than its reference.
    """
    files = sorted(Path(predictions).glob(f"*{file_ending}"))
    if not files:
        raise FileNotFoundError(f"No *{file_ending} in {predictions}. Run nnUNetv2_train with --val first.")
    results = []
    for file in files:
        reference_file = Path(references) / file.name
        if not reference_file.is_file():
            raise FileNotFoundError(f"No reference {reference_file} for the prediction {file}.")
        image = sitk.ReadImage(str(reference_file))
        reference = sitk.GetArrayFromImage(image)
        prediction = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        if reference.shape != prediction.shape:
            raise ValueError(
                f"Expected {file} to have the shape of its reference, {reference.shape}, but got {prediction.shape}."
            )
        spacing_mm = tuple(reversed(image.GetSpacing()))
        for label in labels:
            masks = reference == label, prediction == label
            detection = detect_lesions(*masks, spacing_mm=spacing_mm)
            results.append(CaseResult(file.name.removesuffix(file_ending), label, detection, dice(*masks)))
    return results


def pooled_recall_by_size(results: Sequence[CaseResult], edges: Sequence[float]) -> list[tuple[int, int]]:
    """Lesions hit and lesions in all, per size class; a lesion of v voxels with edges[i] <= v < edges[i + 1]."""
    voxels = np.concatenate([result.detection.volumes_voxels for result in results])
    hit = np.concatenate([result.detection.hit for result in results])
    bins = np.digitize(voxels, edges) - 1
    return [(int(hit[bins == i].sum()), int((bins == i).sum())) for i in range(len(edges) - 1)]
