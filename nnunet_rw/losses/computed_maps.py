"""Maps that a loss was not given, computed from its target."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from nnunet_rw.losses.distance_transform import spacing_rows, target_distances
from nnunet_rw.maps.kinds import LabelScheme, boundary_distance, compute_distances, lesion_ids_of_masks
from nnunet_rw.store.layout import lesion_table_tensor

if TYPE_CHECKING:
    from nnunet_rw.losses.inputs import LossInputs


def computed_distances(kind: str, inputs: LossInputs) -> torch.Tensor:
    """(B, M, ...) distance map of the target; on a GPU there, on a CPU with the store's own functions."""
    if inputs.raw_target.device.type != "cpu":
        target = inputs.onehot > 0
        return target_distances(kind, target, inputs.mask, inputs.regions, inputs.spacing).to(inputs.dtype)
    maps = []
    for (sample, ignore), spacing in zip(
        _samples(inputs), spacing_rows(inputs.raw_target, inputs.spacing), strict=True
    ):
        if inputs.regions:
            maps.append(np.stack([boundary_distance(region, spacing, ignore) for region in sample]))
        else:
            scheme = LabelScheme.classes(inputs.num_heads, inputs.ignore_label)
            maps.append(compute_distances(kind, sample[0], scheme, spacing))
    return torch.from_numpy(np.stack(maps)).to(inputs.device, inputs.dtype)


def computed_lesions(inputs: LossInputs) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, M, ...) lesion ids of the target, and their table (B, 2, K + 1)."""
    ids, tables = [], []
    for sample, ignore in _samples(inputs):
        masks = list(sample) if inputs.regions else [sample[0] == c for c in range(1, inputs.num_heads)]
        num_voxels = masks[0].size if ignore is None else int(np.count_nonzero(~ignore))
        sample_ids, table = lesion_ids_of_masks(masks, num_voxels)
        ids.append(sample_ids.astype(np.float32))
        tables.append(lesion_table_tensor(table).T)
    stacked = torch.nn.utils.rnn.pad_sequence(tables, batch_first=True).transpose(1, 2)
    ids_of_batch = torch.from_numpy(np.stack(ids))
    return ids_of_batch.to(inputs.device, inputs.dtype), stacked.to(inputs.device, inputs.dtype)


def counted_table(ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """(B, 2, K + 1) table of ids that were given without one: as if the patch were the whole case."""
    table = ids.new_zeros((ids.shape[0], 2, int(ids.max()) + 1), dtype=torch.float32)
    ones = torch.ones_like(ids, dtype=torch.float32)
    table[:, 0].scatter_add_(1, ids.flatten(1), ones.flatten(1))
    table[:, 0, 0] = ids[0, 0].numel() if mask is None else mask.flatten(1).sum(1)
    channels = torch.arange(ids.shape[1], device=ids.device, dtype=torch.float32)
    per_voxel = channels.view(1, -1, *(1,) * (ids.ndim - 2)).expand(ids.shape)
    table[:, 1].scatter_(1, ids.flatten(1), per_voxel.flatten(1).contiguous())
    table[:, 1, 0] = -1
    return table


def _samples(inputs: LossInputs) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Target of each sample as (1 or C, ...) array, and the unlabelled voxels; these are in no region."""
    target = inputs.raw_target.cpu().numpy()
    if inputs.regions:
        ignore = None if inputs.ignore_label is None else target[:, -1] != 0
        target = target[:, : inputs.raw_logits.shape[1]] != 0
        target = target if ignore is None else target & ~ignore[:, None]
    else:
        ignore = None if inputs.ignore_label is None else target[:, 0] == inputs.ignore_label
        target = np.rint(target).astype(np.int32)
    return [(sample, None if ignore is None else ignore[b]) for b, sample in enumerate(target)]
