"""The nnU-Net that this package is written against: what it overrides and calls, and whether the installed one fits."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

OLDEST = (2, 8)
NEWEST_TESTED = "2.8.1"
_INSTALL = "pip install -U 'nnunetv2>=2.8,<3'"

_TRAINER = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer"
_LOADER = "nnunetv2.training.dataloading.data_loader"
_SPATIAL = "batchgeneratorsv2.transforms.spatial.spatial"

# "module:name" to the parameters, all of them in their order: whoever calls these gets this package's own, which take
# no others. None: this package's own hand on whatever they get.
OVERRIDDEN: dict[str, str | None] = {
    f"{_TRAINER}:nnUNetTrainer.__init__": "self, plans, configuration, fold, dataset_json, device",
    f"{_TRAINER}:nnUNetTrainer.initialize": "self",
    f"{_TRAINER}:nnUNetTrainer.configure_optimizers": "self",
    f"{_TRAINER}:nnUNetTrainer.load_checkpoint": "self, filename_or_checkpoint",
    f"{_TRAINER}:nnUNetTrainer._build_loss": "self",
    f"{_TRAINER}:nnUNetTrainer.get_dataloaders": "self",
    f"{_TRAINER}:nnUNetTrainer.get_tr_and_val_datasets": "self",
    f"{_TRAINER}:nnUNetTrainer.get_training_transforms": None,
    f"{_TRAINER}:nnUNetTrainer.get_validation_transforms": None,
    f"{_TRAINER}:nnUNetTrainer.on_train_start": "self",
    f"{_TRAINER}:nnUNetTrainer.on_train_end": "self",
    f"{_TRAINER}:nnUNetTrainer.on_epoch_start": "self",
    f"{_TRAINER}:nnUNetTrainer.on_epoch_end": "self",
    f"{_TRAINER}:nnUNetTrainer.on_train_epoch_start": "self",
    f"{_TRAINER}:nnUNetTrainer.on_train_epoch_end": "self, train_outputs",
    f"{_TRAINER}:nnUNetTrainer.on_validation_epoch_end": "self, val_outputs",
    f"{_TRAINER}:nnUNetTrainer.train_step": "self, batch",
    f"{_TRAINER}:nnUNetTrainer.validation_step": "self, batch",
    f"{_TRAINER}:nnUNetTrainer.perform_actual_validation": "self, save_probabilities",
    f"{_LOADER}:nnUNetDataLoader.__init__": None,
    f"{_LOADER}:nnUNetDataLoader.get_bbox": None,
    f"{_LOADER}:nnUNetDataLoader.generate_train_batch": "self",
    f"{_SPATIAL}:SpatialTransform.apply": "self, data_dict, params",
}

# What is called, or put into nnU-Net's modules in another's place, with the parameters that it must have; others must
# have defaults.
CALLED: dict[str, str] = {
    f"{_TRAINER}:nnUNetDataLoader": (
        "data, batch_size, patch_size, final_patch_size, label_manager, oversample_foreground_percent, "
        "sampling_probabilities, pad_sides, probabilistic_oversampling, transforms"
    ),
    f"{_TRAINER}:NonDetMultiThreadedAugmenter": "data_loader, transform, num_processes, num_cached, seeds, pin_memory",
    f"{_TRAINER}:nnUNetTrainer.print_to_log_file": "self, args",
    "nnunetv2.training.dataloading.nnunet_dataset:nnUNetBaseDataset.load_case": "self, identifier",
    "nnunetv2.training.dataloading.nnunet_dataset:infer_dataset_class": "folder",
    "nnunetv2.training.dataloading.nnunet_dataset:comp_blosc2_params": "image_size, patch_size",
    "nnunetv2.training.loss.deep_supervision:DeepSupervisionWrapper": "loss, weight_factors",
    "nnunetv2.training.lr_scheduler.polylr:PolyLRScheduler": "optimizer, initial_lr, max_steps",
    "nnunetv2.utilities.find_class_by_name:recursive_find_python_class": (
        "folder, class_name, current_module, base_folder, cleanup_imports_from_base_folder"
    ),
    "nnunetv2.utilities.ddp_allgather:AllGatherGrad.forward": "ctx, tensor",
    f"{_SPATIAL}:SpatialTransform.get_parameters": "self, data_dict",
    "batchgeneratorsv2.transforms.utils.compose:ComposeTransforms": "transforms",
    "batchgeneratorsv2.transforms.utils.remove_label:RemoveLabelTansform": "label_value, set_to",
    "batchgeneratorsv2.transforms.utils.cropping:crop_tensor": "input_tensor, center, crop_size",
}


def check_nnunet_version(installed: str | None = None) -> str:
    """The installed version of nnU-Net.

    Raises
    ------
    ImportError
        It is older than 2.8: its loader and augmentation lack what the maps travel through.
    """
    installed = installed or version("nnunetv2")
    numbers = tuple(int(part) for part in installed.split(".")[:2])
    if numbers < OLDEST:
        raise ImportError(f"Expected nnunetv2 2.8 or newer, but got {installed}. Run: {_INSTALL}")
    return installed


def check_nnunet() -> str:
    """As `check_nnunet_version`, and that all in `OVERRIDDEN` and `CALLED` is as this package knows it.

    Raises
    ------
    ImportError
        It is not: one line names method, version and what was expected.
    """
    installed = check_nnunet_version()
    problems = list(mismatches())
    if problems:
        raise ImportError(
            f"{'; '.join(problems)}. Run: pip install 'nnunetv2=={NEWEST_TESTED}', the newest that this nnunet_rw was "
            "tested with"
        )
    return installed


def mismatches() -> Iterator[str]:
    """What is otherwise in the installed nnU-Net than here, a line each."""
    for path, exact in OVERRIDDEN.items():
        found = _parameters(path)
        if found is None or (exact is not None and [*found] != exact.split(", ")):
            yield _told(path, exact, found)
    for path, needed in CALLED.items():
        found, names = _parameters(path), needed.split(", ")
        others = [] if found is None else [found[name] for name in found if name not in names]
        if found is None or not found.keys() >= set(names) or any(map(_is_required, others)):
            yield _told(path, needed, found)


def _parameters(path: str) -> dict[str, inspect.Parameter] | None:
    """Of what a path names, by name and in order; None where there is no such thing."""
    module, _, name = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        return None
    return dict(inspect.signature(found).parameters)


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return not variadic and parameter.default is parameter.empty


def _told(path: str, expected: str | None, found: dict[str, inspect.Parameter] | None) -> str:
    module, _, name = path.partition(":")
    package = module.partition(".")[0]
    try:
        with_version = f"{package} {version(package)}"
    except PackageNotFoundError:
        with_version = package
    wanted = name if expected is None else f"{name}({expected})"
    if found is None:
        return f"Expected {wanted} in {module}, but {with_version} has no such name"
    return f"Expected {wanted} in {module}, but {with_version} has {name}({', '.join(found)})"
