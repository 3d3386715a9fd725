"""Trainings on a CPU, of the synthetic dataset if of no other, as nnUNetv2_train begins them."""

import numpy as np
import torch
from nnunetv2.run.run_training import get_trainer_from_args, run_training

CPU = torch.device("cpu")
SYNTHETIC = "Dataset900_Synthetic"
SHORT = "RWTrainer_1epochs_2iterations"
LABELS = {
    "lesion": {"labels": {"background": 0, "lesion": 1}},
    "classes": {"labels": {"background": 0, "one": 1, "two": 2}},
    "ignore": {"labels": {"background": 0, "one": 1, "two": 2, "ignore": 3}},
    "regions": {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
    "regions_ignore": {
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "regions_class_order": [1, 2],
    },
}


def make_trainer(name=SHORT, configuration="3d_fullres", dataset=SYNTHETIC, plans="nnUNetPlans", **options):
    return get_trainer_from_args(dataset, configuration, 0, name, plans, device=CPU, **options)


def train(trainer=SHORT, configuration="3d_fullres", dataset=SYNTHETIC, fold=0, plans="nnUNetPlans", **options):
    run_training(dataset, configuration, fold, trainer, plans, device=CPU, **options)


def model_folder(folders, trainer=SHORT, configuration="3d_fullres", dataset=SYNTHETIC, plans="nnUNetPlans"):
    return folders.results / dataset / f"{trainer}__{plans}__{configuration}"


def curves(fold_folder, checkpoint="checkpoint_final.pth"):
    """What nnU-Net's logger holds, by name."""
    return torch.load(fold_folder / checkpoint, weights_only=False)["logging"]


def training_log(fold_folder):
    return "\n".join(path.read_text() for path in sorted(fold_folder.glob("training_log_*.txt")))


def map_files(data_folder):
    """Kind and case of every map; all are of the same settings."""
    return sorted(f"{path.parents[1].name}/{path.stem}" for path in data_folder.glob("rw_maps/*/*/*.b2nd"))


def check_trained(fold_folder, terms=("nnunet", "rrw")):
    logged = curves(fold_folder)
    assert np.isfinite(logged["train_losses"]).all()
    assert np.isfinite(logged["val_losses"]).all()
    assert {key for key in logged if "terms" in key} == {
        f"{part}_terms/{t}" for part in ("train", "val") for t in terms
    }
    assert (fold_folder / "validation" / "summary.json").is_file()
