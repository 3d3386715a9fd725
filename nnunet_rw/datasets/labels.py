"""What the values of a segmentation mean, by nnU-Net's dataset.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_rw.util.readers import DatasetJson, read_json, told

Label = int | tuple[int, ...]


@dataclass(frozen=True)
class Labels:
    """What the values of a segmentation mean.

    Attributes
    ----------
    foreground : tuple of int or of tuple of int
        Classes, or regions.
    channels : tuple of int
        Of the probabilities, one per foreground label.
    num_channels : int
        Of the probabilities.
    known : frozenset of int
        All values that a segmentation may hold.
    ignore : int, optional
    """

    foreground: tuple[Label, ...]
    channels: tuple[int, ...]
    num_channels: int
    known: frozenset[int]
    ignore: int | None


def label_values(label: Label) -> frozenset[int]:
    """The values of a segmentation that a class, or region, holds."""
    return frozenset(label if isinstance(label, tuple) else (label,))


def label_names(dataset_json: Mapping[str, Any]) -> dict[Label, str]:
    """What a dataset.json calls its classes and regions."""
    return {tuple(of) if isinstance(of, list | tuple) else int(of): name for name, of in dataset_json["labels"].items()}


def label_texts(dataset_json: Mapping[str, Any]) -> dict[str, str]:
    """What a reader knows a label by, of its name in files.

    Examples
    --------
    >>> label_texts({"labels": {"background": 0, "oedema": 1, "whole": [1, 2]}})
    {'0': 'background (0)', '1': 'oedema (1)', '(1, 2)': 'whole (1, 2)'}
    """
    return {
        str(label): f"{name} {label if isinstance(label, tuple) else f'({label})'}"
        for label, name in label_names(dataset_json).items()
    }


def labels_of(dataset_json: Mapping[str, Any]) -> Labels:
    """The labels of a dataset; regions where it has any."""
    manager = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
    ignore = manager.ignore_label
    known = frozenset({0, *manager.all_labels, *([] if ignore is None else [ignore])})
    if manager.has_regions:
        regions = tuple(region if isinstance(region, int) else tuple(region) for region in manager.foreground_regions)
        return Labels(regions, tuple(range(len(regions))), len(regions), known, ignore)
    foreground = tuple(manager.foreground_labels)
    channels = tuple(manager.all_labels.index(label) for label in foreground)
    return Labels(foreground, channels, len(manager.all_labels), known, ignore)


def read_dataset_json(path: str | Path, advice: str = "Copy it again, or correct it.") -> dict[str, Any]:
    """nnU-Net's dataset.json, of labels that nnU-Net understands.

    With a file ending: .nii.gz where it tells none.
    """
    fault = "is no dataset.json of nnU-Net"
    content = {"file_ending": ".nii.gz", **read_json(path, advice, DatasetJson, fault)}
    with told(path, advice, fault):
        labels_of(content)
    return content
