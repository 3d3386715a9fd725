"""Maps on disk, beside nnU-Net's preprocessed arrays.

``<nnUNet_preprocessed>/<dataset>/<data_identifier>/rw_maps/<kind>/<settings>/<case>.b2nd``

A folder of its own, because nnU-Net takes every other ``*.b2nd`` in the data folder for a case, and because
preprocessing again deletes it together with the arrays that it belongs to. ``<settings>`` is a hash of all that the
maps depend on besides the segmentation: trainings with other settings have files of their own and never overwrite
each other's. A file is written under a temporary name and renamed, so whatever carries the final name is whole; what
it was computed from stands in its metadata, and is checked when it is opened.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blosc2
import numpy as np

from nnunet_rw.maps.arrays import as_labels
from nnunet_rw.maps.kinds import KINDS, LabelScheme, LesionTable, stored_kinds
from nnunet_rw.util import advice
from nnunet_rw.util.files import file_hash
from nnunet_rw.util.readers import read_case, read_pickle, told

if TYPE_CHECKING:  # imports torch, for which every process that writes maps would wait
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

FORMAT_VERSION = 2
FOLDER_NAME = "rw_maps"
METADATA_KEY = "nnunet_rw"
LESIONS_KEY = "lesions"
# The function that nnU-Net's planners without resampling name in their plans.
_NO_RESAMPLING = "no_resampling_hack"


@dataclass(frozen=True)
class MapSettings:
    """All that the maps of a configuration depend on, besides the segmentation.

    Attributes
    ----------
    scheme : LabelScheme
    spacing_mm : tuple of 3 floats
        Of the preprocessed arrays' axes; the slice axis of a 2D configuration has 1, no distance crosses it.
    patch_size : tuple of 2 or 3 ints
        Decides the files' chunks.
    per_slice : bool
        Distances within slices, for 2D configurations.
    case_axes : tuple of 3 ints, optional
        For plans that do not resample: every case keeps its own spacing, with its axes in this order. Else all have
        `spacing_mm`.
    plans_name, configuration_name : str, optional
        What commands are given to find the data, for messages: maps do not depend on names.
    """

    scheme: LabelScheme
    spacing_mm: tuple[float, ...]
    patch_size: tuple[int, ...]
    per_slice: bool
    case_axes: tuple[int, ...] | None = None
    plans_name: str | None = field(default=None, compare=False)
    configuration_name: str | None = field(default=None, compare=False)

    @classmethod
    def from_plans(
        cls, plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict[str, Any]
    ) -> MapSettings:
        """The settings of one of nnU-Net's configurations."""
        spacing = tuple(float(value) for value in configuration.spacing)
        resampled = configuration.configuration.get("resampling_fn_seg") != _NO_RESAMPLING
        names = (
            name
            for name in plans.available_configurations
            if plans.get_configuration(name).configuration == configuration.configuration
        )
        return cls(
            scheme=label_scheme(plans, dataset_json),
            spacing_mm=(1.0, *spacing) if len(spacing) == 2 else spacing,
            patch_size=tuple(int(size) for size in configuration.patch_size),
            per_slice=len(configuration.patch_size) == 2,
            case_axes=None if resampled else tuple(plans.transpose_forward),
            plans_name=plans.plans_name,
            configuration_name=next(names, None),
        )

    def stored_kinds(self, kinds: Iterable[str]) -> tuple[str, ...]:
        """The kinds on disk for losses that need these, see `nnunet_rw.maps.kinds.stored_kinds`."""
        return stored_kinds(kinds, self.scheme)

    def spacing_of(self, data_folder: str | Path, case: str) -> tuple[float, ...]:
        """mm per axis of a preprocessed case.

        Raises
        ------
        FileNotFoundError, DamagedFile
            The case's properties, which hold its own spacing, cannot be read, or name code that reading them would run.
        """
        if self.case_axes is None:
            return self.spacing_mm
        path = Path(data_folder) / f"{case}.pkl"
        what_to_do = self.preprocess_advice(data_folder)
        with told(path, what_to_do):
            own = read_pickle(path, what_to_do)["spacing"]
            spacing = tuple(float(own[axis]) for axis in self.case_axes)
        return (1.0, *spacing[1:]) if self.per_slice else spacing

    def maps_advice(self, data_folder: str | Path, **options: Any) -> str:
        """``Run: nnunet-rw maps ...``, which writes these maps; with further options of `advice.command`."""
        options |= {"plans": self.plans_name, "configuration": self.configuration_name}
        return f"Run: {advice.command('maps', dataset=Path(data_folder).parent.name, **options)}"

    def preprocess_advice(self, data_folder: str | Path) -> str:
        """``Run: nnUNetv2_preprocess ...``, which writes the arrays that they are maps of."""
        return advice.preprocess(data_folder, self.plans_name, self.configuration_name)

    def describe(self, kind: str) -> dict[str, Any]:
        """What a stored map of this kind must say of itself to be used."""
        description: dict[str, Any] = {"version": FORMAT_VERSION, "kind": kind, "scheme": _plain(asdict(self.scheme))}
        if KINDS[kind].sampling == "linear":
            spacing = self.spacing_mm if self.case_axes is None else {"case_axes": self.case_axes}
            description |= {"spacing_mm": _plain(spacing), "per_slice": self.per_slice}
        return description

    def folder_name(self, kind: str) -> str:
        """A hash of `describe`."""
        text = json.dumps(self.describe(kind), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


def label_scheme(plans: PlansManager, dataset_json: dict[str, Any]) -> LabelScheme:
    """The meaning of the network's heads, from nnU-Net's label manager."""
    manager = plans.get_label_manager(dataset_json)
    groups = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    foreground = tuple(
        tuple(int(label) for label in group) if isinstance(group, (list, tuple)) else (int(group),) for group in groups
    )
    return LabelScheme(foreground, manager.has_regions, manager.ignore_label)


def map_path(data_folder: str | Path, kind: str, case: str, settings: MapSettings) -> Path:
    """Where the map of a case is stored."""
    return Path(data_folder) / FOLDER_NAME / kind / settings.folder_name(kind) / f"{case}.b2nd"


def is_current(data_folder: str | Path, kind: str, case: str, settings: MapSettings) -> bool:
    """Whether a whole map stands there that was computed with these settings from the present segmentation."""
    try:
        open_map(data_folder, kind, case, settings)
    except (FileNotFoundError, ValueError):
        return False
    return True


def missing_maps(
    data_folder: str | Path, cases: Iterable[str], kinds: Iterable[str], settings: MapSettings
) -> dict[str, list[str]]:
    """Cases with the kinds of map that are absent, damaged or out of date."""
    kinds = settings.stored_kinds(kinds)
    absent = {case: [kind for kind in kinds if not is_current(data_folder, kind, case, settings)] for case in cases}
    return {case: kinds for case, kinds in absent.items() if kinds}


def open_map(
    data_folder: str | Path, kind: str, case: str, settings: MapSettings, check: bool = True
) -> blosc2.NDArray:
    """Open a map for reading by patches.

    Parameters
    ----------
    check : bool
        Whether the map says of itself that it is what is expected: of this kind, these settings and the present
        segmentation. Without it the file is only opened.

    Returns
    -------
    blosc2.NDArray (channels, X, Y, Z)
        float16 (float32 where that would overflow) distances in mm, or unsigned integer lesion ids.

    Raises
    ------
    FileNotFoundError
        No such map.
    ValueError
        The file is damaged, or the map is of something else; the message says what to run.
    """
    path = map_path(data_folder, kind, case, settings)
    if not path.is_file():
        raise FileNotFoundError(
            f"No {kind} map for case '{case}' in {path.parent}. {settings.maps_advice(data_folder)}"
        )
    # Memory mapping saves opening the file for every patch; Windows cannot replace a mapped file.
    mapping = {} if os.name == "nt" else {"mmap_mode": "r"}
    try:
        array = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, **mapping)
        said = array.schunk.vlmeta[METADATA_KEY] if check else {}
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"Map file {path} is damaged. {settings.maps_advice(data_folder)}") from error
    if check:
        for key, value in identity_of(data_folder, kind, case, settings).items():
            if said.get(key) != value:
                raise ValueError(
                    f"Map file {path} is of another {key.removesuffix('_mm').replace('_', ' ')} ({said.get(key)}) than "
                    f"expected ({value}). {settings.maps_advice(data_folder)}"
                )
    return array


