"""Hausdorff and fuzzy rough losses by hand."""

from math import exp

import pytest
import torch
from loss_problems import IGNORE, ROW, SHIFTED, P, logits_of, row, value, weighted_value

from nnunet_rw.losses import build


class TestDistanceTransform:
    # The shifted prediction: (p - y)^2 = 0.01 0.04 0.49 0.04 0.36; p > 0.5 in the third and fourth voxel. Steps to
    # the target's boundary 3 2 1 | 1 2, to the prediction's 2 1 | 1 1 | 1.
    def test_by_hand(self):
        expected = (0.01 * (9 + 4) + 0.04 * (4 + 1) + 0.49 * (1 + 1) + 0.04 * (1 + 1) + 0.36 * (4 + 1)) / 5
        assert value("hausdorff_dt", SHIFTED) == pytest.approx(expected, rel=1e-6)
        assert value("hausdorff_dt", SHIFTED, regions=True) == pytest.approx(expected, rel=1e-6)
        # Steps of 2 mm; the classes' errors and distances are the same.
        assert value("hausdorff_dt", SHIFTED, spacing=(5, 2)) == pytest.approx(4 * expected, rel=1e-6)
        assert value("hausdorff_dt", SHIFTED, include_background=True) == pytest.approx(expected, rel=1e-6)

    def test_alpha(self):
        expected = 0.01 * (3 + 2) + 0.04 * (2 + 1) + 0.49 * (1 + 1) + 0.04 * (1 + 1) + 0.36 * (2 + 1)
        assert value("hausdorff_dt", SHIFTED, alpha=1) == pytest.approx(expected / 5, rel=1e-6)

    def test_inside_only(self):
        # Of the prediction in the third and fourth voxel, of the target in the fourth and fifth.
        expected = (0.49 * 1 + 0.04 * (1 + 1) + 0.36 * 4) / 5
        assert value("hausdorff_dt", SHIFTED, inside_only=True) == pytest.approx(expected, rel=1e-6)

    def test_most_probable(self):
        # Class 1 is nowhere above 0.5, but the most probable in the first voxel, where it belongs; class 2 is neither
        # there nor predicted. Steps to either boundary: 1 | 1 2.
        probabilities = torch.tensor([[0.2, 0.4, 0.5], [0.45, 0.35, 0.3], [0.35, 0.25, 0.2]], dtype=torch.float64)
        logits, target = probabilities.log()[None, :, None], row([1, 0, 0])
        expected = (0.55**2 * 1 + 0.35**2 * 1 + 0.3**2 * 4) / 6
        assert build("hausdorff_dt")(logits, target).item() == pytest.approx(expected, rel=1e-6)
        doubled = build("hausdorff_dt", most_probable=True)(logits, target)
        assert doubled.item() == pytest.approx(2 * expected, rel=1e-6)

    def test_regions_are_no_rivals(self):
        # Where regions overlap each is predicted, though one of them is the most probable.
        probabilities = torch.tensor([[0.9, 0.8, 0.1, 0.2], [0.7, 0.3, 0.3, 0.1]], dtype=torch.float64)
        logits = torch.logit(probabilities)[None, :, None]
        target = torch.tensor([[1, 1, 1, 0], [0, 1, 0, 0]])[None, :, None]
        default, most_probable = (
            build("hausdorff_dt", regions=True, most_probable=choice)(logits, target) for choice in (False, True)
        )
        assert most_probable == default

    def test_empty_and_full_masks_have_no_distance(self):
        # Nothing is predicted: what remains is the target's distance.
        faint = [0.1, 0.2, 0.4, 0.3, 0.4]
        expected = (0.01 * 9 + 0.04 * 4 + 0.16 * 1 + 0.49 * 1 + 0.36 * 4) / 5
        assert value("hausdorff_dt", faint) == pytest.approx(expected, rel=1e-6)
        assert value("hausdorff_dt", [0.9] * 5, [1] * 5) == 0
        assert value("hausdorff_dt", [0.9] * 5, [0] * 5) == 0
        # A lesion that was not found, and one that is none: steps 1 | 1 1 and 2 1 1 of the other mask.
        assert value("hausdorff_dt", [0.2] * 3, [0, 1, 0]) == pytest.approx((0.04 + 0.64 + 0.04) / 3, rel=1e-6)
        assert value("hausdorff_dt", [0.2, 0.2, 0.7], [0] * 3) == pytest.approx((0.16 + 0.04 + 0.49) / 3, rel=1e-6)

    def test_unlabelled_voxels_are_no_boundary(self):
        # Without the third voxel: steps of the target 3 2 . 2 3, of the prediction 3 2 . 1 1.
        computed = value("hausdorff_dt", SHIFTED, [0, 0, IGNORE, 1, 1], ignore_label=IGNORE)
        expected = (0.01 * (9 + 9) + 0.04 * (4 + 4) + 0.04 * (4 + 1) + 0.36 * (9 + 1)) / 4
        assert computed == pytest.approx(expected, rel=1e-6)

    def test_weighted(self):
        # (p - y)^2 = 0.36 0.01 0.09 0.04 0.09 0.04; every voxel is one step from the target's boundary, and 3 2 1 | 1
        # 1 | 1 from the prediction's.
        expected = 2 * 0.36 * (1 + 9) + 0.01 * (1 + 4) + (0.09 + 0.04 + 0.09 + 0.04) * 2
        assert weighted_value("hausdorff_dt") == pytest.approx(expected / 6, rel=1e-6)


