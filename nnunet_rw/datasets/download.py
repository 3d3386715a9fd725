"""Download what may be large over a connection that may break, and unpack it whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import requests
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


CHUNK_BYTES = 1 << 16
TIMEOUT_SECONDS = 60
_TRANSIENT = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


def resume_download(
    url: str,
    part: Path,
    copies: int = 1,
    attempts: int = 5,
    pause_seconds: float = 1.0,
    log: Callable[[str], None] = print,
) -> None:
    """Download a file, resuming what came before.

    What has come stays through lost connections, a full disk and a killed process; the next call asks for the rest
    (HTTP ``Range``). A server that does not know that sends all again.

    Parameters
    ----------
    url : str
    part : Path
        Where it is written, and what has come stands. Whether it is the right file is not checked.
    copies : int
        Free space needed, in sizes of the file: itself, and what will be made of it.
    attempts : int
        In a row that bring nothing, after which it gives up.
    pause_seconds : float
        After the first such attempt; twice as long after each further one.
    log : callable
        Told why it tries again.

    Raises
    ------
    ConnectionError
        The server cannot be reached, or the connection broke again and again.
    FileNotFoundError
        The server has no such file, or does not give it.
    OSError
        Not enough space.
    """
    failures = 0
    while True:
        before = _size(part)
        try:
            return _fetch(url, part, copies)
        except _TRANSIENT as error:
            failures = 1 if _size(part) > before else failures + 1
            if failures >= attempts:
                raise ConnectionError(f"Cannot download {url} ({_reason(error)}).") from error
            log(f"{_reason(error)}; trying again")
            time.sleep(pause_seconds * 2 ** (failures - 1))
        except requests.RequestException as error:
            raise ConnectionError(f"Cannot download {url} ({_reason(error)}).") from error


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fetch(url: str, part: Path, copies: int) -> None:
    begin = _size(part)
    # Compression on the way would make offsets mean something else.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={begin}-"} if begin else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            # Nothing is behind what has come.
            return
        _check_status(response, url)
        # The piece that was asked for, or all of it.
        piece = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        begin = int(piece[1]) if piece and response.status_code == requests.codes.partial_content else 0
        length = response.headers.get("Content-Length")
        total = begin + int(length) if length else None
        if total is not None:
            _check_space(part, total - _size(part) + (copies - 1) * total)
        with (
            open(part, "r+b" if begin else "wb") as file,
            tqdm(desc=part.stem, total=total, initial=begin, unit="B", unit_scale=True, disable=None) as progress,
        ):
            file.seek(begin)
            file.truncate()
            for chunk in response.iter_content(CHUNK_BYTES):
                file.write(chunk)
                progress.update(len(chunk))
    if total is not None and _size(part) < total:
        raise requests.ConnectionError("the connection was closed")


def _check_status(response: requests.Response, url: str) -> None:
    status = f"{response.status_code} {response.reason}"
    if response.status_code >= 500 or response.status_code == requests.codes.too_many_requests:
        raise requests.ConnectionError(status)
    if response.status_code >= 400:
        raise FileNotFoundError(f"The server does not give {url} ({status}).")


def _check_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"{part.stem} needs {needed / 1e9:.1f} GB more in {part.parent}, where {free / 1e9:.1f} GB are free. Free "
            "space or choose another folder, and run the same command again",
        )


def _reason(error: BaseException) -> str:
    """What went wrong, without the classes that it came through."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_SECONDS} s"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection was lost"
    from_system = re.search(r"\[Errno -?\d+\] ([^'\")]+)", str(error))
    return from_system[1] if from_system else str(error)
