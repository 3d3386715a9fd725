"""Rules that keep within some false positives: chosen on the other folds, tested on one's own."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from ensemble_files import read_labels, write_labels
from rule_models import LESIONS, SINGLE, reference, row

from benchmarks.threshold_margin import kept_promises
from nnunet_rw.evaluation.comparison.statistics import mean_interval
from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.rules import FAMILIES, DecisionRule
from nnunet_rw.postprocessing.threshold import fit as fitting
from nnunet_rw.postprocessing.threshold.apply import apply_rules, threshold_rules
from nnunet_rw.postprocessing.threshold.fit import NoLesions
from nnunet_rw.postprocessing.threshold.report import FittedModel, rules_text, write_rules

MODEL = FittedModel("Dataset900_Tiny", "RWTrainer", "nnUNetPlans", "3d_fullres")
# A pale rim around a bright core, a faint lesion of five voxels, and what is none.
RIM, FAINT = (0.37, 0.9, 0.37), (0.37,) * 5
fit_rules = partial(fitting.fit_rules, processes=1)


def only(fit):
    (family,) = fit.choice.families
    return family


def false_left_out(family):
    return family.left_out.false_positives.tolist()


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
    return {family.family: family for family in fit.choice.families}


def outcome(family):
    return {name: float(value) for name, value in family.figures._asdict().items()}


def test_a_threshold_within_the_false_positives(source):
    family = only(fit_rules(source, false_positives=0, **SINGLE))
    # From 0.8 on there is none, below 0.9 the same lesion is found: between both.
    assert family.rule == DecisionRule(0.85, 0.85)
    # Fold 1 knows nothing of its own false positive of 0.79, and may go down to 0.6 but not to 0.7.
    assert {fold: rule.low for fold, rule in family.rules_without.items()} == {
        "fold_0": 0.85,
        "fold_1": 0.65,
        "fold_2": 0.85,
    }
    assert false_left_out(family) == [0, 1, 0]
    assert family.left_out.found.tolist() == [1, 2, 1]


def test_as_many_as_the_baseline_has(source, baseline):
    fit = fit_rules(source, baseline, **SINGLE)
    family = only(fit)
    assert (fit.baseline, fit.false_positives) == ("nnUNetTrainer", pytest.approx(1 / 3))
    # One of three cases may have one: 0.79 is, 0.59 is not; from 0.6 to 0.675 five lesions are found.
    assert family.rule.low == 0.65
    # Without fold 0 the baseline has none, without another 1/2 a case.
    assert family.rules_without["fold_0"].low == 0.85
    assert family.rules_without["fold_1"].low == 0.65
    assert fit.baseline_figures.recall == pytest.approx(3 / 9)
    assert family.figures.recall == pytest.approx(family.left_out.found.sum() / 9)
    assert family.recall_difference == pytest.approx(family.left_out.found.sum() / 9 - 3 / 9)


def test_a_single_fold_is_split(model):
    cases = {f"case_{number}": (0, reference(1, 0), row(0.9, 0.18 * number)) for number in range(5)}
    fit = fit_rules(model("RWTrainer", cases, LESIONS), false_positives=0, num_splits=5, **SINGLE)
    assert "5 cases in 5 random parts, " in rules_text([fit])
    family = only(fit)
    assert sorted(family.rules_without) == [f"split_{number}" for number in range(5)]
    # From the last case's false positive of 0.72 to below 0.9; without that case from 0.54 on.
    assert family.rule.low == 0.8
    assert sorted(rule.low for rule in family.rules_without.values()) == [0.7, 0.8, 0.8, 0.8, 0.8]


def test_no_rule_keeps_within(model, tmp_path):
    cases = {f"case_{number}": (number, reference(1, 0), row(0.9, 1)) for number in range(2)}
    fit = fit_rules(model("RWTrainer", cases, LESIONS), false_positives=0.5)
    assert [family.rule for family in fit.choice.families] == [None] * 4
    assert fit.choice.best is None
    (tmp_path / "rules.json").write_text("an earlier one")
    assert [path.name for path in write_rules([fit], MODEL, tmp_path)] == ["thresholds.csv", "rules.csv"]
    assert not (tmp_path / "rules.json").exists()
    text = rules_text([fit])
    assert "No rule keeps within 0.50 false positives per case and a Dice of 0.667 (--any-dice drops this" in text
    assert "Nothing to apply was written." in text


def test_a_fold_without_a_rule_takes_the_nearest_within_the_price(models):
    # The baseline is perfect; one voxel of each lesion cannot be had, so that no rule has its Dice.
    own = models(*[[((0.9, 0.6, 0.05), True), ((0.3,), False)]] * 3)
    baseline = models(*[[((1, 1, 1), True), ((0,), False)]] * 3, name="nnUNetTrainer")
    family = only(fit_rules(own, baseline, families=("single",)))
    assert family.rule is None
    # Without the false positive, from 0.3 on, and with the lesion's second voxel, below 0.6: Dice 2 * 2 / (2 + 3).
    assert {rule.low for rule in family.rules_without.values()} <= {0.3, 0.4, 0.5, 0.55}
    assert family.left_out.dice.tolist() == [0.8] * 3


def test_dice_is_not_below_the_baselines_unless_that_is_asked_for(models):
    # Above 0.5 the whole lesion, and a false positive of 0.6: Dice 2 * 3 / (3 + 4). Without it a third of the lesion.
    source = models(*[(((0.55, 0.9, 0.55), True), ((0.6,), False))] * 3)
    assert only(fit_rules(source, false_positives=0, families=("single",))).rule is None
    family = only(fit_rules(source, false_positives=0, **SINGLE))
    assert family.rule == DecisionRule(0.75, 0.75)
    assert outcome(family) == {"false_positives_per_case": 0, "recall": 1, "f1": 1, "dice": 0.5}


def test_a_label_among_several(model, dataset_json):
    probabilities = np.zeros((3, 1, 1, 4), np.float32)
    probabilities[:, 0, 0] = [[0.1, 1, 0.2, 1], [0.7, 0, 0, 0], [0.2, 0, 0.8, 0]]
    cases = {f"case_{number}": (number, np.array([[[1, 0, 2, 0]]]), probabilities) for number in range(2)}
    source = model("RWTrainer", cases, dataset_json)
    fit = fit_rules(source, false_positives=0, label="2", **SINGLE)
    # At 0.1 the voxel of label 1 is one; at 0.8 nothing is found.
    assert (fit.label, only(fit).rule.low) == ("2", 0.55)
    with pytest.raises(ValueError, match=r"several labels\. Give --label with one of 1, 2"):
        fit_rules(source, false_positives=0)
    with pytest.raises(ValueError, match="label out of 1, 2, but got 3"):
        fit_rules(source, false_positives=0, label="3")


def test_without_a_baseline_the_price_is_that_of_the_most_probable_class(model, dataset_json):
    # A lesion of 0.6, and of label 2 one where it has 0.45, more than any other class: not above 0.5.
    probabilities = np.zeros((3, 1, 1, 4), np.float32)
    probabilities[:, 0, 0] = [[0.4, 1, 0.3, 1], [0.0, 0, 0.25, 0], [0.6, 0, 0.45, 0]]
    cases = {f"case_{number}": (number, np.array([[[2, 0, 0, 0]]]), probabilities) for number in range(2)}
    fit = fit_rules(model("RWTrainer", cases, dataset_json), label="2", **SINGLE)
    assert (fit.baseline, fit.false_positives) == ("RWTrainer as segmented", 1)


def test_a_class_without_lesions_has_no_rule(model, dataset_json):
    probabilities = np.full((3, 1, 1, 4), 0.3, np.float32)
    cases = {f"case_{number}": (number, np.array([[[1, 0, 0, 0]]]), probabilities) for number in range(2)}
    source = model("RWTrainer", cases, dataset_json)
    with pytest.raises(NoLesions, match=r"2.*: no lesion in the cases of RWTrainer, so no rule can be chosen for it"):
        fit_rules(source, false_positives=9, label="2", **SINGLE)
    assert fit_rules(source, false_positives=9, label="1", **SINGLE).num_lesions.tolist() == [1, 1]


def test_ignored_voxels_and_small_lesions_count_for_neither_model(model):
    content = {**LESIONS, "labels": {"background": 0, "lesion": 1, "ignore": 2}}
    # A lesion of one voxel, 6 mm3, one of three, a false positive, and one where nothing is known.
    truth = np.array([[[1, 0, 1, 1, 1, 0, 0, 0, 2, 2]]])
    lesion = np.array([[[1, 0, 1, 1, 1, 0, 0.5, 0, 1, 1]]], np.float32)
    probabilities = np.stack([1 - lesion, lesion])
    both = [
        model(name, {case: (number, truth, probabilities) for number, case in enumerate("ab")}, content)
        for name in ("RWTrainer", "nnUNetTrainer")
    ]
    fit = fit_rules(*both, min_volume_mm3=7, **SINGLE)
    for case in fit.cases:
        assert case.baseline.found.tolist() == [True]
        assert case.baseline.false_positives == 0  # 0.5 is no more than that of background
        assert case.components.volume_mm3.tolist() == [18]
        assert case.components.decided(DecisionRule(0.1, 0.1)).false_positives == 1
    assert only(fit).rule.low >= 0.5


def test_a_region_has_the_false_positives_that_were_promised(model, predictions, region_json, tmp_path):
    rng = np.random.default_rng(1)
    truth = np.zeros((6, 7, 8), int)
    truth[1:3, 1:3, 1:4], truth[2, 2, 2] = 1, 2
    probabilities = {case: rng.random((2, 6, 7, 8)).astype(np.float32) ** 3 for case in "ab"}
    for values in probabilities.values():
        values[:, truth > 0] = 0.995  # found from 0.99 down, where there are false positives
    source = model("RWTrainer", {case: (n, truth, values) for n, (case, values) in enumerate(probabilities.items())})
    source = replace(source, dataset_json=region_json)
    folder = predictions("region", probabilities, region_json)
    for label, values in (("(1, 2)", (1, 2)), ("2", (2,))):
        fit = fit_rules(source, false_positives=1.5, label=label, matching="any_overlap", **SINGLE)
        rule = only(fit).rule
        apply_rules(folder, tmp_path / label, threshold_rules(rule.low, label), processes=1)
        false = [
            match_lesions(np.isin(truth, values), np.isin(labels, values), (3, 2, 1)).predicted.false_positive.sum()
            for labels in (read_labels(tmp_path / label / f"{case}.nii.gz") for case in "ab")
        ]
        assert false == [case.components.decided(rule, "any_overlap").false_positives for case in fit.cases]
        assert sum(false) > 0


def test_every_family_is_fitted(models):
    fit = fit_rules(models(*[((RIM, True), ((0.6,), False))] * 3))
    assert [family.family for family in fit.choice.families] == list(FAMILIES)
    assert fit.baseline == "RWTrainer as segmented"


def test_hysteresis_draws_the_rim_that_a_threshold_loses(models):
    # To be rid of the 0.6 a threshold leaves one voxel of three: Dice 2 / 4, as much as above 0.5 with it, 2 / 5.
    found = by_family(fit_rules(models(*[((RIM, True), ((0.6,), False))] * 3), false_positives=0))
    single = found["single"]
    # In the middle of those that leave the core alone.
    assert single.rule == DecisionRule(0.75, 0.75)
    assert outcome(single) == {"false_positives_per_case": 0, "recall": 1, "f1": 1, "dice": 0.5}
    both = found["hysteresis"]
    assert both.rule.low <= 0.35
    assert 0.6 <= both.rule.high < 0.9
    assert outcome(both) == {"false_positives_per_case": 0, "recall": 1, "f1": 1, "dice": 1}


def test_a_smallest_volume_keeps_what_a_threshold_must_give_up(models):
    found = by_family(fit_rules(models(*[((FAINT, True), (RIM, True), ((0.6,), False))] * 3), false_positives=0))
    assert outcome(found["single"])["recall"] == 0.5
    rule = found["single_volume"].rule
    # Two voxels of 6 mm3 are more than the false positive, and less than either lesion.
    assert rule.low <= 0.35
    assert rule.min_volume_mm3 == 12.0
    assert outcome(found["single_volume"]) == {"false_positives_per_case": 0, "recall": 1, "f1": 1, "dice": 1}


class TestWhichFamily:
    """Where a threshold finds the one lesion and a threshold with a smallest volume both, the false positive aside."""

    CASE = ((FAINT, True), (RIM, True), ((0.6,), False))

    def test_the_simplest_where_chance_cannot_be_told(self, models):
        fit = fit_rules(models(*[self.CASE] * 3), false_positives=0)
        assert fit.choice.best.family == "single"
        assert "The simplest: in cases left out no other has more recall by more than chance." in rules_text([fit])

    def test_a_richer_one_that_is_better_in_enough_cases(self, models):
        fit = fit_rules(models(*[self.CASE] * 9), false_positives=0)
        assert fit.choice.best.family == "single_volume"
        # In every case one lesion more of two.
        assert by_family(fit)["single_volume"].gain == (0.5, 0.5)
        text = rules_text([fit])
        assert "In cases left out its recall is +0.500 above that of a single threshold, more than chance." in text
        # Where all cases are alike there is no interval, nor a sign of what is 0.
        assert "-0.00" not in text
        assert "+0.00" not in text

    def test_one_that_is_asked_for(self, models):
        fit = fit_rules(models(*[self.CASE] * 3), false_positives=0, families=("hysteresis_volume",))
        assert fit.choice.best.family == "hysteresis_volume"
        assert "No other family was tried." in rules_text([fit])

    @pytest.mark.parametrize(("aim", "gain"), [("f1", 1 / 3), ("dice", 0.8)])
    def test_by_another_aim(self, models, aim, gain):
        # A threshold finds one lesion of two, F1 2/3, with one voxel of eight, Dice 2 / 9.
        fit = fit_rules(models(*[self.CASE] * 9), false_positives=0, aim=aim, keeps_dice=False)
        best = fit.choice.best
        assert best.family == "single_volume"
        assert best.gain.low == pytest.approx(gain if aim == "f1" else 1 - 2 / 9)


def test_a_rule_is_tested_on_cases_that_it_has_not_seen(models):
    # Fold 1 alone has a false positive of 0.8, of which the others know nothing.
    cases = [((RIM, True), ((0.8 if fold == 1 else 0.4,), False)) for fold in range(3)]
    single = by_family(fit_rules(models(*cases), false_positives=0))["single"]
    assert single.rule.low >= 0.8
    assert {fold: rule.low < 0.8 for fold, rule in single.rules_without.items()} == {
        "fold_0": False,
        "fold_1": True,
        "fold_2": False,
    }
    assert false_left_out(single) == [0, 1, 0]


def test_the_price_is_the_baselines_and_dice_at_least_its_own(models):
    cases = [((RIM, True), ((0.6,), False), ((0.45,), False))] * 3
    # Above 0.5: the core of the lesion, and one false positive; Dice 2 / (3 + 2).
    fit = fit_rules(models(*cases), models(*cases, name="nnUNetTrainer"))
    assert (fit.false_positives, fit.baseline) == (1, "nnUNetTrainer")
    assert fit.least_dice == pytest.approx(0.4)
    for family in fit.choice.families:
        assert outcome(family)["false_positives_per_case"] <= 1
        assert outcome(family)["dice"] >= 0.4


def test_intervals_are_over_patients(model):
    """Sixteen cases of eight patients, of whom two have a false positive in each case."""
    cases, patients = {}, {}
    for number in range(16):
        case = f"case_{number:02}"
        cases[case] = (number % 4, reference(1, 0), row(0.9, 0.9 if number // 2 < 2 else 0.1))
        patients[case] = f"patient_{number // 2}"
    source = model("RWTrainer", cases, LESIONS)
    alone, together = (fit_rules(source, false_positives=0.25, groups=groups, **SINGLE) for groups in (None, patients))
    assert (alone.resampled, together.resampled) == ("cases", "patients")
    false = false_left_out(only(together))
    assert false_left_out(only(alone)) == false
    # What two cases of one patient have in common is told once.
    expected = mean_interval(np.array(false, float), list(patients.values()), seed=0).within(0, np.inf)
    assert only(together).false_positives == expected
    assert expected.high > only(alone).false_positives.high
    assert "resampling patients" in rules_text([together])
    halved = {case: f"patient_{number // 4}" for number, case in enumerate(cases)}
    with pytest.raises(
        ValueError, match=r"^Expected more cases or patients for a margin, but a fold is left with \d of 4"
    ):
        fit_rules(source, false_positives=0.25, margin=0.9, groups=halved)


def test_no_rule_is_chosen_on_other_cases_of_the_patient(model):
    # Patient "a" alone has a false lesion of 0.8, in both cases; they are in different folds.
    cases = {f"case_{number}": (number % 3, reference(1, 0), row(0.9, 0.4)) for number in range(6)}
    for number in (0, 1):
        cases[f"case_{number}"] = (number, reference(1, 0), row(0.9, 0.8))
    patients = {f"case_{number}": unit for number, unit in enumerate("aabcde")}
    source = model("RWTrainer", cases, LESIONS)
    alone, together = (fit_rules(source, false_positives=0, groups=groups, **SINGLE) for groups in (None, patients))
    assert false_left_out(only(alone)) == [0] * 6
    assert false_left_out(only(together)) == [1, 1, 0, 0, 0, 0]
    assert "1 of 5 patients are in several folds" in rules_text([together])
    assert "in several folds" not in rules_text([alone])


def test_patients_of_every_fold_are_split_into_parts(model):
    cases = {f"case_{number}": (number % 2, reference(1, 0), row(0.9, 0.4)) for number in range(8)}
    patients = {f"case_{number}": f"patient_{number // 2}" for number in range(8)}
    fit = fit_rules(model("RWTrainer", cases, LESIONS), false_positives=0, groups=patients, **SINGLE)
    assert sorted(only(fit).rules_without) == [f"split_{number}" for number in range(4)]
    assert "8 cases in 4 random parts, " in rules_text([fit])
    assert "4 of 4 patients are in several folds" in rules_text([fit])


def many(model, false, name="RWTrainer"):
    """As many cases, in four folds: a lesion of 0.3, and false positives of 0.5 and of 0.7 each."""
    cases = {
        f"case_{number:02}": (number % 4, reference(1, *[0] * 12), row(0.3, *[0.5] * low, *[0.7] * high, *[0] * rest))
        for number, (low, high) in enumerate(false)
        for rest in [12 - low - high]
    }
    return model(name, cases, LESIONS)


class TestMargin:
    # Of 0.7 two each, of 0.5 eight in all: 2 per case from 0.5 on, 2.5 below.
    FALSE = ((4, 2), (0, 2), (0, 2), (0, 2)) * 2 + ((0, 2),) * 8

    def threshold(self, source, *options, **others):
        rule = only(fit_rules(source, *options, **others, **SINGLE)).rule
        return None if rule is None else rule.low

    def test_the_bound_and_not_the_mean_keeps_within(self, model):
        source = many(model, self.FALSE)
        # Without a margin 2.5 keep within 2.6: the lesion is found.
        assert self.threshold(source, false_positives=2.6) < 0.3
        # A standard error of sqrt((2 * 3.5**2 + 14 * 0.5**2) / 15 / 16) = 0.34 brings 2.5 above 2.6.
        # With 2 in each of 16 cases, none else can be told from Poisson's bound on 32 of them: 2.5, within 2.6.
        fit = fit_rules(source, false_positives=2.6, margin=0.9, **SINGLE)
        assert only(fit).rule.low >= 0.5
        assert "Chosen with a margin of 0.9: single threshold, above 0." in rules_text([fit])
        assert self.threshold(source, false_positives=4, margin=0.9) < 0.3

    def test_none_seen_are_not_none_to_come(self, model):
        # Nothing above 0.7: in 16 cases none, and -ln(0.1) / 16 = 0.144 cannot be excluded.
        source = many(model, self.FALSE)
        assert self.threshold(source, false_positives=0.14) >= 0.7
        fit = fit_rules(source, false_positives=0.14, margin=0.9, **SINGLE)
        assert only(fit).rule is None
        assert "No rule keeps within 0.14 false positives per case with a margin of 0.9" in rules_text([fit])
        assert self.threshold(source, false_positives=0.15, margin=0.9) >= 0.7

    def test_of_the_difference_to_the_baseline_case_by_case(self, model):
        source = many(model, self.FALSE)
        # The baseline's are as many in the same cases: no difference, and nothing that could be more in another.
        alike = many(model, self.FALSE, "nnUNetTrainer")
        for case, files in enumerate(alike.cases):
            low, high = self.FALSE[case]
            write_labels(files.prediction, reference(0, *[1] * (low + high), *[0] * (12 - low - high)))
        assert self.threshold(source, alike, margin=0.9) < 0.3
        # Where the same number is in other cases it might.
        for case, files in enumerate(alike.cases):
            low, high = self.FALSE[(case + 1) % 16]
            write_labels(files.prediction, reference(0, *[1] * (low + high), *[0] * (12 - low - high)))
        assert self.threshold(source, alike) < 0.3
        assert self.threshold(source, alike, margin=0.9) >= 0.5

    @pytest.mark.parametrize("family", FAMILIES)
    def test_of_every_family(self, model, family):
        source = many(model, self.FALSE)
        found = [
            only(fit_rules(source, false_positives=2.6, families=(family,), keeps_dice=False, margin=margin))
            for margin in (None, 0.9)
        ]
        assert found[0].rule.low < 0.3
        # Where the lesion is not found anyway, nothing else is segmented.
        assert found[1].rule.high >= 0.7
        assert found[1].left_out.false_positives.sum() == 0

    @pytest.mark.parametrize("margin", [0.5, 1, 0, 90])
    def test_a_margin_that_is_none(self, source, margin):
        with pytest.raises(ValueError, match=f"margin above 0.5 and below 1, such as 0.9, but got {margin}"):
            fit_rules(source, false_positives=1, margin=margin)

    def test_too_few_cases(self, model):
        source = many(model, self.FALSE[:2])
        with pytest.raises(ValueError, match="for a margin, but a fold is left with 1 of 2 to choose on"):
            fit_rules(source, false_positives=1, margin=0.9)


@pytest.mark.parametrize("of_baseline", [False, True], ids=["price", "baseline"])
def test_the_promise_holds_as_often_as_stated(of_baseline):
    """Choices on 30 cases whose false positives are overdispersed, and the truth of all that could be drawn."""
    without, sure = kept_promises(100, 30, of_baseline, (None, 0.9), resamples=300)
    # Two standard errors of a share of 100: 0.1 of 0.5, 0.06 of 0.9.
    assert 0.4 < without["kept"] < 0.65
    assert sure["kept"] > 0.84
    assert 0.5 < sure["false_positives_of_allowed"] < without["false_positives_of_allowed"]


def test_what_cannot_be_chosen_is_refused(source, baseline, tmp_path):
    with pytest.raises(ValueError, match=r"Expected false positives per case from 0, but got -1"):
        fit_rules(source, false_positives=-1)
    with pytest.raises(ValueError, match=r"^Expected the aim to be one of .*, but got 'accuracy'"):
        fit_rules(source, aim="accuracy")
    with pytest.raises(ValueError, match=r"^Expected families out of single, .*, but got double"):
        fit_rules(source, families=("double",))
    write_labels(tmp_path / "other.nii.gz", reference(1, 1, 0, 0, 0))
    baseline.cases[0] = type(baseline.cases[0])("case_0", tmp_path / "other.nii.gz", baseline.cases[0].prediction)
    with pytest.raises(ValueError, match="to be equal, but they differ"):
        fit_rules(source, baseline)
