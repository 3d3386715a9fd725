"""A preprocessed dataset that nnU-Net has not made: labels of our own, images of zeros, and plans of a few lines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

from nnunet_rw.maps.kinds import LabelScheme
from nnunet_rw.store.files import MapSettings

DATASET = "Dataset902_Maps"
CONFIGURATION = "3d_fullres"
PATCH_SIZE = (128, 128, 128)
SPACING_MM = (1.0, 1.0, 1.0)


def write_preprocessed(root: Path, labels: Sequence[np.ndarray], num_cases: int, num_classes: int) -> Path:
    """Write cases in ``<root>/nnUNet_preprocessed``; labels that are fewer than the cases take turns.

    Parameters
    ----------
    labels : sequence of integer arrays (X, Y, Z)
    num_classes : int
        With the background.

    Returns
    -------
    Path
        The folder of the arrays.
    """
    dataset_folder = root / "nnUNet_preprocessed" / DATASET
    data_folder = dataset_folder / f"nnUNetPlans_{CONFIGURATION}"
    data_folder.mkdir(parents=True)
    names = {"background": 0, **{f"class_{label}": label for label in range(1, num_classes)}}
    description = {"channel_names": {"0": "CT"}, "labels": names, "numTraining": num_cases, "file_ending": ".nii.gz"}
    (dataset_folder / "dataset.json").write_text(json.dumps(description))
    (dataset_folder / "nnUNetPlans.json").write_text(json.dumps(_plans()))
    for number in range(num_cases):
        case = data_folder / f"case_{number:04d}"
        if number < len(labels):
            _write_case(case, labels[number])
        else:
            for ending in (".b2nd", "_seg.b2nd", ".pkl"):
                shutil.copyfile(data_folder / f"case_{number % len(labels):04d}{ending}", f"{case}{ending}")
    return data_folder


def settings_of(num_classes: int) -> MapSettings:
    """What the maps of such a dataset depend on."""
    return MapSettings(LabelScheme.classes(num_classes), SPACING_MM, PATCH_SIZE, per_slice=False)


def _write_case(path: Path, labels: np.ndarray) -> None:
    segmentation = labels[None].astype(np.int8 if labels.max() <= 127 else np.int16)
    blocks, chunks = comp_blosc2_params(segmentation.shape, PATCH_SIZE)
    image = np.zeros(segmentation.shape, np.float32)
    nnUNetDatasetBlosc2.save_case(image, segmentation, {}, str(path), chunks=chunks, blocks=blocks)


def _plans() -> dict:
    configuration = {
        "data_identifier": f"nnUNetPlans_{CONFIGURATION}",
        "patch_size": list(PATCH_SIZE),
        "spacing": list(SPACING_MM),
        "architecture": {},  # without it nnU-Net takes the plans for old ones
    }
    return {
        "dataset_name": DATASET,
        "plans_name": "nnUNetPlans",
        "label_manager": "LabelManager",
        "configurations": {CONFIGURATION: configuration},
    }
