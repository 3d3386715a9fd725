"""`nnunet-rw threshold`: segmentations at another threshold, and what the user may get wrong."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from ensemble_files import read_labels
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from trained_models import PLANS

from nnunet_rw.cli import main
from nnunet_rw.evaluation.metrics.rules import DecisionRule
from nnunet_rw.postprocessing.threshold import apply as applying
from nnunet_rw.postprocessing.threshold.apply import apply_rules, threshold_rules, with_masks
from nnunet_rw.postprocessing.threshold.report import ChosenRules, FittedModel

# Of background, label 1 and label 2.
PROBABILITIES = np.array(
    [[[[0.1, 0.3, 0.6, 0.2]]], [[[0.5, 0.3, 0.1, 0.8]]], [[[0.4, 0.4, 0.3, 0.0]]]],
    np.float32,
)


def run(*arguments):
    return main(["threshold", *map(str, arguments)])


@pytest.fixture
def folder(predictions):
    return predictions("one", {"a": PROBABILITIES, "b": PROBABILITIES[..., ::-1]})


def test_the_label_is_where_its_probability_is_above(folder, tmp_path, capsys):
    assert run("-i", folder, "-o", tmp_path / "low", "--at", 0.35, "--label", 2, "-np", 1) == 0
    assert capsys.readouterr().out == f"2 cases in {tmp_path / 'low'}\n"
    assert read_labels(tmp_path / "low" / "a.nii.gz").tolist() == [[[2, 2, 0, 1]]]
    assert read_labels(tmp_path / "low" / "b.nii.gz").tolist() == [[[1, 0, 2, 2]]]
    # Not above: the most probable of the others.
    assert run("-i", folder, "-o", tmp_path / "high", "--at", 0.4, "--label", 2, "-np", 1) == 0
    assert read_labels(tmp_path / "high" / "a.nii.gz").tolist() == [[[1, 0, 0, 1]]]
    record = json.loads((tmp_path / "high" / "applied_rules.json").read_text())
    assert record["rules"] == {"2": {"low": 0.4, "high": 0.4, "min_volume_mm3": 0}}
    assert (tmp_path / "high" / "plans.json").is_file()


def test_a_threshold_that_an_earlier_version_chose(folder, tmp_path):
    (tmp_path / "threshold.json").write_text(json.dumps({"label": "1", "threshold": 0.45}))
    assert run("-i", folder, "-o", tmp_path / "out", "--chosen", tmp_path / "threshold.json", "-np", 1) == 0
    # The second voxel was label 2 before and stays it.
    assert read_labels(tmp_path / "out" / "a.nii.gz").tolist() == [[[1, 2, 0, 1]]]


def write_rules(path, rules, connectivity=26, **model):
    rules = {label: dict(zip(("low", "high", "min_volume_mm3"), rule, strict=True)) for label, rule in rules.items()}
    content = {"dataset": "Dataset900_Tiny", "settings": {"connectivity": connectivity}, "rules": rules, **model}
    path.write_text(json.dumps(content))
    return path


def test_chosen_rules_segment_each_label_by_its_own(folder, tmp_path):
    # Label 1 above 0.25 with a peak above 0.45, label 2 above 0.35: both claim two voxels, the likelier has them.
    chosen = write_rules(tmp_path / "rules.json", {"1": (0.25, 0.45, 0), "2": (0.35, 0.35, 0)})
    assert run("-i", folder, "-o", tmp_path / "out", "--chosen", chosen, "-np", 1) == 0
    assert read_labels(tmp_path / "out" / "a.nii.gz").tolist() == [[[1, 2, 0, 1]]]
    record = json.loads((tmp_path / "out" / "applied_rules.json").read_text())
    assert record["rules"]["1"] == {"low": 0.25, "high": 0.45, "min_volume_mm3": 0}
    # A voxel has 6 mm3: label 1 is a component of two voxels and one of one.
    chosen = write_rules(tmp_path / "rules.json", {"1": (0.25, 0.25, 12.0)})
    assert run("-i", folder, "-o", tmp_path / "large", "--chosen", chosen, "-np", 1) == 0
    assert read_labels(tmp_path / "large" / "a.nii.gz").tolist() == [[[1, 1, 0, 0]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"rules": {"1": {"low": 0.5, "high": 0.3, "min_volume_mm3": 0}}}, "holds no rules"),
        ({"rules": {"1": {"low": 0.5}}}, "holds no rules"),
        ({"rules": ["1"]}, "holds no rules"),
        ({"rules": {}}, "holds no rules"),
        ({"rules": {"1": {"low": 0.3, "high": 0.3}}, "settings": {"connectivity": 5}}, "holds no rules"),
        ({"rules": {"7": {"low": 0.3, "high": 0.3, "min_volume_mm3": 0}}}, "Expected a label out of 1, 2, but got 7."),
    ],
)
def test_rules_that_cannot_be_applied(folder, tmp_path, capsys, content, message):
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"dataset": "Dataset900_Tiny", "settings": {"connectivity": 26}, **content}))
    assert run("-i", folder, "-o", tmp_path / "out", "--chosen", path, "-np", 1) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"dataset": "Dataset004_Hippocampus"}, "Expected predictions of dataset Dataset004_Hippocampus, on which"),
        ({"plans": "nnUNetPlansSmall"}, "Expected predictions of plans nnUNetPlansSmall, on which the rules were"),
        ({"trainer": "RWTrainer_GSL"}, "Expected predictions of trainer RWTrainer_GSL, on which the rules were fitted"),
        ({"configuration": "2d"}, "Expected predictions of configuration 2d, on which the rules were fitted"),
    ],
)
def test_rules_of_another_model(predictions, tmp_path, capsys, model, message):
    plans = {**PLANS, "dataset_name": "Dataset900_Tiny", "plans_name": "nnUNetPlans"}
    folder = predictions("RWTrainer__nnUNetPlans__3d_fullres/fold_0/validation", {"a": PROBABILITIES}, plans=plans)
    chosen = write_rules(tmp_path / "rules.json", {"1": (0.3, 0.3, 0)}, **model)
    assert run("-i", folder, "-o", tmp_path / "out", "--chosen", chosen, "-np", 1) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line
    assert str(folder) in line
    assert not (tmp_path / "out").exists()


def test_rules_of_this_model(predictions, tmp_path):
    plans = {**PLANS, "dataset_name": "Dataset900_Tiny", "plans_name": "nnUNetPlans"}
    folder = predictions("RWTrainer__nnUNetPlans__3d_fullres/fold_0/validation", {"a": PROBABILITIES}, plans=plans)
    model = {"trainer": "RWTrainer", "plans": "nnUNetPlans", "configuration": "3d_fullres"}
    chosen = write_rules(tmp_path / "rules.json", {"1": (0.3, 0.3, 0)}, **model)
    assert run("-i", folder, "-o", tmp_path / "out", "--chosen", chosen, "-np", 1) == 0


def test_a_configuration_that_the_plans_have_not(predictions, tmp_path, capsys):
    plans = {**PLANS, "configurations": {"2d": {}}}
    folder = predictions("one", {"a": PROBABILITIES}, plans=plans)
    chosen = write_rules(tmp_path / "rules.json", {"1": (0.3, 0.3, 0)}, configuration="3d_fullres")
    assert run("-i", folder, "-o", tmp_path / "out", "--chosen", chosen, "-np", 1) == 2
    assert "Expected predictions of configuration 3d_fullres" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rules_of_another_connectivity(folder, tmp_path, capsys):
    chosen = write_rules(tmp_path / "rules.json", {"1": (0.3, 0.3, 0)}, connectivity=6)
    arguments = ("-i", folder, "-o", tmp_path / "out", "--chosen", chosen, "-np", 1)
    assert run(*arguments, "--connectivity", 26) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "Expected rules for 26-connected lesions, but those of" in line
    assert "were fitted for 6-connected ones" in line
    assert not (tmp_path / "out").exists()
    assert run(*arguments, "--connectivity", 6) == run(*arguments) == 0


def nan(folder):
    write_case_file(folder / "b.npz", np.where(PROBABILITIES > 0.7, np.nan, PROBABILITIES))


def another_shape(folder):
    properties = {"spacing": (3.0, 2.0, 1.0), "shape_before_cropping": (1, 1, 4)}
    (folder / "b.pkl").write_bytes(pickle.dumps(properties))
    write_case_file(folder / "b.npz", PROBABILITIES[..., :3])


def other_channels(folder):
    write_case_file(folder / "b.npz", PROBABILITIES[:2])


def missing(folder):
    (folder / "b.npz").unlink()


def cut_off(folder):
    (folder / "b.npz").write_bytes((folder / "b.npz").read_bytes()[:-20])


def write_case_file(path, probabilities):
    np.savez_compressed(path, probabilities=probabilities.astype(np.float32))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (nan, "holds non-finite values"),
        (another_shape, "(1, 1, 3)"),
        (other_channels, "Expected 3 channels of probabilities"),
        (missing, "Predict with nnU-Net's --save_probabilities"),
        (cut_off, "holds no probabilities"),
    ],
)
@pytest.mark.parametrize("command", [("threshold", "--at", 0.4, "--label", 2, "-i"), ("ensemble", "-i")])
@pytest.mark.parametrize("earlier", [False, True])
def test_one_damaged_case_leaves_everything_as_it_was(
    folder, predictions, tmp_path, capsys, damage, told, command, earlier
):
    folders = (folder, predictions("two", {"a": PROBABILITIES, "b": PROBABILITIES}))[: 1 + (command[0] == "ensemble")]
    arguments = [str(word) for word in (*command, *folders, "-o", tmp_path / "out", "-np", 1)]
    if earlier:
        assert main(arguments) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").glob("**/*")}
    damage(folder)
    assert main(arguments) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("nnunet-rw: ")
    assert told.replace("(1, 1, 3)", "(3, 1, 1, 3)" if command[0] == "ensemble" else "(1, 1, 3)") in line
    assert "b." in line
    assert {path: path.read_bytes() for path in (tmp_path / "out").glob("**/*")} == before
    assert (tmp_path / "out").exists() == earlier
    assert not list(tmp_path.glob(".segmenting-*"))


def test_a_region_is_above_its_own_threshold(predictions, region_json, tmp_path):
    probabilities = np.array([[[[0.9, 0.6, 0.4]]], [[[0.4, 0.2, 0.6]]]], np.float32)
    folder = predictions("regions", {"a": probabilities}, region_json)
    apply_rules(folder, tmp_path / "out", threshold_rules(0.3, "2"), processes=1)
    assert read_labels(tmp_path / "out" / "a.nii.gz").tolist() == [[[2, 1, 2]]]
    # Where the whole is not, its core is not.
    apply_rules(folder, tmp_path / "out", threshold_rules(0.7, "(1, 2)"), processes=1)
    assert read_labels(tmp_path / "out" / "a.nii.gz").tolist() == [[[1, 0, 0]]]
    apply_rules(folder, tmp_path / "out", threshold_rules(0.3, "(1, 2)"), processes=1)
    assert read_labels(tmp_path / "out" / "a.nii.gz").tolist() == [[[1, 1, 2]]]


def test_half_is_what_nnunet_segments(predictions, dataset_json, tmp_path):
    lesion = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    lesion[0, 0, 0] = 0.5
    content = {**dataset_json, "labels": {"background": 0, "lesion": 1}}
    folder = predictions("one", {"a": np.stack([1 - lesion, lesion])}, content)
    apply_rules(folder, tmp_path / "out", threshold_rules(0.5), processes=1)
    np.testing.assert_array_equal(read_labels(tmp_path / "out" / "a.nii.gz"), read_labels(folder / "a.nii.gz"))


def test_tiff_keeps_its_spacing(predictions, dataset_json, tmp_path):
    # Eight voxels of label 1; of 3 x 2 x 5 mm each 240 mm3 in all, here and in the file that is written.
    lesion = np.zeros((5, 4, 6), np.float32)
    lesion[1:3, 1:3, 2:4] = 0.4
    content = {**dataset_json, "labels": {"background": 0, "lesion": 1}, "file_ending": ".tif"}
    plans = {**PLANS, "image_reader_writer": "Tiff3DIO"}
    folder = predictions("tiffs", {"a": np.stack([1 - lesion, lesion])}, content, plans)
    properties = {"spacing": [3.0, 2.0, 5.0], "shape_before_cropping": (5, 4, 6)}
    (folder / "a.pkl").write_bytes(pickle.dumps(properties))
    apply_rules(folder, tmp_path / "out", threshold_rules(0.3), processes=1)
    values, told = Tiff3DIO().read_seg(str(tmp_path / "out" / "a.tif"))
    assert np.count_nonzero(values) * np.prod(told["spacing"]) == 240


def test_two_dimensions(predictions, dataset_json, tmp_path):
    # A pixel of a photograph is 1 mm2 to nnU-Net, in a slice of 999 mm: two that touch by a corner are 2 mm2.
    lesion = np.array([[[0.9, 0, 0, 0.9], [0, 0.9, 0, 0]]], np.float32)
    content = {**dataset_json, "labels": {"background": 0, "lesion": 1}, "file_ending": ".png"}
    plans = {**PLANS, "image_reader_writer": "NaturalImage2DIO"}
    folder = predictions("photographs", {"a": np.stack([1 - lesion, lesion])}, content, plans)
    (folder / "a.pkl").write_bytes(pickle.dumps({"spacing": (999, 1, 1)}))
    chosen = ChosenRules(FittedModel(), 26, {"": DecisionRule(0.5, 0.5, 2.0)})
    apply_rules(folder, tmp_path / "out", chosen, processes=1)
    assert read_labels(tmp_path / "out" / "a.png").ravel().tolist() == [1, 0, 0, 0, 0, 1, 0, 0]


def test_probabilities_beside_the_properties_of_another_image(folder, tmp_path, capsys):
    properties = {"spacing": (3.0, 2.0, 1.0), "shape_before_cropping": (1, 1, 5)}
    (folder / "b.pkl").write_bytes(pickle.dumps(properties))
    assert run("-i", folder, "-o", tmp_path / "out", "--at", 0.35, "--label", 2, "-np", 1) == 2
    assert capsys.readouterr().err == (
        f"nnunet-rw: Expected {folder / 'b.pkl'} to belong to an image of (1, 1, 4) voxels, as the probabilities "
        "beside it, but got (1, 1, 5). Predict again.\n"
    )
    assert not (tmp_path / "out" / "b.nii.gz").exists()


def test_probabilities_are_left_as_they_are():
    before = PROBABILITIES.copy()
    decided = with_masks(PROBABILITIES, {2: PROBABILITIES[2] > 0.35}, {})
    np.testing.assert_array_equal(PROBABILITIES, before)
    # Above what any other class can have.
    assert decided[2].ravel().tolist() == pytest.approx([2.4, 2.4, -1, -1])
    np.testing.assert_array_equal(decided[:2], before[:2])


def test_an_interrupted_case_leaves_the_earlier_ones(folder, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    arguments = ("-i", folder, "-o", tmp_path / "out", "--label", 1, "-np", 1)
    assert run(*arguments, "--at", 0.3) == 0
    monkeypatch.setattr(applying, "write_segmentation", fail)
    assert run(*arguments, "--at", 0.5) == 2
    record = json.loads((tmp_path / "out" / "applied_rules.json").read_text())
    assert record["rules"]["1"]["low"] == 0.3
    assert read_labels(tmp_path / "out" / "a.nii.gz").tolist() == [[[1, 2, 0, 1]]]


def test_cases_of_an_earlier_run_are_not_left_beside_others(folder, predictions, tmp_path, capsys):
    out = tmp_path / "out"
    assert run("-i", folder, "-o", out, "--label", 1, "--at", 0.2, "-np", 1) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    few = predictions("few", {"b": PROBABILITIES})
    capsys.readouterr()
    assert run("-i", few, "-o", out, "--label", 1, "--at", 0.9, "-np", 1) == 2
    assert capsys.readouterr().err == (
        f"nnunet-rw: Expected no other cases or probabilities in {out} than will be written, but got a.nii.gz. Name "
        "another folder with -o, or remove them.\n"
    )
    # Nothing is anybody's to remove.
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    (out / "a.nii.gz").unlink()
    (out / "notes.txt").write_text("the user's own")
    assert run("-i", few, "-o", out, "--label", 1, "--at", 0.9, "-np", 1) == 0
    assert (out / "notes.txt").is_file()


def test_a_full_disk_leaves_no_half_of_a_segmentation(folder, tmp_path, monkeypatch):
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    def fail(self, segmentation, path, properties):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SimpleITKIO, "write_seg", fail)
    assert run("-i", folder, "-o", tmp_path / "out", "--at", 0.5, "--label", 1, "-np", 1) == 2
    assert not list((tmp_path / "out").glob("*.nii.gz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give either --fit with -d DATASET"),
        (("-i", "one"), "Give either --fit with -d DATASET"),
        (("-i", "one", "--at", "0.5", "--chosen", "file"), "Give either --fit with -d DATASET"),
        (("--fit", "-d", "4"), "Give either --fit with -d DATASET"),
        (("-i", "one", "--at", "0.5", "--family", "single"), "Give either --fit"),
        (("-i", "one", "--at", "1"), "Expected a threshold from 0 to below 1, but got 1.0"),
        (("-i", "one", "--at", "0.5"), "No folder one"),
        (("-i", "one", "--at", "0.5", "--like", "nnUNetTrainer"), "Give either --fit"),
        (("-i", "one", "--at", "0.5", "--margin", "0.9"), "Give either --fit"),
        (("-i", "one", "--chosen", "file", "--label", "1"), "a chosen rule has its label"),
        (("--fit", "-d", "4", "-tr", "RWTrainer", "--like", "x", "--at", "0.5"), "Give either --fit"),
        (("-i", "one", "--chosen", "none.json"), "No none.json. Run: nnunet-rw threshold --fit"),
    ],
)
def test_what_is_missing_is_told_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith("nnunet-rw: ")
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


class Crafted:
    def __reduce__(self):
        return os.mkdir, ("was run",)


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        (pickle.dumps({"spacing": Crafted()}), f" names {os.mkdir.__module__}.mkdir, which reading it would call"),
        (b"junk", " is damaged ("),
        (pickle.dumps([1, 2]), "holds no properties of nnU-Net"),
    ],
)
@pytest.mark.parametrize("command", [("threshold", "--at", 0.4, "--label", 2, "-i"), ("ensemble", "-i")])
def test_properties_are_read_without_running_them(
    folder, predictions, tmp_path, monkeypatch, capsys, command, properties, told
):
    monkeypatch.chdir(tmp_path)
    (folder / "b.pkl").write_bytes(properties)
    folders = (folder, predictions("two", {"a": PROBABILITIES, "b": PROBABILITIES}))[: 1 + (command[0] == "ensemble")]
    assert main([str(word) for word in (*command, *folders, "-o", "out", "-np", 1)]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("nnunet-rw: ")
    assert f"{folder / 'b.pkl'}" in line
    assert told in line
    assert not (tmp_path / "was run").exists()
