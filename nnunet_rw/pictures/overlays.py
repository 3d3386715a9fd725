"""What a prediction did to every voxel, as codes, colours and NIfTI files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.datasets.folders import Label, Labels, label_names
from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.reading import Case, read_case
from nnunet_rw.evaluation.sources import CaseFiles
from nnunet_rw.maps.arrays import as_connectivity, connected_components, foreground_box
from nnunet_rw.util.files import replaced_whole


class Code(IntEnum):
    """The values of an overlay. 0 is everything else."""

    FOUND = 1
    UNPREDICTED = 2
    MISSED = 3
    EXCESS = 4
    FALSE_POSITIVE = 5
    NOT_COUNTED = 6


MEANINGS = {
    Code.FOUND: "Found lesion, predicted",
    Code.UNPREDICTED: "Found lesion, not predicted",
    Code.MISSED: "Missed lesion",
    Code.EXCESS: "Predicted beyond a found lesion",
    Code.FALSE_POSITIVE: "False positive lesion",
    Code.NOT_COUNTED: "Not counted",
}
# Okabe and Ito's, told apart by the colour-blind: green is right, warm is lacking, cold is too much.
COLOURS = {
    Code.FOUND: (0, 158, 115),
    Code.UNPREDICTED: (230, 159, 0),
    Code.MISSED: (213, 94, 0),
    Code.EXCESS: (86, 180, 233),
    Code.FALSE_POSITIVE: (0, 114, 178),
    Code.NOT_COUNTED: (153, 153, 153),
}


def case_codes(case: Case, label: Label, ignore: int | None, settings: EvaluationSettings) -> np.ndarray:
    """The codes of one class or region of a case; see `overlay_codes`."""
    known = None if ignore is None else case.reference != ignore
    reference, prediction = (np.isin(values, label) for values in (case.reference, case.prediction))
    return overlay_codes(reference, prediction, case.spacing_mm, settings.connectivity, settings.min_volume_mm3, known)


def overlay_codes(
    reference: np.ndarray,
    prediction: np.ndarray,
    spacing_mm: Sequence[float],
    connectivity: int = 26,
    min_volume_mm3: float = 0.0,
    known: np.ndarray | None = None,
) -> np.ndarray:
    """What the prediction did to every voxel, by the rule "any overlap".

    Voxels of a reference lesion that shares a voxel with the prediction are 1 where they are predicted and 2 where they
    are not; those of one that shares none are 3. Predicted voxels outside of the reference are 4 if their lesion shares
    a voxel with a counted reference lesion, 5 if it shares none with any. What is neither right nor wrong is 6:
    reference lesions below the minimum volume, whether predicted or not, predicted lesions that touch these alone, and
    predicted voxels where the reference says nothing.

    Parameters
    ----------
    reference, prediction : boolean array (X, Y[, Z])
        One class of each; either may be empty.
    spacing_mm, connectivity, min_volume_mm3, known
        As for `nnunet_rw.evaluation.metrics.lesions.match_lesions`, which decides.

    Returns
    -------
    uint8 array (X, Y[, Z])
        See `Code`.

    Raises
    ------
    ValueError
        As `match_lesions` does.
    """
    matches = match_lesions(reference, prediction, spacing_mm, connectivity, min_volume_mm3, known)
    codes = np.zeros(reference.shape, np.uint8)
    if known is not None:
        codes[prediction & ~known] = Code.NOT_COUNTED
        reference, prediction = reference & known, prediction & known
    box = foreground_box(reference | prediction)
    if box is None:
        return codes
    inside, reference, prediction = codes[box], reference[box], prediction[box]
    found, true = matches.predicted, matches.reference
    of_found = _by_id(found.hit, Code.EXCESS, found.false_positive, Code.FALSE_POSITIVE)
    of_true = _by_id(true.hit, Code.UNPREDICTED, true.missed, Code.MISSED)
    inside[prediction] = of_found[lesion_ids(prediction, connectivity)[prediction]]
    inside[reference] = of_true[lesion_ids(reference, connectivity)[reference]]
    inside[prediction & (inside == Code.UNPREDICTED)] = Code.FOUND
    return codes


def lesion_ids(mask: np.ndarray, connectivity: int) -> np.ndarray:
    """Ids of a mask's lesions as `match_lesions` counts them, index + 1; 0 elsewhere. (X, Y[, Z]) as the mask."""
    return connected_components(mask.view(np.uint8), as_connectivity(connectivity, mask.ndim))


def class_names(dataset_json: Mapping[str, Any], labels: Sequence[Label]) -> list[str]:
    """Names of classes or regions by the dataset.json, made fit for file names.

    Names that a file system might take for the same are told apart by their labels.
    """
    given = label_names(dataset_json)
    names = [re.sub(r"[^\w.-]+", "_", str(given[label])) for label in labels]
    if len({name.casefold() for name in names}) == len(names):
        return names
    numbers = ("_".join(map(str, label)) if isinstance(label, tuple) else str(label) for label in labels)
    return [f"{name}_{number}" for name, number in zip(names, numbers, strict=True)]


def _by_id(first: np.ndarray, first_code: Code, second: np.ndarray, second_code: Code) -> np.ndarray:
    """Code of every lesion id, that of the background first."""
    codes = np.select([first, second], [first_code, second_code], Code.NOT_COUNTED)
    return np.concatenate([[0], codes]).astype(np.uint8)


LABELS_FILE = "labels.txt"
_ENDING = ".nii.gz"


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
    """Write ``<case>_<class>.nii.gz`` for every class to a folder that is there, and return their paths.

    One file per class, because regions overlap, and a voxel of one class that is predicted as another is missed in the
    one and false in the other. The codes are those of `Code` in every file, so that one `LABELS_FILE` fits all; in
    ITK-SNAP load it under Segmentation, Import Label Descriptions.

    Parameters
    ----------
    files : CaseFiles
        Probabilities and images are not read.
    names : list of str
        Of the classes, for the file names.

    Raises
    ------
    ValueError
        A file cannot be evaluated.
    """
    plain = replace(files, probabilities=None, images=())
    case = read_case(plain, reader, labels.known, labels.num_channels)
    written = []
    for label, name in zip(labels.foreground, names, strict=True):
        path = folder / f"{files.case}_{name}{_ENDING}"
        with replaced_whole(path, _ENDING) as temporary:
            _write(case_codes(case, label, labels.ignore, settings), reader, case.properties, temporary)
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
