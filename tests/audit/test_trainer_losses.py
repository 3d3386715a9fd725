"""Losses built without a trainer are those of the trainers."""

import pytest
import torch
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.audit.gradients import loss_of_trainer
from nnunet_rw.losses import build
from nnunet_rw.training.catalogue import trainer_classes

BINARY = LabelManager({"background": 0, "lesion": 1}, None)
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
