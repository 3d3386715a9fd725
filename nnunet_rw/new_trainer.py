"""A trainer of the user's own: ten lines of Python in a folder that nnU-Net searches."""

from __future__ import annotations

import json
import keyword
import math
import os
import re
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nnunetv2
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from nnunet_rw.catalogue import loss_text, searched_folders, trainers_folder
from nnunet_rw.dataloading import OVERSAMPLE_BY
from nnunet_rw.files import write_atomically
from nnunet_rw.losses import Term
from nnunet_rw.term_text import parse_term
from nnunet_rw.trainer import MAP_SOURCES, OPTIMIZERS, RWTrainer
from nnunet_rw.variants import has_length

__all__ = ["parse_term", "trainer_source", "write_trainer"]

_LINE_LENGTH = 120
_SOURCE = '''\
"""A trainer for nnU-Net. Its name is the name of its results folder: do not change it after a training."""

from nnunet_rw.losses import Term
from nnunet_rw.trainer import RWTrainer
from nnunet_rw.variants import lengths


class {name}(RWTrainer):
    {docstring}

{attributes}


# nnU-Net finds {name}_20epochs and the like as well.
__getattr__ = lengths(globals())
'''


def trainer_source(
    name: str,
    terms: Sequence[Term],
    map_source: str = RWTrainer.map_source,
    oversample_by: str = RWTrainer.oversample_by,
    optimizer_name: str = RWTrainer.optimizer_name,
    initial_lr: float = RWTrainer.initial_lr,
) -> str:
    """The module that defines a trainer, formatted as ruff does at 120 characters.

    Parameters
    ----------
    name : str
        Of the class.
    terms : sequence of Term
    map_source, oversample_by, optimizer_name, initial_lr
        As of `RWTrainer`; its defaults are not repeated.
    """
    attributes = [f"    loss_terms = {_tuple_source(terms)}"]
    if map_source != RWTrainer.map_source:
        attributes.append(f'    map_source = "{map_source}"')
    if oversample_by != RWTrainer.oversample_by:
        attributes.append(f'    oversample_by = "{oversample_by}"')
    if optimizer_name != RWTrainer.optimizer_name:
        attributes.append(f'    optimizer_name = "{optimizer_name}"')
    if initial_lr != RWTrainer.initial_lr:
        attributes.append(f"    initial_lr = {initial_lr!r}")
    docstring = textwrap.wrap(f'"""Loss: {loss_text(terms)}."""', _LINE_LENGTH - 4, break_long_words=False)
    return _SOURCE.format(name=name, docstring="\n    ".join(docstring), attributes="\n".join(attributes))


def write_trainer(
    name: str,
    terms: Sequence[Term],
    folder: str | Path,
    map_source: str = RWTrainer.map_source,
    oversample_by: str = RWTrainer.oversample_by,
    overwrite: bool = False,
    optimizer_name: str = RWTrainer.optimizer_name,
    initial_lr: float = RWTrainer.initial_lr,
) -> Path:
    """Write a trainer's module; the folder is made where there is none.

    Parameters
    ----------
    name : str
        Of the class. It becomes the name of the results folder.
    terms : sequence of Term
        From `parse_term`, or made otherwise.
    folder : path
        Best of trainers alone: nnU-Net imports every module of it.
    map_source, oversample_by, optimizer_name, initial_lr
        As of `RWTrainer`.
    overwrite : bool
        Replace a file that is there.

    Returns
    -------
    Path
        Absolute; ``rw_<name in lower case>.py``, for nnU-Net imports modules by their bare name and a generic one may
        be another package's.

    Raises
    ------
    ValueError
        The name, the folder or a setting cannot be used, or the file is there.
    """
    if map_source not in MAP_SOURCES:
        raise ValueError(f"Expected map_source to be one of {MAP_SOURCES}, but got {map_source!r}.")
    if oversample_by not in OVERSAMPLE_BY:
        raise ValueError(f"Expected oversample_by to be one of {OVERSAMPLE_BY}, but got {oversample_by!r}.")
    if optimizer_name not in OPTIMIZERS:
        raise ValueError(f"Expected optimizer_name to be one of {tuple(OPTIMIZERS)}, but got {optimizer_name!r}.")
    if not (math.isfinite(initial_lr) and initial_lr > 0):
        raise ValueError(f"Expected a learning rate above 0, but got {initial_lr!r}.")
    folder = Path(folder).resolve()
    if os.pathsep in str(folder):
        raise ValueError(f"Expected a folder without {os.pathsep!r} in its path, but got {folder}.")
    path = folder / f"rw_{name.lower()}.py"
    _check_name(name, path)
    if os.path.lexists(path) and not overwrite:
        raise ValueError(f"{path} is there already. Choose another name, or give --overwrite to replace it.")
    source = trainer_source(name, terms, map_source, oversample_by, optimizer_name, initial_lr)
    write_atomically(path, source.encode())
    return path


