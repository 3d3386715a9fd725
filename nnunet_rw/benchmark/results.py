"""What a benchmark found, read from its folder."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nnunet_rw.benchmark.jobs import Job, Task, Workspace, jobs_of, read_state
from nnunet_rw.benchmark.preparing import FoldsOf, find_task, folds_of
from nnunet_rw.benchmark.specification import Specification
from nnunet_rw.benchmark.training import fold_folder, is_evaluated, is_trained, output_folder
from nnunet_rw.datasets.folders import read_dataset_json
from nnunet_rw.evaluation.comparison.compare import compare_evaluations
from nnunet_rw.evaluation.comparison.groups import read_groups
from nnunet_rw.evaluation.comparison.metrics import DEFAULT_METRICS
from nnunet_rw.evaluation.comparison.rows import Comparison
from nnunet_rw.evaluation.folder import Evaluation, read_evaluation
from nnunet_rw.evaluation.protocols import columns_of
from nnunet_rw.evaluation.units import connected, length_unit
from nnunet_rw.training.records import RunRecord, other_than_recorded, read_run_record
from nnunet_rw.util.files import nnunet_folder


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes
    ----------
    trainer : str
        Without length and seed.
    seed, fold : int
    folder : Path
        nnU-Net's ``fold_<k>``.
    record : RunRecord, optional
        None before the training has begun.
    """

    trainer: str
    seed: int
    fold: int
    folder: Path
    record: RunRecord | None


@dataclass(frozen=True)
class TaskResults:
    """All of one task.

    Attributes
    ----------
    task, dataset : str
        Decathlon's name and nnU-Net's.
    description : str
        Of the dataset, from its dataset.json; empty where that tells none.
    runs : tuple of Run
    evaluations : dict of trainer to dict of seed to Evaluation
        In the order of the specification, the baseline first; over the validation cases of all folds. Trainers and
        seeds whose folds are not all done are absent.
    comparison : Comparison, optional
        Of every trainer with the baseline, over all seeds that are done, the baseline's being its noise; None where
        seed 0 of the baseline or of all others is not evaluated. Its trainers are named as in `evaluations`.
    groups : mapping of case to patient, optional
        None where each case stands for itself.
    folds_of : FoldsOf
        Whose the folds are: nnU-Net's, by patient, or the authors' own; empty where that is not known.
    """

    task: str
    dataset: str
    description: str
    runs: tuple[Run, ...]
    evaluations: dict[str, dict[int, Evaluation]]
    comparison: Comparison | None
    groups: Mapping[str, str] | None = None
    folds_of: FoldsOf = ""

    @property
    def records(self) -> list[RunRecord]:
        """Of the trainings that have begun."""
        return [run.record for run in self.runs if run.record is not None]

    @property
    def first_seeds(self) -> dict[str, Evaluation]:
        """The evaluation of each trainer's lowest seed: 0 unless that is unfinished."""
        return {trainer: seeds[min(seeds)] for trainer, seeds in self.evaluations.items() if seeds}

    @property
    def why_not_compared(self) -> str:
        """What there is no comparison for, as the end of a sentence; empty where there is one."""
        if self.comparison is not None:
            return ""
        baseline, *others = dict.fromkeys(run.trainer for run in self.runs)
        if not others:
            return "the benchmark has one trainer"
        if baseline not in self.evaluations:
            return f"the baseline, {baseline}, is not evaluated yet"
        if not any(trainer in self.evaluations for trainer in others):
            return f"no trainer but the baseline, {baseline}, is evaluated yet"
        trainer = baseline if 0 not in self.evaluations[baseline] else "any other trainer"
        return f"seed 0 of {trainer} is not evaluated yet"

    def label_text(self, label: str) -> str:
        """The label with its name in dataset.json, where an evaluation tells it."""
        told = [seed.label_texts for seeds in self.evaluations.values() for seed in seeds.values()]
        return told[0].get(label, label) if told else label

    @property
    def size_unit(self) -> str:
        """What lesions are measured in: that of the first evaluation."""
        units = [seed.size_unit for seeds in self.evaluations.values() for seed in seeds.values()]
        return units[0] if units else "mm3"


class Unfinished(NamedTuple):
    """A job that failed or is not done; the message of an error may name a case or a folder."""

    job: str
    status: str
    error: str = ""

    @property
    def without_error(self) -> str:
        return f"{self.job}: {self.status}"

    def __str__(self) -> str:
        return f"{self.without_error}{f', {self.error}' if self.error else ''}"


