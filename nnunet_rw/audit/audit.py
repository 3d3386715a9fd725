"""The audit of a dataset, case by case in processes: who gets a loss's gradient, and which trainer it recommends."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

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
from nnunet_rw.losses import STOCK_TERM, CompoundLoss, LossInputs, Term
from nnunet_rw.maps.arrays import as_labels
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS, LabelScheme, LesionTable, compute_distances
from nnunet_rw.store.layout import LESION_TABLE, lesion_table_tensor
from nnunet_rw.training.catalogue import trainer_classes
from nnunet_rw.training.dataloading import OVERSAMPLE_BY
from nnunet_rw.training.trainer import MapTrainer, trainer_loss
from nnunet_rw.util.parallel import list_in_processes

STOCK_TRAINER = nnUNetTrainer.__name__
NUM_EPOCHS = 1000  # nnU-Net's


def loss_of_trainer(trainer: str, labels: LabelManager, batch_dice: bool = False) -> CompoundLoss:
    """The loss of a trainer, of one output: without deep supervision, and with its schedules at the training's end.

    Parameters
    ----------
    trainer : str
        One of this package, or nnUNetTrainer.
    labels : LabelManager
        nnU-Net's, of the dataset.
    batch_dice : bool
        Of the plans.
    """
    terms = (Term(STOCK_TERM),) if trainer == STOCK_TRAINER else trainer_classes()[trainer].loss_terms
    return loss_of_terms(terms, labels, batch_dice)


def loss_of_terms(terms: Sequence[Term], labels: LabelManager, batch_dice: bool = False) -> CompoundLoss:
    """As `loss_of_trainer`, of a trainer that has these terms."""
    # What nnU-Net's method looks at of a trainer; a real one wants plans, folders and a device.
    trainer = SimpleNamespace(
        label_manager=labels,
        configuration_manager=SimpleNamespace(batch_dice=batch_dice),
        is_ddp=False,
        enable_deep_supervision=False,
        _do_i_compile=lambda: False,
    )
    loss = trainer_loss(terms, nnUNetTrainer._build_loss(trainer), labels, batch_dice)
    loss.set_epoch(NUM_EPOCHS - 1, NUM_EPOCHS)
    return loss


# By trainer, with what its loss is; the recommended ones are among them.
AUDITED = {
    "nnUNetTrainer": "nnU-Net's Dice + cross-entropy",
    "RWTrainer_IWCE": "cross-entropy, the paper's inverse volumes",
    "RWTrainer_IWDiceCE": "Dice + cross-entropy, milder inverse volumes",
    "RWTrainer_SmallLesions": "the same, patches around lesions drawn alike",
    "RWTrainer_RRW": "region-wise maps alone",
    "RWTrainer": "nnU-Net's + region-wise maps",
}
# Without plans: nnU-Net's usual sizes on a large GPU.
DEFAULT_PATCH = {2: (512, 512), 3: (128, 128, 128)}


class AuditedLoss(NamedTuple):
    """A trainer's loss, and how its foreground patches are drawn: an element of `OVERSAMPLE_BY`."""

    loss: CompoundLoss
    oversample_by: str


