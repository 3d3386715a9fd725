"""Figures that stay open, to be looked at."""

import matplotlib.pyplot as plt
import pytest


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, whose closing is put off to the end of the test."""
    figures = []
    with monkeypatch.context() as patch:
        patch.setattr(plt, "close", figures.append)
        yield figures
    for figure in figures:
        plt.close(figure)
