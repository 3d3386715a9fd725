"""The jobs that train and validate one fold, and that evaluate a trainer on all folds; and the trainers' classes."""

from __future__ import annotations

import io
import os
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.run.run_training import run_training
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_rw.benchmark.jobs import Job, Workspace, full_trainer_name, plans_name
from nnunet_rw.benchmark.specification import Specification
from nnunet_rw.datasets.folders import dataset_folder
from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.evaluate import evaluate, is_current, write_evaluated
from nnunet_rw.evaluation.sources import Source, cross_validation_source, raw_images
from nnunet_rw.maps.kinds import KINDS
from nnunet_rw.pictures.gallery import write_gallery
from nnunet_rw.training.catalogue import VARIABLE, find_trainer
from nnunet_rw.training.recorded_run import VALIDATION_TTA, loss_formula, optimizer_text
from nnunet_rw.training.records import content_hash, other_than_recorded, read_run_record
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import environment, nnunet_folder
from nnunet_rw.util.readers import DamagedFile, ForbiddenGlobal, read_checkpoint, read_splits, told

_LOADING_PROCESSES = "nnUNet_n_proc_DA"
# In the order in which nnU-Net's --c looks for them.
_CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


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


def train(specification: Specification, job: Job, threads: int) -> None:
    """Do what is not done yet of a training: go on from its checkpoint, or only validate.

    Parameters
    ----------
    specification : Specification
    job : Job
    threads : int
        Of torch, on a CPU.
    """
    fold = fold_folder(specification, job)
    if is_trained(specification, job):
        check_same_conditions(specification, job)
        print(f"{fold} is complete")
        return
    checkpoint = usable_checkpoint(fold)
    finished = checkpoint == _CHECKPOINTS[0]
    if finished:
        check_same_conditions(specification, job)
    if specification.device == "cpu":
        # One process loads and trains: on few cores more only wait for each other.
        os.environ[_LOADING_PROCESSES] = "0"
    os.environ[VALIDATION_TTA] = "1" if specification.evaluation.tta else "0"
    torch.set_num_threads(threads if specification.device == "cpu" else 1)
    print(_command(specification, job, checkpoint))
    run_training(
        job.task.dataset,
        specification.configuration,
        job.fold,
        full_trainer_name(specification, job.trainer, job.seed),
        plans_name(specification),
        num_gpus=specification.num_gpus,
        export_validation_probabilities=specification.evaluation.froc,
        continue_training=checkpoint is not None and not finished,
        only_run_validation=finished,
        device=torch.device(specification.device),
    )


def fold_folder(specification: Specification, job: Job) -> Path:
    """nnU-Net's results folder of a training."""
    trainer = full_trainer_name(specification, job.trainer, job.seed)
    model = f"{trainer}__{plans_name(specification)}__{specification.configuration}"
    return nnunet_folder("nnUNet_results") / job.task.dataset / model / f"fold_{job.fold}"


def is_trained(specification: Specification, job: Job) -> bool:
    """Whether nnU-Net has trained and validated, mirroring and with probabilities if that is wanted."""
    fold = fold_folder(specification, job)
    # Written last by nnU-Net.
    if not (fold / "checkpoint_final.pth").is_file() or not (fold / "validation" / "summary.json").is_file():
        return False
    try:
        record = read_run_record(fold)
    except DamagedFile:
        return False  # its job says so, and the others go on
    # Older records do not say so, but all mirrored.
    if record is not None and (record.validation_tta is not False) != specification.evaluation.tta:
        return False
    if not specification.evaluation.froc:
        return True
    return all((fold / "validation" / f"{case}.npz").is_file() for case in _validation_cases(job))


def check_same_conditions(specification: Specification, job: Job) -> None:
    """Refuse to use a training of other splits, plans, loss or optimiser than those that there are now.

    Raises
    ------
    ValueError
        It did; the message names the folder to remove.
    """
    fold = fold_folder(specification, job)
    record = read_run_record(fold)
    if record is None:
        raise ValueError(f"No run.json in {fold}: not trained by the benchmark. Remove the folder and run this again.")
    preprocessed = dataset_folder(job.task.dataset)
    for name, trained_with in (
        ("splits_final.json", record.splits_sha256),
        (f"{plans_name(specification)}.json", record.plans_sha256),
    ):
        if content_hash(preprocessed / name) != trained_with:
            raise ValueError(
                f"{fold} was trained with another {name} than that in {preprocessed}. Remove the folder and run this "
                "again, or restore the file."
            )
    other = other_than_recorded(record, *present_loss_and_optimizer(specification, job))
    if other:
        raise ValueError(
            f"{fold} was trained with {other[0]}, and {job.trainer} has {other[1]} now. Restore the trainer or give "
            "the new one another name; or remove the folder and run this again."
        )


