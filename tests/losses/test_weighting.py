"""Weights by lesion size by hand; what they do to each loss is tested with the loss."""

from types import SimpleNamespace

import numpy as np
import pytest
import references
import torch
from loss_problems import IGNORE, LESIONS, P_LESIONS, logits_of, row

from nnunet_rw.losses import LossInputs, build
from nnunet_rw.losses.base import InverseVolume
from nnunet_rw.maps import inverse_volume_weights, lesion_components


class TestInverseVolume:
    @pytest.mark.parametrize(
        ("options", "weights"),
        [
            ({"w_max": 1.5}, (1.5, 1, 1, 1, 1, 1)),
            ({"w_min": 0, "power": 2}, (4, 4 / 9, 4 / 9, 1, 1, 4 / 9)),
            ({"power": 0}, (1,) * 6),
            # Mean over the three voxels of the foreground (2 + 1 + 1) / 3 = 4/3.
            ({"normalise": True}, (3 / 2, 1, 1, 3 / 4, 3 / 4, 1)),
            ({"normalise": True, "w_max": float("inf")}, (3 / 2, 1, 1, 3 / 4, 3 / 4, 1)),
        ],
    )
    def test_weights(self, options, weights):
        inputs = LossInputs(logits_of(P_LESIONS), row(LESIONS))
        computed = InverseVolume(**options).weights(inputs)
        np.testing.assert_allclose(computed[0, 0, 0], weights, rtol=1e-6)
        components = np.array([1, 0, 0, 2, 2, 0])
        np.testing.assert_allclose(inverse_volume_weights(components, **options), weights, rtol=1e-6)

    @pytest.mark.parametrize("scope", ["patch", "case"])
    @pytest.mark.parametrize(
        "options", [{}, {"w_min": 0.3, "w_max": 40}, {"power": 0.5}, {"w_min": 0, "normalise": True}]
    )
    def test_equal_to_the_maps_of_numpy(self, scope, options):
        # A patch that is the whole case: both scopes are the formula of `inverse_volume_weights`.
        labels = np.stack([references.random_blobs((12, 11, 9), 3, seed) for seed in range(3)])
        labels[1] = 0
        inputs = LossInputs(torch.zeros(3, 3, 12, 11, 9), torch.from_numpy(labels[:, None].astype(int)))
        weights = InverseVolume(scope, **options).weights(inputs)
        assert weights.shape == (3, 1, 12, 11, 9)
        assert weights.dtype == torch.float32
        for sample, computed in zip(labels, weights, strict=True):
            expected = inverse_volume_weights(lesion_components(sample).ids, **options)
            np.testing.assert_allclose(computed[0], expected, rtol=1e-5)

    @pytest.mark.parametrize("scope", ["patch", "case"])
    def test_unlabelled_voxels_are_not_counted(self, scope):
        # N = 4 of 6 voxels, one lesion of one voxel: 4 / 2 = 2; background 4 / 6, clipped.
        inputs = LossInputs(logits_of(P_LESIONS), row([1, 0, 0, IGNORE, IGNORE, 0]), ignore_label=IGNORE)
        weights = InverseVolume(scope).weights(inputs)[0, 0, 0]
        assert weights[[0, 1, 2, 5]].tolist() == [2, 1, 1, 1]
        target = torch.tensor([[[[1, 0, 0, 1, 1, 0]], [[0, 0, 0, 1, 1, 0]]]])
        inputs = LossInputs(logits_of(P_LESIONS, regions=True), target, regions=True, ignore_label=IGNORE)
        assert InverseVolume(scope).weights(inputs)[0, 0, 0, [0, 1, 2, 5]].tolist() == [2, 1, 1, 1]

    # A case of 1000 voxels with lesions of 10 and 40; the patch of 8 sees two voxels of the first, one of the other.
    ids = torch.tensor([1.0, 1, 1, 0, 0, 2, 2, 0])[None, None, None]  # carried on by a voxel beyond the lesions
    table = torch.tensor([[[1000.0, 10, 40], [-1, 0, 0]]])
    cut = (1, 1, 0, 0, 0, 0, 1, 0)

    def weights_of_the_cut(self, **options):
        inputs = LossInputs(
            torch.zeros(1, 2, 1, 8), row(self.cut), {"lesion_ids": self.ids, "lesion_table": self.table}
        )
        return InverseVolume(**options).weights(inputs)[0, 0, 0].tolist()

    def test_scope_case_keeps_the_weight_of_a_lesion_that_the_patch_cuts(self):
        # 1000 / (3 * 10) = 100/3, 1000 / (3 * 40) = 25/3; background 1000 / (3 * 950) = 20/57.
        expected = [100 / 3, 100 / 3, 20 / 57, 20 / 57, 20 / 57, 20 / 57, 25 / 3, 20 / 57]
        assert self.weights_of_the_cut(scope="case", w_min=0) == pytest.approx(expected, rel=1e-6)
        # Mean over the 50 voxels of the case's lesions: (10 * 100/3 + 40 * 25/3) / 50 = 40/3.
        expected = [2.5, 2.5, 1, 1, 1, 1, 0.625, 1]
        assert self.weights_of_the_cut(scope="case", normalise=True) == pytest.approx(expected, rel=1e-6)

    def test_scope_patch_counts_what_the_patch_shows(self):
        # 8 / (3 * 2) = 4/3, 8 / (3 * 1) = 8/3; background 8 / (3 * 5) = 8/15.
        expected = [4 / 3, 4 / 3, 8 / 15, 8 / 15, 8 / 15, 8 / 15, 8 / 3, 8 / 15]
        assert self.weights_of_the_cut(scope="patch", w_min=0) == pytest.approx(expected, rel=1e-6)

    def test_lesion_outside_the_patch_does_not_count_in_scope_patch(self):
        maps = {"lesion_ids": torch.where(self.ids == 2, 0, self.ids), "lesion_table": self.table}
        inputs = LossInputs(torch.zeros(1, 2, 1, 8), row([1, 1, 0, 0, 0, 0, 0, 0]), maps)
        # One lesion of two voxels, K = 1: 8 / (2 * 2) = 2.
        assert InverseVolume().weights(inputs)[0, 0, 0].tolist() == [2, 2, 1, 1, 1, 1, 1, 1]

    def test_regions_have_weights_of_their_own(self):
        # N = 100. Region 0: lesions of 5 and 20; region 1: one of 4 within it. The patch sees ids 1 and 3.
        table = torch.tensor([[[100.0, 5, 20, 4], [-1, 0, 0, 1]]])
        ids = torch.tensor([[1.0, 1, 1, 0], [0, 3, 3, 3]])[None, :, None]
        target = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0]])[None, :, None]
        maps = {"lesion_ids": ids, "lesion_table": table}
        inputs = LossInputs(torch.zeros(1, 2, 1, 4), target, maps, regions=True)
        weights = InverseVolume("case", w_min=0).weights(inputs)[0, :, 0]
        # Region 0, K = 2: 100 / (3 * 5), background 100 / (3 * 75). Region 1, K = 1: 100 / (2 * 4), 100 / (2 * 96).
        np.testing.assert_allclose(weights[0], [20 / 3, 20 / 3, 4 / 9, 4 / 9], rtol=1e-6)
        np.testing.assert_allclose(weights[1], [100 / 192, 12.5, 100 / 192, 100 / 192], rtol=1e-6)

    def test_more_voxels_than_float32_counts(self):
        # One lesion voxel among N = 2^24 + 2^20: N / 2. Added up in float32 the background would stop at 2^24.
        ids = torch.zeros(1, 1, 17, 1024, 1024, dtype=torch.int64)
        ids[0, 0, 0, 0, 0] = 1
        inputs = SimpleNamespace(lesion_ids=ids, lesion_table=torch.zeros(1, 2, 2), mask=None)
        assert InverseVolume(w_max=1e9).weights(inputs).max() == 17 * 2**20 / 2

    def test_errors(self):
        with pytest.raises(ValueError, match=r"scope to be one of \('patch', 'case'\), but got 'batch'"):
            build("ce", reweight="inverse_volume", scope="batch")
        with pytest.raises(ValueError, match=r"0 <= w_min <= w_max and w_max > 0, but got 2.0 and 1.0"):
            build("ce", reweight="inverse_volume", w_min=2.0, w_max=1.0)
        with pytest.raises(ValueError, match=r"0 <= w_min <= w_max and w_max > 0, but got -1.0 and 1.0"):
            build("ce", reweight="inverse_volume", w_min=-1.0, w_max=1.0)
        with pytest.raises(ValueError, match=r"w_max > 0, but got 0\.0 and 0\.0"):  # a mean of no weights
            build("ce", reweight="inverse_volume", w_min=0.0, w_max=0.0, normalise=True)
        with pytest.raises(ValueError, match="reweight to be 'inverse_volume' or None, but got 'volume'"):
            build("dice", reweight="volume")
        with pytest.raises(ValueError, match="reweight='inverse_volume' with scope, power, w_min, w_max or normalise"):
            build("dice", power=0.5)
