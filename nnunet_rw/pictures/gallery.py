"""A gallery of what went wrong: the worst cases, and the missed lesions by size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.datasets.folders import Labels
from nnunet_rw.evaluation.case import CaseEvaluation, EvaluationSettings, evaluate_case
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3, size_name
from nnunet_rw.evaluation.metrics.lesions import in_size
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.evaluation.units import length_unit, raised, size_unit
from nnunet_rw.pictures.overlays import LABELS_FILE, class_names, label_descriptions, write_case_overlays
from nnunet_rw.pictures.panels import (
    Picture,
    Wanted,
    close_up,
    draw_panel,
    extent_mm,
    new_figure,
    save,
    take_pictures,
    within,
)
from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.parallel import list_in_processes


@dataclass(frozen=True)
class Missed:
    """A missed lesion: index of its case, its id, its size in mm3 (mm2 in two dimensions)."""

    case: int
    lesion: int
    volume_mm3: float


@dataclass(frozen=True)
class MissedOfSize:
    """The missed lesions of one size class, pooled over cases: how many, and some to look at.

    Attributes
    ----------
    low, high : float
        A lesion of volume v belongs here if low <= v < high.
    num_lesions, num_missed : int
        Counted lesions, and those of them that share no voxel with the prediction.
    examples : tuple of Missed
        From the largest to the smallest.
    """

    low: float
    high: float
    num_lesions: int
    num_missed: int
    examples: tuple[Missed, ...]


def worst_cases(evaluations: Sequence[CaseEvaluation], position: int, number: int) -> list[int]:
    """Indices of the cases of lowest Dice in the class at a position, the worst first.

    Of equal Dice, as among cases without any true positive, the one with more wrong voxels is worse. Cases without
    reference and prediction have no Dice and are left out: nothing is wrong with them.
    """
    counts = [case.classes[position].overlap for case in evaluations]
    defined = [index for index, count in enumerate(counts) if not math.isnan(count.dice)]
    return sorted(defined, key=lambda index: (counts[index].dice, -counts[index].fp - counts[index].fn))[:number]


def missed_by_size(
    evaluations: Sequence[CaseEvaluation],
    position: int,
    examples: int = 6,
    edges: Sequence[float] = DEFAULT_EDGES_MM3,
) -> list[MissedOfSize]:
    """Missed lesions of the class at a position, in size classes.

    Examples are spread evenly over the missed lesions in the order of their size, the largest always among them, so
    that they show what is usual in the class.
    """
    found = [case.classes[position].matches.reference for case in evaluations]
    case = np.repeat(np.arange(len(found)), [len(lesions) for lesions in found])
    lesion = np.concatenate([np.arange(len(lesions)) + 1 for lesions in found])
    volume, counted, missed = (
        np.concatenate([getattr(lesions, name) for lesions in found]) for name in ("volume_mm3", "counted", "missed")
    )
    classes = []
    for low, high in pairwise(edges):
        inside = counted & in_size(volume, low, high)
        chosen = np.flatnonzero(inside & missed)
        chosen = chosen[np.argsort(-volume[chosen], kind="stable")]
        shown = np.unique(np.linspace(0, len(chosen) - 1, min(examples, len(chosen))).round().astype(int))
        items = tuple(Missed(int(case[i]), int(lesion[i]), float(volume[i])) for i in chosen[shown])
        classes.append(MissedOfSize(low, high, int(inside.sum()), len(chosen), items))
    return classes


# Of a row; above its pictures stand two lines.
_WIDTH_INCHES, _TEXT_INCHES = 12.0, 0.45


def draw_worst_cases(shown: Sequence[tuple[Picture, str]], path: str | Path, title: str = "") -> None:
    """Write a PNG: of each case the slice, alone and with the overlay; where no case has an image, the overlay alone.

    Parameters
    ----------
    shown : sequence of (Picture, str)
        Cases and what to write above them. With none the PNG says so.
    path : path
        Of the PNG.
    title : str
    """
    pictures = [picture for picture, _ in shown]
    # Pairs of a picture without and with overlay, or single ones.
    per_case, per_row = (2, 2) if any(picture.image is not None for picture in pictures) else (1, 3)
    width = _WIDTH_INCHES / per_row / per_case
    columns, rows = min(len(shown), per_row) or 1, math.ceil(len(shown) / per_row) or 1
    figure, axes = new_figure([width + _TEXT_INCHES] * rows, columns * per_case, width, title)
    if not shown:
        axes[0, 0].text(0.5, 0.5, "No case has a lesion or a false positive.", ha="center", va="center", fontsize=12)
    for number, (picture, text) in enumerate(shown):
        row, column = divmod(number, columns)
        panels = axes[row, column * per_case : (column + 1) * per_case]
        window = within(close_up(picture.codes > 0, picture.pixel_mm, _width_mm(picture)), picture.codes.shape)
        for panel, overlay in zip(reversed(panels), (True, False), strict=False):
            draw_panel(panel, picture, window, overlay)
        panels[0].set_title(text, fontsize=10, loc="left")
    save(figure, path, pictures)


def case_title(evaluation: CaseEvaluation, position: int, picture: Picture, name: str | None = None) -> str:
    """Name, slice, Dice, recall and false positives of a case, in the class at a position.

    Another name may stand for its own.
    """
    found = evaluation.classes[position]
    lesions, predicted = found.matches.reference, found.matches.predicted
    number, hit, false = (int(mask.sum()) for mask in (lesions.counted, lesions.hit, predicted.false_positive))
    place = "" if picture.index is None else f", slice {picture.index}"
    recall = f"recall {hit / number:.2f} ({hit} of {number})" if number else "no lesion"
    wrong = f"{false} false positive{'' if false == 1 else 's'}"
    return f"{name or evaluation.files.case}{place}\nDice {found.overlap.dice:.2f}, {recall}, {wrong}"


def _width_mm(picture: Picture) -> float:
    """All that the overlay shows with a margin, at least half the picture, at most all of it."""
    whole = max(size * step for size, step in zip(picture.codes.shape, picture.pixel_mm, strict=True))
    return min(whole, max(whole / 2, 1.3 * extent_mm(picture.codes > 0, picture.pixel_mm)))


_MISSED_INCHES, _HEIGHT_INCHES, _EMPTY_INCHES = 1.9, 2.2, 0.8
_LEAST_PIXELS = 24


def draw_missed_lesions(
    sizes: Sequence[MissedOfSize],
    pictures: Sequence[Sequence[tuple[Picture, str]]],
    path: str | Path,
    title: str = "",
    unit: str = "mm³",
) -> None:
    """Write a PNG: a row a size class, from the smallest, with examples of its missed lesions to one scale.

    Parameters
    ----------
    sizes : sequence of MissedOfSize
        Classes without any lesion are left out.
    pictures : sequence of sequences of (Picture, str)
        Of each size class: its examples and what to write above them.
    path : path
        Of the PNG.
    title, unit : str
        The unit is that of the sizes.
    """
    rows = [(size, list(shown)) for size, shown in zip(sizes, pictures, strict=True) if size.num_lesions]
    columns = 1 + max([1, *(len(shown) for _, shown in rows)])
    heights = [_HEIGHT_INCHES if shown else _EMPTY_INCHES for _, shown in rows]
    figure, axes = new_figure(heights or [_EMPTY_INCHES], columns, _MISSED_INCHES, title)
    if not rows:
        axes[0, 0].text(0, 0.5, "No case has a lesion.", va="center", fontsize=12)
    for (label, *panels), (size, shown) in zip(axes, rows, strict=False):
        width_mm = _lesion_width_mm([picture for picture, _ in shown])
        scale = f"\n\npictures {width_mm:.3g} {length_unit(unit)} wide" if shown else ""
        label.text(
            0,
            0.5,
            f"{size_name(size.low, size.high, unit)}\n{size.num_missed} of {size.num_lesions} missed{scale}",
            va="center",
        )
        for panel, (picture, text) in zip(panels, shown, strict=False):
            mask = picture.codes > 0 if picture.lesion is None else picture.lesion
            draw_panel(panel, picture, close_up(mask, picture.pixel_mm, width_mm))
            panel.set_title(text, fontsize=9)
    save(figure, path, [picture for _, shown in rows for picture, _ in shown])


def _lesion_width_mm(pictures: Sequence[Picture]) -> float:
    """Twice the largest lesion, at least some pixels."""
    return max(
        [
            0.0,
            *(
                max(2 * extent_mm(picture.lesion, picture.pixel_mm), _LEAST_PIXELS * max(picture.pixel_mm))
                for picture in pictures
                if picture.lesion is not None
            ),
        ]
    )


# What begins the name of a file of the gallery, and what the file shows; the class follows.
WORST_CASES, MISSED_LESIONS = "worst_cases_", "missed_lesions_"
SHOWN = {WORST_CASES: "Cases of lowest Dice", MISSED_LESIONS: "Missed lesions by size"}


def write_gallery(
    source: Source,
    settings: EvaluationSettings,
    evaluations: Sequence[CaseEvaluation],
    folder: str | Path,
    worst: int = 6,
    processes: int | None = None,
    show_case_ids: bool = True,
) -> list[Path]:
    """Write ``worst_cases_<class>.png`` and ``missed_lesions_<class>.png`` for every class.

    Pictures show the first channel of the source's images; where a case has none, the same on a dark ground. Volumes
    are sliced along the axis of coarsest spacing. The worst cases show the slice with most wrong voxels, missed lesions
    the one that holds most of the lesion, which is in the middle.

    Parameters
    ----------
    source, settings
        What was evaluated, and how.
    evaluations : sequence of CaseEvaluation
        Of all cases of the source, in its order.
    folder : path
        Made where there is none; files of the same name are replaced.
    worst : int
        Number of cases; with 0 that figure is left out.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.
    show_case_ids : bool
        Without it cases are called "case 1" and so on, in the order of their names.

    Returns
    -------
    list of Path

    Raises
    ------
    ValueError
        A file cannot be read or does not fit.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = class_names(source.dataset_json, source.labels.foreground)
    titles = _case_titles(source, show_case_ids)
    cases, lesions, wanted = [], [], []
    for position in range(len(names)):
        cases.append([Wanted(case, position) for case in worst_cases(evaluations, position, worst)])
        lesions.append(missed_by_size(evaluations, position))
        wanted += cases[-1] + [item for size in lesions[-1] for item in _wanted(size, position)]
    pictures = take_pictures(source, settings, wanted, processes)
    unit = raised(size_unit(evaluation.spacing_mm for evaluation in evaluations))
    written = []
    for position, name in enumerate(names):
        if worst:
            path = folder / f"{WORST_CASES}{name}.png"
            shown = [
                (pictures[item], case_title(evaluations[item.case], position, pictures[item], titles[item.case]))
                for item in cases[position]
            ]
            draw_worst_cases(shown, path, f"{source.name}: cases of lowest Dice, class {name}")
            written.append(path)
        path = folder / f"{MISSED_LESIONS}{name}.png"
        examples = [
            [
                (pictures[item], f"{_short(titles[item.case])}\n{_size(lesion.volume_mm3)} {unit}")
                for item, lesion in zip(_wanted(size, position), size.examples, strict=True)
            ]
            for size in lesions[position]
        ]
        draw_missed_lesions(lesions[position], examples, path, f"{source.name}: missed lesions, class {name}", unit)
        written.append(path)
    return written


