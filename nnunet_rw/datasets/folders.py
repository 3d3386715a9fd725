"""Where nnU-Net keeps a dataset, and what its dataset.json and plans say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_rw.store.files import MapSettings
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import check_plans_name, nnunet_folder
from nnunet_rw.util.readers import DatasetJson, Plans, read_json, told

Label = int | tuple[int, ...]


@dataclass(frozen=True)
class Labels:
    """What the values of a segmentation mean.

    Attributes
    ----------
    foreground : tuple of int or of tuple of int
        Classes, or regions.
    channels : tuple of int
        Of the probabilities, one per foreground label.
    num_channels : int
        Of the probabilities.
    known : frozenset of int
        All values that a segmentation may hold.
    ignore : int, optional
    """

    foreground: tuple[Label, ...]
    channels: tuple[int, ...]
    num_channels: int
    known: frozenset[int]
    ignore: int | None


def label_values(label: Label) -> frozenset[int]:
    """The values of a segmentation that a class, or region, holds."""
    return frozenset(label if isinstance(label, tuple) else (label,))


def label_names(dataset_json: Mapping[str, Any]) -> dict[Label, str]:
    """What a dataset.json calls its classes and regions."""
    return {tuple(of) if isinstance(of, list | tuple) else int(of): name for name, of in dataset_json["labels"].items()}


def label_texts(dataset_json: Mapping[str, Any]) -> dict[str, str]:
    """What a reader knows a label by, of its name in files.

    Examples
    --------
    >>> label_texts({"labels": {"background": 0, "oedema": 1, "whole": [1, 2]}})
    {'0': 'background (0)', '1': 'oedema (1)', '(1, 2)': 'whole (1, 2)'}
    """
    return {
        str(label): f"{name} {label if isinstance(label, tuple) else f'({label})'}"
        for label, name in label_names(dataset_json).items()
    }


def labels_of(dataset_json: Mapping[str, Any]) -> Labels:
    """The labels of a dataset; regions where it has any."""
    manager = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
    ignore = manager.ignore_label
    known = frozenset({0, *manager.all_labels, *([] if ignore is None else [ignore])})
    if manager.has_regions:
        regions = tuple(region if isinstance(region, int) else tuple(region) for region in manager.foreground_regions)
        return Labels(regions, tuple(range(len(regions))), len(regions), known, ignore)
    foreground = tuple(manager.foreground_labels)
    channels = tuple(manager.all_labels.index(label) for label in foreground)
    return Labels(foreground, channels, len(manager.all_labels), known, ignore)


def read_dataset_json(path: str | Path, advice: str = "Copy it again, or correct it.") -> dict[str, Any]:
    """nnU-Net's dataset.json, of labels that nnU-Net understands.

    With a file ending: .nii.gz where it tells none.
    """
    fault = "is no dataset.json of nnU-Net"
    content = {"file_ending": ".nii.gz", **read_json(path, advice, DatasetJson, fault)}
    with told(path, advice, fault):
        labels_of(content)
    return content


STOCK_PLANS, SMALL_PLANS = "nnUNetPlans", "nnUNetPlansSmall"
SPLITS_FILE = "splits_final.json"
# What nnU-Net keeps beside the plans, which may have any name.
OTHER_FILES = ("dataset.json", "dataset_fingerprint.json", SPLITS_FILE)


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
    plans_name : str
        Of the plans' file.
    """

    dataset_folder: Path
    data_folder: Path
    name: str
    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict[str, Any]
    plans_name: str

    @property
    def settings(self) -> MapSettings:
        """Of the maps.

        Raises
        ------
        DamagedFile
            The plans lack what maps depend on.
        """
        path = self.dataset_folder / f"{self.plans_name}.json"
        with told(path, plan_again(self.dataset_folder.name, self.plans_name)):
            settings = MapSettings.from_plans(self.plans, self.configuration, self.dataset_json)
        return replace(settings, plans_name=self.plans_name, configuration_name=self.name)


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
        advice = {
            "nnUNet_raw": f"Convert it, or look whether {variable} names the right folder.",
            "nnUNet_preprocessed": f"Run: {command('nnUNetv2_plan_and_preprocess', dataset=dataset)}",
            "nnUNet_results": "Run: "
            + command("nnUNetv2_train", dataset=dataset, configuration="CONFIGURATION", fold="FOLD"),
        }
        raise FileNotFoundError(f"No dataset {dataset!r} in {root}. {advice[variable]}")
    return root / name


