"""A folder in the layout of the Medical Segmentation Decathlon, and its way into nnUNet_raw."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunetv2.dataset_conversion.convert_MSD_dataset import convert_msd_dataset

from nnunet_rw.files import nnunet_folder

_VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
_NAME = re.compile(r"Task(\d+)_([^_]+)")


def dataset_name_of(task: str) -> str:
    """nnU-Net's name of a Decathlon task: ``Dataset004_Hippocampus`` of ``Task04_Hippocampus``.

    Raises
    ------
    ValueError
        It is not named so.
    """
    match = _NAME.fullmatch(task)
    if not match:
        raise ValueError(f"Expected a folder named like Task04_Hippocampus, but got {task}.")
    return f"Dataset{int(match[1]):03d}_{match[2]}"


def check_msd_folder(folder: Path) -> None:
    """Check that nnU-Net can convert a folder.

    Raises
    ------
    FileNotFoundError
        Something is missing in it.
    ValueError
        It is not named like a task.
    """
    for name in ("dataset.json", "imagesTr", "labelsTr"):
        if not (folder / name).exists():
            raise FileNotFoundError(f"No {name} in {folder}. Give a folder in MSD layout, such as Task04_Hippocampus.")
    tests = folder / "imagesTs"
    if not tests.is_dir():
        raise FileNotFoundError(f"No imagesTs in {folder}. Run: mkdir {tests} (nnU-Net wants it, if empty)")
    dataset_name_of(folder.name)


def ensure_converted(folder: Path, processes: int = 2) -> Path:
    """The dataset of an MSD folder in nnUNet_raw, converted unless it is there; whole or not at all.

    Raises
    ------
    FileNotFoundError, ValueError
        See `check_msd_folder`; or nnUNet_raw is not set.
    """
    name = dataset_name_of(folder.name)
    target = nnunet_folder("nnUNet_raw") / name
    if (target / "dataset.json").is_file():
        return target
    check_msd_folder(folder)
    if target.exists():
        raise ValueError(f"{target} is there without a dataset.json. Complete or remove it, and run this again.")
    # nnU-Net converts into nnUNet_raw itself, refuses what an interrupted conversion left there, and takes a number
    # for taken if other folders of it know the dataset. So it converts elsewhere, and the result is moved.
    with tempfile.TemporaryDirectory(prefix=f".{name}_", dir=target.parent) as scratch:
        with _variables(scratch):
            convert_msd_dataset(str(folder), num_processes=processes)
        shutil.move(str(Path(scratch) / name), target)
    return target


@contextmanager
def _variables(value: str) -> Iterator[None]:
    """nnU-Net's three folders elsewhere for a while."""
    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update(dict.fromkeys(_VARIABLES, value))
    try:
        yield
    finally:
        for name, previous in before.items():
            if previous is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = previous
