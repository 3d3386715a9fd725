"""Whether evaluations may be compared pair by pair."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnunet_rw.evaluation.evaluation_folder import Evaluation

# Settings that change no figure that is compared; the diagonals belong to the references.
_INDIFFERENT = ("probabilities", "images", "image_diagonal_mm")
_NAMED = 3


def check_comparable(evaluations: Sequence[Evaluation]) -> None:
    """Whether all hold the same cases, labels, settings and reference lesions as the first.

    Raises
    ------
    ValueError
        Naming the first difference.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        _check_cases(first, other)
        if set(first.labels) != set(other.labels):
            raise ValueError(
                f"Expected the same labels in all evaluations, but got {', '.join(first.labels)} in {first.folder} and "
                f"{', '.join(other.labels)} in {other.folder}."
            )
        for key in sorted(first.settings.keys() | other.settings.keys()):
            values = first.settings.get(key), other.settings.get(key)
            if key not in _INDIFFERENT and values[0] != values[1]:
                raise ValueError(
                    f"Expected the same settings in all evaluations, but {key} is {values[0]} in {first.folder} and "
                    f"{values[1]} in {other.folder}. Evaluate again with equal options."
                )
        _check_references(first, other)


def _check_cases(first: Evaluation, other: Evaluation) -> None:
    if first.cases == other.cases:
        return
    only = [
        (evaluation.folder, sorted(set(evaluation.cases) - set(rest.cases)))
        for evaluation, rest in ((first, other), (other, first))
    ]
    told = [
        f"{len(names)} only in {folder} ({', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''})"
        for folder, names in only
        if names
    ]
    shared = len(set(first.cases) & set(other.cases))
    raise ValueError(
        f"Expected the same cases in all evaluations, but got {' and '.join(told)}, {shared} in both. "
        "A paired comparison needs every case from every trainer."
    )


def _check_references(first: Evaluation, other: Evaluation) -> None:
    same = all(
        np.array_equal(getattr(first.lesions, name), getattr(other.lesions, name))
        for name in ("case", "label", "lesion", "voxels")
    )
    same = same and np.allclose(first.diagonals_mm(), other.diagonals_mm(), rtol=1e-4, equal_nan=True)
    for label in first.labels:
        one, two = (evaluation.columns[label]["volume_reference_mm3"] for evaluation in (first, other))
        same = same and np.allclose(one, two, rtol=1e-4, equal_nan=True)
    if not same:
        raise ValueError(
            f"The references of {first.folder} and {other.folder} differ. Evaluate against the same files."
        )
