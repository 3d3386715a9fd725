"""nnU-Net's data loader, with the maps of every patch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from nnunet_rw.layout import MapLayout, lesion_table_tensor
from nnunet_rw.maps.kinds import LESION_IDS, LesionTable
from nnunet_rw.store import lesion_table, open_map

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


class StoredMaps:
    """The maps beside the preprocessed arrays, read by patches.

    Parameters
    ----------
    data_folder : str
        ``<nnUNet_preprocessed>/<dataset>/<data_identifier>``.
    layout : MapLayout
    spacing_mm : 3 floats
        Of the preprocessed arrays.
    """

    def __init__(self, data_folder: str, layout: MapLayout, spacing_mm: tuple[float, ...]):
        self.data_folder = data_folder
        self.layout = layout
        self.spacing_mm = spacing_mm

    def crop(self, case: str, shape: Sequence[int], box: Sequence[Sequence[int]], labels: torch.Tensor) -> torch.Tensor:
        """The maps of a box that may reach beyond the image.

        Parameters
        ----------
        shape : 3 ints
            Of the preprocessed case.
        box : 3 pairs of ints
            First voxel and one past the last, per axis.
        labels : (X, Y, Z)
            The labels of the same box, -1 beyond the image.

        Returns
        -------
        (M, X, Y, Z) float32 tensor

        Raises
        ------
        FileNotFoundError, ValueError
            The map is missing, damaged, or of another shape than the case; the message says what to run.
        """
        inside = tuple(slice(max(0, low), min(high, size)) for (low, high), size in zip(box, shape, strict=True))
        padding = [(piece.start - low, high - piece.stop) for piece, (low, high) in zip(inside, box, strict=True)]
        maps = np.concatenate([self._read(case, kind, shape, inside) for kind in self.layout.kinds])
        if not any(width for pair in padding for width in pair):
            return torch.from_numpy(maps)
        stacked = torch.from_numpy(np.pad(maps, [(0, 0), *padding], mode="edge"))
        core = tuple(
            slice(low, low + piece.stop - piece.start) for (low, _), piece in zip(padding, inside, strict=True)
        )
        border_labels = torch.from_numpy(np.pad(labels[core].numpy(), padding, mode="edge"))
        distances = stacked[: self.layout.num_distances]
        if len(distances):
            stacked[: self.layout.num_distances] = self.layout.continue_outward(
                distances, self._excess(inside, box), border_labels
            )
        return stacked

    def lesions(self, case: str) -> LesionTable:
        """The lesions of a case."""
        return lesion_table(open_map(self.data_folder, LESION_IDS, case)[1])

    def read_ids(self, case: str, channel: int, box: np.ndarray) -> np.ndarray:
        """Lesion ids (X, Y, Z) of a box within the image."""
        ids, _ = open_map(self.data_folder, LESION_IDS, case)
        return ids[(channel, *(slice(int(low), int(high)) for low, high in box))]

    def _read(self, case: str, kind: str, shape: Sequence[int], inside: tuple[slice, ...]) -> np.ndarray:
        array, _ = open_map(self.data_folder, kind, case)
        expected = (self.layout.scheme.num_channels(kind), *shape)
        if array.shape != tuple(expected):
            raise ValueError(
                f"Expected the {kind} map of case '{case}' in {self.data_folder} to have shape {tuple(expected)}, but "
                f"got {array.shape}. Write it again: nnunet-rw maps --overwrite"
            )
        return array[(slice(None), *inside)].astype(np.float32)

    def _excess(self, inside: tuple[slice, ...], box: Sequence[Sequence[int]]) -> torch.Tensor:
        squared = torch.zeros(())
        for axis, (piece, (low, high)) in enumerate(zip(inside, box, strict=True)):
            position = torch.arange(low, high)
            beyond = torch.maximum(piece.start - position, position - (piece.stop - 1)).clamp_min(0)
            squared = squared[..., None] + (beyond * self.spacing_mm[axis]) ** 2
        return squared.sqrt()


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
            labels = segmentation[0] if segmentation.ndim == 4 else segmentation[:1]
            maps = self.stored.crop(self._data.case, self.shape, self.box, labels)
            sample["regression_target"] = maps[:, 0] if self.patch_size_was_2d else maps
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
