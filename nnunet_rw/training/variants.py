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

from nnunet_rw.training.catalogue import searched_folders, trainers_folder
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

_PACKAGES = ("nnunet_rw", "nnunetv2")

# Names that are being looked for: modules that answer for made-up names are asked for them too, and must not.
_sought: set[str] = set()


def lengths(namespace: MutableMapping[str, Any], of_package: bool = False) -> Callable[[str], type[nnUNetTrainer]]:
    """The ``__getattr__`` of a module of trainers.

    A class that somebody wrote under the very name, anywhere where nnU-Net searches, is left to be found; and where one
    is written with a length in its name, its seeds are made of that one.

    Parameters
    ----------
    namespace : dict
        The module's ``globals()``. Its trainers get lengths and seeds, those that it imports from this package or from
        nnU-Net do not: a user's module answers for nothing but its own.
    of_package : bool
        The module is one of this package's. It answers for all trainers of the namespace and for nnU-Net's own, so that
        a baseline can be trained as long as its rivals, and explains a misspelt length or seed of the namespace's.

    Returns
    -------
    function
        From a name to the trainer class. It raises AttributeError for names that are none of this module's, and
        ValueError where a length or a seed was meant but not spelt so.
    """

    def own(name: str) -> type[nnUNetTrainer] | None:
        found = namespace.get(name)
        # Not a variant of a variant, of which the namespace holds those that were asked for.
        if not _is_trainer(found) or _SUFFIXED.fullmatch(name):
            return None
        imported = found.__module__.partition(".")[0] in _PACKAGES and found.__module__ != namespace.get("__name__")
        return found if of_package or not imported else None

    def find(name: str) -> type[nnUNetTrainer]:
        match, misspelt = _SUFFIXED.fullmatch(name), _MISSPELT.fullmatch(name) if of_package else None
        base = (own(match["base"]) or (_trainer_of_nnunet(match["base"]) if of_package else None)) if match else None
        explained = misspelt["base"] if misspelt and own(misspelt["base"]) else None
        if not (base or explained) or name in _sought or _written(name) is not None:
            raise AttributeError(name)
        if match and base:
            namespace[name] = _with_numbers(match, base)
            return namespace[name]
        raise ValueError(
            f"Unknown trainer {name!r}. A length is written {explained}_20epochs or {explained}_20epochs_50iterations, "
            f"a seed {explained}_seed1 or, after a length, {explained}_20epochs_seed1."
        )

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
        length = _SUFFIXED.fullmatch(base.__name__)
        Variant.run_seed, Variant.trainer_name = seed, length["base"] if length else base.__name__
    Variant.__name__ = Variant.__qualname__ = name
    Variant.__doc__ = base.__doc__
    return Variant


def _with_numbers(match: re.Match[str], base: type[nnUNetTrainer]) -> type[nnUNetTrainer]:
    """The variant of a name; of a class that somebody wrote with the first of its numbers, where there is one."""
    numbers = {key: int(match[key]) for key in ("epochs", "iterations", "seed") if match[key] is not None}
    stem, rest = match["base"], dict(numbers)
    for key in list(numbers)[:-1]:
        stem += f"_{rest.pop(key)}{key}"
        written = _written(stem)
        if _is_trainer(written):
            base, numbers = written, dict(rest)
    return variant(base, match[0], **numbers)


def _is_trainer(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nnUNetTrainer)


def _written(name: str) -> Any:
    """What nnU-Net finds under a name outside of this package's folder; made-up names are not among it.

    Modules of the user's are imported, as nnU-Net does whenever it looks into a folder.
    """
    found = in_nnunet(name)
    _sought.add(name)
    try:
        for folder in searched_folders():
            if found is None and folder.is_dir() and folder.resolve() != trainers_folder():
                found = recursive_find_python_class(
                    str(folder), name, None, base_folder=str(folder), cleanup_imports_from_base_folder=True
                )
    finally:
        _sought.discard(name)
    return found


def _trainer_of_nnunet(name: str) -> type[nnUNetTrainer] | None:
    found = None if _SUFFIXED.fullmatch(name) else in_nnunet(name)
    return found if _is_trainer(found) else None


@cache
def in_nnunet(name: str) -> Any:
    """What nnU-Net's own package has under a name; its search by name would come back to the module that asks here."""
    package = Path(nnunetv2.__path__[0])
    folder = str(package / "training" / "nnUNetTrainer")
    _sought.add(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what nnU-Net's trainers import
            return recursive_find_python_class(folder, name, "nnunetv2.training.nnUNetTrainer", str(package))
    finally:
        _sought.discard(name)
