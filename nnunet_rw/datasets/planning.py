"""nnU-Net's planning and preprocessing followed by the maps, and plans with a small network for quick comparisons."""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.experiment_planning.plan_and_preprocess_api import preprocess
from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from typing_extensions import TypedDict

from nnunet_rw.datasets.folders import (
    OTHER_FILES,
    data_configurations,
    dataset_folder,
    open_preprocessed,
    plan_again,
    read_dataset_json,
    read_plans,
)
from nnunet_rw.store.write import ensure_maps
from nnunet_rw.util.advice import command, dataset_number
from nnunet_rw.util.files import check_plans_name, nnunet_folder, replaced, write_atomically
from nnunet_rw.util.readers import read_json, reason, told


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


def preprocess_as_planned(dataset: str, plans_name: str, configuration: str, processes: int) -> None:
    """Run nnU-Net's preprocessing of one configuration by plans that are there, which stay as they are.

    Raises
    ------
    FileNotFoundError, ValueError
        There are no such plans, they have no such configuration, a file that nnU-Net reads is damaged, or nnU-Net
        failed; its message follows.
    """
    open_preprocessed(dataset, configuration, plans_name)
    _check_files(dataset, extracts_anew=True)
    number = int(dataset_number(dataset))
    try:
        preprocess([number], plans_name, [configuration], [processes], show_progress_bar=False)
    except Exception as error:  # of readers and workers
        raise ValueError(f"nnUNetv2_preprocess failed: {reason(error)}") from error


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


# nnU-Net 2.8 gives the coarsest deep-supervision output no weight. Two stages have no other: the loss is NaN.
MIN_STAGES = 3
# InstanceNorm refuses a single voxel in training.
MIN_BOTTLENECK_EDGE_VOXELS = 2


def small_plans(
    plans: dict[str, Any],
    name: str = "nnUNetPlansSmall",
    max_patch: int = 48,
    features: Sequence[int] = (8, 16, 32, 64),
    batch_size: int = 2,
) -> dict[str, Any]:
    """
    Copy nnU-Net's plans with every configuration made small.

    Kernel sizes and strides are those of the stock plan's first stages, which respect anisotropy; where the
    stock plan has fewer stages, kernels of 3 and strides of 2 (1 along an axis too short for it) are added.
    The patch is cut to `max_patch` and rounded down to a multiple of the strides. Stages are left out where
    the coarsest feature map would have an edge below 2 voxels along an axis that they pool.
    `data_identifier`, spacing, normalisation and resampling stay: the stock plan's preprocessed arrays serve.
    A configuration that inherits from another gets own values only for what it overrides.

    Parameters
    ----------
    plans : content of nnUNetPlans.json; not changed
    name : plans name, which becomes part of the results folder
    max_patch : voxels per axis, at most
    features : channels per stage, finest first; as many stages at most
    batch_size : patches per batch

    Raises
    ------
    ValueError
        If `name` is the stock plan's own, a number is impossible, or a patch is too small for 3 stages.
    """
    if name == plans["plans_name"]:
        raise ValueError(f"The plans are named '{name}' already. Choose another name for the small ones.")
    if len(features) < MIN_STAGES or min(features) < 1 or batch_size < 1:
        raise ValueError(
            f"Expected at least {MIN_STAGES} stages of features and a batch of at least 1, "
            f"but got features={tuple(features)} and {batch_size=}."
        )
    small = copy.deepcopy(plans)
    small["plans_name"] = name
    manager = PlansManager(copy.deepcopy(plans))
    for configuration_name, configuration in small["configurations"].items():
        resolved = manager.get_configuration(configuration_name).configuration
        architecture, patch_size = _small_architecture(
            configuration_name, resolved["architecture"], resolved["patch_size"], max_patch, features
        )
        changed = {"batch_size": batch_size, "patch_size": patch_size, "architecture": architecture}
        inherits = "inherits_from" in configuration
        # A patch or network of its own needs the other to fit.
        if inherits and not {"patch_size", "architecture"} & configuration.keys():
            changed = {key: value for key, value in changed.items() if key in configuration}
        configuration.update(changed)
    return small


