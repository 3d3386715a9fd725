"""Trainings of tests draw no figures, and most are of three small cases."""

import pytest


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    """nnU-Net draws a progress figure of 30 x 54 inches every epoch."""
    from nnunetv2.training.logging.nnunet_logger import LocalLogger

    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda self, folder: None)


@pytest.fixture
def small_dataset(make_dataset, blobs):
    return make_dataset({name: blobs((20, 22, 24), seed) for seed, name in enumerate("abc")})
