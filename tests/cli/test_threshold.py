"""`nnunet-rw threshold --fit`: a threshold chosen on the validation cases of a trained model, then applied."""

import json

import numpy as np
import pytest
from segmentation_files import EMPTY, REFERENCE, write_dataset, write_model, write_probabilities

from nnunet_rw.cli import main
from nnunet_rw.evaluation.metrics.rules import FAMILIES

CASES = ("a", "b", "c", "d")


@pytest.fixture
def model(nnunet):
    """RWTrainer, whose lesions have a probability of 0.6 and whose false positive has 0.5, in two folds."""
    write_dataset(nnunet, dict.fromkeys(CASES, REFERENCE), [list(CASES[:2]), list(CASES[2:])])
    false = np.zeros_like(REFERENCE)
    false[0, -1, -1] = 1
    assert not (REFERENCE & false).any()
    for trainer, prediction in (("nnUNetTrainer", EMPTY), ("RWTrainer", REFERENCE)):
        folds = {fold: dict.fromkeys(CASES[2 * fold : 2 * fold + 2], prediction) for fold in (0, 1)}
        folder = write_model(nnunet, trainer, folds)
    foreground = 0.6 * (REFERENCE > 0) + 0.5 * false
    for fold, cases in folds.items():
        for case in cases:
            path = folder / f"fold_{fold}" / "validation" / f"{case}.npz"
            write_probabilities(path, np.stack([1 - foreground, foreground]))
    return folder


@pytest.mark.parametrize(
    ("margin", "message"),
    [
        (90, "Expected a margin above 0.5 and below 1, such as 0.9, but got 90.0."),
        (0.9, "Expected more cases or patients for a margin, but a fold is left with 2 of 4 to choose on, "),
    ],
)
def test_a_margin(model, tmp_path, capsys, margin, message):
    """Of none in four cases nobody knows that there are none in others."""
    command = ("--false-positives", 0, "--margin", margin, "-o", tmp_path / "fit", "-np", 1)
    main(["threshold", "--fit", "-d", "900", "-tr", "RWTrainer", *map(str, command)])
    assert message in "".join(capsys.readouterr())
    assert not (tmp_path / "fit" / "rules.json").exists()


def test_a_model_without_probabilities(fails, model, tmp_path):
    (model / "fold_0" / "validation" / "a.npz").unlink()
    line = fails("threshold", "--fit", "-d", 900, "-tr", "RWTrainer", "--false-positives", 1, "-o", tmp_path / "fit")
    assert "--npz" in line
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (np.full((2, *REFERENCE.shape), np.nan), "holds non-finite values"),
        (np.zeros((2, *REFERENCE.shape[:2], 3)), "Expected probabilities of shape"),
        (np.zeros((3, *REFERENCE.shape)), "Expected probabilities of shape"),
        (np.full((2, *REFERENCE.shape), 7.0), "Are these logits?"),
    ],
)
def test_probabilities_that_are_none(fails, model, tmp_path, values, told):
    path = model / "fold_1" / "validation" / "d.npz"
    write_probabilities(path, values.astype(np.float32))
    line = fails("threshold", "--fit", "-d", 900, "-tr", "RWTrainer", "-o", tmp_path / "fit", "-np", 1)
    assert told in line
    assert str(path) in line
    assert not (tmp_path / "fit").exists()


@pytest.mark.parametrize("price", [(), ("--like", "nnUNetTrainer"), ("--false-positives", 0)])
def test_rules_are_fitted_and_applied(succeeds, model, tmp_path, price):
    command = "threshold", "--fit", "-d", 900, "-tr", "RWTrainer", *price, "-o", tmp_path / "fit", "-np", 1
    text = succeeds(*command)
    chosen = tmp_path / "fit" / "rules.json"
    assert text.startswith("RWTrainer, lesion (1): 4 cases in 2 folds")
    for family in ("single threshold", "single threshold + minimum volume", "hysteresis + minimum volume"):
        assert f"\n{family} " in text
    assert "Chosen: single threshold, above 0.5" in text
    assert text.endswith(f"\n\nApply it: nnunet-rw threshold -i PREDICTIONS --chosen {chosen} -o SEGMENTATIONS\n")
    content = json.loads(chosen.read_text())
    model_of = [content[name] for name in ("dataset", "trainer", "plans", "configuration")]
    assert model_of == ["Dataset900_Tiny", "RWTrainer", "nnUNetPlans", "3d_fullres"]
    # The false positive has 0.5 and the lesions 0.6: no more is needed than one threshold between.
    rule = content["rules"]["1"]
    assert 0.5 <= rule["low"] == rule["high"] < 0.6
    assert rule["min_volume_mm3"] == 0
    left_out = content["left_out"]["1"]
    assert [left_out[name] for name in ("false_positives_per_case", "recall", "f1", "dice")] == [0, 1, 1, 1]
    rows = (tmp_path / "fit" / "rules.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == [
        "segmentation",
        "nnUNetTrainer" if "--like" in price else "RWTrainer as segmented",
        *FAMILIES,
    ]
    assert (tmp_path / "fit" / "thresholds.csv").read_text().startswith("label,threshold,false_positives_per_case")


def test_a_family_that_is_asked_for(succeeds, model, tmp_path):
    command = "threshold", "--fit", "-d", 900, "-tr", "RWTrainer", "--family", "hysteresis", "-o", tmp_path / "fit"
    succeeds(*command, "-np", 1)
    assert json.loads((tmp_path / "fit" / "rules.json").read_text())["families"] == {"1": "hysteresis"}


def test_intervals_are_over_patients(succeeds, fails, model, tmp_path):
    groups = tmp_path / "groups.csv"
    groups.write_text("case,patient\na,one\nb,one\nc,two\nd,two\n")
    command = ("threshold", "--fit", "-d", 900, "-tr", "RWTrainer", "--false-positives", 0, "--groups", groups)
    assert "resampling patients" in succeeds(*command, "-o", tmp_path / "fit", "-np", 1)
    groups.write_text("case,patient\na,one\nb,one\nc,two\n")
    assert "No patient for case 'd'" in fails(*command, "-o", tmp_path / "fit", "-np", 1)


def test_options_of_the_other_use_are_refused(fails, tmp_path):
    use = ("threshold", "-i", tmp_path, "--at", 0.3, "-o", tmp_path / "out")
    line = fails(*use, "--min-volume", 50, "--aim", "f1")
    assert line == "--aim, --min-volume: of --fit; rules for predictions (-i) are chosen already."
    assert not (tmp_path / "out").exists()
