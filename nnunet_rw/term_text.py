"""Terms of a loss in a short form, for the command line: "dice:0.5:reweight=inverse_volume"."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from nnunet_rw.losses import LOSSES, Term, build, option_defaults, option_names
from nnunet_rw.losses.base import SegmentationLoss
from nnunet_rw.losses.schedules import weight_at
from nnunet_rw.losses.weighting import ReweightedLoss
from nnunet_rw.trainer import STOCK_TERM

# What `RWTrainer` tells the losses, of the dataset and of the processes.
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
        That `RWTrainer` can build.

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
