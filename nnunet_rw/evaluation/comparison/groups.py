"""Which cases are of one patient: the independent units of intervals, tests and folds."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunet_rw.util.advice import command

COLUMNS = ("case", "patient")


def read_groups(path: str | Path) -> dict[str, str]:
    """Patient by case, from a CSV file with the columns ``case`` and ``patient``; others are left alone.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It has no such columns, an empty cell, or a case twice.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No {path}. Expected a CSV file with the columns {' and '.join(COLUMNS)}.")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            rows = [(reader.line_num, [(row.get(name) or "").strip() for name in COLUMNS]) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file: {error}. Expected the columns {' and '.join(COLUMNS)}.") from error
    absent = [name for name in COLUMNS if name not in names]
    if absent:
        raise ValueError(f"{path} has no column '{absent[0]}'. Expected the columns {' and '.join(COLUMNS)}.")
    groups: dict[str, str] = {}
    for line, (case, patient) in rows:
        if not case or not patient:
            raise ValueError(f"{path}, line {line}: expected a case and its patient, but got '{case}' and '{patient}'.")
        if case in groups:
            raise ValueError(f"{path}, line {line}: case '{case}' is there twice. Each case is of one patient.")
        groups[case] = patient
    if not groups:
        raise ValueError(f"{path} names no case. Expected a row per case.")
    return groups


def units_of(cases: Iterable[str], groups: Mapping[str, str] | None) -> list[str]:
    """The patient of each case; the case itself without groups.

    Raises
    ------
    ValueError
        A case has no patient.
    """
    cases = list(cases)
    if groups is None:
        return cases
    absent = sorted(set(cases) - groups.keys())
    if absent:
        raise ValueError(
            f"No patient for case '{absent[0]}' ({len(absent)} of {len(set(cases))} cases without one). Add each to "
            "the file of groups, a case without others with a patient of its own."
        )
    return [groups[case] for case in cases]


# How `folds_or_parts` names a part of the only fold.
PART = "split_"


def parts_of(units: Sequence[str], number: int, seed: int) -> dict[str, int]:
    """The part of each distinct unit, of so many or as there are units: drawn by the seed and their names alone."""
    names = sorted(set(units))
    order = np.random.default_rng(seed).permutation(len(names))
    return {names[index]: place % min(number, len(names)) for place, index in enumerate(order)}


def folds_or_parts(folds: Sequence[str], units: Sequence[str], number: int = 5, seed: int = 0) -> list[str]:
    """The fold of each case, or the part of it where folds leave nothing to choose on.

    That is so of a single fold, and of one that has a case of every patient. The cases are then split into parts, those
    of a unit together.

    Raises
    ------
    ValueError
        Fewer than two parts.
    """
    if all(cases_apart(folds, units, fold).any() for fold in set(folds)):
        return list(folds)
    if number < 2:
        raise ValueError(f"Expected two or more splits, but got {number}.")
    parts = parts_of(units, number, seed)
    return [f"{PART}{parts[unit]}" for unit in units]


def cases_apart(folds: Sequence[str], units: Sequence[str], fold: str) -> np.ndarray:
    """(N,) booleans: cases of other folds, without those of a patient of whom this fold has a case as well.

    Examples
    --------
    >>> cases_apart(["0", "1", "1"], ["anna", "anna", "ben"], "0").tolist()
    [False, False, True]
    """
    inside = np.asarray(folds) == fold
    return ~np.isin(units, np.asarray(units)[inside])


def folds_note(folds: Sequence[str], units: Sequence[str], dataset: str = "DATASET") -> tuple[str, ...]:
    """What is to be said of patients in several folds; nothing where each is in one.

    Parameters
    ----------
    folds, units : sequences of N str
        Of each case; all of one fold where there are none.
    dataset : str
        For the command that splits by patient.
    """
    folds_of = {unit: {fold for fold, other in zip(folds, units, strict=True) if other == unit} for unit in set(units)}
    several = sum(len(found) > 1 for found in folds_of.values())
    if not several:
        return ()
    return (
        f"{several} of {len(folds_of)} patients are in several folds, so that networks were trained on patients whose "
        "other cases they are judged by: figures are better than those of new patients will be. Split by patient and "
        f"train again: {command('splits', dataset=dataset, groups='FILE')}",
    )
