"""Everything to look at after an evaluation, in one call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.evaluation.case_evaluation import CaseEvaluation, EvaluationSettings, evaluate_case
from nnunet_rw.evaluation.labels import Labels
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.files import write_atomically
from nnunet_rw.parallel import list_in_processes
from nnunet_rw.report.gallery import write_gallery
from nnunet_rw.report.overlay_codes import class_names
from nnunet_rw.report.overlays import LABELS_FILE, label_descriptions, write_case_overlays

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
