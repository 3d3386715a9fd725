"""What the page shows of a task, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_rw.benchmark.report.page.answer import Answer, answers
from nnunet_rw.benchmark.report.page.blocks import Block, EmbeddedPicture, Table, embed_picture, table_of
from nnunet_rw.benchmark.report.page.figure_cost import cost
from nnunet_rw.benchmark.report.page.figure_froc import froc
from nnunet_rw.benchmark.report.page.figure_paired import paired_differences, volume_agreement
from nnunet_rw.benchmark.report.page.figure_sizes import recall_by_size
from nnunet_rw.benchmark.report.page.figure_training import training_curves
from nnunet_rw.benchmark.report.page.styles import Style
from nnunet_rw.benchmark.report.tables.leaderboard import Standing, best_cells, leaderboard_rows, standings
from nnunet_rw.benchmark.results import TaskResults

Galleries = Mapping[tuple[str, str], Sequence[Path]]


@dataclass(frozen=True)
class LabelContents:
    """The figures of one label."""

    name: str
    blocks: list[Block]


@dataclass(frozen=True)
class TaskContents:
    """A section of the page.

    Attributes
    ----------
    name, dataset, description : str
    answers : list of Answer
    leaderboard : Table
        Without rows where nothing is evaluated.
    labels : list of LabelContents
    blocks : list of Block
        Of all labels together.
    gallery : list of (str, list of EmbeddedPicture)
        By trainer.
    """

    name: str
    dataset: str
    description: str
    answers: list[Answer]
    leaderboard: Table
    labels: list[LabelContents]
    blocks: list[Block]
    gallery: list[tuple[str, list[EmbeddedPicture]]]


def task_contents(
    task: TaskResults, styles: Mapping[str, Style], names: Mapping[str, str], galleries: Galleries
) -> TaskContents:
    """All there is of a task; what is not done yet is left out.

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
    return TaskContents(
        name=task.task,
        dataset=task.dataset,
        description=task.description,
        answers=answers(task),
        leaderboard=_leaderboard(task),
        labels=[
            LabelContents(label, _present(_label_blocks(task, label, places, styles, names)))
            for label in dict.fromkeys(found.label for found in places)
        ],
        blocks=_present([training_curves(task, styles)]),
        gallery=gallery,
    )


def _label_blocks(
    task: TaskResults,
    label: str,
    places: Sequence[Standing],
    styles: Mapping[str, Style],
    names: Mapping[str, str],
) -> list[Block | None]:
    return [
        recall_by_size(task, label, styles),
        froc(task, label, styles),
        paired_differences(task, label, styles, names),
        volume_agreement(task, label, styles, names),
        cost(task, [found for found in places if found.label == label], styles),
    ]


def _leaderboard(task: TaskResults) -> Table:
    rows = leaderboard_rows(task)
    several = len({row["label"] for row in rows}) > 1
    # The trainer names the row.
    order = (
        "trainer",
        *(name for name in (rows[0] if rows else ()) if name != "trainer" and (several or name != "label")),
    )
    return table_of("Leaderboard", [{name: row[name] for name in order} for row in rows], best_cells(task))


def _present(blocks: Sequence[Block | None]) -> list[Block]:
    return [block for block in blocks if block]