class TestErosion:
    # Wrong everywhere, (p - y)^2 = 0.81. In one dimension the cross has three voxels, of which the row's ends miss one.
    # 1: means 0.54 0.81 0.81 0.81 0.54, minus 0.5 and stretched: 0 1 1 1 0.
    # 2: means 1/3 2/3 1 2/3 1/3, minus 0.5: 0 1/6 1/2 1/6 0, stretched: 0 1/3 1 1/3 0.
    # 3: means 1/9 4/9 5/9 4/9 1/9, minus 0.5: 0 0 1/18 0 0, stretched: 0 0 1 0 0.
    # 4: means of at most 1/3: nothing is left.
    wrong = (0.9, 0.9, 0.9, 0.1, 0.1)

    def test_by_hand(self):
        assert value("hausdorff_er", self.wrong) == pytest.approx((3 + 4 * 5 / 3 + 9) / 5, rel=1e-6)
        assert value("hausdorff_er", self.wrong, alpha=1) == pytest.approx((3 + 2 * 5 / 3 + 3) / 5, rel=1e-6)
        assert value("hausdorff_er", self.wrong, regions=True) == pytest.approx((3 + 4 * 5 / 3 + 9) / 5, rel=1e-6)

    @pytest.mark.parametrize(("erosions", "total"), [(1, 3), (2, 3 + 20 / 3), (3, 12 + 20 / 3)])
    def test_erosions(self, erosions, total):
        assert value("hausdorff_er", self.wrong, erosions=erosions) == pytest.approx(total / 5, rel=1e-6)

    def test_steps_are_voxels(self):
        assert value("hausdorff_er", self.wrong, spacing=(3, 0.5)) == value("hausdorff_er", self.wrong)

    def test_stretched_per_sample(self):
        # Errors of 0.64 and 0.81 survive alike.
        logits = torch.cat([logits_of(self.wrong), logits_of([0.8, 0.8, 0.8, 0.2, 0.2])])
        loss = build("hausdorff_er")(logits, torch.cat([row(ROW)] * 2))
        assert loss.item() == pytest.approx((3 + 4 * 5 / 3 + 9) / 5, rel=1e-6)

    def test_small_errors_cost_nothing(self):
        assert value("hausdorff_er") == 0
        # One wrong voxel among right ones: a mean of 0.27.
        assert value("hausdorff_er", [0.1, 0.1, 0.1, 0.1, 0.9]) == 0

    def test_unlabelled_voxels_hold_no_error(self):
        # Means 0.27 0.54 0.81 0.81 0.54, minus 0.5 and stretched: 0 4/31 1 1 4/31.
        labels = [IGNORE, 0, 0, 1, 1]
        computed = value("hausdorff_er", self.wrong, labels, ignore_label=IGNORE, erosions=1)
        assert computed == pytest.approx((2 + 8 / 31) / 4, rel=1e-6)

    def test_voxels_that_are_alike_but_for_rounding_are_not_stretched(self):
        # Means of 0.54 in all five: 0.04 after the first erosion, nothing after the second.
        labels = [0, 0, IGNORE, 1, 1]
        computed = value("hausdorff_er", self.wrong, labels, ignore_label=IGNORE, erosions=2)
        assert computed == pytest.approx(0.04, rel=1e-5)

    def test_has_a_gradient(self):
        logits = logits_of(self.wrong).requires_grad_()
        build("hausdorff_er", erosions=2)(logits, row(ROW)).backward()
        assert logits.grad.isfinite().all()
        assert logits.grad.any()

    def test_weighted(self):
        # One erosion leaves 0 1 1 1 1 0; of these the third voxel is the lesion of one voxel, N / (3 V) = 2.
        p, labels = [0.9, 0.9, 0.1, 0.9, 0.1, 0.1], [0, 0, 1, 0, 1, 1]
        weighted = value("hausdorff_er", p, labels, reweight="inverse_volume", erosions=1)
        assert weighted == pytest.approx((1 + 2 + 1 + 1) / 6, rel=1e-6)

    @pytest.mark.parametrize("erosions", [0, -2])
    def test_errors(self, erosions):
        with pytest.raises(ValueError, match=f"at least one erosion, but got {erosions}"):
            build("hausdorff_er", erosions=erosions)


