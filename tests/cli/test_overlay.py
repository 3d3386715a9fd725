"""`nnunet-rw overlay`: figures and files of two folders."""

import pytest
from segmentation_files import EMPTY, PREDICTION, REFERENCE, write_folders

from nnunet_rw.cli import main


@pytest.fixture
def options(tmp_path):
    predictions = {"a": PREDICTION, "b": EMPTY}
    folders = write_folders(tmp_path / "data", dict.fromkeys("ab", REFERENCE), predictions)
    return "-p", folders[0], "-g", folders[1], "-np", 1


def test_figures_and_files(succeeds, options, tmp_path):
    text = succeeds("overlay", *options, "--worst", 1, "-o", tmp_path / "out")
    *figures, folder = text.splitlines()
    assert folder == str(tmp_path / "out" / "overlays")
    assert set(figures) == {str(path) for path in (tmp_path / "out").glob("*.png")}
    assert any("worst_cases" in figure for figure in figures)
    assert any("missed_lesions" in figure for figure in figures)
    names = {path.name.split("_")[0] for path in (tmp_path / "out" / "overlays").glob("*.nii.gz")}
    assert names == {"a", "b"}
    assert (tmp_path / "out" / "overlays" / "labels.txt").is_file()


def test_figures_alone(succeeds, options, tmp_path):
    succeeds("overlay", *options, "--no-nifti", "-o", tmp_path / "out")
    assert not (tmp_path / "out" / "overlays").exists()
    assert len(list((tmp_path / "out").glob("*.png"))) >= 2


@pytest.mark.parametrize("option", [("--tolerance", "5"), ("--fast",), ("--probabilities",), ("--scores", "cc")])
def test_no_option_without_effect(capsys, options, option):
    with pytest.raises(SystemExit):
        main(["overlay", *map(str, options), *option])
    assert f"unrecognized arguments: {' '.join(option)}" in capsys.readouterr().err


def test_neither_folders_nor_model(fails):
    assert fails("overlay", "-d", 4).startswith("Give either -p PREDICTIONS and -g REFERENCES")


def test_no_such_folder(fails, options, tmp_path):
    assert str(tmp_path / "nowhere") in fails("overlay", "-p", tmp_path / "nowhere", *options[2:])
