"""Dice-like losses by hand, the generalised ones too."""

from math import log

import pytest
import torch
from loss_problems import IGNORE, ROW, SHIFTED, P, logits_of, row, value, weighted_value

from nnunet_rw.losses import build


class TestDice:
    def test_by_hand(self):
        # sum p y = 1.3, sum y = 2, sum p = 2.0, sum p^2 = 0.01 + 0.04 + 0.16 + 0.49 + 0.36 = 1.06.
        assert value("dice") == pytest.approx(1 - 2.6 / 3.06, rel=1e-6)
        assert value("dice", squared=False) == pytest.approx(1 - 2.6 / 4, rel=1e-6)
        assert value("dice", squared=False, smooth=0.5) == pytest.approx(1 - 3.1 / 4.5, rel=1e-6)
        # Background: sum p y = 0.9 + 0.8 + 0.6 = 2.3, sum y = sum p = 3.
        assert value("dice", squared=False, include_background=True) == pytest.approx(
            1 - (2.6 / 4 + 4.6 / 6) / 2, rel=1e-6
        )

    def test_ignored_voxels_are_not_counted(self):
        # Without the third voxel: sum p y = 1.3, sum p^2 = 0.9.
        computed = value("dice", labels=[0, 0, IGNORE, 1, 1], ignore_label=IGNORE)
        assert computed == pytest.approx(1 - 2.6 / 2.9, rel=1e-6)

    def test_over_the_batch(self):
        # Sums over both rows: the second predicts P too, but holds no lesion. 2 * 1.3 / (2 + 2 * 1.06).
        logits = logits_of(P).repeat(2, 1, 1, 1)
        target = torch.cat([row(ROW), row([0] * 5)])
        assert build("dice", batch_dice=True)(logits, target).item() == pytest.approx(1 - 2.6 / 4.12, rel=1e-6)
        assert build("dice")(logits, target).item() == pytest.approx(1 - (2.6 / 3.06 + 0) / 2, rel=1e-6)

    def test_weighted(self):
        # sum w p y = 2 * 0.4 + 0.8 + 0.7 = 2.3; sum w p^2 = 2 * 0.16 + 0.01 + 0.09 + 0.64 + 0.49 + 0.04 = 1.59;
        # sum w y = 4.
        assert weighted_value("dice") == pytest.approx(1 - 4.6 / 5.59, rel=1e-6)


class TestAsymmetricSimilarity:
    def test_by_hand(self):
        # With b = 2: 5 sum p y / (4 sum y + sum p^2), or + sum p in the linear form; a missed voxel costs more.
        assert value("asl", beta=2) == pytest.approx(1 - 6.5 / (8 + 1.06), rel=1e-6)
        assert value("asl", beta=2, linear=True) == pytest.approx(1 - 6.5 / (8 + 2), rel=1e-6)
        assert value("asl") == pytest.approx(1 - 3.25 * 1.3 / (2.25 * 2 + 1.06), rel=1e-6)
        assert value("asl", beta=1) == pytest.approx(value("dice"), rel=1e-12)

    def test_below_1_the_squared_form_would_not_want_the_truth(self):
        # With b = 0.3 the loss of p = 0.3 in the class, and of 0 elsewhere, is below that of the truth.
        p = torch.tensor([0.3, 1.0])
        assert torch.equal((1 + 0.09) * p / (0.09 + p * p) > 1, torch.tensor([True, False]))
        with pytest.raises(ValueError, match=r"beta of at least 1, or linear=True with it, but got 0\.3"):
            build("asl", beta=0.3)
        target = row(ROW)
        perfect = torch.cat([1 - target, target], 1) * 40.0
        assert build("asl", beta=0.3, linear=True)(perfect, target).item() == pytest.approx(0, abs=1e-6)

    def test_weighted(self):
        # The sums as above: 5 * 2.3 / (4 * 4 + 1.59).
        assert weighted_value("asl", beta=2) == pytest.approx(1 - 11.5 / 17.59, rel=1e-6)