def open_preprocessed(dataset: str | int, configuration: str, plans_name: str = "nnUNetPlans") -> Preprocessed:
    """A configuration by nnU-Net's own names.

    Raises
    ------
    FileNotFoundError
        Dataset or plans do not exist; the message says what to run.
    ValueError
        The plans have no such configuration, or they or the dataset.json are damaged.
    """
    folder = dataset_folder(dataset)
    path, plans = _load_plans(dataset, plans_name)
    if configuration not in plans.available_configurations:
        raise ValueError(
            f"No configuration {configuration!r} in {path}. Known: {', '.join(plans.available_configurations)}."
        )
    with told(path, plan_again(dataset, plans_name)):
        manager = plans.get_configuration(configuration)
        data_folder = folder / manager.data_identifier
    dataset_json = read_dataset_json(
        folder / "dataset.json", f"Run: {command('nnUNetv2_plan_and_preprocess', dataset=dataset)}"
    )
    return Preprocessed(folder, data_folder, configuration, plans, manager, dataset_json, plans_name)


def data_configurations(dataset: str | int, plans_name: str = "nnUNetPlans") -> list[str]:
    """The configurations whose arrays are there; of several that share arrays the first.

    Raises
    ------
    FileNotFoundError
        Dataset or plans do not exist, or nothing is preprocessed; the message says what to run.
    """
    path, plans = _load_plans(dataset, plans_name)
    by_folder: dict[str, str] = {}
    with told(path, plan_again(dataset, plans_name)):
        for name in plans.available_configurations:
            identifier = plans.get_configuration(name).data_identifier
            if (path.parent / identifier).is_dir():
                by_folder.setdefault(identifier, name)
    if not by_folder:
        again = command("nnUNetv2_preprocess", dataset=path.parent.name, plans=plans_name)
        raise FileNotFoundError(f"No preprocessed data of {path}. Run: {again}")
    return list(by_folder.values())


def first_configuration(dataset: str | int, plans_name: str) -> str:
    """A configuration to train: 3d_fullres where there is one, of those whose arrays are there if any are.

    Raises
    ------
    FileNotFoundError, DamagedFile
        As for `open_preprocessed`.
    """
    _, plans = _load_plans(dataset, plans_name)
    try:
        names = data_configurations(dataset, plans_name)
    except FileNotFoundError:
        names = plans.available_configurations
    return "3d_fullres" if "3d_fullres" in names else names[0]


def _load_plans(dataset: str | int, plans_name: str) -> tuple[Path, PlansManager]:
    check_plans_name(plans_name)
    path = dataset_folder(dataset) / f"{plans_name}.json"
    return path, PlansManager(read_plans(path))


def read_plans(path: Path) -> dict[str, Any]:
    """The plans of ``<nnUNet_preprocessed>/<dataset>/<plans>.json``.

    Raises
    ------
    FileNotFoundError, DamagedFile
        There are none, or they are damaged; the message says what to run.
    """
    advice = plan_again(path.parent.name, path.stem)
    if not path.is_file():
        others = sorted(other.stem for other in path.parent.glob("*.json") if other.name not in OTHER_FILES)
        there = f" There are: {', '.join(others)}." if others else ""
        raise FileNotFoundError(f"No plans {path}.{there} {advice}")
    return read_json(path, advice, Plans, "is no plans file of nnU-Net")


def plan_again(dataset: str | int, plans_name: str) -> str:
    """``Run: ...``, which writes the plans of this name."""
    if plans_name == SMALL_PLANS:
        return f"Run: {command('small-plans', dataset=dataset)}"
    other = None if plans_name == STOCK_PLANS else plans_name
    return f"Run: {command('nnUNetv2_plan_experiment', dataset=dataset, plans=other)}"


def trained_model(dataset: str | int, configuration: str, trainer: str, plans_name: str) -> Path:
    """nnU-Net's folder of a trained model.

    Raises
    ------
    FileNotFoundError
        There is none; the message says what to run.
    """
    folder = dataset_folder(dataset, "nnUNet_results")
    model = folder / f"{trainer}__{plans_name}__{configuration}"
    if not model.is_dir():
        names = [other.name for other in folder.glob("*__*__*") if other.is_dir()]
        # A forgotten configuration is likelier than a trainer that was never trained.
        others = sorted(names, key=lambda name: (not name.startswith(f"{trainer}__"), name))
        there = f" There are: {', '.join(others[:8])}{' and others' if len(others) > 8 else ''}." if others else ""
        run = training_command(dataset, configuration, trainer, plans_name, "0")
        raise FileNotFoundError(f"No trained model {model}.{there} Run: {run}")
    return model


def training_command(
    dataset: str | int, configuration: str, trainer: str, plans_name: str, fold: str, **options: bool
) -> str:
    """nnU-Net's, with further options of `advice.command`."""
    model: dict[str, Any] = {
        "dataset": dataset,
        "configuration": configuration,
        "trainer": trainer,
        "plans": plans_name,
    }
    return command("nnUNetv2_train", **model, fold=fold, **options)
