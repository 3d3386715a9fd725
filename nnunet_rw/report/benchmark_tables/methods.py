"""The paragraphs of a paper's methods section."""

from __future__ import annotations

import re

from nnunet_rw.benchmark.results import BenchmarkResults
from nnunet_rw.report.benchmark_tables.empty_cases import empty_case_text
from nnunet_rw.report.benchmark_tables.methods_evaluation import evaluation_text, statistics_text
from nnunet_rw.report.benchmark_tables.methods_training import (
    data_text,
    loss_texts,
    losses_heading,
    package_version,
    software_paragraph,
    training_text,
)
from nnunet_rw.report.benchmark_tables.references import entries_text
from nnunet_rw.report.comparison_files import latex_escape

_CITATION = re.compile(r"\[(@\w+(?:; @\w+)*)\]")
_CODE = re.compile(r"`([^`]+)`")


def methods_text(results: BenchmarkResults) -> str:
    """Markdown paragraphs with citations as Pandoc has them (``[@isensee2021nnunet]``)."""
    blocks = []
    for title, texts in _sections(results):
        blocks.append(f"### {title}")
        items = [text for text in texts if text.startswith("- ")]
        blocks += [text for text in texts if text not in items]
        blocks += ["\n".join(items)] if items else []
    # What a dataset's description may hold must not become markup. In code a backslash would be shown.
    pieces = "\n\n".join(blocks).split("`")
    pieces[::2] = [piece.replace("<", "\\<").replace("*", "\\*") for piece in pieces[::2]]
    return "`".join(pieces) + "\n"


def methods_latex(results: BenchmarkResults) -> str:
    r"""The same with ``\subsection*``, ``\cite`` and ``itemize``."""
    lines = []
    for title, texts in _sections(results):
        lines.append(f"\\subsection*{{{latex_escape(title)}}}")
        items = [text for text in texts if text.startswith("- ")]
        lines += [_latex(text) for text in texts if text not in items]
        if items:
            lines.append("\n".join(["\\begin{itemize}", *(f"\\item {_latex(i[2:])}" for i in items), "\\end{itemize}"]))
    return "\n\n".join(lines) + "\n"


def bibtex(results: BenchmarkResults) -> str:
    """BibTeX entries of all that `methods_text` cites, and no others."""
    keys = [key for found in _CITATION.findall(methods_text(results)) for key in re.findall(r"@(\w+)", found)]
    return entries_text(keys, package_version(results))


def empty_case_policy(results: BenchmarkResults) -> str:
    """What is done with cases without lesions and with empty predictions, and how many there were, in Markdown."""
    return empty_case_text(results)


def _sections(results: BenchmarkResults) -> list[tuple[str, list[str]]]:
    return [
        ("Data", data_text(results)),
        ("Networks and training", [training_text(results), losses_heading(results), *loss_texts(results)]),
        ("Evaluation", [evaluation_text(results), empty_case_text(results)]),
        ("Statistics", [statistics_text(results)]),
        ("Software", [software_paragraph(results)]),
    ]


def _latex(text: str) -> str:
    """Escape everything but code and citations, which become commands."""
    parts = []
    end = 0
    for found in re.finditer(f"{_CODE.pattern}|{_CITATION.pattern}", text):
        parts.append(latex_escape(text[end : found.start()]))
        code, citation = found.groups()
        keys = ",".join(re.findall(r"@(\w+)", citation or ""))
        parts.append(f"\\texttt{{{latex_escape(code)}}}" if code else f"\\cite{{{keys}}}")
        end = found.end()
    return "".join([*parts, latex_escape(text[end:])]).replace(" \\cite", "~\\cite")
