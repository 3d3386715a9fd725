"""The first job of a task: its dataset, plans, splits and maps."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json, save_json
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_rw.benchmark.jobs import plans_name
from nnunet_rw.benchmark.specification import SMALL, Specification
from nnunet_rw.benchmark.tasks import Task
from nnunet_rw.benchmark.trainers import needed_maps
from nnunet_rw.benchmark.workspace import Workspace
from nnunet_rw.datasets.folders import Preprocessed, open_preprocessed
from nnunet_rw.datasets.msd import download_task, ensure_converted
from nnunet_rw.datasets.preprocess import preprocess_with_maps
from nnunet_rw.datasets.small_plans import write_small_plans
from nnunet_rw.store.write import ensure_maps, list_cases
from nnunet_rw.training.records import content_hash
from nnunet_rw.util.files import nnunet_folder

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


_STOCK_PLANS = "nnUNetPlans"
# nnU-Net's planners by the plans they write.
_PLANNERS = {
    _STOCK_PLANS: "ExperimentPlanner",
    "nnUNetResEncUNetMPlans": "nnUNetPlannerResEncM",
    "nnUNetResEncUNetLPlans": "nnUNetPlannerResEncL",
    "nnUNetResEncUNetXLPlans": "nnUNetPlannerResEncXL",
}


def prepare(workspace: Workspace, specification: Specification, task: Task, processes: int) -> None:
    """Do what is not done yet: download, convert, plan, preprocess, split, write maps.

    Raises
    ------
    FileNotFoundError, ValueError, OSError
        What is missing, or why it could not be done.
    """
    # With 0, right for training in one process, nnU-Net's planning asks torch for no threads at all and fails.
    os.environ.pop("nnUNet_n_proc_DA", None)
    _ensure_dataset(workspace, task, processes)
    preprocessed = nnunet_folder("nnUNet_preprocessed") / task.dataset
    if not is_preprocessed(specification, task):
        _preprocess(specification, task, preprocessed, processes)
    plans, small = plans_name(specification), specification.small_options
    if small is not None and not (preprocessed / f"{plans}.json").is_file():
        write_small_plans(preprocessed, name=plans, **small)
    data = open_preprocessed(task.dataset, specification.configuration, plans)
    splits = ensure_splits(data, given_splits(specification, task))
    if max(specification.folds) >= splits:
        raise ValueError(
            f"{preprocessed / SPLITS_FILE} has {splits} folds, from 0, but fold {max(specification.folds)} is "
            "asked for. Give others with -f."
        )
    written = ensure_maps(data.data_folder, needed_maps(specification), data.settings, num_processes=processes)
    print(f"{task.dataset}: {len(list_cases(data.data_folder))} cases, {splits} folds, maps of {written} cases written")


def is_prepared(specification: Specification, task: Task) -> bool:
    """Whether trainings can begin. Their maps are not looked at: a training writes what is missing."""
    preprocessed = nnunet_folder("nnUNet_preprocessed") / task.dataset
    return (
        is_preprocessed(specification, task)
        and (preprocessed / f"{plans_name(specification)}.json").is_file()
        and has_splits(preprocessed, given_splits(specification, task))
    )


def is_preprocessed(specification: Specification, task: Task) -> bool:
    """Whether the arrays of the plans' configuration are there, of every case of nnUNet_raw."""
    plans = _preprocessed_plans(specification)
    try:
        data = open_preprocessed(task.dataset, specification.configuration, plans)
        raw = nnunet_folder("nnUNet_raw") / task.dataset
        cases = get_filenames_of_train_images_and_targets(str(raw), load_json(str(raw / "dataset.json")))
        # Copied last by nnU-Net, so its presence means that the preprocessing is complete.
        complete = (data.dataset_folder / "gt_segmentations").is_dir()
        return complete and set(list_cases(data.data_folder)) == set(cases)
    except (FileNotFoundError, ValueError):
        return False


def _preprocessed_plans(specification: Specification) -> str:
    """Small plans use the arrays of nnU-Net's own."""
    return specification.plans if specification.small_options is None else _STOCK_PLANS


def _ensure_dataset(workspace: Workspace, task: Task, processes: int) -> None:
    if (nnunet_folder("nnUNet_raw") / task.dataset / "dataset.json").is_file():
        return
    folder: Path = task.folder or download_task(task.name, workspace.downloads)
    print(f"Converting {folder.name}")
    ensure_converted(folder, processes)


def _preprocess(specification: Specification, task: Task, preprocessed: Path, processes: int) -> None:
    plans = _preprocessed_plans(specification)
    if plans not in _PLANNERS:
        raise FileNotFoundError(
            f"No preprocessed data of {plans} in {preprocessed}. Plan and preprocess with them first, or choose among "
            f"{', '.join((SMALL, *_PLANNERS))}."
        )
    number = str(int(task.dataset[7:10]))
    options = ["-d", number, "-c", specification.configuration, "-pl", _PLANNERS[plans], "--no_pbar"]
    preprocess_with_maps([*options, "-np", str(processes), "-npfp", str(processes)], kinds=())
