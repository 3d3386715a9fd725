"""What a loss is computed from, prepared once and shared by all its terms."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import cached_property

import numpy as np
import torch
from torch.nn.functional import log_softmax, logsigmoid

from nnunet_rw.losses.distance_transform import Spacing, distance_to, spacing_rows, target_distances
from nnunet_rw.maps.kinds import (
    BOUNDARY_DISTANCE,
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    LabelScheme,
    boundary_distance,
    compute_distances,
    lesion_ids_of_masks,
    serving_kind,
)
from nnunet_rw.store.layout import LESION_TABLE, lesion_table_tensor

_MAPS = {*KINDS, LESION_TABLE}
# On a GPU: how many places the sum of an id is spread over, and how many all ids may have together.
_LANES, _PLACES = 1024, 2**18


class LossInputs:
    """Logits, target and maps of one output, with everything that several losses derive from them.

    Parameters
    ----------
    logits : (B, C, X, Y[, Z])
        Any float type; all sums are taken in float32 (float64 if given so).
    target : (B, 1, X, Y[, Z]) labels, or (B, C[ + 1], X, Y[, Z]) with ``regions``
        With ``regions`` and ``ignore_label`` the last channel marks ignored voxels, as nnU-Net has it.
    maps : dict, optional
        By kind (B, M, X, Y[, Z]), and "lesion_table" (B, 2, K + 1). What is absent is computed from the target.
        Distances may have a sign: it is ignored, since the target says which side a voxel is on.
    spacing : sequence of float, or (B, axes) tensor, optional
        mm per axis, of all samples or of each, for maps and distances that are computed here; without it the unit is
        the voxel.
    regions : bool
        Heads are overlapping regions (sigmoid) instead of exclusive classes (softmax).
    ignore_label : int, optional
        Ignored voxels. They count in no loss.

    Raises
    ------
    ValueError
        Shapes do not fit, maps are of no known kind, or a target on a CPU holds a label without a head.
    """

    def __init__(
        self,
        logits: torch.Tensor,
        target: torch.Tensor,
        maps: dict[str, torch.Tensor] | None = None,
        spacing: Spacing | None = None,
        regions: bool = False,
        ignore_label: int | None = None,
    ):
        channels = logits.shape[1] + (ignore_label is not None) if regions else 1
        expected = (logits.shape[0], channels, *logits.shape[2:])
        if tuple(target.shape) != expected:
            raise ValueError(
                f"Expected a target of shape {expected} for logits of shape {tuple(logits.shape)}, but got "
                f"{tuple(target.shape)}."
            )
        if not regions and target.device.type == "cpu":  # on a GPU the check would make every step wait
            _check_labels(target, logits.shape[1], ignore_label)
        self.raw_logits, self.raw_target = logits, target
        self.maps = dict(maps or {})
        unknown = sorted(set(self.maps) - _MAPS)
        if unknown:
            raise ValueError(f"Expected maps of {', '.join(sorted(_MAPS))}, but got {', '.join(map(repr, unknown))}.")
        self.spacing = spacing
        self.regions = regions
        self.ignore_label = ignore_label
        self.shared: dict[Hashable, torch.Tensor] = {}

    @property
    def dtype(self) -> torch.dtype:
        """Of all that is computed: float32, or float64 for logits in that."""
        return torch.float64 if self.raw_logits.dtype == torch.float64 else torch.float32

    @property
    def device(self) -> torch.device:
        return self.raw_logits.device

    @property
    def num_heads(self) -> int:
        return self.raw_logits.shape[1]

    @cached_property
    def logits(self) -> torch.Tensor:
        return self.raw_logits.to(self.dtype)

    @cached_property
    def mask(self) -> torch.Tensor | None:
        """(B, 1, ...) labelled voxels; None where all are."""
        if self.ignore_label is None:
            return None
        if self.regions:
            return self.raw_target[:, -1:] == 0
        return self.raw_target != self.ignore_label

    @cached_property
    def labels(self) -> torch.Tensor:
        """(B, 1, ...) int64 labels, 0 in ignored voxels; not for regions."""
        labels = self.raw_target.long()
        return labels if self.mask is None else torch.where(self.mask, labels, 0)

    @cached_property
    def onehot(self) -> torch.Tensor:
        """(B, C, ...) target in {0, 1}, 0 in ignored voxels; the floating type of the logits."""
        if self.regions:
            onehot = self.raw_target[:, : self.raw_logits.shape[1]].to(self.dtype)
        else:
            # Not by scatter, of which torch 2.11 compiles a wrong gradient: of p y beside p^2 (1 - y).
            classes = torch.arange(self.num_heads, device=self.device)
            onehot = (self.labels == _per_channel(classes[None], self.labels)).to(self.dtype)
        return onehot if self.mask is None else onehot * self.mask

    def truth(self, head: int) -> torch.Tensor:
        """(B, ...) bool: the target of one head, False in ignored voxels."""
        truth = self.raw_target[:, head] != 0 if self.regions else self.raw_target[:, 0] == head
        return truth if self.mask is None else truth & self.mask[:, 0]

    @cached_property
    def log_probabilities(self) -> torch.Tensor:
        """(B, C, ...)"""
        # Half precision is converted on the way: no copy of the logits has to last.
        return logsigmoid(self.logits) if self.regions else log_softmax(self.raw_logits, 1, dtype=self.dtype)

    @cached_property
    def log_likelihood(self) -> torch.Tensor:
        """(B, 1, ...) log probability of every voxel's own class; not for regions."""
        return self.log_probabilities.gather(1, self.labels)

    @cached_property
    def probabilities(self) -> torch.Tensor:
        """(B, C, ...); softmax, or sigmoid for regions."""
        return self.log_probabilities.exp()

    @cached_property
    def log_complements(self) -> torch.Tensor:
        """(B, C, ...) log(1 - p), exact also where p is 1 to the last digit."""
        if self.regions:
            return logsigmoid(-self.logits)
        # Of the most probable class the sum of all others: 1 - p would lose them. No other has more than half.
        classes = _per_channel(torch.arange(self.num_heads, device=self.device)[None], self.logits)
        most = classes == self.logits.argmax(1, keepdim=True)
        others = self.logits.masked_fill(most, -torch.inf).logsumexp(1, keepdim=True)
        rest = torch.log1p(-self.probabilities.masked_fill(most, 0))
        return torch.where(most, others - self.logits.logsumexp(1, keepdim=True), rest)

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Mean of (B, C, ...) values over batch, channels and labelled voxels; 0 where no voxel is labelled."""
        if self.mask is None:
            return values.mean()
        count = self.mask.sum() * values.shape[1]
        return (values * self.mask).sum() / count.clamp_min(1)

    def map(self, kind: str) -> torch.Tensor:
        """(B, M, ...) map of a kind, computed from the target where none was given."""
        if kind not in self.maps:
            if kind == LESION_IDS:
                self.maps[LESION_IDS], self.maps[LESION_TABLE] = _computed_lesions(self)
            else:
                self.maps[kind] = _computed_distances(kind, self)
        values = self.maps[kind]
        batch, heads, *spatial = self.raw_logits.shape
        # One interior distance or id serves all exclusive classes.
        channels = {BOUNDARY_DISTANCE: (heads,), INTERIOR_DISTANCE: (1, heads), LESION_IDS: (1, heads - 1)}[kind]
        allowed = [(batch, number, *spatial) for number in ((heads,) if self.regions else channels)]
        if tuple(values.shape) not in allowed:
            raise ValueError(
                f"Expected a {kind} map of shape {' or '.join(map(str, allowed))}, but got {tuple(values.shape)}."
            )
        return values

    def complete(self, kinds: Iterable[str]) -> dict[str, torch.Tensor]:
        """The maps, with those that losses of these kinds need."""
        for kind in kinds:
            self.map(self._served_by(kind))
        return self.maps

    def _served_by(self, kind: str) -> str:
        return kind if kind in self.maps else serving_kind(kind, self.num_heads, self.regions)

    @cached_property
    def interior_distance(self) -> torch.Tensor:
        """(B, 1, ...) or (B, C, ...) distance to the nearest voxel of another label, at least 0."""
        return self.map(INTERIOR_DISTANCE).to(self.dtype).abs()

    @cached_property
    def boundary_distance(self) -> torch.Tensor:
        """(B, C, ...) distance to the boundary of every head's target, at least 0.

        0 in ignored voxels, and everywhere where a head has no boundary: it is absent, or fills the volume.
        """
        distance = self.map(self._served_by(BOUNDARY_DISTANCE)).to(self.dtype).abs()
        distance = distance.expand(-1, self.num_heads, *distance.shape[2:])
        return distance if self.mask is None else distance * self.mask

    @cached_property
    def signed_distance(self) -> torch.Tensor:
        """(B, C, ...) `boundary_distance`, negative where the target has the head."""
        return torch.where(self.onehot > 0, -self.boundary_distance, self.boundary_distance)

    def predicted_boundary_distance(self, most_probable: bool = False) -> torch.Tensor:
        """(B, C, ...) distance to the boundary of every head's prediction, without gradient.

        Parameters
        ----------
        most_probable : bool
            Predicted is the most probable class, instead of each with a probability above 0.5. A region is a class
            against the rest, so for regions both are p > 0.5.

        Returns
        -------
        float tensor
            Inside the predicted mask the distance to the nearest voxel outside, and the reverse; ignored voxels
            are neither and hold 0. 0 everywhere where a mask is empty or full.
        """
        key = ("predicted_boundary_distance", most_probable)
        if key not in self.shared:
            mask = self.predicted(most_probable)
            known = torch.ones_like(mask) if self.mask is None else self.mask.expand_as(mask)
            inside, outside = mask & known, ~mask & known
            distance = torch.where(mask, distance_to(outside, self.spacing), distance_to(inside, self.spacing))
            bounded = inside.flatten(2).any(2) & outside.flatten(2).any(2)
            self.shared[key] = distance.to(self.dtype) * known * _per_channel(bounded, distance)
        return self.shared[key]

    def predicted(self, most_probable: bool = False) -> torch.Tensor:
        """(B, C, ...) bool prediction of every head, see `predicted_boundary_distance`."""
        if self.regions or not most_probable:
            return self.probabilities > 0.5
        winner = self.logits.argmax(1, keepdim=True)
        return torch.zeros_like(self.logits, dtype=torch.bool).scatter_(1, winner, True)

    @cached_property
    def lesion_ids(self) -> torch.Tensor:
        """(B, 1, ...) int64 lesion ids, or (B, R, ...) for regions; 0 outside lesions and in ignored voxels."""
        ids = self.map(LESION_IDS)
        if self.regions:
            within = [torch.where(self.truth(head), ids[:, head], 0) for head in range(self.num_heads)]
            return torch.stack(within, 1).long()
        found = ids.new_zeros((ids.shape[0], *ids.shape[2:]))
        # Channel by channel: what is as large as the logits costs more than all else here.
        for head, values in enumerate(ids.expand(-1, self.num_heads - 1, *ids.shape[2:]).unbind(1), start=1):
            found = torch.where(self.truth(head), values, found)
        return found[:, None].long()

    @property
    def lesion_table(self) -> torch.Tensor:
        """(B, 2, K + 1): voxels per lesion id (index 0: of the whole case) and its channel."""
        if LESION_IDS not in self.maps:
            self.map(LESION_IDS)
        if LESION_TABLE not in self.maps:
            self.maps[LESION_TABLE] = _counted_table(self.lesion_ids, self.mask)
        return self.maps[LESION_TABLE]


class ById:
    """What all voxels of an id have together: (B, C, K + 1), of (B, C, ...) values.

    Parameters
    ----------
    ids : int64 (B, C, ...)
    number : int
        K + 1, above every id.
    lanes : int, optional
        Over how many places an id is spread; by default one on a CPU. On a GPU threads that add to one place wait for
        each other, and voxels side by side mostly have one id.
    """

    def __init__(self, ids: torch.Tensor, number: int, lanes: int | None = None):
        if lanes is None:
            lanes = 1 if ids.device.type == "cpu" else max(1, min(_LANES, _PLACES // number))
        self.ids, self.number, self.lanes = ids, number, lanes
        self.places = ids.flatten(2)
        if lanes > 1:
            lane = torch.arange(self.places.shape[2], device=ids.device) % lanes
            self.places = self.places * lanes + lane

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """Taken in float64, or int64, and returned in the values' own type.

        One by one, float32 loses what is small beside the sum, or rounds it up each time.
        """
        exact = torch.float64 if values.dtype.is_floating_point else torch.int64
        if values.device.type == "mps":  # which has no float64
            exact = values.dtype
        parts = self._empty(exact, values.device).scatter_add(2, self.places, self._flat(values).to(exact))
        return parts.unflatten(2, (self.number, self.lanes)).sum(3).to(values.dtype)

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """The highest of values of at least 0, 0 where an id has no voxel; without gradient."""
        parts = self._empty(values.dtype, values.device)
        parts = parts.scatter_reduce(2, self.places, self._flat(values.detach()), "amax")
        return parts.unflatten(2, (self.number, self.lanes)).amax(3)

    def _empty(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        return torch.zeros((*self.ids.shape[:2], self.number * self.lanes), dtype=dtype, device=device)

    def _flat(self, values: torch.Tensor) -> torch.Tensor:
        return values.expand_as(self.ids).flatten(2)


def _per_channel(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B, C) values as (B, C, 1, ...)."""
    return values.view(*values.shape, *(1,) * (like.ndim - 2))


