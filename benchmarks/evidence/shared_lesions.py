"""How many lesions of a test stand labelled in its training: ``python -m benchmarks.evidence.shared_lesions FOLDER``.

Crops of one brain overlap. Two are laid onto each other by the cross-correlation of their images; where these are then
the same, their tissue is, and a lesion of the one may be a lesion of the other.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from batchgenerators.utilities.file_and_folder_operations import load_json
from scipy import fft

from benchmarks.evidence.collect import SMALL_VOXELS
from benchmarks.harness import write_result
from nnunet_rw.maps.components import connected_components

SAME_CORRELATION = 0.9
SAME_IOU = 0.8
MIN_OVERLAP_VOXELS = 200
# By fold of the splits: what its test is to its training.
TESTS = {0: "patients of the training", 1: "another patient"}


@dataclass(frozen=True)
class Crop:
    """Part of an image, and of its labels.

    Attributes
    ----------
    image : float array (X, Y, Z)
    lesions : boolean array (X, Y, Z)
    """

    image: np.ndarray
    lesions: np.ndarray

    @cached_property
    def ids(self) -> np.ndarray:
        """Of the lesions, from 1 on."""
        return connected_components(self.lesions.view(np.uint8), 26)

    @cached_property
    def voxels(self) -> np.ndarray:
        """(L + 1,) numbers of voxels by id, that of the background first."""
        return np.bincount(self.ids.ravel())

    @cached_property
    def phases(self) -> np.ndarray:
        """Spectrum of the image without its amplitudes, padded so that nothing comes in again at the other side."""
        shape = [fft.next_fast_len(2 * size, real=True) for size in self.image.shape]
        spectrum = fft.rfftn((self.image - self.image.mean()).astype(np.float32), shape)
        size = np.abs(spectrum)
        return spectrum / np.maximum(size, 1e-6 * size.max())


def offset(first: Crop, second: Crop) -> tuple[int, ...] | None:
    """Where the second crop begins in the first one's voxels; None where they do not show the same tissue."""
    shape = [fft.next_fast_len(2 * size, real=True) for size in first.image.shape]
    correlation = fft.irfftn(first.phases * second.phases.conj(), shape)
    peak = np.unravel_index(correlation.argmax(), correlation.shape)
    found = tuple(int(at) if at < size / 2 else int(at) - size for at, size in zip(peak, shape, strict=True))
    one, other = (crop.image[box] for crop, box in zip((first, second), _boxes(first, found), strict=True))
    if one.size < MIN_OVERLAP_VOXELS or not one.std() * other.std() > 0:
        return None
    return found if np.corrcoef(one.ravel(), other.ravel())[0, 1] >= SAME_CORRELATION else None


def shared_lesions(test: Crop, training: Sequence[Crop]) -> np.ndarray:
    """Which lesions of a crop are lesions of another one with an IoU of at least `SAME_IOU`: booleans (L,)."""
    best = np.zeros(len(test.voxels))
    for other in training:
        begin = offset(test, other)
        if begin is None:
            continue
        ids, others = (crop.ids[box].ravel() for crop, box in zip((test, other), _boxes(test, begin), strict=True))
        both = (ids > 0) & (others > 0)
        (id_, other_id), shared = np.unique(np.stack([ids[both], others[both]]), axis=1, return_counts=True)
        iou = shared / (test.voxels[id_] + other.voxels[other_id] - shared)
        np.maximum.at(best, id_, iou)
    return best[1:] >= SAME_IOU


def shared_row(crops: Mapping[str, Crop], split: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Lesions of a fold's test, all and small, and how many of them its training shows too."""
    training = [crops[case] for case in split["train"]]
    shared = np.concatenate([shared_lesions(crops[case], training) for case in split["val"]])
    small = np.concatenate([crops[case].voxels[1:] for case in split["val"]]) <= SMALL_VOXELS
    return {
        "lesions": len(shared),
        "shared": int(shared.sum()),
        "shared_of_lesions": float(shared.mean()),
        "small_lesions": int(small.sum()),
        "small_shared": int(shared[small].sum()),
        "shared_of_small_lesions": float(shared[small].mean()),
    }


def _boxes(first: Crop, begin: Sequence[int]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What two crops of one shape share, in the voxels of either; the second begins there in the first."""
    sizes = list(zip(begin, first.image.shape, strict=True))
    return (
        tuple(slice(max(0, at), min(size, size + at)) for at, size in sizes),
        tuple(slice(max(0, -at), min(size, size - at)) for at, size in sizes),
    )


def main() -> None:
    """Write ``results/evidence_shared_lesions.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="Task11_MSLesion")
    folder = parser.parse_args().folder
    splits = load_json(str(Path(__file__).with_name("ms_lesions_splits.json")))
    names = sorted({case for fold in TESTS for part in ("train", "val") for case in splits[fold][part]})
    crops = {name: _read(folder, name) for name in names}
    rows = [{"fold": fold, "tested_in": test, **shared_row(crops, splits[fold])} for fold, test in TESTS.items()]
    print(write_result("evidence_shared_lesions", rows))


def _read(folder: Path, case: str) -> Crop:
    image, labels = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / part / f"{case}.nii.gz")))
        for part in ("imagesTr", "labelsTr")
    )
    return Crop(image.astype(np.float32), labels > 0)


if __name__ == "__main__":
    main()
