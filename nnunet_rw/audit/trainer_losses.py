"""The losses of trainers without a trainer, built by the trainers' own code, so that audits cannot drift from them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.catalogue import trainer_classes
from nnunet_rw.losses import CompoundLoss, Term, unique_names
from nnunet_rw.trainer import STOCK_TERM, RWTrainer

STOCK_TRAINER = nnUNetTrainer.__name__
NUM_EPOCHS = 1000  # nnU-Net's


def trainer_loss(trainer: str, labels: LabelManager, batch_dice: bool = False) -> CompoundLoss:
    """The loss of a trainer, of one output: without deep supervision, and with its schedules at the training's end.

    Parameters
    ----------
    trainer : str
        One of this package, or nnUNetTrainer.
    labels : LabelManager
        nnU-Net's, of the dataset.
    batch_dice : bool
        Of the plans.
    """
    terms = (Term(STOCK_TERM),) if trainer == STOCK_TRAINER else trainer_classes()[trainer].loss_terms
    return loss_of_terms(terms, labels, batch_dice)


def loss_of_terms(terms: Sequence[Term], labels: LabelManager, batch_dice: bool = False) -> CompoundLoss:
    """As `trainer_loss`, of a trainer that has these terms."""
    # A real one wants plans, folders and a device; its losses depend on these alone.
    bare = object.__new__(RWTrainer)
    bare.label_manager = labels
    bare.configuration_manager = SimpleNamespace(batch_dice=batch_dice)
    bare.is_ddp = bare.enable_deep_supervision = False
    bare._do_i_compile = lambda: False
    stock = nnUNetTrainer._build_loss(bare)
    names = unique_names([term.loss for term in terms])
    built = [(name, term.weight, bare._build_term(term, stock)) for name, term in zip(names, terms, strict=True)]
    loss = CompoundLoss(built, **bare._heads())
    loss.set_epoch(NUM_EPOCHS - 1, NUM_EPOCHS)
    return loss
