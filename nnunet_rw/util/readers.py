"""Files of users and of nnU-Net, which may be damaged: errors name the file and say what to do about it.

Pickles and checkpoints are read without running what they say: a crafted one can name any function to be called.
Allowed is what nnU-Net writes: numbers, text, containers, NumPy's arrays and scalars, and tensors in checkpoints.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import pickle
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

# NumPy 2 renamed numpy.core; files of either name are read by either version.
_NUMPY_CORES = ("numpy.core", "numpy._core")
_NUMPY = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **{f"{core}.multiarray.scalar": np.float64(0).__reduce__()[0] for core in _NUMPY_CORES},
    **{f"{core}.multiarray._reconstruct": np.zeros(1).__reduce__()[0] for core in _NUMPY_CORES},
    **{f"{core}.numeric._frombuffer": np.zeros(1).__reduce_ex__(5)[0] for core in _NUMPY_CORES},
}
_ALLOWED = {**_NUMPY, "collections.OrderedDict": OrderedDict, "builtins.complex": complex}
# Torch asks for the class of every type of number.
_NUMPY_DTYPES = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDSU"]


class DamagedFile(ValueError):
    """A file that is not what it should be."""


class ForbiddenGlobal(DamagedFile):
    """A file names a function or class that reading it would call, and that nnU-Net does not write."""


class DatasetJson(TypedDict):
    """What is read of nnU-Net's dataset.json; `nnunet_rw.datasets.folders.labels_of` checks the labels themselves."""

    labels: dict[str, Any]
    file_ending: NotRequired[str]
    overwrite_image_reader_writer: NotRequired[str]
    dataset: NotRequired[dict[str, dict[str, Any]]]


class Plans(TypedDict):
    """What is read of all of nnU-Net's plans."""

    configurations: dict[str, dict[str, Any]]


class Fold(TypedDict):
    """One of nnU-Net's splits."""

    train: list[str]
    val: list[str]


@contextmanager
def told(
    path: str | Path,
    advice: str,
    fault: str = "is damaged",
    errors: type[Exception] | tuple[type[Exception], ...] = Exception,
) -> Iterator[None]:
    """Whatever fails within is the fault of this file.

    Parameters
    ----------
    path : path
    advice : str
        A sentence: what to do about it.
    fault : str
        What follows the file's name: "is no dataset.json of nnU-Net".
    errors : exception or tuple of exceptions
        That a damaged file leads to; others are let through.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFile
        Anything else but an error of the file system, which names the file itself.
    """
    try:
        yield
    except (DamagedFile, MemoryError):
        raise
    except FileNotFoundError as error:
        raise FileNotFoundError(f"No {path}. {advice}") from error
    except errors as error:
        # EINVAL comes of a position that a torn file tells.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        # Blosc2 tells the whole path again.
        raise DamagedFile(f"{path} {fault} ({reason(error).replace(str(path), Path(path).name)}). {advice}") from error


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    text = str(error)
    if isinstance(error, KeyError) and error.args:
        # A key, or what NumPy's archives and others say of one.
        text = str(error.args[0])
        text = text if " " in text else f"no {error.args[0]!r}"
    # SimpleITK begins with where it was thrown.
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("Exception thrown")]
    return lines[0].strip().rstrip(".") if lines else type(error).__name__


def read_json(path: str | Path, advice: str, schema: Any = dict[str, Any], fault: str = "is damaged") -> Any:
    """The content of a JSON file.

    Parameters
    ----------
    path, advice, fault
        As of `told`.
    schema : type
        Of the content: required keys and their types, as pydantic reads annotations. More keys may be there.

    Raises
    ------
    FileNotFoundError, DamagedFile
    """
    with told(path, advice, fault):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        _adapter(schema).validate_python(content, strict=True)
    return content


def read_splits(path: str | Path, advice: str) -> list[dict[str, list[str]]]:
    """nnU-Net's splits_final.json: a list of ``{"train": [...], "val": [...]}``."""
    fault = 'is no list of {"train": [...], "val": [...]}, as nnU-Net has splits'
    return read_json(path, advice, Annotated[list[Fold], Field(min_length=1)], fault)


