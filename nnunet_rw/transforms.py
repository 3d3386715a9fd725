"""Carry maps through nnU-Net's own augmentation pipeline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.cropping import crop_tensor
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform
from torch.nn.functional import grid_sample

from nnunet_rw.layout import MapLayout, lesion_table_tensor
from nnunet_rw.maps.kinds import LESION_IDS, compute_distances, compute_lesion_ids
from nnunet_rw.stored_maps import MapPatch


class MapSpatialTransform(SpatialTransform):
    """nnU-Net's spatial transform, knowing what it moves.

    Distances are sampled linearly and divided by the zoom (an object shown s times smaller has s times smaller
    distances; with unequal zooms, as in dummy-2D augmentation, by their geometric mean over the three axes, which
    is closer than the zoom within the slices where these are thick). Lesion ids are sampled by nearest neighbour.
    Beyond the loaded patch nnU-Net sees background, so distances go on growing there.
    """

    def __init__(self, stock: SpatialTransform, layout: MapLayout, spacing_mm: tuple[float, ...]):
        BasicTransform.__init__(self)
        self.__dict__.update(stock.__dict__)
        self.layout = layout
        self.spacing_mm = spacing_mm

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        patch, stacked = data_dict.pop("map_patch", None), data_dict.pop("regression_target", None)
        # Dummy-2D augmentation folds the slice axis into the channels; elsewhere a channel is one slab.
        slabs = 1 if stacked is None else stacked.shape[0] // self.layout.num_channels
        labels = data_dict["segmentation"][:slabs]
        data_dict = super().apply(data_dict, **params)
        background = data_dict["segmentation"][:slabs] <= 0
        if stacked is None and params["grid"] is None:
            data_dict["regression_target"] = self._cropped(patch, params)
            return data_dict
        if stacked is None:
            stacked, labels = patch.within_image(), labels[(slice(None), *patch.inside)]
            params["grid"] = self._within(params["grid"], patch.labels.shape, patch.inside)
        distances, ids = stacked.split(
            [self.layout.num_distances * slabs, stacked.shape[0] - self.layout.num_distances * slabs]
        )
        data_dict["regression_target"] = torch.cat(
            [self._sample_distances(distances, labels, background, params), self._sample(ids, "nearest", params)]
        )
        return data_dict

    def _cropped(self, patch: MapPatch, params: dict[str, Any]) -> torch.Tensor:
        centre = [math.floor(position) for position in params["center_location_in_pixels"]]
        lows = [position - size // 2 for position, size in zip(centre, self.patch_size, strict=True)]
        spans = zip(lows, self.patch_size, patch.labels.shape, strict=True)
        if all(low >= 0 and low + size <= whole for low, size, whole in spans):
            return patch.crop(lows, self.patch_size)
        return self._sample(patch.whole(), "nearest", params)

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

    def _sample(self, values: torch.Tensor, mode: str, params: dict[str, Any]) -> torch.Tensor:
        if params["grid"] is None:
            center = [math.floor(position) for position in params["center_location_in_pixels"]]
            return crop_tensor(values, center, self.patch_size, pad_mode="replicate", pad_kwargs={})
        if len(values) == 0:
            return values.new_zeros((0, *self.patch_size))
        return grid_sample(
            values[None], params["grid"][None], mode=mode, padding_mode="border", align_corners=self.align_corners
        )[0]

    def _sample_distances(
        self, distances: torch.Tensor, labels: torch.Tensor, background: torch.Tensor, params: dict[str, Any]
    ) -> torch.Tensor:
        sampled = self._sample(distances, "bilinear", params)
        if params["grid"] is None or len(sampled) == 0:
            return sampled
        zoom = 1.0
        if params["affine"] is not None:
            # Slabs are slices of a volume: along the third axis it is not zoomed.
            axes = len(params["affine"]) + (len(background) > 1)
            zoom = abs(float(torch.linalg.det(torch.as_tensor(params["affine"])))) ** (1 / axes)
        self._carry_outward(sampled, labels, background, params)
        return sampled.div_(zoom)

    def _carry_outward(
        self, sampled: torch.Tensor, labels: torch.Tensor, background: torch.Tensor, params: dict[str, Any]
    ) -> None:
        """Distances beyond the image, in place: for these voxels alone, since most lie within."""
        grid, shape = params["grid"], labels.shape[1:]
        outside = self._outside(grid, shape).flatten().nonzero()[:, 0]
        # To nnU-Net a border voxel reaches half a voxel beyond its centre: lesions there are no outside.
        chosen = background.flatten(1)[:, outside]
        if not chosen.any():
            return
        points = grid.flatten(0, -2)[outside]
        excess = self._excess(points, shape).expand_as(chosen)[chosen]
        line = points.view(*(1,) * (len(shape) - 1), *points.shape)
        border_labels = self._sample(labels.float(), "nearest", params | {"grid": line}).view_as(chosen)[chosen]
        slabs = torch.arange(len(background))[:, None] * background[0].numel()
        beyond = (slabs + outside)[chosen]
        channels = sampled.view(self.layout.num_distances, -1)
        channels[:, beyond] = self.layout.continued_outward(channels, channels[:, beyond], excess, border_labels)

    def _outside(self, grid: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """(X, Y[, Z]) whether a sample point lies beyond the outermost voxel centres."""
        outside = torch.zeros(grid.shape[:-1], dtype=torch.bool)
        for axis, size in enumerate(shape[::-1]):  # grid_sample counts axes from the last
            # Rounding of the grid must not turn border voxels into outside.
            outside |= grid[..., axis].abs() * ((size - int(self.align_corners)) / 2) > (size - 1) / 2 + 1e-3
        return outside

    def _excess(self, points: torch.Tensor, shape: torch.Size) -> torch.Tensor:
        """(N) mm that each of (N, axes) sample points lies beyond the outermost voxel centres."""
        size = torch.tensor(shape[::-1], dtype=points.dtype)
        spacing = torch.tensor(self.spacing_mm[-len(shape) :][::-1], dtype=points.dtype)
        # From the middle the outermost centre is (size - 1) / 2 voxels away; see `_within` for the grid's unit.
        beyond = (points.abs() * ((size - int(self.align_corners)) / 2) - (size - 1) / 2).clamp_min(0)
        return torch.linalg.vector_norm(beyond * spacing, dim=-1)


class ComputeMaps(BasicTransform):
    """Compute the maps on the augmented patch: what the papers' own codes see (`map_source="patch"`)."""

    def __init__(self, layout: MapLayout, spacing_mm: tuple[float, ...]):
        super().__init__()
        self.layout = layout
        self.spacing_mm = spacing_mm

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        labels = data_dict["segmentation"][0].numpy()
        spacing = self.spacing_mm[-labels.ndim :]
        maps = []
        for kind in self.layout.kinds:
            if kind == LESION_IDS:
                ids, table = compute_lesion_ids(labels, self.layout.scheme)
                data_dict["lesion_table"] = lesion_table_tensor(table)
                maps.append(ids)
            else:
                maps.append(compute_distances(kind, labels, self.layout.scheme, spacing))
        data_dict["regression_target"] = torch.cat([torch.from_numpy(values.astype("float32")) for values in maps])
        return data_dict


def carry_maps(pipeline: ComposeTransforms, layout: MapLayout, spacing_mm: tuple[float, ...]) -> ComposeTransforms:
    """The pipeline with its spatial transforms replaced by ones that know maps."""
    transforms = [
        MapSpatialTransform(transform, layout, spacing_mm) if isinstance(transform, SpatialTransform) else transform
        for transform in pipeline.transforms
    ]
    return ComposeTransforms(transforms)


def compute_maps(pipeline: ComposeTransforms, layout: MapLayout, spacing_mm: tuple[float, ...]) -> ComposeTransforms:
    """The pipeline with `ComputeMaps` put where the labels are final: augmented, and not yet regions or scales."""
    transforms = []
    for transform in pipeline.transforms:
        transforms.append(transform)
        if isinstance(transform, RemoveLabelTansform):
            transforms.append(ComputeMaps(layout, spacing_mm))
    return ComposeTransforms(transforms)
