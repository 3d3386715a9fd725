import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from ensemble_files import write_labels

from nnunet_rw.evaluation.comparison.statistics import paired_comparison
from nnunet_rw.postprocessing.ensemble import fit
from nnunet_rw.postprocessing.ensemble.average import Scores, counted_scores
from nnunet_rw.postprocessing.ensemble.fit import Candidate, case_statistics, fit_ensemble, match_case
from nnunet_rw.postprocessing.ensemble.report import CLEANED, EQUAL, FITTED, MEAN, gains, report_text, write_fit
from nnunet_rw.postprocessing.ensemble.weights import fit_class_weights, read_weights
from nnunet_rw.postprocessing.predictions import paired_cases

FOLDS = {f"case_{number}": number % 3 for number in range(6)}


def certain(labels):
    """0.9 for the class and 0.05 for either other."""
    return np.where(np.arange(3)[:, None, None, None] == labels, 0.9, 0.05).astype(np.float32)


def references(seed=0, shape=(4, 9, 10)):
    """Two lesions of either class per case, at places of its own."""
    rng = np.random.default_rng(seed)
    found = {}
    for case in FOLDS:
        labels = np.zeros(shape, int)
        for label, column in ((1, 1), (2, 6)):
            for first in (0, 5):
                start = first + rng.integers(0, 2)
                labels[1:3, start : start + 3, column : column + 2] = label
        found[case] = labels
    return found


def swapped(labels, label, seed):
    """The labels with a class predicted at random instead of where it is, half of its voxels missed."""
    rng = np.random.default_rng(seed)
    wrong = np.where((labels == label) & (rng.random(labels.shape) < 0.5), 0, labels)
    return np.where((labels == 0) & (rng.random(labels.shape) < 0.15), label, wrong)


@pytest.fixture
def specialists(model):
    """Two models: "first" is right for class 1, "second" for class 2."""
    truth = references()

    def write(name, wrong_label, seed):
        return model(
            name,
            {
                case: (FOLDS[case], labels, certain(swapped(labels, wrong_label, seed + number)))
                for number, (case, labels) in enumerate(truth.items())
            },
        )

    return [write("first", 2, 100), write("second", 1, 200)]


def test_each_class_goes_to_the_model_that_is_right(specialists):
    report = fit_ensemble(specialists)
    assert report.fitted.values[0, 1] > 0.9
    assert report.fitted.values[1, 2] > 0.9
    fitted, equal = ([report.summary(method, position)["dice"] for position in (0, 1)] for method in (FITTED, EQUAL))
    singles = [[report.summary(name, position)["dice"] for position in (0, 1)] for name in ("first", "second")]
    assert singles[0][0] == singles[1][1] == 1
    assert min(fitted) > max(equal[0], equal[1], singles[0][1], singles[1][0])
    assert report.chosen == FITTED
    np.testing.assert_array_equal(report.weights.values, report.fitted.values)


def test_weights_are_convex_in_every_fit(specialists):
    report = fit_ensemble(specialists)
    assert set(report.fitted_without) == {"fold_0", "fold_1", "fold_2"}
    for weights in (report.fitted, *report.fitted_without.values()):
        np.testing.assert_allclose(weights.values.sum(0), 1, atol=1e-12)
        assert weights.values.min() >= 0


def test_labels_of_a_fold_change_nothing_that_is_applied_to_it(specialists, tmp_path):
    before = fit_ensemble(specialists)
    for number, (case, fold) in enumerate(FOLDS.items()):
        if fold == 1:
            moved = np.roll(references()[case], number, axis=(0, 1))
            write_labels(tmp_path / "references" / f"{case}.nii.gz", moved)
    after = fit_ensemble(specialists)
    assert after.chosen == before.chosen
    np.testing.assert_array_equal(before.fitted_without["fold_1"].values, after.fitted_without["fold_1"].values)
    assert before.volumes_mm3_without["fold_1"] == after.volumes_mm3_without["fold_1"]
    # But the fits that may see them changed.
    for name in ("fold_0", "fold_2"):
        assert not np.array_equal(before.fitted_without[name].values, after.fitted_without[name].values)


def test_what_is_fitted_without_a_fold_is_applied_to_it(specialists):
    report = fit_ensemble(specialists)
    reader, content = specialists[0].reader, specialists[0].dataset_json
    cases = paired_cases(specialists)
    statistics = {case.case: case_statistics(case, reader, content) for case in cases}
    for position, case in enumerate(cases):
        others = [statistics[other.case] for other in cases if other.fold != case.fold]
        weights = np.stack([fit_class_weights(channel) for channel in zip(*others, strict=True)], axis=1)
        np.testing.assert_array_equal(weights, report.fitted_without[case.fold].values)
        candidates = {
            FITTED: Candidate(weights),
            CLEANED: Candidate(weights, report.volumes_mm3_without[case.fold]),
        }
        for name, matches in match_case(case, reader, content, candidates).items():
            assert report.scores[name][position] == tuple(counted_scores(found) for found in matches)


