"""Who gets the gradient: the pull of a loss on the lesions of each size, before anything is learned."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.audit.lesions import NUM_SIZE_CLASSES, Lesions
from nnunet_rw.losses import STOCK_TERM, CompoundLoss, LossInputs, Term
from nnunet_rw.maps.checks import as_labels
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS, LabelScheme, LesionTable, compute_distances
from nnunet_rw.store.layout import LESION_TABLE, lesion_table_tensor
from nnunet_rw.training.catalogue import trainer_classes
from nnunet_rw.training.dataloading import OVERSAMPLE_BY
from nnunet_rw.training.trainer import MapTrainer, trainer_loss

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