@dataclass(frozen=True)
class BenchmarkResults:
    """A benchmark's folder, read.

    Attributes
    ----------
    folder : Path
    specification : Specification
    tasks : tuple of TaskResults
    unfinished : tuple of Unfinished
    """

    folder: Path
    specification: Specification
    tasks: tuple[TaskResults, ...]
    unfinished: tuple[Unfinished, ...]

    @property
    def size_units(self) -> list[str]:
        """What lesions of the tasks are measured in."""
        return list(dict.fromkeys(task.size_unit for task in self.tasks))

    @property
    def length_units(self) -> str:
        """What distances are in, such as "mm"."""
        return " or ".join(dict.fromkeys(map(length_unit, self.size_units)))

    @property
    def connected(self) -> str:
        """How lesions hang together, such as "26-connected"."""
        connectivity = self.specification.evaluation.connectivity
        return " or ".join(dict.fromkeys(connected(connectivity, unit) for unit in self.size_units))

    @property
    def finished(self) -> list[str]:
        """Names of the jobs that there are results of: trainings with all epochs, and evaluations; sorted."""
        found = []
        for results in self.tasks:
            task = Task(results.task, results.dataset)
            found += [
                Job("train", task, run.trainer, run.seed, run.fold)
                for run in results.runs
                if run.record and run.record.finished
            ]
            found += [
                Job("evaluate", task, trainer, seed)
                for trainer, of_seeds in results.evaluations.items()
                for seed in of_seeds
            ]
        return sorted(job.name for job in found)


def read_results(folder: str | Path, groups: str | Path | None = None) -> BenchmarkResults:
    """Read all that is done of a benchmark.

    Parameters
    ----------
    groups : path, optional
        Of a file for `nnunet_rw.evaluation.comparison.groups.read_groups` that holds the cases of all tasks. Default:
        that of the specification, if any.

    Raises
    ------
    FileNotFoundError
        There is no benchmark in the folder.
    ValueError
        A file of it is damaged, or a case without a patient.
    """
    workspace = Workspace(Path(folder).resolve())
    specification = workspace.specification()
    path = groups or specification.groups
    patients = read_groups(path) if path else None
    workspace.activate()
    tasks = [find_task(text, workspace.downloads) for text in specification.tasks]
    unfinished, evaluated = [], set()
    for job in jobs_of(specification, tasks):
        if job.kind == "evaluate" and is_evaluated(workspace, specification, job):
            evaluated.add(job)
        elif job.kind == "evaluate" or (job.kind == "train" and not is_trained(specification, job)):
            state = read_state(workspace, job.name)
            status = (
                "to be done again (results damaged, gone, of other files or of an earlier version)"
                if state.status == "done"
                else state.status
            )
            unfinished.append(Unfinished(job.name, status, state.error or ""))
    return BenchmarkResults(
        workspace.folder,
        specification,
        tuple(_task_results(workspace, specification, task, evaluated, patients) for task in tasks),
        tuple(unfinished),
    )


def _task_results(
    workspace: Workspace,
    specification: Specification,
    task: Task,
    evaluated: Collection[Job],
    groups: Mapping[str, str] | None,
) -> TaskResults:
    jobs = jobs_of(specification, [task])
    runs = []
    for job in jobs:
        if job.kind == "train":
            fold = fold_folder(specification, job)
            runs.append(Run(job.trainer, job.seed, job.fold, fold, read_run_record(fold)))
    check_same_settings(runs)
    folders = {
        (job.trainer, job.seed): output_folder(workspace, specification, job) for job in jobs if job in evaluated
    }
    evaluations: dict[str, dict[int, Evaluation]] = {}
    for trainer in specification.trainers:
        of_seeds = {seed: read_evaluation(path) for (name, seed), path in folders.items() if name == trainer}
        if of_seeds:
            evaluations[trainer] = of_seeds
    return TaskResults(
        task.name,
        task.dataset,
        _description(task),
        tuple(runs),
        evaluations,
        _comparison(specification, folders, groups),
        groups,
        folds_of(task.dataset, specification.folds, groups),
    )


def check_same_settings(runs: Sequence[Run]) -> None:
    """Refuse to take trainings of one trainer for alike that had other losses or optimisers.

    Raises
    ------
    ValueError
        Two had; the message names both folders.
    """
    first: dict[str, tuple[Path, RunRecord]] = {}
    for run in runs:
        if run.record is None:
            continue
        folder, record = first.setdefault(run.trainer, (run.folder, run.record))
        other = other_than_recorded(record, run.record.loss, run.record.optimizer)
        if other:
            raise ValueError(
                f"Trainings of {run.trainer} differ: {folder} was trained with {other[0]}, {run.folder} with "
                f"{other[1]}. Remove the one that you do not want and run the benchmark again."
            )


def _comparison(
    specification: Specification, folders: dict[tuple[str, int], Path], groups: Mapping[str, str] | None
) -> Comparison | None:
    first = {trainer: folders[trainer, 0] for trainer in specification.trainers if (trainer, 0) in folders}
    if len(first) < 2 or specification.trainers[0] not in first:
        return None
    noise, *others = (
        [path for (name, seed), path in folders.items() if name == trainer and seed > 0] for trainer in first
    )
    scores = (column for name in specification.evaluation.scores for column in columns_of(name))
    return compare_evaluations(
        list(first.values()), noise, (*DEFAULT_METRICS, *scores), challenger_seeds=others, groups=groups
    )


def _description(task: Task) -> str:
    path = nnunet_folder("nnUNet_raw") / task.dataset / "dataset.json"
    return str(read_dataset_json(path).get("description", "")) if path.is_file() else ""