class TestConvolution:
    # The row, balls of radius 1: each voxel and its neighbours, as far as there are any.
    #   target       mean 0    0    1/3  2/3  1      f of it 0   0    0    1/3 1, of the rest 1   1    1/3  0 0
    #   prediction   mean 0.15 0.7/3 1.3/3 1.7/3 0.65, f of it 0 0 0 0.4/3 0.3, of the rest 0.7 1.6/3 0.4/3 0 0
    # (p - y)^2 = 0.01 0.04 0.16 0.09 0.16.
    by_hand = (
        1 * 0.01 * 0.1
        + 1 * 0.04 * 0.2
        + 1 / 3 * 0.16 * 0.4
        + (0.4 / 3 * 0.7 + 1 / 3) * 0.09  # what is missed of a true voxel, and what is found of it
        + (0.3 * 0.6 + 1) * 0.16
    ) / 5
    # Radius below one step: every voxel for itself. f of the prediction 0 0 0 0.4 0.2.
    alone = (0.01 * 0.1 + 0.04 * 0.2 + 0.16 * 0.4 + (0.4 * 0.7 + 1) * 0.09 + (0.2 * 0.6 + 1) * 0.16) / 5

    def test_by_hand(self):
        assert value("hausdorff_cv", radii=[1]) == pytest.approx(self.by_hand, rel=1e-6)
        assert value("hausdorff_cv", radii=[1], regions=True) == pytest.approx(self.by_hand, rel=1e-6)
        assert value("hausdorff_cv", radii=[0.5], alpha=0) == pytest.approx(self.alone, rel=1e-6)

    def test_alpha_and_the_sum_over_radii(self):
        computed = value("hausdorff_cv", radii=[1, 0.5], alpha=3)
        assert computed == pytest.approx(self.by_hand + 0.5**3 * self.alone, rel=1e-6)

    def test_radii_have_the_unit_of_the_spacing(self):
        assert value("hausdorff_cv", radii=[2], spacing=(5, 2)) == pytest.approx(4 * self.by_hand, rel=1e-6)
        assert value("hausdorff_cv", radii=[1], spacing=(5, 2)) == pytest.approx(self.alone, rel=1e-6)

    def test_samples_of_different_spacing_have_balls_of_their_mean(self):
        # Steps of 1 and 3 mm: as of 2 mm.
        logits, target = logits_of(P).repeat(2, 1, 1, 1), row(ROW).repeat(2, 1, 1, 1)
        loss = build("hausdorff_cv", radii=[2])
        computed = loss(logits, target, None, torch.tensor([[5.0, 1.0], [5.0, 3.0]]))
        assert computed.item() == pytest.approx(4 * self.by_hand, rel=1e-6)

    def test_default_radii(self):
        # Balls of 9 voxels and more hold the whole row: a mean of 0.4 in target and prediction, f = 0 of either and
        # 0.2 of the rest. That leaves 0.2 (e p + 0) outside and 0.2 (e p) + 0.2 e inside.
        radii = (3, 6, 9, 12, 15, 18)
        assert value("hausdorff_cv") == value("hausdorff_cv", radii=radii)
        outside = 0.2 * (0.01 * 0.1 + 0.04 * 0.2 + 0.16 * 0.4)
        inside = 0.2 * (0.09 * 0.7 + 0.16 * 0.6) + 0.2 * (0.09 + 0.16)
        computed = value("hausdorff_cv", radii=radii[1:])
        assert computed == pytest.approx(sum(radius**2 for radius in radii[1:]) * (outside + inside) / 5, rel=1e-6)

    def test_unlabelled_voxels_are_in_no_ball(self):
        # Balls of radius 1 without the third voxel: {1, 2} twice and {4, 5} twice, pure in the target. The prediction's
        # means 0.15 and 0.65: f of the rest 0.7, of itself 0.3.
        computed = value("hausdorff_cv", labels=[0, 0, IGNORE, 1, 1], ignore_label=IGNORE, radii=[1])
        expected = 0.01 * 0.1 + 0.04 * 0.2 + (0.3 * 0.7 + 1) * 0.09 + (0.3 * 0.6 + 1) * 0.16
        assert computed == pytest.approx(expected / 4, rel=1e-6)

    def test_weighted(self):
        # Every voxel for itself, 0.5^2. Missed: 0.36 (1 + f(0.6) = 1.2), of the weight 2, 0.04 and 0.09; false: in the
        # lesions f(0.8) = 0.6 and f(0.7) = 0.4 of e p, outside e p.
        missed, false = 2 * 0.36 * 1.2 + 0.04 + 0.09, 0.6 * 0.04 * 0.8 + 0.4 * 0.09 * 0.7
        outside = 0.01 * 0.1 + 0.09 * 0.3 + 0.04 * 0.2
        computed = weighted_value("hausdorff_cv", radii=[0.5])
        assert computed == pytest.approx((missed + false + outside) / 4 / 6, rel=1e-6)

    @pytest.mark.parametrize(("radii", "got"), [((), r"\(\)"), ((3, 0), r"\(3, 0\)"), ([-1, 2], r"\(-1, 2\)")])
    def test_errors(self, radii, got):
        with pytest.raises(ValueError, match=f"radii above 0, but got {got}"):
            build("hausdorff_cv", radii=radii)


