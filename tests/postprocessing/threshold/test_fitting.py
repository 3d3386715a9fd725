"""A threshold that keeps within some false positives: chosen on the other folds, tested on one's own."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from ensemble_files import read_labels, write_labels

from benchmarks.threshold_margin import kept_promises
from nnunet_rw.evaluation.comparison.intervals import mean_interval
from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.thresholds import THRESHOLDS
from nnunet_rw.postprocessing.threshold.apply import apply_threshold
from nnunet_rw.postprocessing.threshold.fit import fit_threshold
from nnunet_rw.postprocessing.threshold.report import read_threshold, threshold_text, write_threshold

LESIONS = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}


def row(*values):
    """Probabilities of two classes, (2, 1, 1, Z): of the lesion these, a voxel of background after each."""
    lesion = np.zeros((1, 1, 2 * len(values)), np.float32)
    lesion[..., ::2] = values
    return np.stack([1 - lesion, lesion])


def reference(*lesions):
    labels = np.zeros((1, 1, 2 * len(lesions)), int)
    labels[..., ::2] = lesions
    return labels


@pytest.fixture
def source(model):
    """Three folds of a case. The first three voxels of each are lesions, the last two are not."""
    truth = reference(1, 1, 1, 0, 0)
    # By threshold: 0.6 and above have no false positive in fold 0, 0.8 and above in fold 1, 0.4 and above in fold 2.
    probabilities = {0: row(0.9, 0.7, 0.2, 0.59, 0.1), 1: row(0.9, 0.7, 0.5, 0.79, 0), 2: row(0.9, 0.3, 0.2, 0.39, 0)}
    return model("RWTrainer", {f"case_{f}": (f, truth, values) for f, values in probabilities.items()}, LESIONS)


@pytest.fixture
def baseline(model):
    """Finds one lesion of each case; one false positive in all."""
    truth = reference(1, 1, 1, 0, 0)
    probabilities = {0: row(1, 0, 0, 1, 0), 1: row(1, 0, 0, 0, 0), 2: row(1, 0, 0, 0, 0)}
    return model("nnUNetTrainer", {f"case_{f}": (f, truth, values) for f, values in probabilities.items()}, LESIONS)


def test_lowest_threshold_within_the_false_positives(source):
    fit = fit_threshold(source, false_positives=0)
    assert fit.threshold == 0.8
    assert fit.thresholds_without == {"fold_0": 0.8, "fold_1": 0.6, "fold_2": 0.8}
    # Fold 1 knows nothing of its own false positive.
    assert [item.false_positives for item in fit.left_out] == [0, 1, 0]
    found = [item.found.tolist() for item in fit.left_out]
    assert found == [[True, False, False], [True, True, False], [True, False, False]]
    assert fit.recall is None


def test_as_many_as_the_baseline_has(source, baseline):
    fit = fit_threshold(source, baseline)
    assert fit.false_positives == pytest.approx(1 / 3)
    assert fit.threshold == 0.6  # one of three cases has one
    # Without fold 0 the baseline has none, without another 1/2 a case. Folds 0 and 2 have that down to 0.4, where
    # no more is found than at 0.6, and Dice is worse.
    assert fit.thresholds_without == {"fold_0": 0.8, "fold_1": 0.6, "fold_2": 0.6}
    assert [item.false_positives for item in fit.left_out] == [0, 1, 0]
    assert fit.recall.baseline == pytest.approx(3 / 9)
    assert fit.recall.challenger == pytest.approx((1 + 2 + 1) / 9)


def test_a_single_fold_is_split(model):
    cases = {f"case_{number}": (0, reference(1, 0), row(0.9, 0.1 * number)) for number in range(5)}
    fit = fit_threshold(model("RWTrainer", cases, LESIONS), false_positives=0, num_splits=5)
    assert sorted(fit.thresholds_without) == [f"split_{number}" for number in range(5)]
    assert fit.threshold == 0.4  # the last case's false positive
    assert sorted(fit.thresholds_without.values()) == [0.3, 0.4, 0.4, 0.4, 0.4]


def test_no_threshold_keeps_within(model, tmp_path):
    cases = {f"case_{number}": (number, reference(1, 0), row(0.9, 1)) for number in range(2)}
    fit = fit_threshold(model("RWTrainer", cases, LESIONS), false_positives=0.5)
    assert fit.threshold is None
    assert set(fit.thresholds_without.values()) == {0.999}
    (tmp_path / "threshold.json").write_text("an earlier one")
    assert write_threshold(fit, tmp_path) == [tmp_path / "thresholds.csv"]
    assert not (tmp_path / "threshold.json").exists()
    text = threshold_text(fit)
    assert "No threshold keeps within 0.50 false positives per case. Nothing to apply was written." in text
    assert "in cases left out" not in text


def test_a_label_among_several(model, dataset_json):
    probabilities = np.zeros((3, 1, 1, 4), np.float32)
    probabilities[:, 0, 0] = [[0.1, 1, 0.2, 1], [0.7, 0, 0, 0], [0.2, 0, 0.8, 0]]
    cases = {f"case_{number}": (number, np.array([[[1, 0, 2, 0]]]), probabilities) for number in range(2)}
    source = model("RWTrainer", cases, dataset_json)
    fit = fit_threshold(source, false_positives=0, label="2")
    assert (fit.label, fit.threshold) == ("2", 0.2)  # at 0.175 the voxel of label 1 is one
    with pytest.raises(ValueError, match=r"several labels\. Give --label with one of 1, 2"):
        fit_threshold(source, false_positives=0)
    with pytest.raises(ValueError, match="label out of 1, 2, but got 3"):
        fit_threshold(source, false_positives=0, label="3")


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
    fit = fit_threshold(*both, min_volume_mm3=7)
    for case in fit.cases:
        assert case.baseline.found.tolist() == [True]
        assert case.baseline.false_positives == 0  # 0.5 is no more than that of background
        assert case.curve.volume_mm3.tolist() == [18]
        assert case.curve.false_positives[-1] == 1
    assert fit.threshold == 0.5


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
        fit = fit_threshold(source, false_positives=1.5, label=label)
        apply_threshold(folder, tmp_path / label, fit.threshold, label, processes=1)
        false = [
            match_lesions(np.isin(truth, values), np.isin(labels, values), (3, 2, 1)).predicted.false_positive.sum()
            for labels in (read_labels(tmp_path / label / f"{case}.nii.gz") for case in "ab")
        ]
        position = THRESHOLDS.index(fit.threshold)
        assert false == [case.curve.false_positives[position] for case in fit.cases]
        assert sum(false) > 0


def test_intervals_are_over_patients(model):
    """Sixteen cases of eight patients, of whom two have a false positive in each case."""
    cases, patients = {}, {}
    for number in range(16):
        case = f"case_{number:02}"
        cases[case] = (number % 4, reference(1, 0), row(0.9, 0.9 if number // 2 < 2 else 0.1))
        patients[case] = f"patient_{number // 2}"
    source = model("RWTrainer", cases, LESIONS)
    alone, together = (fit_threshold(source, false_positives=0.25, groups=groups) for groups in (None, patients))
    assert (alone.resampled, together.resampled) == ("cases", "patients")
    false = [item.false_positives for item in together.left_out]
    assert [item.false_positives for item in alone.left_out] == false
    # What two cases of one patient have in common is told once.
    assert together.left_out_false_positives == mean_interval(np.array(false, float), list(patients.values()), seed=0)
    assert together.left_out_false_positives.high > alone.left_out_false_positives.high
    assert "95 % intervals, resampling patients." in threshold_text(together)
    halved = {case: f"patient_{number // 4}" for number, case in enumerate(cases)}
    with pytest.raises(ValueError, match=r"^Expected more patients for a margin, but a fold is left with \d of 4"):
        fit_threshold(source, false_positives=0.25, margin=0.9, groups=halved)


def test_files_and_text(source, baseline, tmp_path):
    fit = fit_threshold(source, baseline)
    points, chosen = write_threshold(fit, tmp_path)
    with open(points, newline="") as file:
        rows = {row["threshold"]: row for row in csv.DictReader(file)}
    assert float(rows["0.6"]["false_positives_per_case"]) == pytest.approx(1 / 3)
    assert float(rows["0.6"]["recall"]) == pytest.approx((2 + 2 + 1) / 9)
    found = read_threshold(chosen)
    assert (found.label, found.threshold) == ("1", 0.6)
    content = json.loads(chosen.read_text())
    left_out = content["left_out"]
    assert (left_out["recall"], left_out["false_positives_per_case"]) == (pytest.approx(4 / 9), pytest.approx(1 / 3))
    # Of 0, 1 and 0 false positives; the baseline has 1, 0 and 0.
    ends = fit.left_out_false_positives
    assert left_out["false_positives_interval"] == (None if np.isnan(ends.low) else list(ends))
    assert content["margin"] is None
    assert content["settings"] == {"connectivity": 26, "min_volume_mm3": 0.0, "num_splits": 5, "seed": 0}
    lines = threshold_text(fit).splitlines()
    assert lines[0] == "RWTrainer, label 1: 3 cases in 3 folds, 9 lesions"
    assert [line.split()[:3] for line in lines if "<- chosen" in line] == [["0.6", "0.33", "0.556"]]
    assert next(line.split() for line in lines if line.startswith("nnUNetTrainer"))[1:5] == [
        *("0.33", "[too", "few]", "0.333"),
    ]
    assert (
        "Threshold 0.6 (0.6 to 0.8 without a fold): on these cases at most 0.33 false positives per case, what "
        "nnUNetTrainer has." in lines
    )
    assert any(line.startswith("In cases left out 0.33 false positives per case, +0.00 against that") for line in lines)
    assert any("With --margin 0.9 nine of ten" in line for line in lines)


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

    def test_the_bound_and_not_the_mean_keeps_within(self, model):
        source = many(model, self.FALSE)
        # Without a margin 2.5 keep within 2.6: the lesion is found.
        fit = fit_threshold(source, false_positives=2.6)
        assert (fit.margin, fit.threshold) == (None, 0.1)
        # A standard error of sqrt((2 * 3.5**2 + 14 * 0.5**2) / 15 / 16) = 0.34 brings 2.5 above 2.6.
        # With 2 in each of 16 cases, none else can be told from Poisson's bound on 32 of them: 2.5, within 2.6.
        fit = fit_threshold(source, false_positives=2.6, margin=0.9)
        assert (fit.margin, fit.threshold) == (0.9, 0.5)
        assert "Threshold 0.5 with a margin of 0.9 (" in threshold_text(fit)
        assert fit_threshold(source, false_positives=4, margin=0.9).threshold == 0.1

    def test_none_seen_are_not_none_to_come(self, model):
        # Nothing above 0.7: in 16 cases none, and -ln(0.1) / 16 = 0.144 cannot be excluded.
        source = many(model, self.FALSE)
        assert fit_threshold(source, false_positives=0.14).threshold == 0.7
        fit = fit_threshold(source, false_positives=0.14, margin=0.9)
        assert fit.threshold is None
        assert "No threshold with a margin of 0.9 keeps within 0.14 false positives per case." in threshold_text(fit)
        assert fit_threshold(source, false_positives=0.15, margin=0.9).threshold == 0.7

    def test_of_the_difference_to_the_baseline_case_by_case(self, model):
        source = many(model, self.FALSE)
        # The baseline's are as many in the same cases: no difference, and nothing that could be more in another.
        alike = many(model, self.FALSE, "nnUNetTrainer")
        for case, files in enumerate(alike.cases):
            low, high = self.FALSE[case]
            write_labels(files.prediction, reference(0, *[1] * (low + high), *[0] * (12 - low - high)))
        assert fit_threshold(source, alike, margin=0.9).threshold == 0.1
        # Where the same number is in other cases it might.
        for case, files in enumerate(alike.cases):
            low, high = self.FALSE[(case + 1) % 16]
            write_labels(files.prediction, reference(0, *[1] * (low + high), *[0] * (12 - low - high)))
        assert fit_threshold(source, alike).threshold == 0.1
        assert fit_threshold(source, alike, margin=0.9).threshold >= 0.5

    @pytest.mark.parametrize("margin", [0.5, 1, 0, 90])
    def test_a_margin_that_is_none(self, source, margin):
        with pytest.raises(ValueError, match=f"margin above 0.5 and below 1, such as 0.9, but got {margin}"):
            fit_threshold(source, false_positives=1, margin=margin)

    def test_too_few_cases(self, model):
        source = many(model, self.FALSE[:2])
        with pytest.raises(ValueError, match="more cases for a margin, but a fold is left with 1 of 2 to choose on"):
            fit_threshold(source, false_positives=1, margin=0.9)


@pytest.mark.parametrize("of_baseline", [False, True], ids=["price", "baseline"])
def test_the_promise_holds_as_often_as_stated(of_baseline):
    """Choices on 30 cases whose false positives are overdispersed, and the truth of all that could be drawn."""
    without, sure = kept_promises(100, 30, of_baseline, (None, 0.9), resamples=300)
    # Two standard errors of a share of 100: 0.1 of 0.5, 0.06 of 0.9.
    assert 0.4 < without["kept"] < 0.65
    assert sure["kept"] > 0.84
    assert 0.5 < sure["false_positives_of_allowed"] < without["false_positives_of_allowed"]


def test_what_cannot_be_chosen_is_refused(source, baseline, tmp_path):
    with pytest.raises(ValueError, match="baseline or a number of false positives a case, but got neither"):
        fit_threshold(source)
    with pytest.raises(ValueError, match="but got both"):
        fit_threshold(source, baseline, false_positives=1)
    with pytest.raises(ValueError, match="false positives from 0 a case, but got -1"):
        fit_threshold(source, false_positives=-1)
    write_labels(tmp_path / "other.nii.gz", reference(1, 1, 0, 0, 0))
    baseline.cases[0] = type(baseline.cases[0])("case_0", tmp_path / "other.nii.gz", baseline.cases[0].prediction)
    with pytest.raises(ValueError, match="to be equal, but they differ"):
        fit_threshold(source, baseline)
    with pytest.raises(FileNotFoundError, match="Run: nnunet-rw threshold --fit"):
        read_threshold(tmp_path / "threshold.json")
    (tmp_path / "threshold.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no threshold"):
        read_threshold(tmp_path / "threshold.json")