def test_order_of_models_changes_nothing(specialists):
    report, mirrored = fit_ensemble(specialists), fit_ensemble(specialists[::-1])
    np.testing.assert_allclose(report.fitted.values, mirrored.fitted.values[::-1], atol=1e-4)
    for method in report.scores:
        assert report.scores[method] == mirrored.scores[method]
    assert report.gains == mirrored.gains


def test_gains_by_hand(specialists):
    report = fit_ensemble(specialists)
    dice = {name: np.array([[found.dice for found in case] for case in report.scores[name]]) for name in report.scores}
    gain = next(g for g in report.gains if (g.label, g.method) == ("2", EQUAL))
    assert gain.against == "second"
    assert gain.comparison.mean == pytest.approx((dice[EQUAL][:, 1] - dice["second"][:, 1]).mean())
    gain = next(g for g in report.gains if (g.label, g.method, g.against) == (MEAN, FITTED, EQUAL))
    assert gain.comparison.mean == pytest.approx((dice[FITTED] - dice[EQUAL]).mean())
    assert gain.comparison.n == 6
    assert np.isnan(gain.comparison.interval.low)  # six cases are too few
    best = max(("first", "second"), key=lambda name: dice[name].mean())
    assert {g.against for g in report.gains if g.label == MEAN and g.method != FITTED} == {best}


def test_equal_weights_stay_where_the_fit_gains_nothing(model):
    truth = references()
    cases = {case: (FOLDS[case], labels, certain(labels)) for case, labels in truth.items()}
    report = fit_ensemble([model(name, cases) for name in ("first", "second")])
    assert report.chosen == EQUAL
    assert np.all(report.weights.values == 0.5)
    assert report.weights.min_component_mm3 == {}
    assert report.scores[CLEANED] == report.scores[EQUAL]


@pytest.fixture
def speckled(model):
    """Two models that agree: right, and a false positive of one voxel, 6 mm3, of class 1 in every case."""
    cases = {}
    for case, labels in references().items():
        wrong = labels.copy()
        wrong[0, 8, 4] = 1
        cases[case] = (FOLDS[case], labels, certain(wrong))
    return [model(name, cases) for name in ("first", "second")]


def test_small_components_before_and_after(speckled):
    report = fit_ensemble(speckled)
    # Two lesions are found and one prediction is false: F1 = 2 * 1 * 2/3 / (5/3) = 0.8. A lesion has 12 voxels.
    before, after = (report.summary(method, 0) for method in (EQUAL, CLEANED))
    assert (before["f1"], after["f1"]) == pytest.approx((0.8, 1))
    assert (before["false_positives_per_case"], after["false_positives_per_case"]) == (1, 0)
    assert (before["dice"], after["dice"]) == pytest.approx((48 / 49, 1))
    assert report.volumes_mm3 == {"1": 72, "2": 0}
    assert set(report.volumes_mm3_without) == {"fold_0", "fold_1", "fold_2"}
    assert report.weights.min_component_mm3 == {"1": 72}


def test_a_single_fold_is_split(model):
    cases = {case: (0, labels, certain(labels)) for case, labels in references().items()}
    report = fit_ensemble([model(name, cases) for name in ("first", "second")], num_splits=2)
    assert set(report.fitted_without) == {"split_0", "split_1"}


def test_regions(model, region_json):
    # "a" knows the whole and takes everything for the core, "b" the other way round. The mean is 0.525 or more.
    cases = [{}, {}]
    for case, labels in references().items():
        whole, core = labels > 0, labels == 2
        all_of_it = np.ones(labels.shape)
        cases[0][case] = (FOLDS[case], labels, np.stack([np.where(whole, 0.9, 0.05), all_of_it]).astype(np.float32))
        cases[1][case] = (FOLDS[case], labels, np.stack([all_of_it, np.where(core, 0.9, 0.05)]).astype(np.float32))
    report = fit_ensemble([model(name, found, region_json) for name, found in zip("ab", cases, strict=True)])
    assert report.classes == report.weights.channels == ("(1, 2)", "2")
    np.testing.assert_allclose(report.fitted.values, [[1, 0], [0, 1]], atol=0.1)
    assert [report.summary(FITTED, position)["dice"] for position in (0, 1)] == [1, 1]
    assert report.chosen == FITTED


