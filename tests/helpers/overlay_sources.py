"""Tiny datasets to draw overlays of."""

import json

import numpy as np
import SimpleITK as sitk
from PIL import Image

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.sources import folders_source
from nnunet_rw.pictures.overlays import class_names, write_case_overlays

# Array axes have 4, 2 and 0.5 mm; ITK names them in reverse.
SPACING_MM = (4.0, 2.0, 0.5)
ORIGIN = (-12.5, 30.25, 7.0)
# The x and y axes turned by 30 degrees, the z axis upside down.
DIRECTION = (np.cos(np.pi / 6), -0.5, 0, 0.5, np.cos(np.pi / 6), 0, 0, 0, -1)

SHAPE = (4, 10, 40)
# Boxes of 60 and 2 voxels: 240 and 8 mm3.
LARGE, SMALL = np.s_[1, 2:8, 5:15], np.s_[3, 1, 30:32]
IMAGE = np.random.default_rng(0).normal(100, 10, SHAPE)


def volume(**boxes):
    """Labels of SHAPE that are 1 in these boxes."""
    labels = np.zeros(SHAPE, np.uint8)
    for box in boxes.values():
        labels[box] = 1
    return labels


NOTHING = volume()


def write_volume(path, array, direction=DIRECTION):
    """Write an array (X, Y[, Z]) with a geometry of its own on every axis; plain pixels for PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(array.astype(np.uint8)).save(path)
        return
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(SPACING_MM[::-1][: array.ndim])
    image.SetOrigin(ORIGIN[: array.ndim])
    if array.ndim == 3:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))


def write_source(folder, cases, images=None, labels=None, ending=".nii.gz", **dataset_json):
    """Write two folders, and one of images where these are given, and open them.

    Parameters
    ----------
    cases : dict of case to (reference, prediction), arrays (X, Y[, Z])
    images : dict of case to array, optional
    labels : of dataset.json; default background and lesion
    """
    for case, (reference, prediction) in cases.items():
        write_volume(folder / "references" / f"{case}{ending}", np.asarray(reference, np.uint8))
        write_volume(folder / "model" / f"{case}{ending}", np.asarray(prediction, np.uint8))
    for case, image in (images or {}).items():
        write_volume(folder / "images" / f"{case}_0000{ending}", np.asarray(image, np.float32))
    content = {
        "channel_names": {"0": "MRI"},
        "labels": labels or {"background": 0, "lesion": 1},
        "file_ending": ending,
        **dataset_json,
    }
    (folder / "model" / "dataset.json").write_text(json.dumps(content))
    return folders_source(folder / "model", folder / "references", images=folder / "images" if images else None)


def write_overlays(source, folder):
    """The overlays of all cases, in a folder that is made."""
    folder.mkdir(parents=True)
    classes = source.labels, class_names(source.dataset_json, source.labels.foreground)
    written = (
        write_case_overlays(files, source.reader, *classes, EvaluationSettings(), folder) for files in source.cases
    )
    return [path for of_case in written for path in of_case]
