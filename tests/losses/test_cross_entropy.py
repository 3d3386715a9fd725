"""Cross-entropies and focal losses by hand."""

from math import log

import pytest
import torch
from loss_problems import IGNORE, LESIONS, P_LESIONS, SHIFTED, WEIGHTS, P, logits_of, row, value, weighted_value

from nnunet_rw.losses import build


class TestCrossEntropy:
    def test_by_hand(self):
        expected = -(log(0.9) + log(0.8) + log(0.6) + log(0.7) + log(0.6)) / 5
        assert value("ce") == pytest.approx(expected, rel=1e-6)
        assert value("ce", regions=True) == pytest.approx(expected, rel=1e-6)

    def test_ignored_voxels_are_not_counted(self):
        # The third voxel is unknown: nothing of it, and 4 voxels.
        expected = -(log(0.9) + log(0.8) + log(0.7) + log(0.6)) / 4
        assert value("ce", labels=[0, 0, IGNORE, 1, 1], ignore_label=IGNORE) == pytest.approx(expected, rel=1e-6)

    def test_weighted(self):
        expected = -(2 * log(0.4) + log(0.9) + log(0.7) + log(0.8) + log(0.7) + log(0.8)) / 6
        assert weighted_value("ce") == pytest.approx(expected, rel=1e-6)
        # Background 6 / 9 where the weights may be as low as that.
        expected = -(2 * log(0.4) + 2 / 3 * (log(0.9) + log(0.7) + log(0.8)) + log(0.8) + log(0.7)) / 6
        assert weighted_value("ce", w_min=0.5) == pytest.approx(expected, rel=1e-6)


class TestWeightedCrossEntropy:
    # Of the shifted prediction: sum p = 0.1 + 0.2 + 0.7 + 0.8 + 0.4 = 2.2 of N = 5, so positives weigh 2.8 / 2.2.
    outside, inside = -(log(0.9) + log(0.8) + log(0.3)), -(log(0.8) + log(0.4))

    def test_weight_from_the_prediction(self):
        expected = (self.outside + 2.8 / 2.2 * self.inside) / 5
        assert value("wce", SHIFTED) == pytest.approx(expected, rel=1e-6)
        assert value("wce", SHIFTED, regions=True) == pytest.approx(expected, rel=1e-6)

    def test_background_head(self):
        # Its positives, the three voxels outside, weigh (5 - 2.8) / 2.8.
        expected = (self.outside + 2.8 / 2.2 * self.inside + 2.2 / 2.8 * self.outside + self.inside) / 10
        assert value("wce", SHIFTED, include_background=True) == pytest.approx(expected, rel=1e-6)

    def test_weight_is_that_of_the_batch(self):
        # The second row adds 5 * 0.2 to sum p and 5 to N: (10 - 3.2) / 3.2.
        logits = torch.cat([logits_of(SHIFTED), logits_of([0.2] * 5)])
        expected = (self.outside + 6.8 / 3.2 * self.inside - 5 * log(0.8)) / 10
        target = torch.cat([row([0, 0, 0, 1, 1]), row([0] * 5)])
        assert build("wce")(logits, target).item() == pytest.approx(expected, rel=1e-6)

    def test_weight_is_of_labelled_voxels(self):
        # Without the third voxel: N = 4, sum p = 1.5.
        computed = value("wce", SHIFTED, [0, 0, IGNORE, 1, 1], ignore_label=IGNORE)
        assert computed == pytest.approx((-log(0.9) - log(0.8) + 2.5 / 1.5 * self.inside) / 4, rel=1e-6)

    def test_weight_takes_part_in_the_gradient(self):
        # One voxel of two, p = 0.5 in both: -(N - S) / S log p with N = 2 and S = 1. By hand the derivatives by the
        # other voxel's p are 1 / (1 - p) = 2 of its own term and -N / S^2 * -log(0.5) through the weight; times
        # dp / dlogit = 1/4, over two voxels.
        logits = torch.zeros(1, 1, 1, 2, dtype=torch.float64, requires_grad=True)
        build("wce", regions=True)(logits, row([1, 0])).backward()
        assert logits.grad[0, 0, 0, 1].item() == pytest.approx((2 - 2 * log(2)) / 4 / 2, rel=1e-6)

    def test_given_weights(self):
        # A mean over voxels, not over the sum of weights.
        expected = (0.5 * self.outside + 3 * self.inside) / 5
        assert value("wce", SHIFTED, class_weights=(0.5, 3)) == pytest.approx(expected, rel=1e-6)
        # Of a region: of its positive voxels.
        expected = (self.outside + 3 * self.inside) / 5
        assert value("wce", SHIFTED, regions=True, class_weights=[3]) == pytest.approx(expected, rel=1e-6)

    def test_weighted_by_volume(self):
        # sum p = 2.5 of 6, so positives weigh 3.5 / 2.5, and the first of them twice that.
        positive = 1.4 * (2 * log(0.4) + log(0.8) + log(0.7))
        assert weighted_value("wce") == pytest.approx(-(positive + log(0.9) + log(0.7) + log(0.8)) / 6, rel=1e-6)
        given = 3 * (2 * log(0.4) + log(0.8) + log(0.7)) + 0.5 * (log(0.9) + log(0.7) + log(0.8))
        assert weighted_value("wce", class_weights=(0.5, 3)) == pytest.approx(-given / 6, rel=1e-6)

    def test_number_of_weights(self):
        with pytest.raises(ValueError, match="class_weights for 2 heads, but got 3"):
            value("wce", class_weights=(1, 2, 3))
        with pytest.raises(ValueError, match="class_weights for 1 heads, but got 2"):
            value("wce", regions=True, class_weights=(1, 2))


