"""Fuzzy rough losses by hand."""

from math import exp

import pytest
import torch
from loss_problems import IGNORE, ROW, SHIFTED, P, logits_of, row, value, weighted_value

from nnunet_rw.losses import build


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
