"""Trainings on a CPU, of the synthetic dataset if of no other, as nnUNetv2_train begins them."""

import torch
from nnunetv2.run.run_training import get_trainer_from_args

CPU = torch.device("cpu")
SYNTHETIC = "Dataset900_Synthetic"
SHORT = "RWTrainer_1epochs_2iterations"


def make_trainer(name=SHORT, configuration="3d_fullres", dataset=SYNTHETIC, plans="nnUNetPlans", **options):
    return get_trainer_from_args(dataset, configuration, 0, name, plans, device=CPU, **options)