def _check_name(name: str, path: Path) -> None:
    # nnU-Net parts the names of its results folders at double underscores.
    if not (name.isidentifier() and name.isascii()) or keyword.iskeyword(name) or "__" in name:
        raise ValueError(
            f"Expected a name like RWTrainer_Mine, of letters, digits and single underscores, but got {name!r}."
        )
    if has_length(name):
        raise ValueError(
            f"Expected a name without length or seed, but got {name!r}. Write RWTrainer_Mine, train "
            "RWTrainer_Mine_20epochs."
        )
    where = _found_elsewhere(name, path)
    if where:
        raise ValueError(f"nnU-Net finds another {name} in {where}. Choose another name.")


def _found_elsewhere(name: str, path: Path) -> str | None:
    """Where nnU-Net may find the name before, or instead of, the module at this path."""
    # Its search takes whatever a module holds under the name, imported helpers too.
    package = Path(nnunetv2.__path__[0])
    stock, ours = str(package / "training" / "nnUNetTrainer"), str(trainers_folder())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what nnU-Net's trainers import
        if recursive_find_python_class(stock, name, "nnunetv2.training.nnUNetTrainer", str(package)) is not None:
            return stock
        if recursive_find_python_class(ours, name, None, cleanup_imports_from_base_folder=True) is not None:
            return ours
    # Modules of the user's are read, not run.
    defined = re.compile(rf"^class {name}\b", re.MULTILINE)
    for folder in dict.fromkeys((*(folder.resolve() for folder in searched_folders()), path.parent)):
        for module in sorted(folder.glob("*.py")):
            if module != path and defined.search(module.read_text(encoding="utf-8", errors="replace")):
                return str(module)
    return None


def _tuple_source(terms: Sequence[Term]) -> str:
    """The tuple of a class's attribute: one term in its line if it fits there, else a line for each."""
    if len(terms) == 1:
        line = f"({_term_source(terms[0])},)"
        if len(f"    loss_terms = {line}") <= _LINE_LENGTH:
            return line
    return "\n".join(["(", *(f"{_fitting(term)}," for term in terms), "    )"])


def _fitting(term: Term) -> str:
    line = f"        {_term_source(term)}"
    if len(line) < _LINE_LENGTH:
        return line
    arguments = "".join(f"            {argument},\n" for argument in _arguments(term, "\n" + " " * 16))
    return f"        Term(\n{arguments}        )"


def _term_source(term: Term) -> str:
    return f"Term({', '.join(_arguments(term))})"


def _arguments(term: Term, indent: str = "") -> list[str]:
    """The arguments of `Term`; options each in a line of its own where an indent is given."""
    arguments = [_literal(term.loss)]
    if term.weight != 1:
        arguments.append(f"weight={_literal(term.weight)}")
    if term.options:
        items = [f"{_literal(key)}: {_literal(value)}" for key, value in term.options.items()]
        listed = "".join(f"{indent}{item}," for item in items) + indent[:-4] if indent else ", ".join(items)
        arguments.append(f"options={{{listed}}}")
    return arguments


def _literal(value: Any) -> str:
    # Double quotes for strings, as ruff has them.
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
