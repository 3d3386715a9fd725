"""Predictions of several models averaged as nnU-Net's own ensembling does, and cleaned of small components."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.datasets.folders import Label, label_values, labels_of
from nnunet_rw.evaluation.metrics.lesions import ROUNDING, LesionMatches
from nnunet_rw.evaluation.metrics.rules import kept_components
from nnunet_rw.evaluation.reading import without_slice_axis
from nnunet_rw.maps.arrays import as_connectivity, as_spacing
from nnunet_rw.postprocessing.ensemble.weights import EnsembleWeights, channel_names
from nnunet_rw.postprocessing.predictions import (
    open_folders,
    probabilities_of,
    properties_of,
    segment_folders,
    to_segmentation,
    write_segmentation,
)
from nnunet_rw.util.files import write_atomically


@dataclass(frozen=True)
class Scores:
    """One class of one case; lesions are found by any overlap.

    Attributes
    ----------
    dice : float
        NaN where neither side has a voxel.
    n_lesions, n_hit : int
        Reference lesions, and how many of them are found.
    n_predicted, n_false_positive : int
        Predicted lesions, and how many of them touch no reference lesion.
    """

    dice: float
    n_lesions: int
    n_hit: int
    n_predicted: int
    n_false_positive: int

    @property
    def f1(self) -> float:
        """Harmonic mean of recall and precision: 0 where one side has no lesion, 1 where neither has."""
        if not self.n_lesions and not self.n_predicted:
            return 1.0
        if not self.n_hit:
            return 0.0
        recall = self.n_hit / self.n_lesions
        precision = 1 - self.n_false_positive / self.n_predicted
        return 2 * recall * precision / (recall + precision)

    @property
    def dice_or_1(self) -> float:
        """Dice, 1 where neither side has a voxel."""
        return 1.0 if np.isnan(self.dice) else self.dice


def counted_scores(matches: LesionMatches, min_component_mm3: float = 0.0) -> Scores:
    """The scores that are left when smaller predicted lesions are removed.

    Exact for classes; for regions, whose voxels may belong to several, as if there were no other region.

    Parameters
    ----------
    matches : LesionMatches
        Without a minimum volume of reference lesions: all count.
    min_component_mm3 : float
    """
    predicted, pairs = matches.predicted, matches.pairs
    kept = predicted.volume_mm3 >= min_component_mm3 * (1 - ROUNDING)
    pair_kept = kept[pairs.predicted]
    shared = pairs.voxels[pair_kept].sum()
    voxels = matches.reference.voxels.sum() + predicted.voxels[kept].sum()
    return Scores(
        dice=float(2 * shared / voxels) if voxels else float("nan"),
        n_lesions=len(matches.reference),
        n_hit=len(np.unique(pairs.reference[pair_kept])),
        n_predicted=int(kept.sum()),
        n_false_positive=int((kept & ~predicted.hit).sum()),
    )


# What the mean Dice over cases may lose.
MAX_DICE_LOSS = 0.001
_CANDIDATES = 41


def remove_small_components(
    segmentation: np.ndarray,
    manager: LabelManager,
    spacing_mm: Sequence[float],
    min_component_mm3: Mapping[str, float],
    connectivity: int = 26,
) -> np.ndarray:
    """Remove the components of each class, or region, that are smaller than its minimum volume.

    A component of a class becomes background. One of a region leaves the region and all regions within it, and takes
    the label of the regions around it that are left: a small tumour core in a tumour becomes tumour, no hole.

    Parameters
    ----------
    segmentation : integer array (X, Y[, Z])
    manager : LabelManager
        nnU-Net's, of the dataset.
    spacing_mm : sequence of float
        mm per array axis.
    min_component_mm3 : mapping of str to float
        By "1" or "(1, 2)"; classes that are not named keep everything. One of exactly this volume stays. In mm2 in two
        dimensions.
    connectivity : int
        6, 18 or 26 in three dimensions.

    Returns
    -------
    array of the same shape and type, a copy

    Raises
    ------
    ValueError
        A volume is of no class or region, an array or option is impossible.
    """
    spacing = as_spacing(spacing_mm, segmentation.ndim)
    connectivity = as_connectivity(connectivity, segmentation.ndim)
    classes: list[Label] = [
        tuple(label) if isinstance(label, list | tuple) else int(label)
        for label in (manager.foreground_regions if manager.has_regions else manager.foreground_labels)
    ]
    unknown = sorted(set(min_component_mm3) - {str(label) for label in classes})
    if unknown:
        raise ValueError(f"Expected minimum volumes of {', '.join(map(str, classes))}, but got one of {unknown[0]}.")
    masks = [np.isin(segmentation, label) for label in classes]
    voxel_mm3 = float(np.prod(spacing))
    small = [
        mask & ~kept_components(mask, voxel_mm3, min_component_mm3.get(str(label), 0.0), connectivity)
        for mask, label in zip(masks, classes, strict=True)
    ]
    cleaned = segmentation.copy()
    changed = np.logical_or.reduce(small)
    cleaned[changed] = 0
    if manager.has_regions:
        for region, mask, paint in zip(classes, masks, manager.regions_class_order, strict=True):
            around = [
                lost for other, lost in zip(classes, small, strict=True) if label_values(region) <= label_values(other)
            ]
            cleaned[changed & mask & ~np.logical_or.reduce(around)] = paint
    return cleaned


def choose_min_component_mm3(cases: Sequence[LesionMatches]) -> float:
    """The minimum volume with the highest mean F1 of lesions over cases, of one class.

    F1 and Dice of a case are 1 where neither side has a lesion: all volumes are judged on all cases. A candidate is
    admitted if the mean Dice is not more than 0.001 below that without removal. Candidates are 41 quantiles of the
    predicted components' volumes; the smallest of equally good ones is taken, and 0 if none is better.

    Parameters
    ----------
    cases : sequence of LesionMatches
        Without a minimum volume of reference lesions.

    Returns
    -------
    float
        In mm3, 0 for no removal.
    """
    volumes = np.concatenate([np.zeros(0), *(case.predicted.volume_mm3 for case in cases)])
    if not len(volumes):
        return 0.0
    candidates = np.unique(np.quantile(volumes, np.linspace(0, 1, _CANDIDATES), method="lower"))
    before = [counted_scores(case) for case in cases]
    best, best_scores = 0.0, before
    for candidate in candidates:
        after = [counted_scores(case, float(candidate)) for case in cases]
        if is_improved(before, after) and _mean_f1(after) > _mean_f1(best_scores) + ROUNDING:
            best, best_scores = float(candidate), after
    return best


def is_improved(before: Sequence[Scores], after: Sequence[Scores]) -> bool:
    """Whether the mean F1 of the same cases is higher, and their mean Dice not lower by more than 0.001."""
    dice = [float(np.mean([scores.dice_or_1 for scores in cases])) for cases in (before, after)]
    return _mean_f1(after) > _mean_f1(before) + ROUNDING and dice[1] >= dice[0] - MAX_DICE_LOSS


def _mean_f1(cases: Sequence[Scores]) -> float:
    return float(np.mean([scores.f1 for scores in cases]))


def combine(
    probabilities: Iterable[np.ndarray], weights: np.ndarray | None = None, regions: bool = False
) -> np.ndarray:
    r"""Average the probabilities of M models, with a weight for each model and class.

    .. math:: q_c = \sum_m w_{mc} p_{mc}, \qquad p_c = q_c / \sum_{c'} q_{c'}

    The second step, which makes classes that exclude each other sum to 1 again, leaves their order, and with it the
    segmentation, unchanged. Regions do not exclude each other and keep :math:`q_c`.

    Parameters
    ----------
    probabilities : iterable of M float arrays (C, X, Y[, Z])
        Taken one by one, so that a generator needs the memory of one.
    weights : (M, C) floats, optional
        Convex for each class. Default: the plain mean, computed as nnU-Net 2.8 does, bit by bit.
    regions : bool
        Channels are regions.

    Returns
    -------
    float32 array (C, X, Y[, Z])
        Where every model with a weight for a class gives that class 0, the background, channel 0, is 1.

    Raises
    ------
    ValueError
        Not as many models as weights, or arrays of different shapes.
    """
    total = None
    number = 0
    for number, model in enumerate(probabilities, start=1):
        if weights is not None and number > len(weights):
            raise ValueError(f"Expected {len(weights)} models, one per row of the weights, but got more.")
        if total is not None and model.shape != total.shape:
            raise ValueError(f"Expected probabilities of equal shape, but got {total.shape} and {model.shape}.")
        if weights is not None:
            model = model * _per_channel(weights[number - 1], model.ndim)
        # A copy: the first model's array is the caller's.
        total = model.astype(np.float32) if total is None else np.add(total, model, out=total, casting="same_kind")
    if total is None or (weights is not None and number != len(weights)):
        raise ValueError(f"Expected {'a model' if weights is None else len(weights)} at least, but got {number}.")
    if weights is None:
        total /= number
    elif not regions:
        _normalise(total)
    return total


def _per_channel(weights: np.ndarray, ndim: int) -> np.ndarray:
    return weights.astype(np.float32).reshape(-1, *[1] * (ndim - 1))


def _normalise(total: np.ndarray) -> None:
    sums = total.sum(axis=0)
    nothing = sums <= 0
    if nothing.any():
        total[0][nothing] = 1
        sums[nothing] = 1
    total /= sums


def ensemble_folders(
    folders: Sequence[str | Path],
    output: str | Path,
    weights: EnsembleWeights | None = None,
    min_component_mm3: float | Mapping[str, float] | None = None,
    save_probabilities: bool = False,
    processes: int | None = None,
) -> list[Path]:
    """Average the probabilities of several models' predictions and write segmentations.

    With equal weights and nothing removed the result is that of nnUNetv2_ensemble. Beside the segmentations go the
    dataset.json and plans.json of the first folder and, last, ensemble.json, which tells what was averaged, and how.

    Parameters
    ----------
    folders : sequence of paths
        Of nnUNetv2_predict --save_probabilities, or validation folders of nnUNetv2_train --npz. Labels and the file
        format are those of the first.
    output : path
        Files of the same name are replaced, each at once; of other cases, or of probabilities that will not be written,
        there may be none.
    weights : EnsembleWeights, optional
        Default: equal. For the order of folders see `EnsembleWeights.in_order_of`.
    min_component_mm3 : float or mapping of str to float, optional
        Remove smaller predicted components, of all classes or of those named. Default: what the weights say.
    save_probabilities : bool
        Write the averaged probabilities too, before any removal, for a further ensemble.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Returns
    -------
    list of Path
        The segmentations, sorted.

    Raises
    ------
    FileNotFoundError
        A folder, probabilities, properties, dataset.json or plans.json are missing.
    ValueError
        Folders hold different cases or labels, arrays different shapes or NaN, properties that cannot be read, the
        weights do not fit, or the output is one of the folders or holds other cases.
    """
    predictions = open_folders(folders, output)
    inputs, labels = predictions.folders, labels_of(predictions.dataset_json)
    channels = channel_names(labels)
    if weights is not None and weights.channels != channels:
        raise ValueError(
            f"Expected weights for the labels of {inputs[0]}, {', '.join(channels)}, but got weights for "
            f"{', '.join(weights.channels)}."
        )
    values = None if weights is None else weights.in_order_of(inputs)
    if values is not None and np.all(values == 1 / len(inputs)):
        values = None
    volumes_mm3 = _volumes_mm3(min_component_mm3, weights, [str(label) for label in labels.foreground])
    segment = partial(_ensemble_case, weights=values, volumes_mm3=volumes_mm3, save_probabilities=save_probabilities)
    record = {
        "folders": [str(folder.resolve()) for folder in inputs],
        "weights": "equal" if values is None else dict(zip(channels, values.T.tolist(), strict=True)),
        "min_component_mm3": volumes_mm3,
    }
    return segment_folders(
        predictions, Path(output), segment, ("ensemble.json", record), "Averaging", processes, save_probabilities
    )


def _ensemble_case(
    files: Sequence[Path],
    path: Path,
    weights: np.ndarray | None,
    volumes_mm3: Mapping[str, float],
    reader: BaseReaderWriter,
    manager: LabelManager,
    transpose_backward: Sequence[int],
    save_probabilities: bool,
) -> None:
    probabilities = combine(probabilities_of(files, manager.num_segmentation_heads), weights, manager.has_regions)
    properties = properties_of(files[0].with_suffix(".pkl"), probabilities.shape[1:], transpose_backward)
    segmentation = to_segmentation(probabilities, manager)
    if any(volumes_mm3.values()):
        image, spacing = without_slice_axis(segmentation, properties["spacing"])
        cleaned = remove_small_components(image, manager, spacing, volumes_mm3)
        segmentation = cleaned.reshape(segmentation.shape)
    if save_probabilities:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, probabilities=probabilities)
        # A case is known by its probabilities, so they follow its properties.
        write_atomically(path.parent / files[0].with_suffix(".pkl").name, pickle.dumps(properties))
        write_atomically(path.parent / files[0].name, buffer.getvalue())
    write_segmentation(path, segmentation, reader, properties)


def _volumes_mm3(
    given: float | Mapping[str, float] | None, weights: EnsembleWeights | None, classes: Sequence[str]
) -> dict[str, float]:
    """By class: what is given, else what the weights say."""
    if given is None:
        given = weights.min_component_mm3 if weights else {}
    volumes_mm3 = dict(given) if isinstance(given, Mapping) else dict.fromkeys(classes, float(given))
    for name, volume in volumes_mm3.items():
        if name not in classes or not 0 <= volume < np.inf:
            raise ValueError(f"Expected minimum volumes from 0 of {', '.join(classes)}, but got {volume} of {name}.")
    return volumes_mm3
