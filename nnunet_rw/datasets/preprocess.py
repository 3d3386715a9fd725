"""nnU-Net's planning and preprocessing, followed by the maps."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry
from typing_extensions import TypedDict

from nnunet_rw.datasets.folders import OTHER_FILES, data_configurations, dataset_folder, open_preprocessed
from nnunet_rw.datasets.labels import read_dataset_json
from nnunet_rw.store.write import ensure_maps
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import nnunet_folder, replaced
from nnunet_rw.util.readers import read_json, reason


class _Fingerprint(TypedDict):
    """Of what planning needs."""

    spacings: list[Any]
    shapes_after_crop: list[Any]


def preprocess_with_maps(arguments: Sequence[str], kinds: Sequence[str]) -> None:
    """Run ``nnUNetv2_plan_and_preprocess`` with these arguments, then write maps of what it preprocessed.

    Parameters
    ----------
    arguments : sequence of str
        Of nnU-Net's command, handed on unread but for the datasets, the configurations and ``--no_pp``.
    kinds : sequence of str
        Of map.

    Raises
    ------
    FileNotFoundError
        nnU-Net's folders are not set.
    ValueError
        No dataset is given, a file that nnU-Net reads is damaged, or nnU-Net failed; its message follows.
    """
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        nnunet_folder(variable)
    known = argparse.ArgumentParser(add_help=False)
    known.add_argument("-d", nargs="*", default=[])
    known.add_argument("-c", nargs="+", default=["2d", "3d_fullres", "3d_lowres"])
    known.add_argument("--no_pp", action="store_true")
    known.add_argument("--clean", action="store_true")
    options, _ = known.parse_known_args(arguments)
    if not options.d:
        raise ValueError(f"No dataset. Give its number: {command('preprocess', dataset=4)}")
    for dataset in options.d:
        _check_files(dataset, options.clean)

    before = _plans(options.d)
    # The entry point parses sys.argv itself.
    try:
        with replaced(sys, "argv", ["nnUNetv2_plan_and_preprocess", *arguments]):
            plan_and_preprocess_entry()
    except Exception as error:  # of planners, readers and workers
        raise ValueError(f"nnUNetv2_plan_and_preprocess failed: {reason(error)}") from error
    if options.no_pp:
        return
    # Which name the plans got depends on the planner; it is the file that has just been written.
    for path, written in _plans(options.d).items():
        if before.get(path) == written:
            continue
        for name in data_configurations(path.parent.name, path.stem):
            if name in options.c:
                data = open_preprocessed(path.parent.name, name, path.stem)
                ensure_maps(data.data_folder, kinds, data.settings)


def _check_files(dataset: str, extracts_anew: bool) -> None:
    """Raise an error that names the file where nnU-Net would fail somewhere else."""
    with suppress(FileNotFoundError):  # that nnU-Net tells of
        read_dataset_json(dataset_folder(dataset, "nnUNet_raw") / "dataset.json")
    with suppress(FileNotFoundError):
        path = dataset_folder(dataset) / "dataset_fingerprint.json"
        if not extracts_anew:
            read_json(path, "Remove it: it is made again.", _Fingerprint)


def _plans(datasets: Sequence[str]) -> dict[Path, int]:
    """Plans files with the time they were written."""
    files: dict[Path, int] = {}
    for dataset in datasets:
        try:
            folder = dataset_folder(dataset)
        except FileNotFoundError:
            continue
        for path in folder.glob("[!.]*.json"):
            if path.name not in OTHER_FILES:
                files[path] = path.stat().st_mtime_ns
    return files
