"""The Medical Segmentation Decathlon: its tasks, published results, download, and the way into nnUNet_raw."""

from __future__ import annotations

import difflib
import errno
import os
import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pooch
from nnunetv2.dataset_conversion.convert_MSD_dataset import convert_msd_dataset
from typing_extensions import TypedDict

from nnunet_rw.datasets.download import resume_download, unpack_folder
from nnunet_rw.util.files import NNUNET_FOLDERS, case_names, environment, locked, nnunet_folder
from nnunet_rw.util.readers import read_json


@dataclass(frozen=True)
class PublishedDice:
    """Mean Dice of a label in per cent.

    Attributes
    ----------
    label : str
        As dataset.json names it, the background left out.
    test : float
        Of the official test server, over the cases that have the label.
    cross_validation : float
        Over all cases of the five folds' validation; a case without the label in which none was predicted has none.
    """

    label: str
    test: float
    cross_validation: float


# Of automl/AutoNNUnet at commit 7c9d676f (Becktepe, Hennig, Oeltze-Jafra and Lindauer 2025): the answers of the test
# server in output/msd_results/baseline_ConvolutionalEncoder_3d_fullres.json, "mean" of every "DCS"; and the mean over
# "metric_per_case" of the five summary.json of each results_zipped/baseline_ConvolutionalEncoder/<dataset>.zip.
SOURCE = "AutoNNUnet's baseline (github.com/automl/AutoNNUnet, files of commit 7c9d676f)"
WHAT_DIFFERS = (
    "nnU-Net v2 with its default plans, 3d_fullres, 1000 epochs, the best checkpoint of each fold. "
    "Test: the five folds' models together, on the official test set, whose labels are not public. Cross-validation: "
    "each fold's model on its own part of the training cases. Compare cross-validation with a benchmark of all five "
    "folds; one fold, fewer epochs or other plans differ by that alone."
)

PUBLISHED = {
    "Task01_BrainTumour": (
        PublishedDice("edema", 68.5, 81.1),
        PublishedDice("non-enhancing tumor", 46.7, 62.0),
        PublishedDice("enhancing tumour", 68.8, 78.8),
    ),
    "Task02_Heart": (PublishedDice("left atrium", 93.3, 93.4),),
    "Task03_Liver": (PublishedDice("liver", 94.8, 95.5), PublishedDice("cancer", 75.9, 63.6)),
    "Task04_Hippocampus": (PublishedDice("Anterior", 90.1, 89.9), PublishedDice("Posterior", 88.8, 88.2)),
    "Task05_Prostate": (PublishedDice("PZ", 73.4, 67.9), PublishedDice("TZ", 88.4, 79.9)),
    "Task06_Lung": (PublishedDice("cancer", 67.1, 68.2),),
    "Task07_Pancreas": (PublishedDice("pancreas", 81.4, 81.6), PublishedDice("cancer", 48.0, 50.5)),
    "Task08_HepaticVessel": (PublishedDice("Vessel", 65.7, 64.8), PublishedDice("Tumour", 71.0, 71.9)),
    "Task09_Spleen": (PublishedDice("spleen", 97.2, 96.6),),
    "Task10_Colon": (PublishedDice("colon cancer primaries", 53.0, 46.0),),
}


def values_of(task: str) -> tuple[str, str]:
    """Cross-validation and test set of every label in turn: ("89.9 / 88.2", "90.1 / 88.8")."""
    labels = PUBLISHED[task]
    return (
        " / ".join(f"{found.cross_validation:.1f}" for found in labels),
        " / ".join(f"{found.test:.1f}" for found in labels),
    )


def list_notes() -> str:
    """What the two columns of the list of tasks are."""
    return f"Dice: mean of each label in per cent, as published. {SOURCE}: {WHAT_DIFFERS}"


