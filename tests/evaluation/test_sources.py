import json
import re

import numpy as np
import pytest
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from segmentation_files import (
    CORE_AND_EDGE,
    EMPTY,
    LESION,
    PREDICTION,
    REFERENCE,
    SHAPE,
    write_dataset,
    write_dataset_json,
    write_folders,
    write_image,
    write_model,
    write_probabilities,
)

from nnunet_rw.datasets.folders import labels_of
from nnunet_rw.evaluation.sources import cross_validation_source, folders_source, raw_images

CASES = ("a", "b", "c", "d", "e")


@pytest.fixture
def folders(tmp_path):
    """Predictions and references of five cases."""
    return write_folders(tmp_path, dict.fromkeys(CASES, REFERENCE), dict.fromkeys(CASES, PREDICTION))


@pytest.fixture
def dataset(nnunet):
    """References of five cases; they are validated in two folds."""
    return write_dataset(nnunet, dict.fromkeys(CASES, REFERENCE), [["b", "a"], ["c", "d", "e"]])


def predicted(*cases):
    return dict.fromkeys(cases, PREDICTION)


def names(source):
    return [files.case for files in source.cases]


def test_two_folders(folders):
    predictions, references = folders
    source = folders_source(predictions, references)
    assert (source.name, source.folder, source.missing) == ("predictions", predictions / "evaluation", [])
    assert names(source) == list(CASES)
    for files in source.cases:
        assert files.reference == references / f"{files.case}.nii.gz"
        assert files.prediction == predictions / f"{files.case}.nii.gz"
        assert (files.probabilities, files.images) == (None, ())
    assert source.labels == labels_of({"labels": LESION})
    assert isinstance(source.reader, SimpleITKIO)


def test_what_an_evaluation_and_nnunet_leave_beside_predictions_is_no_case(folders):
    predictions, references = folders
    write_image(predictions / "evaluation" / "overlay.nii.gz", EMPTY)
    for name in ("plans.json", "predict_from_raw_data_args.json", "summary.json", "a.pkl"):
        (predictions / name).write_text("{}")
    assert names(folders_source(predictions, references)) == list(CASES)


def test_this_folder_has_a_name(folders, monkeypatch):
    monkeypatch.chdir(folders[0])
    assert folders_source(".", folders[1]).name == "predictions"


def test_dataset_json_elsewhere(folders, tmp_path):
    predictions, references = folders
    (predictions / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"No .*dataset\.json\. Name the dataset with -d, .* with -djfile\."):
        folders_source(predictions, references)
    path = write_dataset_json(tmp_path / "elsewhere", CORE_AND_EDGE)
    assert folders_source(predictions, references, path).labels.foreground == (1, 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "Input should be a valid dictionary"),
        ('{"name": "mine"}', "labels: Field required"),
        ('{"labels": {"0": "background", "1": "lesion"}}', "Background label not declared"),
        ('{"labels": {"background": 0, "whole": [1, 2]}}', "if region-based training"),
    ],
    ids=["no JSON", "no object", "no labels", "labels of MSD", "regions without order"],
)
def test_dataset_json_of_others(folders, text, reason):
    path = folders[0] / "dataset.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{path} is no dataset.json of nnU-Net ({reason}")):
        folders_source(*folders)


def test_dataset_json_without_file_ending_means_nifti(folders):
    (folders[0] / "dataset.json").write_text(json.dumps({"labels": LESION}))
    source = folders_source(*folders)
    assert names(source) == list(CASES)
    assert isinstance(source.reader, SimpleITKIO)


def test_missing_prediction(folders):
    predictions, references = folders
    (predictions / "d.nii.gz").unlink()
    message = f"No prediction in {predictions} for d. Predict them, or give --allow-missing to go on."
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        folders_source(predictions, references, allow_missing=False)
    # Of a command without that option.
    with pytest.raises(FileNotFoundError, match=r"for d\. Predict them\.$"):
        folders_source(predictions, references)
    source = folders_source(predictions, references, allow_missing=True)
    assert (names(source), source.missing) == (["a", "b", "c", "e"], ["d"])


