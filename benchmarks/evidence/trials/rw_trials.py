"""Trainers of the evidence that are no trainers of the package: candidates for small lesions, and another optimiser."""

import torch

from nnunet_rw.losses import LOSSES, Term
from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.losses.lesion_wise import LesionWiseLoss
from nnunet_rw.trainers.rw_inverse_volume import RWTrainer_SmallLesions
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths


class PeakLoss(LesionWiseLoss):
    """-log of the highest probability in every lesion, mean over the lesions of a batch and class.

    A lesion is detected where a single voxel of it is: the loss asks for no more, and its gradient is that voxel's.
    """

    def compute(self, inputs: LossInputs) -> torch.Tensor:
        log_p, ids = self.chosen(inputs.log_probabilities), self.ids_by_class(inputs)
        number = inputs.lesion_table.shape[2]
        lowest = log_p.new_full((*log_p.shape[:2], number), -torch.inf)
        peaks = lowest.scatter_reduce(2, ids.flatten(2), log_p.flatten(2), "amax")[..., 1:]
        seen = torch.isfinite(peaks)
        return -torch.where(seen, peaks, 0).sum() / seen.sum().clamp_min(1)

    def formula(self) -> str:
        return "mean over lesions of -log max(p)"


LOSSES["peak"] = PeakLoss


class RWTrial_StockAdam(MapTrainer):
    """nnU-Net's loss with Adam."""

    loss_terms = (Term("nnunet"),)
    optimizer_name = "adam"
    initial_lr = 1e-3


class RWTrial_SmallLesionsAdam(RWTrainer_SmallLesions):
    """`RWTrainer_SmallLesions` with Adam."""

    optimizer_name = "adam"
    initial_lr = 1e-3


class RWTrial_Peak(MapTrainer):
    """nnU-Net's loss, and every lesion's best voxel; patches drawn around lesions."""

    loss_terms = (Term("nnunet"), Term("peak", 0.5))
    oversample_by = "lesion"


class RWTrial_CCSampling(MapTrainer):
    """`RWTrainer_CCDiceCE` with patches drawn around lesions."""

    loss_terms = (Term("nnunet"), Term("cc_dice_ce"))
    oversample_by = "lesion"


__getattr__ = lengths(globals())
