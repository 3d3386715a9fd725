"""How the maps of a patch lie in one tensor while they travel through nnU-Net's augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, KINDS, LESION_IDS, LabelScheme, LesionTable


@dataclass(frozen=True)
class MapLayout:
    """Channels of the stacked maps: distances first (sampled linearly), lesion ids last (nearest neighbour).

    Attributes
    ----------
    kinds : tuple of str
        In the order of `nnunet_rw.maps.kinds.KINDS`.
    scheme : LabelScheme
    """

    kinds: tuple[str, ...]
    scheme: LabelScheme

    @classmethod
    def of(cls, kinds: Sequence[str], scheme: LabelScheme) -> MapLayout:
        return cls(tuple(kind for kind in KINDS if kind in kinds), scheme)

    @property
    def num_channels(self) -> int:
        return sum(self.scheme.num_channels(kind) for kind in self.kinds)

    @property
    def num_distances(self) -> int:
        return sum(self.scheme.num_channels(kind) for kind in self.kinds if kind != LESION_IDS)

    def split(self, stacked: torch.Tensor) -> dict[str, torch.Tensor]:
        """Views of a (B, M, X, Y[, Z]) tensor, by kind."""
        sizes = [self.scheme.num_channels(kind) for kind in self.kinds]
        return dict(zip(self.kinds, stacked.split(sizes, dim=1), strict=True))

    def continued_outward(
        self, distances: torch.Tensor, at_border: torch.Tensor, excess: torch.Tensor, border_labels: torch.Tensor
    ) -> torch.Tensor:
        """Distances beyond the image, where nnU-Net sees background.

        Parameters
        ----------
        distances : (D, ...)
            Distance channels within the image.
        at_border : (D, N)
            For N voxels beyond the image, the value of the nearest voxel of it.
        excess : (N)
            Their distance to the image, above 0, in the unit of the maps.
        border_labels : (N)
            The label of the nearest voxel of the image.

        Returns
        -------
        (D, N) tensor
            The border's value + excess where the border is outside the class, else excess. By the triangle inequality
            this is never below the true distance, and equal to it straight outwards from the nearest boundary. Never 0,
            which would say that a boundary is there. Maps of absent classes stay 0.
        """
        pieces = []
        channels = zip(self._distance_channels(distances), self._distance_channels(at_border), strict=True)
        for (kind, values), (_, border) in channels:
            if kind == INTERIOR_DISTANCE:
                pieces.append(torch.where(self._in_background(border_labels), border, 0) + excess)
                continue
            sign = torch.ones((len(values), 1), device=values.device)
            if not self.scheme.regions:
                sign[0] = -1
            # Of the whole channel: an interpolated value of a class that is present can be 0 too.
            present = (values != 0).flatten(1).any(1)[:, None]
            pieces.append(sign * ((sign * border).clamp_min(0) + excess) * present)
        return torch.cat(pieces)

    def _distance_channels(self, distances: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
        """Views, with their kind."""
        kinds = [kind for kind in self.kinds if kind != LESION_IDS]
        sizes = [self.scheme.num_channels(kind) for kind in kinds]
        return list(zip(kinds, distances.split(sizes), strict=True))

    def _in_background(self, labels: torch.Tensor) -> torch.Tensor:
        """(1 or R, N): whether a voxel lies outside every class, or outside the region."""
        if not self.scheme.regions:
            return (labels <= 0)[None]
        groups = [torch.tensor(group, device=labels.device) for group in self.scheme.foreground]
        return torch.stack([~torch.isin(labels, group) for group in groups])


def lesion_table_tensor(table: LesionTable) -> torch.Tensor:
    """The lesion table as (2, K + 1) float32 tensor, the index being the id.

    Row 0 holds voxels (at index 0 those of the whole case), row 1 the channel (at index 0 -1).
    """
    voxels = np.append(table.num_voxels, table.voxels)
    channels = np.append(-1, table.channels)
    return torch.from_numpy(np.stack([voxels, channels]).astype(np.float32))
