"""`nnunet-rw ensemble --fit`: weights learned on the validation cases of two trained models."""

import json

import numpy as np
from segmentation_files import EMPTY, REFERENCE, write_dataset, write_model, write_probabilities

CASES = ("a", "b", "c", "d")


def test_weights_go_to_the_model_that_is_right(succeeds, nnunet, tmp_path):
    write_dataset(nnunet, dict.fromkeys(CASES, REFERENCE), [list(CASES[:2]), list(CASES[2:])])
    for trainer, prediction in (("nnUNetTrainer", EMPTY), ("RWTrainer", REFERENCE)):
        folds = {fold: dict.fromkeys(CASES[2 * fold : 2 * fold + 2], prediction) for fold in (0, 1)}
        folder = write_model(nnunet, trainer, folds)
        foreground = np.where(prediction > 0, 0.7, 0.2)
        for fold, cases in folds.items():
            for case in cases:
                path = folder / f"fold_{fold}" / "validation" / f"{case}.npz"
                write_probabilities(path, np.stack([1 - foreground, foreground]))
    text = succeeds(
        "ensemble", "--fit", "-d", 900, "-tr", "nnUNetTrainer", "RWTrainer", "-o", tmp_path / "fit", "-np", 1
    )
    assert "Kept: the fitted weights" in text
    assert "over cases" in text
    weights = json.loads((tmp_path / "fit" / "weights.json").read_text())
    assert weights["models"] == ["nnUNetTrainer", "RWTrainer"]
    assert (tmp_path / "fit" / "cases.csv").is_file()
    groups = tmp_path / "groups.csv"
    groups.write_text("case,patient\na,one\nb,one\nc,two\nd,two\n")
    command = ("ensemble", "--fit", "-d", 900, "-tr", "nnUNetTrainer", "RWTrainer", "-o", tmp_path / "fit", "-np", 1)
    assert "over patients" in succeeds(*command, "--groups", groups)


def test_models_without_probabilities(fails, nnunet, tmp_path):
    write_dataset(nnunet, dict.fromkeys(CASES, REFERENCE), [list(CASES)])
    for trainer in ("nnUNetTrainer", "RWTrainer"):
        write_model(nnunet, trainer, {0: dict.fromkeys(CASES, REFERENCE)})
    line = fails("ensemble", "--fit", "-d", 900, "-tr", "nnUNetTrainer", "RWTrainer", "-o", tmp_path / "fit")
    assert "--npz" in line


def test_options_of_the_other_use_are_refused(fails, tmp_path):
    fit = ("ensemble", "--fit", "-d", 900, "-tr", "A", "B", "-o", tmp_path / "out")
    line = fails(*fit, "--weights", tmp_path / "weights.json")
    assert line == "--weights: of predictions (-i), not of --fit."
    assert fails("ensemble", "-i", tmp_path, tmp_path, "-f", 1, "-o", tmp_path / "out").startswith("-f: of --fit")
    line = fails("ensemble", "-i", tmp_path, tmp_path, "--groups", tmp_path / "groups.csv", "-o", tmp_path / "out")
    assert line.startswith("--groups: of --fit")
