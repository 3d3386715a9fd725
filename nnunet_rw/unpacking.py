"""Unpack a folder of a tar file, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

# From Python 3.12, 3.11.4 and 3.10.12 on.
_FILTER: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


def unpack_folder(archive: Path, name: str, parent: Path, finish: Callable[[Path], None]) -> Path:
    """Unpack a folder.

    Parameters
    ----------
    archive : Path
        Tar file, compressed or not. Files that macOS adds (``._*``, ``.DS_Store``) are left out.
    name : str
        Folder at the archive's top.
    parent : Path
        Where it goes.
    finish : callable
        Checks and completes the folder, before it gets its place.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        The archive is damaged, has no such folder, or has members that would be written elsewhere.
    OSError
        The folder cannot be written. Nothing is left of it.
    """
    scratch = parent / f".{name}.unpacking"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        with tarfile.open(archive) as tar, tqdm(desc=f"Unpacking {name}", unit="file", disable=None) as progress:
            for member in tar:
                _check_member(member, archive)
                if not _is_of_macos(member):
                    tar.extract(member, scratch, **_FILTER)
                    progress.update()
        if not (scratch / name).is_dir():
            raise ValueError(f"{archive} holds no folder {name}.")
        finish(scratch / name)
        os.replace(scratch / name, parent / name)
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive} cannot be unpacked: {error}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return parent / name


def _check_member(member: tarfile.TarInfo, archive: Path) -> None:
    path = PurePosixPath(member.name)
    plain = member.isreg() or member.isdir() or bool(_FILTER)
    if path.is_absolute() or ".." in path.parts or not plain:
        raise ValueError(f"{archive} is refused: '{member.name}' in it would be written to another place.")


def _is_of_macos(member: tarfile.TarInfo) -> bool:
    name = PurePosixPath(member.name).name
    return name.startswith("._") or name == ".DS_Store"
