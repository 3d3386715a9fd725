"""The report of a benchmark, in any of its formats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nnunet_rw.benchmark.jobs import Job, Task, jobs_of
from nnunet_rw.benchmark.report.page.page import finished_jobs, write_html_report
from nnunet_rw.benchmark.report.tables.documents import latex_files, report_markdown
from nnunet_rw.benchmark.report.tables.tidy import csv_text, tidy_tables
from nnunet_rw.benchmark.results import BenchmarkResults, read_results
from nnunet_rw.benchmark.training import GALLERY, output_folder
from nnunet_rw.benchmark.workspace import Workspace
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import write_atomically

FORMATS = ("md", "latex", "csv")
# Beside the tables: whose results they have.
_FINISHED_FILE = "finished.json"
_FILES = {"md": "*.md", "latex": "*.tex", "csv": "*.csv"}


class FewerResults(ValueError):
    """A report would take the place of one with more results."""


def write_reports(
    folder: Path,
    formats: Sequence[str] = ("html",),
    output: Path | None = None,
    show_case_ids: bool = False,
    allow_fewer: bool = False,
    groups: Path | None = None,
) -> list[Path]:
    """Write what a benchmark found so far.

    Parameters
    ----------
    folder : path
        Of the benchmark.
    formats : sequence of "html", "md", "latex" and "csv"
    output : path, optional
        Of the page, where html alone is asked for; else a folder. Default: ``report.html`` and ``report/`` in the
        benchmark's folder.
    show_case_ids : bool
        Name cases, which may identify patients.
    allow_fewer : bool
        Replace a report even if it has results that are not there now.
    groups : path, optional
        Of a CSV file with the patient of every case. Default: that of the benchmark, if any.

    Returns
    -------
    list of Path

    Raises
    ------
    FileNotFoundError
        There is no benchmark in the folder.
    FewerResults
        A report has results, of jobs that the benchmark still has, that are not there now. Nothing was written.
    """
    results = read_results(folder, groups)
    tables = output or results.folder / "report"
    page = output if output and list(formats) == ["html"] else (output or results.folder) / "report.html"
    if not allow_fewer:
        _refuse_fewer(results, page, tables, formats)
    written = []
    for name in formats:
        if name == "html":
            written.append(write_html_report(results, page, show_case_ids, _galleries(results)))
        else:
            written += write_report(results, tables, name, show_case_ids)
            _write_finished(tables, name, results.finished)
    return written


def write_report(results: BenchmarkResults, folder: str | Path, format: str, show_case_ids: bool = False) -> list[Path]:
    """Write the report's tables and text.

    Parameters
    ----------
    results : BenchmarkResults
    folder : path
        Made if absent.
    format : one of `FORMATS`
        "md": report.md with all tables, notes and the methods. "latex": tables for booktabs, a file each, methods.tex,
        references.bib and report.tex around them. "csv": tidy tables, unrounded.
    show_case_ids : bool
        Of "csv": adds cases.csv, the only file that names cases.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ValueError
        Another format.
    """
    if format not in FORMATS:
        raise ValueError(f"Expected the format to be one of {', '.join(FORMATS)}, but got {format!r}.")
    folder = Path(folder)
    if format == "md":
        contents = {"report.md": report_markdown(results)}
    elif format == "latex":
        contents = latex_files(results)
    else:
        contents = {f"{name}.csv": csv_text(rows) for name, rows in tidy_tables(results, show_case_ids).items()}
    for name, content in contents.items():
        write_atomically(folder / name, content.encode())
    return [folder / name for name in contents]


def _refuse_fewer(results: BenchmarkResults, page: Path, tables: Path, formats: Sequence[str]) -> None:
    """Compare with what is there already, which may rest on results that were moved, replaced or damaged since."""
    jobs = jobs_of(results.specification, [Task(task.task, task.dataset) for task in results.tasks])
    asked, now = {job.name for job in jobs}, set(results.finished)
    for name in formats:
        path = page if name == "html" else tables
        told = _finished_before(path, name)
        # Of an earlier version, or cut off: it had the evaluations that are there, current or not.
        before = _evaluations(results, jobs) if told is None else told
        lost = sorted(set(before) & asked - now)
        if lost or (told is None and not now):
            which = f"results that are not there now ({_some(lost)})" if lost else "results, and now there are none"
            again = command("benchmark", folder=results.folder)
            fewer = command("report", folder=results.folder, allow_fewer=True)
            raise FewerResults(
                f"{path} has {which}, and is kept. Run: {again}, which tells what is missing and makes it, or {fewer} "
                "to replace it."
            )


def _finished_before(path: Path, name: str) -> list[str] | None:
    """The jobs whose results a report of this format has: none where there is no report, None where it does not say."""
    if name == "html":
        return finished_jobs(path) if path.is_file() else []
    return _read_finished(path).get(name, None if any(path.glob(_FILES[name])) else [])


def _evaluations(results: BenchmarkResults, jobs: Sequence[Job]) -> list[str]:
    """The jobs of the evaluations that stand in the benchmark's folder."""
    workspace, specification = Workspace(results.folder), results.specification
    return [
        job.name
        for job in jobs
        if job.kind == "evaluate" and (output_folder(workspace, specification, job) / "summary.json").is_file()
    ]


def _read_finished(tables: Path) -> dict[str, list[str]]:
    """By format, the jobs whose results the tables have."""
    try:
        content = json.loads((tables / _FINISHED_FILE).read_text(encoding="utf-8"))
        return {name: list(jobs) for name, jobs in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_finished(tables: Path, name: str, finished: list[str]) -> None:
    content = {**_read_finished(tables), name: finished}
    write_atomically(tables / _FINISHED_FILE, (json.dumps(content, indent=2) + "\n").encode())


def _some(names: Sequence[str], most: int = 2) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _galleries(results: BenchmarkResults) -> dict[tuple[str, str], list[Path]]:
    """The pictures that were drawn when the trainers were evaluated, by task and trainer."""
    galleries = {}
    for task in results.tasks:
        for trainer, evaluations in task.evaluations.items():
            if 0 in evaluations:
                galleries[task.task, trainer] = sorted((evaluations[0].folder / GALLERY).glob("*.png"))
    return galleries
