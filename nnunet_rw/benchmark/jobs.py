"""What a benchmark has to do, in pieces that can run apart from each other, and what lies where in its folder.

Imports nothing that takes long.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal, TextIO

from nnunet_rw.benchmark.specification import SMALL, Specification, read_specification, write_specification
from nnunet_rw.training.catalogue import VARIABLE, search_path, trainers_folder
from nnunet_rw.util.files import NNUNET_FOLDERS, NO_LOCKS, nnunet_folder, portable_path, whole_path, write_atomically
from nnunet_rw.util.readers import read_json, told


@dataclass(frozen=True)
class Workspace:
    """Paths below the folder of a benchmark.

    nnU-Net's own folders are those of the shell in which the benchmark was begun, or else lie inside. They are written
    to ``folders.json``, so that jobs on other machines and later commands find them whatever their shell says.
    """

    folder: Path

    @property
    def specification_file(self) -> Path:
        return self.folder / "benchmark.yaml"

    @property
    def folders_file(self) -> Path:
        return self.folder / "folders.json"

    @property
    def downloads(self) -> Path:
        return self.folder / "msd"

    def job_file(self, job: str, ending: str) -> Path:
        """``.json``, ``.log`` or ``.lock`` of a job."""
        return self.folder / "jobs" / f"{job}{ending}"

    def evaluation_folder(self, dataset: str, trainer: str) -> Path:
        return self.folder / "evaluations" / dataset / trainer

    def specification(self) -> Specification:
        """The one that is kept here.

        Raises
        ------
        FileNotFoundError
            There is no benchmark in the folder.
        """
        if not self.specification_file.is_file():
            raise FileNotFoundError(f"No benchmark.yaml in {self.folder}. Give the folder of a benchmark.")
        return read_specification(self.specification_file)

    def keep(self, specification: Specification) -> None:
        """Make the folder and write what it is about.

        Folders in it or beside it are written as relative, so that all can be moved together.
        """
        folders = self.nnunet_folders()
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in NNUNET_FOLDERS:
            Path(folders[name]).mkdir(parents=True, exist_ok=True)
        kept = {name: portable_path(folders[name], self.folder) for name in NNUNET_FOLDERS}
        # Those of this package are found wherever it is installed.
        trainers = [path for path in folders[VARIABLE].split(os.pathsep) if path != str(trainers_folder())]
        kept[VARIABLE] = os.pathsep.join(portable_path(path, self.folder) for path in trainers)
        write_atomically(self.folders_file, (json.dumps(kept, indent=2) + "\n").encode())
        write_specification(specification, self.specification_file)

    def nnunet_folders(self) -> dict[str, str]:
        """nnU-Net's three folders, and those of trainers, by the name of their variable.

        Raises
        ------
        FileNotFoundError
            A variable, or the file that keeps them, names no folder.
        DamagedFile
            The file is.
        """
        if self.folders_file.is_file():
            folders, kept_trainers = self._kept_folders()
        else:
            inside = {name: str(self.folder / name) for name in NNUNET_FOLDERS}
            folders = {
                name: str(nnunet_folder(name).absolute()) if os.environ.get(name, path) != path else path
                for name, path in inside.items()
            }
            kept_trainers = []
        # What the shell adds is searched too, after those that trainings have been made with.
        return {**folders, VARIABLE: search_path(before=[Path(path) for path in kept_trainers])}

    def _kept_folders(self) -> tuple[dict[str, str], list[str]]:
        """nnU-Net's folders and the further folders of trainers, as ``folders.json`` has them."""
        advice = "Correct it, or delete it and set nnU-Net's variables as they were when the benchmark began."
        kept = read_json(self.folders_file, advice, dict[str, str])
        with told(self.folders_file, advice):
            folders = {name: whole_path(kept[name], self.folder) for name in NNUNET_FOLDERS}
        trainers = [whole_path(path, self.folder) for path in kept.get(VARIABLE, "").split(os.pathsep) if path]
        for name, path in folders.items():
            if not Path(path).is_dir():
                raise FileNotFoundError(
                    f"{self.folders_file} names {path} as {name}, which is no folder. Was it moved, or the benchmark? "
                    "Write its place into that file, or make the folder."
                )
        return folders, trainers

    def activate(self) -> None:
        """Let nnU-Net, in this process and those it starts, see these folders.

        And let threads of a training on a CPU sleep while they wait: where another job has the core, threads that spin
        hold each other up, many times over.
        """
        os.environ.update(self.nnunet_folders())
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        # For processes that import torch; in this one it may be too late.
        os.environ.setdefault("PYTHONWARNINGS", "ignore")


