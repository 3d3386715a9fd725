"""Trainers of the evidence that are no trainers of the package."""

from nnunet_rw.losses import Term
from nnunet_rw.trainers.rw_inverse_volume import BALANCED_WEIGHTS, RWTrainer_SmallLesionsAdam
from nnunet_rw.training.variants import lengths


class RWTrial_LinearSmallLesionsAdam(RWTrainer_SmallLesionsAdam):
    """`RWTrainer_SmallLesionsAdam` with Dice as nnU-Net has it, p in place of p^2."""

    loss_terms = (
        Term("dice", options={**BALANCED_WEIGHTS, "squared": False}),
        Term("ce", options=BALANCED_WEIGHTS),
    )


__getattr__ = lengths(globals())
