"""The lesions of one case: sizes, border voxels, and the size classes that evaluations use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_rw.evaluation.lesions import ROUNDING
from nnunet_rw.evaluation.recall import DEFAULT_EDGES_MM3
from nnunet_rw.evaluation.surface import border_voxels
from nnunet_rw.maps import lesion_components
from nnunet_rw.maps._checks import as_labels
from nnunet_rw.maps.kinds import LabelScheme

# One fewer than there are edges: a lesion of v mm3 is in class i with edges[i] <= v < edges[i + 1].
NUM_SIZE_CLASSES = len(DEFAULT_EDGES_MM3) - 1


@dataclass(frozen=True)
class Lesions:
    """Lesions: 26-connected components of every foreground class, or of every region.

    Attributes
    ----------
    label : int64 array (K,)
        Index of the class or region in the scheme's foreground.
    voxels, border_voxels : int64 arrays (K,)
        A voxel is border if a face neighbour is outside of the lesion or of the image, as for surface distances.
    volume_mm3 : float64 array (K,)
        mm2 for two axes.
    """

    label: np.ndarray
    voxels: np.ndarray
    border_voxels: np.ndarray
    volume_mm3: np.ndarray

    def __len__(self) -> int:
        return len(self.voxels)

    @property
    def size_class(self) -> np.ndarray:
        """(K,) int64 from 0, the smallest, to ``NUM_SIZE_CLASSES - 1``."""
        # Upwards, so that a lesion on an edge is not below it by rounding.
        return np.digitize(self.volume_mm3 * (1 + ROUNDING), DEFAULT_EDGES_MM3[1:-1]).astype(np.int64)


def find_case_lesions(
    labels: np.ndarray, scheme: LabelScheme, spacing_mm: Sequence[float]
) -> tuple[Lesions, np.ndarray]:
    """The lesions of a case, and where they are.

    Parameters
    ----------
    labels : integer array (X, Y[, Z])
        -1 is background; unlabelled voxels are in no lesion.

    Returns
    -------
    lesions : Lesions
    ids : int32 array (1 or regions, X, Y[, Z])
        Index in ``lesions`` + 1, 0 outside. Classes exclude each other and share one channel.
    """
    labels = as_labels(labels)
    layers = list(scheme.each_mask(labels)) if scheme.regions else [labels]
    ignore = None if scheme.regions else scheme.ignore_label  # which no region's mask holds
    ids = np.zeros((len(layers), *labels.shape), np.int32)
    parts, offset = [], 0
    for channel, layer in enumerate(layers):
        found = lesion_components(layer, spacing=spacing_mm, ignore_label=ignore)
        border = [
            np.count_nonzero(border_voxels(found.ids[tuple(slice(*axis) for axis in box)] == number))
            for number, box in enumerate(found.boxes, start=1)
        ]
        index = np.full(len(found), channel) if scheme.regions else _positions(found.labels, scheme)
        parts.append((index, found.voxels, border, found.volumes_mm3))
        np.add(found.ids, offset, out=ids[channel], where=found.ids > 0)
        offset += len(found)
    label, voxels, borders, volumes = (np.concatenate(values) for values in zip(*parts, strict=True))
    return Lesions(label.astype(np.int64), voxels, borders.astype(np.int64), volumes), ids


def _positions(values: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """Of labels in the scheme's foreground, each of which is one of them."""
    return np.array([scheme.foreground.index((int(value),)) for value in values], np.int64)


def pooled(parts: Sequence[Lesions]) -> Lesions:
    """All lesions of several cases."""
    names = ("label", "voxels", "border_voxels", "volume_mm3")
    return Lesions(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
