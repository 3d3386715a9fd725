"""The splits of a dataset: nnU-Net's own, or those that a benchmark brings, as for cases that share a patient."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_rw.benchmark.specification import Specification
from nnunet_rw.benchmark.tasks import Task
from nnunet_rw.preprocessed import Preprocessed
from nnunet_rw.run_record import content_hash
from nnunet_rw.writing import list_cases

SPLITS_FILE = "splits_final.json"


def ensure_splits(data: Preprocessed, given: Path | None = None) -> int:
    """Write the splits where there are none yet, and count the folds.

    By nnU-Net's first training, several at once would each write them.

    Parameters
    ----------
    data : Preprocessed
    given : path, optional
        A file like nnU-Net's ``splits_final.json``; without it, nnU-Net's own five folds.

    Raises
    ------
    FileNotFoundError, ValueError
        The given file is not there, no splits of these cases, or not those that are there already; or there are too
        few cases.
    """
    path = data.dataset_folder / SPLITS_FILE
    cases = sorted(list_cases(data.data_folder))
    if given is not None:
        splits = read_splits(given, cases)
        if path.is_file() and content_hash(path) != content_hash(given):
            raise ValueError(
                f"{path} has other splits than {given}. Remove it, and what was trained with it, or leave the "
                "benchmark's splits out."
            )
        save_json(splits, str(path))
    elif not path.is_file():
        if len(cases) < 5:
            raise ValueError(f"{data.dataset_folder.name} has {len(cases)} cases; five folds take five at least.")
        save_json(generate_crossval_split(list(np.array(cases)), seed=12345, n_splits=5), str(path))
    return len(load_json(str(path)))


def given_splits(specification: Specification, task: Task) -> Path | None:
    """The file that a benchmark brings for a task."""
    path = specification.splits.get(task.name)
    return None if path is None else Path(path)


def has_splits(dataset_folder: Path, given: Path | None) -> bool:
    """Whether splits are there, and are those that are given."""
    path = dataset_folder / SPLITS_FILE
    return path.is_file() and (given is None or (given.is_file() and content_hash(path) == content_hash(given)))


def read_splits(path: Path, cases: Collection[str]) -> list[dict[str, list[str]]]:
    """Splits as nnU-Net has them: a list of ``{"train": [...], "val": [...]}``.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file; it is something else, names cases that are not there, or trains with a validation case.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No splits in {path}. Correct 'splits' in the benchmark's YAML file.")
    try:
        splits: Any = json.loads(path.read_text(encoding="utf-8"))
        folds = [(set(fold["train"]), set(fold["val"])) for fold in splits]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f'{path} is no list of {{"train": [...], "val": [...]}}, as nnU-Net has splits.') from error
    for number, (train, val) in enumerate(folds):
        unknown = sorted((train | val) - set(cases))
        if unknown:
            raise ValueError(f"Fold {number} of {path} names {unknown[0]!r}, which the dataset does not have.")
        if not train or not val or train & val:
            raise ValueError(f"Fold {number} of {path} has an empty part, or a case in both.")
    if not folds:
        raise ValueError(f"{path} has no fold.")
    return splits
