"""Values computed by hand, agreement with the slow references, and what the options do."""

from math import log, sqrt
from types import SimpleNamespace

import numpy as np
import pytest
import references
import torch

from nnunet_rw.losses import LOSSES, CompoundLoss, Term, build, unique_names
from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.losses.region_wise import rectified_maps
from nnunet_rw.losses.schedules import SCHEDULES, weight_at
from nnunet_rw.losses.weighting import InverseVolume
from nnunet_rw.maps import inverse_volume_weights, lesion_components, rectified_region_wise_maps
from nnunet_rw.maps.kinds import LabelScheme, compute_distances

SPACING_MM = (1.5, 0.7, 2.0)
IGNORE = 3
GROUPS = ((1, 2), (2,))

# One row of five voxels with a foreground probability each, and two classes.
P = [0.1, 0.2, 0.4, 0.7, 0.6]
ROW = [0, 0, 0, 1, 1]


def logits_of(probabilities, regions=False):
    """Logits (1, 2, 1, X) whose softmax gives foreground the probabilities; (1, 1, 1, X) for a region's sigmoid."""
    p = torch.tensor(probabilities, dtype=torch.float64)
    logits = torch.log(p / (1 - p))
    return logits[None, None, None] if regions else torch.stack([torch.zeros_like(p), logits])[None, :, None]


def row(labels):
    return torch.tensor(labels)[None, None, None]


def value(name, probabilities=P, labels=ROW, spacing=None, maps=None, regions=False, **options):
    target = row(labels)
    logits = logits_of(probabilities, regions)
    return build(name, regions=regions, **options)(logits, target, maps, spacing).item()


