"""`nnunet-rw ensemble`: averaging folders, and what the user may get wrong."""

import json

import numpy as np
import pytest
from ensemble_files import one_hot, read_labels

from nnunet_rw.cli import main

RIGHT = np.zeros((4, 5, 6), int)
RIGHT[1, 1:3, 2:5] = 1
RIGHT[3, 3, 3] = 2
NOTHING = np.zeros_like(RIGHT)


@pytest.fixture
def folders(predictions):
    """Two models of two cases, one right and one that predicts nothing, less surely."""
    unsure = 0.4 * one_hot(NOTHING) + 0.2
    return [
        predictions("right", {"a": one_hot(RIGHT), "b": one_hot(NOTHING)}),
        predictions("nothing", {"a": unsure, "b": unsure}),
    ]


def run(*arguments):
    return main(["ensemble", *map(str, arguments)])


def test_equal_weights(folders, tmp_path, capsys):
    assert run("-i", *folders, "-o", tmp_path / "out", "-np", 1) == 0
    assert capsys.readouterr().out == f"2 cases in {tmp_path / 'out'}\n"
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "a.nii.gz"), RIGHT)
    assert not list((tmp_path / "out").glob("*.npz"))


def test_components_that_are_too_small_go(folders, tmp_path):
    # Voxels of 6 mm3: the lesion of class 2 has one, that of class 1 six.
    arguments = "-i", *folders, "-o", tmp_path / "out", "--min-component", 7, "--save-probabilities", "-np", 1
    assert run(*arguments) == 0
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "a.nii.gz"), np.where(RIGHT == 2, 0, RIGHT))
    assert (tmp_path / "out" / "a.npz").is_file()
    assert json.loads((tmp_path / "out" / "ensemble.json").read_text())


def test_probabilities_of_an_earlier_run_are_not_left_beside_other_segmentations(folders, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ("-i", *folders, "-o", out, "-np", 1)
    assert run(*arguments, "--save-probabilities") == run(*arguments, "--save-probabilities") == 0
    capsys.readouterr()
    assert run(*arguments) == 2
    assert "but got a.npz and 3 more. Name another folder" in capsys.readouterr().err
    for path in (*out.glob("*.npz"), *out.glob("*.pkl")):
        path.unlink()
    assert run(*arguments) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-i", "one"), "Give either -i with two or more folders"),
        (("--fit", "-d", "4", "-tr", "RWTrainer"), "Give either -i with two or more folders"),
        (("-i", "one", "two", "--fit"), "Give either -i with two or more folders"),
        (("-i", "one", "two"), "one"),
    ],
)
def test_what_is_missing_is_told_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("nnunet-rw: ")
    assert message in error
    assert error.count("\n") == 1
