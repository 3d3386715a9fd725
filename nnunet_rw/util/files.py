"""Files that are whole or not there, cases and nnU-Net's folders, and settings of others changed for a while.

Imports nothing that takes long.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

NNUNET_FOLDERS = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
# Of file systems without locks.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file, and its folder where there is none, so that nobody ever sees half of it.

    Raises
    ------
    OSError
        The folder cannot be written to or is full. Nothing torn is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced_whole(path) as temporary, named(path), open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def replaced_whole(path: Path, ending: str = "") -> Iterator[Path]:
    """The temporary file to write, in the same folder, which takes the place of `path` when all went well.

    Parameters
    ----------
    path : Path
    ending : str
        Of the temporary file, for writers that choose the format by it.
    """
    temporary = temporary_path(path, ending)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def temporary_path(path: Path, ending: str = "") -> Path:
    """A name of its own beside `path`, about as short for every file: a long name leaves no room for more characters.

    It tells which file and which process it is of, so that leftovers can be recognised.
    """
    return path.with_name(f".{short_hash(path.stem)}@{host_name()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.tmp{ending}")


def short_hash(name: str) -> str:
    """What stands for a name in the names of temporary files."""
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()


def case_names(folder: Path, ending: str) -> list[str]:
    """Sorted names, without their ending, of the files in a folder that have it.

    Those that begin with a dot are no cases: macOS leaves ``._case.nii.gz`` beside ``case.nii.gz``.
    """
    return sorted(path.name.removesuffix(ending) for path in folder.glob(f"[!.]*{ending}"))


def is_plain_name(name: str) -> bool:
    """Whether a file of this name is in the folder that it is written to, and no hidden one."""
    return bool(name) and not name.startswith(".") and "/" not in name and "\\" not in name


def check_plans_name(name: str) -> None:
    """Refuse, with a ValueError, a name of plans that leads out of the dataset's folder."""
    if not is_plain_name(name):
        raise ValueError(f"Expected a name for plans, not a path or one that begins with a dot, but got {name!r}.")


def host_name() -> str:
    """This machine's, as it stands in the names of temporary files."""
    return socket.gethostname().replace("-", "_").replace("@", "_")


def fingerprint(path: Path, timed: bool = True) -> dict[str, int | str]:
    """What tells one content of a file from another, as JSON has it: see `has_fingerprint`.

    Parameters
    ----------
    path : Path
    timed : bool
        Note the file's time too, so that a large file need not be read again.

    Raises
    ------
    OSError
        There is no such file, or it cannot be read.
    """
    state = path.stat()
    time = {"modified_ns": state.st_mtime_ns} if timed else {}
    return {"bytes": state.st_size, **time, "blake2b": file_hash(path, state.st_size, state.st_mtime_ns)}


def has_fingerprint(path: Path, known: dict[str, int | str]) -> bool:
    """Whether a file is the one that `fingerprint` was taken of; False where there is none.

    One of the same size and time is. One of another time is if its content is the same, as after a copy. Whether it is
    older or newer says nothing: tools that copy keep the time of what they copy.

    Raises
    ------
    KeyError, TypeError
        What is known is no fingerprint.
    """
    size, content = known["bytes"], known["blake2b"]
    try:
        state = path.stat()
        if state.st_size != size:
            return False
        if state.st_mtime_ns == known.get("modified_ns"):
            return True
        return file_hash(path, state.st_size, state.st_mtime_ns) == content
    except OSError:
        return False


@lru_cache(maxsize=65536)
def file_hash(path: Path, size: int, modified_ns: int) -> str:
    """BLAKE2b of a file's content, read anew when its size or time differs."""
    content = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            content.update(piece)
    return content.hexdigest()


def portable_path(path: str | Path, folder: Path) -> str:
    """A path as a file in `folder` should name it, so that both can be moved together.

    Relative, beginning with a dot, where it lies in the folder or beside it, that is below the folder's parent; else
    whole. `whole_path` reads it.
    """
    folder = folder.resolve()
    for found in (Path(os.path.abspath(path)), Path(path).resolve()):
        if found.is_relative_to(folder.parent):
            relative = os.path.relpath(found, folder)
            return relative if relative.startswith(os.pardir) else os.path.join(os.curdir, relative)
    return os.path.abspath(path)


def whole_path(text: str, folder: Path) -> str:
    """The path that `portable_path` wrote into a file in `folder`."""
    return os.path.normpath(folder.resolve() / text)


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


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Environment variables set for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute changed for a while, such as a global that nnU-Net names inside a method of sixty lines."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Errors of the file system name this file: that of a full disk names none by itself, others a temporary one."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made where there is none; others wait.

    Raises
    ------
    OSError
        The file system has no locks, or the file cannot be made.
    """
    from filelock import FileLock

    lock = FileLock(path)
    try:
        with named(path):
            lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise OSError(
            error.errno,
            f"{path} cannot be locked ({error.strerror}). Move the folder to a file system that has locks, or mount "
            "this one with them",
        ) from error
    try:
        yield
    finally:
        lock.release()
