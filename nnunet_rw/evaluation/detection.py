"""Which lesions were found: detection by any overlap, voxel-wise Dice, and a summary over cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import cc3d
import numpy as np


@dataclass(frozen=True)
class Detection:
    """
    Lesions of one case and class. K counts the reference lesions that are not ignored.

    Attributes
    ----------
    volumes_voxels : int64 (K,), size of each reference lesion
    volumes_mm3 : float64 (K,), the same in mm3; in voxels when no spacing was given
    hit : bool (K,), True where the prediction holds any voxel of the lesion
    num_predicted : number of all predicted lesions
    num_false_positives : predicted lesions that touch no reference lesion
    num_neutral : touch ignored reference lesions and no other: neither true nor false positives
    """

    volumes_voxels: np.ndarray
    volumes_mm3: np.ndarray
    hit: np.ndarray
    num_predicted: int
    num_false_positives: int
    num_neutral: int


def detect_lesions(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float] | None = None,
    connectivity: int = 26,
    min_volume_mm3: float = 0.0,
) -> Detection:
    """
    Match reference and predicted lesions by any overlap: one shared voxel is a hit.

    One predicted lesion may hit many reference lesions, and many may hit one. With an empty reference K is 0
    and every predicted lesion is a false positive; an empty prediction hits nothing. Inputs are not changed.

    Parameters
    ----------
    reference, prediction : bool (X, Y[, Z]), one class of each
    spacing_mm : voxel size per array axis; without it volumes, `min_volume_mm3` too, are in voxels
    connectivity : 6, 18 or 26 neighbours; in 2D 6 means the 4, the others mean the 8 in the plane
    min_volume_mm3 : reference lesions smaller than this are ignored: neither hit nor missed

    Raises
    ------
    ValueError
        If the masks are not boolean, not 2D or 3D or differ in shape, or an option is impossible.
    """
    _check_masks(reference, prediction)
    if reference.ndim not in (2, 3):
        raise ValueError(f"Expected masks of shape (X, Y[, Z]), but got {reference.shape}.")
    if connectivity not in (6, 18, 26):
        raise ValueError(f"Expected a connectivity of 6, 18 or 26, but got {connectivity}.")
    spacing = np.ones(reference.ndim) if spacing_mm is None else np.asarray(spacing_mm, dtype=float)
    if spacing.shape != (reference.ndim,) or not np.all(np.isfinite(spacing) & (spacing > 0)):
        raise ValueError(f"Expected {reference.ndim} positive values in mm as spacing, but got {spacing_mm}.")
    if not min_volume_mm3 >= 0:
        raise ValueError(f"Expected min_volume_mm3 of at least 0, but got {min_volume_mm3}.")

    reference_ids, num_reference = _lesion_ids(reference, connectivity)
    predicted_ids, num_predicted = _lesion_ids(prediction, connectivity)
    volumes_voxels = np.bincount(reference_ids.ravel(), minlength=num_reference + 1)
    volumes_mm3 = volumes_voxels * np.prod(spacing)
    # Ten voxels of 1.47 mm3 are 14.7 mm3 to the user, but a little less in floating point.
    counted = volumes_mm3 >= min_volume_mm3 * (1 - 1e-9)
    counted[0] = False  # the background

    hit = np.bincount(reference_ids[prediction], minlength=num_reference + 1) > 0
    touches_any = np.bincount(predicted_ids[reference], minlength=num_predicted + 1)[1:] > 0
    touches_counted = np.bincount(predicted_ids[counted[reference_ids]], minlength=num_predicted + 1)[1:] > 0
    return Detection(
        volumes_voxels=volumes_voxels[counted],
        volumes_mm3=volumes_mm3[counted],
        hit=hit[counted],
        num_predicted=num_predicted,
        num_false_positives=int(np.sum(~touches_any)),
        num_neutral=int(np.sum(touches_any & ~touches_counted)),
    )


def dice(reference: np.ndarray, prediction: np.ndarray) -> float:
    """
    Dice coefficient of two boolean masks of equal shape: 2 |A and B| / (|A| + |B|).

    NaN when both are empty (a true negative, which no overlap can describe), 0 when one is.

    Raises
    ------
    ValueError
        If the masks are not boolean or differ in shape.
    """
    _check_masks(reference, prediction)
    total = np.count_nonzero(reference) + np.count_nonzero(prediction)
    return 2 * np.count_nonzero(reference & prediction) / total if total else float("nan")


def summarise(
    detections: Sequence[Detection],
    dices: Sequence[float],
    small_voxels: int = 20,
) -> dict[str, float]:
    """
    One line of results: mean Dice over the cases that have one, recall pooled over the lesions of all cases.

    Parameters
    ----------
    detections, dices : one per case, in the same order, cases without a lesion included
    small_voxels : a lesion of at most so many voxels is small

    Returns
    -------
    dict of numbers (JSON-ready)
        `dice`, the mean of the `dice_n` values that are not NaN (NaN if all are); `recall_small` and
        `recall_all` (NaN without such lesions) with `num_small_hit` of `num_small_lesions` and `num_hit` of
        `num_lesions`; `false_positives_per_case`, `num_false_positives`; `num_predicted`, `num_cases`,
        `small_voxels`.

    Raises
    ------
    ValueError
        If there is no case, or the two sequences differ in length.
    """
    num_cases = len(detections)
    if num_cases == 0 or num_cases != len(dices):
        raise ValueError(f"Expected one of each a case, but got {num_cases} detections, {len(dices)} dices.")
    volumes_voxels = np.concatenate([detection.volumes_voxels for detection in detections])
    hit = np.concatenate([detection.hit for detection in detections])
    small = volumes_voxels <= small_voxels
    valid = np.asarray(dices, dtype=float)[~np.isnan(dices)]
    num_false_positives = sum(detection.num_false_positives for detection in detections)
    return {
        "dice": _ratio(float(valid.sum()), len(valid)),
        "dice_n": len(valid),
        "recall_small": _ratio(int(hit[small].sum()), int(small.sum())),
        "recall_all": _ratio(int(hit.sum()), len(hit)),
        "false_positives_per_case": num_false_positives / num_cases,
        "num_cases": num_cases,
        "num_lesions": len(hit),
        "num_hit": int(hit.sum()),
        "num_small_lesions": int(small.sum()),
        "num_small_hit": int(hit[small].sum()),
        "num_predicted": sum(detection.num_predicted for detection in detections),
        "num_false_positives": num_false_positives,
        "small_voxels": small_voxels,
    }


def _check_masks(reference, prediction):
    for name, mask in (("reference", reference), ("prediction", prediction)):
        if mask.dtype != np.bool_:
            raise ValueError(f"Expected a boolean {name}, but got {mask.dtype}. Pass labels == class_id.")
    if reference.shape != prediction.shape:
        raise ValueError(
            f"Expected masks of equal shape, but got {reference.shape} as reference and "
            f"{prediction.shape} as prediction."
        )


def _lesion_ids(mask, connectivity):
    """Ids 1..K per connected set of voxels, 0 in the background, and K."""
    volume = mask if mask.ndim == 3 else mask[..., np.newaxis]
    ids, count = cc3d.connected_components(volume.astype(np.uint8), connectivity=connectivity, return_N=True)
    return ids.reshape(mask.shape), int(count)


def _ratio(part, whole):
    return part / whole if whole else float("nan")
