"""Maps on disk, beside nnU-Net's preprocessed arrays.

``<nnUNet_preprocessed>/<dataset>/<data_identifier>/rw_maps/<kind>/<case>.b2nd``

A folder of its own, because nnU-Net takes every other ``*.b2nd`` in the data folder for a case, and because
preprocessing again deletes it together with the arrays that it belongs to. A file is written under a temporary name
and renamed, so whatever carries the final name is whole; what it was computed from stands in its metadata.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import blosc2
import numpy as np
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class

from nnunet_rw.compression import compressed_distances, compressed_lesions
from nnunet_rw.files import host_name, write_atomically
from nnunet_rw.maps._checks import as_labels
from nnunet_rw.maps.kinds import LESION_IDS, LabelScheme, LesionTable

if TYPE_CHECKING:  # imports torch, for which every process that writes maps would wait
    from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

FORMAT_VERSION = 1
FOLDER_NAME = "rw_maps"
_METADATA_KEY = "nnunet_rw"
_TEMPORARY_NAME = re.compile(r"\.(?P<case>.*)@(?P<host>[^@-]*)-(?P<pid>\d+)-[0-9a-f]{32}\.tmp")


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
    """

    scheme: LabelScheme
    spacing_mm: tuple[float, ...]
    patch_size: tuple[int, ...]
    per_slice: bool

    @classmethod
    def from_plans(
        cls, plans: PlansManager, configuration: ConfigurationManager, dataset_json: dict[str, Any]
    ) -> MapSettings:
        """The settings of one of nnU-Net's configurations."""
        per_slice = len(configuration.patch_size) == 2
        spacing = tuple(float(value) for value in configuration.spacing)
        return cls(
            scheme=label_scheme(plans, dataset_json),
            spacing_mm=(1.0, *spacing) if len(spacing) == 2 else spacing,
            patch_size=tuple(int(size) for size in configuration.patch_size),
            per_slice=per_slice,
        )

    def describe(self, kind: str) -> dict[str, Any]:
        """What a stored map of this kind must say of itself to be used."""
        description: dict[str, Any] = {"version": FORMAT_VERSION, "scheme": _plain(asdict(self.scheme))}
        if kind != LESION_IDS:
            description |= {"spacing_mm": list(self.spacing_mm), "per_slice": self.per_slice}
        return description


def label_scheme(plans: PlansManager, dataset_json: dict[str, Any]) -> LabelScheme:
    """The meaning of the network's heads, from nnU-Net's label manager."""
    manager = plans.get_label_manager(dataset_json)
    groups = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    foreground = tuple(
        tuple(int(label) for label in group) if isinstance(group, (list, tuple)) else (int(group),) for group in groups
    )
    return LabelScheme(foreground, manager.has_regions, manager.ignore_label)


def map_path(data_folder: str | Path, kind: str, case: str) -> Path:
    """Where the map of a case is stored."""
    return Path(data_folder) / FOLDER_NAME / kind / f"{case}.b2nd"


def is_current(data_folder: str | Path, kind: str, case: str, settings: MapSettings) -> bool:
    """Whether a whole map stands there that was computed with these settings from the present segmentation."""
    try:
        _, metadata = open_map(data_folder, kind, case)
    except (FileNotFoundError, ValueError):
        return False
    expected = settings.describe(kind) | {"segmentation": _fingerprint(data_folder, case)}
    return all(metadata.get(key) == value for key, value in expected.items())


def missing_maps(
    data_folder: str | Path, cases: Iterable[str], kinds: Iterable[str], settings: MapSettings
) -> dict[str, list[str]]:
    """Cases with the kinds of map that are absent, damaged or out of date."""
    kinds = list(kinds)
    absent = {case: [kind for kind in kinds if not is_current(data_folder, kind, case, settings)] for case in cases}
    return {case: kinds for case, kinds in absent.items() if kinds}


