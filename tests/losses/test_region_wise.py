"""Region-wise losses by hand."""

from math import sqrt

import numpy as np
import pytest
import references
import torch
from loss_problems import GROUPS, IGNORE, ROW, SPACING_MM, P, logits_of, random_problem, row, value, weighted_value

from nnunet_rw.losses import LossInputs, build
from nnunet_rw.losses.region_wise import RectifiedRegionWiseLoss, rectified_maps
from nnunet_rw.maps import rectified_region_wise_maps
from nnunet_rw.maps.kinds import LabelScheme, compute_distances


class TestRectifiedRegionWise:
    # D = 3 2 1 | 1 2 steps, so z of background -1 -2/3 -1/3 +1 +1, of foreground +1 +1 +1 -1/2 -1.
    background = -0.9 - 0.8 * 2 / 3 - 0.6 / 3 + 0.3 + 0.4
    foreground = 0.1 + 0.2 + 0.4 - 0.7 / 2 - 0.6

    def test_by_hand(self):
        assert value("rrw") == pytest.approx((self.background + self.foreground) / 10, rel=1e-6)
        assert value("rrw", spacing=(5, 2)) == pytest.approx((self.background + self.foreground) / 10, rel=1e-6)
        assert value("rrw", include_background=False) == pytest.approx(self.foreground / 5, rel=1e-6)

    def test_class_that_fills_the_patch(self):
        # It has no boundary: z = -1 everywhere, and of the background, which is absent, +1.
        expected = (-sum(P) + sum(1 - p for p in P)) / 10
        assert value("rrw", labels=[1] * 5) == pytest.approx(expected, rel=1e-6)
        # So also where what is labelled is of one class, and where only one sample is.
        computed = value("rrw", labels=[1, 1, IGNORE, 1, 1], ignore_label=IGNORE)
        assert computed == pytest.approx((-0.1 - 0.2 - 0.7 - 0.6 + 0.9 + 0.8 + 0.3 + 0.4) / 8, rel=1e-6)
        both = build("rrw")(logits_of(P).repeat(2, 1, 1, 1), torch.cat([row([1] * 5), row(ROW)]))
        assert both.item() == pytest.approx((expected + (self.background + self.foreground) / 10) / 2, rel=1e-6)

    def test_sum_over_classes(self):
        # Of five voxels.
        assert value("rrw", sum_classes=True) == pytest.approx((self.background + self.foreground) / 5, rel=1e-6)
        # One class is left, of which the sum is the mean.
        assert value("rrw", sum_classes=True, include_background=False) == pytest.approx(self.foreground / 5, rel=1e-6)
        # A region's interior distance knows no other: 3 2 1 outside count as +1, like those of the foreground above.
        assert value("rrw", sum_classes=True, regions=True) == pytest.approx(self.foreground / 5, rel=1e-6)

    @pytest.mark.parametrize("options", [{}, {"include_background": False}, {"regions": True}], ids=str)
    @pytest.mark.parametrize("weights", [{}, {"reweight": "inverse_volume"}], ids=["plain", "weighted"])
    @pytest.mark.parametrize("ignore", [False, True])
    def test_sum_is_the_mean_times_the_classes(self, options, weights, ignore):
        regions = options.get("regions", False)
        logits, target, heads = random_problem((7, 6, 5), regions=regions, ignore=ignore)
        logits, target = torch.from_numpy(logits), torch.from_numpy(target)
        mean, total = (
            build("rrw", sum_classes=summed, **{**heads, **options, **weights})(logits, target, None, SPACING_MM)
            for summed in (False, True)
        )
        counted = logits.shape[1] - (options.get("include_background") is False)
        assert counted > 1
        torch.testing.assert_close(total, counted * mean, rtol=1e-12, atol=0)

    @pytest.mark.parametrize("num_classes", [2, 3, 7])
    def test_gradient_of_the_sum_is_that_of_cross_entropy_times_a_factor(self, num_classes):
        # sum_c p_c z_c = 1 - p_y (1 + D / max D), of which the gradient is p_y (1 + D / max D) times that of -log p_y.
        generator = torch.Generator().manual_seed(0)
        shape = (2, num_classes, 6, 5, 4)
        logits = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        target = torch.randint(0, num_classes, (2, 1, 6, 5, 4), generator=generator)
        target[:, :, :3] = 1  # a class with an inside
        loss, cross_entropy = build("rrw", sum_classes=True), build("ce")
        [found] = torch.autograd.grad(loss(logits, target), logits)
        [of_ce] = torch.autograd.grad(cross_entropy(logits, target), logits)
        onehot = torch.zeros(shape, dtype=torch.float64).scatter_(1, target, 1)
        distance = LossInputs(logits, target).map("interior_distance").double()
        inside = distance * onehot
        depth = (inside / inside.amax((2, 3, 4), keepdim=True)).sum(1, keepdim=True)
        assert depth.min() < 0.7
        probability = logits.detach().softmax(1).gather(1, target)
        torch.testing.assert_close(found, of_ce * probability * (1 + depth), rtol=1e-9, atol=1e-15)

    def test_formula_tells_the_sum(self):
        assert build("rrw", sum_classes=True).formula().startswith("mean over voxels of sum over classes(p z), z = ")

    def test_weighted(self):
        # All distances of the foreground are 1 step, of the background too: z = -1 and +1.
        foreground = -2 * 0.4 + 0.1 + 0.3 - 0.8 - 0.7 + 0.2
        background = 2 * 0.6 - 0.9 - 0.7 + 0.2 + 0.3 - 0.8
        assert weighted_value("rrw") == pytest.approx((foreground + background) / 12, rel=1e-6)
        assert weighted_value("rrw", include_background=False) == pytest.approx(foreground / 6, rel=1e-6)

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("options", [{}, {"reweight": "inverse_volume"}], ids=["plain", "weighted"])
    @pytest.mark.parametrize("ignore_label", [None, IGNORE])
    def test_one_channel_says_as_much_as_all(self, ignore_label, options, channels):
        logits, target, heads = random_problem((7, 6, 5), regions=False, ignore=ignore_label is not None)
        target[1][target[1] == 2] = 0  # an absent class
        target = torch.from_numpy(target)
        results = []
        for chosen in (build("rrw", **heads, **options), AllChannels(**heads, **options)):
            leaf = torch.from_numpy(logits).requires_grad_()
            inputs = LossInputs(leaf, target, None, SPACING_MM, ignore_label=ignore_label)
            inputs.maps["interior_distance"] = inputs.map("interior_distance").repeat(1, channels, 1, 1, 1)
            value = chosen.compute(inputs)
            results.append((value, *torch.autograd.grad(value, leaf)))
        for one, every in zip(*results, strict=True):
            torch.testing.assert_close(one, every, rtol=1e-12, atol=1e-15)


