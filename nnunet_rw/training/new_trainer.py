"""A trainer of the user's own: ten lines of Python in a folder that nnU-Net searches."""

from __future__ import annotations

import ast
import json
import keyword
import math
import os
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nnunetv2
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from nnunet_rw.losses import LOSSES, STOCK_TERM, Term, build, option_defaults, option_names
from nnunet_rw.losses.base import ReweightedLoss, SegmentationLoss
from nnunet_rw.losses.compound import weight_at
from nnunet_rw.training.catalogue import loss_text, searched_folders, trainers_folder
from nnunet_rw.training.trainer import CHOICES, MapTrainer, check_adam_betas, check_choice
from nnunet_rw.training.variants import has_length, in_nnunet
from nnunet_rw.util.files import write_atomically

# What `MapTrainer` tells the losses, of the dataset and of the processes.
_OF_NNUNET = ("regions", "ignore_label", "ddp")
_COMMA = re.compile(r",(?![^(\[]*[)\]])")  # outside of brackets
_OF_WEIGHTS = option_names(ReweightedLoss) - option_names(SegmentationLoss) - {"reweight"}


def parse_term(text: str) -> Term:
    """A term of a loss from its short form.

    Parameters
    ----------
    text : str
        ``LOSS[:WEIGHT[:NAME=VALUE,...]]``: "nnunet", "rrw:0.5", "boundary:rebalance_boundary",
        "dice:1:reweight=inverse_volume,scope=case". Without a weight, 1. Values are Python's literals; what is none,
        is a string.

    Returns
    -------
    Term
        That `MapTrainer` can build.

    Raises
    ------
    ValueError
        Unknown loss, schedule or option, or a value that the loss cannot use.
    """
    loss, weight, options = (*text.split(":", 2), "", "")[:3]
    term = Term(loss.strip(), _parse_weight(weight.strip()), _parse_options(options))
    weight_at(term.weight, 0, 1)
    if term.loss == STOCK_TERM:
        if term.options:
            raise ValueError(
                f"Expected no options of {STOCK_TERM!r}, nnU-Net's own loss, but got {', '.join(term.options)}."
            )
        return term
    if term.loss == "compound":
        raise ValueError("Expected the terms of a compound one by one, but got 'compound'.")
    if term.loss in LOSSES:
        _check_options(term.loss, term.options)
    try:
        build(term.loss, **term.options)
    except TypeError as error:
        raise ValueError(f"Expected other values for loss {term.loss!r} than {term.options}: {error}.") from error
    return term


def _parse_weight(text: str) -> float | str:
    """A number, or else what may be the name of a schedule."""
    try:
        weight = float(text or 1)
    except ValueError:
        return text
    if not (math.isfinite(weight) and weight >= 0):
        raise ValueError(f"Expected a weight of at least 0 or the name of a schedule, but got {text}.")
    return weight


def _parse_options(text: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for part in filter(None, map(str.strip, _COMMA.split(text))):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not (name and equals and value):
            raise ValueError(f"Expected options as NAME=VALUE,NAME=VALUE, but got {text!r}.")
        if name in options:
            raise ValueError(f"Expected every option once, but got {name} twice in {text!r}.")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError):
            options[name] = value
    return options


def _check_options(loss: str, options: Mapping[str, Any]) -> None:
    """Refuse what the loss would take without a word and then not use, or fail on in the midst of a training."""
    given = [name for name in options if name in _OF_NNUNET]
    if given:
        raise ValueError(f"Expected loss {loss!r} without {', '.join(given)}: nnU-Net sets that.")
    defaults = option_defaults(LOSSES[loss])
    for name, value in options.items():
        for kind, (expected, fits) in _VALUES.items():
            if type(defaults.get(name)) is kind and not fits(value):
                raise ValueError(f"Expected {name} of loss {loss!r} to be {expected}, but got {value!r}.")
    idle = [name for name in options if name in _OF_WEIGHTS]
    if idle and issubclass(LOSSES[loss], ReweightedLoss) and not options.get("reweight"):
        raise ValueError(f"Expected reweight=inverse_volume of loss {loss!r} beside {', '.join(idle)}.")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


# By the type of an option's default: what its values are called, and whether one is such a value.
_VALUES: dict[type, tuple[str, Callable[[Any], bool]]] = {
    bool: ("True or False", lambda value: type(value) is bool),
    int: ("a whole number", lambda value: type(value) is int),
    float: ("a number", _is_number),
    tuple: ("numbers in brackets", lambda value: type(value) in (tuple, list) and all(map(_is_number, value))),
}


_LINE_LENGTH = 120
_SOURCE = '''\
"""A trainer for nnU-Net. Its name is the name of its results folder: do not change it after a training."""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths


class {name}(MapTrainer):
    {docstring}

{attributes}


# nnU-Net finds {name}_20epochs and the like as well.
__getattr__ = lengths(globals())
'''


def trainer_source(name: str, terms: Sequence[Term], **settings: Any) -> str:
    """The module that defines a trainer, formatted as ruff does at 120 characters.

    Parameters
    ----------
    name : str
        Of the class.
    terms : sequence of Term
    **settings
        As of `MapTrainer`; its defaults are not repeated.
    """
    attributes = [f"    loss_terms = {_tuple_source(terms)}"]
    for setting, value in settings.items():
        if value != getattr(MapTrainer, setting):
            attributes.append(f"    {setting} = {_literal(value)}")
    docstring = textwrap.wrap(f'"""Loss: {loss_text(terms)}."""', _LINE_LENGTH - 4, break_long_words=False)
    return _SOURCE.format(name=name, docstring="\n    ".join(docstring), attributes="\n".join(attributes))


def write_trainer(
    name: str, terms: Sequence[Term], folder: str | Path, overwrite: bool = False, **settings: Any
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
    overwrite : bool
        Replace a file that is there.
    **settings
        As of `MapTrainer`.

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
    for setting, value in settings.items():
        if setting in CHOICES and value is not None:
            check_choice(setting, value)
    initial_lr, weight_decay = settings.get("initial_lr"), settings.get("weight_decay")
    if initial_lr is not None and not (math.isfinite(initial_lr) and initial_lr > 0):
        raise ValueError(f"Expected a learning rate above 0, but got {initial_lr!r}.")
    if weight_decay is not None and not (math.isfinite(weight_decay) and weight_decay >= 0):
        raise ValueError(f"Expected a weight decay of at least 0, but got {weight_decay!r}.")
    check_adam_betas(settings.get("adam_betas", MapTrainer.adam_betas), settings.get("optimizer_name"))
    folder = Path(folder).resolve()
    if os.pathsep in str(folder):
        raise ValueError(f"Expected a folder without {os.pathsep!r} in its path, but got {folder}.")
    path = folder / f"rw_{name.lower()}.py"
    _check_name(name, path)
    if os.path.lexists(path) and not overwrite:
        raise ValueError(f"{path} is there already. Choose another name, or give --overwrite to replace it.")
    write_atomically(path, trainer_source(name, terms, **settings).encode())
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
    if in_nnunet(name) is not None:
        return str(Path(nnunetv2.__path__[0]) / "training" / "nnUNetTrainer")
    ours = str(trainers_folder())
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
