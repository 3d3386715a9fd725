"""What the choice of a threshold needs of each case."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.evaluation.labels import Label, Labels
from nnunet_rw.evaluation.lesions import match_lesions
from nnunet_rw.evaluation.overlap import overlap
from nnunet_rw.evaluation.reading import read_case
from nnunet_rw.evaluation.thresholds import ThresholdedCase, threshold_case
from nnunet_rw.predictions.folds import PairedCase


@dataclass(frozen=True)
class Segmented:
    """One segmentation of one class of one case.

    Attributes
    ----------
    found : boolean (L,)
        Counted reference lesions, by any overlap.
    false_positives : int
    dice : float
        NaN where both masks are empty.
    """

    found: np.ndarray
    false_positives: int
    dice: float


@dataclass(frozen=True)
class ComparedCase:
    """A case at every threshold, and as the baseline segments it.

    Attributes
    ----------
    case : str
    fold : str
        Its threshold is chosen on the cases of other folds alone.
    curve : ThresholdedCase
    baseline : Segmented or None
    """

    case: str
    fold: str
    curve: ThresholdedCase
    baseline: Segmented | None

    def at(self, position: int) -> Segmented:
        """As segmented at one of `nnunet_rw.evaluation.thresholds.THRESHOLDS`."""
        curve = self.curve
        return Segmented(curve.found[position], int(curve.false_positives[position]), float(curve.dice[position]))


def compare_case(
    case: PairedCase,
    reader: BaseReaderWriter,
    labels: Labels,
    label: Label,
    connectivity: int,
    min_volume_mm3: float,
) -> ComparedCase:
    """Read a case of one model, with probabilities, and of the baseline where there is a second.

    Raises
    ------
    ValueError
        See `nnunet_rw.evaluation.reading.read_case`; or models have different references.
    """
    model, *others = [read_case(files, reader, labels.known, labels.num_channels) for files in case.files]
    if model.probabilities is None:
        raise ValueError(f"Expected the probabilities of case '{case.case}', but got a prediction without them.")
    known = None if labels.ignore is None else model.reference != labels.ignore
    reference = np.isin(model.reference, label)
    channel = labels.channels[labels.foreground.index(label)]
    baseline = None
    if others:
        (other,) = others
        if not np.array_equal(other.reference, model.reference):
            first, second = (files.reference for files in case.files)
            raise ValueError(f"Expected {second} and {first} to be equal, but they differ.")
        prediction = np.isin(other.prediction, label)
        matches = match_lesions(reference, prediction, model.spacing_mm, connectivity, min_volume_mm3, known)
        baseline = Segmented(
            matches.reference.hit[matches.reference.counted],
            int(matches.predicted.false_positive.sum()),
            overlap(reference, prediction, known).dice,
        )
    curve = threshold_case(
        reference, model.probabilities[channel], model.spacing_mm, connectivity, min_volume_mm3, known
    )
    return ComparedCase(case.case, case.fold, curve, baseline)
