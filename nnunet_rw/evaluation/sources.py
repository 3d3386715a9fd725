"""What is to be evaluated: the files of two folders, or of a cross-validation, and what their values mean."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunet_rw.datasets.folders import (
    SPLITS_FILE,
    Labels,
    dataset_folder,
    labels_of,
    read_dataset_json,
    trained_model,
    training_command,
)
from nnunet_rw.util.files import case_names
from nnunet_rw.util.readers import read_splits

_RAW_LABELS = "labelsTr"


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case; probabilities and images where they are asked for.

    ``raw_label``, which may not be there, is the reference in nnUNet_raw, with all that nnU-Net leaves behind when it
    copies references.
    """

    case: str
    reference: Path
    prediction: Path
    probabilities: Path | None = None
    images: tuple[Path, ...] = ()
    raw_label: Path | None = None

    @property
    def fold(self) -> str:
        """The folder above: <model>/fold_0/validation; of other folders none, all their cases are one fold."""
        name = self.prediction.resolve().parent.parent.name
        return name if name.startswith("fold_") else ""

    @property
    def read(self) -> dict[str, Path]:
        """The files that an evaluation reads, by what they are; of several images it is the first."""
        found = {"reference": self.reference, "prediction": self.prediction}
        if self.probabilities:
            found["probabilities"] = self.probabilities
        if self.images:
            found["image"] = self.images[0]
        return found


@dataclass(frozen=True)
class Source:
    """Cases to be evaluated, and what their labels mean.

    Attributes
    ----------
    name : str
        Of the trainer or the folder; it heads comparisons.
    cases : list of CaseFiles
    missing : list of str
        Cases with a reference and no prediction.
    dataset_json : dict
        nnU-Net's.
    folder : Path
        Where results go unless another place is given.
    """

    name: str
    cases: list[CaseFiles]
    missing: list[str]
    dataset_json: dict[str, Any] = field(repr=False)
    folder: Path

    @property
    def labels(self) -> Labels:
        """What the values of the segmentations mean."""
        return labels_of(self.dataset_json)

    @property
    def label_entries(self) -> dict[str, Any]:
        """What the dataset.json says of labels, in its own words."""
        return {key: self.dataset_json.get(key) for key in ("labels", "regions_class_order")}

    @property
    def reader(self) -> BaseReaderWriter:
        """nnU-Net's reader for these files.

        Raises
        ------
        ValueError
            None of them reads the first reference.
        """
        example = str(self.cases[0].reference)
        try:
            # It prints a traceback for every reader that it tries in vain.
            with redirect_stderr(io.StringIO()):
                return determine_reader_writer_from_dataset_json(self.dataset_json, example, verbose=False)()
        except Exception as error:  # of whatever reader the dataset.json names
            raise ValueError(
                f"No reader of nnU-Net reads {example}. Is it damaged? Copy it again, or correct file_ending and "
                "overwrite_image_reader_writer in the dataset.json."
            ) from error


def folders_source(
    predictions: str | Path,
    references: str | Path,
    dataset_json: str | Path | None = None,
    images: str | Path | None = None,
    probabilities: bool = False,
    allow_missing: bool | None = None,
) -> Source:
    """Predictions and references in two folders, as nnUNetv2_evaluate_folder takes them.

    Parameters
    ----------
    predictions, references : paths
        Files of the same name belong together.
    dataset_json : path, optional
        Default: the ``dataset.json`` that nnUNetv2_predict wrote beside its predictions.
    images : path, optional
        Folder of images named ``<case>_0000<ending>``.
    probabilities : bool
        Read ``<case>.npz`` beside the predictions, which nnU-Net writes with --save_probabilities or --npz.
    allow_missing : bool, optional
        Go on where a reference has no prediction; the cases are listed as missing. None: as False, in a command that
        has no such option.

    Raises
    ------
    FileNotFoundError
        A folder, the dataset.json, a prediction, a reference or probabilities are missing.
    ValueError
        The dataset.json is none of nnU-Net's.
    """
    predictions, references = Path(predictions), Path(references)
    for folder in (predictions, references):
        if not folder.is_dir():
            raise FileNotFoundError(f"No folder {folder}.")
    path = Path(dataset_json) if dataset_json else predictions / "dataset.json"
    if not path.is_file():
        raise FileNotFoundError(f"No {path}. Name the dataset with -d, or its dataset.json with -djfile.")
    content = read_dataset_json(path)
    ending = content["file_ending"]
    cases = case_names(references, ending)
    extra = [case for case in case_names(predictions, ending) if case not in set(cases)]
    if extra:
        raise FileNotFoundError(f"No reference in {references} for {_some(extra)} of {predictions}.")
    if not cases:
        raise FileNotFoundError(f"No *{ending} in {references}.")
    return _source(
        predictions.resolve().name,
        content,
        cases,
        predictions,
        references,
        path.parent / _RAW_LABELS,
        images,
        probabilities,
        allow_missing,
    )


