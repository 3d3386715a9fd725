"""Trainers of the reproduction of Valverde & Tohka (2022) that are no trainers of the package.

All losses are trained with Adam at the same learning rate, and their maps are computed on the augmented patch, both as
in the authors' code; each class changes the loss alone. What SGD makes of a loss has a name that says so.
"""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths

# As the authors' code has them: all classes, the background included.
BOUNDARY = {"include_background": True}
DICE = {"include_background": True, "squared": False, "batch_dice": False, "smooth": 1e-6}


class RWPaper(MapTrainer):
    """What all trials of the paper's losses have in common."""

    map_source = "patch"
    optimizer_name = "adam"
    initial_lr = 1e-3


class RWPaper_RRW(RWPaper):
    """Rectified region-wise maps alone."""

    loss_terms = (Term("rrw"),)


class RWPaper_Boundary(RWPaper):
    """Boundary maps alone."""

    loss_terms = (Term("boundary", options=BOUNDARY),)


class RWPaper_ActiveContour(RWPaper):
    """Active contours alone."""

    loss_terms = (Term("active_contour"),)


class RWPaper_Dice(RWPaper):
    """Dice alone."""

    loss_terms = (Term("dice", options=DICE),)


class RWPaper_Focal(RWPaper):
    """Softmax focal loss alone."""

    loss_terms = (Term("softmax_focal"),)


class RWPaper_CE(RWPaper):
    """Cross-entropy alone."""

    loss_terms = (Term("ce"),)


class RWPaper_WCE(RWPaper):
    """Weighted cross-entropy alone."""

    loss_terms = (Term("wce"),)


class RWPaper_RRW_Dice(RWPaper):
    """Rectified maps beside Dice, "equal"."""

    loss_terms = (Term("dice", options=DICE), Term("rrw"))


class RWPaper_Boundary_Dice(RWPaper):
    """Boundary maps beside Dice, "equal"."""

    loss_terms = (Term("dice", options=DICE), Term("boundary", options=BOUNDARY))


class RWPaper_RRW_CE(RWPaper):
    """Rectified maps beside cross-entropy, "equal"."""

    loss_terms = (Term("ce"), Term("rrw"))


class RWPaper_Boundary_CE(RWPaper):
    """Boundary maps beside cross-entropy, "equal"."""

    loss_terms = (Term("ce"), Term("boundary", options=BOUNDARY))


class RWPaper_RRW_Dice_Gradual(RWPaper):
    """Dice giving way to rectified maps, "gradual"."""

    loss_terms = (Term("dice", "gradual_region", DICE), Term("rrw", "gradual_boundary"))


class RWPaper_Boundary_Dice_Gradual(RWPaper):
    """Dice giving way to boundary maps, "gradual"."""

    loss_terms = (Term("dice", "gradual_region", DICE), Term("boundary", "gradual_boundary", BOUNDARY))


class RWPaper_RRW_CE_Gradual(RWPaper):
    """Cross-entropy giving way to rectified maps, "gradual"."""

    loss_terms = (Term("ce", "gradual_region"), Term("rrw", "gradual_boundary"))


class RWPaper_Boundary_CE_Gradual(RWPaper):
    """Cross-entropy giving way to boundary maps, "gradual"."""

    loss_terms = (Term("ce", "gradual_region"), Term("boundary", "gradual_boundary", BOUNDARY))


class RWPaper_Stock_Adam(RWPaper):
    """nnU-Net's own loss with the trials' optimiser."""

    loss_terms = (Term("nnunet"),)


class RWPaper_RRW_Beta95(RWPaper_RRW):
    """Rectified maps alone, with an Adam that remembers the size of gradients for 20 iterations instead of 1 000."""

    adam_betas = (0.9, 0.95)


class RWPaper_RRW_SGD(RWPaper_RRW):
    """Rectified maps alone with nnU-Net's optimiser."""

    optimizer_name = "sgd"
    initial_lr = 1e-2


class RWBeside_4(MapTrainer):
    """nnU-Net's loss and optimiser, with rectified maps summed over the classes beside it, weight 4."""

    loss_terms = (Term("nnunet"), Term("rrw", 4.0, {"sum_classes": True}))


class RWBeside_4Ramp(MapTrainer):
    """The same, the weight growing to 4 over the first fifth of the training."""

    loss_terms = (Term("nnunet"), Term("rrw", "4 * ramp_up", {"sum_classes": True}))


__getattr__ = lengths(globals())
