"""Losses that see how far the prediction's boundary is from the target's, added to nnU-Net's.

Their weights bring the gradient of a trained network to the order of that of Dice and cross-entropy. Before a network
has learned anything it would be several times as large, so they grow to that over the first fifth of the training.
"""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths

KARIMI = "Karimi & Salcudean 2020, arXiv 1904.10030"
LIN = "Lin et al. 2024, Information Sciences"


class RWTrainer_HausdorffDT(MapTrainer):
    """Dice + cross-entropy plus squared errors by distance to both boundaries."""

    loss_terms = (Term("nnunet"), Term("hausdorff_dt", "0.1 * ramp_up"))
    paper = KARIMI


class RWTrainer_HausdorffER(MapTrainer):
    """Dice + cross-entropy plus errors that survive erosion."""

    # In small lesions hardly any do: the least round weight with which the term has 5 % of the gradient there as well.
    loss_terms = (Term("nnunet"), Term("hausdorff_er", "25 * ramp_up"))
    paper = KARIMI


class RWTrainer_HausdorffCV(MapTrainer):
    """Dice + cross-entropy plus errors as deep as balls of growing radius."""

    loss_terms = (Term("nnunet"), Term("hausdorff_cv", "0.02 * ramp_up"))
    paper = KARIMI


class RWTrainer_FuzzyRough(MapTrainer):
    """Dice + cross-entropy plus squared errors that count less at the target's boundary."""

    loss_terms = (Term("nnunet"), Term("fuzzy_rough", "10 * ramp_up"))
    paper = LIN


class RWTrainer_FuzzyRoughDual(MapTrainer):
    """The same, with the predicted boundary as well."""

    loss_terms = (Term("nnunet"), Term("fuzzy_rough_dual", "10 * ramp_up"))
    paper = LIN


__getattr__ = lengths(globals(), of_package=True)