class TestFocalTversky:
    # Of the shifted prediction: found 0.8 + 0.4 = 1.2, missed 0.2 + 0.6 = 0.8, false 0.1 + 0.2 + 0.7 = 1.0.
    def test_by_hand(self):
        tversky = 1.2 / (1.2 + 0.7 * 0.8 + 0.3 * 1.0)
        assert value("focal_tversky", SHIFTED) == pytest.approx((1 - tversky) ** 0.75, rel=1e-6)
        assert value("focal_tversky", SHIFTED, regions=True) == pytest.approx((1 - tversky) ** 0.75, rel=1e-6)

    def test_alpha_is_of_the_missed_and_beta_of_the_false(self):
        tversky = 1.2 / (1.2 + 0.9 * 0.8 + 0.2 * 1.0)
        computed = value("focal_tversky", SHIFTED, alpha=0.9, beta=0.2, gamma=2)
        assert computed == pytest.approx((1 - tversky) ** 0.5, rel=1e-6)

    def test_half_and_half_is_dice(self):
        computed = value("focal_tversky", SHIFTED, alpha=0.5, beta=0.5, gamma=1)
        assert computed == pytest.approx(value("dice", SHIFTED, squared=False), rel=1e-6)

    def test_smooth(self):
        tversky = (1.2 + 0.4) / (1.2 + 0.7 * 0.8 + 0.3 * 1.0 + 0.4)
        assert value("focal_tversky", SHIFTED, smooth=0.4) == pytest.approx((1 - tversky) ** 0.75, rel=1e-6)

    def test_mean_is_of_the_powers(self):
        # Background: found 0.9 + 0.8 + 0.3 = 2.0, missed 1.0, false 0.8.
        foreground, background = 1.2 / (1.2 + 0.7 * 0.8 + 0.3 * 1.0), 2 / (2 + 0.7 * 1.0 + 0.3 * 0.8)
        computed = value("focal_tversky", SHIFTED, include_background=True)
        assert computed == pytest.approx(((1 - foreground) ** 0.75 + (1 - background) ** 0.75) / 2, rel=1e-6)

    def test_over_the_batch(self):
        # The second row holds no lesion and adds 2.2 false: alone its score is 0.
        logits = logits_of(SHIFTED).repeat(2, 1, 1, 1)
        target = torch.cat([row(ROW), row([0] * 5)])
        tversky = 1.2 / (1.2 + 0.7 * 0.8 + 0.3 * 3.2)
        computed = build("focal_tversky", batch_dice=True)(logits, target).item()
        assert computed == pytest.approx((1 - tversky) ** 0.75, rel=1e-6)
        tversky = 1.2 / (1.2 + 0.7 * 0.8 + 0.3 * 1.0)
        assert build("focal_tversky")(logits, target).item() == pytest.approx(((1 - tversky) ** 0.75 + 1) / 2, rel=1e-6)

    def test_weighted(self):
        # Found 2.3, missed 2 * 0.6 + 0.2 + 0.3 = 1.7, false 0.6.
        tversky = 2.3 / (2.3 + 0.7 * 1.7 + 0.3 * 0.6)
        assert weighted_value("focal_tversky") == pytest.approx((1 - tversky) ** 0.75, rel=1e-6)

    def test_perfect_prediction_has_no_infinite_gradient(self):
        # x^(3/4) has slope infinity at 0.
        logits = torch.tensor([[-1000.0, 1000]])[None, None].requires_grad_()
        loss = build("focal_tversky", regions=True)(logits, row([0, 1]))
        loss.backward()
        assert loss.item() == pytest.approx(1e-6**0.75, rel=1e-6)
        assert not logits.grad.any()

    @pytest.mark.parametrize(
        ("options", "got"),
        [
            ({"alpha": -0.1}, r"alpha of at least 0, but got -0\.1"),
            ({"beta": -1}, r"beta of at least 0, but got -1"),
            ({"gamma": 0}, r"gamma above 0, but got 0"),
        ],
    )
    def test_errors(self, options, got):
        with pytest.raises(ValueError, match=f"Expected {got}"):
            build("focal_tversky", **options)


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

    @pytest.mark.parametrize("linear", [False, True])
    def test_a_sample_without_a_labelled_voxel(self, linear):
        computed = value("gdl", labels=[IGNORE] * 5, ignore_label=IGNORE, linear=linear)
        assert computed == pytest.approx(1)

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
        with pytest.raises(ValueError, match=f"gamma above 0, but got {gamma}"):
            build("focal_gdl_bce", gamma=gamma)
