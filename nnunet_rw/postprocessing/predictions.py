"""Predictions of trained models on disk: found, checked, paired over models, and segmentations made of them."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_rw.datasets.folders import Labels, read_dataset_json
from nnunet_rw.evaluation.comparison.groups import folds_or_parts, units_of
from nnunet_rw.evaluation.reading import Case, read_case, read_probabilities
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.maps.arrays import as_spacing
from nnunet_rw.util.files import case_names, write_atomically
from nnunet_rw.util.parallel import in_processes
from nnunet_rw.util.readers import read_json, read_pickle, told

_COPY = "Copy it from the folder of the trained model."
_ADVICE = "Predict with nnU-Net's --save_probabilities, or train with its --npz."


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
    """Check folders before anything is made of them.

    Raises
    ------
    FileNotFoundError
        No folder, no probabilities or properties in one, a segmentation without its probabilities, or no dataset.json
        or plans.json in the first folder, nor in the model that it belongs to.
    ValueError
        No folder is given, one twice, the output is one of them, or they hold different cases; a dataset.json or
        plans.json is damaged, names a reader or file ending that nnU-Net does not have, or lists other labels.
    """
    inputs = [Path(folder) for folder in folders]
    cases = _cases_of_folders(inputs, Path(output))
    dataset_json, plans = _dataset_and_plans(inputs)
    for folder in inputs:
        without = sorted(set(case_names(folder, dataset_json["file_ending"])) - set(cases))
        if without:
            raise FileNotFoundError(f"No {folder / without[0]}.npz beside its segmentation. {_ADVICE}")
    return PredictionFolders(inputs, cases, dataset_json, plans)


def _cases_of_folders(folders: Sequence[Path], output: Path) -> list[str]:
    """The cases that all folders hold, sorted."""
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
        found.append(set(case_names(folder, ".npz")))
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


def _dataset_and_plans(folders: Sequence[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The dataset.json and plans.json of the first folder, or of the model that a validation folder belongs to."""
    paths = {name: _beside(folders[0], name) or folders[0] / name for name in ("dataset.json", "plans.json")}
    found = {"dataset.json": read_dataset_json(paths["dataset.json"], _COPY)}
    found["plans.json"] = read_json(paths["plans.json"], _COPY, fault="is no plans file of nnU-Net")
    with told(paths["plans.json"], _COPY, "is no plans file of nnU-Net"):
        reader = PlansManager(found["plans.json"]).image_reader_writer_class
    ending, known = found["dataset.json"]["file_ending"], reader.supported_file_endings
    if ending not in known:
        raise ValueError(
            f"Expected 'file_ending' in {paths['dataset.json']} to be one of {', '.join(known)}, which the "
            f"{reader.__name__} of {paths['plans.json']} writes, but got {ending!r}. {_COPY}"
        )
    for folder in folders[1:]:
        path = _beside(folder, "dataset.json")
        if path is None:
            continue
        other = read_dataset_json(path, _COPY)
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


def properties_of(path: Path, shape: Sequence[int], transpose_backward: Sequence[int]) -> dict[str, Any]:
    """What nnU-Net stored beside the probabilities of a case, for its writers.

    Parameters
    ----------
    path : Path
        ``<case>.pkl``.
    shape : sequence of int
        (X, Y, Z) of the probabilities.
    transpose_backward : sequence of int
        Of the plans: from the axes of the network, in which nnU-Net notes the shape, to those of the file.

    Raises
    ------
    ValueError
        The file cannot be read, belongs to an image of another shape, or names code that reading it would run.
    """
    found = read_pickle(path, _ADVICE)
    with told(path, _ADVICE, "holds no properties of nnU-Net"):
        properties = dict(found)
        as_spacing(properties["spacing"], len(shape))
        noted = properties.get("shape_before_cropping")
        of_image = tuple(shape) if noted is None else tuple(int(noted[axis]) for axis in transpose_backward)
    if of_image != tuple(shape):
        raise ValueError(
            f"Expected {path} to belong to an image of {tuple(shape)} voxels, as the probabilities beside it, but got "
            f"{of_image}. Predict again."
        )
    return properties


def _beside(folder: Path, name: str) -> Path | None:
    """The file in the folder, or in that of the model: <model>/fold_0/validation."""
    # Not `parents[1]`, which a folder directly under the root has not.
    return next((path for path in (folder / name, folder.resolve().parent.parent / name) if path.is_file()), None)


def trained_model_of(folder: Path) -> tuple[str, str, str] | None:
    """Trainer, plans and configuration, where a folder is <trainer>__<plans>__<configuration>/fold_0/validation."""
    parts = tuple(folder.resolve().parent.parent.name.split("__"))
    return parts if len(parts) == 3 else None


_NAMED = 3


