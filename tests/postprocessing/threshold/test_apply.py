"""Rules of several classes applied together: who gives way where they meet, and how that is judged."""

import csv
import json
from functools import partial

import numpy as np
import pytest
from ensemble_files import read_labels
from rule_models import LESIONS, SINGLE, reference, row

from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.overlap import overlap
from nnunet_rw.evaluation.metrics.rules import DecisionRule, apply_rule
from nnunet_rw.maps.arrays import connected_components
from nnunet_rw.postprocessing.threshold import fit as fitting
from nnunet_rw.postprocessing.threshold.apply import apply_rules, judged_together, without_contest
from nnunet_rw.postprocessing.threshold.report import ChosenRules, FittedModel, rules_text, write_rules

fit_rules = partial(fitting.fit_rules, processes=1)


def written(rules, *probabilities, voxel_mm3=1.0):
    """Labels of a row of voxels, of classes from 1 on."""
    values = np.array(probabilities, np.float32)[:, None]
    rules = dict(enumerate(rules))
    masks = {channel: apply_rule(values[channel], rule, voxel_mm3) for channel, rule in rules.items()}
    owned = without_contest(masks, values, rules, voxel_mm3)
    assert sum(mask.astype(int) for mask in owned.values()).max() <= 1
    return sum((channel + 1) * mask.astype(int) for channel, mask in owned.items()).ravel().tolist()


def test_a_component_that_another_cuts_stays_one():
    # The likelier has the third voxel; of what is left of the other its larger piece stays.
    rules = DecisionRule(0.3, 0.3), DecisionRule(0.5, 0.5)
    assert written(rules, (0.4, 0.4, 0.4, 0.4), (0.1, 0.1, 0.6, 0.1)) == [1, 1, 2, 0]
    # Where it is less likely it gives way as well, and leaves nothing.
    assert written(rules, (0.4, 0.4, 0.9, 0.4), (0.1, 0.1, 0.6, 0.1)) == [1, 1, 1, 1]


def test_what_is_left_keeps_the_rules_volume_and_peak():
    likelier = (0.1, 0.1, 0.6, 0.6)
    assert written((DecisionRule(0.3, 0.3, 2.0), DecisionRule(0.5, 0.5)), (0.4,) * 4, likelier) == [1, 1, 2, 2]
    assert written((DecisionRule(0.3, 0.3, 3.0), DecisionRule(0.5, 0.5)), (0.4,) * 4, likelier) == [0, 0, 2, 2]
    # A voxel is 1.5 mm3.
    rules = DecisionRule(0.3, 0.3, 3.0), DecisionRule(0.5, 0.5)
    assert written(rules, (0.4,) * 4, likelier, voxel_mm3=1.5) == [1, 1, 2, 2]
    rules = DecisionRule(0.3, 0.45), DecisionRule(0.5, 0.5)
    assert written(rules, (0.4, 0.4, 0.5, 0.4), likelier) == [0, 0, 2, 2]
    assert written(rules, (0.5, 0.4, 0.5, 0.4), likelier) == [1, 1, 2, 2]


def test_what_goes_is_of_the_next_class_that_claims_it():
    # The third class takes a voxel of the second, of which one is too few; that goes to the first.
    rules = DecisionRule(0.2, 0.2, 2.0), DecisionRule(0.3, 0.3, 2.0), DecisionRule(0.5, 0.5)
    assert written(rules, (0.25, 0.25, 0.25), (0.1, 0.35, 0.35), (0.0, 0.0, 0.6)) == [1, 1, 3]


def test_classes_that_do_not_meet_are_as_their_rules_make_them():
    values = np.array([[[0.4, 0.4, 0.0, 0.4]], [[0.0, 0.0, 0.6, 0.0]]], np.float32)
    masks = {0: values[0] > 0.3, 1: values[1] > 0.3}
    kept = without_contest(masks, values, {0: DecisionRule(0.3, 0.3), 1: DecisionRule(0.3, 0.3)}, 1.0)
    for channel, mask in masks.items():
        np.testing.assert_array_equal(kept[channel], mask)


@pytest.mark.parametrize("connectivity", [6, 26])
def test_no_class_has_more_components_than_alone_nor_smaller_ones(random_probabilities, connectivity):
    values = random_probabilities(3, (9, 10, 11), classes=4)
    rules = {1: DecisionRule(0.3, 0.3, 12.0), 2: DecisionRule(0.2, 0.6), 3: DecisionRule(0.35, 0.4, 18.0)}
    masks = {channel: apply_rule(values[channel], rule, 6.0, connectivity) for channel, rule in rules.items()}
    before = {channel: mask.copy() for channel, mask in masks.items()}
    kept = without_contest(masks, values, rules, 6.0, connectivity)
    for channel, rule in rules.items():
        np.testing.assert_array_equal(masks[channel], before[channel])
        assert not (kept[channel] & ~masks[channel]).any()
        alone, pieces = (
            connected_components(mask.view(np.uint8), connectivity) for mask in (masks[channel], kept[channel])
        )
        assert 0 < pieces.max() <= alone.max()
        # Each piece is of a component of its own, and keeps the rule.
        of_pieces = [np.unique(alone[pieces == piece]).tolist() for piece in range(1, pieces.max() + 1)]
        assert len({tuple(found) for found in of_pieces}) == len(of_pieces)
        np.testing.assert_array_equal(
            kept[channel], kept[channel] & apply_again(values, kept, channel, rule, connectivity)
        )


