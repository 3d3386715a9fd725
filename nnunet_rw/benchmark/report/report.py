"""The report of a benchmark in any of its formats: the page, and its tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from nnunet_rw.benchmark.jobs import Job, Task, Workspace, jobs_of
from nnunet_rw.benchmark.report.leaderboard import (
    LESION_COLUMNS,
    SEED_DICE,
    SEED_RECALL,
    VOXEL_COLUMNS,
    Estimate,
    Standing,
    leaderboard_notes,
    leaderboard_table,
    standings,
    without_lone_label,
)
from nnunet_rw.benchmark.report.methods import bibtex, methods_latex, methods_text
from nnunet_rw.benchmark.report.page import finished_jobs, write_html_report
from nnunet_rw.benchmark.report.provenance import (
    Resources,
    provenance_table,
    provenance_warnings,
    resource_notes,
    resource_table,
    resources,
)
from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults, read_results
from nnunet_rw.benchmark.training import GALLERY, output_folder
from nnunet_rw.evaluation.comparison.metrics import METRICS
from nnunet_rw.evaluation.comparison.tables import comparison_tables, legend
from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.training.records import Epoch
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.tables import Table, csv_text, escaped, latex_escape

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
        Of the page, where html alone is asked for and it ends in ``.html`` or ``.htm``; else of a folder. Default:
        ``report.html`` and ``report/`` in the benchmark's folder.
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
    formats = list(dict.fromkeys(formats))
    is_page = output is not None and output.suffix.lower() in (".html", ".htm") and not output.is_dir()
    page = output if output and is_page and formats == ["html"] else (output or results.folder) / "report.html"
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
        tables = tidy_tables(results, show_case_ids)
        contents = {f"{name}.csv": _rows_csv(rows) for name, rows in tables.items()}
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


# The leaderboard is too wide for a page: name, title and what is left out of either part.
_PARTS = (
    ("leaderboard", "Overlap and distances", {*LESION_COLUMNS, SEED_RECALL}),
    ("lesions", "Lesions", {*VOXEL_COLUMNS, SEED_DICE}),
)


def report_tables(results: BenchmarkResults) -> list[Table]:
    """Task after task leaderboard, comparison and resources; provenance at the end. Empty tables are left out."""
    found = [
        replace(table, title=f"{task.task}. {table.title}", name=f"{task.dataset}_{table.name}")
        for task in results.tasks
        for table in _tables_of(results, task)
    ]
    # A column per task: versions are too long for a row.
    provenance = replace(provenance_table(results).turned(), title="Provenance")
    return [table for table in (*found, replace(provenance, header=("", *provenance.header[1:]))) if table.rows]


def _tables_of(results: BenchmarkResults, task: TaskResults) -> list[Table]:
    leaderboard = without_lone_label(leaderboard_table(task))
    notes = tuple(leaderboard_notes(results))
    found = [
        replace(leaderboard.without(left_out), title=title, name=name, notes=notes) for name, title, left_out in _PARTS
    ]
    if task.comparison:
        first, *others = comparison_tables(task.comparison)
        found += [replace(first, notes=tuple(legend(task.comparison))), *others]
    found.append(replace(resource_table(task), notes=tuple(resource_notes(results))))
    return [table for table in found if table.rows]


def report_markdown(results: BenchmarkResults) -> str:
    """What is unfinished, warnings, tables with notes, methods and references; notes that repeat are told once."""
    parts = ["# Benchmark"]
    # The message of an error may name a case or a folder.
    unfinished = [job.without_error for job in results.unfinished]
    for title, lines in (("Unfinished", unfinished), ("Warnings", provenance_warnings(results))):
        if lines:
            parts.append("\n".join([f"## {title}", "", *(f"- {escaped(line)}" for line in lines)]))
    told: set[tuple[str, ...]] = set()
    for table in report_tables(results):
        parts.append(f"## {escaped(table.title)}\n\n{table.markdown()}")
        if table.notes and table.notes not in told:
            parts.append("\n".join(f"- {escaped(note)}" for note in table.notes))
            told.add(table.notes)
    parts += [f"## Methods\n\n{methods_text(results).rstrip()}"]
    parts += [f"## References\n\n```bibtex\n{bibtex(results)}```"]
    return "\n\n".join(parts) + "\n"


_COMMENT = 110
# From so many columns on, a table is drawn as wide as the page.
_WIDE = 6
_BOOKTABS = r"\toprule", r"\midrule", r"\bottomrule"


def latex_files(results: BenchmarkResults) -> dict[str, str]:
    """Contents by file name: tables, methods.tex, references.bib, and report.tex that puts them together."""
    tables = {f"{table.name}.tex": latex_table(table) for table in report_tables(results)}
    contents = {**tables, "methods.tex": methods_latex(results)}
    body = "\n".join(rf"\input{{{name}}}" for name in ("methods.tex", *tables))
    report = rf"""\documentclass{{article}}
