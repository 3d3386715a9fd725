"""What the lesions are that stock nnU-Net misses: ``python -m benchmarks.evidence.missed``.

Writes ``results/evidence_missed_NAME.json``, a row per class and size: how many lesions are found by hysteresis at as
many false positives as at 0.5, how clearly found and missed ones stand out in the image, and how probable the best
voxel of a missed one is: a lesion without a probable voxel is lost to any rule.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import binary_dilation, find_objects

from benchmarks.evidence.rules import SMALL_VOXELS, Training, add_dataset, class_names
from benchmarks.harness import write_result
from nnunet_rw.evaluation.reading import read_case
from nnunet_rw.evaluation.sources import Source, cross_validation_source, raw_images
from nnunet_rw.maps.arrays import as_connectivity, connected_components
from nnunet_rw.postprocessing.threshold.fit import fitted_cases, named_label
from nnunet_rw.util.tables import json_value

# Voxels around a lesion that its brightness is compared with.
SHELL_VOXELS = 3
SIZES = {f"up to {SMALL_VOXELS} voxels": (1, SMALL_VOXELS), "larger": (SMALL_VOXELS + 1, np.inf)}


class Lesions(NamedTuple):
    """(R,) each: voxels, contrast in standard deviations of the surroundings, highest probability."""

    voxels: np.ndarray
    contrast: np.ndarray
    peak: np.ndarray


def described(mask: np.ndarray, image: np.ndarray, probability: np.ndarray) -> Lesions:
    """The lesions of a mask in array order; all (X, Y[, Z]).

    The contrast is by how much the mean of a lesion differs from that of what is not labelled up to `SHELL_VOXELS`
    around it, in standard deviations of the latter; NaN where there is nothing to compare with.
    """
    ids = connected_components(mask.astype(np.uint8), as_connectivity(26, mask.ndim))
    rows = [_lesion(ids, number, box, mask, image, probability) for number, box in enumerate(find_objects(ids), 1)]
    return Lesions(*np.array(rows, float).reshape(-1, 3).T)


def _lesion(
    ids: np.ndarray,
    number: int,
    box: tuple[slice, ...],
    mask: np.ndarray,
    image: np.ndarray,
    probability: np.ndarray,
) -> tuple[float, float, float]:
    wider = tuple(slice(max(0, side.start - SHELL_VOXELS), side.stop + SHELL_VOXELS) for side in box)
    lesion = ids[wider] == number
    around = binary_dilation(lesion, np.ones((3,) * lesion.ndim), iterations=SHELL_VOXELS) & ~mask[wider]
    values, surroundings = image[wider][lesion], image[wider][around]
    spread = surroundings.std() if surroundings.size else 0
    contrast = abs(values.mean() - surroundings.mean()) / spread if spread else np.nan
    return float(lesion.sum()), float(contrast), float(probability[wider][lesion].max())


def missed_rows(training: Training, lesions: Lesions) -> Iterator[dict[str, Any]]:
    """A row per size, of the lesions of all cases of a training in its order.

    Raises
    ------
    ValueError
        They are others.
    """
    if not np.array_equal(lesions.voxels, training.lesion_voxels):
        raise ValueError("Expected the lesions of the training, but got others, or in another order.")
    found = training.left_out(training.own_false_positives)["hysteresis"].found
    for size, (low, high) in SIZES.items():
        of_size = (low <= lesions.voxels) & (lesions.voxels <= high)
        if not of_size.any():
            continue
        hit, missed = of_size & found, of_size & ~found
        yield json_value(
            {
                "size": size,
                "lesions": int(of_size.sum()),
                "found": float(found[of_size].mean()),
                "contrast_found": _median(lesions.contrast[hit]),
                "contrast_missed": _median(lesions.contrast[missed]),
                "missed": int(missed.sum()),
                "missed_above_half": _share(lesions.peak[missed] > 0.5),
                "missed_below_tenth": _share(lesions.peak[missed] <= 0.1),
            }
        )


def _median(values: np.ndarray) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else np.nan


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def read_lesions(source: Source, label: str, channel: int) -> Lesions:
    """The lesions of all cases, in the order of `fitted_cases`: that of the cases' names.

    Parameters
    ----------
    source : Source
        With probabilities and images.
    label : str
    channel : int
        Of the image.
    """
    labels = source.labels
    chosen = named_label(labels, label)
    cases = []
    for files in sorted(source.cases, key=lambda files: files.case):
        case = read_case(files, source.reader, labels.known, labels.num_channels)
        image = source.reader.read_images([str(path) for path in files.images])[0][channel]
        probability = case.probabilities[labels.channels[labels.foreground.index(chosen)]]
        # An image of two dimensions is read as one slice.
        image = image.reshape(probability.shape)
        cases.append(described(np.isin(case.reference, chosen), image, probability))
    return Lesions(*(np.concatenate(values) for values in zip(*cases, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_dataset(parser)
    parser.add_argument("-tr", required=True, help="with validation of --npz")
    parser.add_argument("--channel", type=int, default=0, help="of the image")
    options = parser.parse_args()
    source = cross_validation_source(
        options.d, options.c, options.tr, options.plans, probabilities=True, images=raw_images(options.d)
    )
    rows = []
    for label, name in class_names(source).items():
        training = Training(fitted_cases(source, label=label))
        rows += [{"class": name} | row for row in missed_rows(training, read_lesions(source, label, options.channel))]
    print(write_result(f"evidence_missed_{options.name}", rows))


if __name__ == "__main__":
    main()