def test_many_missing_predictions_are_counted(folders):
    predictions, references = folders
    for case in "abcd":
        (predictions / f"{case}.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"for a, b, c and 1 more\."):
        folders_source(predictions, references)


def test_no_prediction_at_all_is_none_to_go_on_with(folders):
    predictions, references = folders
    for case in CASES:
        (predictions / f"{case}.nii.gz").unlink()
    message = f"No prediction in {predictions} for a, b, c and 2 more. Predict them."
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        folders_source(predictions, references, allow_missing=True)


def test_prediction_without_reference(folders):
    predictions, references = folders
    (references / "a.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"No reference in {references} for a of {predictions}.")):
        folders_source(predictions, references, allow_missing=True)


def test_empty_and_absent_folders(folders, tmp_path):
    predictions, _ = folders
    with pytest.raises(FileNotFoundError, match=re.escape(f"No folder {tmp_path / 'none'}.")):
        folders_source(tmp_path / "none", predictions)
    with pytest.raises(FileNotFoundError, match=re.escape(f"No folder {tmp_path / 'none'}.")):
        folders_source(predictions, tmp_path / "none")
    empty = write_dataset_json(tmp_path / "empty").parent
    with pytest.raises(FileNotFoundError, match=re.escape(f"No *.nii.gz in {empty}.")):
        folders_source(empty, empty)


def test_probabilities(folders):
    predictions, references = folders
    for case in "abcd":
        write_probabilities(predictions / f"{case}.npz", np.zeros((2, *SHAPE)))
    message = f"No {predictions / 'e.npz'}. Predict with --save_probabilities, or train with --npz."
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
        folders_source(predictions, references, probabilities=True)
    write_probabilities(predictions / "e.npz", np.zeros((2, *SHAPE)))
    source = folders_source(predictions, references, probabilities=True)
    assert [files.probabilities for files in source.cases] == [predictions / f"{case}.npz" for case in CASES]


def test_images(folders, tmp_path):
    images = tmp_path / "images"
    for case in (*CASES, "ab", "a_b"):
        for channel in (1, 0):
            write_image(images / f"{case}_{channel:04d}.nii.gz", EMPTY)
    source = folders_source(*folders, images=images)
    for files in source.cases:
        assert files.images == tuple(images / f"{files.case}_{channel:04d}.nii.gz" for channel in (0, 1))
    (images / "c_0000.nii.gz").unlink()
    (images / "c_0001.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"No image c_0000.nii.gz in {images}.")):
        folders_source(*folders, images=images)


def test_hidden_files_are_no_cases(folders):
    # macOS leaves them on file systems of others.
    for folder in folders:
        (folder / "._a.nii.gz").write_bytes(b"Mac OS X")
    assert names(folders_source(*folders)) == list(CASES)


def test_images_of_a_case_whose_name_is_a_pattern(tmp_path):
    folders = write_folders(tmp_path, {"scan[1]": REFERENCE}, {"scan[1]": PREDICTION})
    path = write_image(tmp_path / "images" / "scan[1]_0000.nii.gz", EMPTY)
    assert folders_source(*folders, images=path.parent).cases[0].images == (path,)


@pytest.mark.parametrize(("ending", "reader"), [(".nrrd", SimpleITKIO), (".mha", SimpleITKIO)])
def test_other_formats(tmp_path, ending, reader):
    for name in ("predictions", "references"):
        write_image(tmp_path / name / f"a{ending}", EMPTY)
        write_image(tmp_path / name / "of_no_interest.nii.gz", EMPTY)
    write_dataset_json(tmp_path / "predictions", ending=ending)
    source = folders_source(tmp_path / "predictions", tmp_path / "references")
    assert names(source) == ["a"]
    assert isinstance(source.reader, reader)


@pytest.mark.parametrize(
    ("ending", "shape", "writer"), [(".png", (1, 5, 8), NaturalImage2DIO), (".tif", (6, 5, 8), Tiff3DIO)]
)
def test_reader_is_found_in_silence(tmp_path, capsys, ending, shape, writer):
    # nnU-Net tries its reader of natural images on every .tif first, and prints a traceback.
    for name in ("predictions", "references"):
        (tmp_path / name).mkdir()
        writer().write_seg(np.zeros(shape), str(tmp_path / name / f"a{ending}"), {"spacing": [2.0, 1.0, 1.0]})
    write_dataset_json(tmp_path / "predictions", ending=ending)
    source = folders_source(tmp_path / "predictions", tmp_path / "references")
    assert isinstance(source.reader, writer)
    assert capsys.readouterr().err == ""


def test_reader_that_the_dataset_asks_for(folders):
    (folders[0] / "dataset.json").write_text(
        json.dumps({"labels": LESION, "file_ending": ".nii.gz", "overwrite_image_reader_writer": "NibabelIO"})
    )
    assert type(folders_source(*folders).reader).__name__ == "NibabelIO"


def test_first_reference_that_no_reader_reads(folders, capsys):
    path = folders[1] / "a.nii.gz"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=re.escape(f"No reader of nnU-Net reads {path}. Is it damaged?")):
        _ = folders_source(*folders).reader
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("number", ["900", "Dataset900_Tiny"])
def test_folds_are_pooled(nnunet, dataset, number):
    model = write_model(nnunet, "RWTrainer", {0: predicted("a", "b"), 1: predicted("c", "d", "e")})
    source = cross_validation_source(number, "3d_fullres", "RWTrainer")
    assert (source.name, source.folder, source.missing) == ("RWTrainer", model / "evaluation", [])
    # By fold, in the order of splits_final.json.
    assert names(source) == ["b", "a", "c", "d", "e"]
    for files in source.cases:
        fold = "fold_0" if files.case in "ab" else "fold_1"
        assert files.prediction == model / fold / "validation" / f"{files.case}.nii.gz"
        assert files.reference == dataset / "gt_segmentations" / f"{files.case}.nii.gz"


def test_hidden_files_of_a_fold_are_no_cases(nnunet):
    write_dataset(nnunet, dict.fromkeys(CASES, REFERENCE))
    model = write_model(nnunet, "RWTrainer", {0: predicted("a", "b"), 1: {}})
    for fold in (0, 1):
        (model / f"fold_{fold}" / "validation" / "._a.nii.gz").write_bytes(b"Mac OS X")
    assert names(cross_validation_source("900", "3d_fullres", "RWTrainer")) == ["a", "b"]


def test_other_plans_and_configuration(nnunet, dataset):
    model = write_model(nnunet, "RWTrainer", {0: predicted("a", "b")})
    model.rename(model.parent / "RWTrainer__tiny__2d")
    source = cross_validation_source("900", "2d", "RWTrainer", "tiny")
    assert source.folder == model.parent / "RWTrainer__tiny__2d" / "evaluation"


@pytest.mark.parametrize(("folds", "expected"), [(["1"], "cde"), (["1", "0"], "cdeba"), ([0], "ba"), ([], "bacde")])
def test_chosen_folds(nnunet, dataset, folds, expected):
    write_model(nnunet, "RWTrainer", {0: predicted("a", "b"), 1: predicted("c", "d", "e")})
    source = cross_validation_source("900", "3d_fullres", "RWTrainer", folds=folds)
    assert names(source) == list(expected)


def test_folds_as_their_folders_are_named(nnunet, dataset):
    write_model(nnunet, "RWTrainer", {0: predicted("a", "b"), 1: predicted("c", "d", "e")})
    assert names(cross_validation_source("900", "3d_fullres", "RWTrainer", folds=["fold_1"])) == ["c", "d", "e"]
    with pytest.raises(ValueError, match="Expected folds such as 0 and 1, or all, but got '0,1'"):
        cross_validation_source("900", "3d_fullres", "RWTrainer", folds=["0,1"])


def test_default_are_the_folds_that_were_validated(nnunet, dataset):
    model = write_model(nnunet, "RWTrainer", {0: {}, 1: predicted("c", "d", "e")})
    (model / "fold_2").mkdir()
    assert names(cross_validation_source("900", "3d_fullres", "RWTrainer")) == ["c", "d", "e"]
    for fold in ("0", "2", "3"):
        message = (
            f"fold_{fold} of {model} was not validated. Run: nnUNetv2_train 900 3d_fullres {fold} -tr RWTrainer "
            "-p nnUNetPlans"
        )
        with pytest.raises(FileNotFoundError, match=f"^{re.escape(message)}$"):
            cross_validation_source("900", "3d_fullres", "RWTrainer", folds=["1", fold])


def test_fold_all(nnunet, dataset):
    model = write_model(nnunet, "RWTrainer", {"all": predicted(*CASES)})
    for folds in (["all"], []):
        source = cross_validation_source("900", "3d_fullres", "RWTrainer", folds=folds)
        assert names(source) == list(CASES)
        assert source.cases[0].prediction == model / "fold_all" / "validation" / "a.nii.gz"


def test_fold_all_is_not_pooled_with_the_others(nnunet, dataset):
    write_model(nnunet, "RWTrainer", {0: predicted("a", "b"), "all": predicted(*CASES)})
    assert names(cross_validation_source("900", "3d_fullres", "RWTrainer")) == ["b", "a"]
    with pytest.raises(ValueError, match=r"every case in one fold, but b, a of .* are in several of fold_0, fold_all"):
        cross_validation_source("900", "3d_fullres", "RWTrainer", folds=["0", "all"])
    with pytest.raises(ValueError, match="in several of fold_0, fold_0"):
        cross_validation_source("900", "3d_fullres", "RWTrainer", folds=["0", "0"])


@pytest.mark.parametrize("splits", [None, [["a", "b"], ["c", "d", "e"]]], ids=["no splits", "fold beyond the splits"])
def test_without_splits_a_fold_has_the_cases_that_were_predicted(nnunet, splits):
    # nnU-Net makes no splits for fold all, and draws those of folds beyond them at random.
    write_dataset(nnunet, dict.fromkeys(CASES, REFERENCE), splits)
    write_model(nnunet, "RWTrainer", {7: predicted("e", "b")})
    source = cross_validation_source("900", "3d_fullres", "RWTrainer", folds=["7"])
    assert (names(source), source.missing) == (["b", "e"], [])


def test_missing_prediction_of_a_fold(nnunet, dataset):
    model = write_model(nnunet, "RWTrainer", {0: predicted("a", "b"), 1: predicted("c", "e")})
    message = f"No prediction in {model / 'fold_1' / 'validation'} for d. Predict them, or give --allow-missing"
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        cross_validation_source("900", "3d_fullres", "RWTrainer", allow_missing=False)
    source = cross_validation_source("900", "3d_fullres", "RWTrainer", allow_missing=True)
    assert (names(source), source.missing) == (["b", "a", "c", "e"], ["d"])


def test_prediction_of_a_case_of_another_fold_is_left_out(nnunet, dataset):
    # Of a training before the splits were changed.
    write_model(nnunet, "RWTrainer", {0: predicted("a", "b", "c"), 1: predicted("c", "d", "e")})
    source = cross_validation_source("900", "3d_fullres", "RWTrainer")
    assert names(source) == ["b", "a", "c", "d", "e"]
    assert "fold_1" in str(source.cases[2].prediction)


def test_reference_of_a_fold_that_is_gone(nnunet, dataset):
    write_model(nnunet, "RWTrainer", {0: predicted("a", "b")})
    path = dataset / "gt_segmentations" / "a.nii.gz"
    path.unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(f"No {path}.")):
        cross_validation_source("900", "3d_fullres", "RWTrainer")


def test_probabilities_and_images_of_a_fold(nnunet, dataset):
    model = write_model(nnunet, "RWTrainer", {0: predicted("a", "b")})
    write_probabilities(model / "fold_0" / "validation" / "a.npz", np.zeros((2, *SHAPE)))
    with pytest.raises(FileNotFoundError, match=r"b\.npz\. Predict with --save_probabilities, or train with --npz\."):
        cross_validation_source("900", "3d_fullres", "RWTrainer", probabilities=True)
    write_probabilities(model / "fold_0" / "validation" / "b.npz", np.zeros((2, *SHAPE)))
    images = nnunet.root / "nnUNet_raw" / dataset.name / "imagesTr"
    assert raw_images("900") is None
    for case in "ab":
        write_image(images / f"{case}_0000.nii.gz", EMPTY)
    assert raw_images("900") == images
    source = cross_validation_source("900", "3d_fullres", "RWTrainer", probabilities=True, images=images)
    assert [files.probabilities.name for files in source.cases] == ["b.npz", "a.npz"]
    assert [files.images for files in source.cases] == [(images / f"{case}_0000.nii.gz",) for case in "ba"]


def test_raw_labels(nnunet, dataset, folders):
    model = write_model(nnunet, "RWTrainer", {0: predicted("a", "b")})
    assert cross_validation_source("900", "3d_fullres", "RWTrainer").cases[0].raw_label is None
    raw = nnunet.root / "nnUNet_raw" / dataset.name
    write_image(raw / "labelsTr" / "a.nii.gz", REFERENCE)
    found = cross_validation_source("900", "3d_fullres", "RWTrainer").cases
    assert [files.raw_label for files in found] == [raw / "labelsTr" / f"{case}.nii.gz" for case in "ba"]
    # Of two folders, beside the dataset.json that is named.
    (raw / "dataset.json").write_bytes((model / "dataset.json").read_bytes())
    found = folders_source(*folders, raw / "dataset.json").cases
    assert found[0].raw_label == raw / "labelsTr" / "a.nii.gz"


def test_images_of_a_dataset_without_raw_folder(nnunet, dataset, monkeypatch):
    monkeypatch.delenv("nnUNet_raw")
    assert raw_images("900") is None


def test_what_was_not_trained(nnunet, dataset):
    with pytest.raises(FileNotFoundError, match=r"No dataset '900' in .*\. Run: nnUNetv2_train 900"):
        cross_validation_source("900", "3d_fullres", "RWTrainer")
    model = write_model(nnunet, "RWTrainer", {0: {}})
    with pytest.raises(FileNotFoundError, match=rf"No fold of {re.escape(str(model))} was validated\."):
        cross_validation_source("900", "3d_fullres", "RWTrainer")
    with pytest.raises(FileNotFoundError, match=r"No trained model .*Run: nnUNetv2_train 900 2d 0 -tr RWTrainer -p"):
        cross_validation_source("900", "2d", "RWTrainer")


def test_labels_of_classes_regions_and_ignore():
    plain = labels_of({"labels": CORE_AND_EDGE})
    assert (plain.foreground, plain.channels, plain.num_channels, plain.ignore) == ((1, 2), (1, 2), 3, None)
    assert plain.known == {0, 1, 2}

    # Without a class of 1: heads are numbered, not labels.
    gap = labels_of({"labels": {"background": 0, "lesion": 3, "ignore": 4}})
    assert (gap.foreground, gap.channels, gap.num_channels, gap.ignore) == ((3,), (1,), 2, 4)
    assert gap.known == {0, 3, 4}

    names = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    regions = labels_of({"labels": names, "regions_class_order": [1, 2]})
    assert (regions.foreground, regions.channels, regions.num_channels) == (((1, 2), 2), (0, 1), 2)
    assert (regions.known, regions.ignore) == ({0, 1, 2, 3}, 3)
