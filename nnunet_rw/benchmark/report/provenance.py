"""Where the results come from, and what they cost: versions, devices, source, plans, time and memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_rw.benchmark.results import BenchmarkResults, Run, TaskResults
from nnunet_rw.training.records import Git, RunRecord, Session
from nnunet_rw.util.tables import NOTHING, Cell, CellLike, Table, number, rounded

_HASH_CHARACTERS = 10


def provenance_table(results: BenchmarkResults) -> Table:
    """A row per task over its trainings. Where trainings differ in something, all its values are told."""
    rows = [_row(results, task) for task in results.tasks]
    return Table.of("Where the results come from", rows, "provenance")


def provenance_warnings(results: BenchmarkResults) -> list[str]:
    """A sentence for each difference among the trainings that could explain a difference of results.

    Within a task: plans, splits, length, batch and patch. Over all: versions, devices, source, changed files.
    """
    found = [warning for task in results.tasks for warning in _task_warnings(task)]
    sessions = [session for task in results.tasks for record in task.records for session in record.sessions]
    packages = dict.fromkeys(package for session in sessions for package in session.versions)
    for package in packages:
        found += _difference("Trainings", f"versions of {package}", (_version(one, package) for one in sessions))
    found += _difference("Trainings", "devices (their times do not compare)", map(device_text, sessions))
    found += _difference("Trainings", "commits", (_commit(one.git) for one in sessions))
    changed = sum(one.git is not None and one.git.changed for one in sessions)
    if changed:
        found.append(f"{changed} of {len(sessions)} sessions ran from a checkout with changes that no commit has.")
    return found


def device_text(session: Session) -> str:
    """``NVIDIA A100``, ``2 x NVIDIA A100`` or ``Example CPU (2 cores)``."""
    name = session.device_name or session.device
    if session.device == "cpu":
        return f"{name} ({session.cpu_count} core{'s' if session.cpu_count > 1 else ''})"
    return f"{session.num_gpus} x {name}" if session.num_gpus > 1 else name


def software_text(sessions: Iterable[Session]) -> str:
    """``nnunet_rw 0.1.0, torch 2.9.0``: every version that was used, packages without one left out."""
    used: dict[str, dict[str, None]] = {}
    for session in sessions:
        for package, version in session.versions.items():
            if version:
                used.setdefault(package, {})[version] = None
    return ", ".join(f"{package} {' and '.join(versions)}" for package, versions in used.items())


def _row(results: BenchmarkResults, task: TaskResults) -> dict[str, str]:
    records = task.records
    sessions = [session for record in records for session in record.sessions]
    return {
        "task": task.task,
        "dataset": task.dataset,
        "configuration": _joined(record.configuration for record in records),
        "plans": _joined(f"{record.plans} {_short(record.plans_sha256)}" for record in records),
        "optimisers": _joined(record.optimizer for record in records if record.optimizer),
        "splits": _joined(_short(record.splits_sha256) for record in records),
        "folds": ", ".join(map(str, results.specification.folds)),
        "seeds": _joined((str(record.seed) for record in records), ", "),
        "trainings": f"{sum(record.finished for record in records)} of {len(task.runs)}",
        "continued": _continued(task.runs),
        "started": _started(sessions),
        "devices": _joined(map(device_text, sessions)),
        "versions": software_text(sessions) or NOTHING,
        "source": _joined(_commit(session.git) for session in sessions),
    }


def _task_warnings(task: TaskResults) -> list[str]:
    records = task.records
    what = f"Trainings of {task.task}"
    return [
        *_difference(what, "plans", (_short(record.plans_sha256) for record in records)),
        *_difference(what, "splits", (_short(record.splits_sha256) for record in records)),
        *_difference(what, "lengths", (_length(record) for record in records)),
        *_difference(what, "batch sizes", (str(record.batch_size) for record in records)),
        *_optimizer_warnings(task),
        *_difference(what, "patch sizes", (" x ".join(map(str, record.patch_size)) for record in records)),
    ]


def _optimizer_warnings(task: TaskResults) -> list[str]:
    """Trainers may differ in it, trainings of one should not; older records say nothing."""
    used: dict[str, list[str]] = {}
    for record in task.records:
        if record.optimizer:
            used.setdefault(record.trainer, []).append(record.optimizer)
    return [
        warning
        for trainer, optimizers in used.items()
        for warning in _difference(f"Trainings of {task.task} with {trainer}", "optimisers", optimizers)
    ]


def _difference(who: str, what: str, values: Iterable[str]) -> list[str]:
    counts = Counter(values)
    if len(counts) < 2:
        return []
    return [f"{who} differ in {what}: {', '.join(f'{value} ({n})' for value, n in counts.most_common())}."]


def _continued(runs: Iterable[Run]) -> str:
    """Trainings of more than one session, each with its number."""
    told = [
        f"{run.trainer} seed {run.seed} fold {run.fold} ({len(run.record.sessions)} sessions)"
        for run in runs
        if run.record is not None and len(run.record.sessions) > 1
    ]
    return "; ".join(told) or "none"


def _started(sessions: Iterable[Session]) -> str:
    days = sorted(session.started[:10] for session in sessions)
    if not days:
        return NOTHING
    return days[0] if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def _length(record: RunRecord) -> str:
    return f"{record.num_epochs} epochs of {record.iterations_per_epoch} iterations"


def _version(session: Session, package: str) -> str:
    return session.versions.get(package) or "none"


def _commit(git: Git | None) -> str:
    if git is None:
        return "no checkout"
    return f"{git.commit[:_HASH_CHARACTERS]}{' with changes' if git.changed else ''}"


def _short(sha256: str | None) -> str:
    return sha256[:_HASH_CHARACTERS] if sha256 else "none"


def _joined(values: Iterable[str], separator: str = "; ") -> str:
    return separator.join(dict.fromkeys(values)) or NOTHING


_OPTIONAL = ("peak GPU MiB",)


@dataclass(frozen=True)
class Resources:
    """Trainings of one trainer; NaN where nothing is recorded.

    Attributes
    ----------
    runs, finished : int
    num_parameters : float
    seconds_per_epoch : float
        Median over all epochs.
    loader_wait_share : float
        Of the epochs' time, in which the training waited for batches.
    peak_host_mib, peak_gpu_mib : float
        Highest of all epochs.
    training_seconds, validation_seconds : float
        Of one training, all epochs; of the prediction of one fold's validation cases. Medians over finished trainings.
    """

    trainer: str
    runs: int
    finished: int
    num_parameters: float
    seconds_per_epoch: float
    loader_wait_share: float
    peak_host_mib: float
    peak_gpu_mib: float
    training_seconds: float
    validation_seconds: float


def resources(task: TaskResults) -> tuple[Resources, ...]:
    """One entry per trainer over its folds and seeds, in the order of the specification."""
    trainers = dict.fromkeys(run.trainer for run in task.runs)
    return tuple(resources_of(trainer, [run for run in task.runs if run.trainer == trainer]) for trainer in trainers)


def resource_table(task: TaskResults) -> Table:
    """A row per trainer over its folds and seeds."""
    return Table.of("Time and memory", map(_cells, resources(task)), "resources").without_empty(_OPTIONAL)


def resource_notes(results: BenchmarkResults) -> list[str]:
    """What the columns mean, and what makes times incomparable."""
    execution = results.specification.execution
    notes = [
        "Seconds per epoch: median over all epochs of all folds and seeds. Loader wait: share of that time in which "
        "the training waited for batches. Peak memory: highest of all epochs; of the host the resident size of the "
        "training process, or of the largest of its processes that have ended. Training and validation: median over "
        "finished trainings."
    ]
    if execution.jobs > 1 and execution.executor == "local":
        notes.append(f"Up to {execution.jobs} trainings shared the machine while they were timed.")
    return notes


def duration(seconds: float) -> Cell:
    """``34 s``, ``12.5 min`` or ``5.2 h``."""
    if not math.isfinite(seconds):
        return Cell(NOTHING)
    if seconds < 100:
        return Cell(f"{seconds:.3g} s", value=seconds)
    return Cell(f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h", value=seconds)


def resources_of(trainer: str, runs: Sequence[Run]) -> Resources:
    """What these trainings of a trainer took."""
    records = [run.record for run in runs if run.record is not None]
    finished = [record for record in records if record.finished]
    epochs = [epoch for record in records for epoch in record.epochs]
    seconds = _numbers(epoch.seconds for epoch in epochs)
    waited = _numbers(epoch.loader_wait_seconds for epoch in epochs)
    return Resources(
        trainer=trainer,
        runs=len(runs),
        finished=len(finished),
        num_parameters=_largest(record.num_parameters for record in records),
        seconds_per_epoch=_median(seconds),
        loader_wait_share=sum(waited) / sum(seconds) if waited and sum(seconds) > 0 else math.nan,
        peak_host_mib=_largest(epoch.peak_host_mib for epoch in epochs),
        peak_gpu_mib=_largest(epoch.peak_gpu_mib for epoch in epochs),
        training_seconds=_median([sum(_numbers(epoch.seconds for epoch in record.epochs)) for record in finished]),
        validation_seconds=_median(_numbers(record.validation_seconds for record in finished)),
    )


def _cells(found: Resources) -> dict[str, CellLike]:
    millions, seconds = found.num_parameters / 1e6, found.seconds_per_epoch
    wait = 100 * found.loader_wait_share
    return {
        "trainer": found.trainer,
        "trainings": f"{found.finished} of {found.runs}",
        "parameters": NOTHING if math.isnan(millions) else Cell(f"{millions:.2f} M", value=millions),
        "s per epoch": NOTHING if math.isnan(seconds) else Cell(f"{seconds:.3g}", value=seconds),
        "loader wait": NOTHING if math.isnan(wait) else Cell(f"{rounded(wait, 1)} %", value=wait),
        "peak host MiB": number(found.peak_host_mib, 0),
        "peak GPU MiB": number(found.peak_gpu_mib, 0),
        "training": duration(found.training_seconds),
        "validation": duration(found.validation_seconds),
    }


def _numbers(values: Iterable[float | None]) -> list[float]:
    return [float(value) for value in values if value is not None and math.isfinite(value)]


def _largest(values: Iterable[float | None]) -> float:
    return max(_numbers(values), default=math.nan)


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else math.nan
