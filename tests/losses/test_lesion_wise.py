"""Losses over lesions by hand."""

from math import log

import pytest
import torch
from loss_problems import IGNORE, LESIONS, P_LESIONS, logits_of, row, value

from nnunet_rw.losses import build

# Both pieces of the row are one lesion.
ONE_LESION = {"lesion_ids": row([1.0, 0, 0, 1, 1, 0])}
# Three classes in four voxels: class 1 in the first, class 2 in the third and fourth.
THREE = torch.tensor([[0.3, 0.8, 0.2, 0.3], [0.6, 0.1, 0.3, 0.2], [0.1, 0.1, 0.5, 0.5]], dtype=torch.float64)
THREE_LABELS = row([1, 0, 2, 2])


class TestBlob:
    # Probabilities 0.4 | 0.1 0.3 | 0.8 0.7 | 0.2: sum p^2 of the background 0.01 + 0.09 + 0.04 = 0.14, of the lesions
    # 0.16 and 0.64 + 0.49 = 1.13.
    first, second = 1 - 2 * 0.4 / (0.14 + 0.16 + 1), 1 - 2 * 1.5 / (0.14 + 1.13 + 2)

    def test_by_hand(self):
        expected = (self.first + self.second) / 2
        assert value("blob", P_LESIONS, LESIONS) == pytest.approx(expected, rel=1e-6)
        assert value("blob", P_LESIONS, LESIONS, regions=True) == pytest.approx(expected, rel=1e-6)

    def test_linear(self):
        # sum p of the background 0.6.
        expected = 1 - (2 * 0.4 / (0.6 + 0.4 + 1) + 2 * 1.5 / (0.6 + 1.5 + 2)) / 2
        assert value("blob", P_LESIONS, LESIONS, squared=False) == pytest.approx(expected, rel=1e-6)

    def test_pieces_of_one_lesion(self):
        # sum p = 1.9, sum p^2 = 1.29, three voxels.
        expected = 1 - 2 * 1.9 / (0.14 + 1.29 + 3)
        assert value("blob", P_LESIONS, LESIONS, maps=dict(ONE_LESION)) == pytest.approx(expected, rel=1e-6)

    def test_background_of_a_class_holds_the_other_classes(self):
        # Class 1: 0.36 and one voxel, 0.01 + 0.09 + 0.04 elsewhere; class 2: 0.25 twice, 0.01 + 0.01 elsewhere.
        expected = 1 - (2 * 0.6 / (0.14 + 0.36 + 1) + 2 * 1 / (0.02 + 0.5 + 2)) / 2
        loss = build("blob")(THREE.log()[None, :, None], THREE_LABELS)
        assert loss.item() == pytest.approx(expected, rel=1e-6)

    def test_mean_over_samples_that_have_lesions(self):
        logits = torch.cat([logits_of(P_LESIONS), logits_of([0.9] * 6)])
        target = torch.cat([row(LESIONS), row([0] * 6)])
        assert build("blob")(logits, target).item() == pytest.approx((self.first + self.second) / 2, rel=1e-6)

    def test_mean_over_classes_counts_one_without_lesions(self):
        logits = torch.tensor([[0.5, 0.3], [0.4, 0.2], [0.1, 0.5]], dtype=torch.float64).log()[None, :, None]
        expected = (1 - 2 * 0.4 / (0.04 + 0.16 + 1)) / 2
        assert build("blob")(logits, row([1, 0])).item() == pytest.approx(expected, rel=1e-6)

    def test_without_lesions_it_is_zero(self):
        assert value("blob", [0.9] * 5, [0] * 5) == 0
        assert value("blob", [0.9] * 5, [0] * 5, regions=True) == 0

    def test_ignored_voxels_are_not_counted(self):
        # Without the second and fifth: 0.09 + 0.04 of the background, the second lesion has one voxel.
        computed = value("blob", P_LESIONS, [1, IGNORE, 0, 1, IGNORE, 0], ignore_label=IGNORE)
        expected = 1 - (0.8 / (0.13 + 0.16 + 1) + 1.6 / (0.13 + 0.64 + 1)) / 2
        assert computed == pytest.approx(expected, rel=1e-6)


