"""Dice-like losses alone, as their papers have them."""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths

SUDRE = "Sudre et al. 2017, arXiv 1707.03237"


class RWTrainer_Dice(MapTrainer):
    """Dice with squares below."""

    loss_terms = (Term("dice"),)
    paper = "Milletari et al. 2016, arXiv 1606.04797"


class RWTrainer_ASL(MapTrainer):
    """Asymmetric similarity loss: missed voxels cost more than false ones."""

    loss_terms = (Term("asl"),)
    paper = "Hashemi et al. 2018, arXiv 1803.11078"


class RWTrainer_FocalTversky(MapTrainer):
    """Focal Tversky loss."""

    loss_terms = (Term("focal_tversky"),)
    paper = "Abraham & Khan 2019, arXiv 1810.07842"


class RWTrainer_GDL(MapTrainer):
    """Generalised Dice: classes weighing by the inverse square of their size."""

    loss_terms = (Term("gdl"),)
    paper = SUDRE


class RWTrainer_FocalGDLBCE(MapTrainer):
    """Focal generalised Dice + binary cross-entropy."""

    loss_terms = (Term("focal_gdl_bce"),)
    paper = SUDRE


__getattr__ = lengths(globals(), of_package=True)