def apply_again(values, kept, channel, rule, connectivity):
    return apply_rule(np.where(kept[channel], values[channel], 0), rule, 6.0, connectivity)


@pytest.fixture
def folds():
    """Two cases by fold: a wide lesion of label 1, in its middle one of label 2, and apart a false one of label 2."""
    cases = {}
    for fold, rim in enumerate((0.45, 0.5)):
        truth = np.array([[[1, 1, 1, 2, 2, 1, 0, 0, 0, 1, 0, 0]]])
        one, two = np.zeros((2, 1, 1, 12), np.float32)
        one[..., :6], one[..., 9], two[..., 3:5], two[..., 7] = rim, 0.9, 0.55, 0.35
        cases[f"case_{fold}"] = (fold, truth, np.stack([1 - np.maximum(one, two), one, two]))
    return cases


class TestTogether:
    """The rule of either class, chosen alone, and what both make of a case."""

    @pytest.fixture
    def source(self, model, folds):
        return model("RWTrainer", folds)

    @pytest.fixture
    def fits(self, source):
        return [fit_rules(source, false_positives=1, label=label, **SINGLE) for label in ("1", "2")]

    def test_it_is_what_the_command_writes_of_cases_left_out(self, source, fits, predictions, folds, tmp_path):
        together = judged_together(source, fits, processes=1)
        for case, (fold, truth, probabilities) in folds.items():
            folder = predictions(f"new_{case}", {case: probabilities})
            rules = {fit.label: fit.choice.best.rules_without[f"fold_{fold}"] for fit in fits}
            apply_rules(folder, tmp_path / case, ChosenRules(FittedModel(), 26, rules), processes=1)
            labels = read_labels(tmp_path / case / f"{case}.nii.gz")
            for fit in together:
                position = [found.case for found in fit.cases].index(case)
                judged, masks = fit.together[position], [values == int(fit.label) for values in (truth, labels)]
                matches = match_lesions(*masks, (3, 2, 1))
                assert judged.found.tolist() == matches.reference.matched.tolist()
                assert judged.false_positives == (~matches.predicted.matched).sum()
                assert judged.dice == pytest.approx(overlap(*masks).dice)
        # Alone the wide lesion is whole, with the voxels of the other class: Dice 2 * 5 / (5 + 7).
        alone = fits[0].choice.best.figures
        assert alone.dice == pytest.approx(10 / 12)
        # Cut, its larger piece stays: 2 * 4 / (5 + 4).
        assert together[0].together_figures.dice == pytest.approx(8 / 9)
        assert together[0].together_figures.false_positives_per_case == alone.false_positives_per_case == 0

    def test_it_is_told(self, source, fits, tmp_path):
        together = judged_together(source, fits, processes=1)
        lines = rules_text(together).splitlines()
        assert [line.split()[3:5] for line in lines if line.startswith("all rules together ")] == [
            ["0.00", "0.667"],  # of three pieces that the reference has of label 1
            ["0.00", "1.000"],
        ]
        assert lines[-2:] == [
            'Rules are chosen for each label alone. "All rules together" is the segmentation that they make of a case, '
            "each the",
            "one chosen without its fold: where two classes meet, one gives way. Expect this of new cases.",
        ]
        assert "; expect this of new cases" not in "\n".join(lines)
        _, table, chosen = write_rules(together, FittedModel("Dataset900_Tiny"), tmp_path)
        with open(table, newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["segmentation"] == "all rules together"]
        assert [(row["label"], float(row["dice"])) for row in rows] == [("1", pytest.approx(8 / 9)), ("2", 1)]
        assert json.loads(chosen.read_text())["together"]["1"]["dice"] == pytest.approx(8 / 9)

    def test_a_single_label_is_as_it_was(self, source, fits):
        assert judged_together(source, fits[:1]) == fits[:1]
        assert "; expect this of new cases." in rules_text(fits[:1])


def test_without_a_rule_there_is_nothing_to_judge(model):
    cases = {f"case_{number}": (number, reference(1, 0), row(0.9, 1)) for number in range(2)}
    source = model("RWTrainer", cases, LESIONS)
    fits = [fit_rules(source, false_positives=0.5)] * 2
    assert judged_together(source, fits) == fits
