"""A benchmark as one HTML file that needs no network: the answer first, then all that it rests on."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from PIL import Image, features
from plotly.offline import get_plotlyjs

from nnunet_rw.benchmark.report.answer import answers
from nnunet_rw.benchmark.report.case_figures import paired_differences, volume_agreement
from nnunet_rw.benchmark.report.figures import DARK, Block, Style, colour_properties, trainer_styles
from nnunet_rw.benchmark.report.leaderboard import (
    FIRST_COLUMNS,
    ROW_COLUMNS,
    Standing,
    leaderboard_notes,
    leaderboard_table,
    standings,
    without_lone_label,
)
from nnunet_rw.benchmark.report.lesion_figures import froc, recall_by_size, rule_plane
from nnunet_rw.benchmark.report.methods import bibtex, empty_case_text, methods_text
from nnunet_rw.benchmark.report.provenance import provenance_table, provenance_warnings
from nnunet_rw.benchmark.report.training_figures import cost, training_curves
from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.datasets.msd import published_sentence
from nnunet_rw.pictures.gallery import SHOWN
from nnunet_rw.util.files import write_atomically

Galleries = Mapping[tuple[str, str], Sequence[Path]]


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
        unfinished=[str(job) if show_case_ids else job.without_error for job in results.unfinished],
        notes=leaderboard_notes(results),
        row_columns=ROW_COLUMNS,
        first_columns=FIRST_COLUMNS,
        methods=markdown_html(methods, level=3),
        methods_source=_embedded(json.dumps(methods)),
        bibtex=bibtex(results).strip(),
        empty_cases=markdown_html(empty_case_text(results), level=3),
        provenance=provenance_table(results).turned(),
        warnings=provenance_warnings(results),
        theme=_embedded(json.dumps(DARK)),
        light_colours=Markup(colour_properties(dark=False)),
        dark_colours=Markup(colour_properties(dark=True)),
        css=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup((_FOLDER / "script.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def _embedded(text: str) -> Markup:
    """JSON that no text within can end: HTML ends a script at ``</script``, JSON knows ``\\u003c``."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _breakable(name: str) -> Markup:
    """The name, which a line may break behind each "_"."""
    return escape(name).replace("_", Markup("_<wbr>"))


def _subtitle(results: BenchmarkResults) -> str:
    chosen = results.specification
    counts: list[Any] = [
        (len(chosen.trainers), "trainer"),
        (len(chosen.folds), "fold"),
        (chosen.seeds, "seed"),
    ]
    parts = [f"{number} {noun}{'' if number == 1 else 's'}" for number, noun in counts]
    if chosen.seeds_of:
        parts[-1] += f" ({', '.join(f'{trainer} {number}' for trainer, number in chosen.seeds_of.items())})"
    parts.append(chosen.configuration)
    if chosen.epochs:
        parts.append(f"{chosen.epochs} epoch{'' if chosen.epochs == 1 else 's'}")
    if chosen.iterations:
        parts.append(f"{chosen.iterations} iterations each")
    return " · ".join(parts)


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def task_contents(
    task: TaskResults, styles: Mapping[str, Style], names: Mapping[str, str], galleries: Galleries
) -> dict[str, Any]:
    """What the template shows of a task; what is not done yet is left out.

    Parameters
    ----------
    styles : dict of trainer to Style
    names : dict of case to what it is called on the page
    galleries : dict of (task, trainer) to sequence of Path

    Raises
    ------
    FileNotFoundError, OSError
        A picture is missing or cannot be read.
    """
    places = standings(task)
    gallery = [
        (trainer, [embed_picture(picture, trainer) for picture in galleries[task.task, trainer]])
        for trainer in styles
        if galleries.get((task.task, trainer))
    ]
    labels = [
        {"name": task.label_text(label), "blocks": _present(_label_blocks(task, label, places, styles, names))}
        for label in dict.fromkeys(found.label for found in places)
    ]
    return {
        "name": task.task,
        "dataset": task.dataset,
        "description": task.description,
        "answers": answers(task),
        # The trainer names the row.
        "leaderboard": without_lone_label(leaderboard_table(task, places)).first("trainer"),
        "labels": labels,
        "blocks": _present([training_curves(task, styles)]),
        "gallery": gallery,
    }


