"""The whole of a benchmark: from a specification to a report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from nnunet_rw.benchmark.evaluating import is_evaluated
from nnunet_rw.benchmark.executors import Executor, LocalExecutor
from nnunet_rw.benchmark.executors.local import visible_gpus
from nnunet_rw.benchmark.jobs import Job, jobs_of
from nnunet_rw.benchmark.preparing import is_prepared
from nnunet_rw.benchmark.schedule import Failure, run_schedule
from nnunet_rw.benchmark.specification import Specification
from nnunet_rw.benchmark.tasks import find_task
from nnunet_rw.benchmark.trainers import find_trainers
from nnunet_rw.benchmark.training import is_trained
from nnunet_rw.benchmark.workspace import Workspace


class Benchmark:
    """A benchmark in its folder.

    Parameters
    ----------
    folder : path
    specification : Specification, optional
        Default: the one that is kept in the folder.

    Raises
    ------
    FileNotFoundError, ValueError
        A task or trainer is unknown, or there is no benchmark in the folder; nothing has been written then.
    """

    def __init__(self, folder: str | Path, specification: Specification | None = None) -> None:
        self.workspace = Workspace(Path(folder).resolve())
        self.specification = _with_whole_paths(specification or self.workspace.specification())
        self.workspace.activate()
        find_trainers(self.specification)
        self.tasks = [find_task(text, self.workspace.downloads) for text in self.specification.tasks]
        self.jobs = jobs_of(self.specification, self.tasks)

    def is_done(self, job: Job) -> bool:
        """Whether the results of a job are there, whoever made them."""
        try:
            if job.kind == "prepare":
                return is_prepared(self.specification, job.task)
            if job.kind == "train":
                return is_trained(self.specification, job)
            return is_evaluated(self.workspace, self.specification, job)
        except FileNotFoundError:  # of nnU-Net's folders, before anything is done
            return False

    def run(self, report: Callable[[str], None] = print, look: Callable[[], None] = lambda: None) -> list[Failure]:
        """Keep the specification, do all jobs that are not done, and write the report.

        Parameters
        ----------
        report : function of a str
            Gets a line for every job that begins or ends.
        look : function
            Called every second or so.

        Returns
        -------
        list of Failure
            The jobs that could not be done.
        """
        executor = self._executor()
        self.workspace.keep(self.specification)
        failures = run_schedule(self.workspace, self.jobs, self.is_done, executor, report, look)
        self.write_report()
        return failures

    def write_report(self) -> Path:
        """Write ``report.html`` of what is there."""
        from nnunet_rw.report.benchmark_report import write_reports

        return write_reports(self.workspace.folder)[0]

    def _executor(self) -> Executor:
        execution = self.specification.execution
        if execution.executor == "slurm":
            from nnunet_rw.benchmark.executors.slurm import SlurmExecutor

            gpus_a_job = execution.slurm.gpus if self.specification.device == "cuda" else 0
            if self.specification.device == "cuda" and gpus_a_job < self.specification.num_gpus:
                raise ValueError(
                    f"A training takes {self.specification.num_gpus} GPUs, but Slurm is asked for {gpus_a_job}. Give "
                    f"--gpus {self.specification.num_gpus}."
                )
            return SlurmExecutor(self.workspace, execution.slurm.model_copy(update={"gpus": gpus_a_job}))
        gpus: tuple[str, ...] = ()
        if self.specification.device == "cuda":
            gpus = visible_gpus()
            if len(gpus) < self.specification.num_gpus:
                found = f"This machine shows {len(gpus)} GPUs" if gpus else "No GPU is found here"
                raise ValueError(
                    f"{found}, but a training takes {self.specification.num_gpus}. Give --device cpu with --plans "
                    "small, or --executor slurm."
                )
        return LocalExecutor(self.workspace, execution.jobs, gpus, self.specification.num_gpus)


def _with_whole_paths(specification: Specification) -> Specification:
    """Jobs, and later commands, may run elsewhere."""
    tasks = tuple(str(Path(task).resolve()) if Path(task).is_dir() else task for task in specification.tasks)
    splits = {task: str(Path(path).resolve()) for task, path in specification.splits.items()}
    return specification.model_copy(update={"tasks": tasks, "splits": splits})