@dataclass(frozen=True)
class PairedCase:
    """One case.

    Attributes
    ----------
    case : str
    fold : str
        What is fitted for this case is fitted on the cases of other folds alone.
    files : tuple of CaseFiles
        One a model.
    unit : str
        The patient, or the case itself: what is independent of others.
    """

    case: str
    fold: str
    files: tuple[CaseFiles, ...]
    unit: str


def paired_cases(
    sources: Sequence[Source], num_splits: int = 5, seed: int = 0, groups: Mapping[str, str] | None = None
) -> list[PairedCase]:
    """Pair the cases of several models and tell their folds.

    The folds are those of the cross-validation. Where only one was trained its cases are split at random, by the seed
    and their names alone, those of a patient together.

    Parameters
    ----------
    sources : sequence of Source
        One or more, from `nnunet_rw.evaluation.sources.cross_validation_source`.
    num_splits : int
        Of a single fold; at most its cases, or patients.
    seed : int
    groups : mapping, optional
        The patient of every case.

    Returns
    -------
    list of PairedCase
        Sorted by case.

    Raises
    ------
    ValueError
        No model or one twice, fewer than two cases or patients, different labels, cases or folds, cases that a model
        was trained on, or a case without a patient.
    """
    names = [source.name for source in sources]
    if not sources or len(set(names)) < len(names):
        raise ValueError(f"Expected every model once, but got {', '.join(names) or 'none'}.")
    by_case = [{files.case: files for files in source.cases} for source in sources]
    for source, cases in zip(sources, by_case, strict=True):
        _check(source, cases, sources[0], by_case[0])
    folds = []
    names_of_cases = sorted(by_case[0])
    for case in names_of_cases:
        found = {cases[case].fold for cases in by_case}
        if len(found) > 1:
            raise ValueError(
                f"Expected case '{case}' in the same fold of all models, but got {' and '.join(sorted(found))}. Train "
                "them with the same splits_final.json."
            )
        folds.append(found.pop())
    units = units_of(names_of_cases, groups)
    if len(set(units)) < 2:
        what = "cases" if groups is None else "patients"
        raise ValueError(f"Expected two or more {what} to fit and test on, but got {len(set(units))}.")
    folds = folds_or_parts(folds, units, num_splits, seed)
    return [
        PairedCase(case, fold, tuple(cases[case] for cases in by_case), unit)
        for case, fold, unit in zip(names_of_cases, folds, units, strict=True)
    ]


def read_models(case: PairedCase, reader: BaseReaderWriter, labels: Labels) -> list[Case]:
    """The case as each model has it, with probabilities where its files have them.

    Raises
    ------
    ValueError
        See `nnunet_rw.evaluation.reading.read_case`; or models have different references.
    """
    models = [read_case(files, reader, labels.known, labels.num_channels) for files in case.files]
    for files, model in zip(case.files, models, strict=True):
        if not np.array_equal(model.reference, models[0].reference):
            raise ValueError(f"Expected {files.reference} and {case.files[0].reference} to be equal, but they differ.")
    return models


def model_probabilities(model: Case) -> np.ndarray:
    """(C, X, Y[, Z]); a ValueError where they were not asked for."""
    if model.probabilities is None:
        raise ValueError("Expected probabilities, but got a prediction without them.")
    return model.probabilities


def _check(source: Source, cases: dict[str, CaseFiles], first: Source, first_cases: dict[str, CaseFiles]) -> None:
    for key in ("labels", "regions_class_order"):
        if source.dataset_json.get(key) != first.dataset_json.get(key):
            raise ValueError(f"Expected the same {key} of all models, but {first.name} and {source.name} differ.")
    if len(cases) < len(source.cases):
        raise ValueError(
            f"Expected every case of {source.name} in one fold, but got some in several. Name them with -f."
        )
    if any(files.fold == "fold_all" for files in cases.values()):
        raise ValueError(
            f"Expected cases that {source.name} was not trained on, but its fold_all was. Name other folds with -f."
        )
    different = sorted(cases.keys() ^ first_cases.keys())
    if different:
        names = ", ".join(different[:_NAMED]) + (", ..." if len(different) > _NAMED else "")
        raise ValueError(
            f"Expected the same cases of all models, but {first.name} has {len(first_cases)} and {source.name} "
            f"{len(cases)}; {names} only in one. Train and validate the same folds of both."
        )


def to_segmentation(probabilities: np.ndarray, manager: LabelManager) -> np.ndarray:
    """nnU-Net's labels for probabilities (C, X, Y[, Z]): integers (X, Y[, Z]), regions painted in their order."""
    return np.asarray(manager.convert_probabilities_to_segmentation(probabilities))


def label_manager(dataset_json: dict[str, Any]) -> LabelManager:
    """nnU-Net's default one."""
    return LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))


