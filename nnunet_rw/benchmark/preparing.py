"""The datasets of a benchmark, and the first job of each: to get it, plans, splits and maps."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from nnunetv2.utilities.crossval_split import generate_crossval_split
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets
from sklearn.model_selection import GroupKFold

from nnunet_rw.benchmark.jobs import Task, Workspace, plans_name
from nnunet_rw.benchmark.specification import DATASET, SMALL, Specification, is_path
from nnunet_rw.benchmark.training import needed_maps
from nnunet_rw.datasets.folders import (
    SPLITS_FILE,
    STOCK_PLANS,
    Preprocessed,
    dataset_folder,
    open_preprocessed,
    read_dataset_json,
)
from nnunet_rw.datasets.msd import TASKS, check_msd_folder, dataset_name_of, download_task, ensure_converted
from nnunet_rw.datasets.planning import preprocess_as_planned, preprocess_with_maps, write_small_plans
from nnunet_rw.evaluation.comparison.groups import read_groups, units_of
from nnunet_rw.store.write import ensure_maps, list_cases
from nnunet_rw.training.records import content_hash, json_hash
from nnunet_rw.util import readers
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import nnunet_folder, write_atomically
from nnunet_rw.util.readers import told

_RAW, _PREPROCESSED = "nnUNet_raw", "nnUNet_preprocessed"
_REPAIR = "Restore it, or remove it together with what was trained with it."


def find_task(text: str, downloads: Path) -> Task:
    """The dataset that is meant.

    Parameters
    ----------
    text : str
        A folder in MSD layout, a Decathlon name, or the name of a dataset in nnUNet_raw.
    downloads : Path
        Folder of downloaded tasks.

    Raises
    ------
    FileNotFoundError, ValueError
        It is none of these, or its number belongs to another dataset of nnUNet_raw.
    """
    task = _find(text, downloads)
    raw = Path(os.environ[_RAW])
    others = [path.name for path in raw.glob(f"{task.dataset[:10]}_*") if path.is_dir() and path.name != task.dataset]
    if others:
        raise ValueError(f"{text} would be {task.dataset}, but {raw} has {others[0]}. Give the folder another number.")
    return task


def _find(text: str, downloads: Path) -> Task:
    if DATASET.fullmatch(text):
        path = nnunet_folder(_RAW) / text
        if not (path / "dataset.json").is_file():
            raise FileNotFoundError(f"No dataset.json in {path}. Give a dataset of nnUNet_raw, or an MSD folder.")
        return Task(text, text)
    if is_path(text):
        # Not resolved: a link may have the task's name, and its target another.
        folder = Path(os.path.abspath(text))
        if not folder.is_dir():
            raise FileNotFoundError(
                f"No folder {folder} of a task. Was it moved? Give its place with --tasks, to the demo with --msd, or "
                "write it into the benchmark's YAML file."
            )
        check_msd_folder(folder)
        return Task(folder.name, dataset_name_of(folder.name), folder)
    if text in TASKS:
        downloaded = downloads / text
        return Task(text, dataset_name_of(text), downloaded if downloaded.is_dir() else None)
    raise ValueError(
        f"Unknown task {text!r}. Give a folder in MSD layout, a dataset of nnUNet_raw (Dataset004_Hippocampus), or one "
        f"of the Decathlon: {', '.join(TASKS)}."
    )


def ensure_splits(data: Preprocessed, given: Path | None = None, groups: Mapping[str, str] | None = None) -> int:
    """Write the splits where there are none yet, and count the folds.

    By nnU-Net's first training, several at once would each write them.

    Parameters
    ----------
    data : Preprocessed
    given : path, optional
        A file like nnU-Net's ``splits_final.json``; without it, nnU-Net's own five folds.
    groups : mapping of case to patient, optional
        Five folds by patient instead of nnU-Net's own.

    Raises
    ------
    FileNotFoundError, ValueError
        The given file is not there, no splits of these cases, or not those that are there already; those that are
        given or there have a patient in both parts of a fold; or there are too few cases.
    """
    path = data.dataset_folder / SPLITS_FILE
    cases = list_cases(data.data_folder, data.settings)
    _check_patients(data.dataset_folder, given, groups)
    if given is not None:
        splits = read_splits(given, cases)
        if path.is_file() and content_hash(path) != content_hash(given):
            raise ValueError(
                f"{path} has other splits than {given}. Remove it, and what was trained with it, or leave the "
                "benchmark's splits out."
            )
        _write_splits(path, splits)
    elif not path.is_file() and groups is not None:
        write_patient_splits(data, groups)
    elif not path.is_file():
        if len(cases) < _FOLDS:
            raise ValueError(f"{data.dataset_folder.name} has {len(cases)} cases; five folds take five at least.")
        _write_splits(path, _nnunet_splits(cases))
    return len(readers.read_splits(path, _REPAIR))


def check_patients(specification: Specification, tasks: Sequence[Task]) -> None:
    """Refuse a benchmark over patients whose tasks have other splits already, given or there.

    Its page would call a patient who is in both parts of a fold held out.

    Raises
    ------
    FileNotFoundError, ValueError
        A patient is in both parts of a fold; or the patients' file is not there, or lacks a case.
    """
    groups = read_groups(specification.groups) if specification.groups else None
    for task in tasks:
        folder = Path(os.environ[_PREPROCESSED]) / task.dataset
        _check_patients(folder, given_splits(specification, task), groups)


def _check_patients(dataset_folder: Path, given: Path | None, groups: Mapping[str, str] | None) -> None:
    path = given or dataset_folder / SPLITS_FILE
    if groups is None or not path.is_file():
        return
    by_patient = command("splits", dataset=dataset_folder.name, groups="FILE", overwrite=True)
    advice = (
        "Correct it, or leave out 'groups'."
        if given
        else f"Remove it and what was trained with it, or run: {by_patient}; or give 'splits', or leave out 'groups'."
    )
    for number, fold in enumerate(readers.read_splits(path, _REPAIR)):
        shared = shared_patients(fold, groups)
        if shared:
            raise ValueError(f"Fold {number} of {path} has patient '{shared[0]}' in both parts. {advice}")


def shared_patients(fold: Mapping[str, Sequence[str]], groups: Mapping[str, str]) -> list[str]:
    """Sorted patients of whom a fold has cases in both parts.

    Raises
    ------
    ValueError
        A case has no patient.
    """
    return sorted(set(units_of(fold["train"], groups)) & set(units_of(fold["val"], groups)))


FoldsOf = Literal["", "nnU-Net", "patients", "authors"]


def folds_of(dataset: str, folds: Collection[int], groups: Mapping[str, str] | None) -> FoldsOf:
    """Whose these folds of a dataset are, by what its splits say.

    Returns
    -------
    FoldsOf
        "patients" where none is in both parts of one of the folds, "nnU-Net" where it would draw the same, else
        "authors"; empty where there are no splits, or not so many.
    """
    path = Path(os.environ[_PREPROCESSED]) / dataset / SPLITS_FILE
    if not path.is_file():
        return ""
    splits = readers.read_splits(path, _REPAIR)
    if max(folds) >= len(splits):
        return ""
    cases = sorted({case for fold in splits for part in fold.values() for case in part})
    if groups and groups.keys() >= set(cases) and not any(shared_patients(splits[fold], groups) for fold in folds):
        return "patients"
    own = _nnunet_splits(cases) if len(cases) >= _FOLDS else []
    return "nnU-Net" if own == splits else "authors"


_FOLDS = 5


def _nnunet_splits(cases: Sequence[str]) -> list[dict[str, list[str]]]:
    """Those that nnU-Net draws of sorted cases."""
    drawn = generate_crossval_split(list(np.array(cases)), seed=12345, n_splits=_FOLDS)
    return [{part: [str(case) for case in names] for part, names in fold.items()} for fold in drawn]


def given_splits(specification: Specification, task: Task) -> Path | None:
    """The file that a benchmark brings for a task."""
    path = specification.splits.get(task.name)
    return None if path is None else Path(path)


def has_splits(dataset_folder: Path, given: Path | None) -> bool:
    """Whether splits are there, and are those that are given.

    Raises
    ------
    DamagedFile
        What is there are no splits.
    """
    path = dataset_folder / SPLITS_FILE
    if path.is_file():
        readers.read_splits(path, _REPAIR)
    return path.is_file() and (given is None or (given.is_file() and content_hash(path) == content_hash(given)))


def present_splits(dataset: str) -> list[dict[str, list[str]]] | None:
    """The dataset's splits; None where nothing is preprocessed or trained yet.

    Raises
    ------
    ValueError
        The file is something else.
    """
    try:
        path = dataset_folder(dataset) / SPLITS_FILE
    except FileNotFoundError:
        return None
    return read_splits(path) if path.is_file() else None


def patient_splits(cases: Collection[str], groups: Mapping[str, str], folds: int = 5) -> list[dict[str, list[str]]]:
    """Splits in which no patient is in both parts of a fold, folds being as even as patients allow.

    Raises
    ------
    ValueError
        A case has no patient, or there are fewer patients than folds.
    """
    names = sorted(cases)
    units = units_of(names, groups)
    if len(set(units)) < folds:
        raise ValueError(f"Expected at least {folds} patients for {folds} folds, but got {len(set(units))}.")
    parts = GroupKFold(folds).split(names, groups=units)
    return [{"train": [names[i] for i in train], "val": [names[i] for i in val]} for train, val in parts]


def write_patient_splits(
    data: Preprocessed, groups: Mapping[str, str], folds: int = 5, overwrite: bool = False
) -> Path:
    """Write `patient_splits` of a dataset as its ``splits_final.json``, whole or not at all.

    Raises
    ------
    FileExistsError
        There are other splits already, and they are not to be overwritten.
    ValueError
        See `patient_splits`.
    """
    path = data.dataset_folder / SPLITS_FILE
    splits = patient_splits(list_cases(data.data_folder), groups, folds)
    if path.is_file() and not overwrite and content_hash(path) != json_hash(splits):
        raise FileExistsError(
            f"{path} has other splits already. Give --overwrite to replace them; what was trained with them was "
            "trained on cases that the new ones validate."
        )
    _write_splits(path, splits)
    return path


def _write_splits(path: Path, splits: list[dict[str, list[str]]]) -> None:
    write_atomically(path, (json.dumps(splits, indent=4) + "\n").encode())


def read_splits(path: Path, cases: Collection[str] | None = None) -> list[dict[str, list[str]]]:
    """Splits as nnU-Net has them: a list of ``{"train": [...], "val": [...]}``.

    Parameters
    ----------
    cases : collection of str, optional
        Of the dataset; the splits may name no others.

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file; it is something else, names cases that are not there, or trains with a validation case.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No splits in {path}. Correct 'splits' in the benchmark's YAML file.")
    splits = readers.read_splits(path, "Correct it, or 'splits' in the benchmark's YAML file.")
    for number, fold in enumerate(splits):
        train, val = set(fold["train"]), set(fold["val"])
        unknown = sorted((train | val) - set(cases)) if cases is not None else []
        if unknown:
            raise ValueError(f"Fold {number} of {path} names {unknown[0]!r}, which the dataset does not have.")
        if not train or not val or train & val:
            raise ValueError(f"Fold {number} of {path} has an empty part, or a case in both.")
    return splits