def open_map(data_folder: str | Path, kind: str, case: str) -> tuple[blosc2.NDArray, dict[str, Any]]:
    """Open a map for reading by patches.

    Returns
    -------
    array : blosc2.NDArray (channels, X, Y, Z)
        float16 (float32 where that would overflow) distances in mm, or unsigned integer lesion ids.
    metadata : dict

    Raises
    ------
    FileNotFoundError
        No such map.
    ValueError
        The file is damaged.
    """
    path = map_path(data_folder, kind, case)
    if not path.is_file():
        raise FileNotFoundError(f"No {kind} map for case '{case}' in {path.parent}. {_advice(data_folder)}")
    # Memory mapping saves opening the file for every patch; Windows cannot replace a mapped file.
    mapping = {} if os.name == "nt" else {"mmap_mode": "r"}
    try:
        array = blosc2.open(urlpath=str(path), mode="r", dparams={"nthreads": 1}, **mapping)
        metadata = array.schunk.vlmeta[_METADATA_KEY]
    except (RuntimeError, KeyError, ValueError, OSError) as error:
        raise ValueError(f"Map file {path} is damaged. {_advice(data_folder)}") from error
    return array, metadata


def lesion_table(metadata: dict[str, Any]) -> LesionTable:
    """The lesions listed in a lesion map's metadata."""
    table = metadata["lesions"]
    return LesionTable(
        channels=np.array(table["channels"], np.int64),
        voxels=np.array(table["voxels"], np.int64),
        boxes=np.array(table["boxes"], np.int64).reshape(-1, 3, 2),
        num_voxels=int(table["num_voxels"]),
    )


def write_case(
    data_folder: str | Path, case: str, kinds: Iterable[str], settings: MapSettings, compact: bool = False
) -> None:
    """Compute and store maps of one case.

    Parameters
    ----------
    compact : bool
        The same maps in smaller files, which take several times as long to compress.

    Raises
    ------
    ValueError
        The segmentation holds a label that the dataset does not list.
    OSError
        The folder cannot be written to or is full. Nothing torn is left behind.
    """
    fingerprint = _fingerprint(data_folder, case)
    dataset = infer_dataset_class(str(data_folder))(str(data_folder), [case])
    labels = as_labels(dataset.load_case(case)[1][:][0])
    _check_labels(labels, settings.scheme, case, data_folder)
    for kind in kinds:
        metadata = settings.describe(kind) | {"segmentation": fingerprint}
        if kind == LESION_IDS:
            array, table = compressed_lesions(labels, settings, compact)
            metadata["lesions"] = _plain(asdict(table))
        else:
            array = compressed_distances(kind, labels, settings, compact)
        array.schunk.vlmeta[_METADATA_KEY] = metadata
        write_atomically(map_path(data_folder, kind, case), array.to_cframe())


def remove_leftovers(data_folder: str | Path, cases: Iterable[str] | None = None) -> None:
    """Delete temporary files of writers on this machine that died: of these cases, or of all."""
    chosen = None if cases is None else set(cases)
    for path in (Path(data_folder) / FOLDER_NAME).glob("*/.*.tmp"):
        writer = _TEMPORARY_NAME.fullmatch(path.name)
        if writer is None or (chosen is not None and writer["case"] not in chosen):
            continue
        if writer["host"] == host_name() and not _is_alive(int(writer["pid"])):
            path.unlink(missing_ok=True)


def _check_labels(labels: np.ndarray, scheme: LabelScheme, case: str, data_folder: str | Path) -> None:
    if labels.max() > scheme.highest_label:
        raise ValueError(
            f"Case '{case}' in {data_folder} holds label {int(labels.max())}, but the dataset's highest is "
            f"{scheme.highest_label}. Correct the label file or dataset.json and preprocess again."
        )


def _fingerprint(data_folder: str | Path, case: str) -> str:
    """Hash of the file that holds the segmentation: compressed, so small and read in a moment."""
    for name in (f"{case}_seg.b2nd", f"{case}.npz"):
        path = Path(data_folder) / name
        if path.is_file():
            return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    raise FileNotFoundError(f"No preprocessed case '{case}' in {data_folder}. Run: nnUNetv2_preprocess")


def _advice(data_folder: str | Path) -> str:
    folder = Path(data_folder)
    plans, _, configuration = folder.name.partition("_")
    of_plans = "" if plans == "nnUNetPlans" else f" -p {plans}"
    return f"Run: nnunet-rw maps -d {folder.parent.name} -c {configuration}{of_plans}"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _plain(value: Any) -> Any:
    """Nested lists and numbers that msgpack stores and returns unchanged."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
