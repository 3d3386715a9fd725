"""A benchmark's report as Markdown, LaTeX, CSV and pictures."""

from __future__ import annotations

from pathlib import Path

from nnunet_rw.benchmark.report.tables.documents import latex_files, report_markdown
from nnunet_rw.benchmark.report.tables.tidy import csv_text, tidy_tables
from nnunet_rw.benchmark.results import BenchmarkResults
from nnunet_rw.util.files import write_atomically

FORMATS = ("md", "latex", "csv", "png")


def write_report(results: BenchmarkResults, folder: str | Path, format: str, show_case_ids: bool = False) -> list[Path]:
    """Write the report's tables, text or figures.

    Parameters
    ----------
    results : BenchmarkResults
    folder : path
        Made if absent.
    format : one of `FORMATS`
        "md": report.md with all tables, notes and the methods. "latex": tables for booktabs, a file each, methods.tex,
        references.bib and report.tex around them. "csv": tidy tables, unrounded. "png": figures of 200 dpi, each beside
        a PDF.
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
    if format == "png":
        from nnunet_rw.benchmark.report.tables.pictures import write_pictures

        return write_pictures(results, folder)
    if format == "md":
        contents = {"report.md": report_markdown(results)}
    elif format == "latex":
        contents = latex_files(results)
    else:
        contents = {f"{name}.csv": csv_text(rows) for name, rows in tidy_tables(results, show_case_ids).items()}
    for name, content in contents.items():
        write_atomically(folder / name, content.encode())
    return [folder / name for name in contents]
