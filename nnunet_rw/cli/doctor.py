"""Whether this machine is ready to train: one line per check."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rw.training.catalogue import searched_folders, trainers_folder
from nnunet_rw.training.compatibility import check_nnunet
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import NNUNET_FOLDERS

if TYPE_CHECKING:
    from nnunet_rw.datasets.folders import Preprocessed

_PACKAGES = ("nnunet_rw", "nnunetv2", "batchgenerators", "batchgeneratorsv2", "torch", "blosc2", "edt")


@dataclass(frozen=True)
class Finding:
    """The outcome of a check.

    Attributes
    ----------
    level : "ok", "note" or "problem"
    text : str
        What was found and, for a problem, what to do.
    """

    level: str
    text: str


def check_environment() -> Iterator[Finding]:
    """Versions, nnU-Net's folders, the GPU, and whether nnU-Net finds the trainers."""
    yield Finding("ok", f"Python {sys.version.split()[0]}")
    for package in _PACKAGES:
        yield _package(package)
    for variable in NNUNET_FOLDERS:
        yield _folder(variable)
    yield _gpu()
    yield _trainers()


def check_maps(dataset: str, configuration: str | None = None, plans_name: str = "nnUNetPlans") -> Iterator[Finding]:
    """Whether every kind of map that was begun for a dataset is complete and current."""
    from nnunet_rw.datasets.folders import data_configurations, open_preprocessed

    try:
        for name in [configuration] if configuration else data_configurations(dataset, plans_name):
            yield from _maps(dataset, open_preprocessed(dataset, name, plans_name))
    except (FileNotFoundError, ValueError) as error:
        yield Finding("problem", str(error))


def _maps(dataset: str, preprocessed: Preprocessed) -> Iterator[Finding]:
    from nnunet_rw.maps.kinds import KINDS
    from nnunet_rw.store.files import FOLDER_NAME, missing_maps, read_labels
    from nnunet_rw.store.write import list_cases

    data_folder, settings = preprocessed.data_folder, preprocessed.settings
    cases = list_cases(data_folder, settings)
    kinds = settings.stored_kinds(kind for kind in KINDS if (data_folder / FOLDER_NAME / kind).is_dir())
    if not kinds:
        yield Finding(
            "note", f"maps of {dataset} {preprocessed.name}: none yet, the first training of an RWTrainer writes them"
        )
    missing = {kind: missing_maps(data_folder, cases, [kind], settings) for kind in kinds}
    # No map can be written of them.
    unreadable = set()
    for case in sorted(set().union(*missing.values())):
        try:
            read_labels(data_folder, case, settings)
        except (FileNotFoundError, ValueError) as error:
            unreadable.add(case)
            yield Finding("problem", str(error))
    for kind, absent in missing.items():
        text = f"{kind} maps of {dataset} {preprocessed.name}: {len(cases) - len(absent)} of {len(cases)} current"
        if absent.keys() - unreadable:
            yield Finding("problem", f"{text}. {settings.maps_advice(data_folder, kind=kind)}")
        else:
            yield Finding("problem" if absent else "ok", text)


def _package(package: str) -> Finding:
    try:
        if package == "nnunetv2":
            return Finding("ok", f"nnunetv2 {check_nnunet()}")
        return Finding("ok", f"{package} {version(package)}")
    except PackageNotFoundError:
        return Finding("problem", f"{package} is not installed. Run: pip install {package}")
    except ImportError as error:
        return Finding("problem", str(error))


def _folder(variable: str) -> Finding:
    value = os.environ.get(variable)
    if not value:
        return Finding("problem", f"{variable} is not set. Run: export {variable}=FOLDER")
    if not Path(value).is_dir():
        return Finding("problem", f"{variable} names {value}, which is no folder. Run: mkdir -p {shlex.quote(value)}")
    return Finding("ok", f"{variable} = {value}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("ok", f"GPU: {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    return Finding("note", "GPU: none, train with -device cpu")


def _trainers() -> Finding:
    if trainers_folder() not in [folder.resolve() for folder in searched_folders()]:
        return Finding("problem", f'nnU-Net does not find RWTrainer. Run: eval "$({command("env")})"')
    return Finding("ok", f"nnU-Net finds RWTrainer in {trainers_folder()}")