def published_sentence(dataset: str) -> str:
    """For a report on nnU-Net's dataset of a Decathlon task (``Dataset004_Hippocampus``); empty for others."""
    task = next((task for task in PUBLISHED if dataset_name_of(task) == dataset), None)
    if task is None:
        return ""
    values = "; ".join(f"{found.label} {found.cross_validation:.1f} ({found.test:.1f})" for found in PUBLISHED[task])
    return (
        f"Published for nnU-Net on {task}, mean Dice in per cent in cross-validation (on the test set): {values}. "
        f"{SOURCE}: {WHAT_DIFFERS}"
    )


@dataclass(frozen=True)
class DecathlonTask:
    """One of the ten.

    Attributes
    ----------
    name : str
        Of its folder, and of its archive before ``.tar``.
    target : str
        What is segmented.
    modality : str
    num_training : int
        Cases with labels, as the archive's dataset.json counts them.
    md5 : str
        Of the archive.
    """

    name: str
    target: str
    modality: str
    num_training: int
    md5: str


# Address and checksums: monai.apps.DecathlonDataset of MONAI 1.6; the archives lie in AWS Open Data. Targets and
# modalities: Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9.
TASKS = {
    task.name: task
    for task in (
        DecathlonTask(
            "Task01_BrainTumour", "glioma: oedema, tumour", "MRI, 4 sequences", 484, "240a19d752f0d9e9101544901065d872"
        ),
        DecathlonTask("Task02_Heart", "left atrium", "MRI", 20, "06ee59366e1e5124267b774dbd654057"),
        DecathlonTask("Task03_Liver", "liver, tumours", "CT", 131, "a90ec6c4aa7f6a3d087205e23d4e6397"),
        DecathlonTask(
            "Task04_Hippocampus", "anterior, posterior hippocampus", "MRI", 260, "9d24dba78a72977dbd1d2e110310f31b"
        ),
        DecathlonTask(
            "Task05_Prostate", "peripheral, transition zone", "MRI, 2 sequences", 32, "35138f08b1efaef89d7424d2bcc928db"
        ),
        DecathlonTask("Task06_Lung", "lung tumours", "CT", 63, "8afd997733c7fc0432f71255ba4e52dc"),
        DecathlonTask("Task07_Pancreas", "pancreas, tumours", "CT", 281, "4f7080cfca169fa8066d17ce6eb061e4"),
        DecathlonTask("Task08_HepaticVessel", "liver vessels, tumours", "CT", 303, "641d79e80ec66453921d997fbf12a29c"),
        DecathlonTask("Task09_Spleen", "spleen", "CT", 41, "410d4a301da4e5b2f6f86ec3ddba524e"),
        DecathlonTask("Task10_Colon", "colon tumours", "CT", 126, "bad7a188931dc2f6acf72b08eb6202d0"),
    )
}


def decathlon_task(text: str) -> DecathlonTask:
    """The task that is meant: ``Task04_Hippocampus``, ``Task04``, ``4``, ``Hippocampus``, ``hippo``.

    Raises
    ------
    ValueError
        It is none of the ten, or could be several.
    """
    wanted = _plain(text)
    aliases = {name: _aliases(name) for name in TASKS}
    found = [name for name in TASKS if wanted in aliases[name]]
    if not found and wanted:
        found = [name for name in TASKS if any(alias.startswith(wanted) for alias in aliases[name])]
    if len(found) == 1:
        return TASKS[found[0]]
    if found:
        raise ValueError(f"{text!r} could be any of {', '.join(found)}. Give more of the name.")
    near = [name for name in TASKS if difflib.get_close_matches(wanted, aliases[name], n=1)]
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    raise ValueError(f"No task {text!r} in the Decathlon.{meant} There are: {', '.join(TASKS)}.")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def _aliases(name: str) -> tuple[str, ...]:
    number, organ = name.removeprefix("Task").split("_")
    return tuple(
        _plain(text) for text in (name, f"Task{number}", f"Task{int(number)}", number, f"{int(number)}", organ)
    )


_NAME = re.compile(r"Task(\d+)_([^_]+)")


