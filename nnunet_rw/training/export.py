"""Trained models for people who do not have this package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_rw.datasets.folders import read_dataset_json, trained_model
from nnunet_rw.training.catalogue import VARIABLE, find_trainer
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import temporary_path
from nnunet_rw.util.readers import read_checkpoint, told

_STOCK_TRAINER = "nnUNetTrainer"
_OWN_CURVES = ("train_terms/", "val_terms/")


def export_model(
    dataset: str | int,
    configuration: str,
    trainer: str,
    output: str | Path,
    plans_name: str = "nnUNetPlans",
    folds: Sequence[str] | None = None,
    checkpoint: str = "checkpoint_final.pth",
) -> Path:
    """Copy a trained model as one of stock nnU-Net's.

    Where the network is nnU-Net's own and only the training was another, the weights are the same; the checkpoint
    names ``nnUNetTrainer`` in place of the trainer. ``nnUNetv2_predict_from_modelfolder -m`` takes the folder.

    Parameters
    ----------
    dataset, configuration, trainer, plans_name
        As for nnUNetv2_train.
    output : path
        The model goes to ``<output>/nnUNetTrainer__<plans>__<configuration>``, which must not exist.
    folds : sequence of str, optional
        Default: all that have the checkpoint.
    checkpoint : str
        File name.

    Returns
    -------
    Path
        The model's folder.

    Raises
    ------
    FileNotFoundError
        No such model, or a fold without checkpoint.
    ValueError
        The folder to be written exists; a checkpoint is damaged, none of nnU-Net's, or names code that reading it
        would run; or the network is not stock nnU-Net's: the trainer overrides ``build_network_architecture``, cannot
        be found, or has other weights than the plans' network.
    """
    model = trained_model(dataset, configuration, trainer, plans_name)
    names = (
        [f"fold_{fold}" for fold in folds]
        if folds
        else sorted(path.parent.name for path in model.glob(f"*/{checkpoint}"))
    )
    absent = [name for name in names if not (model / name / checkpoint).is_file()]
    if absent or not names:
        raise FileNotFoundError(
            f"No {checkpoint} in {', '.join(absent) or 'any fold'} of {model}. Finish the training."
        )
    target = Path(output) / f"{_STOCK_TRAINER}__{plans_name}__{configuration}"
    if target.exists():
        raise ValueError(f"{target} exists. Remove it or give another folder with -o.")

    _check_builds_stock_network(trainer)
    shapes = _stock_shapes(model, configuration)

    # All is written beside the target and renamed at the end: a model is there whole or not at all.
    temporary = temporary_path(target)
    temporary.mkdir(parents=True)
    try:
        for name in ("plans.json", "dataset.json", "dataset_fingerprint.json"):
            shutil.copyfile(model / name, temporary / name)
        for name in names:
            (temporary / name).mkdir()
            torch.save(_as_stock(model / name / checkpoint, trainer, shapes), temporary / name / checkpoint)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _prediction(trainer: str) -> str:
    places = {"images": "IMAGES", "output": "PREDICTIONS", "dataset": "DATASET", "configuration": "CONFIGURATION"}
    return command("nnUNetv2_predict", **places, trainer=trainer)


def _check_builds_stock_network(trainer: str) -> None:
    found = find_trainer(trainer)
    if found is None:
        raise ValueError(
            f"nnU-Net finds no trainer {trainer}, so its network may be another than stock nnU-Net's. Name its folder "
            f'in {VARIABLE}; for those of this package run: eval "$({command("env")})"'
        )
    # Other layers, such as activations, need not show in the weights.
    if found.build_network_architecture is not nnUNetTrainer.build_network_architecture:
        raise ValueError(
            f"{trainer} builds a network of its own (build_network_architecture), which stock nnU-Net would not. "
            f"Predict with the trainer itself: {_prediction(trainer)}"
        )


def _stock_shapes(model: Path, configuration: str) -> dict[str, torch.Size]:
    """Of the weights of the network that stock nnU-Net builds to predict."""
    dataset_json = read_dataset_json(model / "dataset.json")
    with told(model / "plans.json", "Copy it again from where the model was trained.", "is no plans file of nnU-Net"):
        plans = PlansManager(str(model / "plans.json"))
        manager = plans.get_configuration(configuration)
        channels = determine_num_input_channels(plans, manager, dataset_json)
        heads = plans.get_label_manager(dataset_json).num_segmentation_heads
    with torch.device("meta"):
        network = nnUNetTrainer.build_network_architecture(plans, manager, channels, heads, False)
    return {name: weights.shape for name, weights in network.state_dict().items()}


def _as_stock(path: Path, trainer: str, shapes: dict[str, torch.Size]) -> dict:
    advice = "Give another checkpoint with -chk or train again."
    checkpoint = read_checkpoint(path, advice, ("trainer_name", "network_weights", "logging"))
    with told(path, advice):
        own = {name: weights.shape for name, weights in checkpoint["network_weights"].items()}
    different = sorted(name for name in own.keys() | shapes.keys() if own.get(name) != shapes.get(name))
    if different:
        raise ValueError(
            f"{path} holds another network than stock nnU-Net builds from its plans: {len(different)} weights differ, "
            f"such as {different[0]}. Predict with the trainer itself: {_prediction(trainer)}"
        )
    checkpoint["trainer_name"] = _STOCK_TRAINER
    # Stock nnU-Net plots as many epochs as its shortest curve has; curves that it does not continue would stop it.
    with told(path, advice):
        checkpoint["logging"] = {
            key: values for key, values in checkpoint["logging"].items() if not key.startswith(_OWN_CURVES)
        }
    return checkpoint
