"""Losses that are a mean over lesions, added to nnU-Net's."""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths


class RWTrainer_Blob(MapTrainer):
    """Dice + cross-entropy twice, plus the Dice of every lesion once."""

    loss_terms = (Term("nnunet", 2.0), Term("blob"))
    paper = "Kofler et al. 2023, arXiv 2205.08209"


class RWTrainer_CCDiceCE(MapTrainer):
    """Dice + cross-entropy plus the same within every lesion's cell."""

    loss_terms = (Term("nnunet"), Term("cc_dice_ce"))
    paper = "Bouteille et al. 2025, arXiv 2511.17146"


__getattr__ = lengths(globals(), of_package=True)
