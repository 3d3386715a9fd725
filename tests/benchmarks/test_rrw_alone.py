"""The rectified region-wise loss alone trains with its authors' optimiser: a short training on real data."""

import pytest
import torch
from nnunetv2.run.run_training import run_training
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from nnunet_rw.datasets.small_plans import write_small_plans
from nnunet_rw.training.records import read_run_record

DATASET = "Dataset004_Hippocampus"


@pytest.mark.slow
def test_it_leaves_the_background(hippocampus, monkeypatch):
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda self, folder: None)
    write_small_plans(hippocampus.preprocessed / DATASET, name="small", max_patch=32)
    trainer = "RWTrainer_RRW_6epochs_50iterations_seed0"
    run_training("4", "3d_fullres", 1, trainer, "small", device=torch.device("cpu"))
    record = read_run_record(hippocampus.results / DATASET / f"{trainer}__small__3d_fullres" / "fold_1")
    assert record.optimizer.startswith("Adam, lr 0.001")
    # With nnU-Net's SGD it is 0.00 after each epoch.
    assert record.epochs[-1].pseudo_dice > 0.15
