"""Losses that see where a voxel lies: region-wise maps, signed distances, active contours."""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import RWTrainer
from nnunet_rw.training.variants import lengths


class RWTrainer_RRW(RWTrainer):
    """Rectified region-wise loss alone, trained with Adam as its authors do (Valverde & Tohka 2022)."""

    loss_terms = (Term("rrw"),)
    # The authors have 1e-4 and 75 000 iterations; ten times that gets as far in a fraction of them.
    optimizer_name = "adam"
    initial_lr = 1e-3


class RWTrainer_Boundary(RWTrainer):
    """Dice + cross-entropy giving way to the boundary loss over the whole training (Kervadec et al. 2019)."""

    loss_terms = (Term("nnunet", "falling"), Term("boundary", "rising"))
    paper = "Kervadec et al. 2019, arXiv 1812.07032"


class RWTrainer_ActiveContour(RWTrainer):
    """Dice + cross-entropy plus active contours: region and length (Chen et al. 2019)."""

    loss_terms = (Term("nnunet"), Term("active_contour"))
    paper = "Chen et al. 2019, CVPR"


class RWTrainer_GSL(RWTrainer):
    """Dice + cross-entropy plus the generalised surface loss."""

    loss_terms = (Term("nnunet"), Term("gsl", "5 * ramp_up"))
    paper = "Celaya et al. 2023, arXiv 2302.03868"


__getattr__ = lengths(globals())
