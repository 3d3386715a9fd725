import math

import pytest
from evaluation_folders import write_evaluation

from nnunet_rw.benchmark.report.leaderboard import lesion_recall, mean_over_cases, standings
from nnunet_rw.evaluation.folder import read_evaluation


@pytest.fixture(scope="module")
def lesions(results):
    return standings(results.tasks[1])


def test_order_and_labels(results, lesions):
    found = [(row.label, row.trainer) for row in standings(results.tasks[0])]
    trainers = ["nnUNetTrainer", "RWTrainer", "RWTrainer_IWDiceCE"]
    assert found == [(label, trainer) for label in "12" for trainer in trainers]
    assert [(row.trainer, row.seed, row.cases) for row in lesions] == [(trainer, 0, 12) for trainer in trainers]


def test_means_penalise_and_tell_n(lesions):
    baseline, challenger, _ = lesions
    # Eleven cases of 0.5, 0.52, ... 0.7, and 0 for the false alarm in the lesion-free case.
    assert baseline.dice.value == pytest.approx(11 * 0.6 / 12)
    assert (baseline.dice.n, baseline.dice.n_penalised) == (12, 0)
    assert baseline.dice.interval.low < baseline.dice.value < baseline.dice.interval.high
    # Eleven of 6, 6.5, ... 11 mm, and the diagonal of 100 mm.
    assert baseline.hd95_mm.value == pytest.approx((11 * 8.5 + 100) / 12)
    assert (baseline.hd95_mm.n, baseline.hd95_mm.n_penalised) == (12, 1)
    # Undefined in the case that is left empty.
    assert challenger.dice.value == pytest.approx(0.65)
    assert challenger.dice.n == 11


def test_lesions_pool_over_cases(lesions):
    baseline, challenger, weighted = lesions
    assert [row.recall.value for row in lesions] == pytest.approx([17 / 33, 24 / 33, 28 / 33])
    assert [row.small_recall.value for row in lesions] == pytest.approx([0, 2 / 11, 6 / 11])
    assert {row.small_recall.n for row in lesions} == {11}
    # 17 right and 1 false; as each lesion has one partner, F1 is 2 * 17 / (33 + 18).
    assert baseline.precision == pytest.approx(17 / 18)
    assert baseline.f1 == pytest.approx(34 / 51)
    assert [row.false_positives.value for row in lesions] == pytest.approx([1 / 12, 0, 2])
    assert challenger.precision == 1
    assert weighted.precision == pytest.approx(28 / 52)


def test_froc_average_by_hand(lesions):
    # At 1/8 ... 2 false positives 0.5, at 4 and 8 0.75.
    assert lesions[0].froc_average == pytest.approx((5 * 0.5 + 2 * 0.75) / 7)
    assert lesions[1].froc_average == pytest.approx((6 * 0.75 + 1) / 7)


def test_seeds(lesions):
    assert lesions[0].dice_of_seeds == pytest.approx((0.55, 11 * 0.61 / 12))
    # The second seed of the last trainer is unfinished.
    assert len(lesions[2].dice_of_seeds) == 1


def test_verdicts(lesions):
    assert lesions[0].verdicts == {}
    assert lesions[1].verdicts["dice"] == "better"
    assert lesions[2].verdicts["false_positives"] == "worse"


def test_verdicts_of_equal_values(results):
    assert standings(results.tasks[0])[1].verdicts["assd_mm"] == "no difference shown"


def test_nothing_evaluated(unevaluated):
    assert standings(unevaluated.tasks[0]) == ()


@pytest.fixture
def evaluation(tmp_path):
    columns = {"n_lesions": 2, "n_hit": 1, "n_predicted": 0, "n_false_positive": 0}
    lesions = [
        ("a", 10.0, 1, 1),
        ("a", 9.9, 0, 0, "missed"),
        ("b", 400.0, 1, 1),
        ("b", 3.0, 0, 0, "ignored"),
        ("b", 8.0, 1, 1),
    ]
    return read_evaluation(write_evaluation(tmp_path, {"a": columns, "b": columns}, lesions))


def test_recall_of_small_lesions(evaluation):
    # 9.9 is missed, 8 found; 10 is in the class above, and what is ignored in none.
    found = lesion_recall(evaluation, "1", 10.0)
    assert (found.value, found.n) == (0.5, 2)
    assert (lesion_recall(evaluation, "1").value, lesion_recall(evaluation, "1").n) == (0.75, 4)
    none = lesion_recall(evaluation, "1", 2.0)
    assert math.isnan(none.value)
    assert none.n == 0


def test_mean_without_values(evaluation):
    found = mean_over_cases(evaluation, "dice", "1")
    assert math.isnan(found.value)
    assert math.isnan(found.interval.low)
    assert found.n == 0


def test_no_interval_reaches_beyond_what_is_possible(tmp_path):
    # One good case among bad ones: the bootstrap alone would reach below 0 and above 1.
    cases = {f"case_{number}": {"dice": 0.9 * (number == 0)} for number in range(11)}
    found = mean_over_cases(read_evaluation(write_evaluation(tmp_path, cases)), "dice", "1")
    assert found.interval.low == 0 < found.value < found.interval.high < 1


def test_distance_without_diagonal(tmp_path):
    folder = write_evaluation(tmp_path, {"a": {"hd95_mm": "inf"}}, settings={"image_diagonal_mm": None})
    with pytest.raises(ValueError, match=r"hd95_mm of case .* has no end, .* Evaluate again"):
        mean_over_cases(read_evaluation(folder), "hd95_mm", "1")
