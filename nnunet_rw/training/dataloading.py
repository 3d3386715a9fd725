"""nnU-Net's data loader and its augmentation pipeline, with the maps of every patch.

A patch's way: the loader draws a case and a box (`MapDataLoader.get_bbox`) and hands image, labels and a `MapPatch`
to nnU-Net's pipeline; its spatial transform (`MapSpatialTransform`) reads from that patch what of the maps it needs,
the others move them as a regression target; the loader takes them out of the sample into the batch, and the trainer
binds the batch's maps to the loss.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.cropping import crop_tensor
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch.nn.functional import grid_sample

from nnunet_rw.maps.kinds import KINDS, compute_distances, compute_lesion_ids
from nnunet_rw.store.layout import LESION_TABLE, MapLayout, lesion_table_tensor
from nnunet_rw.store.read import MapPatch, StoredMaps

# What a sample carries besides nnU-Net's image and segmentation. Maps go by the name that nnU-Net's transforms know.
MAPS = "regression_target"
MAP_PATCH = "map_patch"
SPACING = "spacing_mm"
# Whether stacked maps, which do not tell it, reach beyond the image: then they are carried, and not computed anew.
PADDED = "padded"


class MapSpatialTransform(SpatialTransform):
    """nnU-Net's spatial transform, knowing what it moves.

    Where a patch is only cropped, its maps are. Where it is rotated or zoomed, distances to boundaries within the patch
    are computed on the transformed labels, so they are exact, in the thinnest lesion too; interpolated distances are
    wrong by up to half a voxel at every boundary, which is all there is of a small lesion. Only voxels that may have
    their nearest boundary outside of the patch take the carried distance where that is shorter: sampled linearly,
    ignored voxels taking no part, and divided by the zoom (an object shown s times smaller has s times smaller
    distances; with unequal zooms, as in dummy-2D augmentation, by their geometric mean over the three axes). Beyond the
    loaded patch nnU-Net sees background, so distances keep growing there.

    Lesion ids are sampled by nearest neighbour.
    """

    def __init__(self, stock: SpatialTransform, layout: MapLayout):
        # nnU-Net's keeps each of its parameters as an attribute of the same name.
        super().__init__(**{name: getattr(stock, name) for name in inspect.signature(SpatialTransform).parameters})
        self.layout = layout

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        patch, stacked = data_dict.pop(MAP_PATCH, None), data_dict.pop(MAPS, None)
        params["spacing_mm"], params["padded"] = data_dict[SPACING], data_dict.get(PADDED, False)
        # Dummy-2D augmentation folds the slice axis into the channels; elsewhere a channel is one slab.
        slabs = 1 if stacked is None else stacked.shape[0] // self.layout.num_channels
        labels = data_dict["segmentation"][:slabs]
        data_dict = super().apply(data_dict, **params)
        if params["grid"] is None:
            data_dict[MAPS] = self._cropped(patch, params) if stacked is None else self._sample(stacked, params)
            return data_dict
        if stacked is None:
            stacked, labels = patch.within_image(), labels[(slice(None), *patch.inside)]
            params["grid"] = self._within(params["grid"], patch.labels.shape, patch.inside)
        number = self.layout.num_distances * slabs
        distances, ids = stacked[:number], stacked[number:]
        pieces = [self._sample(ids, params)]
        if number:
            pieces.insert(0, self._distances(distances, labels, data_dict["segmentation"][:slabs], params))
        data_dict[MAPS] = torch.cat(pieces)
        return data_dict

    def _cropped(self, patch: MapPatch, params: dict[str, Any]) -> torch.Tensor:
        centre = [math.floor(position) for position in params["center_location_in_pixels"]]
        lows = [position - size // 2 for position, size in zip(centre, self.patch_size, strict=True)]
        spans = zip(lows, self.patch_size, patch.labels.shape, strict=True)
        if all(low >= 0 and low + size <= whole for low, size, whole in spans):
            return patch.crop(lows, self.patch_size)
        return self._sample(patch.whole(), params)

    def _within(self, grid: torch.Tensor, shape: Sequence[int], inside: Sequence[slice]) -> torch.Tensor:
        """The grid of an image that is a part of the one of this shape."""
        # grid_sample counts axes from the last; its -1 and 1 are the centres or the outer edges of the border voxels.
        pieces = list(zip(shape, inside, strict=True))[::-1]
        if all(piece.stop - piece.start == whole for whole, piece in pieces):
            return grid
        margin = int(self.align_corners)
        size = torch.tensor([whole for whole, _ in pieces], dtype=grid.dtype) - margin
        low = torch.tensor([piece.start for _, piece in pieces], dtype=grid.dtype)
        part = torch.tensor([piece.stop - piece.start for _, piece in pieces], dtype=grid.dtype) - margin
        return torch.addcmul((size - 2 * low) / part - 1, grid, size / part)

    def _sample(self, values: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """Values cropped, or sampled by nearest neighbour."""
        if params["grid"] is None:
            center = [math.floor(position) for position in params["center_location_in_pixels"]]
            return crop_tensor(values, center, self.patch_size, pad_mode="replicate", pad_kwargs={})
        if len(values) == 0:
            return values.new_zeros((0, *self.patch_size))
        return self._at(values, params["grid"], "nearest")

    def _at(self, values: torch.Tensor, points: torch.Tensor, mode: str) -> torch.Tensor:
        """(M, ...) values at (..., axes) points of the grid; those beyond the image are of its border."""
        return grid_sample(values[None], points[None], mode, padding_mode="border", align_corners=self.align_corners)[0]

    def _distances(
        self, carried: torch.Tensor, labels: torch.Tensor, transformed: torch.Tensor, params: dict[str, Any]
    ) -> torch.Tensor:
        """(channels x slabs, ...) distances after the transform.

        Parameters
        ----------
        carried : (channels x slabs, ...)
            Before it.
        labels, transformed : (slabs, ...)
            Labels before and after it.
        """
        computed = self._computed(transformed, params)
        outside = self._outside(params["grid"], labels.shape[1:])
        continued = transformed.clone()
        continued[:, outside] = self._border_labels(params["grid"][outside], labels).to(continued.dtype)
        if not torch.equal(continued.clamp_min(0), transformed.clamp_min(0)):
            # What the image cuts continues beyond it: its border is no boundary. No voxel of the image comes nearer to
            # another label by that: the voxel of the border that a place beyond it continues is nearer than the place.
            beyond = outside & (transformed <= 0)
            computed = torch.where(beyond, computed, self._computed(continued, params))
        if params["padded"]:
            computed.zero_()
        # Where the volume has no boundary, its rim is none either.
        bounded = (carried != 0).view(len(computed), -1).any(1)
        if not bounded.all():
            computed[~bounded] = 0
        # A boundary outside of the patch is at least as far as the first voxel there.
        shape = transformed.shape if len(transformed) > 1 else transformed.shape[1:]
        to_edge = _to_edge(shape, params["spacing_mm"][-len(shape) :])
        far = (computed > to_edge).logical_or_(computed == 0)
        if self.layout.scheme.ignore_label is not None:
            far &= transformed != self.layout.scheme.ignore_label
        if far.any():
            elsewhere = self._carried(carried, labels, transformed, params)
            # Where there is no boundary, there is none that is shorter.
            elsewhere.masked_fill_(elsewhere == 0, torch.inf)
            shorter = computed.masked_fill(computed == 0, torch.inf).minimum(elsewhere)
            shorter.masked_fill_(torch.isinf(shorter), 0)
            computed = torch.where(far, shorter, computed)
        return computed.flatten(0, 1)

    def _computed(self, labels: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:
        """(channels, slabs, ...) distances to boundaries within the patch, of (slabs, ...) labels."""
        volume = (labels if len(labels) > 1 else labels[0]).numpy()
        spacing = params["spacing_mm"][-volume.ndim :]
        kinds = [kind for kind in self.layout.kinds if KINDS[kind].sampling == "linear"]
        maps = [compute_distances(kind, volume, self.layout.scheme, spacing) for kind in kinds]
        return torch.from_numpy(np.concatenate(maps)).view(-1, *labels.shape)

    def _carried(
        self, carried: torch.Tensor, labels: torch.Tensor, transformed: torch.Tensor, params: dict[str, Any]
    ) -> torch.Tensor:
        """(channels, slabs, ...) carried distances after the transform; parameters as of `_distances`."""
        grid, shape, slabs = params["grid"], labels.shape[1:], len(labels)
        values = self._at(carried, grid, "bilinear").view(-1, *transformed.shape)
        if self.layout.scheme.ignore_label is not None:
            # Ignored voxels hold 0, which is no distance: divide means of neighbours by the share that is labelled.
            share = self._at((labels != self.layout.scheme.ignore_label).float(), grid, "bilinear")
            values /= torch.where(share > 0, share, 1)
        # To nnU-Net a border voxel reaches half a voxel beyond its centre: lesions there are no outside.
        places = self._outside(grid, shape).flatten().nonzero()[:, 0]
        beyond = transformed.flatten(1)[:, places] <= 0
        if beyond.any():
            points = grid.flatten(0, -2)[places]
            excess = self._excess(points, shape, params["spacing_mm"]).expand_as(beyond)[beyond]
            border_labels = self._border_labels(points, labels)[beyond]
            flat = values.view(self.layout.num_distances, -1)
            chosen = (torch.arange(slabs)[:, None] * transformed[0].numel() + places)[beyond]
            channels = carried.view(self.layout.num_distances, -1)
            flat[:, chosen] = self.layout.continued_outward(channels, flat[:, chosen], excess, border_labels)
        if params["affine"] is None:
            return values
        # Slabs are slices of a volume: along the third axis it is not zoomed.
        axes = len(params["affine"]) + (slabs > 1)
        return values.div_(abs(float(torch.linalg.det(torch.as_tensor(params["affine"])))) ** (1 / axes))

    def _border_labels(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """(slabs, N) labels of the voxels nearest to (N, axes) points."""
        line = points.view(*(1,) * (labels.ndim - 2), *points.shape)
        return self._at(labels.float(), line, "nearest").view(len(labels), -1)

    def _outside(self, grid: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """(X, Y[, Z]) whether a sample point of (X, Y[, Z], axes) lies beyond the outermost voxel centres."""
        outside = torch.zeros(grid.shape[:-1], dtype=torch.bool)
        for axis, size in enumerate(shape[::-1]):  # grid_sample counts axes from the last
            # Rounding of the grid must not turn border voxels into outside.
            outside |= grid[..., axis].abs() * ((size - int(self.align_corners)) / 2) > (size - 1) / 2 + 1e-3
        return outside

    def _excess(self, points: torch.Tensor, shape: torch.Size, spacing_mm: Sequence[float]) -> torch.Tensor:
        """(N) mm that each of (N, axes) sample points lies beyond the outermost voxel centres."""
        size = torch.tensor(shape[::-1], dtype=points.dtype)
        spacing = torch.tensor(spacing_mm[-len(shape) :][::-1], dtype=points.dtype)
        # From the middle the outermost centre is (size - 1) / 2 voxels away; see `_within` for the grid's unit.
        beyond = (points.abs() * ((size - int(self.align_corners)) / 2) - (size - 1) / 2).clamp_min(0)
        return torch.linalg.vector_norm(beyond * spacing, dim=-1)


def _to_edge(shape: Sequence[int], spacing: Sequence[float]) -> torch.Tensor:
    """(X, Y[, Z]) distance from each voxel to the first voxel centre outside of the patch."""
    nearest = torch.tensor(float("inf"))
    for axis, (size, step) in enumerate(zip(shape, spacing, strict=True)):
        position = torch.arange(1, size + 1)
        line = torch.minimum(position, position.flip(0)) * float(step)
        nearest = torch.minimum(nearest, line.view(-1, *(1,) * (len(shape) - 1 - axis)))
    return nearest


class ComputeMaps(BasicTransform):
    """Compute the maps on the augmented patch: what the papers' own codes see (`map_source="patch"`)."""

    def __init__(self, layout: MapLayout):
        super().__init__()
        self.layout = layout

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        labels, scheme = data_dict["segmentation"][0].numpy(), self.layout.scheme
        maps = []
        for kind in self.layout.kinds:
            if KINDS[kind].sampling == "linear":
                maps.append(compute_distances(kind, labels, scheme, data_dict[SPACING][-labels.ndim :]))
            else:
                ids, table = compute_lesion_ids(labels, scheme)
                data_dict[LESION_TABLE] = lesion_table_tensor(table)
                maps.append(ids)
        data_dict[MAPS] = torch.cat([torch.from_numpy(values.astype("float32")) for values in maps])
        return data_dict