class _MsdJson(TypedDict):
    """What nnU-Net's conversion takes from the dataset.json of a Decathlon task."""

    labels: dict[str, str]
    modality: dict[str, str]
    training: list[Any]
    test: list[Any]


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
        make = f"mkdir {shlex.quote(str(tests))}"
        raise FileNotFoundError(f"No imagesTs in {folder}. Run: {make} (nnU-Net wants it, if empty)")
    dataset_name_of(folder.name)


def ensure_converted(folder: Path, processes: int = 2) -> Path:
    """The dataset of an MSD folder in nnUNet_raw, converted unless it is there; whole or not at all.

    Interrupted at any moment, the next call removes what this one left; of several at once one converts and the others
    wait.

    Raises
    ------
    FileNotFoundError, ValueError
        See `check_msd_folder`; or nnUNet_raw is not set, the folder's dataset.json damaged, or a case missing that it
        names.
    OSError
        nnUNet_raw cannot be written to or is full.
    """
    name = dataset_name_of(folder.name)
    target = nnunet_folder("nnUNet_raw") / name
    if (target / "dataset.json").is_file():
        return target
    check_msd_folder(folder)
    content = read_json(folder / "dataset.json", "Copy the folder again.", _MsdJson, "is no dataset.json in MSD layout")
    _check_cases(folder, content["training"])
    if target.exists():
        raise ValueError(f"{target} is there without a dataset.json. Complete or remove it, and run this again.")
    # nnU-Net converts into nnUNet_raw itself, refuses what an interrupted conversion left there, and takes a number
    # for taken if other folders of it know the dataset. So it converts elsewhere, and the result is moved. The name is
    # fixed: a process that is terminated removes nothing itself.
    scratch = target.with_name(f".{name}.converting")
    with locked(target.with_name(f".{name}.lock")):
        if (target / "dataset.json").is_file():
            return target
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        try:
            with environment(**dict.fromkeys(NNUNET_FOLDERS, str(scratch))):
                convert_msd_dataset(str(folder), num_processes=processes)
            os.rename(scratch / name, target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _check_cases(folder: Path, training: Sequence[Any]) -> None:
    """Refuse a folder without the cases that it names: nnU-Net takes what there is of .nii.gz, if nothing."""
    named = [
        (part, re.sub(r"\.nii(\.gz)?$", "", Path(str(case[key])).name))
        for case in training
        if isinstance(case, dict)
        for key, part in (("image", "imagesTr"), ("label", "labelsTr"))
        if key in case
    ]
    absent = [file for part, name in named if not (file := folder / part / f"{name}.nii.gz").is_file()]
    if absent:
        raise ValueError(
            f"No {absent[0]}, of a case that 'training' in {folder / 'dataset.json'} names. Complete the folder, or "
            "correct 'training'; nnU-Net converts .nii.gz alone, so compress what is .nii."
        )
    if not case_names(folder / "labelsTr", ".nii.gz"):
        raise ValueError(f"No .nii.gz in {folder / 'labelsTr'}; nnU-Net converts such files alone.")


__all__ = ["BASE_URL", "TASKS", "URL_VARIABLE", "DecathlonTask", "decathlon_task", "download_task"]

# Of MONAI's copy in AWS Open Data, which the checksums belong to.
BASE_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com"
URL_VARIABLE = "NNUNET_RW_MSD_URL"
_PARTS = ("dataset.json", "imagesTr", "labelsTr")


def download_task(
    name: str,
    folder: str | Path,
    base_url: str | None = None,
    checksums: Mapping[str, str] | None = None,
    keep_archive: bool = False,
    log: Callable[[str], None] = print,
    pause_seconds: float = 1.0,
) -> Path:
    """Download and unpack a task, unless it is there.

    The folder appears when it is complete. Interrupted at any moment, the next call resumes where this one stopped;
    of several calls at once one does the work and the others wait.

    Parameters
    ----------
    name : str
        As `decathlon_task` takes it.
    folder : path
        Where the task's folder goes; made if it is not there.
    base_url : str, optional
        Of a server that has ``<task>.tar``. Default: the variable NNUNET_RW_MSD_URL, or else AWS Open Data.
    checksums : mapping of str to str, optional
        MD5 by task name, in place of the published ones.
    keep_archive : bool
        Keep ``<task>.tar`` beside the folder. One that was there before is used, and kept in any case.
    log : callable
        Told what happens.
    pause_seconds : float
        Before a broken download is tried again.

    Returns
    -------
    Path
        Folder in MSD layout, as nnUNetv2_convert_MSD_dataset takes it.

    Raises
    ------
    ConnectionError, FileNotFoundError
        The server cannot be reached, or does not have the file.
    ValueError
        Unknown task, wrong checksum, or an archive that holds something else.
    OSError
        The folder cannot be written to or is full.
    """
    task = decathlon_task(name)
    folder = Path(folder).resolve()
    target = folder / task.name
    if _is_there(target):
        log(f"{target} is there already")
        return target
    url = f"{_checked_url(base_url or os.environ.get(URL_VARIABLE) or BASE_URL)}/{task.name}.tar"
    archive = folder / f"{task.name}.tar"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f".{task.name}.lock"):
            if _is_there(target):
                log(f"{target} is there already")
                return target
            was_there = archive.exists()
            _ensure_archive(url, archive, (checksums or {}).get(task.name, task.md5), log, pause_seconds)
            log(f"Unpacking {archive}")
            unpack_folder(archive, task.name, folder, _complete)
            if not keep_archive and not was_there:
                archive.unlink()
    except OSError as error:
        explained = _explained(error, folder)
        if explained is error:
            raise
        raise explained from error
    return target