def _label_blocks(
    task: TaskResults,
    label: str,
    places: Sequence[Standing],
    styles: Mapping[str, Style],
    names: Mapping[str, str],
) -> list[Block | None]:
    return [
        recall_by_size(task, label, styles),
        rule_plane(task, label, styles),
        froc(task, label, styles),
        paired_differences(task, label, styles, names),
        volume_agreement(task, label, styles, names),
        cost(task, [found for found in places if found.label == label], styles),
    ]


def _present(blocks: Sequence[Block | None]) -> list[Block]:
    return [block for block in blocks if block]


_OUTLINES = "Outlines: reference found or missed, prediction right or false, as the picture's legend names them."


@dataclass(frozen=True)
class EmbeddedPicture:
    """A picture as a data URI, with the words that go with it; width and height in pixels."""

    uri: str
    title: str
    alternative: str
    width: int
    height: int


def embed_picture(path: str | Path, trainer: str) -> EmbeddedPicture:
    """A PNG of `nnunet_rw.pictures.gallery.write_gallery`, without what its file tells besides the picture.

    Raises
    ------
    FileNotFoundError
        There is none.
    ValueError
        It is no picture, or a part of one.
    """
    path = Path(path)
    start = next((start for start in SHOWN if path.stem.startswith(start)), "")
    title = f"{SHOWN[start]}, class {path.stem.removeprefix(start)}" if start else "Picture"
    try:
        with Image.open(path) as image:
            pixels = image.convert("RGB")
    except FileNotFoundError:
        raise
    except (OSError, SyntaxError) as error:  # PIL's, of a broken PNG
        raise ValueError(
            f"{path} is no whole picture ({error}). Delete it and run the benchmark again, which draws it."
        ) from error
    file = io.BytesIO()
    if features.check("webp"):
        pixels.save(file, "WEBP", quality=82, method=4)
        kind_of_file = "webp"
    else:
        pixels.save(file, "PNG", optimize=True)
        kind_of_file = "png"
    data = base64.b64encode(file.getvalue()).decode()
    uri = f"data:image/{kind_of_file};base64,{data}"
    return EmbeddedPicture(uri, title, f"{title}, {trainer}. {_OUTLINES}", *pixels.size)


_HEADING = re.compile(r"(#+) +(.*)")
# What stands between backticks, or between two asterisks.
_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


def markdown_html(text: str, level: int) -> Markup:
    """HTML of the text, all its signs escaped.

    Parameters
    ----------
    text : str
        Blocks between blank lines.
    level : int
        Of all headings, as in ``<h3>``.
    """
    return Markup("\n").join(_block(block.strip(), level) for block in re.split(r"\n\s*\n", text) if block.strip())


def _block(block: str, level: int) -> Markup:
    heading = _HEADING.fullmatch(block)
    if heading:
        return Markup("<h{0}>{1}</h{0}>").format(level, _inline(heading[2]))
    if block.startswith("- "):
        items = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
        rows = Markup("\n").join(Markup("<li>{}</li>").format(_inline(item.strip())) for item in items)
        return Markup("<ul>\n{}\n</ul>").format(rows)
    return Markup("<p>{}</p>").format(_inline(block))


def _inline(text: str) -> Markup:
    parts, end = [], 0
    for found in _INLINE.finditer(text):
        tag, inside = ("code", found[1]) if found[1] else ("strong", found[2])
        parts += [escape(text[end : found.start()]), Markup("<{0}>{1}</{0}>").format(Markup(tag), inside)]
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])