def cross_validation_source(
    dataset: str,
    configuration: str,
    trainer: str,
    plans_name: str = "nnUNetPlans",
    folds: Sequence[str] = (),
    probabilities: bool = False,
    allow_missing: bool | None = None,
    images: str | Path | None = None,
) -> Source:
    """The validation cases of a trained model's folds, pooled.

    Parameters
    ----------
    dataset, configuration, trainer, plans_name
        As for nnUNetv2_train.
    folds : sequence of str
        Numbers, or "all". Default: every numbered fold that has been validated, "all" where there is none.
    probabilities : bool
        Read the ``.npz`` files of nnUNetv2_train --npz.
    allow_missing : bool, optional
        Go on where a case of a fold has no prediction; see `folders_source`.
    images : path, optional
        Folder of images named ``<case>_0000<ending>``; `raw_images` is the dataset's own.

    Raises
    ------
    FileNotFoundError
        No such model, a fold that was not validated, a case without prediction or image, or no probabilities.
    ValueError
        A case is in several of the folds, or the dataset.json is none of nnU-Net's.
    """
    model = trained_model(dataset, configuration, trainer, plans_name)
    content = read_dataset_json(model / "dataset.json")
    ending = content["file_ending"]
    chosen = [f"fold_{str(fold).removeprefix('fold_')}" for fold in folds]
    for name in chosen:
        if not re.fullmatch(r"fold_(\d+|all)", name):
            raise ValueError(f"Expected folds such as 0 and 1, or all, but got {name.removeprefix('fold_')!r}.")
    if not folds:
        validated = sorted(path.parent.name for path in model.glob("fold_*/validation") if case_names(path, ending))
        # The cases of fold_all are those that it was trained on, and those of all others.
        chosen = [name for name in validated if name != "fold_all"] or validated
    preprocessed = dataset_folder(dataset)
    references = preprocessed / "gt_segmentations"

    def validation(name: str) -> str:
        if _cases_of_fold(preprocessed, name) == []:
            return f"It has no validation case in {preprocessed / SPLITS_FILE}: name other folds with -f."
        states = {"validate": "checkpoint_final.pth", "resume": "checkpoint_*.pth"}
        state = next((state for state, file in states.items() if any((model / name).glob(file))), None)
        fold, options = name.removeprefix("fold_"), {"probabilities": probabilities} | ({state: True} if state else {})
        return f"Run: {training_command(dataset, configuration, trainer, plans_name, fold, **options)}"

    raw = _raw_folder(dataset, _RAW_LABELS)
    parts = []
    for name in chosen:
        folder = model / name / "validation"
        if not folder.is_dir() or not case_names(folder, ending):
            raise FileNotFoundError(f"{name} of {model} was not validated. {validation(name)}")
        cases = _cases_of_fold(preprocessed, name) or case_names(folder, ending)
        parts.append(_source(trainer, content, cases, folder, references, raw, images, probabilities, allow_missing))
    if not parts:
        begun = sorted(path.name for path in model.glob("fold_*")) or ["fold_0"]
        to_do = next((name for name in begun if _cases_of_fold(preprocessed, name) != []), begun[0])
        raise FileNotFoundError(f"No fold of {model} was validated. {validation(to_do)}")
    merged = [case for part in parts for case in part.cases]
    missing = [case for part in parts for case in part.missing]
    several = [case for case, count in Counter(found.case for found in merged).items() if count > 1]
    if several:
        raise ValueError(
            f"Expected every case in one fold, but {_some(several)} of {model} are in several of "
            f"{', '.join(chosen)}. Name the folds with -f."
        )
    return Source(trainer, merged, missing, content, model / "evaluation")


def raw_images(dataset: str) -> Path | None:
    """The folder of a dataset's training images in nnUNet_raw; None where that is not set or has none."""
    return _raw_folder(dataset, "imagesTr")


def _raw_folder(dataset: str, name: str) -> Path | None:
    try:
        folder = dataset_folder(dataset, "nnUNet_raw") / name
    except FileNotFoundError:
        return None
    return folder if folder.is_dir() else None


def _source(
    name: str,
    dataset_json: dict[str, Any],
    cases: list[str],
    predictions: Path,
    references: Path,
    raw_labels: Path | None,
    images: str | Path | None,
    probabilities: bool,
    allow_missing: bool | None,
) -> Source:
    ending = dataset_json["file_ending"]
    there = set(case_names(predictions, ending))
    missing = [case for case in cases if case not in there]
    if len(missing) == len(cases) or (missing and not allow_missing):
        or_else = ", or give --allow-missing to go on" if len(missing) < len(cases) and allow_missing is False else ""
        raise FileNotFoundError(f"No prediction in {predictions} for {_some(missing)}. Predict them{or_else}.")
    files = []
    for case in cases:
        if case not in there:
            continue
        found = CaseFiles(
            case,
            references / f"{case}{ending}",
            predictions / f"{case}{ending}",
            predictions / f"{case}.npz" if probabilities else None,
            tuple(sorted(Path(images).glob(f"{escape(case)}_[0-9][0-9][0-9][0-9]{ending}"))) if images else (),
            raw_labels / f"{case}{ending}" if raw_labels else None,
        )
        for path in filter(None, (found.reference, found.probabilities)):
            if not path.is_file():
                hint = " Predict with --save_probabilities, or train with --npz." if path.suffix == ".npz" else ""
                raise FileNotFoundError(f"No {path}.{hint}")
        if images and not found.images:
            raise FileNotFoundError(f"No image {case}_0000{ending} in {images}.")
        files.append(found)
    return Source(name, files, missing, dataset_json, predictions / "evaluation")


def _cases_of_fold(preprocessed: Path, name: str) -> list[str] | None:
    """The validation cases of a fold by nnU-Net's splits; None for fold_all and others that the splits do not list."""
    path = preprocessed / SPLITS_FILE
    number = name.removeprefix("fold_")
    if not path.is_file() or not number.isdigit():
        return None
    splits = read_splits(path, "Restore the file that the models were trained with.")
    return splits[int(number)]["val"] if int(number) < len(splits) else None


def _some(names: Sequence[str], most: int = 3) -> str:
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
