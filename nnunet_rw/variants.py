"""Trainers of any length without a class each: ``RWTrainer_20epochs``, ``nnUNetTrainer_20epochs_50iterations``.

nnU-Net finds a trainer by asking every module of its folders ``hasattr(module, name)``. A module-level
``__getattr__`` answers for names that carry a length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

_LENGTH = re.compile(r"(?P<base>\w+?)_(?P<epochs>[1-9]\d*)epochs(_(?P<iterations>[1-9]\d*)iterations)?")
# With a number: a trainer of another module may well be named after a criterion.
_MISSPELT = re.compile(r"(?P<base>\w+?)_(\d+_?(epoch|iter|its)|(epoch|iter|iteration)s?_?\d)\w*", re.IGNORECASE)


def lengths(namespace: MutableMapping[str, Any]) -> Callable[[str], type[nnUNetTrainer]]:
    """The ``__getattr__`` of a module of trainers.

    Parameters
    ----------
    namespace : dict
        The module's ``globals()``. nnU-Net's own ``nnUNetTrainer`` is known besides, so that a baseline can be
        trained as long as its rivals.

    Returns
    -------
    function
        From a name to the trainer class. It raises AttributeError for names that are none of this module's, and
        ValueError where a length was meant but not spelt so.
    """

    def find(name: str) -> type[nnUNetTrainer]:
        match = _LENGTH.fullmatch(name)
        base = _trainer(namespace, match["base"]) if match else None
        if match and base:
            iterations = int(match["iterations"]) if match["iterations"] else None
            namespace[name] = variant(base, name, int(match["epochs"]), iterations)
            return namespace[name]
        misspelt = _MISSPELT.fullmatch(name)
        if misspelt and _trainer(namespace, misspelt["base"]):
            raise ValueError(
                f"Unknown trainer {name!r}. A length is written {misspelt['base']}_20epochs or "
                f"{misspelt['base']}_20epochs_50iterations."
            )
        raise AttributeError(name)

    return find


def has_length(name: str) -> bool:
    """Whether a name looks like another trainer's with a length, spelt rightly or not."""
    return bool(_LENGTH.fullmatch(name) or _MISSPELT.fullmatch(name))


def variant(base: type[nnUNetTrainer], name: str, epochs: int, iterations: int | None = None) -> type[nnUNetTrainer]:
    """The trainer with another length.

    Parameters
    ----------
    base : nnUNetTrainer subclass
    name : str
        Of the new class, and so of its results folder.
    epochs : int
    iterations : int, optional
        Training iterations of an epoch; validation iterations keep nnU-Net's ratio of one to five.
    """

    class Variant(base):  # type: ignore[misc, valid-type]
        # nnU-Net reads the names of this signature.
        def __init__(
            self,
            plans: dict,
            configuration: str,
            fold: int,
            dataset_json: dict,
            device: torch.device = torch.device("cuda"),  # noqa: B008
        ):
            super().__init__(plans, configuration, fold, dataset_json, device)
            self.num_epochs = epochs
            if iterations is not None:
                self.num_iterations_per_epoch = iterations
                self.num_val_iterations_per_epoch = max(1, iterations // 5)

    Variant.__name__ = Variant.__qualname__ = name
    Variant.__doc__ = base.__doc__
    return Variant


def _trainer(namespace: MutableMapping[str, Any], name: str) -> type[nnUNetTrainer] | None:
    if name == nnUNetTrainer.__name__:
        return nnUNetTrainer
    found = namespace.get(name)
    return found if isinstance(found, type) and issubclass(found, nnUNetTrainer) else None