def without_single_slices(values: torch.Tensor) -> torch.Tensor:
    """(B, C, ...) without the spatial axes of one voxel, but for the last: one slice of a volume is an image."""
    axes = [axis for axis in range(2, values.ndim) if values.shape[axis] == 1]
    if len(axes) == values.ndim - 2:
        axes = axes[:-1]
    return values.squeeze(axes)


def _check_labels(target: torch.Tensor, num_heads: int, ignore_label: int | None) -> None:
    labels = target if ignore_label is None else target.masked_fill(target == ignore_label, 0)
    lowest, highest = (int(value) for value in labels.aminmax())
    if lowest < 0 or highest >= num_heads:
        raise ValueError(
            f"Expected labels from 0 to {num_heads - 1} for {num_heads} heads, but got "
            f"{lowest if lowest < 0 else highest}."
        )


def _computed_distances(kind: str, inputs: LossInputs) -> torch.Tensor:
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
            scheme = LabelScheme.classes(inputs.num_heads, None if ignore is None else inputs.num_heads)
            maps.append(compute_distances(kind, sample[0], scheme, spacing))
    return torch.from_numpy(np.stack(maps)).to(inputs.device, inputs.dtype)


def _computed_lesions(inputs: LossInputs) -> tuple[torch.Tensor, torch.Tensor]:
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


def _counted_table(ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
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
    """Target of each sample as (1 or C, ...) array, and the ignored voxels, which are in no region or labelled C."""
    target = inputs.raw_target.cpu().numpy()
    if inputs.regions:
        ignore = None if inputs.ignore_label is None else target[:, -1] != 0
        target = target[:, : inputs.raw_logits.shape[1]] != 0
        target = target if ignore is None else target & ~ignore[:, None]
    else:
        ignore = None if inputs.ignore_label is None else target[:, 0] == inputs.ignore_label
        target = np.rint(target).astype(np.int32)
        # Any integer may say so, also those that maps take for background.
        target = target if ignore is None else np.where(ignore[:, None], inputs.num_heads, target)
    return [(sample, None if ignore is None else ignore[b]) for b, sample in enumerate(target)]
