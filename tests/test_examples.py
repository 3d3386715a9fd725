"""The examples run, and their networks learn."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def main_of(name):
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


def assert_learns(losses, scores, steps):
    assert len(losses) == steps
    assert sum(losses[-5:]) < 0.6 * sum(losses[:5])
    assert all(0 <= score <= 1 for score in scores)
    # The larger objects; the lesions take longer.
    assert max(scores) > 0.5


def test_plain_pytorch(capsys):
    losses, scores = main_of("plain_pytorch")(steps=30)
    assert_learns(losses, scores, 30)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"step   0: loss {losses[0]:.3f} (dice ")
    assert lines[-1] == f"Dice: organ {scores[0]:.2f}, lesions {scores[1]:.2f}"


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_monai_unet(capsys):
    pytest.importorskip("monai")
    losses, scores = main_of("monai_unet")(steps=30)
    assert_learns(losses, scores, 30)
    assert capsys.readouterr().out.splitlines()[-1] == f"Dice: {scores[0]:.2f} and {scores[1]:.2f}"


def test_every_example_is_tested():
    text = Path(__file__).read_text()
    assert [path.stem for path in EXAMPLES.glob("*.py") if f'main_of("{path.stem}")' not in text] == []
