import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from segmentation_files import PREDICTION, REFERENCE, source_of

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.evaluate import write_evaluation
from nnunet_rw.pictures.reliability import draw_reliability

FAST = EvaluationSettings(fast=True)
PROBABILITIES = np.stack([1 - 0.75 * PREDICTION, 0.75 * PREDICTION])


@pytest.fixture
def lines(monkeypatch):
    """What was drawn: x and y of every curve, with its name."""
    drawn = []
    save = Figure.savefig

    def remember(figure, *args, **options):
        drawn.extend((line.get_label(), *line.get_data()) for axis in figure.axes for line in axis.lines)
        save(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    return drawn


def test_curve_by_hand(tmp_path, lines):
    source = source_of(tmp_path, {"a": (REFERENCE, PREDICTION)}, probabilities={"a": PROBABILITIES})
    summary = write_evaluation(source, FAST, tmp_path / "out")
    path = draw_reliability(tmp_path / "out", json.loads(json.dumps(summary)))
    assert path == tmp_path / "out" / "reliability.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    # Of 6 predicted voxels 2 are in the reference, of the other 154 three.
    _, (name, x, y) = lines
    assert name == f"1: error from 0.1 on {0.75 - 2 / 6:.3f}"
    assert (x.tolist(), y.tolist()) == ([0, 0.75], pytest.approx([3 / 154, 2 / 6]))


def test_without_probabilities_no_earlier_figure_is_left(tmp_path):
    cases = {"a": (REFERENCE, PREDICTION)}
    summary = write_evaluation(source_of(tmp_path, cases), FAST, tmp_path / "out")
    (tmp_path / "out" / "reliability.png").write_text("of an earlier evaluation")
    assert draw_reliability(tmp_path / "out", summary) is None
    assert not (tmp_path / "out" / "reliability.png").exists()
