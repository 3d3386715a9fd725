"""Trainers that are compared; to be imported where the environment names nnU-Net's folders."""

from __future__ import annotations

from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import device

from benchmarks.synthetic_dataset import CONFIGURATION
from nnunet_rw.datasets.folders import dataset_folder
from nnunet_rw.losses import Term
from nnunet_rw.training.catalogue import trainer_classes

RWTrainer = trainer_classes()["RWTrainer"]


class RWPatchTrainer(RWTrainer):
    """Distances of the augmented patch: by the loader on a CPU, by the loss on a GPU."""

    map_source = "patch"


class WeightedTrainer(RWTrainer):
    """Distances and lesion ids."""

    loss_terms = (*RWTrainer.loss_terms, Term("ce", options={"reweight": "inverse_volume"}))


class WeightedPatchTrainer(WeightedTrainer):
    """The same, of the augmented patch."""

    map_source = "patch"


def trainer_of(
    trainer_class: type[nnUNetTrainer], dataset: str, on: device, plans_name: str = "nnUNetPlans"
) -> nnUNetTrainer:
    """A trainer of 3d_fullres that trains and validates on all cases."""
    folder = dataset_folder(dataset)
    plans, dataset_json = load_json(str(folder / f"{plans_name}.json")), load_json(str(folder / "dataset.json"))
    plans["continue_training"] = False  # nnU-Net takes it out again
    return trainer_class(plans, CONFIGURATION, "all", dataset_json, on)


__all__ = ["RWPatchTrainer", "RWTrainer", "WeightedPatchTrainer", "WeightedTrainer", "nnUNetTrainer", "trainer_of"]
