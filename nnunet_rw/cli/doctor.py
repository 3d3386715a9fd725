"""Whether this machine is ready to train: one line per check."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from nnunet_rw.training.catalogue import VARIABLE, trainers_folder
from nnunet_rw.training.compatibility import check_nnunet_version

_PACKAGES = ("nnunet_rw", "nnunetv2", "batchgenerators", "batchgeneratorsv2", "torch", "blosc2", "edt")
_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")


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
    for variable in _FOLDERS:
        yield _folder(variable)
    yield _gpu()
    yield _trainers()


def check_maps(dataset: str, configuration: str | None = None, plans_name: str = "nnUNetPlans") -> Iterator[Finding]:
    """Whether every kind of map that was begun for a dataset is complete and current."""
    from nnunet_rw.datasets.folders import data_configurations, open_preprocessed

    try:
        for name in [configuration] if configuration else data_configurations(dataset, plans_name):
            yield from _maps(dataset, open_preprocessed(dataset, name, plans_name), plans_name)
    except (FileNotFoundError, ValueError) as error:
        yield Finding("problem", str(error))


def _maps(dataset, preprocessed, plans_name) -> Iterator[Finding]:  # type: ignore[no-untyped-def]
    from nnunet_rw.maps.kinds import KINDS
    from nnunet_rw.store.files import FOLDER_NAME, missing_maps
    from nnunet_rw.store.write import list_cases

    cases = list_cases(preprocessed.data_folder)
    folder = preprocessed.data_folder / FOLDER_NAME
    kinds = preprocessed.settings.stored_kinds(kind for kind in KINDS if (folder / kind).is_dir())
    if not kinds:
        yield Finding(
            "note", f"maps of {dataset} {preprocessed.name}: none yet, the first training of an RWTrainer writes them"
        )
    for kind in kinds:
        missing = missing_maps(preprocessed.data_folder, cases, [kind], preprocessed.settings)
        text = f"{kind} maps of {dataset} {preprocessed.name}: {len(cases) - len(missing)} of {len(cases)} current"
        if missing:
            advice = f"nnunet-rw maps -d {dataset} -c {preprocessed.name} -p {plans_name} --kind {kind}"
            yield Finding("problem", f"{text}. Run: {advice}")
        else:
            yield Finding("ok", text)


def _package(package: str) -> Finding:
    try:
        if package == "nnunetv2":
            return Finding("ok", f"nnunetv2 {check_nnunet_version()}")
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
        return Finding("problem", f"{variable} names {value}, which is no folder. Run: mkdir -p {value}")
    return Finding("ok", f"{variable} = {value}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("ok", f"GPU: {torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}")
    return Finding("note", "GPU: none, train with -device cpu")


def _trainers() -> Finding:
    searched = [Path(path).resolve() for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    if trainers_folder() not in searched:
        return Finding("problem", 'nnU-Net does not find RWTrainer. Run: eval "$(nnunet-rw env)"')
    return Finding("ok", f"nnU-Net finds RWTrainer in {trainers_folder()}")
