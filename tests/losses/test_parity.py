"""The public codes of the papers, on the same inputs; `tests/data/README.md` says whose."""

from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch

from nnunet_rw.losses import LossInputs, build
from nnunet_rw.maps import boundary_maps, inverse_volume_weights, lesion_components, rectified_region_wise_maps

DATA = np.load(Path(__file__).parents[1] / "data" / "references.npz")

INPUTS = {
    "les_labels",
    "les_logits",
    "les_components",
    "mc_labels",
    "mc_logits",
    "mc2d_labels",
    "mc2d_logits",
    "spacing_mm",
}
MAPS = {"iw_weights", "rw_rrw_map", "kervadec_dist_unit", "kervadec_dist_spacing"}
# Values of codes that do not do what their papers say; the tests of that explain in what.
WRONG = {"hd_er", "kervadec_hausdorff_fg"}

REWEIGHTED = {"reweight": "inverse_volume"}
# key: prefix of the inputs, loss, options
LOSSES = {
    "iw_bce": ("les", "ce", {}),
    "iw_bce_iw": ("les", "ce", REWEIGHTED),
    "iw_dice": ("les", "dice", {}),
    "iw_dice_iw": ("les", "dice", REWEIGHTED),
    "iw_asl": ("les", "asl", {}),
    "iw_asl_iw": ("les", "asl", REWEIGHTED),
    "iw_focal": ("les", "focal", {}),
    "iw_focal_iw": ("les", "focal", REWEIGHTED),
    "iw_wce_adaptive": ("les", "wce", {}),
    "iw_gdl": ("les", "gdl", {}),
    "fuzzy_rough": ("les", "fuzzy_rough", {}),
    "fuzzy_dual": ("les", "fuzzy_rough_dual", {}),
    "hd_dt_inside_outside": ("les", "hausdorff_dt", {}),
    "hd_dt_monai": ("les", "hausdorff_dt", {}),
    "blob_dice_on_probabilities": ("les", "blob", {}),
    "rw_rrw": ("mc", "rrw", {}),
    "rw_boundary": ("mc", "boundary", {"include_background": True}),
    "rw_dice": ("mc", "dice", {"squared": False, "include_background": True}),
    "rw_ce": ("mc", "ce", {}),
    "rw_focal": ("mc", "softmax_focal", {}),
    "rw2d_rrw": ("mc2d", "rrw", {}),
    "kervadec_boundary_fg": ("mc2d", "boundary", {"inside_offset": 1}),
    "kervadec_gdl_all": ("mc2d", "gdl", {"linear": True}),
}
# key: boundary term, epoch
GRADUAL = {
    f"rw_{key}_dice_epoch{epoch}": (loss, epoch)
    for key, loss in (("gradual", "rrw"), ("boundary", "boundary"))
    for epoch in (0, 40, 100, 250)
}


def inputs(prefix):
    logits = torch.from_numpy(DATA[f"{prefix}_logits"].astype(np.float32))
    return logits, torch.from_numpy(DATA[f"{prefix}_labels"].astype(np.int64))[:, None]


def test_no_reference_is_forgotten():
    assert INPUTS | MAPS | set(LOSSES) | set(GRADUAL) | WRONG == set(DATA)


@pytest.mark.parametrize("key", LOSSES)
def test_loss(key):
    prefix, name, options = LOSSES[key]
    assert build(name, **options)(*inputs(prefix)).item() == pytest.approx(DATA[key].item(), rel=1e-5)


@pytest.mark.parametrize("key", [key for key, (_, _, options) in LOSSES.items() if options == REWEIGHTED])
def test_loss_with_the_references_own_components(key):
    prefix, name, options = LOSSES[key]
    maps = {"lesion_ids": torch.from_numpy(DATA["les_components"].astype(np.float32))[:, None]}
    assert build(name, **options)(*inputs(prefix), maps=maps).item() == pytest.approx(DATA[key].item(), rel=1e-5)


