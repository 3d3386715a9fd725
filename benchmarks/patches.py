"""Batches of patches as nnU-Net's loader hands them to a loss: logits, target and carried maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.inputs import ct_labels
from nnunet_rw.maps.kinds import (
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    LabelScheme,
    compute_distances,
    compute_lesion_ids,
    stored_kinds,
)
from nnunet_rw.store.layout import lesion_table_tensor

_CUBE, _PITCH = 3, 8  # voxels


@dataclass(frozen=True)
class Batch:
    """What a loss is called with.

    Attributes
    ----------
    logits : (B, C, X, Y, Z) float32
    target : (B, 1, X, Y, Z) int16, as nnU-Net's loader has it
    maps : dict of kind to (B, M, X, Y, Z) float32
        And "lesion_table" (B, 2, K + 1).
    """

    logits: torch.Tensor
    target: torch.Tensor
    maps: dict[str, torch.Tensor]

    def to(self, device: torch.device | str) -> Batch:
        maps = {kind: values.to(device) for kind, values in self.maps.items()}
        return Batch(self.logits.to(device), self.target.to(device), maps)


def organ_batch(size: int, kinds: Sequence[str] = (INTERIOR_DISTANCE, LESION_IDS)) -> Batch:
    """2 patches of ``size``^3 voxels with 3 classes: background, an organ, and lesions in it."""
    labels = [ct_labels((size,) * 3, num_lesions=100, seed=seed) for seed in range(2)]
    return batch_of(np.stack(labels), 3, kinds)


def cube_batch(size: int, num_lesions: int) -> Batch:
    """One patch of ``size``^3 voxels with 2 classes, its lesions cubes of 3 voxels on a grid.

    Raises
    ------
    ValueError
        The patch is too small for that many.
    """
    places = np.argwhere(np.ones((size // _PITCH - 1,) * 3))
    if num_lesions > len(places):
        raise ValueError(
            f"Expected at most {len(places)} lesions in a patch of {size}^3 voxels, but got {num_lesions}."
        )
    labels = np.zeros((1, size, size, size), np.uint8)
    for corner in _PITCH * np.random.default_rng(0).permutation(places)[:num_lesions] + _PITCH // 2:
        labels[(0, *(slice(low, low + _CUBE) for low in corner))] = 1
    return batch_of(labels, 2, [LESION_IDS])


def batch_of(labels: np.ndarray, num_classes: int, kinds: Sequence[str]) -> Batch:
    """A batch with the maps of (B, X, Y, Z) labels, and a prediction that is mostly, but not surely, right.

    Its maps are those that are carried for losses that need these kinds.
    """
    scheme = LabelScheme.classes(num_classes)
    maps: dict[str, torch.Tensor] = {}
    for kind in stored_kinds(kinds, scheme):
        if KINDS[kind].sampling == "linear":
            maps[kind] = torch.from_numpy(
                np.stack([compute_distances(kind, sample, scheme, (1.0, 1.0, 1.0)) for sample in labels])
            )
    if LESION_IDS in kinds:
        found = [compute_lesion_ids(sample, scheme) for sample in labels]
        maps[LESION_IDS] = torch.from_numpy(np.stack([ids for ids, _ in found]).astype(np.float32))
        tables = [lesion_table_tensor(table).T for _, table in found]
        maps["lesion_table"] = torch.nn.utils.rnn.pad_sequence(tables, batch_first=True).transpose(1, 2)
    target = torch.from_numpy(labels[:, None].astype(np.int16))
    logits = torch.randn(
        (len(labels), num_classes, *labels.shape[1:]), generator=torch.Generator().manual_seed(0)
    ).scatter_add_(1, target.long(), torch.full(target.shape, 2.0))
    return Batch(logits, target, maps)


def loss_and_gradient(loss: Callable[..., torch.Tensor], batch: Batch, *maps: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Value of ``loss(logits, target, *maps)`` and its gradient for the logits, when both are there."""
    logits = batch.logits.detach().requires_grad_()
    value = loss(logits, batch.target, *maps)
    value.backward()
    if logits.is_cuda:
        torch.cuda.synchronize()
    assert logits.grad is not None
    return value.detach(), logits.grad
