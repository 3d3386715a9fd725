"""Slices of cases to be drawn, taken in processes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.evaluation.case_evaluation import EvaluationSettings
from nnunet_rw.evaluation.labels import Labels
from nnunet_rw.evaluation.reading import Case, read_case
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.parallel import in_processes
from nnunet_rw.report.orientation import View, view_of
from nnunet_rw.report.overlay_codes import Code, case_codes, lesion_ids


class Wanted(NamedTuple):
    """What to show: a case and class, by their index in the source, and a reference lesion by its id.

    Without a lesion it is the slice with most error that is shown.
    """

    case: int
    label: int
    lesion: int | None = None


@dataclass(frozen=True)
class Picture:
    """One slice; a view's rows and columns.

    Attributes
    ----------
    image : float32 array (rows, columns) or None
        From 0, dark, to 1, bright: the first and the 99.5th percentile of the volume.
    codes : uint8 array (rows, columns)
        See `nnunet_rw.report.overlay_codes.Code`.
    pixel_mm : (float, float)
        Height and width of a pixel.
    index : int, optional
        Of the slice, from 0; None in two dimensions.
    lesion : boolean array (rows, columns) or None
        The one that was wanted.
    """

    image: np.ndarray | None
    codes: np.ndarray
    pixel_mm: tuple[float, float]
    index: int | None
    lesion: np.ndarray | None = None


def take_pictures(
    source: Source, settings: EvaluationSettings, wanted: Iterable[Wanted], processes: int | None = None
) -> dict[Wanted, Picture]:
    """Take all pictures, reading each case once.

    Parameters
    ----------
    source : Source
        Of its images the first channel is shown, where it has any.
    settings : EvaluationSettings
        As of the evaluation that numbered the lesions.
    wanted : iterable of Wanted
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Raises
    ------
    ValueError
        A file cannot be read or does not fit.
    """
    by_case: dict[int, list[Wanted]] = {}
    for item in dict.fromkeys(wanted):
        by_case.setdefault(item.case, []).append(item)
    reader, labels = source.reader, source.labels
    tasks = [(source.cases[case], reader, labels, settings, items) for case, items in by_case.items()]
    pictures: dict[Wanted, Picture] = {}
    if tasks:
        for _, taken in in_processes(_pictures_of_case, tasks, "Pictures", processes):
            pictures.update(taken)
    return pictures


def _pictures_of_case(
    files: CaseFiles, reader: BaseReaderWriter, labels: Labels, settings: EvaluationSettings, wanted: list[Wanted]
) -> dict[Wanted, Picture]:
    needed = CaseFiles(files.case, files.reference, files.prediction, images=files.images)
    case = read_case(needed, reader, labels.known, labels.num_channels)
    properties: dict[str, Any] = reader.read_seg(str(files.reference))[1]
    view = view_of(case.spacing_mm, properties)
    codes = {
        position: case_codes(case, labels.foreground[position], labels.ignore, settings)
        for position in {item.label for item in wanted}
    }
    pictures = {}
    for item in wanted:
        lesion = None
        if item.lesion is not None:
            known = True if labels.ignore is None else case.reference != labels.ignore
            mask = np.isin(case.reference, labels.foreground[item.label]) & known
            lesion = lesion_ids(mask, settings.connectivity) == item.lesion
        pictures[item] = _picture(case, codes[item.label], lesion, view)
    return pictures


def _picture(case: Case, codes: np.ndarray, lesion: np.ndarray | None, view: View) -> Picture:
    index = _fullest(view, [lesion] if lesion is not None else [_error(codes), codes > 0])
    image = None
    if case.image is not None:
        low, high = np.nanpercentile(case.image, (1, 99.5))
        shown = np.nan_to_num(view.picture(case.image, index).astype(np.float32))
        image = np.clip((shown - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    return Picture(
        image=image,
        codes=view.picture(codes, index).copy(),
        pixel_mm=view.pixel_mm(case.spacing_mm),
        index=None if view.axis is None else index,
        lesion=None if lesion is None else view.picture(lesion, index).copy(),
    )


def _error(codes: np.ndarray) -> np.ndarray:
    return np.isin(codes, (Code.UNPREDICTED, Code.MISSED, Code.EXCESS, Code.FALSE_POSITIVE))


def _fullest(view: View, masks: list[np.ndarray]) -> int:
    """The slice with most voxels of the first mask that has any, the middle where none has."""
    counts = [view.counts(mask) for mask in masks]
    return next((int(count.argmax()) for count in counts if count.any()), len(counts[0]) // 2)
