"""A gallery of what went wrong: the worst cases, and the missed lesions by size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_rw.evaluation.case_evaluation import CaseEvaluation, EvaluationSettings
from nnunet_rw.evaluation.sources import Source
from nnunet_rw.report.gallery_choice import MissedOfSize, missed_by_size, worst_cases
from nnunet_rw.report.missed_lesions_figure import draw_missed_lesions
from nnunet_rw.report.overlay_codes import class_names
from nnunet_rw.report.pictures import Wanted, take_pictures
from nnunet_rw.report.worst_cases_figure import case_title, draw_worst_cases


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
    written = []
    for position, name in enumerate(names):
        if worst:
            path = folder / f"worst_cases_{name}.png"
            shown = [
                (pictures[item], case_title(evaluations[item.case], position, pictures[item], titles[item.case]))
                for item in cases[position]
            ]
            draw_worst_cases(shown, path, f"{source.name}: cases of lowest Dice, class {name}")
            written.append(path)
        path = folder / f"missed_lesions_{name}.png"
        unit = "mm²" if evaluations[0].classes[position].matches.reference.centroid_mm.shape[1] == 2 else "mm³"
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
