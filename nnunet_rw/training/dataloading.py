"""nnU-Net's data loader, with the maps of every patch.

A patch's way: the loader draws a case and a box (`MapDataLoader.get_bbox`) and hands image, labels and a `MapPatch`
to nnU-Net's pipeline; its spatial transform (`nnunet_rw.training.transforms.MapSpatialTransform`) reads from that patch
what of the maps it needs, the others move them as a regression target; the loader takes them out of the sample into
the batch, and the trainer binds the batch's maps to the loss.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from nnunet_rw.store.layout import LESION_TABLE, lesion_table_tensor
from nnunet_rw.store.read import MapPatch, StoredMaps
from nnunet_rw.training.transforms import MAP_PATCH, MAPS, PADDED, SPACING, MapSpatialTransform

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
        (`nnunet_rw.training.transforms.ComputeMaps`), or out of the loss.
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
