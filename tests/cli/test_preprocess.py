"""`nnunet-rw preprocess`: nnU-Net's preprocessing, followed by maps."""

import shutil
import sys

import pytest

from nnunet_rw.cli import main
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS


@pytest.fixture
def raw_hippocampus(hippocampus, thread_pools, monkeypatch):
    # With 0 nnU-Net's planning asks torch for no threads at all, and fails.
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    return hippocampus.preprocessed / "Dataset004_Hippocampus"


PREPROCESS = ("preprocess", "-d", "4", "-c", "3d_fullres", "-np", "1", "-npfp", "1", "--no_pbar")


@pytest.mark.slow
def test_preprocess_writes_maps_of_what_it_preprocessed(raw_hippocampus, succeeds, maps_of):
    shutil.rmtree(raw_hippocampus)
    succeeds(*PREPROCESS, "--verify_dataset_integrity")
    maps = maps_of(raw_hippocampus / "nnUNetPlans_3d_fullres")
    assert len(maps) == 12
    assert {name.split("/")[0] for name in maps} == {INTERIOR_DISTANCE, LESION_IDS}
    assert not (raw_hippocampus / "nnUNetPlans_2d").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nnUNetPlansOwn", "fine"])
def test_preprocess_under_another_plans_name(raw_hippocampus, succeeds, maps_of, name):
    options = ("-overwrite_plans_name", name, "-overwrite_target_spacing", "1", "1", "1", "--kind", LESION_IDS)
    succeeds(*PREPROCESS, *options)
    assert len(maps_of(raw_hippocampus / f"{name}_3d_fullres")) == 6
    # Other plans' data stay without, as they were not preprocessed.
    assert maps_of(raw_hippocampus / "nnUNetPlans_3d_fullres") == {}


@pytest.mark.slow
def test_preprocess_of_plans_alone_writes_no_maps(raw_hippocampus, succeeds, maps_of):
    succeeds(*PREPROCESS, "--no_pp")
    assert maps_of(raw_hippocampus / "nnUNetPlans_3d_fullres") == {}


def last_line_of_failure(capsys, *arguments):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_preprocess_of_an_unknown_dataset(nnunet, capsys):
    line = last_line_of_failure(capsys, "preprocess", "-d", "4", "-c", "3d_fullres")
    assert line.startswith("nnunet-rw: nnUNetv2_plan_and_preprocess failed: Could not find a dataset with the ID 4.")


def test_preprocess_of_no_dataset(nnunet, fails):
    assert fails("preprocess", "-c", "3d_fullres") == "No dataset. Give its number: nnunet-rw preprocess -d 4"


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed"])
def test_preprocess_without_folders(nnunet, fails, monkeypatch, variable):
    monkeypatch.delenv(variable)
    assert fails("preprocess", "-d", "4") == f"{variable} is not set. Run: export {variable}=FOLDER"


def test_preprocess_leaves_the_arguments_of_this_process_alone(nnunet, capsys):
    before = list(sys.argv)
    last_line_of_failure(capsys, "preprocess", "-d", "4")
    assert sys.argv == before