class TestByHand:
    def test_rrw(self):
        # D = 3 2 1 | 1 2 steps, so z of background -1 -2/3 -1/3 +1 +1, of foreground +1 +1 +1 -1/2 -1.
        background = -0.9 - 0.8 * 2 / 3 - 0.6 / 3 + 0.3 + 0.4
        foreground = 0.1 + 0.2 + 0.4 - 0.7 / 2 - 0.6
        assert value("rrw") == pytest.approx((background + foreground) / 10, rel=1e-6)
        assert value("rrw", spacing=(5, 2)) == pytest.approx((background + foreground) / 10, rel=1e-6)
        assert value("rrw", include_background=False) == pytest.approx(foreground / 5, rel=1e-6)

    def test_boundary(self):
        # z of foreground in steps of 2 mm: 6 4 2 -2 -4; of background its opposite.
        foreground = 0.6 + 0.8 + 0.8 - 1.4 - 2.4
        background = -5.4 - 3.2 - 1.2 + 0.6 + 1.6
        assert value("boundary", spacing=(5, 2)) == pytest.approx(foreground / 5, rel=1e-6)
        assert value("boundary", spacing=(5, 2), include_background=True) == pytest.approx(
            (foreground + background) / 10, rel=1e-6
        )
        # 0.5 mm are added inside: to the two voxels of the foreground.
        assert value("boundary", spacing=(5, 2), inside_offset=0.5) == pytest.approx(
            (foreground + 0.5 * (0.7 + 0.6)) / 5, rel=1e-6
        )

    def test_active_contour(self):
        # Region: +p outside, -p inside. Background is 1 - p: 0.9 + 0.8 + 0.6 inside, 0.3 + 0.4 outside.
        foreground, background = 0.1 + 0.2 + 0.4 - 0.7 - 0.6, -0.9 - 0.8 - 0.6 + 0.3 + 0.4
        assert value("active_contour") == pytest.approx((foreground + background) / 10, rel=1e-6)
        assert value("active_contour", include_background=False) == pytest.approx(foreground / 5, rel=1e-6)

    def test_length(self):
        # p = (0.1, 0.4, 0.9) above (0.3, 0.8, 0.5). Voxels with a neighbour ahead on both axes: 0.1, with steps of
        # 0.2 down and 0.3 ahead, and 0.4, with 0.4 and 0.5.
        p = torch.tensor([[0.1, 0.4, 0.9], [0.3, 0.8, 0.5]], dtype=torch.float64)
        logits = torch.stack([torch.zeros_like(p), torch.log(p / (1 - p))])[None]
        target = torch.zeros(1, 1, 2, 3, dtype=torch.long)
        options = {"include_background": False}
        region = build("active_contour", length_weight=0, **options)(logits, target)
        assert region.item() == pytest.approx(p.mean().item())
        length = (sqrt(0.13 + 1e-8) + sqrt(0.41 + 1e-8)) / 2
        weighted = build("active_contour", length_weight=0.3, **options)(logits, target) - region
        assert weighted.item() == pytest.approx(0.3 * length, rel=1e-6)
        # Where the last column is unlabelled, the second voxel's step ahead is unknown.
        target[..., 2] = IGNORE
        options["ignore_label"] = IGNORE
        known = build("active_contour", length_weight=1, **options)(logits, target)
        assert known.item() == pytest.approx((0.1 + 0.4 + 0.3 + 0.8) / 4 + sqrt(0.13 + 1e-8), rel=1e-6)

    def test_length_of_three_axes(self):
        # One voxel of p = 0.2 whose neighbours ahead hold 0.3, 0.5 and 0.9.
        p = torch.full((2, 2, 2), 0.5, dtype=torch.float64)
        p[0, 0, 0], p[1, 0, 0], p[0, 1, 0], p[0, 0, 1] = 0.2, 0.3, 0.5, 0.9
        logits, target = torch.log(p / (1 - p))[None, None], torch.ones(1, 1, 2, 2, 2)
        loss = build("active_contour", regions=True)(logits, target) + p.mean()
        assert loss.item() == pytest.approx(sqrt(0.01 + 0.09 + 0.49 + 1e-8), rel=1e-6)

    def test_dice(self):
        # sum p y = 1.3, sum y = 2, sum p = 2.0, sum p^2 = 0.01 + 0.04 + 0.16 + 0.49 + 0.36 = 1.06.
        assert value("dice") == pytest.approx(1 - 2.6 / 3.06, rel=1e-6)
        assert value("dice", squared=False) == pytest.approx(1 - 2.6 / 4, rel=1e-6)
        assert value("dice", squared=False, smooth=0.5) == pytest.approx(1 - 3.1 / 4.5, rel=1e-6)
        # Background: sum p y = 0.9 + 0.8 + 0.6 = 2.3, sum y = sum p = 3.
        assert value("dice", squared=False, include_background=True) == pytest.approx(
            1 - (2.6 / 4 + 4.6 / 6) / 2, rel=1e-6
        )

    def test_asl(self):
        # With b = 2: 5 sum p y / (4 sum y + sum p^2), or + sum p in the linear form; a missed voxel costs more.
        assert value("asl", beta=2) == pytest.approx(1 - 6.5 / (8 + 1.06), rel=1e-6)
        assert value("asl", beta=2, linear=True) == pytest.approx(1 - 6.5 / (8 + 2), rel=1e-6)
        assert value("asl") == pytest.approx(1 - 3.25 * 1.3 / (2.25 * 2 + 1.06), rel=1e-6)
        assert value("asl", beta=1) == pytest.approx(value("dice"), rel=1e-12)

    def test_ce(self):
        expected = -(log(0.9) + log(0.8) + log(0.6) + log(0.7) + log(0.6)) / 5
        assert value("ce") == pytest.approx(expected, rel=1e-6)
        assert value("ce", regions=True) == pytest.approx(expected, rel=1e-6)

    def test_focal(self):
        # alpha = 0.8, gamma = 3: -0.2 p^3 log(1 - p) outside, -0.8 (1 - p)^3 log p inside.
        outside = sum(-0.2 * p**3 * log(1 - p) for p in P[:3])
        inside = sum(-0.8 * (1 - p) ** 3 * log(p) for p in P[3:])
        assert value("focal", alpha=0.8, gamma=3) == pytest.approx((outside + inside) / 5, rel=1e-6)
        # One against the rest: with the background head the classes trade places.
        swapped = sum(-0.8 * p**3 * log(1 - p) for p in P[:3]) + sum(-0.2 * (1 - p) ** 3 * log(p) for p in P[3:])
        assert value("focal", alpha=0.8, gamma=3, include_background=True) == pytest.approx(
            (outside + inside + swapped) / 10, rel=1e-6
        )

    def test_focal_without_focus_is_half_the_binary_cross_entropy(self):
        assert value("focal", alpha=0.5, gamma=0) == pytest.approx(value("ce") / 2, rel=1e-6)

    def test_ignored_voxels_are_not_counted(self):
        # The third voxel is unknown: nothing of it, and 4 voxels.
        labels = [0, 0, IGNORE, 1, 1]
        expected = -(log(0.9) + log(0.8) + log(0.7) + log(0.6)) / 4
        assert value("ce", labels=labels, ignore_label=IGNORE) == pytest.approx(expected, rel=1e-6)
        # sum p y = 1.3, sum p^2 = 0.9; distances 3 2 . 2 3 steps of 2 mm.
        assert value("dice", labels=labels, ignore_label=IGNORE) == pytest.approx(1 - 2.6 / 2.9, rel=1e-6)
        boundary = value("boundary", labels=labels, ignore_label=IGNORE, spacing=(1, 2))
        assert boundary == pytest.approx((0.1 * 6 + 0.2 * 4 - 0.7 * 4 - 0.6 * 6) / 4, rel=1e-6)

    def test_batch_dice(self):
        # Sums over both rows: the second predicts P too, but holds no lesion. 2 * 1.3 / (2 + 2 * 1.06).
        logits = logits_of(P).repeat(2, 1, 1, 1)
        target = torch.cat([row(ROW), row([0] * 5)])
        assert build("dice", batch_dice=True)(logits, target).item() == pytest.approx(1 - 2.6 / 4.12, rel=1e-6)
        assert build("dice")(logits, target).item() == pytest.approx(1 - (2.6 / 3.06 + 0) / 2, rel=1e-6)