Kind = Literal["prepare", "train", "evaluate"]
SMALL_PLANS = "nnUNetPlansSmall"  # as `nnunet_rw.datasets.folders` has it, which imports nnU-Net


@dataclass(frozen=True)
class Task:
    """One dataset.

    Attributes
    ----------
    name : str
        As the report has it.
    dataset : str
        nnU-Net's name.
    folder : Path, optional
        In MSD layout; None where the dataset is in nnUNet_raw already, or is yet to be downloaded.
    """

    name: str
    dataset: str
    folder: Path | None = None


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes
    ----------
    kind : "prepare", "train" or "evaluate"
        A task's dataset, plans and maps; one training with its validation; all folds of a trainer and seed.
    task : Task
    trainer : str
        Without length and seed; empty for "prepare".
    seed, fold : int
    after : tuple of str
        Names of the jobs that must be done before.
    """

    kind: Kind
    task: Task
    trainer: str = ""
    seed: int = 0
    fold: int = 0
    after: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Unique, and usable as a path: ``train/Task04_Hippocampus/RWTrainer/seed0/fold1``."""
        parts: list[str] = [self.kind, self.task.name]
        if self.kind != "prepare":
            parts += [self.trainer, f"seed{self.seed}"]
        if self.kind == "train":
            parts.append(f"fold{self.fold}")
        return "/".join(parts)

    @property
    def needs_gpu(self) -> bool:
        """Whether it trains: other jobs have no use for a GPU."""
        return self.kind == "train"


def jobs_of(specification: Specification, tasks: Sequence[Task]) -> list[Job]:
    """Every job, each after those that it needs.

    Task by task, and within a task seed by seed: what can be compared first is done first.
    """
    jobs = []
    for task in tasks:
        prepare = Job("prepare", task)
        jobs.append(prepare)
        seeds = {
            trainer: specification.seeds_of.get(trainer, specification.seeds) for trainer in specification.trainers
        }
        for seed in range(max(seeds.values())):
            for trainer in (trainer for trainer in specification.trainers if seed < seeds[trainer]):
                folds = [Job("train", task, trainer, seed, fold, after=(prepare.name,)) for fold in specification.folds]
                jobs += folds
                jobs.append(Job("evaluate", task, trainer, seed, after=tuple(fold.name for fold in folds)))
    return jobs


def full_trainer_name(specification: Specification, trainer: str, seed: int) -> str:
    """The trainer's name for nnU-Net, which makes its results folder: ``RWTrainer_15epochs_50iterations_seed0``."""
    length = f"_{specification.epochs}epochs" if specification.epochs else ""
    if specification.iterations:
        length += f"_{specification.iterations}iterations"
    return f"{trainer}{length}_seed{seed}"


def plans_name(specification: Specification) -> str:
    """The name of the plans for nnU-Net."""
    if specification.small_options is None:
        return specification.plans
    return f"{SMALL_PLANS}{specification.plans.removeprefix(SMALL)}"


Status = Literal["waiting", "queued", "running", "done", "failed", "interrupted"]


class AlreadyRunning(RuntimeError):
    """Another process does this job."""


