"""Pickles and checkpoints read without running what they say: a crafted one can name any function to be called.

Allowed is what nnU-Net writes: numbers, text, containers, NumPy's arrays and scalars, and tensors in checkpoints.
"""

from __future__ import annotations

import errno
import io
import pickle
import re
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rw.util.readers import DamagedFile

# NumPy 2 renamed numpy.core; files of either name are read by either version.
_NUMPY_CORES = ("numpy.core", "numpy._core")
_SCALAR = np.float64(0).__reduce__()[0]
_RECONSTRUCT = np.zeros(1).__reduce__()[0]
_FROM_BUFFER = np.zeros(1).__reduce_ex__(5)[0]
_NUMPY = {
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **{f"{core}.multiarray.scalar": _SCALAR for core in _NUMPY_CORES},
    **{f"{core}.multiarray._reconstruct": _RECONSTRUCT for core in _NUMPY_CORES},
    **{f"{core}.numeric._frombuffer": _FROM_BUFFER for core in _NUMPY_CORES},
}
_ALLOWED = {**_NUMPY, "collections.OrderedDict": OrderedDict, "builtins.complex": complex}
# Torch asks for the class of every type of number.
_NUMPY_DTYPES = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDSU"]


class ForbiddenGlobal(DamagedFile):
    """A file names a function or class that reading it would call, and that nnU-Net does not write."""


def read_pickle(path: str | Path, advice: str = "Copy or write it again.") -> Any:
    """What a pickle holds, if that is of numbers, text, containers and NumPy arrays alone.

    Parameters
    ----------
    path : path
    advice : str
        What to do about a damaged file; ends the message.

    Raises
    ------
    ForbiddenGlobal
        The file names anything else. Nothing of it has been run.
    DamagedFile
        The file is damaged or no pickle.
    OSError
        It cannot be read.
    """
    content = Path(path).read_bytes()
    try:
        return _Unpickler(io.BytesIO(content)).load()
    except _Refused as error:
        raise ForbiddenGlobal(_refusal(path, str(error))) from None
    except Exception as error:  # damaged bytes make a pickle raise anything
        raise DamagedFile(_damage(path, error, advice)) from error


def read_checkpoint(path: str | Path, advice: str = "Give another checkpoint or train again.") -> Any:
    """What a checkpoint of nnU-Net's holds, its tensors on the CPU.

    Torch before 2.6 cannot be told that NumPy's scalars, which checkpoints hold, are harmless: there the file is
    trusted, and standard error says so.

    Parameters
    ----------
    path : path
    advice : str
        What to do about a damaged file; ends the message.

    Raises
    ------
    ForbiddenGlobal
        The file names a function or class other than those of tensors and numbers. Nothing of it has been run.
    DamagedFile
        The file is damaged or none of torch's.
    OSError
        It cannot be read.
    """
    try:
        return _load(Path(path))
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make torch raise anything
        # Where the end is missing, torch seeks in front of the beginning.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        named = re.search(r"GLOBAL ([\w.]*\w)", str(error))
        if isinstance(error, pickle.UnpicklingError) and named:
            raise ForbiddenGlobal(_refusal(path, named[1])) from None
        raise DamagedFile(_damage(path, error, advice)) from error


class _Refused(Exception):
    """A pickle names something that is not allowed."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return _ALLOWED[f"{module}.{name}"]


def _load(path: Path) -> Any:
    import torch  # takes seconds, for which nobody should wait who reads a pickle

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


def _refusal(path: str | Path, name: str) -> str:
    return (
        f"{path} names {name}, which reading it would call: it may be crafted. Expected what nnU-Net writes, numbers, "
        "text and arrays alone. Write the file again with nnU-Net."
    )


def _damage(path: str | Path, error: Exception, advice: str) -> str:
    lines = str(error).splitlines()
    return f"{path} is damaged ({lines[0] if lines else type(error).__name__}). {advice}"