\usepackage[utf8]{{inputenc}}
\usepackage[T1]{{fontenc}}
\usepackage[margin=2cm]{{geometry}}
\usepackage{{booktabs,graphicx}}
\begin{{document}}
{body}
\bibliographystyle{{plain}}
\bibliography{{references}}
\end{{document}}
"""
    return {**contents, "references.bib": bibtex(results), "report.tex": report}


def latex_table(table: Table) -> str:
    r"""A ``table`` for the packages booktabs and graphicx, its best values bold, its notes as comments."""
    width = len(table.header)
    # Facts are sentences, which must break.
    facts = "l" + rf"p{{{0.8 / max(width - 1, 1):.2f}\textwidth}}" * (width - 1) if table.name == "provenance" else ""
    tabular = table.latex(_BOOKTABS, facts)
    if width >= _WIDE:
        tabular = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}%\n}}"
    comments = [f"% {line}" for note in table.notes for line in textwrap.wrap(note, _COMMENT)]
    return "\n".join(
        [
            *comments,
            r"\begin{table}[htbp]",
            r"\centering\small",
            rf"\caption{{{latex_escape(table.title)}}}",
            rf"\label{{tab:{table.name}}}",
            tabular,
            r"\end{table}",
            "",
        ]
    )


_ESTIMATES = ("dice", "nsd", "hd95_mm", "recall", "small_recall", "false_positives")
_SINGLE = ("precision", "f1", "froc_average")
Rows = list[dict[str, Any]]


def tidy_tables(results: BenchmarkResults, show_case_ids: bool = False) -> dict[str, Rows]:
    """Rows by the name of the table; tables without rows are left out.

    leaderboard, seeds, differences, sizes, places, equal_false_positives, rules, froc_points, resources, epochs,
    provenance, and with `show_case_ids` cases, the only one that names them.
    """
    tasks = results.tasks
    tables = {
        "leaderboard": [row for task in tasks for row in _leaderboard(task)],
        "seeds": [row for task in tasks for row in _seeds(task)],
        "differences": _comparison_rows(tasks, "metrics"),
        "sizes": _comparison_rows(tasks, "sizes"),
        "places": _comparison_rows(tasks, "rankings"),
        "equal_false_positives": _comparison_rows(tasks, "matched"),
        "rules": _comparison_rows(tasks, "rules"),
        "froc_points": [row for task in tasks for row in _froc_points(task)],
        "resources": [{"task": task.task, **_plain(found, Resources)} for task in tasks for found in resources(task)],
        "epochs": [row for task in tasks for row in _epochs(task)],
        "provenance": list(provenance_table(results).records),
        "cases": [row for task in tasks for row in _cases(task)] if show_case_ids else [],
    }
    return {name: rows for name, rows in tables.items() if rows}


def _rows_csv(rows: Rows) -> str:
    """A column for every key that a row has."""
    header = list(dict.fromkeys(name for row in rows for name in row))
    return csv_text(header, ([row.get(name) for name in header] for row in rows))


def _leaderboard(task: TaskResults) -> Iterator[dict[str, Any]]:
    for row in standings(task):
        for metric in (*_ESTIMATES, *_SINGLE):
            value = getattr(row, metric)
            yield {
                **_of(task, row),
                "metric": metric,
                "value": value.value if isinstance(value, Estimate) else value,
                "low": value.interval.low if isinstance(value, Estimate) else math.nan,
                "high": value.interval.high if isinstance(value, Estimate) else math.nan,
                "n": value.n if isinstance(value, Estimate) else None,
                "n_penalised": value.n_penalised if isinstance(value, Estimate) else None,
            }


def _seeds(task: TaskResults) -> Iterator[dict[str, Any]]:
    for row in standings(task):
        seeds = sorted(task.evaluations[row.trainer])
        for seed, dice, recall in zip(seeds, row.dice_of_seeds, row.recall_of_seeds, strict=True):
            yield {**_of(task, row), "seed": seed, "dice": dice, "recall": recall}


def _of(task: TaskResults, row: Standing) -> dict[str, Any]:
    return {"task": task.task, "label": row.label, "trainer": row.trainer, "seed": row.seed}


def _comparison_rows(tasks: Sequence[TaskResults], name: str) -> Rows:
    return [
        {"task": task.task, **asdict(row)}
        for task in tasks
        if task.comparison
        for row in getattr(task.comparison, name)
    ]


def _evaluated(task: TaskResults) -> Iterator[tuple[dict[str, Any], Evaluation]]:
    for trainer, seeds in task.evaluations.items():
        for seed, evaluation in sorted(seeds.items()):
            yield {"task": task.task, "trainer": trainer, "seed": seed}, evaluation


def _froc_points(task: TaskResults) -> Iterator[dict[str, Any]]:
    for of, evaluation in _evaluated(task):
        for label, curve in evaluation.froc.items():
            points = zip(curve.thresholds, curve.false_positives, curve.recall, strict=True)
            for threshold, false_positives, recall in points:
                yield {
                    **of,
                    "label": label,
                    "threshold": float(threshold),
                    "false_positives_per_case": float(false_positives),
                    "recall": float(recall),
                }


def _epochs(task: TaskResults) -> Iterator[dict[str, Any]]:
    for run in task.runs:
        for epoch in run.record.epochs if run.record else ():
            yield {
                "task": task.task,
                "trainer": run.trainer,
                "seed": run.seed,
                "fold": run.fold,
                **_plain(epoch, Epoch),
            }


def _cases(task: TaskResults) -> Iterator[dict[str, Any]]:
    for of, evaluation in _evaluated(task):
        for label in evaluation.labels:
            columns = evaluation.columns[label]
            values = {
                name: metric.values(columns)
                for name, metric in METRICS.items()
                if not metric.column or metric.column in columns
            }
            for index, case in enumerate(evaluation.cases):
                numbers = {name: float(column[index]) for name, column in values.items()}
                yield {**of, "label": label, "case": case, **numbers}


def _plain(row: Any, row_type: type) -> dict[str, Any]:
    return {field.name: getattr(row, field.name) for field in fields(row_type)}