class TestInverseVolume:
    # Lesions of 1 and 2 voxels, N = 6, K = 2: w = 6 / 3 = 2 and 6 / 6 = 1; background 6 / 9, clipped to 1.
    labels = (1, 0, 0, 1, 1, 0)
    p = (0.4, 0.1, 0.3, 0.8, 0.7, 0.2)

    def test_ce(self):
        expected = -(2 * log(0.4) + log(0.9) + log(0.7) + log(0.8) + log(0.7) + log(0.8)) / 6
        assert value("ce", self.p, self.labels, reweight="inverse_volume") == pytest.approx(expected, rel=1e-6)

    def test_w_min(self):
        expected = -(2 * log(0.4) + 2 / 3 * (log(0.9) + log(0.7) + log(0.8)) + log(0.8) + log(0.7)) / 6
        weighted = value("ce", self.p, self.labels, reweight="inverse_volume", w_min=0.5)
        assert weighted == pytest.approx(expected, rel=1e-6)

    def test_dice_and_asl(self):
        # sum w p y = 2 * 0.4 + 0.8 + 0.7 = 2.3; sum w p^2 = 2 * 0.16 + 0.01 + 0.09 + 0.64 + 0.49 + 0.04 = 1.59;
        # sum w y = 4.
        options = {"reweight": "inverse_volume"}
        assert value("dice", self.p, self.labels, **options) == pytest.approx(1 - 4.6 / 5.59, rel=1e-6)
        assert value("asl", self.p, self.labels, beta=2, **options) == pytest.approx(1 - 11.5 / 17.59, rel=1e-6)

    def test_focal(self):
        weights = (2, 1, 1, 1, 1, 1)
        expected = sum(
            -w * (0.75 * (1 - p) ** 2 * log(p) if y else 0.25 * p**2 * log(1 - p))
            for w, p, y in zip(weights, self.p, self.labels, strict=True)
        )
        assert value("focal", self.p, self.labels, reweight="inverse_volume") == pytest.approx(expected / 6, rel=1e-6)

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
        inputs = LossInputs(logits_of(self.p), row(self.labels))
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
        inputs = LossInputs(logits_of(self.p), row([1, 0, 0, IGNORE, IGNORE, 0]), ignore_label=IGNORE)
        weights = InverseVolume(scope).weights(inputs)[0, 0, 0]
        assert weights[[0, 1, 2, 5]].tolist() == [2, 1, 1, 1]
        target = torch.tensor([[[[1, 0, 0, 1, 1, 0]], [[0, 0, 0, 1, 1, 0]]]])
        inputs = LossInputs(logits_of(self.p, regions=True), target, regions=True, ignore_label=IGNORE)
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
        with pytest.raises(ValueError, match=r"0 <= w_min <= w_max, but got 2.0 and 1.0"):
            build("ce", reweight="inverse_volume", w_min=2.0, w_max=1.0)
        with pytest.raises(ValueError, match="reweight to be 'inverse_volume' or None, but got 'volume'"):
            build("dice", reweight="volume")


