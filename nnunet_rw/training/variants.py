"""Trainers of any length and seed without a class each: ``RWTrainer_20epochs``, ``nnUNetTrainer_20epochs_seed1``.

nnU-Net finds a trainer by asking every module of its folders ``hasattr(module, name)``. A module-level
``__getattr__`` answers for names that carry a length or a seed.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

import nnunetv2
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

from nnunet_rw.training.recorded_run import RecordedRun

_SUFFIXED = re.compile(
    r"(?P<base>\w+?)(?=_\d+epochs|_seed\d)"
    r"(_(?P<epochs>[1-9]\d*)epochs(_(?P<iterations>[1-9]\d*)iterations)?)?"
    r"(_seed(?P<seed>0|[1-9]\d*))?"
)
# With a number: a trainer of another module may well be named after a criterion.
_MISSPELT = re.compile(
    r"(?P<base>\w+?)_(\d+_?(epoch|iter|its|seed)|((epoch|iter|iteration|seed)s?|its)[_-]?\d)[\w-]*", re.IGNORECASE
)


def lengths(namespace: MutableMapping[str, Any]) -> Callable[[str], type[nnUNetTrainer]]:
    """The ``__getattr__`` of a module of trainers.

    Parameters
    ----------
    namespace : dict
        The module's ``globals()``. All of nnU-Net's own trainers are known besides, so that a baseline can be trained
        as long as its rivals.

    Returns
    -------
    function
        From a name to the trainer class. It raises AttributeError for names that are none of this module's, and
        ValueError where a length or a seed was meant but not spelt so.
    """

    def find(name: str) -> type[nnUNetTrainer]:
        match = _SUFFIXED.fullmatch(name)
        base = _trainer(namespace, match["base"]) if match else None
        if match and base:
            numbers = {key: int(match[key]) for key in ("epochs", "iterations", "seed") if match[key] is not None}
            namespace[name] = variant(base, name, **numbers)
            return namespace[name]
        misspelt = _MISSPELT.fullmatch(name)
        if misspelt and _trainer(namespace, misspelt["base"]):
            base_name = misspelt["base"]
            raise ValueError(
                f"Unknown trainer {name!r}. A length is written {base_name}_20epochs or "
                f"{base_name}_20epochs_50iterations, a seed {base_name}_seed1 or, after a length, "
                f"{base_name}_20epochs_seed1."
            )
        raise AttributeError(name)

    return find


def has_length(name: str) -> bool:
    """Whether a name looks like another trainer's with a length or a seed, spelt rightly or not."""
    return bool(_SUFFIXED.fullmatch(name) or _MISSPELT.fullmatch(name))


def variant(
    base: type[nnUNetTrainer],
    name: str,
    epochs: int | None = None,
    iterations: int | None = None,
    seed: int | None = None,
) -> type[nnUNetTrainer]:
    """The trainer with another length or a seed.

    Parameters
    ----------
    base : nnUNetTrainer subclass
    name : str
        Of the new class, and so of its results folder.
    epochs : int, optional
        Default: the base's.
    iterations : int, optional
        Training iterations of an epoch; validation iterations keep nnU-Net's ratio of one to five.
    seed : int, optional
        At least 0. The training is seeded and recorded, see `nnunet_rw.training.recorded_run.RecordedRun`.
    """
    bases = (base,) if seed is None else (RecordedRun, base)

    class Variant(*bases):  # type: ignore[misc]
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
            if epochs is not None:
                self.num_epochs = epochs
            if iterations is not None:
                self.num_iterations_per_epoch = iterations
                self.num_val_iterations_per_epoch = max(1, iterations // 5)

    if seed is not None:
        Variant.run_seed, Variant.trainer_name = seed, base.__name__
    Variant.__name__ = Variant.__qualname__ = name
    Variant.__doc__ = base.__doc__
    return Variant


def _trainer(namespace: MutableMapping[str, Any], name: str) -> type[nnUNetTrainer] | None:
    # Not a variant of a variant, of which the namespace holds those that were asked for.
    found = None if _SUFFIXED.fullmatch(name) else namespace.get(name) or _trainer_of_nnunet(name)
    return found if isinstance(found, type) and issubclass(found, nnUNetTrainer) else None


@cache
def _trainer_of_nnunet(name: str) -> Any:
    # In nnU-Net's own package alone: its search by name would come back to the module that asks here.
    package = Path(nnunetv2.__path__[0])
    folder = str(package / "training" / "nnUNetTrainer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what nnU-Net's trainers import
        return recursive_find_python_class(folder, name, "nnunetv2.training.nnUNetTrainer", str(package))
