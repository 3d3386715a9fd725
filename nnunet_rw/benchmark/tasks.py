"""The datasets and trainers of a benchmark, by the names that its specification gives them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_rw.datasets.msd import TASKS, check_msd_folder, dataset_name_of
from nnunet_rw.util.files import nnunet_folder

_RAW = "nnUNet_raw"
_DATASET = re.compile(r"Dataset(\d{3})_\w+")


@dataclass(frozen=True)
class Task:
    """One dataset.

    Attributes
    ----------
    name : str
        As the report has it.
    dataset : str
        nnU-Net's name.
    folder : Path, optional
        In MSD layout; None where the dataset is in nnUNet_raw already, or is yet to be downloaded.
    """

    name: str
    dataset: str
    folder: Path | None = None


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
    others = [path.name for path in raw.glob(f"{task.dataset[:10]}_*") if path.name != task.dataset]
    if others:
        raise ValueError(f"{text} would be {task.dataset}, but {raw} has {others[0]}. Give the folder another number.")
    return task


def _find(text: str, downloads: Path) -> Task:
    if _DATASET.fullmatch(text):
        path = nnunet_folder(_RAW) / text
        if not (path / "dataset.json").is_file():
            raise FileNotFoundError(f"No dataset.json in {path}. Give a dataset of nnUNet_raw, or an MSD folder.")
        return Task(text, text)
    if os.sep in text or Path(text).is_dir():
        folder = Path(text).resolve()
        if not folder.is_dir():
            raise FileNotFoundError(
                f"No folder {folder} of a task. Was it moved? Give its place with --tasks, or write it into the "
                "benchmark's YAML file."
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