def usable_checkpoint(fold: Path) -> str | None:
    """The name of the checkpoint to go on from.

    nnU-Net does not write checkpoints atomically: one that a killed training left half-written is removed, and the next
    best taken.
    """
    for name in _CHECKPOINTS:
        path = fold / name
        if not path.is_file():
            continue
        try:
            read_checkpoint(path, "It is removed.")
        except ForbiddenGlobal:
            # A trainer may keep more than nnU-Net does. The file is whole, and this package runs nothing of it.
            print(f"{path} is trusted: it holds more than numbers, and nnU-Net reads it to go on with the training")
        except DamagedFile as error:
            print(error)
            path.unlink()
            continue
        return name
    return None


def _validation_cases(job: Job) -> list[str]:
    path = dataset_folder(job.task.dataset) / "splits_final.json"
    advice = "Restore the file that the models were trained with."
    splits = read_splits(path, advice)
    with told(path, advice):
        return splits[job.fold]["val"]


def _command(specification: Specification, job: Job, checkpoint: str | None) -> str:
    """The same by nnU-Net's own command, for the log."""
    words = ["nnUNetv2_train", job.task.dataset, specification.configuration, str(job.fold)]
    words += ["-tr", full_trainer_name(specification, job.trainer, job.seed), "-p", plans_name(specification)]
    words += ["-device", specification.device]
    words += ["-num_gpus", str(specification.num_gpus)] if specification.num_gpus > 1 else []
    words += ["--npz"] if specification.evaluation.froc else []
    words += [] if checkpoint is None else ["--val" if checkpoint == _CHECKPOINTS[0] else "--c"]
    return " ".join(["$", *words])


GALLERY = "gallery"


def evaluate_trainer(workspace: Workspace, specification: Specification, job: Job, processes: int) -> None:
    """Evaluate a trainer and seed, and draw its worst cases and missed lesions (of seed 0).

    Raises
    ------
    FileNotFoundError, ValueError
        A fold is not validated, was trained under other conditions, or cannot be evaluated.
    """
    for fold in specification.folds:
        check_same_conditions(specification, replace(job, fold=fold))
    if is_evaluated(workspace, specification, job):
        print("The evaluation is current")
        return
    source, settings = _source(specification, job), _settings(specification)
    folder = output_folder(workspace, specification, job)
    cases = evaluate(source, settings, processes)
    pictures = []
    if job.seed == 0:
        # With the pictures of classes that the dataset no longer has.
        shutil.rmtree(folder / GALLERY, ignore_errors=True)
        pictures = write_gallery(source, settings, cases, folder / GALLERY, processes=processes, show_case_ids=False)
    write_evaluated(source, settings, cases, folder, pictures)


def is_evaluated(workspace: Workspace, specification: Specification, job: Job) -> bool:
    """Whether the evaluation is there, undamaged, of the predictions that are there."""
    try:
        source = _source(specification, job)
    except (FileNotFoundError, ValueError):
        return False
    return is_current(source, _settings(specification), output_folder(workspace, specification, job))


def output_folder(workspace: Workspace, specification: Specification, job: Job) -> Path:
    """Where the evaluation goes: outside nnU-Net's results, whose folds other benchmarks may share."""
    return workspace.evaluation_folder(job.task.dataset, full_trainer_name(specification, job.trainer, job.seed))


def _source(specification: Specification, job: Job) -> Source:
    source = cross_validation_source(
        job.task.dataset,
        specification.configuration,
        full_trainer_name(specification, job.trainer, job.seed),
        plans_name(specification),
        [str(fold) for fold in specification.folds],
        probabilities=specification.evaluation.froc,
        images=raw_images(job.task.dataset),
    )
    # As a reader knows it: without length and seed.
    return replace(source, name=job.trainer)


def _settings(specification: Specification) -> EvaluationSettings:
    options = specification.evaluation
    return EvaluationSettings(options.connectivity, options.min_volume_mm3, options.tolerance_mm, scores=options.scores)
