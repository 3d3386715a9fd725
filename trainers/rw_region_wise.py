"""Losses that see where a voxel lies: region-wise maps, signed distances, active contours."""

from nnunet_rw.losses import Term
from nnunet_rw.trainer import RWTrainer
from nnunet_rw.variants import lengths


class RWTrainer_RRW(RWTrainer):
    """Rectified region-wise loss alone (Valverde & Tohka 2022).

    For comparison with the paper. Where foreground is rare it stays in the background: see docs/rrw_alone.md.
    """

    loss_terms = (Term("rrw"),)


class RWTrainer_Boundary(RWTrainer):
    """Dice + cross-entropy giving way to the boundary loss (Kervadec et al. 2019, "rebalance")."""

    loss_terms = (Term("nnunet", "rebalance_region"), Term("boundary", "rebalance_boundary"))
    paper = "Kervadec et al. 2019, arXiv 1812.07032"


class RWTrainer_ActiveContour(RWTrainer):
    """Dice + cross-entropy plus active contours: region and length (Chen et al. 2019)."""

    loss_terms = (Term("nnunet"), Term("active_contour"))
    paper = "Chen et al. 2019, CVPR"


class RWTrainer_GSL(RWTrainer):
    """Dice + cross-entropy plus the generalised surface loss."""

    loss_terms = (Term("nnunet"), Term("gsl"))
    paper = "Celaya et al. 2023, arXiv 2302.03868"


__getattr__ = lengths(globals())
