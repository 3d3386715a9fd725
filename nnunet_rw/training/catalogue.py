"""The trainers of this package: where they are and what they do."""

from __future__ import annotations

import importlib.util
import io
import os
import pkgutil
import shlex
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_rw.losses import Term
    from nnunet_rw.training.trainer import MapTrainer

VARIABLE = "nnUNet_extTrainer"

# One file of trainers/ each, in the order of the table.
FAMILIES = ("rw_region_wise", "rw_inverse_volume", "rw_lesion_wise", "rw_hausdorff", "rw_overlap", "rw_cross_entropy")


# What to take beside nnU-Net's own, by what a dataset has: docs/evidence.md says why, `nnunet-rw audit` looks at one.
RECOMMENDED = {"RWTrainer_SmallLesions": "many small lesions"}


@dataclass(frozen=True)
class TrainerRow:
    """What the table of trainers says of one."""

    name: str
    loss: str
    maps: str
    paper: str
    summary: str


def trainers_folder() -> Path:
    """The folder to put into ``nnUNet_extTrainer``: installed, or of the checkout."""
    found = importlib.util.find_spec("nnunet_rw.trainers")
    if found and found.submodule_search_locations:
        return Path(next(iter(found.submodule_search_locations))).resolve()
    return Path(__file__).resolve().parents[2] / "trainers"


def searched_folders() -> list[Path]:
    """The folders that ``nnUNet_extTrainer`` names, in nnU-Net's order."""
    return [Path(path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def find_trainer(name: str) -> type[nnUNetTrainer] | None:
    """The trainer that nnU-Net finds by a name, in its own package and then in `searched_folders`; None without one.

    Raises
    ------
    ValueError
        A length or a seed is meant but not spelt so.
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    try:
        # It prints every folder that it searches.
        with redirect_stdout(io.StringIO()):
            return recursive_find_trainer_class_by_name(name)
    except (RuntimeError, AssertionError):
        return None


def search_path(*further: Path, before: Sequence[Path] = ()) -> str:
    """A value of ``nnUNet_extTrainer``: folders before its own, these, further ones, then that of this package.

    nnU-Net takes the first trainer of a name, so the user's own win.
    """
    ours = trainers_folder()
    others = (str(folder) for folder in (*before, *searched_folders(), *further) if folder.resolve() != ours.resolve())
    return os.pathsep.join(dict.fromkeys((*others, str(ours))))


def export_line(*further: Path) -> str:
    """A line for the shell that adds the trainers, and further folders, to what nnU-Net searches."""
    return f"export {VARIABLE}={shlex.quote(search_path(*further))}"


def trainer_classes() -> dict[str, type[MapTrainer]]:
    """All trainers of this package by name, family after family."""
    from nnunet_rw.training.trainer import MapTrainer

    found: dict[str, type[MapTrainer]] = {}
    package = import_module("nnunet_rw.trainers")
    modules = [module.name for module in pkgutil.iter_modules(package.__path__)]
    for module in sorted(modules, key=lambda name: (FAMILIES.index(name) if name in FAMILIES else len(FAMILIES), name)):
        path = f"nnunet_rw.trainers.{module}"
        for name, value in vars(import_module(path)).items():
            # Neither what a module imports nor the variants of other length that it has been asked for.
            if isinstance(value, type) and issubclass(value, MapTrainer) and value.__module__ == path:
                found[name] = value
    return found


def trainer_rows() -> list[TrainerRow]:
    """One row per trainer, in the order of the families."""
    return [
        TrainerRow(
            name=name,
            loss="; ".join([loss_text(trainer.loss_terms), *_besides(trainer)]),
            maps=", ".join(trainer.needed_kinds()) or "none",
            paper=trainer.paper,
            summary=(trainer.__doc__ or "").strip().splitlines()[0],
        )
        for name, trainer in trainer_classes().items()
    ]


def _besides(trainer: type[MapTrainer]) -> list[str]:
    """What a trainer does otherwise than nnU-Net, its loss aside."""
    from nnunet_rw.training.trainer import OPTIMIZERS, MapTrainer

    told = ["lesions drawn alike"] if trainer.oversample_by == "lesion" else []
    if trainer.cases_by == "lesion":
        told.append("cases drawn by their lesions")
    if trainer.optimizer_name not in (None, "sgd") or trainer.initial_lr is not None:
        # What is left open is nnU-Net's.
        optimizer = OPTIMIZERS[trainer.optimizer_name or "sgd"].__name__
        told.append(f"{optimizer} {_power(1e-2 if trainer.initial_lr is None else trainer.initial_lr)}")
        if trainer.adam_betas != MapTrainer.adam_betas and optimizer != "SGD":
            told[-1] += ", betas {:g} and {:g}".format(*trainer.adam_betas)
    if trainer.weight_decay is not None:
        told.append(f"weight decay {_power(trainer.weight_decay)}")
    return told


def _power(value: float) -> str:
    """As in "3e-5"."""
    digits, exponent = f"{value:e}".split("e")
    return f"{float(digits):g}e{int(exponent)}" if value else "0"


def loss_text(terms: Sequence[Term]) -> str:
    """The loss as the table of trainers has it: ``nnunet + 0.5 * IW-dice(power=0.5)``."""
    return " + ".join(_describe(term) for term in terms)


def _describe(term) -> str:  # type: ignore[no-untyped-def]
    weight = "" if term.weight == 1 else f"{term.weight if isinstance(term.weight, str) else f'{term.weight:g}'} * "
    options = {key: value for key, value in term.options.items() if key != "reweight"}
    listed = [f"{key}={value}" for key, value in options.items()]
    prefix = "IW-" if "reweight" in term.options else ""
    return f"{weight}{prefix}{term.loss}" + (f"({', '.join(listed)})" if listed else "")
