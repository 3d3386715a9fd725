"""Overlays of an evaluation for a viewer: NIfTI files on the reference's grid, and their colours for ITK-SNAP."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.evaluation.case_evaluation import EvaluationSettings
from nnunet_rw.evaluation.labels import Labels
from nnunet_rw.evaluation.reading import read_case
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.files import write_atomically
from nnunet_rw.parallel import list_in_processes
from nnunet_rw.report.overlay_codes import COLOURS, MEANINGS, case_codes, class_names

LABELS_FILE = "labels.txt"
_ENDING = ".nii.gz"


def write_overlays(
    source: Source,
    settings: EvaluationSettings,
    folder: str | Path,
    cases: Collection[str] | None = None,
    processes: int | None = None,
) -> list[Path]:
    """Write ``<case>_<class>.nii.gz`` for every case and class, and ``labels.txt`` with the colours of the codes.

    One file a class, not one for all: regions overlap, and a voxel of one class that is predicted as another is missed
    in the one and false in the other. The codes are those of `nnunet_rw.report.overlay_codes.Code` in every file, so
    one ``labels.txt`` fits all; in ITK-SNAP load it under Segmentation, Import Label Descriptions.

    Parameters
    ----------
    source : Source
        Its probabilities and images are not read.
    settings : EvaluationSettings
    folder : path
        Made where there is none; files of the same name are replaced.
    cases : collection of str, optional
        Names of those to be written. Default: all.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Returns
    -------
    list of Path
        ``labels.txt`` first, then as the source orders its cases and labels.

    Raises
    ------
    ValueError
        A file cannot be evaluated, or the source has no such case.
    """
    folder = Path(folder)
    unknown = sorted(set(cases or ()) - {files.case for files in source.cases})
    if unknown:
        raise ValueError(f"No case {unknown[0]!r} in {source.name}.")
    write_atomically(folder / LABELS_FILE, label_descriptions().encode())
    reader, labels = source.reader, source.labels
    names = class_names(source.dataset_json, labels.foreground)
    tasks = [
        (files, reader, labels, names, settings, folder)
        for files in source.cases
        if cases is None or files.case in cases
    ]
    written = list_in_processes(write_case_overlays, tasks, "Overlays", processes)
    return [folder / LABELS_FILE, *(path for of_case in written for path in of_case)]


def label_descriptions() -> str:
    """The codes, colours and meanings as ITK-SNAP's label description file."""
    rows = [
        '    0     0    0    0        0  0  0    "Clear Label"',
        *(
            f'{code.value:5d} {red:5d} {green:4d} {blue:4d}        1  1  1    "{MEANINGS[code]}"'
            for code, (red, green, blue) in COLOURS.items()
        ),
    ]
    header = [
        "# ITK-SnAP Label Description File",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        "# number, colour (0..255), opacity (0..1), visible in slices, visible in 3D, meaning",
    ]
    return "\n".join([*header, *rows]) + "\n"


def write_case_overlays(
    files: CaseFiles,
    reader: BaseReaderWriter,
    labels: Labels,
    names: list[str],
    settings: EvaluationSettings,
    folder: Path,
) -> list[Path]:
    """Write the overlays of one case to a folder that is there; see `write_overlays`.

    Parameters
    ----------
    names : list of str
        Of the classes, for the file names.
    """
    plain = CaseFiles(files.case, files.reference, files.prediction)
    case = read_case(plain, reader, labels.known, labels.num_channels)
    _, properties = reader.read_seg(str(files.reference))
    written = []
    for label, name in zip(labels.foreground, names, strict=True):
        path = folder / f"{files.case}_{name}{_ENDING}"
        temporary = path.with_name(f".{os.getpid()}_{path.name}")
        try:
            _write(case_codes(case, label, labels.ignore, settings), reader, properties, temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        written.append(path)
    return written


def _write(codes: np.ndarray, reader: BaseReaderWriter, properties: dict[str, Any], path: Path) -> None:
    if _ENDING in reader.supported_file_endings:
        # Images of two dimensions have three axes to nnU-Net.
        reader.write_seg(codes if codes.ndim == 3 else codes[None], str(path), properties)
        return
    image = sitk.GetImageFromArray(codes)
    image.SetSpacing([float(step) for step in reversed(properties["spacing"][-codes.ndim :])])
    sitk.WriteImage(image, str(path), True)
