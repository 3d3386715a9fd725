"""Shares of the gradient, against values taken by hand, of losses that are those of the trainers."""

import numpy as np
import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.audit.audit import AUDITED, REASONS, GradientAudit, audited_losses, loss_of_trainer
from nnunet_rw.audit.lesions import find_case_lesions
from nnunet_rw.losses import build
from nnunet_rw.maps.kinds import LabelScheme
from nnunet_rw.training.catalogue import trainer_classes

SPACING_MM = (1.0, 1.0, 2.0)
BINARY = LabelManager({"background": 0, "lesion": 1}, None)


def sums_of(labels, scheme, manager, spacing_mm=SPACING_MM, patch_size=None, pairs=1, seed=0):
    """(size classes + 1) sums by trainer."""
    lesions, ids = find_case_lesions(labels, scheme, spacing_mm)
    audit = GradientAudit(labels, lesions, ids, scheme, spacing_mm, patch_size)
    sums = audit.sums(audited_losses(manager, batch_dice=False), pairs, np.random.default_rng(seed))
    return dict(zip(AUDITED, sums, strict=True))


@pytest.fixture
def two_lesions():
    """Of 1 voxel (2 mm3, the first size class) and 8 voxels (16 mm3, the second) in 512."""
    labels = np.zeros((8, 8, 8), np.int16)
    labels[1, 1, 1] = 1
    labels[4:6, 4:6, 4:6] = 1
    return labels


def test_shares_by_hand(two_lesions):
    sums = sums_of(two_lesions, LabelScheme.classes(2), BINARY)
    shares = {trainer: row[1:] / row[1:].sum() for trainer, row in sums.items()}
    of_lesions = {trainer: row[1:].sum() / row.sum() for trainer, row in sums.items()}
    # Every lesion voxel has the same gradient.
    assert shares["nnUNetTrainer"] == pytest.approx([1 / 9, 8 / 9, 0, 0])
    # w = 512 / (3 V): lesions are alike, 512 / 3 each; the background's 512 / (3 * 503) is clipped to 1.
    assert shares["RWTrainer_IWCE"] == pytest.approx([0.5, 0.5, 0, 0])
    assert of_lesions["RWTrainer_IWCE"] == pytest.approx((2 * 512 / 3) / (2 * 512 / 3 + 503))
    # w is as V^-0.5: 1 against 8 / sqrt(8).
    for trainer in ("RWTrainer_IWDiceCE", "RWTrainer_SmallLesions"):  # the patch is the whole image
        assert shares[trainer] == pytest.approx([1 / (1 + np.sqrt(8)), np.sqrt(8) / (1 + np.sqrt(8)), 0, 0])
    # Every lesion voxel is 1 mm from the background, so D / max D = 1.
    for trainer in ("RWTrainer_RRW", "RWTrainer"):
        assert shares[trainer] == pytest.approx([1 / 9, 8 / 9, 0, 0])


def test_region_wise_maps_pull_deep_voxels_more():
    labels = np.zeros((9, 9, 9), np.int16)
    labels[1, 1, 1] = 1
    labels[3:6, 3:6, 3:6] = 1
    sums = sums_of(labels, LabelScheme.classes(2), BINARY, spacing_mm=(1, 1, 1))
    # In voxels D = 2 in the cube's middle and 1 elsewhere: 1 + D / max D is 2 and 1.5.
    assert sums["RWTrainer_RRW"][1] / sums["RWTrainer_RRW"][2] == pytest.approx(1.5 / (26 * 1.5 + 2))


def test_a_cut_lesion_has_the_size_of_the_whole():
    labels = np.zeros((4, 4, 16), np.int16)
    labels[1:3, 1:3, :] = 1  # 64 voxels, 128 mm3: third class; 16 mm3 in a patch
    for row in sums_of(labels, LabelScheme.classes(2), BINARY, patch_size=(4, 4, 2), pairs=3).values():
        assert row[[1, 2, 4]].tolist() == [0, 0, 0]
        assert row[3] > 0


def test_one_patch_of_two_is_around_a_lesion():
    labels = np.zeros((32, 32, 32), np.int16)
    labels[31, 0, 31] = 1
    for seed in range(5):
        row = sums_of(labels, LabelScheme.classes(2), BINARY, patch_size=(4, 4, 4), seed=seed)["nnUNetTrainer"]
        assert row[1] > 0


def test_lesions_are_drawn_alike_where_the_trainer_does():
    labels = np.zeros((32, 32, 32), np.int16)
    labels[31, 0, 31] = 1
    labels[4:16, 4:16, 4:16] = 1
    sums = sums_of(labels, LabelScheme.classes(2), BINARY, patch_size=(4, 4, 4), pairs=20)
    # A random voxel is one of the large lesion's, 1728 to 1.
    assert sums["RWTrainer_IWDiceCE"][1] == 0
    assert sums["RWTrainer_SmallLesions"][1] > 0


