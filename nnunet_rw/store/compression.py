"""Maps computed and compressed a channel at a time, so that memory holds one channel and not one per class."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params

from nnunet_rw.maps.checks import diagonal
from nnunet_rw.maps.kinds import (
    KINDS,
    LESION_IDS,
    MAX_LOCATIONS,
    LesionTable,
    distance_channels,
    lesion_channels,
    list_lesions,
)

if TYPE_CHECKING:
    from nnunet_rw.store.files import MapSettings

# nnU-Net's own codec, LZ4HC, takes three times as long for distances and compresses them no better.
_FAST = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "filters": [blosc2.Filter.SHUFFLE]}
_COMPACT = {"codec": blosc2.Codec.ZSTD, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE, blosc2.Filter.BYTEDELTA]}
_FLOAT16_MAX = float(np.finfo(np.float16).max)


def compressed_distances(
    kind: str, labels: np.ndarray, spacing_mm: tuple[float, ...], settings: MapSettings, compact: bool
) -> blosc2.NDArray:
    """A distance map (channels, X, Y, Z) in memory: float16, or float32 where that would overflow or be too coarse.

    Parameters
    ----------
    kind : "interior_distance" or "boundary_distance"
    labels : integer array (X, Y, Z)
    spacing_mm : 3 floats
        Of this case.
    settings : MapSettings
    compact : bool
        Fewer bytes, in several times the time.
    """
    # No distance is longer than the diagonal.
    fits = diagonal(labels.shape, spacing_mm) < _FLOAT16_MAX and min(spacing_mm) > 1e-2
    dtype = np.dtype(np.float16 if fits else np.float32)
    array = _zeros(KINDS[kind].num_channels(settings.scheme), labels.shape, dtype, settings, compact)
    distances = distance_channels(kind, labels, settings.scheme, spacing_mm, settings.per_slice)
    thickness = array.chunks[1]
    for channel, values in enumerate(distances):
        # Whole chunks, so that none is compressed twice; slabs, so that only they are in memory in both types.
        for start in range(0, len(values), thickness):
            slab = slice(start, start + thickness)
            array[channel, slab] = values[slab].astype(dtype, order="C")
    return array


def compressed_lesions(labels: np.ndarray, settings: MapSettings, compact: bool) -> tuple[blosc2.NDArray, LesionTable]:
    """Lesion ids (channels, X, Y, Z) in memory, unsigned integers, and their table; parameters as above."""
    scheme = settings.scheme
    for dtype in (np.dtype(np.uint16), np.dtype(np.uint32)):
        array = _zeros(KINDS[LESION_IDS].num_channels(scheme), labels.shape, dtype, settings, compact)
        found = []
        for channel, lesions in enumerate(lesion_channels(scheme.each_mask(labels), MAX_LOCATIONS)):
            if lesions.ids.size:
                array[(channel, *lesions.box)] = lesions.ids.astype(dtype, order="C")
            found.append(replace(lesions, ids=lesions.ids[:0]))
        table = list_lesions(found, scheme.num_labelled(labels))
        if len(table) <= np.iinfo(dtype).max:
            break
    return array, table


def _zeros(
    num_channels: int, shape: tuple[int, ...], dtype: np.dtype, settings: MapSettings, compact: bool
) -> blosc2.NDArray:
    """To be filled; what stays zero takes neither room nor time."""
    whole = (num_channels, *shape)
    blocks, chunks = comp_blosc2_params(whole, settings.patch_size, dtype.itemsize)
    parameters = (_COMPACT if compact else _FAST) | {"nthreads": 1}
    return blosc2.zeros(whole, dtype, chunks=chunks, blocks=blocks, cparams=parameters)
