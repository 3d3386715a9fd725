"""Losses for segmentation that see distances and lesion sizes; inside nnU-Net's trainers and alone.

>>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
>>> distance = torch.tensor([[[[2.0, 1.0, 1.0, 2.0]]]])
>>> build("rrw")(logits, target)  # maps are computed from the target
tensor(0.0625)
>>> build("rrw")(logits, target, maps={"interior_distance": distance})
tensor(0.0625)
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nnunet_rw.losses.base import SegmentationLoss
from nnunet_rw.losses.compound import CompoundLoss, StockLoss, Term
from nnunet_rw.losses.cross_entropy import (
    CrossEntropyLoss,
    FocalLoss,
    SoftmaxFocalLoss,
    TopKLoss,
    WeightedCrossEntropyLoss,
)
from nnunet_rw.losses.hausdorff import (
    DualFuzzyRoughLoss,
    FuzzyRoughLoss,
    HausdorffConvolutionLoss,
    HausdorffDTLoss,
    HausdorffErosionLoss,
)
from nnunet_rw.losses.inputs import LossInputs
from nnunet_rw.losses.lesion_wise import BlobLoss, CCDiceCELoss
from nnunet_rw.losses.overlap import (
    AsymmetricSimilarityLoss,
    DiceLoss,
    FocalGeneralizedDiceBCELoss,
    FocalTverskyLoss,
    GeneralizedDiceLoss,
)
from nnunet_rw.losses.region_wise import (
    ActiveContourLoss,
    BoundaryLoss,
    GeneralizedSurfaceLoss,
    RectifiedRegionWiseLoss,
)

# Among the terms of a compound: nnU-Net's own loss.
STOCK_TERM = "nnunet"

LOSSES: dict[str, type[SegmentationLoss]] = {
    "rrw": RectifiedRegionWiseLoss,
    "boundary": BoundaryLoss,
    "active_contour": ActiveContourLoss,
    "gsl": GeneralizedSurfaceLoss,
    "hausdorff_dt": HausdorffDTLoss,
    "hausdorff_er": HausdorffErosionLoss,
    "hausdorff_cv": HausdorffConvolutionLoss,
    "fuzzy_rough": FuzzyRoughLoss,
    "fuzzy_rough_dual": DualFuzzyRoughLoss,
    "blob": BlobLoss,
    "cc_dice_ce": CCDiceCELoss,
    "dice": DiceLoss,
    "asl": AsymmetricSimilarityLoss,
    "focal_tversky": FocalTverskyLoss,
    "gdl": GeneralizedDiceLoss,
    "focal_gdl_bce": FocalGeneralizedDiceBCELoss,
    "ce": CrossEntropyLoss,
    "wce": WeightedCrossEntropyLoss,
    "topk": TopKLoss,
    "focal": FocalLoss,
    "softmax_focal": SoftmaxFocalLoss,
}


def build(name: str, **options: Any) -> SegmentationLoss:
    """A loss by name.

    Parameters
    ----------
    name : str
        A key of `LOSSES`, or "compound" with ``terms``, a sequence of `Term` or of their fields as tuple.
    **options
        Of the loss; for all ``regions`` and ``ignore_label``, for the Dice-like and voxel-wise ones also
        ``reweight="inverse_volume"`` with ``scope``, ``power``, ``w_min``, ``w_max``, ``normalise``.

    Returns
    -------
    SegmentationLoss
        Called as ``loss(logits, target, maps=None, spacing=None)``.

    Raises
    ------
    ValueError
        Unknown name or option; the message lists the known ones.

    Examples
    --------
    >>> logits, target = torch.zeros(1, 2, 1, 4), torch.tensor([[[[0, 0, 1, 1]]]])
    >>> round(build("dice", squared=False)(logits, target).item(), 4)  # 1 - 2 * 1 / (4 * 0.5 + 2)
    0.5
    """
    if name != "compound" and name not in LOSSES:
        raise ValueError(f"Unknown loss {name!r}. Known: {', '.join(LOSSES)}, compound.")
    known = option_names(LOSSES[name]) if name in LOSSES else {"terms", *option_names(SegmentationLoss)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise ValueError(f"Unknown option of loss {name!r}: {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    return LOSSES[name](**options) if name in LOSSES else build_compound(**{"terms": (), **options})


def option_names(loss: type) -> set[str]:
    """The options that a loss takes, those of its base classes included."""
    return set(option_defaults(loss))


def option_defaults(loss: type) -> dict[str, Any]:
    """The options that a loss takes and their values where none are given."""
    return {
        name: parameter.default
        for base in reversed(loss.__mro__)  # what a class sets itself comes last, and stays
        if issubclass(base, SegmentationLoss)
        for name, parameter in inspect.signature(base.__init__).parameters.items()
        if name != "self" and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def build_compound(
    terms: Sequence[Term | tuple],
    stock_loss: torch.nn.Module | None = None,
    of_dice: Mapping[str, Any] | None = None,
    **heads: Any,
) -> CompoundLoss:
    """The weighted sum of losses that trainers and ``build("compound")`` have.

    Parameters
    ----------
    terms : sequence of Term, or of their fields as tuple
        `STOCK_TERM` stands for ``stock_loss``.
    stock_loss : Module, optional
        nnU-Net's own, of logits and target.
    of_dice : mapping, optional
        Options of the losses that take ``batch_dice``, where a term does not set them itself.
    **heads
        ``regions`` and ``ignore_label``, of all terms.

    Raises
    ------
    ValueError
        Unknown name or option, or a term for nnU-Net's loss where none is given.
    """
    entries = [term if isinstance(term, Term) else Term(*term) for term in terms]

    def of_term(term: Term) -> SegmentationLoss:
        if term.loss == STOCK_TERM and stock_loss is not None:
            return StockLoss(stock_loss)
        if term.loss == "compound":
            return build_compound(**{"terms": (), **term.options}, stock_loss=stock_loss, of_dice=of_dice, **heads)
        takes_batches = term.loss in LOSSES and "batch_dice" in option_names(LOSSES[term.loss])
        return build(term.loss, **heads, **{**(of_dice or {} if takes_batches else {}), **term.options})

    names = unique_names([term.loss for term in entries])
    return CompoundLoss(
        [(name, term.weight, of_term(term)) for name, term in zip(names, entries, strict=True)], **heads
    )


def unique_names(names: Sequence[str]) -> list[str]:
    """The names, those that repeat numbered: dice, dice_2."""
    return [
        name if names[:position].count(name) == 0 else f"{name}_{names[:position].count(name) + 1}"
        for position, name in enumerate(names)
    ]


__all__ = [
    "LOSSES",
    "STOCK_TERM",
    "CompoundLoss",
    "LossInputs",
    "SegmentationLoss",
    "Term",
    "build",
    "build_compound",
    "option_defaults",
    "option_names",
    "unique_names",
]
