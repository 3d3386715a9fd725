"""The audit of a dataset, case by case in processes, and which trainer it recommends."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from nnunet_rw.audit.gradients import AUDITED, GradientAudit, audited_losses
from nnunet_rw.audit.lesions import (
    NUM_SIZE_CLASSES,
    LabelSummary,
    Lesions,
    SharedLesions,
    SizeSummary,
    find_case_lesions,
    lesion_shapes,
    pooled,
    shared_lesions,
    summarise_label,
    summarise_sizes,
)
from nnunet_rw.audit.sources import LabelSource
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3
from nnunet_rw.evaluation.units import size_unit
from nnunet_rw.util.parallel import list_in_processes

# Pairs of patches whose gradient is taken: one per case where there are as many cases, several where there are fewer.
PATCH_PAIRS = 100
# "Small" below: the first two size classes of evaluations.
SMALL_MM3 = DEFAULT_EDGES_MM3[2]
# At least one per case on average, or there is nothing to be found; and a third of all lesions, or they may be specks
# of the annotation beside structures that matter more.
MIN_SMALL_PER_CASE = 1.0
MIN_SMALL_SHARE = 1 / 3
# And large lesions drown them: their share of the lesions' gradient under nnUNetTrainer is at most so much of their
# share of the lesions. Where all lesions are small, there is nothing to be weighed against.
MAX_GRADIENT_OF_SHARE = 0.5
# By the recommended trainer; they quote the figures by name.
REASONS = {
    "RWTrainer_SmallLesions": (
        "{small_share:.0%} of the lesions are below {small_mm3:g} {unit} ({small_per_case:.3g} per case), but hold "
        "{small_voxel_share:.1%} of the foreground and get {small_stock_gradient:.1%} of the lesions' gradient under "
        "nnUNetTrainer, {small_weighted_gradient:.1%} under RWTrainer_SmallLesions. At equal false positives it "
        "detected more small lesions in 54 images of the retina, and was not told from nnUNetTrainer in ten patients "
        "(docs/evidence.md). Train both, choose the rule of each on its validation cases (docs/evaluation.md), compare."
    ),
    "nnUNetTrainer": (
        "{small_share:.0%} of the lesions are below {small_mm3:g} {unit} ({small_per_case:.3g} per case) and get "
        "{small_stock_gradient:.1%} of the lesions' gradient, the largest holds {largest_lesion_share:.0%} of a case's "
        "voxels of its label, and {border_share:.0%} of the foreground's voxels lie on the boundary: not many small "
        "lesions that large ones drown, so nothing speaks for another loss. Where it is the boundary that matters, "
        "RWTrainer may be worth a comparison."
    ),
}


@dataclass(frozen=True)
class GradientShares:
    """Who gets a trainer's gradient, see `nnunet_rw.audit.gradients`.

    Attributes
    ----------
    by_size : tuple of float
        Of the lesions' gradient, per size class; NaN if no patch met a lesion.
    of_lesions : float
        Of all gradient, the background's included.
    """

    trainer: str
    loss: str
    by_size: tuple[float, ...]
    of_lesions: float


@dataclass(frozen=True)
class Figures:
    """What a recommendation follows from; small lesions are those below `SMALL_MM3`, and shares lie in [0, 1].

    Attributes
    ----------
    small_per_case : float
        Mean over all cases.
    small_share, small_voxel_share : float
        Of all lesions, of all their voxels.
    small_stock_gradient, small_weighted_gradient : float
        Of the lesions' gradient under nnUNetTrainer and RWTrainer_SmallLesions.
    largest_lesion_share, border_share : float
        As of `LabelSummary`: the mean over labels, and of all foreground voxels.
    """

    small_per_case: float
    small_share: float
    small_voxel_share: float
    small_stock_gradient: float
    small_weighted_gradient: float
    largest_lesion_share: float
    border_share: float


@dataclass(frozen=True)
class Recommendation:
    trainer: str
    reason: str


@dataclass(frozen=True)
class Audit:
    """What was found; ``cases`` and ``lesions`` belong together, sizes are in ``size_unit``."""

    dataset: str
    folder: str
    cases: tuple[str, ...]
    lesions: tuple[Lesions, ...]
    label_values: tuple[str, ...]
    labels: tuple[LabelSummary, ...]
    sizes: tuple[SizeSummary, ...]
    gradients: tuple[GradientShares, ...]
    num_patches: int
    recommendation: Recommendation
    shared: SharedLesions
    size_unit: str = "mm3"


def audit_dataset(
    source: LabelSource, processes: int | None = None, folds: Sequence[Mapping[str, Any]] | None = None
) -> Audit:
    """Look at the labels of all cases.

    Parameters
    ----------
    source : LabelSource
    processes : int, optional
        Default: nnU-Net's number, at most all processors.
    folds : sequence of mappings, optional
        Of nnU-Net's ``splits_final.json``, if there is one: do they part cases that share lesions?

    Raises
    ------
    ValueError
        No case has a lesion, or a file cannot be read.
    """
    number = len(source.cases)
    patched = set(np.linspace(0, number - 1, min(number, PATCH_PAIRS)).round().astype(int).tolist())
    pairs = math.ceil(PATCH_PAIRS / len(patched))
    tasks = [(source, case, index, pairs if index in patched else 0) for index, case in enumerate(source.cases)]
    found = list_in_processes(_audit_case, tasks, "Audit", processes)
    lesions = tuple(of_case for of_case, *_ in found)
    sums = sum((gradients for _, gradients, *_ in found), np.zeros((len(AUDITED), 1 + NUM_SIZE_CLASSES)))
    if not any(len(case) for case in lesions):
        raise ValueError(f"No lesion in the {number} cases of {source.folder}: they are all background.")
    unit = size_unit(spacing_mm for *_, spacing_mm in found)
    labels = tuple(summarise_label(name, index, lesions) for index, name in enumerate(source.label_names))
    sizes = summarise_sizes(lesions)
    gradients = tuple(_shares(trainer, loss, row) for (trainer, loss), row in zip(AUDITED.items(), sums, strict=True))
    return Audit(
        dataset=source.dataset,
        folder=str(source.folder),
        cases=source.cases,
        lesions=lesions,
        label_values=source.label_values,
        labels=labels,
        sizes=sizes,
        gradients=gradients,
        num_patches=2 * pairs * len(patched),
        recommendation=recommend(_figures(lesions, labels, sizes, gradients), unit),
        shared=shared_lesions(dict(zip(source.cases, (shapes for *_, shapes, _ in found), strict=True)), folds),
        size_unit=unit,
    )


def _audit_case(
    source: LabelSource, case: str, index: int, pairs: int
) -> tuple[Lesions, np.ndarray, frozenset[str], tuple[float, ...]]:
    """Lesions, summed gradients, the lesions' shapes and mm per axis."""
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # as many processes as processors
    labels, spacing_mm = source.read(case)
    lesions, ids = find_case_lesions(labels, source.scheme, spacing_mm)
    shapes = lesion_shapes(lesions, ids)
    if pairs == 0:
        return lesions, np.zeros((len(AUDITED), 1 + NUM_SIZE_CLASSES)), shapes, spacing_mm
    gradients = GradientAudit(labels, lesions, ids, source.scheme, spacing_mm, source.patch_size)
    losses = audited_losses(source.manager, source.batch_dice)
    # The case's own seed: the same patches in any order and number of processes.
    return lesions, gradients.sums(losses, pairs, np.random.default_rng(index)), shapes, spacing_mm


