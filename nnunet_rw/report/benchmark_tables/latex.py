"""The report as LaTeX: a table a file, the methods, and a document that has them all."""

from __future__ import annotations

import textwrap

from nnunet_rw.benchmark.results import BenchmarkResults
from nnunet_rw.report.benchmark_tables.documents import Document, documents
from nnunet_rw.report.benchmark_tables.methods import bibtex, methods_latex
from nnunet_rw.report.comparison_files import latex_escape

_COMMENT = 110
# From so many columns on, a table is drawn as wide as the page.
_WIDE = 6


def latex_files(results: BenchmarkResults) -> dict[str, str]:
    """Contents by file name: tables, methods.tex, references.bib, and report.tex that puts them together."""
    tables = {f"{document.name}.tex": latex_table(document) for document in documents(results)}
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


def latex_table(document: Document) -> str:
    r"""A ``table`` for the packages booktabs and graphicx, its best values bold, its notes as comments."""
    width = len(document.header)
    rows = [
        [
            rf"\textbf{{{latex_escape(cell)}}}" if (row, column) in document.bold else latex_escape(cell)
            for column, cell in enumerate(cells)
        ]
        for row, cells in enumerate(document.rows)
    ]
    # Facts are sentences, which must break.
    columns = (
        "l" * width if document.name != "provenance" else "l" + rf"p{{{0.8 / (width - 1):.2f}\textwidth}}" * (width - 1)
    )
    tabular = "\n".join(
        [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            _line([latex_escape(cell) for cell in document.header]),
            r"\midrule",
            *map(_line, rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )
    if width >= _WIDE:
        tabular = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}%\n}}"
    comments = [f"% {line}" for note in document.notes for line in textwrap.wrap(note, _COMMENT)]
    return "\n".join(
        [
            *comments,
            r"\begin{table}[htbp]",
            r"\centering\small",
            rf"\caption{{{latex_escape(document.title)}}}",
            rf"\label{{tab:{document.name}}}",
            tabular,
            r"\end{table}",
            "",
        ]
    )


def _line(cells: list[str]) -> str:
    # A bracket after a row's end would be taken for its option.
    return " & ".join(f"{{{cell}}}" if cell.startswith("[") else cell for cell in cells) + r" \\"
