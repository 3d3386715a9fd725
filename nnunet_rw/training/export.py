"""Trained models for people who do not have this package."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

import torch

from nnunet_rw.datasets.folders import dataset_folder

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

    The network is nnU-Net's own, only the loss was another, so the weights are the same; the checkpoint names
    ``nnUNetTrainer`` in place of the trainer. ``nnUNetv2_predict_from_modelfolder -m`` takes the folder.

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
        The folder to be written exists, or a checkpoint is damaged.
    """
    model = dataset_folder(dataset, "nnUNet_results") / f"{trainer}__{plans_name}__{configuration}"
    if not model.is_dir():
        raise FileNotFoundError(
            f"No trained model {model}. Run: nnUNetv2_train {dataset} {configuration} 0 -tr {trainer} -p {plans_name}"
        )
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

    # All is written beside the target and renamed at the end: a model is there whole or not at all.
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        for name in ("plans.json", "dataset.json", "dataset_fingerprint.json"):
            shutil.copyfile(model / name, temporary / name)
        for name in names:
            (temporary / name).mkdir()
            torch.save(_as_stock(model / name / checkpoint), temporary / name / checkpoint)
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _as_stock(path: Path) -> dict:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=False)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise ValueError(f"{path} is damaged ({error}). Give another checkpoint with -chk or train again.") from error
    checkpoint["trainer_name"] = _STOCK_TRAINER
    # Stock nnU-Net plots as many epochs as its shortest curve has; curves that it does not continue would stop it.
    checkpoint["logging"] = {
        key: values for key, values in checkpoint["logging"].items() if not key.startswith(_OWN_CURVES)
    }
    return checkpoint
