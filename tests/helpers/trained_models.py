"""Predictions and cross-validations of models that were never trained."""

import json

import numpy as np
import pytest
from ensemble_files import write_case, write_labels

from nnunet_rw.evaluation.sources import CaseFiles, Source

PLANS = {"image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager", "configurations": {}}


@pytest.fixture
def dataset_json():
    return {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}


@pytest.fixture
def region_json():
    """Label 1 around label 2."""
    labels = {"background": 0, "whole": [1, 2], "core": 2}
    return {"channel_names": {"0": "MRI"}, "labels": labels, "regions_class_order": [1, 2], "file_ending": ".nii.gz"}


@pytest.fixture
def predictions(tmp_path, dataset_json):
    """Function that writes a folder of predictions from probabilities by case."""

    def write(name, cases, content=dataset_json, plans=PLANS):
        folder = tmp_path / name
        folder.mkdir(parents=True)
        for case, probabilities in cases.items():
            write_case(folder, case, probabilities, "regions_class_order" in content)
        (folder / "dataset.json").write_text(json.dumps(content))
        (folder / "plans.json").write_text(json.dumps(plans))
        return folder

    return write


@pytest.fixture
def model(tmp_path, dataset_json):
    """Function that writes a cross-validation and returns its source.

    ``cases`` holds (fold, reference labels, probabilities) by case.
    """

    def write(name, cases, content=dataset_json):
        files = []
        for case, (fold, reference, probabilities) in cases.items():
            validation = tmp_path / name / f"fold_{fold}" / "validation"
            write_case(validation, case, probabilities, "regions_class_order" in content)
            write_labels(tmp_path / "references" / f"{case}.nii.gz", reference)
            files.append(
                CaseFiles(
                    case,
                    tmp_path / "references" / f"{case}.nii.gz",
                    validation / f"{case}.nii.gz",
                    validation / f"{case}.npz",
                )
            )
        return Source(name, files, [], content, tmp_path / name / "evaluation")

    return write


@pytest.fixture
def random_probabilities():
    """Function that draws probabilities (C, X, Y, Z) that sum to 1."""

    def draw(seed, shape=(5, 6, 7), classes=3):
        values = np.random.default_rng(seed).gamma(1, size=(classes, *shape)).astype(np.float32)
        return values / values.sum(0)

    return draw