def carry_maps(pipeline: ComposeTransforms, layout: MapLayout) -> ComposeTransforms:
    """The pipeline with its spatial transforms replaced by ones that know maps."""
    transforms = [
        MapSpatialTransform(transform, layout) if isinstance(transform, SpatialTransform) else transform
        for transform in pipeline.transforms
    ]
    return ComposeTransforms(transforms)


def compute_maps(pipeline: ComposeTransforms, layout: MapLayout) -> ComposeTransforms:
    """The pipeline with `ComputeMaps` put where the labels are final: augmented, and not yet regions or scales."""
    transforms = []
    for transform in pipeline.transforms:
        transforms.append(transform)
        if isinstance(transform, RemoveLabelTansform):
            transforms.append(ComputeMaps(layout))
    return ComposeTransforms(transforms)


OVERSAMPLE_BY = ("voxel", "lesion")
CASES_BY = ("case", "lesion")


class CurrentCase:
    """A dataset that remembers which case was loaded last: nnU-Net's loader tells its hooks only the shape."""

    def __init__(self, dataset: nnUNetBaseDataset):
        self.dataset = dataset
        self.identifiers = dataset.identifiers
        self.case = ""

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        self.case = identifier
        return self.dataset.load_case(identifier)


class MapDataLoader(nnUNetDataLoader):
    """nnU-Net's loader; batches carry ``maps`` (B, M, X, Y[, Z]), ``lesion_table`` with lesion ids, and ``spacing_mm``
    where it is not the same of all cases.

    Parameters
    ----------
    dataset, *args, **kwargs
        As for nnU-Net's loader.
    maps : StoredMaps
    carry : bool
        Whether a patch brings its stored maps. Without them the maps come out of the transforms
        (`nnunet_rw.training.dataloading.ComputeMaps`), or out of the loss.
    oversample_by : "voxel" or "lesion"
        With "lesion" a foreground patch is drawn around a lesion of the case, each alike, then a voxel of it (the
        tumour sampling of Shirokikh et al., arXiv 2007.10033); else around a voxel, as nnU-Net does.
    cases_by : "case" or "lesion"
        With "lesion" a case is drawn in proportion to its number of lesions, as those authors do; one without lesions
        never is.

    Raises
    ------
    ValueError
        ``cases_by`` is "lesion", and no case has one.
    """

    def __init__(
        self,
        dataset: nnUNetBaseDataset,
        *args: Any,
        maps: StoredMaps,
        carry: bool = True,
        oversample_by: str = "voxel",
        cases_by: str = "case",
        **kwargs: Any,
    ):
        super().__init__(CurrentCase(dataset), *args, **kwargs)
        self.maps, self.carry, self.oversample_by = maps, carry, oversample_by
        self.pipeline, self.transforms = kwargs["transforms"], self._transform_with_maps
        # Then that transform reads the maps itself: it knows which of them it needs.
        self._moves_first = isinstance(next(iter(self.pipeline.transforms), None), MapSpatialTransform)
        self._samples: list[dict[str, torch.Tensor]] = []
        if cases_by == "lesion":
            self.sampling_probabilities = self._in_proportion_to_lesions()

    def get_bbox(
        self, data_shape: np.ndarray, force_fg: bool, class_locations: dict | None, *args: Any, **kwargs: Any
    ) -> tuple[list[int], list[int]]:
        if force_fg and self.oversample_by == "lesion":
            class_locations = self._location_in_lesion() or class_locations
        lows, highs = super().get_bbox(data_shape, force_fg, class_locations, *args, **kwargs)
        self.shape, self.box = tuple(data_shape), list(zip(lows, highs, strict=True))
        return lows, highs

    def generate_train_batch(self) -> dict[str, Any]:
        self._samples = []
        batch = super().generate_train_batch()
        carried = {key: [sample[key] for sample in self._samples if key in sample] for key in (MAPS, LESION_TABLE)}
        if carried[MAPS]:
            batch["maps"] = torch.stack(carried[MAPS])
        if carried[LESION_TABLE]:
            batch["lesion_table"] = torch.nn.utils.rnn.pad_sequence(
                [table.T for table in carried[LESION_TABLE]], batch_first=True
            ).transpose(1, 2)
        if self.maps.settings.case_axes is not None:
            # Elsewhere the loss knows it, and every tensor more has to be handed over by the process that made it.
            batch["spacing_mm"] = torch.tensor([sample[SPACING] for sample in self._samples])
        return batch

    def _transform_with_maps(self, image: torch.Tensor, segmentation: torch.Tensor) -> dict[str, Any]:
        case = self._data.case
        spacing_mm = self.maps.spacing_of(case)[-segmentation[0].ndim :]
        sample: dict[str, Any] = {"image": image, "segmentation": segmentation, SPACING: spacing_mm}
        if self.carry:
            patch = MapPatch(self.maps, case, self.shape, self.box, segmentation[0])
            sample |= {MAP_PATCH: patch} if self._moves_first else {MAPS: patch.whole(), PADDED: patch.is_padded}
            if self.maps.layout.has_lesions:
                sample[LESION_TABLE] = lesion_table_tensor(self.maps.lesions(case))
        sample = self.pipeline(**sample)
        self._samples.append({key: sample[key] for key in (MAPS, LESION_TABLE, SPACING) if key in sample})
        return sample

    def _location_in_lesion(self) -> dict[int, np.ndarray] | None:
        """One voxel of one lesion, in the form of nnU-Net's class locations; None where the case has no lesion."""
        table = self.maps.lesions(self._data.case)
        if len(table) == 0:
            return None
        lesion = np.random.randint(len(table))
        voxel = table.locations[np.random.randint(table.starts[lesion], table.starts[lesion + 1])].astype(np.int64)
        group = self.maps.layout.scheme.foreground[int(table.channels[lesion])]
        return {group[0]: np.array([[0, *voxel]])}

    def _in_proportion_to_lesions(self) -> np.ndarray:
        counts = np.array([len(self.maps.lesions(case)) for case in self._data.identifiers], float)
        if counts.sum() == 0:
            raise ValueError(
                f"No case of {self.maps.data_folder} has a lesion, so none can be drawn by them. Set cases_by = 'case'."
            )
        return counts / counts.sum()