def _shares(trainer: str, loss: str, sums: np.ndarray) -> GradientShares:
    of_lesions = sums[1:].sum()
    by_size = sums[1:] / of_lesions if of_lesions else np.full(NUM_SIZE_CLASSES, math.nan)
    total = sums.sum()
    return GradientShares(trainer, loss, tuple(map(float, by_size)), float(of_lesions / total) if total else math.nan)


def _figures(
    cases: Sequence[Lesions],
    labels: Sequence[LabelSummary],
    sizes: Sequence[SizeSummary],
    gradients: Sequence[GradientShares],
) -> Figures:
    small = [size for size in sizes if size.high_mm3 <= SMALL_MM3]
    by_trainer = {shares.trainer: sum(shares.by_size[: len(small)]) for shares in gradients}
    lesions = pooled(cases)
    return Figures(
        small_per_case=sum(size.num_lesions for size in small) / len(cases),
        small_share=sum(size.lesion_share for size in small),
        small_voxel_share=sum(size.voxel_share for size in small),
        small_stock_gradient=by_trainer["nnUNetTrainer"],
        small_weighted_gradient=by_trainer["RWTrainer_SmallLesions"],
        largest_lesion_share=float(np.nanmean([label.largest_lesion_share for label in labels])),
        border_share=float(lesions.border_voxels.sum() / lesions.voxels.sum()),
    )


def recommend(figures: Figures, unit: str = "mm3") -> Recommendation:
    """Which trainer to try first, and why.

    It follows what has been measured (docs/evidence.md): weights by lesion size, with lesions drawn alike, find more
    small lesions at equal false positives where lesions are many. Of a compact structure no other is recommended.
    """
    has_many_drowned = (
        figures.small_per_case >= MIN_SMALL_PER_CASE
        and figures.small_share >= MIN_SMALL_SHARE
        and figures.small_stock_gradient <= MAX_GRADIENT_OF_SHARE * figures.small_share
    )
    trainer = "RWTrainer_SmallLesions" if has_many_drowned else "nnUNetTrainer"
    return Recommendation(trainer, REASONS[trainer].format(small_mm3=SMALL_MM3, unit=unit, **asdict(figures)))