def _case_titles(source: Source, show_case_ids: bool) -> list[str]:
    names = [files.case for files in source.cases]
    if show_case_ids:
        return names
    place = {name: number for number, name in enumerate(sorted(names), start=1)}
    return [f"case {place[name]}" for name in names]


def _wanted(size: MissedOfSize, position: int) -> list[Wanted]:
    return [Wanted(lesion.case, position, lesion.lesion) for lesion in size.examples]


def _size(volume: float) -> str:
    return f"{volume:.0f}" if volume >= 10 else f"{volume:.2g}"


def _short(name: str, most: int = 22) -> str:
    """Its end, where names differ."""
    return name if len(name) <= most else f"…{name[1 - most :]}"


OVERLAYS_FOLDER = "overlays"


def overlay_evaluation(
    source: Source,
    settings: EvaluationSettings,
    folder: str | Path,
    worst: int = 6,
    nifti: bool = True,
    processes: int | None = None,
) -> list[Path]:
    """Write the gallery to a folder, and overlays for a viewer to its folder ``overlays``.

    Parameters
    ----------
    source : Source
        With images, if they are to be shown. Its probabilities are not read.
    settings : EvaluationSettings
        No distances are computed, whatever ``fast`` says.
    folder : path
        Made where there is none; files of the same name are replaced.
    worst : int
        Number of cases in the gallery of the worst; with 0 there is none.
    nifti : bool
        Write the overlays.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Returns
    -------
    list of Path
        What was written: PNGs, then ``labels.txt`` and the NIfTI files.

    Raises
    ------
    ValueError
        ``worst`` is negative, or a file cannot be evaluated; the message names it and says why.
    """
    if worst < 0:
        raise ValueError(f"Expected 0 or more worst cases, but got {worst}.")
    folder = Path(folder)
    overlays = folder / OVERLAYS_FOLDER if nifti else None
    if overlays:
        write_atomically(overlays / LABELS_FILE, label_descriptions().encode())
    reader, labels = source.reader, source.labels
    names = class_names(source.dataset_json, labels.foreground)
    tasks = [(files, reader, labels, names, replace(settings, fast=True), overlays) for files in source.cases]
    done = list_in_processes(_evaluate_and_write, tasks, "Overlays" if nifti else "Evaluating", processes)
    evaluations = [evaluation for evaluation, _ in done]
    pictures = write_gallery(source, settings, evaluations, folder, worst, processes)
    if overlays is None:
        return pictures
    return [*pictures, overlays / LABELS_FILE, *(path for _, written in done for path in written)]


def _evaluate_and_write(
    files: CaseFiles,
    reader: BaseReaderWriter,
    labels: Labels,
    names: list[str],
    settings: EvaluationSettings,
    overlays: Path | None,
) -> tuple[CaseEvaluation, list[Path]]:
    """In one process, because starting one takes longer than a case does."""
    plain = replace(files, probabilities=None, images=())
    written = write_case_overlays(plain, reader, labels, names, settings, overlays) if overlays else []
    return evaluate_case(plain, reader, labels, settings), written
