"""Labels and probabilities on disk, as nnU-Net leaves them."""

import pickle

import numpy as np
import SimpleITK as sitk

SPACING_MM = (3.0, 2.0, 1.0)


def one_hot(labels, num_classes=3):
    """Probabilities 1 and 0."""
    return np.stack([np.asarray(labels) == label for label in range(num_classes)]).astype(np.float32)


def write_labels(path, labels):
    image = sitk.GetImageFromArray(labels.astype(np.uint8))
    image.SetSpacing(SPACING_MM[::-1])
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))


def read_labels(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def write_case(folder, case, probabilities, regions=False):
    """The three files of a case; the segmentation is the most probable class."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    labels = probabilities.argmax(0) if not regions else np.where(probabilities[1] > 0.5, 2, probabilities[0] > 0.5)
    write_labels(folder / f"{case}.nii.gz", labels)
    np.savez_compressed(folder / f"{case}.npz", probabilities=probabilities)
    (folder / f"{case}.pkl").write_bytes(pickle.dumps(SimpleITKIO().read_seg(str(folder / f"{case}.nii.gz"))[1]))
