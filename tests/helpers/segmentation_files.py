"""Segmentations, probabilities and images on disk as nnU-Net has them, and a case whose figures are known."""

import json

import numpy as np
import SimpleITK as sitk

# Of array axes (Z, Y, X); a voxel has 1.5 mm3.
SHAPE, SPACING_MM = (4, 5, 8), (3.0, 1.0, 0.5)
LESION = {"background": 0, "lesion": 1}
CORE_AND_EDGE = {"background": 0, "core": 1, "edge": 2}
EMPTY = np.zeros(SHAPE, np.uint8)


def labels(*places, shape=SHAPE):
    """Zeros, with a value at each place: labels((1, np.s_[0, 0, 2:4]), ...)."""
    values = np.zeros(shape, np.uint8)
    for value, place in places:
        values[place] = value
    return values


# Reference: lesion A at x = 1 to 4, B a voxel in the far corner.
REFERENCE = labels((1, np.s_[1, 1, 1:5]), (1, np.s_[3, 4, 7]))
# Prediction: x = 3 to 6 touches A in two voxels; two voxels, x = 0 and 1 in another corner, touch nothing.
PREDICTION = labels((1, np.s_[1, 1, 3:7]), (1, np.s_[3, 0, 0:2]))


def write_image(path, values, spacing_mm=SPACING_MM, origin=None, direction=None):
    """Write an array with all its values; spacing per array axis, origin and direction as SimpleITK has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(spacing_mm[::-1])
    if origin is not None:
        image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    sitk.WriteImage(image, str(path))
    return path


def write_probabilities(path, probabilities):
    """Write (heads, X, Y, Z) as nnU-Net does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, probabilities=np.asarray(probabilities, np.float32))
    return path


def write_dataset_json(folder, names=None, ending=".nii.gz", **more):
    folder.mkdir(parents=True, exist_ok=True)
    content = {"channel_names": {"0": "MRI"}, "labels": names or LESION, "file_ending": ending, **more}
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder / "dataset.json"


def write_folders(root, references, predictions, names=None, **more):
    """Folders of predictions and references, from arrays by case; the dataset.json lies beside the predictions."""
    folders = root / "predictions", root / "references"
    for folder, cases in zip(folders, (predictions, references), strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        for case, values in cases.items():
            write_image(folder / f"{case}.nii.gz", values)
    write_dataset_json(folders[0], names, **more)
    return folders


def source_of(root, cases, names=None, order=None, images=None, probabilities=None):
    """A source of cases, each a pair of arrays, with images and probabilities by case."""
    from nnunet_rw.evaluation.sources import folders_source

    references, predictions = ({case: pair[side] for case, pair in cases.items()} for side in (0, 1))
    folders = write_folders(root, references, predictions, names, regions_class_order=order)
    for case, image in (images or {}).items():
        write_image(root / "images" / f"{case}_0000.nii.gz", image)
    for case, values in (probabilities or {}).items():
        write_probabilities(folders[0] / f"{case}.npz", values)
    return folders_source(*folders, images=root / "images" if images else None, probabilities=bool(probabilities))


def write_dataset(folders, references, splits=None, name="Dataset900_Tiny"):
    """What a cross-validation is evaluated against: references and splits, lists of cases by fold."""
    folder = folders.preprocessed / name
    for case, values in references.items():
        write_image(folder / "gt_segmentations" / f"{case}.nii.gz", values)
    if splits is not None:
        train = [[case for case in references if case not in val] for val in splits]
        pairs = [{"train": part, "val": val} for part, val in zip(train, splits, strict=True)]
        (folder / "splits_final.json").write_text(json.dumps(pairs))
    return folder


def write_model(folders, trainer, folds, names=None, dataset="Dataset900_Tiny", **more):
    """What nnU-Net's validation leaves; ``folds`` are arrays by case by fold."""
    model = folders.results / dataset / f"{trainer}__nnUNetPlans__3d_fullres"
    write_dataset_json(model, names, **more)
    for fold, cases in folds.items():
        validation = model / f"fold_{fold}" / "validation"
        validation.mkdir(parents=True)
        (validation / "summary.json").write_text("{}")
        for case, values in cases.items():
            write_image(validation / f"{case}.nii.gz", values)
    return model