class AllChannels(RectifiedRegionWiseLoss):
    """The formula as the paper has it."""

    def compute(self, inputs):
        maps = rectified_maps(inputs.map("interior_distance"), inputs.onehot)
        return self.mean(inputs, inputs.probabilities * maps)


class TestBoundary:
    def test_by_hand(self):
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

    def test_sign_comes_from_the_target(self):
        # Unsigned distances, or signed ones of an earlier kind of map: the same loss.
        expected = (0.6 + 0.8 + 0.8 - 1.4 - 2.4) / 5
        for inside in (2.0, -2.0):
            maps = {"boundary_distance": torch.tensor([[6, 4, 2, inside, 2 * inside]] * 2)[None, :, None]}
            assert value("boundary", maps=maps) == pytest.approx(expected, rel=1e-6)

    def test_two_classes_are_served_by_the_interior_distance(self):
        maps = {"interior_distance": torch.tensor([6.0, 4, 2, 2, 4])[None, None, None]}
        for options in ({}, {"include_background": True}, {"inside_offset": 0.5}):
            expected = value("boundary", spacing=(5, 2), **options)
            assert value("boundary", maps=maps, **options) == pytest.approx(expected, rel=1e-6)

    def test_what_has_no_boundary_has_no_say(self):
        for labels in ([0] * 5, [1] * 5, [1, 1, IGNORE, 1, 1]):
            for offset in (0, 0.5):
                assert value("boundary", labels=labels, ignore_label=IGNORE, inside_offset=offset) == 0

    def test_ignored_voxels_are_not_counted(self):
        # Distances 3 2 . 2 3 steps of 2 mm.
        labels = [0, 0, IGNORE, 1, 1]
        computed = value("boundary", labels=labels, ignore_label=IGNORE, spacing=(1, 2))
        assert computed == pytest.approx((0.1 * 6 + 0.2 * 4 - 0.7 * 4 - 0.6 * 6) / 4, rel=1e-6)

    def test_weighted(self):
        expected = (-2 * 0.4 + 0.1 + 0.3 - 0.8 - 0.7 + 0.2) / 6
        assert weighted_value("boundary") == pytest.approx(expected, rel=1e-6)
        assert weighted_value("boundary", spacing=(5, 2)) == pytest.approx(2 * expected, rel=1e-6)


