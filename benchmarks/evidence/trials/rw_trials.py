"""Trainers of the evidence that are no trainers of the package.

`RWTrainer_IWDiceCE` with one setting changed, and region-wise losses as the package had them when the evidence was
made: with SGD, and with weights that left rectified maps 2 % of the gradient.
"""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths


def weighted(**changed):
    """Dice + cross-entropy of `RWTrainer_IWDiceCE` with other weights."""
    options = {"reweight": "inverse_volume", "power": 0.5, "normalise": True, **changed}
    return Term("dice", options=options), Term("ce", options=options)


class RWTrial_Power033(MapTrainer):
    """Weights to the power 1/3."""

    loss_terms = weighted(power=1 / 3)


class RWTrial_Power1(MapTrainer):
    """Weights to the power 1: every lesion alike."""

    loss_terms = weighted(power=1.0)


class RWTrial_Power1Cap(MapTrainer):
    """Weights to the power 1, none above 100 before they are normalised."""

    loss_terms = weighted(power=1.0, w_max=100.0)


class RWTrial_Power1CapSampling(RWTrial_Power1Cap):
    """And lesion-uniform patches."""

    oversample_by = "lesion"


class RWTrial_Case(MapTrainer):
    """Lesions counted in the whole volume."""

    loss_terms = weighted(scope="case")


class RWTrial_WeightedCE(MapTrainer):
    """Weights on the cross-entropy alone, Dice as it is."""

    loss_terms = (Term("dice"), weighted()[1])


class RWTrial_RRWMean(MapTrainer):
    """nnU-Net's loss plus the mean over classes of rectified maps, weight 1."""

    loss_terms = (Term("nnunet"), Term("rrw"))


class RWTrial_RRWAloneSGD(MapTrainer):
    """Rectified maps alone, with nnU-Net's SGD."""

    loss_terms = (Term("rrw"),)


class RWTrial_Rebalance(MapTrainer):
    """nnU-Net's loss giving way to boundary maps within 98 epochs. (When it was trained, these were carried signed.)"""

    loss_terms = (Term("nnunet", "rebalance_region"), Term("boundary", "rebalance_boundary"))


class RWTrial_WeightedRRW(MapTrainer):
    """Weights and rectified maps."""

    loss_terms = (*weighted(), Term("rrw"))


class RWTrial_WeightedRRWSampling(MapTrainer):
    """Weights, region-wise maps and lesion-uniform patches."""

    loss_terms = (*weighted(), Term("rrw"))
    oversample_by = "lesion"


class RWTrial_Sampling(MapTrainer):
    """nnU-Net's loss, patches around lesions drawn each alike."""

    loss_terms = (Term("nnunet"),)
    oversample_by = "lesion"


__getattr__ = lengths(globals())