# nnU-Net's planners by the plans they write.
_PLANNERS = {
    STOCK_PLANS: "ExperimentPlanner",
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
    preprocessed = nnunet_folder(_PREPROCESSED) / task.dataset
    if not is_preprocessed(specification, task):
        _preprocess(specification, task, preprocessed, processes)
    plans, small = plans_name(specification), specification.small_options
    if small is not None and not (preprocessed / f"{plans}.json").is_file():
        write_small_plans(preprocessed, name=plans, **small)
    data = open_preprocessed(task.dataset, specification.configuration, plans)
    patients = read_groups(specification.groups) if specification.groups else None
    splits = ensure_splits(data, given_splits(specification, task), patients)
    if max(specification.folds) >= splits:
        raise ValueError(
            f"{preprocessed / SPLITS_FILE} has {splits} folds, from 0, but fold {max(specification.folds)} is "
            "asked for. Give others with -f."
        )
    written = ensure_maps(data.data_folder, needed_maps(specification), data.settings, num_processes=processes)
    cases = len(list_cases(data.data_folder, data.settings))
    print(f"{task.dataset}: {cases} cases, {splits} folds, maps of {written} cases written")


def is_prepared(specification: Specification, task: Task) -> bool:
    """Whether trainings can begin. Their maps are not looked at: a training writes what is missing."""
    preprocessed = nnunet_folder(_PREPROCESSED) / task.dataset
    return (
        is_preprocessed(specification, task)
        and (preprocessed / f"{plans_name(specification)}.json").is_file()
        and has_splits(preprocessed, given_splits(specification, task))
    )


def is_preprocessed(specification: Specification, task: Task) -> bool:
    """Whether the arrays of the plans' configuration are there, of every case of nnUNet_raw.

    Raises
    ------
    DamagedFile
        The dataset.json of nnUNet_raw is: it cannot be preprocessed anew either.
    """
    plans = _preprocessed_plans(specification)
    path = nnunet_folder(_RAW) / task.dataset / "dataset.json"
    if not path.is_file():
        return False
    dataset_json = read_dataset_json(path)
    with told(path, "Correct it.", "is no dataset.json of nnU-Net"):
        cases = get_filenames_of_train_images_and_targets(str(path.parent), dataset_json)
    try:
        data = open_preprocessed(task.dataset, specification.configuration, plans)
        # Copied last by nnU-Net, so its presence means that the preprocessing is complete.
        complete = (data.dataset_folder / "gt_segmentations").is_dir()
        return complete and set(list_cases(data.data_folder, data.settings)) == {
            case for case in cases if not case.startswith(".")
        }
    except (FileNotFoundError, ValueError):
        return False


def _preprocessed_plans(specification: Specification) -> str:
    """Small plans use the arrays of nnU-Net's own."""
    return specification.plans if specification.small_options is None else STOCK_PLANS


def _ensure_dataset(workspace: Workspace, task: Task, processes: int) -> None:
    if (nnunet_folder(_RAW) / task.dataset / "dataset.json").is_file():
        return
    folder: Path = task.folder or download_task(task.name, workspace.downloads)
    print(f"Converting {folder.name}")
    ensure_converted(folder, processes)


def _preprocess(specification: Specification, task: Task, preprocessed: Path, processes: int) -> None:
    """By the plans that are there, or else by those that nnU-Net makes now.

    To plan again would put nnU-Net's batch and patch in place of those that a user has changed.
    """
    plans = _preprocessed_plans(specification)
    if (preprocessed / f"{plans}.json").is_file():
        preprocess_as_planned(task.dataset, plans, specification.configuration, processes)
        return
    if plans not in _PLANNERS:
        raise FileNotFoundError(
            f"No plans {plans} in {preprocessed}. Plan with them first, or choose among "
            f"{', '.join((SMALL, *_PLANNERS))}."
        )
    number = str(int(task.dataset[7:10]))
    options = ["-d", number, "-c", specification.configuration, "-pl", _PLANNERS[plans], "--no_pbar"]
    preprocess_with_maps([*options, "-np", str(processes), "-npfp", str(processes)], kinds=())