class TestActiveContour:
    # Region: +p outside, -p inside. Background is 1 - p: 0.9 + 0.8 + 0.6 inside, 0.3 + 0.4 outside.
    foreground, background = 0.1 + 0.2 + 0.4 - 0.7 - 0.6, -0.9 - 0.8 - 0.6 + 0.3 + 0.4

    def test_region(self):
        expected = (self.foreground + self.background) / 10
        assert value("active_contour", length_weight=0) == pytest.approx(expected, rel=1e-6)
        computed = value("active_contour", length_weight=0, include_background=False)
        assert computed == pytest.approx(self.foreground / 5, rel=1e-6)

    def test_length_of_a_row(self):
        # Steps of 0.1, 0.2, 0.3 and 0.1, of the background too; the axis of one voxel has none.
        expected = (self.foreground + self.background) / 10 + (0.1 + 0.2 + 0.3 + 0.1) / 4
        assert value("active_contour") == pytest.approx(expected, abs=1e-6)

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

    def test_one_voxel_has_no_length(self):
        assert value("active_contour", [0.3], [0]) == pytest.approx((0.3 - 0.7) / 2, rel=1e-6)

    def test_weights_apply_to_the_region(self):
        foreground = -2 * 0.4 + 0.1 + 0.3 - 0.8 - 0.7 + 0.2
        computed = weighted_value("active_contour", length_weight=0, include_background=False)
        assert computed == pytest.approx(foreground / 6, rel=1e-6)
        # Steps of 0.3, 0.2, 0.5, 0.1, 0.5.
        computed = weighted_value("active_contour", include_background=False)
        assert computed == pytest.approx(foreground / 6 + 1.6 / 5, rel=1e-6)


