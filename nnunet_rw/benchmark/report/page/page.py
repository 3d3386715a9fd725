"""A benchmark as one HTML file: the answer first, then all that it rests on."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from plotly.offline import get_plotlyjs

from nnunet_rw.benchmark.report.page.blocks import Table, markdown_html, table_of
from nnunet_rw.benchmark.report.page.contents import Galleries, task_contents
from nnunet_rw.benchmark.report.page.styles import DARK, colour_properties, trainer_styles
from nnunet_rw.benchmark.report.tables.leaderboard import leaderboard_notes
from nnunet_rw.benchmark.report.tables.methods import bibtex, empty_case_policy, methods_text
from nnunet_rw.benchmark.report.tables.provenance import provenance_rows, provenance_warnings, unfinished_lines
from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.datasets.published import published_sentence
from nnunet_rw.util.files import write_atomically


def case_names(task: TaskResults, show_case_ids: bool) -> dict[str, str]:
    """Of every evaluated case its own name, or "case 1" and so on in the order of the names."""
    cases = sorted({case for seeds in task.evaluations.values() for item in seeds.values() for case in item.cases})
    return {case: case if show_case_ids else f"case {number}" for number, case in enumerate(cases, start=1)}


_FOLDER = Path(__file__).parent
_FINISHED = re.compile(r'<meta name="nnunet-rw-finished" content="([^"]*)">')


def write_html_report(
    results: BenchmarkResults, path: str | Path, show_case_ids: bool = False, galleries: Galleries | None = None
) -> Path:
    """Write the report, complete or not at all.

    The file holds everything, plotly too, and asks for nothing from a network.

    Parameters
    ----------
    results : BenchmarkResults
    path : path
        Of the file. Replaced where there is one.
    show_case_ids : bool
        Without it no name of a case is in the file: they are "case 1" and so on, in the order of their names.
    galleries : dict of (task, trainer) to sequence of Path, optional
        Pictures of `nnunet_rw.pictures.gallery.write_gallery`. What is written on them is embedded as it is: draw them
        with ``show_case_ids=False`` for a page without names.

    Returns
    -------
    Path

    Raises
    ------
    FileNotFoundError
        A picture is missing.
    ValueError
        A picture is damaged.
    OSError
        The file cannot be written.
    """
    path = Path(path)
    write_atomically(path, html_report(results, show_case_ids, galleries).encode())
    return path


def finished_jobs(page: str | Path) -> list[str] | None:
    """The jobs whose results a page shows (`BenchmarkResults.finished`); None of one that does not say so."""
    found = _FINISHED.search(Path(page).read_text(encoding="utf-8", errors="replace"))
    try:
        return list(json.loads(html.unescape(found[1]))) if found else None
    except (ValueError, TypeError):
        return None


def html_report(results: BenchmarkResults, show_case_ids: bool = False, galleries: Galleries | None = None) -> str:
    """The text of the file that `write_html_report` writes."""
    styles = trainer_styles(results.specification.trainers)
    names = [case_names(task, show_case_ids) for task in results.tasks]
    tasks = [
        task_contents(task, styles, of_task, galleries or {})
        for task, of_task in zip(results.tasks, names, strict=True)
    ]
    methods = methods_text(results)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["with_interval"] = _value_and_interval
    environment.filters["breakable"] = _breakable
    environment.filters["published"] = published_sentence
    environment.filters["figure_json"] = lambda figure: _embedded(figure.to_json())
    return environment.get_template("template.html.j2").render(
        finished=json.dumps(results.finished),
        title=f"Benchmark on {_listed([task.task for task in results.tasks])}",
        subtitle=_subtitle(results),
        tasks=tasks,
        styles=styles,
        # The message of an error may name a case.
        unfinished=results.unfinished if show_case_ids else unfinished_lines(results),
        notes=leaderboard_notes(results),
        methods=markdown_html(methods, level=3),
        methods_source=_embedded(json.dumps(methods)),
        bibtex=bibtex(results).strip(),
        empty_cases=markdown_html(empty_case_policy(results), level=3),
        provenance=_turned(table_of("Where the results come from", provenance_rows(results))),
        warnings=provenance_warnings(results),
        theme=_embedded(json.dumps(DARK)),
        light_colours=Markup(colour_properties(dark=False)),
        dark_colours=Markup(colour_properties(dark=True)),
        css=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup((_FOLDER / "script.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def _turned(table: Table) -> Table:
    """A column for each row: texts that are too long for a cell of a wide table."""
    columns = list(zip(table.header, *table.rows, strict=True))
    return Table(table.caption, columns[0], tuple(columns[1:])) if columns else table


def _embedded(text: str) -> Markup:
    """JSON that no text within can end: HTML ends a script at ``</script``, JSON knows ``\\u003c``."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _breakable(name: str) -> Markup:
    """The name, which a line may break behind each "_"."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _value_and_interval(cell: str) -> tuple[str, list[str]]:
    """A cell's parts: of "0.6 [0.5, 0.7] (n = 9)" the first alone, then its interval and number."""
    value, *beside = re.split(r" (?=\[|\(n = )", cell)
    return value, beside


def _subtitle(results: BenchmarkResults) -> str:
    chosen = results.specification
    counts: list[Any] = [
        (len(chosen.trainers), "trainer"),
        (len(chosen.folds), "fold"),
        (chosen.seeds, "seed"),
    ]
    parts = [f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts]
    parts.append(chosen.configuration)
    if chosen.epochs:
        parts.append(f"{chosen.epochs} epoch{'' if chosen.epochs == 1 else 's'}")
    if chosen.iterations:
        parts.append(f"{chosen.iterations} iterations each")
    return " · ".join(parts)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