class GradientAudit:
    """Sums of the gradient's size over a case's patches.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
    lesions, ids
        As `find_case_lesions` returns them.
    scheme : LabelScheme
    spacing_mm : sequence of float
    patch_size : tuple of 2 or 3 ints, optional
        Two with three axes of labels are a slice of axis 0; default `DEFAULT_PATCH`. At most the case: nothing is
        padded.
    """

    def __init__(
        self,
        labels: np.ndarray,
        lesions: Lesions,
        ids: np.ndarray,
        scheme: LabelScheme,
        spacing_mm: Sequence[float],
        patch_size: Sequence[int] | None = None,
    ):
        self.labels = as_labels(labels)
        self.lesions, self.ids, self.scheme = lesions, ids, scheme
        size = tuple(patch_size or DEFAULT_PATCH[self.labels.ndim])[-self.labels.ndim :]
        self.in_slices = len(size) < self.labels.ndim
        wanted = (1, *size) if self.in_slices else size
        self.patch = tuple(min(*pair) for pair in zip(wanted, self.labels.shape, strict=True))
        self.distance = compute_distances(INTERIOR_DISTANCE, self.labels, scheme, spacing_mm, self.in_slices)
        table = LesionTable(channels=lesions.label, voxels=lesions.voxels, num_voxels=scheme.num_labelled(self.labels))
        self.table = lesion_table_tensor(table)[None]

    def sums(self, audited: Sequence[AuditedLoss], pairs: int, rng: np.random.Generator) -> np.ndarray:
        """float64 (losses, 1 + size classes): of the background, then of the lesions of each size class."""
        losses = [each.loss for each in audited]
        drawn = {
            way: [index for index, each in enumerate(audited) if each.oversample_by == way] for way in OVERSAMPLE_BY
        }
        total = np.zeros((len(losses), 1 + NUM_SIZE_CLASSES))
        for _ in range(pairs):
            total += self._sums_of_patch(losses, self._anywhere(rng))
            for way, chosen in drawn.items():
                if chosen:
                    start = self._around_lesion(rng) if way == "lesion" else self._around_foreground(rng)
                    total[chosen] += self._sums_of_patch([losses[index] for index in chosen], start)
        return total

    def _anywhere(self, rng: np.random.Generator) -> tuple[int, ...]:
        return tuple(
            int(rng.integers(whole - part + 1)) for whole, part in zip(self.labels.shape, self.patch, strict=True)
        )

    def _around_foreground(self, rng: np.random.Generator) -> tuple[int, ...]:
        present = np.unique(self.lesions.label)
        if len(present) == 0:
            return self._anywhere(rng)
        return self._around(np.isin(self.labels, self.scheme.foreground[rng.choice(present)]), rng)

    def _around_lesion(self, rng: np.random.Generator) -> tuple[int, ...]:
        if len(self.lesions.label) == 0:
            return self._anywhere(rng)
        return self._around((self.ids == 1 + rng.integers(len(self.lesions.label))).any(0), rng)

    def _around(self, voxels: np.ndarray, rng: np.random.Generator) -> tuple[int, ...]:
        """A patch around one of the voxels, inside the case."""
        voxel = np.unravel_index(rng.choice(np.flatnonzero(voxels)), self.labels.shape)
        sizes = zip(voxel, self.patch, self.labels.shape, strict=True)
        return tuple(int(np.clip(at - part // 2, 0, whole - part)) for at, part, whole in sizes)

    def _sums_of_patch(self, losses: Sequence[CompoundLoss], start: Sequence[int]) -> np.ndarray:
        box: tuple[Any, ...] = tuple(slice(low, low + size) for low, size in zip(start, self.patch, strict=True))
        if self.in_slices:
            box = (start[0], *box[1:])
        labels, ids = self.labels[box], self.ids[(slice(None), *box)]
        target = torch.from_numpy(self._target(labels))[None]
        maps = {
            INTERIOR_DISTANCE: torch.from_numpy(self.distance[(slice(None), *box)])[None],
            LESION_IDS: torch.from_numpy(ids.astype(np.float32))[None],
            LESION_TABLE: self.table,
        }
        logits = torch.zeros((1, self.scheme.num_heads, *labels.shape), requires_grad=True)
        heads: dict[str, Any] = {"regions": self.scheme.regions, "ignore_label": self.scheme.ignore_label}
        # Class of every voxel of each channel: 0 the background, 1 the smallest lesions.
        classes = np.append(0, self.lesions.size_class + 1)[ids].ravel()
        sums = []
        for loss in losses:
            (gradient,) = torch.autograd.grad(loss.compute(LossInputs(logits, target, maps, **heads)), logits)
            size = gradient[0].abs() if self.scheme.regions else gradient[0].abs().sum(0, keepdim=True)
            sums.append(np.bincount(classes, size.numpy().ravel(), 1 + NUM_SIZE_CLASSES))
        return np.stack(sums)

    def _target(self, labels: np.ndarray) -> np.ndarray:
        """As nnU-Net's augmentation hands it over: float32 (1, ...) labels, or (regions[ + 1], ...) masks."""
        channels = [labels]
        if self.scheme.regions:
            channels = self.scheme.masks(labels)
            if self.scheme.ignore_label is not None:
                channels.append(labels == self.scheme.ignore_label)
        return np.stack(channels).astype(np.float32)


def audited_losses(labels: LabelManager, batch_dice: bool) -> list[AuditedLoss]:
    """The losses of `AUDITED`, in their order."""
    trainers = trainer_classes()
    return [
        AuditedLoss(
            loss_of_trainer(trainer, labels, batch_dice),
            trainers[trainer].oversample_by if trainer in trainers else MapTrainer.oversample_by,
        )
        for trainer in AUDITED
    ]


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
        "detected more small lesions in 54 images of the retina, and in ten patients where many were allowed "
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
    """Who gets a trainer's gradient, see `nnunet_rw.audit.audit`.

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
