import math

import numpy as np
import pytest
import skimage.io
from segmentation_files import (
    CORE_AND_EDGE,
    EMPTY,
    PREDICTION,
    REFERENCE,
    SHAPE,
    labels,
    write_dataset,
    write_dataset_json,
    write_folders,
    write_image,
    write_model,
    write_probabilities,
)

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.evaluate import evaluation_text, write_evaluation
from nnunet_rw.evaluation.folder import read_evaluation
from nnunet_rw.evaluation.sources import cross_validation_source, folders_source


@pytest.fixture
def text_of(tmp_path):
    """Function that evaluates pairs of arrays by case and returns the text."""

    def text(cases, names=None, fast=False, missing=(), **options):
        references, predictions = ({case: pair[side] for case, pair in cases.items()} for side in (0, 1))
        folders = write_folders(tmp_path, references, predictions, names)
        for case in missing:
            (folders[0] / f"{case}.nii.gz").unlink()
        if "probabilities" in options:
            for case, values in options["probabilities"].items():
                write_probabilities(folders[0] / f"{case}.npz", values)
            options["probabilities"] = True
        source = folders_source(*folders, allow_missing=bool(missing), **options)
        return evaluation_text(write_evaluation(source, EvaluationSettings(fast=fast), tmp_path / "out"))

    return text


def test_text_by_hand(text_of):
    # The figures of "a" are derived in tests/evaluation/test_case_evaluation.py; the diagonal is 13.601 mm. Found is
    # one of four lesions, at a Dice of 0.5; three of four predicted ones are false.
    far, diagonal_mm = math.hypot(4, 3.5), math.sqrt(185)
    hd95_mm = (5 + 0.75 * (far - 5) + 2 * diagonal_mm) / 3
    assd_mm = ((13 + far) / 11 + 2 * diagonal_mm) / 3
    cases = {"a": (REFERENCE, PREDICTION), "b": (REFERENCE, EMPTY), "c": (EMPTY, PREDICTION), "d": (EMPTY, EMPTY)}
    assert [line.split("  ") for line in text_of(cases).splitlines()][2:5] != []
    lines = [" ".join(line.split()) for line in text_of(cases).splitlines()]
    assert lines[0] == "predictions: 4 cases"
    assert [line for line in lines[1:] if line and not line.startswith("-")] == [
        "label Dice HD95 mm ASSD mm NSD Dice of lesions",
        f"lesion (1) {4 / 33:.3f} (n = 3) {hd95_mm:.3f} (n = 3, 2 at diagonal) {assd_mm:.3f} (n = 3, 2 at diagonal) "
        f"{8 / 33:.3f} (n = 3) 0.125 (n = 4)",
        "label lesions found precision false positives per case PQ PQ at 0.1 FROC average",
        "lesion (1) 0.25 (1 of 4) 0.25 0.75 0.00 0.08 -",
        "label lesion size found recall (95 % interval)",
        "lesion (1) 0 to 10 mm3 1 of 4 0.25 (too few)",
        "lesion (1) 10 to 100 mm3 0 of 0 -",
        "lesion (1) 100 to 1000 mm3 0 of 0 -",
        "lesion (1) from 1000 mm3 0 of 0 -",
        "Intervals are over cases, with all lesions of one together; none with fewer than 8 cases.",
    ]


def test_distances_in_images_of_microscopes(tmp_path):
    # Voxels of 0.0005 mm: the reference's is two steps from the prediction's.
    for name, place in (("predictions", np.s_[1, 1, 1]), ("references", np.s_[1, 1, 3])):
        write_image(tmp_path / name / "a.nii.gz", labels((1, place)), (0.0005,) * 3)
    write_dataset_json(tmp_path / "predictions")
    source = folders_source(tmp_path / "predictions", tmp_path / "references")
    text = evaluation_text(write_evaluation(source, EvaluationSettings(), tmp_path / "out"))
    assert " ".join(text.splitlines()[4].split()).startswith("lesion (1) 0.000 (n = 1) 0.0010 (n = 1) 0.0010 (n = 1) ")


def test_fast_and_empty_have_dashes(text_of):
    lines = text_of({"a": (EMPTY, EMPTY)}, fast=True).splitlines()
    assert lines[4].split() == ["lesion", "(1)", *"-----"]
    assert lines[8].split() == ["lesion", "(1)", "-", "(0", "of", "0)", "-", "0.00", "-", "-", "-"]


