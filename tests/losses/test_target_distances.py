"""Maps of a target on its device against those of the array, which the store holds."""

import numpy as np
import pytest
import references
import torch

from nnunet_rw.losses import distance_transform
from nnunet_rw.losses.distance_transform import target_distances
from nnunet_rw.maps.kinds import LabelScheme, compute_distances

IGNORE = 3
GROUPS = ((1, 2), (2,))
SPACING_MM = (1.5, 0.7, 2.0)


def degenerate(kind, shape):
    labels = references.random_blobs(shape, 3, 1)
    if kind == "empty":
        labels[:] = 0
    elif kind == "full":
        labels[:] = 1
    elif kind == "absent class":
        labels[labels == 1] = 0
    elif kind == "ignored":
        labels[:, 2:5] = IGNORE
    return labels


@pytest.fixture(params=["library", "passes"])
def any_device(request, monkeypatch):
    """The CPU's path, and with it replaced the passes that a GPU takes."""
    if request.param == "passes":
        monkeypatch.setattr(
            distance_transform,
            "distance_to",
            lambda mask, spacing: distance_transform.squared_distance(mask, spacing)[0].sqrt(),
        )


@pytest.mark.parametrize("case", ["blobs", "empty", "full", "absent class", "ignored"])
@pytest.mark.parametrize("kind", ["interior_distance", "boundary_distance"])
@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
@pytest.mark.parametrize("shape", [(9, 8, 7), (12, 11)])
@pytest.mark.usefixtures("any_device")
def test_equal_to_the_maps_of_the_array(case, kind, regions, shape):
    samples = [degenerate(case, shape), references.random_blobs(shape, 3, 2)]
    spacing = SPACING_MM[: len(shape)]
    scheme = LabelScheme(GROUPS if regions else ((1,), (2,)), regions, IGNORE)
    groups = GROUPS if regions else ((0,), (1,), (2,))
    labels = np.stack(samples)
    target = torch.from_numpy(np.stack([np.isin(labels, group) for group in groups], 1))
    known = torch.from_numpy(labels != IGNORE)[:, None]
    expected = np.stack([compute_distances(kind, sample, scheme, spacing) for sample in samples])
    found = target_distances(kind, target, known, regions, spacing)
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=1e-5, atol=1e-5)
    assert found[0].any() == (case not in ("empty", "full"))  # one label has no boundary
    if case != "ignored":
        torch.testing.assert_close(target_distances(kind, target, None, regions, spacing), found)


@pytest.mark.parametrize("kind", ["interior_distance", "boundary_distance"])
@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
def test_every_sample_may_have_a_spacing_of_its_own(kind, regions):
    labels = np.stack([references.random_blobs((9, 8, 7), 3, seed) for seed in (1, 2)])
    groups = GROUPS if regions else ((0,), (1,), (2,))
    target = torch.from_numpy(np.stack([np.isin(labels, group) for group in groups], 1))
    spacing = torch.tensor([SPACING_MM, (0.5, 3.0, 1.0)])
    found = target_distances(kind, target, None, regions, spacing)
    alone = [target_distances(kind, target[[b]], None, regions, spacing[b].tolist()) for b in range(2)]
    assert torch.equal(found, torch.cat(alone))
    assert not torch.equal(found, target_distances(kind, target, None, regions, SPACING_MM))
