"""The classes behind a benchmark's trainer names."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from tempfile import TemporaryDirectory

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_rw.benchmark.jobs import Job, full_trainer_name, plans_name
from nnunet_rw.benchmark.specification import Specification
from nnunet_rw.datasets.folders import dataset_folder
from nnunet_rw.maps.kinds import KINDS
from nnunet_rw.training.catalogue import VARIABLE, find_trainer
from nnunet_rw.training.recorded_run import loss_formula, optimizer_text
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import environment


def find_trainers(specification: Specification) -> dict[str, type[nnUNetTrainer]]:
    """The class of every trainer, with the length of this benchmark, by its name without.

    Raises
    ------
    ValueError
        nnU-Net finds none of that name, or it takes no length and seed.
    """
    return {name: _find(name, full_trainer_name(specification, name, 0)) for name in specification.trainers}


def needed_maps(specification: Specification) -> list[str]:
    """The kinds of map that the trainers read from disk."""
    trainers = [trainer for trainer in find_trainers(specification).values() if issubclass(trainer, MapTrainer)]
    kinds = {kind for trainer in trainers for kind in trainer.kinds_on_disk()}
    return [kind for kind in KINDS if kind in kinds]


def present_loss_and_optimizer(specification: Specification, job: Job) -> tuple[str, str]:
    """What a training would record of its loss and its optimiser if it began now; it writes nothing."""
    trainer = _find(job.trainer, full_trainer_name(specification, job.trainer, job.seed))
    folder = dataset_folder(job.task.dataset)
    plans = {**load_json(str(folder / f"{plans_name(specification)}.json")), "continue_training": False}
    settings = (plans, specification.configuration, job.fold, load_json(str(folder / "dataset.json")))
    # A trainer makes its folder of results, and prints.
    with TemporaryDirectory() as results, environment(nnUNet_results=results), redirect_stdout(io.StringIO()):
        begun = trainer(*settings, torch.device("cpu"))
        begun.initialize()
    return loss_formula(begun.loss), optimizer_text(begun.optimizer, begun.lr_scheduler)


def _find(name: str, full_name: str) -> type[nnUNetTrainer]:
    found = find_trainer(full_name)
    if found is None:
        listing, writing = command("trainers"), command("new-trainer", name="NAME", loss="TERM")
        raise ValueError(
            f"nnU-Net finds no trainer {name!r} that takes a length and seed. `{listing}` lists those of this package, "
            f"`{writing}` writes one; folders of your own belong into {VARIABLE}."
        )
    return found