def certainty(distance, alpha=1.0):
    return 1 - exp(-(distance**2) / alpha)


class TestFuzzyRough:
    # Steps to the target's boundary 3 2 1 | 1 2, (p - y)^2 = 0.01 0.04 0.16 0.09 0.16.
    errors = (0.01, 0.04, 0.16, 0.09, 0.16)
    expected = sum(certainty(d) * e for d, e in zip((3, 2, 1, 1, 2), errors, strict=True)) / 5

    def test_by_hand(self):
        assert value("fuzzy_rough") == pytest.approx(self.expected, rel=1e-6)
        assert value("fuzzy_rough", regions=True) == pytest.approx(self.expected, rel=1e-6)
        assert value("fuzzy_rough", include_background=True) == pytest.approx(self.expected, rel=1e-6)

    def test_alpha_has_the_squared_unit_of_the_distance(self):
        expected = sum(certainty(d, 3) * e for d, e in zip((3, 2, 1, 1, 2), self.errors, strict=True)) / 5
        assert value("fuzzy_rough", alpha=3) == pytest.approx(expected, rel=1e-6)
        assert value("fuzzy_rough", alpha=12, spacing=(5, 2)) == pytest.approx(expected, rel=1e-6)

    def test_voxels_that_are_right_to_the_last_digit_count(self):
        # The second and fourth: three terms above 0, but a mean over five voxels.
        logits = logits_of(P)
        logits[0, 1, 0, 1], logits[0, 1, 0, 3] = -1000, 1000
        computed = build("fuzzy_rough")(logits, row(ROW)).item()
        expected = (certainty(3) * 0.01 + certainty(1) * 0.16 + certainty(2) * 0.16) / 5
        assert computed == pytest.approx(expected, rel=1e-6)

    def test_mean_is_over_the_batch(self):
        # The second row has no lesion, so no voxel that counts; the third has five: steps 1 | 1 2 3 4.
        logits = torch.cat([logits_of(P), logits_of(P), logits_of([0.2] * 5)])
        target = torch.cat([row(ROW), row([0] * 5), row([1, 0, 0, 0, 0])])
        third = certainty(1) * 0.64 + 0.04 * sum(certainty(d) for d in (1, 2, 3, 4))
        computed = build("fuzzy_rough")(logits, target).item()
        assert computed == pytest.approx((5 * self.expected + third) / 10, rel=1e-6)

    def test_absent_class(self):
        # As in the authors' code its false positives cost nothing.
        assert value("fuzzy_rough", [0.9] * 5, [0] * 5) == 0
        # Of two classes one is absent: the mean over classes halves.
        probabilities = torch.tensor([[1 - p - 0.05 for p in P], P, [0.05] * 5], dtype=torch.float64)
        computed = build("fuzzy_rough")(probabilities.log()[None, :, None], row(ROW)).item()
        assert computed == pytest.approx(self.expected / 2, rel=1e-6)

    def test_ignored_voxels_are_not_counted(self):
        # Steps 3 2 . 2 3 in four voxels.
        computed = value("fuzzy_rough", labels=[0, 0, IGNORE, 1, 1], ignore_label=IGNORE)
        expected = certainty(3) * 0.01 + certainty(2) * 0.04 + certainty(2) * 0.09 + certainty(3) * 0.16
        assert computed == pytest.approx(expected / 4, rel=1e-6)
        # A map may hold something there, where augmentation has interpolated it.
        maps = {"boundary_distance": torch.tensor([[3.0, 2, 5, 2, 3]] * 2)[None, :, None]}
        computed = value("fuzzy_rough", labels=[0, 0, IGNORE, 1, 1], ignore_label=IGNORE, maps=maps)
        assert computed == pytest.approx(expected / 4, rel=1e-6)

    def test_weighted(self):
        # Every voxel is one step from the boundary. Weights multiply the terms, not the number of voxels.
        expected = certainty(1) * (2 * 0.36 + 0.01 + 0.09 + 0.04 + 0.09 + 0.04) / 6
        assert weighted_value("fuzzy_rough") == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize("name", ["fuzzy_rough", "fuzzy_rough_dual"])
    @pytest.mark.parametrize("alpha", [0, -2])
    def test_errors(self, name, alpha):
        with pytest.raises(ValueError, match=f"alpha above 0, but got {alpha}"):
            build(name, alpha=alpha)


