"""Slow and independent version of the matching of lesions, SciPy and loops, and masks to match.

Masks are boolean, (X, Y[, Z]).
"""

from functools import cache

import numpy as np
from scipy import ndimage


def line(picture):
    """Mask of the column x = y = 1 of a small volume, drawn from z = 0 on: a voxel is #."""
    mask = np.zeros((3, 3, len(picture)), bool)
    mask[1, 1] = [character == "#" for character in picture]
    return mask


def random_boxes(seed, shape=(30, 26, 22), count=20):
    """Reference of random boxes; prediction of the same, some lost, some shifted and grown, and some false ones."""
    rng = np.random.default_rng(seed)
    reference, prediction = np.zeros(shape, bool), np.zeros(shape, bool)
    for number in range(count):
        start = rng.integers(1, np.array(shape) - 7)
        stop = start + rng.integers(1, 6, 3)
        if number % 4 != 3:
            reference[tuple(map(slice, start, stop))] = True
        if number % 5 != 4:
            shift = rng.integers(-1, 2, 3) * rng.integers(0, 2, 3)
            grown = stop + rng.integers(0, 2, 3) * rng.integers(0, 2, 3)
            prediction[tuple(map(slice, start + shift, shift + grown))] = True
    return reference, prediction


def components(mask, connectivity=26):
    structure = ndimage.generate_binary_structure(mask.ndim, {6: 1, 18: 2, 26: mask.ndim}[connectivity])
    numbered, count = ndimage.label(mask, structure)
    return [numbered == number for number in range(1, count + 1)]


def best_assignment(gains):
    """Largest total of a one-to-one choice from {(row, column): gain}, by trying all."""
    rows = sorted({row for row, _ in gains})

    @cache
    def best(position, taken):
        if position == len(rows):
            return 0.0
        options = [(column, gain) for (row, column), gain in gains.items() if row == rows[position]]
        without = best(position + 1, taken)
        return max([without, *(g + best(position + 1, taken | {c}) for c, g in options if c not in taken)])

    return best(0, frozenset())


def match(reference, prediction, spacing_mm, connectivity=26, min_volume_mm3=0, score=None):
    """A dict for each reference lesion, one for each predicted lesion, and the best total IoU of pairs >= 0.1.

    What depends on which of the best assignments is taken is left out.
    """
    voxel = float(np.prod(spacing_mm))
    truth, found = components(reference, connectivity), components(prediction, connectivity)
    ignored = [mask.sum() * voxel < min_volume_mm3 - 1e-6 for mask in truth]
    kept = [number for number in range(len(truth)) if not ignored[number]]
    touches = {number: [i for i, mask in enumerate(found) if (mask & truth[number]).any()] for number in kept}
    touched = {i: [number for number in kept if i in touches[number]] for i in range(len(found))}

    def iou(number, i):
        return (truth[number] & found[i]).sum() / (truth[number] | found[i]).sum()

    def kind_of(numbers, partners):
        """Of a lesion that lies in the pairs of these reference and predicted lesions."""
        if any(len(touched[i]) > 1 for i in partners):
            return "merged"
        if any(len(touches[number]) > 1 for number in numbers):
            return "split"
        ((number,), (i,)) = numbers, partners
        if (truth[number] & found[i]).sum() < truth[number].sum() / 2:
            return "under_segmented"
        return "over_segmented" if iou(number, i) < 0.1 else "matched"

    def shared(mask):
        return {
            "voxels": int(mask.sum()),
            "volume_mm3": mask.sum() * voxel,
            "centroid_mm": np.argwhere(mask).mean(0) * spacing_mm,
        }

    references, predictions = [], []
    for number, mask in enumerate(truth):
        partners = touches.get(number, [])
        record = {**shared(mask), "counted": not ignored[number], "hit": bool(partners), "kind": "ignored"}
        if not ignored[number]:
            record["kind"] = kind_of([number], partners) if partners else "missed"
        record["iou"] = np.nan if ignored[number] else max([0.0, *(iou(number, i) for i in partners)])
        record["score"] = (
            max((score[found[i]].max() for i in partners), default=np.nan) if score is not None else np.nan
        )
        references.append(record)
    for i, mask in enumerate(found):
        numbers, neutral = touched[i], not touched[i] and (mask & reference).any()
        record = {**shared(mask), "counted": not neutral, "hit": bool(numbers), "kind": "false_positive"}
        if numbers:
            record["kind"] = kind_of(numbers, [i])
        elif neutral:
            record["kind"] = "neutral"
        record["iou"] = np.nan if neutral else max([0.0, *(iou(number, i) for number in numbers)])
        record["score"] = score[mask].max() if score is not None else np.nan
        predictions.append(record)
    gains = {(number, i): iou(number, i) for number in kept for i in touches[number] if iou(number, i) >= 0.1}
    return references, predictions, best_assignment(gains)
