"""Families of rules at one price: each chosen on the other folds, tested on one's own."""

import numpy as np
import pytest

from nnunet_rw.postprocessing.threshold.rule_fit import FAMILIES, fit_rules, summary

LESIONS = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
# A pale rim around a bright core, a faint lesion of five voxels, and what is none.
RIM, FAINT = (0.37, 0.9, 0.37), (0.37,) * 5


def line(*pieces):
    """Probabilities of two classes, (2, 1, 1, Z), and a reference: pieces (values, whether a lesion), apart."""
    lesion, truth = [0.0], [0]
    for values, real in pieces:
        lesion += [*values, 0.0]
        truth += [int(real)] * len(values) + [0]
    foreground = np.array(lesion, np.float32)[None, None]
    return np.array(truth)[None, None], np.stack([1 - foreground, foreground])


@pytest.fixture
def models(model):
    """Function that makes a model of three folds of a case each."""

    def make(*cases, name="RWTrainer"):
        return model(name, {f"case_{fold}": (fold, *line(*case)) for fold, case in enumerate(cases)}, LESIONS)

    return make


def by_family(fit):
    return {family.family: family for family in fit.families}


def test_every_family_is_fitted(models):
    fit = fit_rules(models(*[((RIM, True), ((0.6,), False))] * 3), false_positives=0)
    assert [family.family for family in fit.families] == list(FAMILIES)
    assert fit.baseline == "RWTrainer above 0.5"


def test_hysteresis_draws_the_rim_that_a_threshold_loses(models):
    # To be rid of the 0.6 a threshold leaves one voxel of three: Dice 2 / 4.
    fit = fit_rules(models(*[((RIM, True), ((0.6,), False))] * 3), false_positives=0)
    found = by_family(fit)
    single = found["threshold"]
    # In the middle of those that leave the core alone.
    assert single.rule.low == single.rule.high == 0.75
    assert summary(single.left_out) == {"false_positives_per_case": 0, "recall": 1, "f1": 1, "dice": 0.5}
    both = found["hysteresis"]
    assert both.rule.low <= 0.35
    assert both.rule.high in (0.7, 0.75)
    assert summary(both.left_out) == {"false_positives_per_case": 0, "recall": 1, "f1": 1, "dice": 1}


def test_a_smallest_volume_keeps_what_a_threshold_must_give_up(models):
    fit = fit_rules(models(*[((FAINT, True), (RIM, True), ((0.6,), False))] * 3), false_positives=0)
    found = by_family(fit)
    assert summary(found["threshold"].left_out)["recall"] == 0.5
    rule = found["threshold + minimum volume"].rule
    # Two voxels of 6 mm3 are more than the false positive, and less than either lesion.
    assert rule.low <= 0.35
    assert rule.min_volume_mm3 == 12.0
    assert summary(found["threshold + minimum volume"].left_out) == {
        "false_positives_per_case": 0,
        "recall": 1,
        "f1": 1,
        "dice": 1,
    }
    assert fit.best.family == "threshold + minimum volume"


def test_a_rule_is_tested_on_cases_that_it_has_not_seen(models):
    # Fold 1 alone has a false positive of 0.8, of which the others know nothing.
    cases = [((RIM, True), ((0.8 if fold == 1 else 0.4,), False)) for fold in range(3)]
    single = by_family(fit_rules(models(*cases), false_positives=0))["threshold"]
    assert single.rule.low >= 0.8
    assert {fold: rule.low < 0.8 for fold, rule in single.rules_without.items()} == {
        "fold_0": False,
        "fold_1": True,
        "fold_2": False,
    }
    assert [item.false_positives for item in single.left_out] == [0, 1, 0]


def test_the_price_is_the_baselines_and_dice_at_least_its_own(models):
    cases = [((RIM, True), ((0.6,), False), ((0.45,), False))] * 3
    # Above 0.5: the core of the lesion, and one false positive; Dice 2 / (3 + 2).
    fit = fit_rules(models(*cases), models(*cases, name="nnUNetTrainer"))
    assert (fit.false_positives, fit.baseline) == (1, "nnUNetTrainer")
    assert fit.least_dice == pytest.approx(0.4)
    for family in fit.families:
        outcome = summary(family.left_out)
        assert outcome["false_positives_per_case"] <= 1
        assert outcome["dice"] >= 0.4


def test_intervals_are_over_patients(models):
    # Nine cases, a false positive in each of three; of one patient each, or of two patients.
    cases = [((RIM, True), ((0.6,) if number % 3 == 0 else (0.1,), False)) for number in range(9)]
    names = [f"case_{number}" for number in range(9)]
    own = {name: f"patient_{name}" for name in names}
    two = {name: f"patient_{number % 2}" for number, name in enumerate(names)}
    source = models(*cases)
    fits = [fit_rules(source, groups=groups) for groups in (None, own, two)]
    assert [fit.resampled for fit in fits] == ["cases", "patients", "patients"]
    alone, each, few = (by_family(fit)["threshold"].false_positives for fit in fits)
    assert alone == each
    assert np.isfinite(alone.low)
    assert np.isnan(few.low)


def test_no_rule_keeps_within(models):
    fit = fit_rules(models(*[((RIM, True), ((0.999,) * 40, False))] * 3), false_positives=0)
    assert [family.rule for family in fit.families] == [None] * 4
    assert fit.best is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aim": "accuracy"}, r"^Expected the aim to be one of \('recall', 'f1', 'dice'\), but got 'accuracy'"),
        ({"false_positives": -1.0}, r"^Expected false positives per case from 0, but got -1\.0"),
    ],
)
def test_impossible_options(models, options, message):
    with pytest.raises(ValueError, match=message):
        fit_rules(models(*[((RIM, True),)] * 3), **options)
