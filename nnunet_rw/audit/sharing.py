"""Cases that share lesions: crops of one image, copies, or lesions implanted twice, which folds must not part.

A lesion of `MIN_VOXELS` or more has an outline that no other lesion has by chance, so that equal masks in two cases are
the same lesion. Of smaller ones, and of regular ones that synthetic data are made of, that would not be true.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import Any

import numpy as np
from scipy.ndimage import find_objects

from nnunet_rw.audit.lesions import Lesions
from nnunet_rw.util.advice import command

MIN_VOXELS = 50


@dataclass(frozen=True)
class SharedLesions:
    """Pairs of cases with lesions of exactly the same shape.

    Attributes
    ----------
    lesions : int
        Shapes that are in several cases.
    pairs : tuple of (str, str)
        The cases that have one in common, sorted.
    parted : tuple of int
        For every fold the number of these pairs of which one case is trained on and the other validated; empty where
        there are no folds yet.
    """

    lesions: int
    pairs: tuple[tuple[str, str], ...]
    parted: tuple[int, ...]


def lesion_shapes(lesions: Lesions, ids: np.ndarray) -> frozenset[str]:
    """Digests of the masks of a case's large, irregular lesions.

    Parameters
    ----------
    lesions, ids
        Of `nnunet_rw.audit.lesions.find_case_lesions`.
    """
    digests = set()
    for channel in ids:
        for number, box in enumerate(find_objects(channel), start=1):
            if box is None or lesions.voxels[number - 1] < MIN_VOXELS:
                continue
            mask = channel[box] == number
            if any(np.array_equal(mask, np.flip(mask, axis)) for axis in range(mask.ndim)):
                continue
            what = f"{lesions.label[number - 1]} {mask.shape} ".encode()
            digests.add(blake2b(what + np.packbits(mask).tobytes(), digest_size=16).hexdigest())
    return frozenset(digests)


def shared_lesions(
    shapes: Mapping[str, frozenset[str]], folds: Sequence[Mapping[str, Any]] | None = None
) -> SharedLesions:
    """Which cases share lesions, and how many of these pairs each fold parts.

    Parameters
    ----------
    shapes : mapping of case to the digests of `lesion_shapes`
    folds : sequence of mappings with the cases in ``train`` and ``val``, optional
        As nnU-Net's ``splits_final.json`` has them.
    """
    owners: dict[str, list[str]] = defaultdict(list)
    for case in sorted(shapes):
        for shape in shapes[case]:
            owners[shape].append(case)
    several = [cases for cases in owners.values() if len(cases) > 1]
    pairs = {pair for cases in several for pair in combinations(cases, 2)}
    parted = []
    for fold in folds or ():
        train, val = set(fold["train"]), set(fold["val"])
        parted.append(sum((one in train and two in val) or (one in val and two in train) for one, two in pairs))
    return SharedLesions(len(several), tuple(sorted(pairs)), tuple(parted))


def sharing_warning(shared: SharedLesions, dataset: str) -> str:
    """What to tell and to do; empty where nothing is shared, or no fold parts it."""
    parted = sum(number > 0 for number in shared.parted)
    if not shared.pairs or (shared.parted and not parted):
        return ""
    one, two = shared.pairs[0]
    many = len(shared.pairs)
    folds = (
        f"{parted} of {len(shared.parted)} folds train on one of a pair and validate on the other"
        if shared.parted
        else "nnU-Net's folds, which are drawn at random, will part them"
    )
    return (
        f"Warning: {many} pair{'' if many == 1 else 's'} of cases share {shared.lesions} "
        f"lesion{'' if shared.lesions == 1 else 's'} of the very same shape, such as '{one}' and '{two}', and {folds}. "
        "Validation is then on lesions that training has seen. Write folds that keep such cases together: "
        f"{command('splits', dataset=dataset, groups='FILE')}"
    )