class TestCCDiceCE:
    # The second voxel is nearest to the first lesion, the third to the second.
    # First cell, 0.4 0.1: sum p y = 0.4, sum p = 0.5, sum y = 1. Second, 0.3 0.8 0.7 0.2: 1.5, 2 and 2.
    first_ce, second_ce = -(log(0.4) + log(0.9)) / 2, -(log(0.7) + log(0.8) + log(0.7) + log(0.8)) / 4

    def test_by_hand(self):
        expected = (1 - 0.8 / 1.5 + self.first_ce + 1 - 3 / 4 + self.second_ce) / 2
        assert value("cc_dice_ce", P_LESIONS, LESIONS, smooth=0) == pytest.approx(expected, rel=1e-6)
        assert value("cc_dice_ce", P_LESIONS, LESIONS) == pytest.approx(expected, rel=1e-4)
        computed = value("cc_dice_ce", P_LESIONS, LESIONS, regions=True, smooth=0)
        assert computed == pytest.approx(expected, rel=1e-6)

    def test_smooth_and_weight(self):
        expected = (1 - 1.2 / 1.9 + 0.3 * self.first_ce + 1 - 3.4 / 4.4 + 0.3 * self.second_ce) / 2
        computed = value("cc_dice_ce", P_LESIONS, LESIONS, smooth=0.4, ce_weight=0.3)
        assert computed == pytest.approx(expected, rel=1e-6)

    def test_pieces_of_one_lesion_have_one_cell(self):
        # The whole row: sum p y = 1.9, sum p = 2.5, sum y = 3.
        computed = value("cc_dice_ce", P_LESIONS, LESIONS, maps=dict(ONE_LESION), smooth=0)
        expected = 1 - 3.8 / 5.5 + (2 * self.first_ce + 4 * self.second_ce) / 6
        assert computed == pytest.approx(expected, rel=1e-6)

    @pytest.mark.parametrize(
        ("spacing", "corners"),
        [
            # Lesions in the upper left and the lower right of 2 x 3 voxels, and the two other corners. One step down is
            # less than two across, so that the columns divide the image; or more, and the rows do.
            ((1, 1), [[0, 0, 1], [0, 1, 1]]),
            ((5, 1), [[0, 0, 0], [1, 1, 1]]),
        ],
    )
    def test_cells_are_nearest_in_mm(self, spacing, corners):
        p = torch.tensor([[0.9, 0.2, 0.3], [0.4, 0.1, 0.7]], dtype=torch.float64)
        target = torch.tensor([[1, 0, 0], [0, 0, 1]])
        cells = torch.tensor(corners)
        losses = []
        for number in (0, 1):
            inside, y = p[cells == number], target[cells == number]
            right = torch.where(y > 0, inside, 1 - inside)
            losses.append(1 - 2 * (inside * y).sum() / (inside + y).sum() - right.log().mean())
        loss = build("cc_dice_ce", regions=True, smooth=0)
        computed = loss(torch.logit(p)[None, None], target[None, None], None, spacing)
        assert computed.item() == pytest.approx(sum(losses).item() / 2, rel=1e-6)

    def test_classes_have_their_own_cells(self):
        # One lesion of each, so each class has one cell: the row.
        dice = (1 - 2 * 0.6 / (1.2 + 1) + 1 - 2 * 1 / (1.2 + 2)) / 2
        ce = -(log(0.6) + log(0.9) + log(0.7) + log(0.8) + 2 * log(0.9) + 2 * log(0.5)) / 8
        loss = build("cc_dice_ce", smooth=0)(THREE.log()[None, :, None], THREE_LABELS)
        assert loss.item() == pytest.approx(dice + ce, rel=1e-6)

    def test_without_lesions_false_positives_count(self):
        # One cell, the row: Dice smooth / (sum p + smooth).
        computed = value("cc_dice_ce", [0.2, 0.1, 0.7], [0] * 3, smooth=0.5)
        expected = 1 - 0.5 / 1.5 - (log(0.8) + log(0.9) + log(0.3)) / 3
        assert computed == pytest.approx(expected, rel=1e-6)
        assert value("cc_dice_ce", [0.9] * 5, [0] * 5) > 3 > 0.1 > value("cc_dice_ce", [1e-8] * 5, [0] * 5)

    def test_mean_over_samples(self):
        # The second sample has one lesion: its cell weighs as much as the two of the first together.
        logits = torch.cat([logits_of(P_LESIONS), logits_of([0.6] * 6)])
        target = torch.cat([row(LESIONS), row([1, 0, 0, 0, 0, 0])])
        first = (1 - 0.8 / 1.5 + self.first_ce + 1 - 3 / 4 + self.second_ce) / 2
        second = 1 - 1.2 / 4.6 - (log(0.6) + 5 * log(0.4)) / 6
        loss = build("cc_dice_ce", smooth=0)(logits, target)
        assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)

    def test_ignored_voxels_are_not_counted(self):
        # Without the second and fifth: the first cell holds the first voxel alone, the second 0.3 0.8 0.2.
        computed = value("cc_dice_ce", P_LESIONS, [1, IGNORE, 0, 1, IGNORE, 0], ignore_label=IGNORE, smooth=0)
        first, second = 1 - 0.8 / 1.4 - log(0.4), 1 - 1.6 / 2.3 - (log(0.7) + 2 * log(0.8)) / 3
        assert computed == pytest.approx((first + second) / 2, rel=1e-6)


@pytest.mark.parametrize("name", ["blob", "cc_dice_ce"])
def test_background_has_no_lesions(name):
    with pytest.raises(ValueError, match="include_background=False: background has no lesions"):
        build(name, include_background=True)


@pytest.mark.parametrize("name", ["blob", "cc_dice_ce"])
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_sums_of_large_lesions_are_exact(name, noise):
    """A lesion of half a million voxels: added one by one in float32, Dice of a good prediction was below 0."""
    target = torch.zeros(1, 1, 100, 100, 100, dtype=torch.long)
    target[:, :, :50] = 1
    logits = torch.zeros(1, 2, 100, 100, 100)
    logits[:, 1] = torch.where(target[:, 0] == 1, 4.0, -4.0)
    logits += noise * torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    single, double = logits.requires_grad_(), logits.detach().double().requires_grad_()
    losses = [build(name)(values, target) for values in (single, double)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-4)
    gradients = [*torch.autograd.grad(losses[0], single), *torch.autograd.grad(losses[1], double)]
    difference = torch.linalg.vector_norm(gradients[0] - gradients[1])
    assert difference < 1e-4 * torch.linalg.vector_norm(gradients[1])
