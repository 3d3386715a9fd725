"""The report of a benchmark, in any of its formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_rw.benchmark.report.page.page import write_html_report
from nnunet_rw.benchmark.report.tables.documents import latex_files, report_markdown
from nnunet_rw.benchmark.report.tables.tidy import csv_text, tidy_tables
from nnunet_rw.benchmark.results import BenchmarkResults, read_results
from nnunet_rw.benchmark.training import GALLERY
from nnunet_rw.util.files import write_atomically

FORMATS = ("md", "latex", "csv")


def write_reports(
    folder: Path, formats: Sequence[str] = ("html",), output: Path | None = None, show_case_ids: bool = False
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

    Returns
    -------
    list of Path

    Raises
    ------
    FileNotFoundError
        There is no benchmark in the folder.
    """
    results = read_results(folder)
    tables = output or results.folder / "report"
    written = []
    for name in formats:
        if name == "html":
            page = output if output and list(formats) == ["html"] else (output or results.folder) / "report.html"
            written.append(write_html_report(results, page, show_case_ids, _galleries(results)))
        else:
            written += write_report(results, tables, name, show_case_ids)
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


def _galleries(results: BenchmarkResults) -> dict[tuple[str, str], list[Path]]:
    """The pictures that were drawn when the trainers were evaluated, by task and trainer."""
    galleries = {}
    for task in results.tasks:
        for trainer, evaluations in task.evaluations.items():
            if 0 in evaluations:
                galleries[task.task, trainer] = sorted((evaluations[0].folder / GALLERY).glob("*.png"))
    return galleries
