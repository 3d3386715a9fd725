"""Cross-entropies and focal losses alone, as their papers have them."""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths

LIN = "Lin et al. 2017, arXiv 1708.02002"


class RWTrainer_CE(MapTrainer):
    """Cross-entropy."""

    loss_terms = (Term("ce"),)
    paper = "Ronneberger et al. 2015, arXiv 1505.04597"


class RWTrainer_WCE(MapTrainer):
    """Cross-entropy whose positive voxels weigh by what is predicted."""

    loss_terms = (Term("wce"),)
    paper = "Sudre et al. 2017, arXiv 1707.03237"


class RWTrainer_TopK(MapTrainer):
    """Cross-entropy of the worst 10 % of voxels."""

    loss_terms = (Term("topk"),)
    paper = "Wu et al. 2016, arXiv 1605.06885"


class RWTrainer_Focal(MapTrainer):
    """Focal loss, foreground against the rest."""

    loss_terms = (Term("focal"),)
    paper = LIN


class RWTrainer_SoftmaxFocal(MapTrainer):
    """Focal loss of the softmax."""

    loss_terms = (Term("softmax_focal"),)
    paper = LIN


__getattr__ = lengths(globals(), of_package=True)
