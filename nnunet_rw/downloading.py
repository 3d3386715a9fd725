"""Download a file that may be large over a connection that may break."""

from __future__ import annotations

import errno
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import requests
from tqdm import tqdm

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
    """Download a file, going on behind what has come before.

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