def test_voxels_to_ignore_teach_nothing(model, dataset_json):
    content = {**dataset_json, "labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}}
    cases = [{}, {}]
    for case, labels in references().items():
        unknown = labels.copy()
        unknown[:, :, 0] = 3
        wrong = labels.copy()
        wrong[:, :, 0] = 1
        cases[0][case] = (FOLDS[case], unknown, certain(labels))
        cases[1][case] = (FOLDS[case], unknown, certain(wrong))
    report = fit_ensemble([model(name, found, content) for name, found in zip("ab", cases, strict=True)])
    np.testing.assert_allclose(report.fitted.values, 0.5, atol=1e-6)
    assert report.summary("b", 0)["dice"] == 1


def test_other_references(specialists, tmp_path):
    other = tmp_path / "other.nii.gz"
    write_labels(other, np.zeros((4, 9, 10)))
    second = specialists[1]
    changed = [replace(second.cases[0], reference=other), *second.cases[1:]]
    with pytest.raises(ValueError, match=r"other\.nii\.gz and .* to be equal, but they differ"):
        fit_ensemble([specialists[0], replace(second, cases=changed)])


def test_nan(specialists):
    path = specialists[1].cases[0].probabilities
    probabilities = np.load(path)["probabilities"]
    probabilities[0, 0, 0, 0] = np.nan
    np.savez(path, probabilities=probabilities)
    with pytest.raises(ValueError, match=r"case_0\.npz holds non-finite values"):
        fit_ensemble(specialists)


def test_files(specialists, tmp_path):
    report = fit_ensemble(specialists)
    paths = write_fit(report, tmp_path / "out")
    assert [path.name for path in paths] == ["cases.csv", "weights.json"]
    found = read_weights(paths[1])
    np.testing.assert_array_equal(found.values, report.weights.values)
    assert found.min_component_mm3 == report.weights.min_component_mm3
    content = json.loads(paths[1].read_text())
    assert content["chosen"] == FITTED
    assert content["fitted_without"]["fold_0"]["1"]["first"] == report.fitted_without["fold_0"].values[0, 1]
    assert content["summary"][EQUAL]["1"]["dice"] == report.summary(EQUAL, 0)["dice"]
    with open(paths[0], newline="") as file:
        rows = list(csv.DictReader(file))
    # Two models and three ensembles, six cases, two classes.
    assert len(rows) == 5 * 6 * 2
    assert (rows[0]["case"], rows[0]["fold"], rows[0]["model"]) == ("case_0", "fold_0", "first")
    assert float(rows[0]["dice"]) == report.scores["first"][0][0].dice


def test_text(specialists):
    text = report_text(fit_ensemble(specialists))
    assert text.startswith("Ensemble of first, second: 6 cases in 3 folds")
    assert "Kept: the fitted weights" in text
    assert "mean of classes  fitted weights" in text
    assert "nan" not in text


def test_gains_are_over_patients():
    """Sixteen cases of eight patients: what two cases of one have in common is told once."""
    dice = np.repeat(np.linspace(0.4, 0.8, 8), 2)
    methods = {"first": dice, "second": dice - 0.2, EQUAL: dice, FITTED: dice + dice**2 / 10, CLEANED: dice}
    scores = {name: [(Scores(float(value), 1, 1, 1, 0),) for value in values] for name, values in methods.items()}
    patients = [f"patient_{number // 2}" for number in range(16)]
    alone, together = (
        gains(scores, ("first", "second"), ("1",), units)[-1].comparison
        for units in ([f"case_{number}" for number in range(16)], patients)
    )
    assert together == paired_comparison(dice, dice + dice**2 / 10, units=patients)
    assert together.mean == pytest.approx(alone.mean)
    assert together.interval.low < alone.interval.low


def test_nothing_is_fitted_on_other_cases_of_a_patient(specialists, monkeypatch):
    fitted_on = []
    monkeypatch.setattr(fit, "_fit_weights", lambda seen: fitted_on.append(len(seen)) or np.full((2, 3), 0.5))
    # Three folds of two cases. A patient has one of the first fold and one of the second.
    by_fold = {fold: sorted(case for case in FOLDS if FOLDS[case] == fold) for fold in sorted(set(FOLDS.values()))}
    first, second, _ = by_fold.values()
    patients = {case: case for case in FOLDS} | {first[0]: "anna", second[0]: "anna"}
    report = fit_ensemble(specialists, groups=patients)
    # All; without the first fold and what anna has in the second; the other way round; without the third.
    assert fitted_on == [6, 3, 3, 4]
    assert "1 of 5 patients are in several folds" in report_text(report)
    assert fit_ensemble(specialists).notes == ()


def test_the_text_says_what_intervals_are_over(specialists):
    report = fit_ensemble(specialists, groups={f"case_{number}": f"patient_{number // 2}" for number in range(6)})
    assert "interval over patients; p of Wilcoxon's" in report_text(report)
    assert "interval over cases; p of Wilcoxon's" in report_text(fit_ensemble(specialists))


def test_text_where_nothing_is_gained(speckled):
    report = fit_ensemble(speckled)
    text = report_text(report)
    assert "Minimum volume of 1: 72 pixels (" in report_text(replace(report, size_unit="pixels"))
    assert "Kept: equal weights" in text
    assert "Minimum volume of 1: 72 mm3 (72 to 72), kept" in text
    assert "Minimum volume of 2: 0 mm3 (0 to 0), nothing to remove" in text
