"""Problems for the tests of losses: a row small enough for a pencil, and random blobs."""

import numpy as np
import pytest
import references
import torch

from nnunet_rw.losses import LOSSES, build, option_names

SPACING_MM = (1.5, 0.7, 2.0)
IGNORE = 3  # the label after the last class
GROUPS = ((1, 2), (2,))  # regions: whole, and a core within it

# One row of five voxels with a foreground probability each, and two classes.
P = [0.1, 0.2, 0.4, 0.7, 0.6]
ROW = [0, 0, 0, 1, 1]
# A prediction that lies one voxel off.
SHIFTED = [0.1, 0.2, 0.7, 0.8, 0.4]

# Two lesions, of 1 and 2 voxels. Inverse volume weights: N = 6, K = 2, 6 / (3 * 1) = 2 and 6 / (3 * 2) = 1; background
# 6 / (3 * 3), clipped to 1.
LESIONS = [1, 0, 0, 1, 1, 0]
P_LESIONS = [0.4, 0.1, 0.3, 0.8, 0.7, 0.2]
WEIGHTS = [2, 1, 1, 1, 1, 1]
WEIGHTED_BY_CASE = {"reweight": "inverse_volume", "scope": "case", "power": 0.5, "normalise": True}


def losses(without=()):
    """(name, options) of every loss, and of those that can be weighted also weighted."""
    rows = []
    for name, loss in LOSSES.items():
        if name in without:
            continue
        rows.append(pytest.param(name, {}, id=name))
        if "reweight" in option_names(loss):
            rows.append(pytest.param(name, {"reweight": "inverse_volume"}, id=f"{name}-weighted"))
            rows.append(pytest.param(name, WEIGHTED_BY_CASE, id=f"{name}-weighted-by-case"))
    return rows


def logits_of(probabilities, regions=False):
    """Logits (1, 2, 1, X) whose softmax gives foreground the probabilities; (1, 1, 1, X) for a region's sigmoid."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    logits = torch.log(p / (1 - p))
    return logits[None, None, None] if regions else torch.stack([torch.zeros_like(p), logits])[None, :, None]


def row(labels):
    return torch.tensor(labels)[None, None, None]


def value(name, probabilities=P, labels=ROW, spacing=None, maps=None, regions=False, **options):
    """A loss of one row."""
    target = row(labels)
    logits = logits_of(probabilities, regions)
    return build(name, regions=regions, **options)(logits, target, maps, spacing).item()


def weighted_value(name, **options):
    """The same of the row of lesions, with their inverse volume weights."""
    return value(name, P_LESIONS, LESIONS, reweight="inverse_volume", **options)


def random_problem(shape, regions, ignore):
    """Logits and target of two samples of three classes, or two regions; options of the heads.

    With these seeds no voxel of a shape (7, 6, 5) or (9, 8) is as far from one lesion as from another.
    """
    labels = np.stack([references.random_blobs(shape, 3, seed) for seed in (37, 38)])
    if ignore:
        labels[references.random_blobs((2, *shape), 2, seed=50) == 1] = IGNORE
    channels = [np.isin(labels, group) for group in GROUPS] + ([labels == IGNORE] if ignore else [])
    target = np.stack(channels, 1).astype(int) if regions else labels[:, None].astype(int)
    logits = np.random.default_rng(6).normal(0, 2, (2, 2 if regions else 3, *shape))
    return logits, target, {"regions": regions, "ignore_label": IGNORE if ignore else None}