def _checked_url(url: str) -> str:
    if not re.match(r"https?://\w", url):
        raise ValueError(f"Expected an address such as {BASE_URL}, but got {url!r}.")
    return url.rstrip("/")


def _is_there(target: Path) -> bool:
    if not target.is_dir() or not any(target.iterdir()):
        return False
    missing = [part for part in _PARTS if not (target / part).exists()]
    if missing:
        raise FileExistsError(f"{target} is there without {missing[0]}. Complete or remove it, and run this again.")
    (target / "imagesTs").mkdir(exist_ok=True)
    return True


def _complete(unpacked: Path) -> None:
    missing = [part for part in _PARTS if not (unpacked / part).exists()]
    if missing:
        raise ValueError(f"The archive of {unpacked.name} holds no {missing[0]}, so it is no task in MSD layout.")
    # nnU-Net's conversion wants the folder, if empty.
    (unpacked / "imagesTs").mkdir(exist_ok=True)


def _ensure_archive(url: str, archive: Path, md5: str, log: Callable[[str], None], pause_seconds: float) -> None:
    """The archive, downloaded unless it is there; no other one gets its name."""
    if archive.exists():
        if pooch.file_hash(str(archive), alg="md5") != md5:
            raise ValueError(f"{archive} has not the checksum of the published one. Remove it, and run this again.")
        return
    part = archive.with_name(f"{archive.name}.part")
    log(f"{'Resuming' if part.exists() else 'Downloading'} {url}")
    try:
        # Room for the archive and for what is in it.
        resume_download(url, part, copies=2, pause_seconds=pause_seconds, log=log)
    except (ConnectionError, FileNotFoundError) as error:
        kept = "What has come is kept: run the same command again, or g" if part.exists() else "G"
        raise type(error)(f"{error} {kept}et {archive.stem} elsewhere: a folder in MSD layout will do.") from error
    found = pooch.file_hash(str(part), alg="md5")
    if found != md5:
        part.unlink()
        raise ValueError(
            f"What came from {url} has the MD5 checksum {found} instead of {md5}, and was removed. Run the same "
            "command again."
        )
    os.replace(part, archive)


def _explained(error: OSError, folder: Path) -> OSError:
    """The same error, saying what the user can do."""
    from_system = error.errno is not None and error.strerror == os.strerror(error.errno)
    if from_system and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return OSError(
            error.errno,
            f"No space in {folder} ({error.strerror}). What was downloaded is kept: free space and run the same "
            "command again",
        )
    if from_system and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionError(error.errno, f"{folder} cannot be written to ({error.strerror}). Choose another folder")
    return error