class TestTopK:
    def test_worst_voxels(self):
        # The truth's probabilities of the row: 0.9 0.8 0.6 0.7 0.6. 60 % are three voxels, 59 % two.
        assert value("topk", k=60) == pytest.approx(-(2 * log(0.6) + log(0.7)) / 3, rel=1e-6)
        assert value("topk", k=59) == pytest.approx(-log(0.6), rel=1e-6)
        assert value("topk", k=100) == pytest.approx(value("ce"), rel=1e-6)

    def test_default(self):
        # 10 % of 20 voxels.
        computed = value("topk", [0.1] * 10 + [0.5, 0.2, 0.7] + [0.3] * 7, [0] * 20)
        assert computed == pytest.approx(-(log(0.3) + log(0.5)) / 2, rel=1e-6)

    def test_over_the_whole_batch(self):
        # 20 % of ten voxels: the worst two are both in the second row.
        logits = torch.cat([logits_of([0.1, 0.2, 0.4, 0.7, 0.6]), logits_of([0.6, 0.7, 0.1, 0.9, 0.9])])
        target = torch.cat([row([0, 0, 0, 1, 1])] * 2)
        computed = build("topk", k=20)(logits, target).item()
        assert computed == pytest.approx(-(log(0.4) + log(0.3)) / 2, rel=1e-6)

    def test_of_each_region(self):
        # 50 % of two voxels: one of each region, though both of the first are worse than any of the second.
        logits = torch.cat([logits_of([0.8, 0.6], regions=True), logits_of([0.1, 0.2], regions=True)], 1)
        computed = build("topk", k=50, regions=True)(logits, torch.zeros(1, 2, 1, 2)).item()
        assert computed == pytest.approx(-(log(0.2) + log(0.8)) / 2, rel=1e-6)

    def test_of_labelled_voxels(self):
        # 50 % of four: the third voxel, the worst, is unknown.
        labels, p = [0, 0, IGNORE, 1, 1], [0.1, 0.2, 0.999, 0.7, 0.6]
        computed = value("topk", p, labels, k=50, ignore_label=IGNORE)
        assert computed == pytest.approx(-(log(0.7) + log(0.6)) / 2, rel=1e-6)

    @pytest.mark.parametrize("ignore_label", [None, IGNORE])
    def test_at_least_one_voxel(self, ignore_label):
        # 10 % of one voxel, as of a tiny output of deep supervision, is none: a mean of none would be NaN.
        assert value("topk", [0.3], [0], ignore_label=ignore_label) == pytest.approx(-log(0.7), rel=1e-6)
        assert value("topk", k=0.01, ignore_label=ignore_label) == pytest.approx(-log(0.6), rel=1e-6)

    def test_nothing_labelled(self):
        assert value("topk", labels=[IGNORE] * 5, ignore_label=IGNORE) == 0

    def test_weights_count_before_the_choice(self):
        # One voxel of six. Unweighted the worst is 0.7; with its weight of 2, 0.8^2 = 0.64 is worse.
        p, labels = [0.8, 0.1, 0.2, 0.8, 0.7, 0.2], [1, 0, 0, 1, 1, 0]
        assert value("topk", p, labels, k=20) == pytest.approx(-log(0.7), rel=1e-6)
        weighted = value("topk", p, labels, k=20, reweight="inverse_volume")
        assert weighted == pytest.approx(-2 * log(0.8), rel=1e-6)

    @pytest.mark.parametrize("k", [0, -3, 100.5])
    def test_errors(self, k):
        with pytest.raises(ValueError, match=f"k above 0 and at most 100 per cent, but got {k}"):
            build("topk", k=k)