def _small_architecture(configuration_name, architecture, stock_patch, max_patch, features):
    """Architecture and patch size of one configuration."""
    architecture = copy.deepcopy(architecture)
    kwargs = architecture["arch_kwargs"]
    patch = [min(edge, max_patch) for edge in stock_patch]
    strides = _strides(kwargs["strides"], patch, len(features))
    num_stages = len(strides)
    if num_stages < MIN_STAGES:
        raise ValueError(
            f"Configuration {configuration_name}: a patch of {patch} allows {num_stages} stages, but deep "
            f"supervision needs {MIN_STAGES}. Raise max_patch (it is {max_patch}) or use larger images."
        )
    kernel_sizes = [list(kernel) for kernel in kwargs["kernel_sizes"][:num_stages]]
    kernel_sizes += [[3] * len(patch)] * (num_stages - len(kernel_sizes))
    # Residual encoders count blocks, plain ones convolutions.
    encoder_key = "n_blocks_per_stage" if "n_blocks_per_stage" in kwargs else "n_conv_per_stage"
    kwargs.update(
        {
            "n_stages": num_stages,
            "features_per_stage": list(features[:num_stages]),
            "kernel_sizes": kernel_sizes,
            "strides": strides,
            encoder_key: [2] * num_stages,
            "n_conv_per_stage_decoder": [1] * (num_stages - 1),
        }
    )
    factor = np.prod(strides, axis=0).tolist()
    return architecture, [edge // f * f for edge, f in zip(patch, factor, strict=True)]


def _strides(stock_strides, patch, max_stages):
    """The stock strides, continued and shortened as the patch allows; lists of ints, one per stage."""
    strides: list[list[int]] = []
    for stage in range(max_stages):
        factor = np.prod([[1] * len(patch), *strides], axis=0).tolist()
        edges = [edge // f for edge, f in zip(patch, factor, strict=True)]
        if stage < len(stock_strides):
            stride = [int(s) for s in stock_strides[stage]]
        else:
            stride = [2 if edge >= 2 * MIN_BOTTLENECK_EDGE_VOXELS else 1 for edge in edges]
            if max(stride) == 1:
                break
        pooled = [edge // s for edge, s in zip(edges, stride, strict=True) if s > 1]
        if pooled and min(pooled) < MIN_BOTTLENECK_EDGE_VOXELS:
            break
        strides.append(stride)
    return strides


def write_small_plans(
    preprocessed_dataset_folder: str | os.PathLike,
    plans_name: str = "nnUNetPlans",
    name: str = "nnUNetPlansSmall",
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """
    Write `<name>.json` beside `<plans_name>.json`. Train with `-p <name>`.

    Parameters
    ----------
    preprocessed_dataset_folder : <nnUNet_preprocessed>/<dataset>
    plans_name : the stock plans
    name, options : see `small_plans`
    overwrite : replace other plans of this name, with which models may have been trained

    Returns
    -------
    Path of the written file.

    Raises
    ------
    FileNotFoundError
        If the stock plans are missing.
    ValueError
        A name is none of a file in the folder, see `small_plans`; the stock plans are damaged; or there are other plans
        of this name.
    """
    check_plans_name(plans_name)
    check_plans_name(name)
    folder = Path(preprocessed_dataset_folder).absolute()
    source, target = folder / f"{plans_name}.json", folder / f"{name}.json"
    stock = read_plans(source)
    if name == plans_name:
        raise ValueError(f"'{name}' are the stock plans. Choose another name for the small ones.")
    with told(source, plan_again(folder.name, plans_name), errors=(KeyError, AttributeError)):
        plans = small_plans(stock, name=name, **options)
    content = (json.dumps(plans, indent=4) + "\n").encode()
    if target.is_file() and not overwrite and target.read_bytes() != content:
        raise ValueError(
            f"{target} has other plans, with which models may have been trained. Choose another name for these; the "
            "option --overwrite of small-plans replaces them."
        )
    write_atomically(target, content)
    return target
