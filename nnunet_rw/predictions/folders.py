"""Folders of predictions, checked before anything is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json

from nnunet_rw.evaluation.reading import read_probabilities

_ADVICE = "Predict with nnUNetv2_predict --save_probabilities, or train with nnUNetv2_train --npz."


@dataclass(frozen=True)
class PredictionFolders:
    """Predictions of the same cases by one or several models.

    Attributes
    ----------
    folders : sequence of Path
    cases : list of str
        Sorted; every folder has probabilities of each.
    dataset_json, plans : dict
        nnU-Net's, of the first folder.
    """

    folders: Sequence[Path]
    cases: list[str]
    dataset_json: dict[str, Any]
    plans: dict[str, Any]


def open_folders(folders: Sequence[str | Path], output: str | Path) -> PredictionFolders:
    """Check folders before anything is made of them; see `cases_of_folders` and `dataset_and_plans`."""
    inputs = [Path(folder) for folder in folders]
    return PredictionFolders(inputs, cases_of_folders(inputs, Path(output)), *dataset_and_plans(inputs))


def cases_of_folders(folders: Sequence[Path], output: Path) -> list[str]:
    """The cases that all folders hold, sorted.

    Raises
    ------
    FileNotFoundError
        No folder, or no probabilities or properties in one.
    ValueError
        No folder is given, one twice, the output is one of them, or they hold different cases.
    """
    resolved = [folder.resolve() for folder in folders]
    if not folders or len(set(resolved)) < len(folders) or output.resolve() in resolved:
        raise ValueError(
            "Expected one folder of predictions per model, and another for the output, but got "
            f"{', '.join(map(str, folders)) or 'none'} and {output}."
        )
    found: list[set[str]] = []
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"No folder {folder}.")
        found.append({path.name.removesuffix(".npz") for path in folder.glob("*.npz")})
        if not found[-1]:
            raise FileNotFoundError(f"No *.npz in {folder}. {_ADVICE}")
    for folder, cases in zip(folders, found, strict=True):
        missing = sorted(set().union(*found) - cases)
        if missing:
            raise ValueError(
                f"Expected the same cases in all folders, but {folder} has no {missing[0]}.npz"
                f"{f' and lacks {len(missing) - 1} more' if len(missing) > 1 else ''}. {_ADVICE}"
            )
    for case in sorted(found[0]):
        if not (folders[0] / f"{case}.pkl").is_file():
            raise FileNotFoundError(f"No {folders[0] / case}.pkl, which nnU-Net writes with {case}.npz. {_ADVICE}")
    return sorted(found[0])


def dataset_and_plans(folders: Sequence[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The dataset.json and plans.json of the first folder, or of the model that a validation folder belongs to.

    Raises
    ------
    FileNotFoundError
        The first folder has none.
    ValueError
        Another folder's dataset.json lists other labels.
    """
    found = {}
    for name in ("dataset.json", "plans.json"):
        path = _beside(folders[0], name)
        if path is None:
            raise FileNotFoundError(f"No {folders[0] / name}. Copy it from the folder of the trained model.")
        found[name] = load_json(str(path))
    for folder in folders[1:]:
        path = _beside(folder, "dataset.json")
        if path is None:
            continue
        other = load_json(str(path))
        for key in ("labels", "regions_class_order"):
            if other.get(key) != found["dataset.json"].get(key):
                raise ValueError(
                    f"Expected the same {key} in all folders, but {folders[0]} and {folder} differ. Only models of one "
                    "dataset can be averaged."
                )
    return found["dataset.json"], found["plans.json"]


def probabilities_of(files: Sequence[Path], num_channels: int) -> Iterator[np.ndarray]:
    """The probabilities (C, X, Y, Z) of one case by each model, read when they are asked for.

    Raises
    ------
    ValueError
        A file cannot be read or holds NaN, another number of channels, or another shape than the first.
    """
    shape = None
    for path in files:
        probabilities = read_probabilities(path, shape)
        shape = probabilities.shape
        if shape[0] != num_channels:
            raise ValueError(f"Expected {num_channels} channels of probabilities in {path}, but got {shape[0]}.")
        yield probabilities


def _beside(folder: Path, name: str) -> Path | None:
    """The file in the folder, or in that of the model: <model>/fold_0/validation."""
    return next((path for path in (folder / name, folder.resolve().parents[1] / name) if path.is_file()), None)
