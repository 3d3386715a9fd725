"""Files that are whole or not there, and nnU-Net's folders; imports nothing that takes long."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, and its folder where there is none, so that nobody ever sees half of it.

    Raises
    ------
    OSError
        The folder cannot be written to or is full. Nothing torn is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.stem}@{host_name()}-{os.getpid()}-{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def host_name() -> str:
    """This machine's, as it stands in the names of temporary files."""
    return socket.gethostname().replace("-", "_").replace("@", "_")


def nnunet_folder(variable: str) -> Path:
    """One of nnU-Net's folders, from the environment.

    Raises
    ------
    FileNotFoundError
        The variable is not set, or names no folder.
    """
    value = os.environ.get(variable)
    if not value:
        raise FileNotFoundError(f"{variable} is not set. Run: export {variable}=FOLDER")
    if not Path(value).is_dir():
        raise FileNotFoundError(f"{variable} names {value}, which is no folder. Create it or correct the variable.")
    return Path(value)