class TestRectifiedMaps:
    @pytest.mark.parametrize("ignore_label", [None, IGNORE])
    def test_classes_equal_the_maps_of_numpy(self, ignore_label):
        labels = np.stack([references.random_blobs((9, 8, 7), 4, seed) for seed in range(2)])
        if ignore_label is None:
            labels[labels == IGNORE] = 0
        labels[1][labels[1] == 2] = 0  # an absent class
        inputs = LossInputs(
            torch.zeros(2, 3, 9, 8, 7),
            torch.from_numpy(labels[:, None].astype(int)),
            spacing=SPACING_MM,
            ignore_label=ignore_label,
        )
        maps = rectified_maps(inputs.map("interior_distance"), inputs.onehot)
        for sample, computed in zip(labels, maps, strict=True):
            expected = rectified_region_wise_maps(sample, 3, SPACING_MM, ignore_label)
            np.testing.assert_allclose(computed, expected, atol=1e-6)

    def test_regions_equal_the_class_map_of_every_region(self):
        labels = references.random_blobs((9, 8, 7), 3, seed=1)
        masks = np.stack([np.isin(labels, group) for group in GROUPS])
        scheme = LabelScheme(GROUPS, regions=True)
        distance = torch.from_numpy(compute_distances("interior_distance", labels, scheme, SPACING_MM))[None]
        maps = rectified_maps(distance, torch.from_numpy(masks[None].astype(np.float32)))[0]
        for mask, computed in zip(masks, maps, strict=True):
            np.testing.assert_allclose(computed, rectified_region_wise_maps(mask, 2, SPACING_MM)[1], atol=1e-6)

    def test_the_maximum_is_that_of_the_patch(self):
        # A lesion cut by the patch: the largest distance that is left is 2, the class's own 4.
        distance = torch.tensor([1.0, 1, 2])[None, None, None]
        maps = rectified_maps(distance, torch.tensor([[0.0, 1, 1]])[None, None])
        assert maps[0, 0, 0].tolist() == [1, -0.5, -1]

    def test_distances_of_zero_give_no_nan(self):
        # A label that augmentation moved to where the sampled distance is 0.
        maps = rectified_maps(torch.zeros(1, 1, 1, 3), torch.ones(1, 1, 1, 3))
        assert maps.isfinite().all()


WEIGHTINGS = [None, {}, {"w_min": 0.1, "power": 0.5}, {"normalise": True}]