class TestHausdorffByErosion:
    """That code builds its kernel as (3, 1, 3, 3) and convolves (channel, X, Y, Z) with it.

    So its cross lies in the last two axes: five voxels with the weight 1/7 of a cross of three axes, sum 5/7.
    """

    @staticmethod
    def mean_of_the_reference(values):
        cross = torch.tensor([[0.0, 1, 0], [1, 1, 1], [0, 1, 0]]) / 7
        return torch.nn.functional.conv3d(values, cross.view(1, 1, 1, 3, 3), padding=(0, 1, 1))

    def test_with_that_kernel_the_value_is_the_references(self, monkeypatch):
        monkeypatch.setattr("nnunet_rw.losses.hausdorff.cross_mean", self.mean_of_the_reference)
        assert build("hausdorff_er")(*inputs("les")).item() == pytest.approx(DATA["hd_er"].item(), rel=1e-5)

    def test_with_the_cross_it_is_another(self):
        # In an erosion by the whole cross more errors survive: the weights sum to 1.
        assert build("hausdorff_er")(*inputs("les")).item() > 10 * DATA["hd_er"].item()

    def test_has_a_gradient(self):
        # The code leaves torch for SciPy, so that its value has none.
        logits, target = inputs("les")
        logits.requires_grad_()
        build("hausdorff_er")(logits, target).backward()
        assert logits.grad.isfinite().all()
        assert logits.grad.any()


class TestHausdorffOfKervadec:
    """That code writes the distances of the prediction into an array of integers, which cuts their fractions off."""

    options = MappingProxyType({"inside_only": True, "most_probable": True})

    def test_with_whole_steps_the_value_is_the_references(self, monkeypatch):
        exact = LossInputs.predicted_boundary_distance
        monkeypatch.setattr(LossInputs, "predicted_boundary_distance", lambda *args: exact(*args).floor())
        computed = build("hausdorff_dt", **self.options)(*inputs("mc2d")).item()
        assert computed == pytest.approx(DATA["kervadec_hausdorff_fg"].item(), rel=1e-5)

    def test_with_exact_distances_it_is_larger(self):
        computed = build("hausdorff_dt", **self.options)(*inputs("mc2d")).item()
        assert computed > 1.001 * DATA["kervadec_hausdorff_fg"].item()


@pytest.mark.parametrize("key", GRADUAL)
def test_compound_with_gradual_weights(key):
    boundary_term, epoch = GRADUAL[key]
    loss = build(
        "compound",
        terms=[
            ("dice", "gradual_region", {"squared": False, "include_background": True}),
            (boundary_term, "gradual_boundary", {"include_background": True}),
        ],
    )
    loss.set_epoch(epoch, 300)  # the authors' length
    assert loss(*inputs("mc")).item() == pytest.approx(DATA[key].item(), rel=1e-5)


def test_inverse_volume_weights():
    for components, expected in zip(DATA["les_components"], DATA["iw_weights"], strict=True):
        np.testing.assert_allclose(inverse_volume_weights(components), expected, rtol=1e-6)


def test_lesions():
    # Numbered in another order, so pairs of ids must map one to one.
    for labels, components in zip(DATA["les_labels"], DATA["les_components"], strict=True):
        ids = lesion_components(labels).ids
        pairs = np.unique(np.stack([ids.ravel(), components.ravel()]), axis=1)
        assert pairs.shape[1] == ids.max() + 1 == components.max() + 1


def test_rectified_region_wise_maps():
    maps = rectified_region_wise_maps(DATA["mc_labels"][0], 3)
    np.testing.assert_allclose(maps, DATA["rw_rrw_map"][0], rtol=0, atol=1e-5)


def test_boundary_maps_in_voxels():
    maps = boundary_maps(DATA["mc_labels"][0], 3, inside_offset=1)
    np.testing.assert_allclose(maps, DATA["kervadec_dist_unit"][0], rtol=0, atol=1e-5)


def test_boundary_maps_in_mm():
    # The code subtracts one voxel inside whatever the spacing: its offset stays 1 where the unit is the mm.
    maps = boundary_maps(DATA["mc_labels"][0], 3, DATA["spacing_mm"], inside_offset=1)
    np.testing.assert_allclose(maps, DATA["kervadec_dist_spacing"][0], rtol=0, atol=1e-4)