# The truth's probability in each voxel of the row.
RIGHT = [0.9, 0.8, 0.6, 0.7, 0.6]


class TestFocal:
    def test_by_hand(self):
        # alpha = 0.8, gamma = 3: -0.2 p^3 log(1 - p) outside, -0.8 (1 - p)^3 log p inside.
        outside = sum(-0.2 * p**3 * log(1 - p) for p in P[:3])
        inside = sum(-0.8 * (1 - p) ** 3 * log(p) for p in P[3:])
        assert value("focal", alpha=0.8, gamma=3) == pytest.approx((outside + inside) / 5, rel=1e-6)
        # One against the rest: with the background head the classes trade places.
        swapped = sum(-0.8 * p**3 * log(1 - p) for p in P[:3]) + sum(-0.2 * (1 - p) ** 3 * log(p) for p in P[3:])
        assert value("focal", alpha=0.8, gamma=3, include_background=True) == pytest.approx(
            (outside + inside + swapped) / 10, rel=1e-6
        )

    def test_without_focus_it_is_half_the_binary_cross_entropy(self):
        assert value("focal", alpha=0.5, gamma=0) == pytest.approx(value("ce") / 2, rel=1e-6)

    def test_weighted(self):
        expected = sum(
            -w * (0.75 * (1 - p) ** 2 * log(p) if y else 0.25 * p**2 * log(1 - p))
            for w, p, y in zip(WEIGHTS, P_LESIONS, LESIONS, strict=True)
        )
        assert weighted_value("focal") == pytest.approx(expected / 6, rel=1e-6)

    def test_alpha_out_of_range(self):
        with pytest.raises(ValueError, match="alpha from 0 to 1, but got 2"):
            build("focal", alpha=2)


class TestSoftmaxFocal:
    def test_by_hand(self):
        expected = sum(-((1 - right) ** 3) * log(right) for right in RIGHT) / 5
        assert value("softmax_focal", gamma=3) == pytest.approx(expected, rel=1e-6)
        assert value("softmax_focal", gamma=3, regions=True) == pytest.approx(expected, rel=1e-6)
        expected = sum(-((1 - right) ** 2) * log(right) for right in RIGHT) / 5
        assert value("softmax_focal") == pytest.approx(expected, rel=1e-6)

    def test_without_focus_it_is_the_cross_entropy(self):
        assert value("softmax_focal", gamma=0) == pytest.approx(value("ce"), rel=1e-6)

    @pytest.mark.parametrize("others", [(0.3, 0.1), (0.05, 0.35)])
    def test_only_the_own_class_counts(self, others):
        # One voxel of class 2, whose probability is 0.6 however the others share the rest.
        probabilities = torch.tensor([*others, 0.6], dtype=torch.float64)
        loss = build("softmax_focal")(probabilities.log().view(1, 3, 1, 1), row([2]))
        assert loss.item() == pytest.approx(-(0.4**2) * log(0.6), rel=1e-6)

    def test_weighted(self):
        right = [0.4, 0.9, 0.7, 0.8, 0.7, 0.8]
        expected = sum(-w * (1 - p) ** 2 * log(p) for w, p in zip(WEIGHTS, right, strict=True)) / 6
        assert weighted_value("softmax_focal") == pytest.approx(expected, rel=1e-6)