def test_missing_predictions_are_counted(text_of):
    cases = {case: (REFERENCE, PREDICTION) for case in "abc"}
    text = text_of(cases, missing="ac", fast=True)
    assert text.splitlines()[0] == "predictions: 1 cases; 2 without prediction left out"


def test_every_class_has_its_rows(text_of):
    both = labels((1, np.s_[1, 1, 1:5]), (2, np.s_[3, 4, 7]))
    lines = text_of({"a": (both, both)}, CORE_AND_EDGE, fast=True).splitlines()
    names = [line.partition(" (")[0] for line in lines if line.startswith(("core (1)", "edge (2)"))]
    assert names == ["core", "edge", "core", "edge", *["core"] * 4, *["edge"] * 4]


def test_froc(text_of):
    # The lesion is found at 0.75, before any false positive; B is not.
    probabilities = np.zeros((2, *SHAPE))
    probabilities[1, 1, 1, 3:7] = 0.75
    text = text_of({"a": (REFERENCE, PREDICTION)}, fast=True, probabilities={"a": probabilities})
    assert text.splitlines()[8].split()[-1] == "0.50"


@pytest.mark.parametrize(
    ("ending", "reader", "unit"),
    [(".png", "NaturalImage2DIO", "pixels"), (".tif", "NaturalImage2DIO", "pixels"), (".nii.gz", None, "mm2")],
)
def test_images_of_two_dimensions(tmp_path, ending, reader, unit):
    # Two pixels at a corner are one lesion. They are predicted, and so are three more that even a dilation by one does
    # not meet.
    reference = labels((1, np.s_[2, 2]), (1, np.s_[3, 3]), shape=(9, 10))
    prediction = reference + labels((1, np.s_[2:5, 7]), shape=(9, 10))
    for name, values in (("predictions", prediction), ("references", reference)):
        (tmp_path / name).mkdir()
        if reader:
            skimage.io.imsave(tmp_path / name / f"a{ending}", values, check_contrast=False)
        else:
            write_image(tmp_path / name / f"a{ending}", values, (2.0, 0.5))
    more = {"overwrite_image_reader_writer": reader} if reader else {}
    write_dataset_json(tmp_path / "predictions", ending=ending, **more)
    source = folders_source(tmp_path / "predictions", tmp_path / "references")
    settings = EvaluationSettings(scores=("brats-met", "cc"))
    # Of two pixels of 1 mm2 the challenge would leave the lesion out.
    summary = write_evaluation(source, settings, tmp_path / "out")
    found = summary["classes"]["1"]
    assert found["detection"]["overlap_50"]["num_found"] == found["detection"]["overlap_50"]["num_lesions"] == 1
    assert found["metrics"]["volume_false_positive_mm3"]["mean"] == 3
    assert found["metrics"]["matched_hd95_mm"]["mean"] == 0
    assert found["metrics"]["brats_dice"]["mean"] == 0  # the false lesion alone counts
    # Nearest to the only lesion is all of the image: 2 shared of 2 and 5 pixels.
    assert found["metrics"]["cc_dice"]["mean"] == pytest.approx(4 / 7)
    text = evaluation_text(summary)
    assert f"lesion (1)  0 to 10 {unit}" in text
    assert ("HD95 pixels" in text, "HD95 mm" in text) == (unit == "pixels", unit == "mm2")


def test_patients_in_several_folds_are_told(nnunet):
    cases = dict.fromkeys("abcd", REFERENCE)
    write_dataset(nnunet, cases, [["a", "b"], ["c", "d"]])
    write_model(nnunet, "RWTrainer", {0: dict.fromkeys("ab", REFERENCE), 1: dict.fromkeys("cd", REFERENCE)})
    source = cross_validation_source("Dataset900_Tiny", "3d_fullres", "RWTrainer")
    apart, shared = (
        write_evaluation(
            source, EvaluationSettings(fast=True), source.folder, groups=dict(zip("abcd", units, strict=True))
        )
        for units in ("1122", "1213")
    )
    assert apart["notes"] == []
    assert shared["folds"] == {"a": "fold_0", "b": "fold_0", "c": "fold_1", "d": "fold_1"}
    assert "1 of 3 patients are in several folds" in evaluation_text(shared).splitlines()[-1]
    assert read_evaluation(source.folder).folds == ("fold_0", "fold_0", "fold_1", "fold_1")