class TestAgainstTheSlowReferences:
    @staticmethod
    def problem(shape, regions, ignore):
        labels = np.stack([references.random_blobs(shape, 3, seed) for seed in (3, 4)])
        if ignore:
            labels[references.random_blobs((2, *shape), 2, seed=5) == 1] = IGNORE
        channels = [np.isin(labels, group) for group in GROUPS] + ([labels == IGNORE] if ignore else [])
        target = np.stack(channels, 1).astype(int) if regions else labels[:, None].astype(int)
        logits = np.random.default_rng(6).normal(0, 2, (2, 2 if regions else 3, *shape))
        return logits, target, {"regions": regions, "ignore_label": IGNORE if ignore else None}

    @pytest.mark.parametrize("shape", [(7, 6, 5), (9, 8)])
    @pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
    @pytest.mark.parametrize("ignore", [False, True], ids=["labelled", "ignore"])
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("rrw", {}),
            ("boundary", {"inside_offset": 0.4}),
            ("boundary", {"include_background": True}),
            ("active_contour", {"length_weight": 0.3}),
            ("active_contour", {"include_background": False}),
        ],
    )
    def test_region_wise(self, name, options, shape, regions, ignore):
        logits, target, heads = self.problem(shape, regions, ignore)
        spacing = SPACING_MM[: len(shape)]
        reference = references.LossReference(logits, target, spacing, **heads)
        computed = build(name, **heads, **options)(torch.from_numpy(logits), torch.from_numpy(target), None, spacing)
        assert computed.item() == pytest.approx(getattr(reference, name)(**options), rel=1e-5)

    @pytest.mark.parametrize("weighting", WEIGHTINGS)
    @pytest.mark.parametrize("shape", [(7, 6, 5), (9, 8)])
    @pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
    @pytest.mark.parametrize("ignore", [False, True], ids=["labelled", "ignore"])
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("dice", {}),
            ("dice", {"squared": False, "smooth": 0.3, "include_background": True}),
            ("dice", {"batch_dice": True}),
            ("asl", {"beta": 1.7}),
            ("asl", {"beta": 0.6, "linear": True, "batch_dice": True}),
            ("ce", {}),
            ("focal", {"alpha": 0.6, "gamma": 1.5}),
            ("focal", {"include_background": True}),
        ],
    )
    def test_voxelwise_and_overlap(self, name, options, shape, regions, ignore, weighting):
        logits, target, heads = self.problem(shape, regions, ignore)
        reference = references.LossReference(logits, target, **heads, weighting=weighting)
        weighted = {} if weighting is None else {"reweight": "inverse_volume", **weighting}
        loss = build(name, **heads, **options, **weighted)
        computed = loss(torch.from_numpy(logits), torch.from_numpy(target))
        assert computed.item() == pytest.approx(getattr(reference, name)(**options), rel=1e-5)


class TestSchedules:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("gradual_region", (1, 0.6, 0.01, 0.01, 0.01)),
            ("gradual_boundary", (0, 0.4, 0.99, 0.99, 0.99)),
            ("rebalance_region", (0.99, 0.59, 0.01, 0.01, 0.01)),
            ("rebalance_boundary", (0.01, 0.41, 0.99, 0.99, 0.99)),
            ("increase_boundary", (0.01, 0.41, 1.00, 1.01, 2.51)),
        ],
    )
    def test_values(self, name, values):
        computed = [weight_at(name, epoch) for epoch in (0, 40, 99, 100, 250)]
        assert computed == pytest.approx(values, abs=1e-12)

    def test_constant(self):
        assert [weight_at(0.3, epoch) for epoch in (0, 250)] == [0.3, 0.3]

    def test_unknown_name(self):
        with pytest.raises(ValueError, match=r"Unknown schedule 'linear'\. Known: gradual_region, gradual_boundary"):
            weight_at("linear", 0)
        with pytest.raises(ValueError, match="Unknown schedule 'linear'"):
            build("compound", terms=[("dice", "linear")])

    def test_every_schedule_is_above_or_at_zero(self):
        assert all(schedule(epoch) >= 0 for schedule in SCHEDULES.values() for epoch in range(0, 2000, 7))