@dataclass(frozen=True)
class JobState:
    """What is known of a job.

    Attributes
    ----------
    status : str
        "queued" is a job that a cluster has yet to begin; "interrupted" is one that was begun, has not ended, and that
        no process works on.
    attempts : int
    started, ended : str
        Of the last attempt, ISO 8601 in UTC; empty where that has not happened.
    error : str
        One line, of a failed attempt.
    cluster_id : str
        Of the cluster's own queue, where the job was handed to one.
    gpus : str
        That the last attempt may use, as CUDA_VISIBLE_DEVICES names them; empty for all.
    """

    status: Status = "waiting"
    attempts: int = 0
    started: str = ""
    ended: str = ""
    error: str = ""
    cluster_id: str = ""
    gpus: str = ""


def read_state(workspace: Workspace, job: str) -> JobState:
    """The state of a job; "waiting" where nothing is known of it, as after a damaged file."""
    state = _read(workspace, job)
    if state.status == "running" and not is_locked(workspace, job):
        return replace(state, status="interrupted")
    return state


def write_state(workspace: Workspace, job: str, state: JobState) -> None:
    """Write the state, complete or not at all."""
    path = workspace.job_file(job, ".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(asdict(state), indent=2) + "\n").encode())


@contextmanager
def working_on(workspace: Workspace, job: str) -> Iterator[None]:
    """Hold the job's lock and write its state: running, then done or failed.

    The lock ends with the process, however that ends. Processes that it forks do not inherit it, so nnU-Net's workers
    which outlive a killed training do not hold up the next attempt.

    Raises
    ------
    AlreadyRunning
        Another process holds the lock.
    """
    path = workspace.job_file(job, ".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        if not _lock(file):
            raise AlreadyRunning(f"{job} is being done by another process.")
        # Not `read_state`: to close a file gives up all locks that the process has on it.
        before = _read(workspace, job)
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        state = replace(
            before, status="running", attempts=before.attempts + 1, started=now(), ended="", error="", gpus=gpus
        )
        write_state(workspace, job, state)
        try:
            yield
        except BaseException as error:
            line = " ".join(str(error).split())
            message = f"{type(error).__name__}: {line}" if line else type(error).__name__
            write_state(workspace, job, replace(state, status="failed", ended=now(), error=message))
            raise
        write_state(workspace, job, replace(state, status="done", ended=now()))


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which is made where there is none; others wait, and say so.

    As of `working_on`, processes that this one forks do not inherit it. Where a file system has no locks there is none.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        if not _lock(file):
            print(f"Waiting for another benchmark that holds {path}", flush=True)
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield


# Of a lock that another process has.
_HELD = (errno.EAGAIN, errno.EACCES)
# Who looks at a lock holds it for a moment, see `is_locked`.
_TRIES, _PAUSE_SECONDS = 5, 0.02


def _lock(file: TextIO) -> bool:
    """Take a file's lock; False where another process has it. A file system without locks has nothing to take."""
    for attempt in range(_TRIES):
        if attempt:
            time.sleep(_PAUSE_SECONDS)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD:
                return error.errno in NO_LOCKS
        else:
            return True
    return False


def is_locked(workspace: Workspace, job: str) -> bool:
    """Whether another process works on the job. (One's own locks are not seen.)

    On a file system without locks, or where the lock's file may not be read, whether the state says so.
    """
    try:
        # Who may read only, sees it as well. Shared, so that of two who look neither sees the other.
        with open(workspace.job_file(job, ".lock"), encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _HELD:
                    return True
                raise
    except FileNotFoundError:
        return False
    except OSError:
        return _read(workspace, job).status == "running"
    return False


def log_tail(path: Path, lines: int = 5) -> list[str]:
    """The last lines of a log that hold something; none where there is no log."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - 20_000))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    # A progress bar writes over its own line.
    return [line.rsplit("\r", 1)[-1].strip() for line in text.splitlines() if line.strip()][-lines:]


def _read(workspace: Workspace, job: str) -> JobState:
    try:
        return JobState(**json.loads(workspace.job_file(job, ".json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return JobState()


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
