"""Segmentations of predictions by other rules than nnU-Net's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.datasets.folders import Label, Labels, label_values, labels_of
from nnunet_rw.evaluation.metrics.detection import Rule as Matching
from nnunet_rw.evaluation.metrics.rules import Decided, DecisionRule, apply_rule, kept_components
from nnunet_rw.evaluation.reading import read_case, without_slice_axis
from nnunet_rw.evaluation.sources import CaseFiles, Source
from nnunet_rw.maps.arrays import as_connectivity, connected_components
from nnunet_rw.postprocessing.predictions import (
    PredictionFolders,
    label_manager,
    model_probabilities,
    open_folders,
    probabilities_of,
    properties_of,
    segment_folders,
    to_segmentation,
    trained_model_of,
    write_segmentation,
)
from nnunet_rw.postprocessing.threshold.fit import RuleFit, decided_mask, named_label
from nnunet_rw.postprocessing.threshold.report import ChosenRules, FittedModel
from nnunet_rw.util.parallel import list_in_processes

ANY_MODEL = FittedModel()


def threshold_rules(threshold: float, label: str | None = None) -> ChosenRules:
    """A single threshold of the user's own, in [0, 1); of the only label where none is named.

    Raises
    ------
    ValueError
        A threshold that cannot be.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"Expected a threshold from 0 to below 1, but got {threshold}.")
    return ChosenRules(ANY_MODEL, 26, {label or "": DecisionRule(threshold, threshold)})


def apply_rules(
    folder: str | Path, output: str | Path, chosen: ChosenRules, processes: int | None = None
) -> list[Path]:
    """Segment predictions anew: each label of a rule is where that keeps it, and nowhere else.

    Elsewhere the most probable of the other classes is; classes whose rules meet share as in `without_contest`. Other
    regions keep nnU-Net's 0.5, but none within one of a rule reaches beyond it. With a single class a threshold of 0.5
    gives what nnU-Net segments. Beside the segmentations go the folder's dataset.json and plans.json and, last,
    applied_rules.json.

    Parameters
    ----------
    folder : path
        Of nnUNetv2_predict --save_probabilities, or a validation folder of nnUNetv2_train --npz.
    output : path
        Files of the same name are replaced, once all cases are segmented; of other cases there may be none.
    chosen : ChosenRules
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Returns
    -------
    list of Path
        The segmentations, sorted.

    Raises
    ------
    FileNotFoundError
        The folder, probabilities, properties, dataset.json or plans.json are missing.
    ValueError
        Rules of another model or for labels that are not there, probabilities or properties that cannot be read, or
        the output is the folder or holds other cases.
    """
    predictions = open_folders([folder], output)
    check_fitted_on(chosen.fitted_on, predictions)
    labels = labels_of(predictions.dataset_json)
    named = [(named_label(labels, name or None), rule) for name, rule in chosen.rules.items()]
    segment = partial(
        _segment_case,
        rules=dict(named),
        labels=labels,
        connectivity=chosen.connectivity,
    )
    record = {
        "rules": {str(label): rule._asdict() for label, rule in named},
        "connectivity": chosen.connectivity,
        "folder": str(predictions.folders[0].resolve()),
    }
    return segment_folders(predictions, Path(output), segment, ("applied_rules.json", record), "Segmenting", processes)


def check_fitted_on(fitted_on: FittedModel, predictions: PredictionFolders) -> None:
    """Refuse, with a ValueError, rules of another model than the predictions tell of.

    plans.json tells dataset, plans and their configurations; the trainer and its configuration are known where the
    folder is within a trained model's, <trainer>__<plans>__<configuration>/fold_0/validation.
    """
    plans, folder = predictions.plans, predictions.folders[0]
    told = {"dataset": plans.get("dataset_name"), "plans": plans.get("plans_name")}
    of_model = trained_model_of(folder)
    if of_model is not None:
        told["trainer"], _, told["configuration"] = of_model
    for name, found in told.items():
        expected = getattr(fitted_on, name)
        if expected and found and found != expected:
            raise ValueError(
                f"Expected predictions of {name} {expected}, on which the rules were fitted, but {folder} is of "
                f"{found}. Fit rules for it, or name a threshold with --at."
            )
    known = plans.get("configurations") or {}
    if fitted_on.configuration and known and fitted_on.configuration not in known:
        raise ValueError(
            f"Expected predictions of configuration {fitted_on.configuration}, on which the rules were fitted, but the "
            f"plans of {folder} have {', '.join(known)} alone."
        )


