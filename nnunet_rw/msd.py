"""Download tasks of the Medical Segmentation Decathlon."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pooch
from filelock import FileLock

from nnunet_rw.downloading import resume_download
from nnunet_rw.msd_tasks import TASKS, DecathlonTask, decathlon_task
from nnunet_rw.unpacking import unpack_folder

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

    The folder appears when it is complete. Interrupted at any moment, the next call goes on where this one stopped;
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
        with FileLock(folder / f".{task.name}.lock"):
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
    log(f"{'Going on with' if part.exists() else 'Downloading'} {url}")
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
