"""nnU-Net's data loader, with the maps of every patch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from nnunet_rw.layout import lesion_table_tensor
from nnunet_rw.maps.kinds import LESION_IDS
from nnunet_rw.stored_maps import MapPatch, StoredMaps
from nnunet_rw.transforms import MapSpatialTransform

OVERSAMPLE_BY = ("voxel", "lesion")


class CurrentCase:
    """A dataset that remembers which case was loaded last: nnU-Net's loader tells its hooks only the shape."""

    def __init__(self, dataset: nnUNetBaseDataset):
        self.dataset = dataset
        self.identifiers = dataset.identifiers
        self.case = ""

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        self.case = identifier
        self.loaded = self.dataset.load_case(identifier)
        return self.loaded


class MapDataLoader(nnUNetDataLoader):
    """nnU-Net's loader; its batches carry ``maps`` (B, M, X, Y[, Z]) and, with lesion ids, ``lesion_table``.

    Parameters
    ----------
    dataset, *args, **kwargs
        As for nnU-Net's loader.
    stored : StoredMaps, optional
        Without it the maps come out of the transforms (`nnunet_rw.transforms.ComputeMaps`).
    lesions : StoredMaps, optional
        Foreground patches are then drawn by lesion: a lesion of the case uniformly, then a voxel of it uniformly (the
        tumour sampling of Shirokikh et al., arXiv 2007.10033); else by voxel, as nnU-Net does.
    """

    def __init__(
        self,
        dataset: nnUNetBaseDataset,
        *args: Any,
        stored: StoredMaps | None = None,
        lesions: StoredMaps | None = None,
        **kwargs: Any,
    ):
        super().__init__(CurrentCase(dataset), *args, **kwargs)
        self.stored = stored
        self.lesion_source = lesions
        self.pipeline, self.transforms = kwargs["transforms"], self._transform_with_maps
        # Then that transform reads the maps itself: it knows which of them it needs.
        self._moves_first = isinstance(next(iter(self.pipeline.transforms), None), MapSpatialTransform)
        self.maps: list[torch.Tensor] = []
        self.tables: list[torch.Tensor] = []

    def get_bbox(
        self, data_shape: np.ndarray, force_fg: bool, class_locations: dict | None, *args: Any, **kwargs: Any
    ) -> tuple[list[int], list[int]]:
        if force_fg and self.lesion_source is not None:
            class_locations = self._location_in_lesion() or class_locations
        lows, highs = super().get_bbox(data_shape, force_fg, class_locations, *args, **kwargs)
        self.shape, self.box = tuple(data_shape), list(zip(lows, highs, strict=True))
        return lows, highs

    def generate_train_batch(self) -> dict[str, Any]:
        self.maps, self.tables = [], []
        batch = super().generate_train_batch()
        if self.maps:
            batch["maps"] = torch.stack(self.maps)
        if self.tables:
            batch["lesion_table"] = torch.nn.utils.rnn.pad_sequence(
                [table.T for table in self.tables], batch_first=True
            ).transpose(1, 2)
        return batch

    def _transform_with_maps(self, image: torch.Tensor, segmentation: torch.Tensor) -> dict[str, Any]:
        sample: dict[str, Any] = {"image": image, "segmentation": segmentation}
        if self.stored is not None:
            patch = MapPatch(self.stored, self._data.case, self.shape, self.box, segmentation[0])
            if self._moves_first:
                sample["map_patch"] = patch
            else:
                sample["regression_target"] = patch.whole()
            if LESION_IDS in self.stored.layout.kinds:
                self.tables.append(lesion_table_tensor(self.stored.lesions(self._data.case)))
        sample = self.pipeline(**sample)
        if "regression_target" in sample:
            self.maps.append(sample["regression_target"])
        if "lesion_table" in sample:
            self.tables.append(sample["lesion_table"])
        return sample

    def _location_in_lesion(self) -> dict[int, np.ndarray] | None:
        """One voxel of one lesion, in the form of nnU-Net's class locations; None where the case has no lesion."""
        assert self.lesion_source is not None
        case = self._data.case
        table = self.lesion_source.lesions(case)
        if len(table) == 0:
            return None
        lesion = np.random.randint(len(table))
        box, channel = table.boxes[lesion], int(table.channels[lesion])
        labels = np.asarray(self._data.loaded[1][(0, *(slice(int(low), int(high)) for low, high in box))])
        # Ids reach one voxel beyond the lesion; the labels decide.
        group = self.lesion_source.layout.scheme.foreground[channel]
        voxels = np.argwhere(np.isin(labels, group) & (self.lesion_source.read_ids(case, channel, box) == lesion + 1))
        voxel = voxels[np.random.randint(len(voxels))] + box[:, 0]
        return {group[0]: np.array([[0, *voxel]])}
