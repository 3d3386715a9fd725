"""The job that evaluates a trainer: the validation cases of all its folds, pooled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nnunet_rw.benchmark.jobs import Job, full_trainer_name, plans_name
from nnunet_rw.benchmark.specification import Specification
from nnunet_rw.benchmark.training import check_same_conditions
from nnunet_rw.benchmark.workspace import Workspace
from nnunet_rw.evaluation.case_evaluation import EvaluationSettings
from nnunet_rw.evaluation.evaluate import evaluate, is_current, write_evaluated
from nnunet_rw.evaluation.sources import Source, cross_validation_source, raw_images
from nnunet_rw.report.gallery import write_gallery

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
    if job.seed == 0:
        write_gallery(source, settings, cases, folder / GALLERY, processes=processes, show_case_ids=False)
    write_evaluated(source, settings, cases, folder)


def is_evaluated(workspace: Workspace, specification: Specification, job: Job) -> bool:
    """Whether the evaluation is there, of the predictions that are there."""
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
    return EvaluationSettings(options.connectivity, options.min_volume_mm3, options.tolerance_mm)
