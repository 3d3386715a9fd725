"""Where nnU-Net keeps a dataset, and what its plans say."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_rw.store.files import MapSettings
from nnunet_rw.util.files import nnunet_folder


@dataclass(frozen=True)
class Preprocessed:
    """One configuration of a preprocessed dataset.

    Attributes
    ----------
    dataset_folder : Path
        ``<nnUNet_preprocessed>/<dataset>``.
    data_folder : Path
        Holds the preprocessed arrays.
    name : str
        Of the configuration.
    """

    dataset_folder: Path
    data_folder: Path
    name: str
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]

    @property
    def settings(self) -> MapSettings:
        return MapSettings.from_plans(self.plans, self.configuration, self.dataset_json)


def dataset_folder(dataset: str | int, variable: str = "nnUNet_preprocessed") -> Path:
    """The folder of a dataset, given by id or name, in one of nnU-Net's folders.

    Raises
    ------
    FileNotFoundError
        There is none, or the id is ambiguous.
    """
    root = nnunet_folder(variable)
    try:
        name = maybe_convert_to_dataset_name(int(dataset) if str(dataset).isdigit() else dataset)
    except (RuntimeError, ValueError) as error:
        raise FileNotFoundError(f"No dataset {dataset!r}, or several of that number. Look into {root}.") from error
    if not (root / name).is_dir():
        trained = variable == "nnUNet_results"
        advice = f"train {dataset} CONFIGURATION FOLD" if trained else f"plan_and_preprocess -d {dataset}"
        raise FileNotFoundError(f"No dataset {dataset!r} in {root}. Run: nnUNetv2_{advice}")
    return root / name


def open_preprocessed(dataset: str | int, configuration: str, plans_name: str = "nnUNetPlans") -> Preprocessed:
    """A configuration by nnU-Net's own names.

    Raises
    ------
    FileNotFoundError
        Dataset or plans do not exist; the message says what to run.
    ValueError
        The plans have no such configuration.
    """
    folder = dataset_folder(dataset)
    path, plans = _load_plans(dataset, plans_name)
    if configuration not in plans.available_configurations:
        raise ValueError(
            f"No configuration {configuration!r} in {path}. Known: {', '.join(plans.available_configurations)}."
        )
    manager = plans.get_configuration(configuration)
    dataset_json = load_json(str(folder / "dataset.json"))
    return Preprocessed(folder, folder / manager.data_identifier, configuration, plans, manager, dataset_json)


def data_configurations(dataset: str | int, plans_name: str = "nnUNetPlans") -> list[str]:
    """The configurations whose arrays are there; of several that share arrays the first.

    Raises
    ------
    FileNotFoundError
        Dataset or plans do not exist, or nothing is preprocessed; the message says what to run.
    """
    path, plans = _load_plans(dataset, plans_name)
    by_folder: dict[str, str] = {}
    for name in plans.available_configurations:
        identifier = plans.get_configuration(name).data_identifier
        if (path.parent / identifier).is_dir():
            by_folder.setdefault(identifier, name)
    if not by_folder:
        raise FileNotFoundError(
            f"No preprocessed data of {path}. Run: nnUNetv2_preprocess -d {dataset} -plans_name {plans_name}"
        )
    return list(by_folder.values())


def _load_plans(dataset: str | int, plans_name: str) -> tuple[Path, PlansManager]:
    path = dataset_folder(dataset) / f"{plans_name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"No plans {path}. Run: nnUNetv2_plan_experiment -d {dataset}, or give -p PLANS.")
    try:
        return path, PlansManager(load_json(str(path)))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}). Run: nnUNetv2_plan_experiment -d {dataset}") from error
