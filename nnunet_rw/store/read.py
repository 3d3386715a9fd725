"""The maps beside the preprocessed arrays, read by patches: the only place where a training reads them from disk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from nnunet_rw.maps.kinds import KINDS, LESION_IDS, LesionTable
from nnunet_rw.store.files import MapSettings, lesion_table, open_map
from nnunet_rw.store.layout import MapLayout


class StoredMaps:
    """The maps of the cases in one folder.

    A process checks the map of a case when it opens it for the first time, and parses its table of lesions once.

    Parameters
    ----------
    data_folder : str
        ``<nnUNet_preprocessed>/<dataset>/<data_identifier>``.
    layout : MapLayout
    settings : MapSettings
    """

    def __init__(self, data_folder: str, layout: MapLayout, settings: MapSettings):
        self.data_folder = data_folder
        self.layout = layout
        self.settings = settings
        self._checked: set[tuple[str, str]] = set()

    def spacing_of(self, case: str) -> tuple[float, ...]:
        """mm per axis of a case."""
        return _spacing_of(self.settings, self.data_folder, case)

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
            The map is missing, damaged, or of another case, segmentation or settings; the message says what to run.
        """
        inside = tuple(slice(max(0, low), min(high, size)) for (low, high), size in zip(box, shape, strict=True))
        padding = [(piece.start - low, high - piece.stop) for piece, (low, high) in zip(inside, box, strict=True)]
        maps = np.empty((self.layout.num_channels, *(piece.stop - piece.start for piece in inside)), np.float32)
        first = 0
        for kind in self.layout.kinds:
            values = self._read(case, kind, shape, inside)
            maps[first : first + len(values)] = values  # other types are converted on the way
            first += len(values)
        stacked = torch.from_numpy(maps)
        if not any(width for pair in padding for width in pair):
            return stacked
        return self._continued(stacked, labels, padding, self.spacing_of(case))

    def _continued(
        self,
        maps: torch.Tensor,
        labels: torch.Tensor,
        padding: Sequence[tuple[int, int]],
        spacing_mm: Sequence[float],
    ) -> torch.Tensor:
        """Maps (M, ...) widened by the padding, with the labels of all: ids of the border, distances grown outward."""
        beyond = []
        for (before, after), size in zip(padding, maps.shape[1:], strict=True):
            step = torch.arange(-before, size + after)
            beyond.append((step - step.clamp(0, size - 1)).float())
        squared = [(steps * spacing) ** 2 for steps, spacing in zip(beyond, spacing_mm, strict=True)]
        excess = (squared[0][:, None, None] + squared[1][:, None] + squared[2]).sqrt()
        core = tuple(slice(before, before + size) for (before, _), size in zip(padding, maps.shape[1:], strict=True))
        result = _with_border(maps, padding)
        number = self.layout.num_distances
        if number:
            border_labels = _with_border(labels[core][None], padding)[0]
            result[:number] = self.layout.continued_outward(maps[:number], result[:number], excess, border_labels)
            result[(slice(None), *core)] = maps
        return result

    def lesions(self, case: str) -> LesionTable:
        """The lesions of a case."""
        return _lesions_of(self, case)

    def _read(self, case: str, kind: str, shape: Sequence[int], inside: tuple[slice, ...]) -> np.ndarray:
        array = open_map(self.data_folder, kind, case, self.settings, check=(kind, case) not in self._checked)
        self._checked.add((kind, case))
        expected = (KINDS[kind].num_channels(self.layout.scheme), *shape)
        if array.shape != tuple(expected):
            raise ValueError(
                f"Expected the {kind} map of case '{case}' in {self.data_folder} to have shape {tuple(expected)}, but "
                f"got {array.shape}. {self.settings.maps_advice(self.data_folder, overwrite=True)}"
            )
        try:
            return array[(slice(None), *inside)]
        except RuntimeError as error:  # blosc2's, of a chunk that it cannot decompress
            raise ValueError(
                f"Map file {array.schunk.urlpath} is damaged. Delete it. {self.settings.maps_advice(self.data_folder)}"
            ) from error


def _with_border(values: torch.Tensor, padding: Sequence[tuple[int, int]]) -> torch.Tensor:
    """(M, X, Y, Z) values widened: beyond the border its nearest value is repeated."""
    return torch.from_numpy(np.pad(values.numpy(), [(0, 0), *padding], mode="edge"))


@lru_cache(maxsize=4096)
def _spacing_of(settings: MapSettings, data_folder: str, case: str) -> tuple[float, ...]:
    return settings.spacing_of(data_folder, case)


@lru_cache(maxsize=512)
def _lesions_of(stored: StoredMaps, case: str) -> LesionTable:
    return lesion_table(open_map(stored.data_folder, LESION_IDS, case, stored.settings))


class MapPatch:
    """The stored maps of a patch that nnU-Net has loaded, read when it is known what of them is needed.

    nnU-Net loads patches so large that they can be rotated, and most of them it only crops.

    Parameters
    ----------
    stored : StoredMaps
    case : str
    shape : 3 ints
        Of the preprocessed case.
    box : 3 pairs of ints
        Of the patch, which may reach beyond the image; one slice in two dimensions.
    labels : (X, Y, Z), or (Y, Z) of a slice
        Of the patch, -1 beyond the image.

    Attributes
    ----------
    inside : tuple of slices
        What of the patch, along its own axes, lies within the image.
    """

    def __init__(
        self,
        stored: StoredMaps,
        case: str,
        shape: Sequence[int],
        box: Sequence[Sequence[int]],
        labels: torch.Tensor,
    ):
        self.stored, self.case, self.image_shape, self.box, self.labels = stored, case, shape, box, labels
        self._is_slice = labels.ndim == 2
        within = [slice(max(0, -low), min(high, size) - low) for (low, high), size in zip(box, shape, strict=True)]
        self.inside = tuple(within[self._is_slice :])

    @property
    def is_padded(self) -> bool:
        """Whether the patch reaches beyond the image."""
        return any(
            piece.start > 0 or piece.stop < size for piece, size in zip(self.inside, self.labels.shape, strict=True)
        )

    def crop(self, lows: Sequence[int], sizes: Sequence[int]) -> torch.Tensor:
        """(M, ...) maps of a part of the patch, continued beyond the image."""
        part = tuple(slice(low, low + size) for low, size in zip(lows, sizes, strict=True))
        return self._read(part, self.labels[part])

    def whole(self) -> torch.Tensor:
        """(M, ...) maps of the whole patch, continued beyond the image."""
        return self.crop((0,) * self.labels.ndim, self.labels.shape)

    def within_image(self) -> torch.Tensor:
        """(M, ...) maps of `inside`."""
        return self._read(self.inside, self.labels[self.inside])

    def _read(self, part: tuple[slice, ...], labels: torch.Tensor) -> torch.Tensor:
        if self._is_slice:
            part, labels = (slice(0, 1), *part), labels[None]
        box = [(low + piece.start, low + piece.stop) for (low, _), piece in zip(self.box, part, strict=True)]
        maps = self.stored.crop(self.case, self.image_shape, box, labels)
        return maps[:, 0] if self._is_slice else maps
