"""Trainers of the evidence that are no trainers of the package: one setting changed at a time, and what was dropped."""

from nnunet_rw.losses import Term
from nnunet_rw.trainer import RWTrainer
from nnunet_rw.variants import lengths

STOCK = Term("nnunet")


def weighted(**changed):
    """Dice + cross-entropy of `RWTrainer_IWDiceCE` with other weights."""
    options = {"reweight": "inverse_volume", "power": 0.5, "normalise": True, **changed}
    return Term("dice", options=options), Term("ce", options=options)


class RWTrial_Sampling(RWTrainer):
    """nnU-Net's loss, patches around lesions drawn each alike."""

    loss_terms = (STOCK,)
    oversample_by = "lesion"


class RWTrial_Power033(RWTrainer):
    """Weights to the power 1/3."""

    loss_terms = weighted(power=1 / 3)


class RWTrial_Power1(RWTrainer):
    """Weights to the power 1: every lesion alike."""

    loss_terms = weighted(power=1.0)


class RWTrial_Power1Cap(RWTrainer):
    """Weights to the power 1, at most 100 times the background's before they are normalised."""

    loss_terms = weighted(power=1.0, w_max=100.0)


class RWTrial_Case(RWTrainer):
    """Lesions counted in the whole volume."""

    loss_terms = weighted(scope="case")


class RWTrial_NotNormalised(RWTrainer):
    """Weights to the power 0.5 as the paper has them: the foreground gains."""

    loss_terms = weighted(normalise=False)


class RWTrial_WeightedCE(RWTrainer):
    """Weights on the cross-entropy alone, Dice as it is."""

    loss_terms = (Term("dice"), weighted()[1])


class RWTrial_StockAndWeightedCE(RWTrainer):
    """nnU-Net's loss, and weighted cross-entropy added."""

    loss_terms = (STOCK, weighted()[1])


class RWTrial_WeightedSampling(RWTrainer):
    """Weights and lesion-uniform patches."""

    loss_terms = weighted()
    oversample_by = "lesion"


class RWTrial_WeightedRRWSampling(RWTrainer):
    """Weights, region-wise maps and lesion-uniform patches."""

    loss_terms = (*weighted(), Term("rrw"))
    oversample_by = "lesion"


class RWTrial_WeightedCESampling(RWTrainer):
    """Weights on the cross-entropy alone, and lesion-uniform patches."""

    loss_terms = RWTrial_WeightedCE.loss_terms
    oversample_by = "lesion"


class RWTrial_RRWSampling(RWTrainer):
    """`RWTrainer` and lesion-uniform patches."""

    oversample_by = "lesion"


class RWTrial_CCSampling(RWTrainer):
    """`RWTrainer_CCDiceCE` and lesion-uniform patches."""

    loss_terms = (STOCK, Term("cc_dice_ce"))
    oversample_by = "lesion"


class RWTrial_BlobSampling(RWTrainer):
    """`RWTrainer_Blob` and lesion-uniform patches."""

    loss_terms = (Term("nnunet", 2.0), Term("blob"))
    oversample_by = "lesion"


__getattr__ = lengths(globals())