class TestDualFuzzyRough:
    def test_by_hand(self):
        # The shifted prediction, p > 0.5 in the third and fourth voxel: steps 2 1 | 1 1 | 1 to its boundary.
        errors = (0.01, 0.04, 0.49, 0.04, 0.36)
        for alpha in (1, 3):
            terms = [
                (certainty(d_y, alpha) + certainty(d_p, alpha)) * e
                for d_y, d_p, e in zip((3, 2, 1, 1, 2), (2, 1, 1, 1, 1), errors, strict=True)
            ]
            computed = value("fuzzy_rough_dual", SHIFTED, alpha=alpha)
            assert computed == pytest.approx(sum(terms) / 5, rel=1e-6)
            in_mm = value("fuzzy_rough_dual", SHIFTED, alpha=4 * alpha, spacing=(5, 2))
            assert in_mm == pytest.approx(sum(terms) / 5, rel=1e-6)

    def test_nothing_predicted(self):
        faint = [0.1, 0.2, 0.4, 0.3, 0.4]
        assert value("fuzzy_rough_dual", faint) == pytest.approx(value("fuzzy_rough", faint), rel=1e-12)
        assert value("fuzzy_rough_dual", faint, [0] * 5) == 0

    def test_absent_class_that_is_predicted(self):
        # Steps to the prediction's boundary 3 2 1 | 1 2.
        terms = [certainty(d) * p**2 for d, p in zip((3, 2, 1, 1, 2), P, strict=True)]
        assert value("fuzzy_rough_dual", labels=[0] * 5) == pytest.approx(sum(terms) / 5, rel=1e-6)

    def test_weighted(self):
        # Steps to the prediction's boundary 3 2 1 | 1 1 | 1.
        errors = (2 * 0.36, 0.01, 0.09, 0.04, 0.09, 0.04)
        terms = [(certainty(1) + certainty(d)) * e for d, e in zip((3, 2, 1, 1, 1, 1), errors, strict=True)]
        assert weighted_value("fuzzy_rough_dual") == pytest.approx(sum(terms) / 6, rel=1e-6)
