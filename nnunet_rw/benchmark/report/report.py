"""The report of a benchmark, in any of its formats."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_rw.benchmark.report.page.page import write_html_report
from nnunet_rw.benchmark.report.tables.formats import write_report
from nnunet_rw.benchmark.results import BenchmarkResults, read_results
from nnunet_rw.benchmark.training import GALLERY


def write_reports(
    folder: Path, formats: Sequence[str] = ("html",), output: Path | None = None, show_case_ids: bool = False
) -> list[Path]:
    """Write what a benchmark found so far.

    Parameters
    ----------
    folder : path
        Of the benchmark.
    formats : sequence of "html", "md", "latex", "csv" and "png"
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


def _galleries(results: BenchmarkResults) -> dict[tuple[str, str], list[Path]]:
    """The pictures that were drawn when the trainers were evaluated, by task and trainer."""
    galleries = {}
    for task in results.tasks:
        for trainer, evaluations in task.evaluations.items():
            if 0 in evaluations:
                galleries[task.task, trainer] = sorted((evaluations[0].folder / GALLERY).glob("*.png"))
    return galleries
