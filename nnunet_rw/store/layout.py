"""How the maps of a patch lie in one tensor while they travel through nnU-Net's augmentation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from nnunet_rw.maps.kinds import KINDS, LESION_IDS, LabelScheme, LesionTable, stored_kinds

# Under this name the table of lesions goes with the maps, from the sample to the loss.
LESION_TABLE = "lesion_table"


@dataclass(frozen=True)
class MapLayout:
    """Channels of the stacked maps: distances first (sampled linearly), lesion ids last (nearest neighbour).

    Attributes
    ----------
    kinds : tuple of str
        Those that are stored and carried, in the order of `nnunet_rw.maps.kinds.KINDS`.
    scheme : LabelScheme
    """

    kinds: tuple[str, ...]
    scheme: LabelScheme

    @classmethod
    def of(cls, kinds: Iterable[str], scheme: LabelScheme) -> MapLayout:
        """The layout for losses that need these kinds."""
        return cls(stored_kinds(kinds, scheme), scheme)

    @property
    def num_channels(self) -> int:
        return sum(self._sizes)

    @property
    def num_distances(self) -> int:
        return len(self._groups)

    @property
    def has_lesions(self) -> bool:
        return LESION_IDS in self.kinds

    def split(self, stacked: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views of a (B, M, X, Y[, Z]) tensor, by kind."""
        return dict(zip(self.kinds, stacked.split(self._sizes, dim=1), strict=True))

    def continued_outward(
        self, distances: torch.Tensor, at_border: torch.Tensor, excess: torch.Tensor, border_labels: torch.Tensor
    ) -> torch.Tensor:
        """Distances beyond the image, where nnU-Net sees background.

        Parameters
        ----------
        distances : (D, ...)
            Distance channels within the image.
        at_border : (D, *N)
            For voxels beyond the image, the value of the nearest voxel of it.
        excess : (*N)
            Their distance to the image, above 0, in the unit of the maps.
        border_labels : (*N)
            The label of the nearest voxel of the image.

        Returns
        -------
        (D, *N) tensor
            Where the border is on the background's side of the channel's boundary, its value + excess, else excess. By
            the triangle inequality this is never below the true distance, and equal to it straight outwards from the
            nearest boundary. Never 0, which would say that a boundary is there; only channels without a boundary, which
            are 0 in the image, stay so. Beside an ignored border, whose distance is not known, it is too short: excess.
        """
        bounded = (distances != 0).flatten(1).any(1)
        continued = torch.empty_like(at_border)
        for channel, group in enumerate(self._groups):
            if not bounded[channel]:
                continued[channel] = 0
                continue
            # Label by label: torch.isin takes ten times as long.
            across = border_labels == group[0]
            for label in group[1:]:
                across |= border_labels == label
            torch.add(at_border[channel].masked_fill(across, 0), excess, out=continued[channel])
        return continued

    @property
    def _sizes(self) -> list[int]:
        return [KINDS[kind].num_channels(self.scheme) for kind in self.kinds]

    @property
    def _groups(self) -> list[tuple[int, ...]]:
        """Of every distance channel, the labels across its boundary from the background."""
        distances = [KINDS[kind] for kind in self.kinds if KINDS[kind].sampling == "linear"]
        return [group for kind in distances for group in kind.groups(self.scheme)]


def lesion_table_tensor(table: LesionTable) -> torch.Tensor:
    """The lesion table as (2, K + 1) float32 tensor, the index being the id.

    Row 0 holds voxels (at index 0 those of the whole case), row 1 the channel (at index 0 -1).
    """
    voxels = np.append(table.num_voxels, table.voxels)
    channels = np.append(-1, table.channels)
    return torch.from_numpy(np.stack([voxels, channels]).astype(np.float32))