class TestCompound:
    terms = (Term("dice", "gradual_region", {"squared": False}), ("rrw", "gradual_boundary"), ("ce", 0.25))

    def test_is_the_weighted_sum(self):
        loss = build("compound", terms=self.terms)
        logits, target = logits_of(P), row(ROW)
        dice, rrw, ce = value("dice", squared=False), value("rrw"), value("ce")
        for epoch, (region, boundary) in {0: (1, 0), 40: (0.6, 0.4), 250: (0.01, 0.99)}.items():
            loss.set_epoch(epoch)
            expected = region * dice + boundary * rrw + 0.25 * ce
            assert loss(logits, target).item() == pytest.approx(expected, rel=1e-6)
        # The terms themselves, before their weights.
        assert {name: term.item() for name, term in loss.last_terms.items()} == pytest.approx(
            {"dice": dice, "rrw": rrw, "ce": ce}, rel=1e-6
        )
        assert not any(term.requires_grad for term in loss.last_terms.values())

    def test_needs_the_maps_of_its_terms(self):
        weighted = {"reweight": "inverse_volume"}
        loss = build("compound", terms=[("rrw",), ("dice", 1, weighted), ("ce", 1, weighted), ("boundary",)])
        assert loss.kinds == ("interior_distance", "lesion_ids", "signed_distance")

    def test_terms_may_repeat(self):
        loss = build("compound", terms=[("dice", 0.5), ("dice", 2.0, {"squared": False})])
        expected = 0.5 * value("dice") + 2 * value("dice", squared=False)
        assert loss(logits_of(P), row(ROW)).item() == pytest.approx(expected, rel=1e-6)
        assert list(loss.last_terms) == ["dice", "dice_2"]
        assert unique_names(["ce", "dice", "ce", "ce"]) == ["ce", "dice", "ce_2", "ce_3"]

    def test_heads_hold_for_all_terms(self):
        target = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]])[None, :, None]
        logits = logits_of(P, regions=True)
        heads = {"regions": True, "ignore_label": IGNORE}
        compound = build("compound", terms=[("ce",), ("dice",)], **heads)(logits, target)
        alone = build("ce", **heads)(logits, target) + build("dice", **heads)(logits, target)
        torch.testing.assert_close(compound, alone)

    def test_schedules_of_a_compound_within_a_compound_move(self):
        inner = {"terms": [("dice", "gradual_region"), ("ce", "gradual_boundary")]}
        loss = build("compound", terms=[("compound", 2.0, inner)])
        loss.set_epoch(40)
        expected = 2 * (0.6 * value("dice") + 0.4 * value("ce"))
        assert loss(logits_of(P), row(ROW)).item() == pytest.approx(expected, rel=1e-6)

    def test_terms_that_weigh_alike_share_their_weights(self):
        loss = build(
            "compound", terms=[("ce", 1, {"reweight": "inverse_volume"}), ("dice", 1, {"reweight": "inverse_volume"})]
        )
        inputs = LossInputs(logits_of(P), row(ROW))
        loss.compute(inputs)
        assert len(inputs.shared) == 1

    def test_formula_names_every_term(self):
        formula = build("compound", terms=self.terms).formula()
        assert formula == (
            "gradual_region * dice[1 - 2 sum(w p y) / sum(w (p + y))] + "
            "gradual_boundary * rrw[mean(p z), z = -D / max D inside, +1 outside] + 0.25 * ce[mean(CE)]"
        )

    def test_errors(self):
        with pytest.raises(ValueError, match=r"terms with names that differ, but got \[\]"):
            build("compound")
        dice = build("dice")
        with pytest.raises(ValueError, match=r"names that differ, but got \['dice', 'dice'\]"):
            CompoundLoss([("dice", 1, dice), ("dice", 1, dice)])


class TestBuild:
    def test_unknown_loss(self):
        with pytest.raises(ValueError, match=f"Unknown loss 'hausdorff'. Known: {', '.join(LOSSES)}, compound"):
            build("hausdorff")
        with pytest.raises(ValueError, match="Unknown loss 'hausdorff'"):
            build("compound", terms=[("hausdorff",)])

    @pytest.mark.parametrize("name", LOSSES)
    def test_unknown_option(self, name):
        with pytest.raises(
            ValueError, match=rf"Unknown option of loss '{name}': typo\. Known: .*ignore_label.*regions"
        ):
            build(name, typo=1)

    @pytest.mark.parametrize("option", ["typo", "batch_dice"])
    def test_unknown_option_of_a_compound(self, option):
        with pytest.raises(ValueError, match=rf"'compound': {option}\. Known: ignore_label, .*regions, terms"):
            build("compound", terms=[("dice",)], **{option: True})

    def test_options_of_the_weights_belong_to_weighted_losses(self):
        with pytest.raises(ValueError, match="Unknown option of loss 'rrw': reweight"):
            build("rrw", reweight="inverse_volume")

    def test_alpha_out_of_range(self):
        with pytest.raises(ValueError, match="alpha from 0 to 1, but got 2"):
            build("focal", alpha=2)
