"""The cases of a cross-validation with every model's files, and which of them are held out together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_rw.evaluation.sources import CaseFiles, Source

_NAMED = 3


@dataclass(frozen=True)
class PairedCase:
    """One case.

    Attributes
    ----------
    case : str
    fold : str
        What is fitted for this case is fitted on the cases of other folds alone.
    files : tuple of CaseFiles
        One a model.
    """

    case: str
    fold: str
    files: tuple[CaseFiles, ...]


def paired_cases(sources: Sequence[Source], num_splits: int = 5, seed: int = 0) -> list[PairedCase]:
    """Pair the cases of several models and tell their folds.

    The folds are those of the cross-validation. Where only one was trained its cases are split at random, by the seed
    and their names alone.

    Parameters
    ----------
    sources : sequence of Source
        One or more, from `nnunet_rw.evaluation.sources.cross_validation_source`.
    num_splits : int
        Of a single fold; at most its cases.
    seed : int

    Returns
    -------
    list of PairedCase
        Sorted by case.

    Raises
    ------
    ValueError
        No model or one twice, fewer than two cases, different labels, cases or folds, or cases that a model was trained
        on.
    """
    names = [source.name for source in sources]
    if not sources or len(set(names)) < len(names):
        raise ValueError(f"Expected every model once, but got {', '.join(names) or 'none'}.")
    by_case = [{files.case: files for files in source.cases} for source in sources]
    for source, cases in zip(sources, by_case, strict=True):
        _check(source, cases, sources[0], by_case[0])
    folds = {}
    for case in sorted(by_case[0]):
        found = {_fold(cases[case]) for cases in by_case}
        if len(found) > 1:
            raise ValueError(
                f"Expected case '{case}' in the same fold of all models, but got {' and '.join(sorted(found))}. Train "
                "them with the same splits_final.json."
            )
        folds[case] = found.pop()
    if len(folds) < 2:
        raise ValueError(f"Expected two or more cases to fit and test on, but got {len(folds)}.")
    if len(set(folds.values())) == 1:
        folds = _split(list(folds), num_splits, seed)
    return [PairedCase(case, folds[case], tuple(cases[case] for cases in by_case)) for case in sorted(folds)]


def _check(source: Source, cases: dict[str, CaseFiles], first: Source, first_cases: dict[str, CaseFiles]) -> None:
    for key in ("labels", "regions_class_order"):
        if source.dataset_json.get(key) != first.dataset_json.get(key):
            raise ValueError(f"Expected the same {key} of all models, but {first.name} and {source.name} differ.")
    if len(cases) < len(source.cases):
        raise ValueError(
            f"Expected every case of {source.name} in one fold, but got some in several. Name them with -f."
        )
    if any(_fold(files) == "fold_all" for files in cases.values()):
        raise ValueError(
            f"Expected cases that {source.name} was not trained on, but its fold_all was. Name other folds with -f."
        )
    different = sorted(cases.keys() ^ first_cases.keys())
    if different:
        names = ", ".join(different[:_NAMED]) + (", ..." if len(different) > _NAMED else "")
        raise ValueError(
            f"Expected the same cases of all models, but {first.name} has {len(first_cases)} and {source.name} "
            f"{len(cases)}; {names} only in one. Train and validate the same folds of both."
        )


def _fold(files: CaseFiles) -> str:
    """The folder above: <model>/fold_0/validation; of other folders none, all their cases are one fold."""
    name = files.prediction.resolve().parent.parent.name
    return name if name.startswith("fold_") else ""


def _split(cases: Sequence[str], num_splits: int, seed: int) -> dict[str, str]:
    if num_splits < 2:
        raise ValueError(f"Expected two or more splits, but got {num_splits}.")
    order = np.random.default_rng(seed).permutation(len(cases))
    return {cases[index]: f"split_{place % min(num_splits, len(cases))}" for place, index in enumerate(order)}
