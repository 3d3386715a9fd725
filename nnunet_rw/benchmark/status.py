"""How far a benchmark is, as tables of the terminal."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from nnunet_rw.benchmark.jobs import Job, JobState, log_tail, read_state
from nnunet_rw.benchmark.run import Benchmark
from nnunet_rw.benchmark.training import fold_folder
from nnunet_rw.training.records import RunRecord, read_run_record


@dataclass(frozen=True)
class JobProgress:
    """A job now.

    Attributes
    ----------
    job : Job
    state : JobState
        "done" wherever the results are there, whoever made them.
    epoch, num_epochs : int
        Of a training: finished ones, and all; 0 of other jobs and before the first epoch.
    pseudo_dice : float
        nnU-Net's, of the last epoch, mean over classes; NaN where there is none.
    epoch_seconds : float
        Median; NaN where there is none.
    log_tail : tuple of str
        Of a job that failed or was interrupted.
    """

    job: Job
    state: JobState
    epoch: int = 0
    num_epochs: int = 0
    pseudo_dice: float = math.nan
    epoch_seconds: float = math.nan
    log_tail: tuple[str, ...] = ()

    @property
    def seconds_left(self) -> float:
        """Of a training's epochs; NaN before the first is done."""
        return (self.num_epochs - self.epoch) * self.epoch_seconds


def progress_of(benchmark: Benchmark) -> list[JobProgress]:
    """Every job of a benchmark, in the order in which they are done; one that needs a failed one has failed as well."""
    found: list[JobProgress] = []
    failed: set[str] = set()
    for job in benchmark.jobs:
        item = _progress(benchmark, job)
        needed = [name for name in job.after if name in failed]
        if needed and item.state.status == "waiting":
            item = replace(item, state=replace(item.state, status="failed", error=f"Needs {needed[0]}, which failed"))
        if item.state.status == "failed":
            failed.add(job.name)
        found.append(item)
    return found


def seconds_left(progress: list[JobProgress], at_a_time: int) -> float:
    """Estimate for all trainings together, if so many run at a time; NaN before the first epoch of any.

    A training that has not begun is taken to last as others of its task and trainer do, or else of its task, or else
    as any.
    """
    trainings = [item for item in progress if item.job.kind == "train"]
    known = {item: item.num_epochs * item.epoch_seconds for item in trainings if item.epoch}
    left = [
        item.seconds_left if item.epoch else _expected(item.job, known)
        for item in trainings
        if item.state.status not in ("done", "failed")
    ]
    # One training is not done the faster for places that are free.
    return max(sum(left) / at_a_time, *left, 0.0)


def _expected(job: Job, known: Mapping[JobProgress, float]) -> float:
    for alike in (
        lambda other: (other.task, other.trainer) == (job.task, job.trainer),
        lambda other: other.task == job.task,
        lambda other: True,
    ):
        seconds = [value for item, value in known.items() if alike(item.job)]
        if seconds:
            return float(np.mean(seconds))
    return math.nan


def _progress(benchmark: Benchmark, job: Job) -> JobProgress:
    state = read_state(benchmark.workspace, job.name)
    if state.status != "running" and benchmark.is_done(job):
        state = JobState("done", state.attempts, state.started, state.ended)
    elif state.status == "done":
        state = JobState("waiting", state.attempts)
    record = _record(benchmark, job)
    tail = log_tail(benchmark.workspace.job_file(job.name, ".log")) if state.status in ("failed", "interrupted") else []
    if record is None or not record.epochs:
        return JobProgress(job, state, log_tail=tuple(tail))
    return JobProgress(
        job,
        state,
        len(record.epochs),
        record.num_epochs,
        record.epochs[-1].pseudo_dice,
        float(np.median([epoch.seconds for epoch in record.epochs])),
        tuple(tail),
    )


def _record(benchmark: Benchmark, job: Job) -> RunRecord | None:
    if job.kind != "train":
        return None
    try:
        return read_run_record(fold_folder(benchmark.specification, job))
    except (ValueError, FileNotFoundError):  # as while it is removed
        return None


REFRESH_SECONDS = 5.0