def read_labels(data_folder: str | Path, case: str, settings: MapSettings) -> tuple[np.ndarray, tuple[float, ...]]:
    """What a case's maps are computed from: its labels (X, Y, Z) and mm per axis.

    Raises
    ------
    FileNotFoundError, ValueError
        The case is missing or damaged, or holds a label that the dataset does not list; the message says what to do.
    """
    labels = as_labels(read_case(data_folder, case, settings.preprocess_advice(data_folder))[1])
    check_labels(labels, settings.scheme, case, data_folder)
    return labels, settings.spacing_of(data_folder, case)


def lesion_table(ids: blosc2.NDArray) -> LesionTable:
    """The lesions that an opened lesion map lists.

    Raises
    ------
    ValueError
        It lists none: the file is damaged.
    """
    try:
        columns = ids.schunk.vlmeta[LESIONS_KEY]
        arrays: dict[str, Any] = {
            name: np.frombuffer(content, np.dtype(dtype)).reshape(shape)
            for name, (dtype, shape, content) in columns.items()
        }
        return LesionTable(**(arrays | {"num_voxels": int(arrays["num_voxels"][0])}))
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ValueError(f"Map file {ids.schunk.urlpath} is damaged. Delete it.") from error


def packed(table: LesionTable) -> dict[str, Any]:
    """As `lesion_table` reads it, in bytes: from nested lists 20 000 lesions take a fifth of a second to read."""
    columns = {name: np.atleast_1d(value) for name, value in vars(table).items()}
    columns["locations"] = columns["locations"].astype(np.min_scalar_type(int(columns["locations"].max(initial=0))))
    return {name: [array.dtype.str, list(array.shape), array.tobytes()] for name, array in columns.items()}


