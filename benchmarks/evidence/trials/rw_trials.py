"""Trainers of the evidence that are no trainers of the package: the same losses with Adam."""

from nnunet_rw.losses import Term
from nnunet_rw.trainers.rw_inverse_volume import BALANCED_WEIGHTS, RWTrainer_SmallLesions
from nnunet_rw.trainers.rw_region_wise import RWTrainer
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths


class RWTrial_StockAdam(MapTrainer):
    """nnU-Net's loss with Adam."""

    loss_terms = (Term("nnunet"),)
    optimizer_name = "adam"
    initial_lr = 1e-3


class RWTrial_RegionWiseAdam(RWTrainer):
    """`RWTrainer` with Adam."""

    optimizer_name = "adam"
    initial_lr = 1e-3


class RWTrial_SmallLesionsAdam(RWTrainer_SmallLesions):
    """`RWTrainer_SmallLesions` with Adam."""

    optimizer_name = "adam"
    initial_lr = 1e-3


class RWTrial_LinearSmallLesionsAdam(RWTrial_SmallLesionsAdam):
    """The same with Dice as nnU-Net has it, p in place of p^2."""

    loss_terms = (
        Term("dice", options={**BALANCED_WEIGHTS, "squared": False}),
        Term("ce", options=BALANCED_WEIGHTS),
    )


__getattr__ = lengths(globals())