def show_status(benchmark: Benchmark, watch: bool, console: Console | None = None) -> None:
    """Print the state; on a terminal, with `watch`, again and again until all is done or Ctrl-C."""
    console = console or Console()
    at_a_time = _at_a_time(benchmark)
    progress = progress_of(benchmark)
    if not watch or not console.is_terminal:
        console.print(status_tables(progress, at_a_time))
        return
    # To end the watch is no interruption: the jobs run on.
    with (
        suppress(KeyboardInterrupt),
        Live(status_tables(progress, at_a_time), console=console, auto_refresh=False) as live,
    ):
        while any(item.state.status not in ("done", "failed") for item in progress):
            time.sleep(REFRESH_SECONDS)
            progress = progress_of(benchmark)
            live.update(status_tables(progress, at_a_time), refresh=True)


class LiveStatus:
    """Lines of a running benchmark, and on a terminal its tables below them; a context manager."""

    def __init__(self, benchmark: Benchmark) -> None:
        self.benchmark = benchmark
        self.console = Console()
        self._live: Live | None = None
        self._next_look = 0.0

    def __enter__(self) -> LiveStatus:
        if self.console.is_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def report(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._next_look = 0.0

    def look(self) -> None:
        """Bring the tables up to date, unless that was done a moment ago."""
        if self._live and time.monotonic() >= self._next_look:
            tables = status_tables(progress_of(self.benchmark), _at_a_time(self.benchmark))
            self._live.update(tables, refresh=True)
            self._next_look = time.monotonic() + REFRESH_SECONDS


def status_tables(progress: Sequence[JobProgress], at_a_time: int) -> RenderableType:
    """Jobs by task and trainer, those at work, those that failed, and the time left."""
    counts = Counter(item.state.status for item in progress)
    summary = f"{counts['done']} of {len(progress)} jobs done"
    summary += "".join(
        f", {counts[status]} {status}" for status in ("running", "queued", "interrupted", "failed") if counts[status]
    )
    left = seconds_left(list(progress), at_a_time)
    if counts["done"] < len(progress) and not math.isnan(left):
        summary += f"; about {duration(left)} of training left"
    parts: list[RenderableType] = [_by_trainer(progress)]
    if counts["running"]:
        parts.append(_at_work(progress))
    parts.append(Text(summary))
    for item in progress:
        if item.state.status in ("failed", "interrupted"):
            parts.append(Text(f"\n{item.job.name}: {item.state.status}. {item.state.error}", style="bold"))
            parts += [Text(f"    {line}") for line in item.log_tail]
    return Group(*parts)


def duration(seconds: float) -> str:
    """In words short enough for a table: ``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``."""
    if math.isnan(seconds):
        return "-"
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _by_trainer(progress: Sequence[JobProgress]) -> Table:
    table = Table(*_named("task", "trainer"), "trained", "evaluated", "Dice", "s/epoch", box=None, pad_edge=False)
    groups: dict[tuple[str, str], list[JobProgress]] = {}
    for item in progress:
        if item.job.kind != "prepare":
            groups.setdefault((item.job.task.name, item.job.trainer), []).append(item)
    for (task, trainer), items in groups.items():
        folds = [item for item in items if item.job.kind == "train"]
        seeds = [item for item in items if item.job.kind == "evaluate"]
        table.add_row(
            escape(task),
            escape(trainer),
            *(f"{sum(item.state.status == 'done' for item in part)}/{len(part)}" for part in (folds, seeds)),
            _mean([item.pseudo_dice for item in folds], 3),
            _mean([item.epoch_seconds for item in folds], 1),
        )
    return table


def _at_work(progress: Sequence[JobProgress]) -> Table:
    table = Table(*_named("at work"), "epoch", "Dice so far", "left", box=None, pad_edge=False)
    for item in progress:
        if item.state.status == "running":
            epoch = f"{item.epoch}/{item.num_epochs}" if item.num_epochs else "-"
            if item.num_epochs and item.epoch == item.num_epochs:
                epoch = "validation"
            table.add_row(escape(item.job.name), epoch, _mean([item.pseudo_dice], 3), duration(item.seconds_left))
    return table


def _named(*headers: str) -> list[Column]:
    """Columns of names, which take more lines where there is no room: their ends tell them apart."""
    return [Column(header, overflow="fold") for header in headers]


def _mean(values: Sequence[float], decimals: int) -> str:
    known = [value for value in values if not math.isnan(value)]
    return f"{sum(known) / len(known):.{decimals}f}" if known else "-"


def _at_a_time(benchmark: Benchmark) -> int:
    execution = benchmark.specification.execution
    return execution.slurm.array_size if execution.executor == "slurm" else execution.jobs