def segment_folders(
    predictions: PredictionFolders,
    output: Path,
    segment: Callable[..., None],
    record: tuple[str, dict[str, Any]],
    description: str,
    processes: int | None = None,
    with_probabilities: bool = False,
) -> list[Path]:
    """Write a segmentation for every case, and what nnU-Net and a reader need beside them.

    All cases are segmented in a hidden folder first, and take their places together: where one cannot be, nothing
    changes.

    Parameters
    ----------
    predictions : PredictionFolders
    output : Path
        Files of the same name are replaced. Gets dataset.json and plans.json.
    segment : callable
        Of a module. Called with the case's files of probabilities, one a folder, the path to be written, and by name
        nnU-Net's ``reader`` and ``manager`` of labels, and the plans' ``transpose_backward``.
    record : (name of a file, content)
        What was done, as JSON. Written last, and an earlier one removed first, so that no segmentations stand beside
        the record of others even after an interruption.
    description : str
        Heads the progress bar.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.
    with_probabilities : bool
        Whether ``segment`` writes these, and properties, as well.

    Returns
    -------
    list of Path
        The segmentations, sorted.

    Raises
    ------
    ValueError
        The output holds other cases or probabilities, which would be taken for those of these segmentations.
    """
    dataset_json, plans = predictions.dataset_json, predictions.plans
    manager = PlansManager(plans)
    function = partial(
        segment,
        reader=manager.image_reader_writer_class(),
        manager=manager.get_label_manager(dataset_json),
        transpose_backward=tuple(plans.get("transpose_backward", range(3))),
    )
    names = [f"{case}{dataset_json.get('file_ending', '.nii.gz')}" for case in predictions.cases]
    _refuse_others(output, predictions.cases, dataset_json.get("file_ending", ".nii.gz"), with_probabilities)
    # Of the same file system as the output, which need not be there yet.
    beside = next(folder for folder in (output, *output.absolute().parents) if folder.is_dir())
    with tempfile.TemporaryDirectory(prefix=".segmenting-", dir=beside) as folder:
        tasks: Sequence[tuple[Any, ...]] = [
            ([inputs / f"{case}.npz" for inputs in predictions.folders], Path(folder) / file)
            for case, file in zip(predictions.cases, names, strict=True)
        ]
        with _named_in(output, Path(folder)):
            for _ in in_processes(function, tasks, description, processes):
                pass
            # Here too: a disk may be full, and moving what is there takes no room.
            for file, what in (("dataset.json", dataset_json), ("plans.json", plans), record):
                _write_json(Path(folder) / file, what)
        output.mkdir(parents=True, exist_ok=True)
        (output / record[0]).unlink(missing_ok=True)
        # A case is known by its probabilities, and a segmentation by its file: what goes with them comes first.
        last = {*names, *(f"{case}.npz" for case in predictions.cases)}
        written = (path.name for path in Path(folder).iterdir())
        for file in sorted(written, key=lambda file: (file == record[0], file in last, file)):
            os.replace(Path(folder) / file, output / file)
    return [output / file for file in names]


def _refuse_others(output: Path, cases: Sequence[str], file_ending: str, with_probabilities: bool) -> None:
    # Not removed: who wrote them, and whether they are still wanted, nobody can tell.
    beside = (".npz", ".pkl")
    written = {f"{case}{ending}" for case in cases for ending in (file_ending, *beside * with_probabilities)}
    there = sorted(path.name for path in output.iterdir() if path.is_file()) if output.is_dir() else []
    others = [name for name in there if name.endswith((file_ending, *beside)) and name not in written]
    if others:
        raise ValueError(
            f"Expected no other cases or probabilities in {output} than will be written, but got {others[0]}"
            f"{f' and {len(others) - 1} more' if len(others) > 1 else ''}. Name another folder with -o, or remove them."
        )


@contextlib.contextmanager
def _named_in(output: Path, folder: Path) -> Iterator[None]:
    """Errors of the file system name the file that was to be, not the one in the hidden folder."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(error.filename).parent != folder:
            raise
        raise OSError(error.errno, error.strerror, str(output / Path(error.filename).name)) from error


def write_segmentation(
    path: Path, segmentation: np.ndarray, reader: BaseReaderWriter, properties: dict[str, Any]
) -> None:
    """Write a file that is there wholly or not at all, after those that go with it: TIFF has its spacing beside it.

    Parameters
    ----------
    path : Path
    segmentation : integer array (X, Y, Z)
    reader : BaseReaderWriter
        nnU-Net's, of the file format.
    properties : dict
        That nnU-Net stored beside the probabilities.
    """
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / path.name
        reader.write_seg(segmentation, str(temporary), properties)
        for written in sorted(Path(folder).iterdir(), key=lambda file: file == temporary):
            write_atomically(path.with_name(written.name), written.read_bytes())


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, (json.dumps(content, indent=4) + "\n").encode())