def identity_of(data_folder: str | Path, kind: str, case: str, settings: MapSettings) -> dict[str, Any]:
    """What the metadata of a case's map say of it."""
    identity = settings.describe(kind) | {"segmentation": _fingerprint(data_folder, case, settings)}
    if "spacing_mm" in identity:
        identity["spacing_mm"] = _plain(settings.spacing_of(data_folder, case))
    return identity


def check_labels(labels: np.ndarray, scheme: LabelScheme, case: str, data_folder: str | Path) -> None:
    """Refuse, with a ValueError, labels of a preprocessed case that the dataset does not list."""
    if labels.max() > scheme.highest_label:
        raise ValueError(
            f"Case '{case}' in {data_folder} holds label {int(labels.max())}, but the dataset's highest is "
            f"{scheme.highest_label}. Correct the label file or dataset.json and preprocess again."
        )


def _fingerprint(data_folder: str | Path, case: str, settings: MapSettings) -> str:
    """Hash of the file that holds the segmentation: compressed, so small and read in a moment."""
    for name in (f"{case}_seg.b2nd", f"{case}.npz"):
        path = Path(data_folder) / name
        if path.is_file():
            state = path.stat()
            return file_hash(path, state.st_size, state.st_mtime_ns)
    what_to_do = settings.preprocess_advice(data_folder)
    raise FileNotFoundError(f"No segmentation of case '{case}' in {data_folder}. {what_to_do}")


def _plain(value: Any) -> Any:
    """Nested lists and numbers that msgpack stores and returns unchanged."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
