"""Losses that see where a voxel lies: region-wise maps, boundary distances, active contours."""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths

VALVERDE = "Valverde & Tohka 2022, arXiv 2108.01405"


class RWTrainer(MapTrainer):
    """Dice + cross-entropy plus rectified region-wise maps, whose weight grows over the first fifth of the training."""

    # Summed over the classes, so that its gradient at a voxel does not depend on their number; with its whole weight at
    # the start it would outweigh Dice and cross-entropy, and slow them down (docs/region_wise.md).
    loss_terms = (Term("nnunet"), Term("rrw", "4 * ramp_up", {"sum_classes": True}))
    paper = VALVERDE


class RWTrainer_RRW(MapTrainer):
    """Rectified region-wise loss alone, trained with Adam as its authors do (Valverde & Tohka 2022)."""

    loss_terms = (Term("rrw"),)
    # The authors have 1e-4 and 75 000 iterations; ten times that gets as far in a fraction of them. The gradient of a
    # class that is not predicted yet is a thousandth of what it was at the start. Adam has to forget that size, or its
    # steps are as small (docs/region_wise.md).
    optimizer_name = "adam"
    initial_lr = 1e-3
    adam_betas = (0.9, 0.95)
    paper = VALVERDE


class RWTrainer_Boundary(MapTrainer):
    """Dice + cross-entropy giving way to the boundary loss over the whole training (Kervadec et al. 2019)."""

    loss_terms = (Term("nnunet", "falling"), Term("boundary", "rising"))
    paper = "Kervadec et al. 2019, arXiv 1812.07032"


class RWTrainer_ActiveContour(MapTrainer):
    """Dice + cross-entropy plus active contours: region and length (Chen et al. 2019)."""

    loss_terms = (Term("nnunet"), Term("active_contour"))
    paper = "Chen et al. 2019, CVPR"


class RWTrainer_GSL(MapTrainer):
    """Dice + cross-entropy plus the generalised surface loss."""

    loss_terms = (Term("nnunet"), Term("gsl", "5 * ramp_up"))
    paper = "Celaya et al. 2023, arXiv 2302.03868"


__getattr__ = lengths(globals(), of_package=True)
