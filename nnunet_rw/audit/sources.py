"""Where the labels to be audited come from: nnU-Net's raw files or its preprocessed arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_rw.datasets.folders import (
    Preprocessed,
    data_configurations,
    dataset_folder,
    label_names,
    labels_of,
    open_preprocessed,
    read_dataset_json,
)
from nnunet_rw.evaluation.reading import read_labels, without_slice_axis
from nnunet_rw.evaluation.sources import CaseFiles, Source, folders_source
from nnunet_rw.maps.kinds import LabelScheme
from nnunet_rw.store.files import check_labels, label_scheme
from nnunet_rw.store.write import list_cases
from nnunet_rw.util.readers import read_case, told


@dataclass(frozen=True)
class LabelSource(ABC):
    """The labels of a dataset's training cases.

    Attributes
    ----------
    dataset : str
        Its name.
    folder : Path
        Where the labels lie.
    cases : tuple of str
    manager : LabelManager
        nnU-Net's.
    scheme : LabelScheme
    label_names, label_values : tuple of str
        One per foreground class or region: of the dataset.json, and as evaluations write it.
    patch_size : tuple of 2 or 3 ints, optional
        Of the plans; raw labels have none.
    batch_dice : bool
        Of the plans.
    """

    dataset: str
    folder: Path
    cases: tuple[str, ...]
    manager: LabelManager
    scheme: LabelScheme
    label_names: tuple[str, ...]
    label_values: tuple[str, ...]
    patch_size: tuple[int, ...] | None
    batch_dice: bool

    @abstractmethod
    def read(self, case: str) -> tuple[np.ndarray, tuple[float, ...]]:
        """Integer labels (X, Y[, Z]) and mm per array axis; two-dimensional images have two axes.

        Raises
        ------
        ValueError
            The file cannot be read, or holds a label that the dataset does not list.
        """


@dataclass(frozen=True)
class RawLabels(LabelSource):
    """Label files of ``nnUNet_raw``, with the images' own spacing."""

    paths: Mapping[str, Path]
    reader: BaseReaderWriter
    known: frozenset[int]

    def read(self, case: str) -> tuple[np.ndarray, tuple[float, ...]]:
        return read_labels(self.paths[case], self.reader, self.known)


@dataclass(frozen=True)
class PreprocessedLabels(LabelSource):
    """Segmentations of a preprocessed configuration, with its spacing, and what to do where one is damaged."""

    advice: str
    spacing_mm: tuple[float, ...]
    transpose_forward: tuple[int, ...]

    def read(self, case: str) -> tuple[np.ndarray, tuple[float, ...]]:
        _, labels, properties = read_case(self.folder, case, self.advice)
        check_labels(labels, self.scheme, case, self.folder)
        spacing = self.spacing_mm
        if len(spacing) == 2:
            # A 2D configuration leaves the distance of the slices as it was.
            with told(self.folder / f"{case}.pkl", self.advice):
                spacing = (float(properties["spacing"][self.transpose_forward[0]]), *spacing)
            return without_slice_axis(labels, spacing)
        return labels, spacing


def open_labels(
    dataset: str, configuration: str | None = None, plans_name: str | None = None, max_cases: int | None = None
) -> LabelSource:
    """The labels of a dataset: raw ones where there are any, unless a configuration or plans are named.

    Parameters
    ----------
    dataset : str
        Id or name.
    configuration, plans_name : str, optional
        Of preprocessed data; default, once one of them is given or nothing raw is there: the first configuration
        that is preprocessed, and nnUNetPlans.
    max_cases : int, optional
        Take at most this many, spread evenly over the sorted cases.

    Raises
    ------
    FileNotFoundError
        No such dataset, or none of its labels.
    ValueError
        No such configuration, or the dataset.json is none of nnU-Net's.
    """
    source: LabelSource
    if configuration or plans_name:
        source = _preprocessed(dataset, configuration, plans_name or "nnUNetPlans")
    else:
        try:
            source = _raw(dataset)
        except FileNotFoundError as no_raw:
            try:
                source = _preprocessed(dataset, None, "nnUNetPlans")
            except FileNotFoundError:
                raise no_raw from None
    if max_cases is not None and max_cases < len(source.cases):
        chosen = np.linspace(0, len(source.cases) - 1, max_cases).round().astype(int)
        source = replace(source, cases=tuple(source.cases[index] for index in chosen))
    return source


def _raw(dataset: str) -> RawLabels:
    folder = dataset_folder(dataset, "nnUNet_raw")
    path, labels_folder = folder / "dataset.json", folder / "labelsTr"
    if not path.is_file():
        raise FileNotFoundError(f"No {path}, which says what the labels mean. nnU-Net's dataset_format.md shows one.")
    content = read_dataset_json(path)
    if "dataset" in content:
        # Such a dataset lists its files, which may lie anywhere.
        with told(path, "Correct it.", "is no dataset.json of nnU-Net"):
            listed = get_filenames_of_train_images_and_targets(str(folder), content)
            files = [CaseFiles(case, Path(found["label"]), Path(found["label"])) for case, found in listed.items()]
        source = Source(folder.name, files, [], content, folder)
    else:
        if not labels_folder.is_dir():
            raise FileNotFoundError(f"No labels: there is no {labels_folder}.")
        source = folders_source(labels_folder, labels_folder, path)
    paths = {found.case: found.reference for found in source.cases}
    # Raw data has no plans: nnU-Net's default.
    plans = PlansManager({"label_manager": LabelManager.__name__})
    return RawLabels(
        **_described(folder, labels_folder, paths, plans, source.dataset_json),
        patch_size=None,
        batch_dice=False,
        paths=paths,
        reader=source.reader,
        known=source.labels.known,
    )


def _preprocessed(dataset: str, configuration: str | None, plans_name: str) -> PreprocessedLabels:
    name = configuration or data_configurations(dataset, plans_name)[0]
    data: Preprocessed = open_preprocessed(dataset, name, plans_name)
    cases = list_cases(data.data_folder, data.settings)
    return PreprocessedLabels(
        advice=data.settings.preprocess_advice(data.data_folder),
        **_described(data.dataset_folder, data.data_folder, cases, data.plans, data.dataset_json),
        patch_size=tuple(int(size) for size in data.configuration.patch_size),
        batch_dice=bool(data.configuration.batch_dice),
        spacing_mm=tuple(float(step) for step in data.configuration.spacing),
        transpose_forward=tuple(int(axis) for axis in data.plans.transpose_forward),
    )


def _described(
    dataset: Path, folder: Path, cases: Sequence[str] | Mapping[str, Path], plans: PlansManager, content: dict[str, Any]
) -> dict[str, Any]:
    names, foreground = label_names(content), labels_of(content).foreground
    return {
        "dataset": dataset.name,
        "folder": folder,
        "cases": tuple(sorted(cases)),
        "manager": plans.get_label_manager(content),
        "scheme": label_scheme(plans, content),
        "label_names": tuple(names[label] for label in foreground),
        "label_values": tuple(str(label) for label in foreground),
    }