class TestGeneralizedSurface:
    # z^2 = 9 4 1 | 1 4 steps, 1 - y - p = 0.9 0.8 0.6 -0.7 -0.6.
    expected = 1 - (9 * 0.81 + 4 * 0.64 + 0.36 + 0.49 + 4 * 0.36) / 19

    def test_by_hand(self):
        assert value("gsl") == pytest.approx(self.expected, rel=1e-6)
        assert value("gsl", regions=True) == pytest.approx(self.expected, rel=1e-6)
        # The other class has the same distances, and as much of it is right.
        assert value("gsl", include_background=True) == pytest.approx(self.expected, rel=1e-6)

    @pytest.mark.parametrize("step_mm", [1e-3, 2, 1e15])
    def test_unit_does_not_matter(self, step_mm):
        assert value("gsl", spacing=(5, step_mm)) == pytest.approx(self.expected, rel=1e-5)

    def test_spacing_does(self):
        # One voxel of 3 x 2: steps of 2 mm down and 1 aside, z^2 = 1 1 4 5 16 17, p = 0.3 of all but the last's 0.9.
        p = torch.full((3, 2), 0.3, dtype=torch.float64)
        p[2, 1] = 0.9
        target = torch.tensor([[1, 0], [0, 0], [0, 0]])
        computed = build("gsl", regions=True)(torch.logit(p)[None, None], target[None, None], None, (2, 1))
        assert computed.item() == pytest.approx(1 - (0.09 + 26 * 0.49 + 17 * 0.01) / 44, rel=1e-6)

    def test_perfect_and_opposite(self):
        assert value("gsl", [1e-9, 1e-9, 1e-9, 1 - 1e-9, 1 - 1e-9]) == pytest.approx(0, abs=1e-8)
        assert value("gsl", [1 - 1e-9, 1 - 1e-9, 1 - 1e-9, 1e-9, 1e-9]) == pytest.approx(1, abs=1e-8)

    def test_absent_class(self):
        assert value("gsl", [0.9] * 5, [0] * 5) == 0
        assert value("gsl", [0.1] * 5, [1] * 5) == 0  # one that fills the patch has no boundary either
        logits = logits_of(P).repeat(2, 1, 1, 1)
        loss = build("gsl")(logits, torch.cat([row(ROW), row([0] * 5)]))
        assert loss.item() == pytest.approx(self.expected / 2, rel=1e-6)

    def test_ignored_voxels_are_not_counted(self):
        # z^2 = 9 4 . 4 9.
        computed = value("gsl", labels=[0, 0, IGNORE, 1, 1], ignore_label=IGNORE)
        expected = 1 - (9 * 0.81 + 4 * 0.64 + 4 * 0.49 + 9 * 0.36) / 26
        assert computed == pytest.approx(expected, rel=1e-6)
        # A map may hold something there, where augmentation has interpolated it.
        maps = {"boundary_distance": torch.tensor([[3.0, 2, 5, 2, 3]] * 2)[None, :, None]}
        computed = value("gsl", labels=[0, 0, IGNORE, 1, 1], ignore_label=IGNORE, maps=maps)
        assert computed == pytest.approx(expected, rel=1e-6)

    def test_weighted(self):
        # All distances are 1 step; 1 - y - p = -0.4 0.9 0.7 -0.8 -0.7 0.8.
        kept = 2 * 0.16 + 0.81 + 0.49 + 0.64 + 0.49 + 0.64
        assert weighted_value("gsl") == pytest.approx(1 - kept / 7, rel=1e-6)


class TestRectifiedMaps:
    @pytest.mark.parametrize("ignore_label", [None, IGNORE])
    def test_classes_equal_the_maps_of_numpy(self, ignore_label):
        labels = np.stack([references.random_blobs((9, 8, 7), 4, seed) for seed in range(2)])
        if ignore_label is None:
            labels[labels == IGNORE] = 0
        labels[1][labels[1] == 2] = 0  # an absent class
        labels = np.concatenate([labels, np.where(labels[:1] == IGNORE, IGNORE, 1)])  # one class, and no boundary
        inputs = LossInputs(
            torch.zeros(3, 3, 9, 8, 7),
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

    def test_distances_of_zero_are_as_deep_as_any(self):
        # The class has no boundary, or augmentation has moved its label to where the sampled distance is 0.
        onehot = torch.tensor([[1.0, 1, 0], [0, 0, 1]])[None, :, None]
        distance = torch.tensor([0.0, 0, 2])[None, None, None]
        assert rectified_maps(distance, onehot)[0, :, 0].tolist() == [[-1, -1, 1], [1, 1, -1]]
        # Beside voxels that are deeper, 0 is the boundary.
        distance = torch.tensor([0.0, 4, 2])[None, None, None]
        assert rectified_maps(distance, onehot)[0, :, 0].tolist() == [[0, -1, 1], [1, 1, -1]]
