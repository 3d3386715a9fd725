"""Focal losses by hand."""

from math import log

import pytest
import torch
from loss_problems import LESIONS, P_LESIONS, WEIGHTS, P, row, value, weighted_value

from nnunet_rw.losses import build

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