def judged_together(source: Source, fits: Sequence[RuleFit], processes: int | None = None) -> list[RuleFit]:
    """Fits of several labels with what all their rules make of a case together, each chosen without the case's fold.

    Parameters
    ----------
    source : Source
        Of the fits.
    fits : sequence of RuleFit
        A label each, of the same cases and settings. A single one, or none with a rule, is returned as it is.
    processes : int, optional
        Default: nnU-Net's number, at most all processors.

    Raises
    ------
    ValueError
        A file cannot be read.
    """
    if len(fits) < 2 or all(fit.choice.best is None for fit in fits):
        return list(fits)
    files = {found.case: found for found in source.cases}
    judge = partial(
        _judge_case,
        reader=source.reader,
        labels=source.labels,
        manager=label_manager(source.dataset_json),
        judged=[named_label(source.labels, fit.label) for fit in fits],
        connectivity=int(fits[0].settings["connectivity"]),
        min_volume_mm3=float(fits[0].settings["min_volume_mm3"]),
        matching=fits[0].matching,
    )
    tasks = [
        (files[case.case], [best and best.rules_without[case.fold] for best in (fit.choice.best for fit in fits)])
        for case in fits[0].cases
    ]
    found = list_in_processes(judge, tasks, "All rules", processes)
    return [replace(fit, together=tuple(of_case[position] for of_case in found)) for position, fit in enumerate(fits)]


def _judge_case(
    files: CaseFiles,
    rules: Sequence[DecisionRule | None],
    reader: BaseReaderWriter,
    labels: Labels,
    manager: LabelManager,
    judged: Sequence[Label],
    connectivity: int,
    min_volume_mm3: float,
    matching: Matching,
) -> list[Decided]:
    """What the rules, one a label or none, make of a case."""
    case = read_case(files, reader, labels.known, labels.num_channels)
    chosen = {label: rule for label, rule in zip(judged, rules, strict=True) if rule is not None}
    segmentation = _segmented(model_probabilities(case), chosen, labels, manager, case.spacing_mm, connectivity)
    known = None if labels.ignore is None else case.reference != labels.ignore
    return [
        decided_mask(
            np.isin(case.reference, label),
            np.isin(segmentation, label),
            case.spacing_mm,
            connectivity,
            min_volume_mm3,
            known,
            matching,
        )
        for label in judged
    ]


def without_contest(
    masks: Mapping[int, np.ndarray],
    probabilities: np.ndarray,
    rules: Mapping[int, DecisionRule],
    voxel_mm3: float,
    connectivity: int = 26,
) -> dict[int, np.ndarray]:
    """What each of several classes keeps of its mask, so that no two claim a voxel and a component stays one.

    A contested voxel is of the likelier class. What that leaves of the other's component is judged again: its largest
    piece stays if it is no smaller than the rule's volume and still has the rule's peak, and all else of the component
    goes to the next class that claims it, or to none. A class thus has no more components than its rule alone gives it;
    cut into rims and fragments it would have several times the false positives that the rule was chosen for.

    Parameters
    ----------
    masks : dict of int to boolean array (X, Y[, Z])
        By channel, as `nnunet_rw.evaluation.metrics.rules.apply_rule` makes them.
    probabilities : float array (C, X, Y[, Z])
    rules : dict of int to DecisionRule
        By channel.
    voxel_mm3 : float
        mm2 in two dimensions.
    connectivity : int

    Returns
    -------
    dict of int to boolean array (X, Y[, Z])

    Examples
    --------
    >>> row = np.array([[[0.6, 0.3, 0.2, 0.3]], [[0.1, 0.1, 0.7, 0.1]]], np.float32)
    >>> rules = {0: DecisionRule(0.15, 0.15), 1: DecisionRule(0.5, 0.5)}
    >>> masks = {channel: row[channel] > rule.low for channel, rule in rules.items()}
    >>> without_contest(masks, row, rules, 1.0)[0]
    array([[ True,  True, False, False]])
    """
    if not (sum(mask.astype(np.uint8) for mask in masks.values()) > np.uint8(1)).any():
        return dict(masks)
    connectivity = as_connectivity(connectivity, probabilities.ndim - 1)
    ids = {channel: connected_components(mask.view(np.uint8), connectivity) for channel, mask in masks.items()}
    claimed = {channel: mask.copy() for channel, mask in masks.items()}
    owned = _of_the_likelier(claimed, probabilities)

    def unfit(channel: int) -> np.ndarray:
        settings = probabilities[channel], rules[channel], voxel_mm3, connectivity
        return owned[channel] & ~_one_piece_each(owned[channel], ids[channel], *settings)

    given_up = {channel: unfit(channel) for channel in owned}
    while True:
        # One class at a time, the likelier first: what it gives up may be what another lacks.
        peak = {channel: float(probabilities[channel][mask].max(initial=-1)) for channel, mask in given_up.items()}
        first = max(peak, key=lambda channel: peak[channel])
        if peak[first] < 0:
            return owned
        freed = given_up[first]
        claimed[first][freed] = False
        given_up[first] = np.zeros_like(freed)
        heirs = _of_the_likelier({channel: mask[freed] for channel, mask in claimed.items()}, probabilities[:, freed])
        for channel, inherited in heirs.items():
            owned[channel][freed] = inherited
            if inherited.any():
                given_up[channel] = unfit(channel)


