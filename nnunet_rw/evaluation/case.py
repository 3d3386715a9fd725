"""Everything that is measured of one case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter

from nnunet_rw.datasets.folders import Label, Labels
from nnunet_rw.evaluation.metrics.lesions import LesionMatches, match_lesions
from nnunet_rw.evaluation.metrics.overlap import Overlap, VolumeBias, overlap, total_lesion_intensity, volume_bias
from nnunet_rw.evaluation.metrics.probabilities import (
    CANDIDATE_THRESHOLD,
    ProbabilityCounts,
    candidates,
    count_probabilities,
)
from nnunet_rw.evaluation.metrics.rules import RuleCase, rule_case
from nnunet_rw.evaluation.metrics.surface import SurfaceMetrics, surface_metrics
from nnunet_rw.evaluation.protocols import protocol_scores
from nnunet_rw.evaluation.reading import Case, read_case
from nnunet_rw.evaluation.sources import CaseFiles
from nnunet_rw.maps.arrays import diagonal
from nnunet_rw.util.files import fingerprint


@dataclass(frozen=True)
class EvaluationSettings:
    """What an evaluation depends on; two are comparable if these are equal.

    Attributes
    ----------
    connectivity : int
        Of lesions: 6, 18 or 26.
    min_volume_mm3 : float
        Smaller reference lesions are ignored, neither hit nor missed.
    tolerance_mm : float
        Of the normalised surface distance.
    fast : bool
        Leave out all distances, but those that belong to the scores.
    scores : tuple of str
        Of `nnunet_rw.evaluation.protocols.PROTOCOLS`, computed beside all else.
    """

    connectivity: int = 26
    min_volume_mm3: float = 0.0
    tolerance_mm: float = 1.0
    fast: bool = False
    scores: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassEvaluation:
    """One class, or region, of one case. What was not asked for is None.

    Attributes
    ----------
    label : str
        As nnU-Net writes it: "1" or "(1, 2)".
    candidates : LesionMatches or None
        Of the components at a low probability, for FROC.
    ruled : RuleCase or None
        Segmented anew by many rules on the probability.
    intensity : (float, float) or None
        Volume x mean intensity of reference and prediction.
    probability : ProbabilityCounts or None
        Voxels by the probability of this class.
    scores : dict of str to float
        By column, of the protocols that were asked for.
    """

    label: str
    overlap: Overlap
    surface: SurfaceMetrics | None
    volume: VolumeBias
    matches: LesionMatches
    candidates: LesionMatches | None
    ruled: RuleCase | None
    intensity: tuple[float, float] | None
    probability: ProbabilityCounts | None
    scores: dict[str, float]


@dataclass(frozen=True)
class CaseEvaluation:
    """One case.

    Attributes
    ----------
    fingerprints : dict of str to dict
        By kind of file (`CaseFiles.read`), taken before it was read.
    diagonal_mm : float
        Of the image: the penalty for a distance to nothing.
    spacing_mm : tuple of float
        Per array axis.
    """

    files: CaseFiles
    fingerprints: dict[str, dict[str, int | str]]
    diagonal_mm: float
    spacing_mm: tuple[float, ...]
    classes: tuple[ClassEvaluation, ...]


def evaluate_case(
    files: CaseFiles, reader: BaseReaderWriter, labels: Labels, settings: EvaluationSettings
) -> CaseEvaluation:
    """Read a case and measure all its classes.

    Raises
    ------
    ValueError
        See `nnunet_rw.evaluation.reading.read_case`; or a setting is impossible, or the image is non-finite in a mask.
    """
    fingerprints = {kind: fingerprint(path) for kind, path in files.read.items()}
    case = read_case(files, reader, labels.known, labels.num_channels)
    known = None if labels.ignore is None else case.reference != labels.ignore
    try:
        classes = [
            _evaluate_class(case, label, channel, known, settings)
            for label, channel in zip(labels.foreground, labels.channels, strict=True)
        ]
    except ValueError as error:
        raise ValueError(f"Case '{files.case}': {error}") from error
    diagonal_mm = diagonal(case.reference.shape, case.spacing_mm)
    return CaseEvaluation(files, fingerprints, diagonal_mm, case.spacing_mm, tuple(classes))


def _evaluate_class(
    case: Case, label: Label, channel: int, known: np.ndarray | None, settings: EvaluationSettings
) -> ClassEvaluation:
    reference, prediction = (_mask(labels, label, known) for labels in (case.reference, case.prediction))
    spacing = case.spacing_mm
    of_lesions: dict[str, Any] = {
        "spacing_mm": spacing,
        "connectivity": settings.connectivity,
        "min_volume_mm3": settings.min_volume_mm3,
        "known": known,
    }
    match: Callable[..., LesionMatches] = partial(match_lesions, **of_lesions)
    score = None if case.probabilities is None else case.probabilities[channel].astype(np.float32)
    found = ruled = None
    if score is not None:
        found = match(reference, candidates(score, CANDIDATE_THRESHOLD), score=score)
        ruled = rule_case(reference, score, **of_lesions)
    intensity = None
    if case.image is not None:
        intensity = (
            total_lesion_intensity(case.image, reference, spacing),
            total_lesion_intensity(case.image, prediction, spacing),
        )
    return ClassEvaluation(
        label=str(label),
        overlap=overlap(reference, prediction, known),
        surface=None if settings.fast else surface_metrics(reference, prediction, spacing, settings.tolerance_mm),
        volume=volume_bias(reference, prediction, spacing),
        matches=match(reference, prediction, score=score, distances=not settings.fast),
        candidates=found,
        ruled=ruled,
        intensity=intensity,
        probability=None if score is None else count_probabilities(reference, score, known),
        scores=protocol_scores(settings.scores, reference, prediction, spacing, settings.tolerance_mm),
    )


def _mask(values: np.ndarray, label: Label, known: np.ndarray | None) -> np.ndarray:
    mask = np.isin(values, label) if isinstance(label, tuple) else values == label
    return mask if known is None else mask & known
