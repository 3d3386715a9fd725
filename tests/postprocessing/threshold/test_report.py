"""What a fit writes and says, and rules read again."""

import csv
import json
from dataclasses import replace
from functools import partial

import pytest
from rule_models import LESIONS, SINGLE, reference, row

from nnunet_rw.evaluation.metrics.rules import DecisionRule
from nnunet_rw.postprocessing.threshold import fit as fitting
from nnunet_rw.postprocessing.threshold.report import FittedModel, read_rules, rules_text, write_rules

MODEL = FittedModel("Dataset900_Tiny", "RWTrainer", "nnUNetPlans", "3d_fullres")
fit_rules = partial(fitting.fit_rules, processes=1)


def test_files_and_text(source, baseline, tmp_path):
    fit = fit_rules(source, baseline, **SINGLE)
    points, table, chosen = write_rules([fit], MODEL, tmp_path)
    with open(points, newline="") as file:
        rows = {row["threshold"]: row for row in csv.DictReader(file)}
    assert float(rows["0.6"]["false_positives_per_case"]) == pytest.approx(1 / 3)
    assert float(rows["0.6"]["recall"]) == pytest.approx((2 + 2 + 1) / 9)
    with open(table, newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["segmentation"], first["low"], float(first["recall"])) == ("nnUNetTrainer", "", pytest.approx(3 / 9))
    (family,) = fit.choice.families
    assert (second["segmentation"], second["low"], second["min_volume_mm3"]) == ("single", "0.65", "0.0")
    assert float(second["recall"]) == pytest.approx(family.figures.recall)
    assert second["excess_low"] == ""  # three cases have no interval
    assert int(second["rules_in_folds"]) == len(set(family.rules_without.values()))
    found = read_rules(chosen)
    assert (found.fitted_on, found.connectivity, found.rules) == (MODEL, 26, {"1": family.rule})
    content = json.loads(chosen.read_text())
    assert content["left_out"]["1"]["recall"] == pytest.approx(family.figures.recall)
    assert content["left_out"]["1"]["excess_interval"] is None
    assert (content["margin"], content["aim"], content["families"]) == (None, "recall", {"1": "single"})
    lines = rules_text([fit]).splitlines()
    assert lines[0] == (
        "RWTrainer, lesion (1): 3 cases in 3 folds, 9 lesions; at most 0.33 false positives per case (nnUNetTrainer)"
    )
    assert next(line.split() for line in lines if line.startswith("nnUNetTrainer"))[1:3] == ["0.33", "0.333"]
    assert lines[-1] == "cases; with --margin 0.9 nine of ten do."
    assert any("[too few]" in line for line in lines)


def test_cases_over_which_dice_must_be_kept_are_told(model):
    cases = {f"case_{fold}": (fold, reference(1, 1, 0), row(0.9, 0.9, 0)) for fold in range(3)}
    whole = fit_rules(model("Whole", cases, LESIONS), families=("single",))
    assert " and a Dice of at least 1.000 (" in rules_text([whole])
    # Its Dice of 0 is in no mean that a rule must keep.
    cases["case_3"] = (0, reference(0, 0, 0), row(0.9, 0, 0))
    partly = fit_rules(model("Partly", cases, LESIONS), families=("single",))
    assert " and a Dice of at least 1.000 in the 3 cases with lesions (" in rules_text([partly])


def test_a_class_that_is_not_predicted_is_told(model, source):
    truth = reference(1, 1, 1, 0, 0)
    blind = model("Blind", {f"case_{fold}": (fold, truth, row(0, 0, 0, 0, 0)) for fold in range(3)}, LESIONS)
    sentence = "In cases left out it finds no lesion, nor does any other rule"
    assert sentence in rules_text([fit_rules(blind, false_positives=1)])
    assert sentence not in rules_text([fit_rules(source, false_positives=1)])


def test_text_of_several_labels_of_images(source, baseline):
    fit = fit_rules(source, baseline)
    image = replace(fit, cases=tuple(replace(case, spacing_mm=(1.0, 1.0)) for case in fit.cases))
    text = rules_text([image, replace(image, label="2", label_text="scar (2)")])
    headings = [line.partition(":")[0] for line in text.splitlines() if "cases in 3 folds" in line]
    assert headings == ["RWTrainer, lesion (1)", "RWTrainer, scar (2)"]
    # What holds for all labels is said once.
    assert text.count("recall also by size in pixels") == text.count("Cases left out: each") == 1
    assert "mm3" not in text
    assert ", from 3 pixels" in DecisionRule(0.5, 0.5, 3.0).text("pixels")


def test_a_threshold_of_an_earlier_version_is_read(tmp_path):
    path = tmp_path / "threshold.json"
    with pytest.raises(FileNotFoundError, match="Run: nnunet-rw threshold --fit"):
        read_rules(path)
    path.write_text(json.dumps({"label": "2", "threshold": 0.6, "model": "RWTrainer", "margin": None}))
    found = read_rules(path)
    assert (found.fitted_on, found.rules) == (FittedModel(), {"2": DecisionRule(0.6, 0.6)})
    for content in ({}, {"label": "2", "threshold": 1.0}, {"threshold": 0.5}, {"label": "2", "threshold": "high"}):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="holds no rules"):
            read_rules(path)
