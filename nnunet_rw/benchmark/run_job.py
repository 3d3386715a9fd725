"""Do one job: ``python -m nnunet_rw.benchmark.run_job FOLDER JOB``.

Every executor runs this, on this machine or another. It does what is missing of the job and nothing else, so it may be
repeated at any time, and killed at any time.
"""

from __future__ import annotations

import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from nnunet_rw.benchmark.executors import processors
from nnunet_rw.benchmark.jobs import AlreadyRunning, Job, Workspace, alone, jobs_of, working_on
from nnunet_rw.benchmark.specification import Specification
from nnunet_rw.util.files import nnunet_folder
from nnunet_rw.util.readers import DamagedFile


def run_job(workspace: Workspace, name: str, processes: int) -> None:
    """Do a job and write its state.

    Parameters
    ----------
    workspace : Workspace
    name : str
        Of the job.
    processes : int
        Processes, or threads of a training on a CPU, that it may have.

    Raises
    ------
    AlreadyRunning
        Another process does it.
    ValueError
        There is no such job.
    Exception
        Whatever made it fail; the state holds the message.
    """
    workspace.activate()
    with working_on(workspace, name):
        specification = workspace.specification()
        job = find_job(workspace, specification, name)
        with _alone(specification, job):
            _do(workspace, specification, job, processes)


def find_job(workspace: Workspace, specification: Specification, name: str) -> Job:
    """The job of a name."""
    from nnunet_rw.benchmark.preparing import find_task

    for task in specification.tasks:
        if Path(task).name == name.split("/")[1]:
            for job in jobs_of(specification, [find_task(task, workspace.downloads)]):
                if job.name == name:
                    return job
    raise ValueError(f"{workspace.specification_file} has no job {name!r}: another command has changed it.")


def _alone(specification: Specification, job: Job) -> AbstractContextManager[None]:
    """Keeps other benchmarks with the same folders of nnU-Net from the same job, whose results they share."""
    from nnunet_rw.benchmark.training import fold_folder

    if job.kind == "evaluate":
        return nullcontext()  # a benchmark's own
    if job.kind == "prepare":
        return alone(nnunet_folder("nnUNet_preprocessed") / f".{job.task.dataset}.lock")
    fold = fold_folder(specification, job)
    return alone(fold.with_name(f".{fold.name}.lock"))


def _do(workspace: Workspace, specification: Specification, job: Job, processes: int) -> None:
    # Imported once the workspace has told torch how threads wait.
    from nnunet_rw.benchmark.preparing import prepare
    from nnunet_rw.benchmark.training import evaluate_trainer, train

    if job.kind == "prepare":
        prepare(workspace, specification, job.task, processes)
    elif job.kind == "train":
        train(specification, job, processes)
    else:
        evaluate_trainer(workspace, specification, job, processes)


def main() -> int:
    """The command; its output is the job's log."""
    workspace = Workspace(Path(sys.argv[1]))
    specification = workspace.specification()
    share = specification.execution.jobs if specification.execution.executor == "local" else 1
    try:
        run_job(workspace, sys.argv[2], max(1, processors() // share))
    except AlreadyRunning as error:
        print(error)
        return 3
    except DamagedFile as error:
        print(error)
        return 1
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