def read_table(path: str | Path, columns: Sequence[str], advice: str) -> list[dict[str, str]]:
    """The rows of a CSV file with a header; a missing cell is empty.

    Raises
    ------
    FileNotFoundError, DamagedFile
        No such file, no CSV, or a column is missing.
    """
    with told(path, advice, "is no table"), open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="", strict=True)
        absent = [name for name in columns if name not in (reader.fieldnames or ())]
        if absent:
            raise DamagedFile(f"{path} has no column '{absent[0]}'. {advice}")
        return list(reader)


class _Unpickler(pickle.Unpickler):
    def __init__(self, path: str | Path):
        super().__init__(io.BytesIO(Path(path).read_bytes()))
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _ALLOWED:
            raise _refusal(self.path, f"{module}.{name}")
        return _ALLOWED[f"{module}.{name}"]


def read_pickle(path: str | Path, advice: str) -> Any:
    """What a pickle holds, if that is of numbers, text, containers and NumPy arrays alone.

    Raises
    ------
    ForbiddenGlobal
        The file names anything else. Nothing of it has been run.
    FileNotFoundError, DamagedFile
        There is no such file, or it is damaged or no pickle.
    """
    with told(path, advice):
        return _Unpickler(path).load()


def read_checkpoint(path: str | Path, advice: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A checkpoint of nnU-Net's with these keys, its tensors on the CPU.

    Torch before 2.6 cannot be told that NumPy's scalars, which checkpoints hold, are harmless: there the file is
    trusted, and standard error says so.

    Raises
    ------
    ForbiddenGlobal
        The file names a function or class other than those of tensors and numbers. Nothing of it has been run.
    FileNotFoundError, DamagedFile
        There is no such file, or it is damaged or none of nnU-Net's.
    """
    with told(path, advice):
        try:
            checkpoint = _load_checkpoint(Path(path))
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL ([\w.]*\w)", str(error))
            if named is None:
                raise
            raise _refusal(path, named[1]) from None
        if not isinstance(checkpoint, dict):
            raise TypeError(f"a {type(checkpoint).__name__}")
        for key in keys:
            checkpoint[key]
    return checkpoint


def _refusal(path: str | Path, name: str) -> ForbiddenGlobal:
    return ForbiddenGlobal(
        f"{path} names {name}, which reading it would call: it may be crafted. Expected what nnU-Net writes, numbers, "
        "text and arrays alone. Write the file again with nnU-Net."
    )


def _load_checkpoint(path: Path) -> Any:
    import torch  # takes seconds, for which nobody should wait who reads another file

    if not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        print(
            f"nnunet-rw: {path} is trusted: torch {torch.__version__} reads checkpoints only by running what they say, "
            "2.6 and later without. Go on with files of people you trust alone.",
            file=sys.stderr,
        )
        return torch.load(path, map_location="cpu", weights_only=False)
    named: list[Any] = [(value, name) for name, value in _NUMPY.items()]
    with torch.serialization.safe_globals([*named, *_NUMPY_DTYPES]):
        return torch.load(path, map_location="cpu", weights_only=True)


def read_case(data_folder: str | Path, case: str, advice: str) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """A case that nnU-Net preprocessed: image (C, X, Y, Z), labels (X, Y, Z) and its properties.

    Raises
    ------
    FileNotFoundError, DamagedFile
        One of its files is missing or damaged, as an interrupted preprocessing leaves them.
    """
    from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

    folder = str(data_folder)
    try:
        image, segmentation, _, properties = infer_dataset_class(folder)(folder, [case]).load_case(case)
        return image, np.asarray(segmentation[:])[0], dict(properties)
    except Exception as error:  # of Blosc2, NumPy and pickle
        _find_fault(Path(folder), case, advice)
        raise DamagedFile(f"Case '{case}' in {folder} cannot be read ({reason(error)}). {advice}") from error


def _find_fault(folder: Path, case: str, advice: str) -> None:
    """Open the files of a case one by one, until one fails."""
    import blosc2

    arrays = [folder / f"{case}.npz"]
    if not arrays[0].is_file():
        arrays = [folder / f"{case}.b2nd", folder / f"{case}_seg.b2nd"]
    for path in arrays:
        with told(path, advice):
            if path.suffix == ".npz":
                with np.load(path) as archive:
                    np.shape(archive["data"]), np.shape(archive["seg"])
            else:
                blosc2.open(urlpath=str(path), mode="r")[:]
    path = folder / f"{case}.pkl"
    with told(path, advice):
        dict(read_pickle(path, advice))


@lru_cache
def _adapter(schema: Any) -> TypeAdapter:
    return TypeAdapter(schema)
