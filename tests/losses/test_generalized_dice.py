"""Generalised Dice losses by hand."""

from math import log

import pytest
import torch
from loss_problems import IGNORE, ROW, P, logits_of, row, value, weighted_value

from nnunet_rw.losses import build

# Foreground: 2 voxels, sum p y = 1.3, sum p = 2, sum p^2 = 1.06. Background: 3 voxels, sum p y = 2.3, sum p = 3,
# sum p^2 = 0.81 + 0.64 + 0.36 + 0.09 + 0.16 = 2.06.
SQUARED = 1 - 2 * (1.3 / 5 + 2.3 / 10) / ((1.06 + 2) / 5 + (2.06 + 3) / 10)
LINEAR = 1 - 2 * (1.3 / 4 + 2.3 / 9) / ((2 + 2) / 4 + (3 + 3) / 9)


class TestGeneralizedDice:
    def test_by_hand(self):
        assert value("gdl") == pytest.approx(SQUARED, rel=1e-6)
        assert value("gdl", linear=True) == pytest.approx(LINEAR, rel=1e-6)

    def test_a_region_and_the_rest_are_two_classes(self):
        assert value("gdl", regions=True) == pytest.approx(SQUARED, rel=1e-6)
        assert value("gdl", regions=True, linear=True) == pytest.approx(LINEAR, rel=1e-6)

    def test_of_one_class_it_is_dice(self):
        assert value("gdl", include_background=False) == pytest.approx(value("dice"), rel=1e-6)
        linear = value("gdl", include_background=False, linear=True)
        assert linear == pytest.approx(value("dice", squared=False), rel=1e-6)

    def test_mean_over_samples(self):
        # A second row without a lesion: V = 0 and v = 1 of the foreground, V = 5 and v = 1 / 26 of the background,
        # sum p y = sum p = 3.
        logits = logits_of(P).repeat(2, 1, 1, 1)
        target = torch.cat([row(ROW), row([0] * 5)])
        empty = 1 - 2 * (3 / 26) / (1.06 + (2.06 + 5) / 26)
        assert build("gdl")(logits, target).item() == pytest.approx((SQUARED + empty) / 2, rel=1e-6)

    def test_false_positives_of_an_absent_class_alone_decide_the_linear_form(self):
        # v = 1e20 of the absent class and 1 / 25 of the other: 1, however good the prediction.
        assert value("gdl", [0.01] * 5, [0] * 5, linear=True) == pytest.approx(1, abs=1e-6)
        assert value("gdl", [0.01] * 5, [0] * 5) < 0.1

    def test_ignored_voxels_are_not_counted(self):
        # Without the third voxel, background: 2 voxels, sum p y = 1.7, sum p^2 = 1.7; foreground: sum p^2 = 0.9.
        labels = [0, 0, IGNORE, 1, 1]
        expected = 1 - 2 * (1.3 + 1.7) / (0.9 + 2 + 1.7 + 2)
        assert value("gdl", labels=labels, ignore_label=IGNORE) == pytest.approx(expected, rel=1e-6)
        target = torch.tensor([[0, 0, 0, 1, 1], [0, 0, 1, 0, 0]])[None, :, None]
        computed = build("gdl", regions=True, ignore_label=IGNORE)(logits_of(P, regions=True), target)
        assert computed.item() == pytest.approx(expected, rel=1e-6)

    def test_weighted(self):
        # Both classes have 3 voxels: the volumes are not weighted. Foreground: sum w p y = 2.3, sum w p^2 = 1.59,
        # sum w y = 4. Background: 0.9 + 0.7 + 0.8 = 2.4, 2 * 0.36 + 0.81 + 0.49 + 0.04 + 0.09 + 0.64 = 2.79 and 3.
        expected = 1 - 2 * (2.3 + 2.4) / (1.59 + 4 + 2.79 + 3)
        assert weighted_value("gdl") == pytest.approx(expected, rel=1e-6)
        # sum w p = 2.9 and 2 * 0.6 + 0.9 + 0.7 + 0.2 + 0.3 + 0.8 = 4.1.
        expected = 1 - 2 * (2.3 + 2.4) / (2.9 + 4 + 4.1 + 3)
        assert weighted_value("gdl", linear=True) == pytest.approx(expected, rel=1e-6)


class TestFocalGeneralizedDiceBCE:
    # Each of two classes against the rest has the same binary cross-entropy.
    bce = -(log(0.9) + log(0.8) + log(0.6) + log(0.7) + log(0.6)) / 5

    def test_by_hand(self):
        assert value("focal_gdl_bce") == pytest.approx(SQUARED**0.75 + self.bce, rel=1e-6)
        computed = value("focal_gdl_bce", gamma=2, bce_weight=0.3, linear=True)
        assert computed == pytest.approx(LINEAR**0.5 + 0.3 * self.bce, rel=1e-6)
        assert value("focal_gdl_bce", regions=True) == pytest.approx(SQUARED**0.75 + self.bce, rel=1e-6)

    def test_both_terms_are_of_the_counted_classes(self):
        # Class 1 in the first of two voxels. p y = 0.5, p^2 = 0.25 + 0.01; p y = 0.6, p^2 = 0.09 + 0.36. Each class
        # has one voxel.
        probabilities = torch.tensor([[0.2, 0.3], [0.5, 0.1], [0.3, 0.6]], dtype=torch.float64)
        loss = build("focal_gdl_bce", include_background=False, gamma=1)
        computed = loss(probabilities.log()[None, :, None], row([1, 2])).item()
        dice = 1 - 2 * (0.5 + 0.6) / (0.26 + 1 + 0.45 + 1)
        bce = -(log(0.5) + log(0.9) + log(0.7) + log(0.6)) / 4
        assert computed == pytest.approx(dice + bce, rel=1e-6)

    def test_weighted(self):
        dice = 1 - 2 * (2.3 + 2.4) / (1.59 + 4 + 2.79 + 3)
        bce = -(2 * log(0.4) + log(0.9) + log(0.7) + log(0.8) + log(0.7) + log(0.8)) / 6
        assert weighted_value("focal_gdl_bce") == pytest.approx(dice**0.75 + bce, rel=1e-6)

    def test_power_is_of_every_sample(self):
        logits = logits_of(P).repeat(2, 1, 1, 1)
        target = torch.cat([row(ROW), row([0] * 5)])
        empty = 1 - 2 * (3 / 26) / (1.06 + (2.06 + 5) / 26)
        computed = build("focal_gdl_bce", bce_weight=0)(logits, target).item()
        assert computed == pytest.approx((SQUARED**0.75 + empty**0.75) / 2, rel=1e-6)

    @pytest.mark.parametrize("gamma", [0, -1])
    def test_errors(self, gamma):
        with pytest.raises(ValueError, match=f"gamma > 0, but got {gamma}"):
            build("focal_gdl_bce", gamma=gamma)