def test_same_seed_same_patches(blobs):
    labels = blobs((20, 24, 16))
    options = {"patch_size": (8, 8, 8), "pairs": 2}
    first, again, other = (
        sums_of(labels, LabelScheme.classes(2), BINARY, seed=seed, **options)["RWTrainer"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_regions_have_gradients_of_their_own():
    labels = np.zeros((8, 8, 8), np.int16)
    labels[2:4, 2:5, 2:5] = 1
    labels[2, 2, 2:4] = 2
    manager = LabelManager({"background": 0, "whole": [1, 2], "core": [2]}, [1, 2])
    sums = sums_of(labels, LabelScheme(((1, 2), (2,)), True), manager, spacing_mm=(1, 1, 1))
    # Whole: 18 voxels, core: 2; each weighs 512 / 2 in its own channel.
    assert sums["RWTrainer_IWCE"][1:] / sums["RWTrainer_IWCE"][1:].sum() == pytest.approx([0.5, 0.5, 0, 0])
    assert all(np.isfinite(row).all() and row[0] > 0 for row in sums.values())


@pytest.mark.parametrize("regions", [False, True])
def test_unlabelled_voxels_have_no_gradient(two_lesions, regions):
    # All background is unlabelled.
    labels = np.where(two_lesions == 0, 3, two_lesions).astype(np.int16)
    labels[0, 0, 0] = 2
    names = {"background": 0, "whole": [1, 2] if regions else 1, "core": [2] if regions else 2, "ignore": 3}
    manager = LabelManager(names, [1, 2] if regions else None)
    scheme = LabelScheme(((1, 2), (2,)), True, 3) if regions else LabelScheme.classes(3, ignore_label=3)
    for row in sums_of(labels, scheme, manager).values():
        assert row[1:].sum() > 0
        # Of regions the core's channel has background within the whole.
        assert (row[0] > 0) == regions


@pytest.mark.parametrize("shape", [(12, 16, 16), (16, 16)])
def test_two_dimensional_patches(blobs, shape):
    labels = blobs((12, 16, 16)) if len(shape) == 3 else blobs((12, 16, 16)).max(0)
    sums = sums_of(labels, LabelScheme.classes(2), BINARY, spacing_mm=(1.0,) * len(shape), patch_size=(8, 10), pairs=2)
    assert all(row[0] > 0 and row[1:].sum() > 0 for row in sums.values())


def test_a_case_without_lesions_has_background_alone():
    for row in sums_of(np.zeros((6, 6, 6), np.int16), LabelScheme.classes(2), BINARY).values():
        assert row[0] > 0
        assert row[1:].tolist() == [0, 0, 0, 0]


def test_all_that_may_be_recommended_are_audited():
    assert set(REASONS) <= set(AUDITED)
    assert set(AUDITED) <= {"nnUNetTrainer", *trainer_classes()}


REGIONS = LabelManager({"background": 0, "whole": [1, 2], "core": [2]}, [1, 2])


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 6, 7, 8, generator=generator)
    return logits, (torch.rand(2, 1, 6, 7, 8, generator=generator) > 0.7).float()


@pytest.mark.parametrize("batch_dice", [False, True])
def test_stock_loss_is_nnunets(batch, batch_dice):
    dice = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
    expected = DC_and_CE_loss(dice, {}, dice_class=MemoryEfficientSoftDiceLoss)(*batch)
    torch.testing.assert_close(loss_of_trainer("nnUNetTrainer", BINARY, batch_dice)(*batch), expected)


def test_stock_loss_of_regions_is_nnunets(batch):
    logits, target = batch
    regions = torch.cat([target, 1 - target], 1)
    dice = {"batch_dice": False, "smooth": 1e-5, "do_bg": True, "ddp": False}
    expected = DC_and_BCE_loss({}, dice, dice_class=MemoryEfficientSoftDiceLoss)(logits, regions)
    torch.testing.assert_close(loss_of_trainer("nnUNetTrainer", REGIONS)(logits, regions), expected)


def test_terms_are_added(batch):
    stock, rrw = loss_of_trainer("nnUNetTrainer", BINARY)(*batch), build("rrw")(*batch)
    # Twice the mean over two classes is their sum, and its weight has grown to 4.
    torch.testing.assert_close(loss_of_trainer("RWTrainer", BINARY)(*batch), stock + 4 * 2 * rrw)
    torch.testing.assert_close(loss_of_trainer("RWTrainer_RRW", BINARY)(*batch), rrw)


@pytest.mark.parametrize("trainer", list(trainer_classes()))
def test_every_trainer_has_a_loss(trainer):
    loss = loss_of_trainer(trainer, BINARY)
    assert len(loss.terms) == len(trainer_classes()[trainer].loss_terms)
