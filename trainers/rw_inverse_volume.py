"""Losses that see how large a voxel's lesion is: inverse lesion-volume weighting (Shirokikh et al. 2020)."""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths

SHIROKIKH = "Shirokikh et al. 2020, arXiv 2007.10033"

# The paper's formula, its clipping included: w = N / ((K + 1) V) within the patch.
PAPERS_WEIGHTS = {"reweight": "inverse_volume"}
# Milder, and as heavy as the foreground is anyway: the paper's weights raise false positives many times over.
BALANCED_WEIGHTS = {"reweight": "inverse_volume", "power": 0.5, "normalise": True}


class RWTrainer_IWCE(MapTrainer):
    """Cross-entropy with the paper's inverse-volume weights."""

    loss_terms = (Term("ce", options=PAPERS_WEIGHTS),)
    paper = SHIROKIKH


class RWTrainer_IWDice(MapTrainer):
    """Dice with the paper's inverse-volume weights."""

    loss_terms = (Term("dice", options=PAPERS_WEIGHTS),)
    paper = SHIROKIKH


class RWTrainer_IWFocal(MapTrainer):
    """Focal loss with the paper's inverse-volume weights."""

    loss_terms = (Term("focal", options=PAPERS_WEIGHTS),)
    paper = SHIROKIKH


class RWTrainer_IWASL(MapTrainer):
    """Asymmetric similarity loss with the paper's inverse-volume weights."""

    loss_terms = (Term("asl", options=PAPERS_WEIGHTS),)
    paper = SHIROKIKH


class RWTrainer_IWDiceCE(MapTrainer):
    """Dice + cross-entropy with inverse-volume weights to the power 0.5 and a mean of 1 over the foreground."""

    loss_terms = (Term("dice", options=BALANCED_WEIGHTS), Term("ce", options=BALANCED_WEIGHTS))
    paper = SHIROKIKH


class RWTrainer_SmallLesions(RWTrainer_IWDiceCE):
    """For many small lesions: `RWTrainer_IWDiceCE`, and patches drawn around lesions, each alike."""

    oversample_by = "lesion"


class RWTrainer_SmallLesionsAdam(RWTrainer_SmallLesions):
    """`RWTrainer_SmallLesions` with Adam, for short trainings; nnUNetTrainerVanillaAdam1en3 has nnU-Net's loss so."""

    optimizer_name = "adam"
    initial_lr = 1e-3


class RWTrainer_IWDiceCE_RRW(MapTrainer):
    """`RWTrainer_IWDiceCE` plus rectified region-wise maps, with the weight that `RWTrainer` gives them."""

    loss_terms = (*RWTrainer_IWDiceCE.loss_terms, Term("rrw", "4 * ramp_up", {"sum_classes": True}))
    paper = f"{SHIROKIKH}; Valverde & Tohka 2022, arXiv 2108.01405"


__getattr__ = lengths(globals(), of_package=True)
