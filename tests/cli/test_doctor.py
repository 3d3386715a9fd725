"""`nnunet-rw doctor`: every fault that it looks for, and its advice."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_rw.cli import doctor, main
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS
from nnunet_rw.store.files import map_path
from nnunet_rw.training import catalogue, compatibility

TRAINERS = Path(__file__).resolve().parents[2] / "trainers"


@pytest.fixture
def findings(capsys):
    """Function that runs the doctor and returns its code and its lines, by level."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["doctor", *arguments])
        output = capsys.readouterr()
        assert output.err == ""
        lines = [line.split(maxsplit=1) for line in output.out.splitlines()]
        assert {level for level, _ in lines} <= {"ok", "note", "problem"}
        return code, {level: [text for other, text in lines if other == level] for level in ("ok", "note", "problem")}

    return run


def test_doctor_finds_nothing_wrong(nnunet, findings):
    code, found = findings()
    assert (code, found["problem"]) == (0, [])
    texts = found["ok"]
    assert f"Python {sys.version.split()[0]}" in texts
    for package in ("nnunet_rw", "nnunetv2", "batchgenerators", "batchgeneratorsv2", "torch", "blosc2", "edt"):
        assert any(re.fullmatch(rf"{package} \d\S+", text) for text in texts), package
    assert f"nnUNet_raw = {nnunet.root / 'nnUNet_raw'}" in texts
    assert f"nnU-Net finds RWTrainer in {TRAINERS}" in texts


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_doctor_finds_a_variable_that_is_not_set(nnunet, findings, monkeypatch, variable):
    monkeypatch.delenv(variable)
    code, found = findings()
    assert (code, found["problem"]) == (1, [f"{variable} is not set. Run: export {variable}=FOLDER"])


def test_doctor_finds_a_variable_that_names_no_folder(nnunet, findings, monkeypatch):
    folder = nnunet.root / "other"
    monkeypatch.setenv("nnUNet_results", str(folder))
    code, found = findings()
    advice = f"nnUNet_results names {folder}, which is no folder. Run: mkdir -p {folder}"
    assert (code, found["problem"]) == (1, [advice])
    subprocess.run(shlex.split(advice.split("Run: ")[1]), check=True)
    assert findings()[0] == 0


@pytest.mark.parametrize("folders", [None, "", "/somewhere/else"])
def test_doctor_finds_that_nnunet_cannot_find_the_trainers(nnunet, findings, monkeypatch, folders):
    if folders is None:
        monkeypatch.delenv(catalogue.VARIABLE)
    else:
        monkeypatch.setenv(catalogue.VARIABLE, folders)
    code, found = findings()
    assert (code, found["problem"]) == (1, ['nnU-Net does not find RWTrainer. Run: eval "$(nnunet-rw env)"'])


def test_doctor_finds_a_package_that_is_not_installed(nnunet, findings, monkeypatch):
    def version(package):
        if package == "edt":
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    code, found = findings()
    assert (code, found["problem"]) == (1, ["edt is not installed. Run: pip install edt"])


def test_doctor_finds_an_nnunet_that_is_too_old(nnunet, findings, monkeypatch):
    monkeypatch.setattr(compatibility, "version", lambda package: "2.5.1")
    code, found = findings()
    assert code == 1
    (problem,) = found["problem"]
    assert problem.startswith("Expected nnunetv2 2.8 or newer, but got 2.5.1. Run: pip install")


def test_doctor_finds_an_nnunet_whose_methods_are_other_ones(nnunet, findings, monkeypatch):
    def train_step(self, batch, scaler):
        pass

    monkeypatch.setattr(nnUNetTrainer, "train_step", train_step)
    code, found = findings()
    assert code == 1
    (problem,) = found["problem"]
    assert "nnUNetTrainer.train_step(self, batch, scaler)" in problem


@pytest.mark.parametrize(
    ("available", "level", "text"),
    [(True, "ok", "GPU: 2 x H200"), (False, "note", "GPU: none, train with -device cpu")],
)
def test_doctor_looks_for_a_gpu(nnunet, findings, monkeypatch, available, level, text):
    gpu = SimpleNamespace(is_available=lambda: available, device_count=lambda: 2, get_device_name=lambda index: "H200")
    monkeypatch.setattr(torch, "cuda", gpu)
    assert text in findings()[1][level]


def test_doctor_finds_that_no_map_is_written_yet(dataset, findings):
    code, found = findings("-d", "900")
    assert code == 0
    note = "maps of 900 3d_fullres: none yet, the first training of an RWTrainer writes them"
    assert note in found["note"]


@pytest.mark.parametrize("plans", ["nnUNetPlans", "own_plans"])
def test_doctor_finds_incomplete_maps_and_its_advice_completes_them(dataset, findings, plans):
    if plans != "nnUNetPlans":
        (dataset.folder / "nnUNetPlans.json").rename(dataset.folder / f"{plans}.json")
    dataset.write_maps([INTERIOR_DISTANCE, LESION_IDS])
    code, found = findings("-d", "900", "-p", plans)
    assert code == 0
    assert "interior_distance maps of 900 3d_fullres: 3 of 3 current" in found["ok"]

    map_path(dataset.data_folder(), LESION_IDS, "case_1", dataset.settings()).unlink()
    code, found = findings("-d", "900", "-p", plans)
    assert code == 1
    (problem,) = found["problem"]
    text, advice = problem.split(" Run: ")
    assert text == "lesion_ids maps of 900 3d_fullres: 2 of 3 current."
    assert main(shlex.split(advice)[1:]) == 0
    code, found = findings("-d", "900", "-p", plans)
    assert code == 0
    assert "lesion_ids maps of 900 3d_fullres: 3 of 3 current" in found["ok"]


def test_doctor_finds_maps_that_are_out_of_date(dataset, findings):
    dataset.write_maps([LESION_IDS])
    segmentations = [dataset.data_folder() / f"case_{number}_seg.b2nd" for number in (0, 1)]
    shutil.copyfile(*segmentations)
    code, found = findings("-d", "900", "-c", "3d_fullres")
    assert code == 1
    assert found["problem"][0].startswith("lesion_ids maps of 900 3d_fullres: 2 of 3 current.")


def test_doctor_checks_several_datasets(dataset, findings):
    code, found = findings("-d", dataset.name, "901")
    assert code == 1
    assert any(text.startswith(f"maps of {dataset.name} 3d_fullres: none yet") for text in found["note"])
    (problem,) = found["problem"]
    assert problem.startswith("No dataset '901'")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-c", "2d"], r"No configuration '2d' in .*nnUNetPlans\.json\. Known: 3d_fullres\."),
        (
            ["-p", "other"],
            r"No plans .*other\.json\. There are: nnUNetPlans\. Run: nnUNetv2_plan_experiment -d 900 .*name other",
        ),
    ],
)
def test_doctor_finds_what_it_is_asked_for_missing(dataset, findings, arguments, problem):
    code, found = findings("-d", "900", *arguments)
    assert code == 1
    (text,) = found["problem"]
    assert re.fullmatch(problem, text)
    assert len(found["ok"]) > 8


def test_doctor_finds_that_a_dataset_is_not_preprocessed(dataset, findings):
    shutil.rmtree(dataset.data_folder())
    for arguments in ([], ["-c", "3d_fullres"]):
        code, found = findings("-d", "900", *arguments)
        assert code == 1
        (text,) = found["problem"]
        assert re.search(r"No preprocessed data .* Run: nnUNetv2_", text)