def _of_the_likelier(masks: Mapping[int, np.ndarray], probabilities: np.ndarray) -> dict[int, np.ndarray]:
    values = np.stack([np.where(mask, probabilities[channel], -1) for channel, mask in masks.items()])
    likelier = values.argmax(0)
    return {channel: mask & (likelier == position) for position, (channel, mask) in enumerate(masks.items())}


def _one_piece_each(
    mask: np.ndarray,
    component_ids: np.ndarray,
    probability: np.ndarray,
    rule: DecisionRule,
    voxel_mm3: float,
    connectivity: int,
) -> np.ndarray:
    """Of what is left of each component the largest piece that its rule keeps."""
    seeds = probability.astype(np.float32, copy=False) > np.float32(rule.high)
    kept = kept_components(mask, voxel_mm3, rule.min_volume_mm3, connectivity, seeds)
    pieces = connected_components(kept.view(np.uint8), connectivity)
    voxels = np.bincount(pieces.ravel())
    component = np.zeros(len(voxels), np.int64)
    component[pieces[kept]] = component_ids[kept]
    # From the largest on; of each component the first.
    order = np.argsort(-voxels[1:], kind="stable") + 1
    largest = np.zeros(len(voxels), bool)
    largest[order[np.unique(component[order], return_index=True)[1]]] = True
    return largest[pieces]


def with_masks(
    probabilities: np.ndarray, masks: Mapping[int, np.ndarray], contained: Mapping[int, Sequence[int]]
) -> np.ndarray:
    """Probabilities that nnU-Net turns into a channel's label exactly where its mask is.

    Parameters
    ----------
    probabilities : float array (C, X, Y[, Z])
    masks : dict of int to boolean array (X, Y[, Z])
        By channel; of classes no two hold a voxel.
    contained : dict of int to sequence of int
        By channel, those of the regions within its own: painted over it, they would reach beyond.

    Returns
    -------
    float32 array (C, X, Y[, Z]), a copy
    """
    decided = np.array(probabilities, dtype=np.float32)
    for channel, mask in masks.items():
        # Above or below all probabilities of other classes, and either side of 0.5 as that of a region.
        decided[channel] = np.where(mask, 2 + decided[channel], -1)
    for channel, mask in masks.items():
        for other in contained.get(channel, ()):
            decided[other][~mask] = -1
    return decided


def _contained(labels: Labels, label: Label) -> list[int]:
    """Channels of the regions within a region."""
    return [
        channel
        for other, channel in zip(labels.foreground, labels.channels, strict=True)
        if label_values(other) < label_values(label)
    ]


def _segmented(
    image: np.ndarray,
    rules: Mapping[Label, DecisionRule],
    labels: Labels,
    manager: LabelManager,
    spacing_mm: Sequence[float],
    connectivity: int,
) -> np.ndarray:
    """Labels (X, Y[, Z]) of probabilities (C, X, Y[, Z]) by the rules of some labels."""
    voxel_mm3 = math.prod(spacing_mm)
    by_channel = {labels.channels[labels.foreground.index(label)]: (label, rule) for label, rule in rules.items()}
    masks = {
        channel: apply_rule(image[channel], rule, voxel_mm3, connectivity) for channel, (_, rule) in by_channel.items()
    }
    # Regions overlap: none takes a voxel from another.
    if not manager.has_regions:
        of_channel = {channel: rule for channel, (_, rule) in by_channel.items()}
        masks = without_contest(masks, image, of_channel, voxel_mm3, connectivity)
    contained = {channel: _contained(labels, label) for channel, (label, _) in by_channel.items()}
    return to_segmentation(with_masks(image, masks, contained), manager)


def _segment_case(
    files: Sequence[Path],
    path: Path,
    rules: Mapping[Label, DecisionRule],
    labels: Labels,
    connectivity: int,
    reader: BaseReaderWriter,
    manager: LabelManager,
    transpose_backward: Sequence[int],
) -> None:
    (probabilities,) = probabilities_of(files, manager.num_segmentation_heads)
    shape = probabilities.shape[1:]
    properties = properties_of(files[0].with_suffix(".pkl"), shape, transpose_backward)
    image, spacing = without_slice_axis(probabilities, properties["spacing"])
    segmentation = _segmented(image, rules, labels, manager, spacing, connectivity)
    write_segmentation(path, segmentation.reshape(shape), reader, properties)
