"""Models of which rules are fitted: rows of lesions of a voxel each, and what is none."""

import numpy as np
import pytest

LESIONS = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
# A threshold alone, whatever its Dice.
SINGLE = {"families": ("single",), "keeps_dice": False}


def row(*values):
    """Probabilities of two classes, (2, 1, 1, Z): of the lesion these, a voxel of background after each."""
    lesion = np.zeros((1, 1, 2 * len(values)), np.float32)
    lesion[..., ::2] = values
    return np.stack([1 - lesion, lesion])


def reference(*lesions):
    labels = np.zeros((1, 1, 2 * len(lesions)), int)
    labels[..., ::2] = lesions
    return labels


@pytest.fixture
def source(model):
    """Three folds of a case. The first three voxels of each are lesions, the last two are not."""
    truth = reference(1, 1, 1, 0, 0)
    # By threshold: 0.6 and above have no false positive in fold 0, 0.8 and above in fold 1, 0.4 and above in fold 2.
    probabilities = {0: row(0.9, 0.7, 0.2, 0.59, 0.1), 1: row(0.9, 0.7, 0.5, 0.79, 0), 2: row(0.9, 0.3, 0.2, 0.39, 0)}
    return model("RWTrainer", {f"case_{f}": (f, truth, values) for f, values in probabilities.items()}, LESIONS)


@pytest.fixture
def baseline(model):
    """Finds one lesion of each case; one false positive in all."""
    truth = reference(1, 1, 1, 0, 0)
    probabilities = {0: row(1, 0, 0, 1, 0), 1: row(1, 0, 0, 0, 0), 2: row(1, 0, 0, 0, 0)}
    return model("nnUNetTrainer", {f"case_{f}": (f, truth, values) for f, values in probabilities.items()}, LESIONS)
