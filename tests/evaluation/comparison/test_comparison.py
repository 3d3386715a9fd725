import math

import numpy as np
import pytest
from evaluation_folders import write_evaluation

from nnunet_rw.evaluation.comparison.compare import compare_evaluations, noise_floor
from nnunet_rw.evaluation.comparison.metrics import DEFAULT_METRICS, METRICS, paired_values
from nnunet_rw.evaluation.comparison.statistics import mean_interval
from nnunet_rw.evaluation.folder import read_evaluation

NAMES = [f"case_{number}" for number in range(8)]


def cases(**columns):
    """Eight cases from eight values a column."""
    return {name: {column: values[i] for column, values in columns.items()} for i, name in enumerate(NAMES)}


@pytest.fixture
def write(tmp_path):
    """Function that writes an evaluation of eight cases into a folder of that name."""

    def make(name, lesions=(), settings=None, trainer=None, **columns):
        return write_evaluation(tmp_path / name, cases(**columns), lesions, (), trainer or name, settings)

    return make


def values_of(folder, metric, diagonal=None):
    evaluation = read_evaluation(folder)
    pairs = paired_values([evaluation], [evaluation], metric, "1")
    return pairs.first


def test_values_by_hand(write):
    folder = write(
        "one",
        lesions=[(NAMES[0], 8, 1, 1)],
        n_lesions=[4, 0, 2, 1, 1, 1, 1, 1],
        n_hit=[3, 0, 0, 1, 1, 1, 1, 1],
        n_false_positive=[0, 2, 1, 0, 0, 0, 0, 0],
        volume_reference_mm3=[100, 0, 50, 8, 8, 8, 8, 8],
        volume_prediction_mm3=[80, 30, 75, 8, 8, 8, 8, 0],
    )
    # Without a lesion there is no recall and no relative volume error, but false positives.
    np.testing.assert_allclose(values_of(folder, "lesion_recall"), [0.75, 0, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(values_of(folder, "false_positives"), [0, 2, 1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(values_of(folder, "volume_error"), [0.2, 0.5, 0, 0, 0, 0, 1])
    assert len(values_of(folder, "dice")) == 0


def test_pairs_by_hand(write):
    nan, inf = "", "inf"
    first = write("first", hd95_mm=[1, 2, inf, inf, nan, nan, 7, 8])
    second = write("second", hd95_mm=[2, inf, 3, inf, nan, 5, nan, 9])
    pairs = paired_values([read_evaluation(first)], [read_evaluation(second)], "hd95_mm", "1")
    np.testing.assert_array_equal(pairs.first, [1, 2, 100, 100, 8])
    np.testing.assert_array_equal(pairs.second, [2, 100, 3, 100, 9])
    assert (pairs.undefined_in_both, pairs.undefined_in_one, pairs.infinite) == (1, 2, 3)


def test_a_diagonal_per_case(write):
    diagonals = {"image_diagonal_mm": {name: 10.0 * number for number, name in enumerate(NAMES)}}
    folder = write("first", hd_mm=["inf", 1, "inf", 1, 1, 1, 1, 1], settings=diagonals)
    np.testing.assert_array_equal(values_of(folder, "hd_mm"), [0, 1, 20, 1, 1, 1, 1, 1])


def test_no_diagonal(write):
    folder = write("first", hd_mm=[1, "inf", 1, 1, 1, 1, 1, 1], settings={"image_diagonal_mm": None})
    with pytest.raises(ValueError, match=r"hd_mm of case 'case_1' in \S*first has no end, and summary.json tells no"):
        values_of(folder, "hd_mm")


BASE_DICE = [0.5, 0.6, 0.7, 0.8, 0.4, 0.3, 0.2, 0.1]
GAINS = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08])


@pytest.fixture
def folders(write):
    lesions = [("case_0", 4.0, 0, 0, "missed"), ("case_1", 40.0, 1, 1)]
    base = write("base", lesions, dice=BASE_DICE, hd95_mm=[9, 9, 9, 9, 9, 9, 9, "inf"], nsd=[0.5] * 8)
    found = [("case_0", 4.0, 1, 1), ("case_1", 40.0, 1, 1)]
    # hd95: 1 to 7 mm better, then 1 mm worse than the diagonal is impossible: also without end.
    hd95 = [8, 7, 6, 5, 4, 3, 2, "inf"]
    good = write("good", found, dice=list(np.add(BASE_DICE, GAINS)), hd95_mm=hd95, nsd=[0.5] * 8)
    signs = np.array([-1, 1, 1, 1, 1, 1, 1, 1])
    other = write("other", found, dice=list(np.add(BASE_DICE, GAINS * signs)), hd95_mm=[10] * 8, nsd=["", *[0.6] * 7])
    return base, good, other


def by_metric(comparison, challenger):
    return {row.metric: row for row in comparison.metrics if row.challenger == challenger}


def test_comparison_by_hand(folders):
    comparison = compare_evaluations(folders, metrics=("dice", "hd95_mm", "nsd"), resamples=2000)
    assert (comparison.baseline, comparison.challengers, comparison.cases) == ("base", ("good", "other"), 8)
    assert str(comparison.family) == "3 metrics x 2 challengers x 1 label = 6 tests, of which 5 could be made"
    good, other = by_metric(comparison, "good"), by_metric(comparison, "other")

    dice = good["dice"]
    assert (dice.n, dice.undefined_in_both, dice.undefined_in_one, dice.infinite) == (8, 0, 0, 0)
    assert (dice.baseline_mean, dice.challenger_mean) == pytest.approx((0.45, 0.495))
    assert (dice.difference, dice.median) == pytest.approx((0.045, 0.045))
    assert (dice.low, dice.high) == pytest.approx(mean_interval(GAINS, resamples=2000))
    assert (dice.wins, dice.ties, dice.losses) == (8, 0, 0)
    # Unadjusted p: all of eight signs 2/256; hd95 all of seven 2/128; other's Dice all but the smallest 4/256; its
    # hd95, seven of 1 mm worse (ranks 4) and one of 90 mm better (8): sums of at most 8 on one side are none, one of
    # seven, two of seven, the last: 2 (1 + 7 + 21 + 1) / 256; nsd 1 for no difference, and of seven cases none.
    unadjusted = [row.p for row in comparison.metrics]
    assert unadjusted == pytest.approx([2 / 256, 2 / 128, 1, 4 / 256, 60 / 256, math.nan], nan_ok=True)
    # Holm: 5 x 2/256 and 4 x 4/256, which the third must not fall below; then 2 x 60/256.
    adjusted = [row.p_holm for row in comparison.metrics]
    assert adjusted == pytest.approx([10 / 256, 16 / 256, 1, 16 / 256, 120 / 256, math.nan], nan_ok=True)
    assert [row.verdict for row in comparison.metrics] == ["better", *["no difference shown"] * 4, "too few cases"]

    # Lower is better; the case without end counts 100 mm for both.
    assert (good["hd95_mm"].difference, good["hd95_mm"].infinite) == (-28 / 8, 1)
    assert (good["hd95_mm"].wins, good["hd95_mm"].ties, good["hd95_mm"].losses) == (7, 1, 0)
    assert other["hd95_mm"].difference == pytest.approx((7 - 90) / 8)
    # One case is undefined for one trainer: the means are of the other seven.
    assert (other["nsd"].n, other["nsd"].undefined_in_one) == (7, 1)
    assert (other["nsd"].baseline_mean, other["nsd"].difference) == pytest.approx((0.5, 0.1))
    assert math.isnan(dice.noise)


def test_lesions_and_places_come_along(folders):
    comparison = compare_evaluations(folders, metrics=("dice",), edges_mm3=(0, 10, math.inf), resamples=500)
    assert [(row.challenger, row.lesions, row.difference) for row in comparison.sizes[:3]] == [
        ("good", 1, 1),
        ("good", 1, 0),
        ("good", 2, 0.5),
    ]
    assert len(comparison.sizes) == 6
    assert {row.min_volume_mm3 for row in comparison.rankings} == {0, 10}
    assert any("26-connected" in note for note in comparison.notes)


def test_a_worse_trainer(folders):
    base, good, _ = folders
    comparison = compare_evaluations([good, base], metrics=("dice", "hd95_mm"))
    # The test alone, 2 / 128, would call the second worse as well; the interval of eight distances holds 0.
    assert [row.verdict for row in comparison.metrics] == ["worse", "no difference shown"]
    assert comparison.metrics[1].low < 0 < comparison.metrics[1].high
    assert [(row.wins, row.ties, row.losses) for row in comparison.metrics] == [(0, 0, 8), (0, 1, 7)]


def test_gains_inside_the_noise(folders, write):
    base, good, _ = folders
    # Seeds: 0.03 above the baseline, 0.02 below it; 0.05 apart, more than the gain of 0.045.
    seeds = [
        write(f"seed_{i}", read_lesions(), dice=list(np.add(BASE_DICE, shift)), hd95_mm=[9] * 8, nsd=[0.5] * 8)
        for i, shift in enumerate((0.03, -0.02))
    ]
    comparison = compare_evaluations([base, good], baseline_seeds=seeds, metrics=("dice", "nsd"))
    dice, nsd = comparison.metrics
    # The baseline is the mean of its three seeds, (0 + 0.03 - 0.02) / 3 above the first.
    assert dice.difference == pytest.approx(0.045 - 0.01 / 3)
    assert (dice.noise, dice.verdict) == (pytest.approx(0.05), "within noise")
    assert (nsd.noise, nsd.verdict) == (0, "within noise")  # no gain at all
    assert comparison.seeds == tuple(map(str, seeds))
    assert any("3 trainings of base" in note for note in comparison.notes)
    # With the second alone 0.02, less than the gain.
    (dice,) = compare_evaluations([base, good], baseline_seeds=seeds[1:], metrics=("dice",)).metrics
    assert (dice.noise, dice.verdict) == (pytest.approx(0.02), "better")


def read_lesions():
    return [("case_0", 4.0, 0, 0, "missed"), ("case_1", 40.0, 1, 1)]


def test_noise_without_common_cases(write):
    one, two = (
        read_evaluation(write(name, dice=dice)) for name, dice in (("one", ["", *[1] * 7]), ("two", [1, *[""] * 7]))
    )
    assert math.isnan(noise_floor([one, two], "dice", "1"))
    assert math.isnan(noise_floor([one], "dice", "1"))


def test_references_of_other_voxels_differ_however_small_they_are(write):
    # 0.0005 mm and 0.0008 mm a side.
    one, other = (
        write(name, dice=[0.1] * 8, volume_reference_mm3=[step_mm**3] * 8)
        for name, step_mm in (("one", 0.0005), ("other", 0.0008))
    )
    with pytest.raises(ValueError, match=r"The references of .*one and .*other differ"):
        compare_evaluations([one, other])


def test_too_few_pairs_have_no_p_and_do_not_count(write):
    base = write("base", dice=[0.1] * 8, nsd=[*[0.1] * 5, "", "", ""])
    new = write("new", dice=[0.2] * 8, nsd=[0.2] * 8)
    comparison = compare_evaluations([base, new], metrics=("dice", "nsd", "hd_mm"))
    dice, nsd, hd = comparison.metrics
    assert dice.p_holm == dice.p == 2 / 256
    assert str(comparison.family).endswith("= 3 tests, of which 1 could be made")
    assert (nsd.n, nsd.undefined_in_one, nsd.no_p[:7]) == (5, 3, "5 pairs")
    assert np.isnan([nsd.p, nsd.p_holm, hd.p, hd.difference, hd.baseline_mean]).all()
    assert (hd.n, hd.undefined_in_both, hd.verdict) == (0, 8, "too few cases")
    assert any("undefined for one trainer alone" in note for note in comparison.notes)


def test_too_few_cases_for_the_family_are_told(write):
    # 8 cases give 2/256 at best: enough for six tests, 12/256, not for seven.
    names = list(METRICS)[:4]
    columns = {name: [0.1] * 8 for name in names}
    folders = [write(name, **columns) for name in ("base", "one", "two")]
    few = compare_evaluations(folders, metrics=names[:3], resamples=10)
    many = compare_evaluations(folders, metrics=names, resamples=10)
    assert not any("Too few cases" in note for note in few.notes)
    assert any("8 cases cannot give an adjusted p below 0.05 in a family of 8." in note for note in many.notes)


def test_tests_are_of_all_seeds(write):
    base = write("base", dice=[0.5] * 8)
    seeds = [write(name, dice=[0.5 + gain] * 8) for name, gain in (("one", 0.1), ("two", -0.1), ("three", -0.06))]
    (alone,) = compare_evaluations([base, seeds[0]], metrics=("dice",)).metrics
    assert (alone.difference, alone.verdict) == (pytest.approx(0.1), "better")
    # (0.1 - 0.1 - 0.06) / 3: what the first seed shows is not what the trainer does.
    comparison = compare_evaluations([base, seeds[0]], metrics=("dice",), challenger_seeds=[seeds[1:]])
    (row,) = comparison.metrics
    assert (row.difference, row.losses, row.verdict) == (pytest.approx(-0.02), 8, "worse")
    assert any("mean over a trainer's seeds (base 1, one 3)" in note for note in comparison.notes)
    with pytest.raises(ValueError, match="Expected seeds of 1 challengers, but got those of 2"):
        compare_evaluations([base, seeds[0]], metrics=("dice",), challenger_seeds=[seeds[1:2], seeds[2:]])


def test_a_case_that_one_seed_leaves_undefined(write):
    base = write("base", dice=[0.5] * 8)
    one, two = write("one", dice=[0.6] * 8), write("two", dice=["", *[0.8] * 7])
    (row,) = compare_evaluations([base, one], metrics=("dice",), challenger_seeds=[[two]]).metrics
    assert (row.n, row.undefined_in_one, row.challenger_mean) == (7, 1, pytest.approx(0.7))


def test_patients_are_the_units(tmp_path):
    # Nine patients of three cases each that are all alike.
    names = [f"case_{number:02}" for number in range(27)]
    groups = {name: f"patient_{number // 3}" for number, name in enumerate(names)}
    gains = {name: 0.01 * (1 + number // 3) for number, name in enumerate(names)}
    lesions = [(name, 20.0, 0, 0) for name in names]
    base = write_evaluation(tmp_path / "base", {name: {"dice": 0.5} for name in names}, lesions, name="base")
    values = {name: {"dice": 0.5 + gain} for name, gain in gains.items()}
    found = [(name, 20.0, int(number < 6), 0) for number, name in enumerate(names)]
    new = write_evaluation(tmp_path / "new", values, found, name="new")
    comparison = compare_evaluations([base, new], metrics=("dice",), groups=groups)
    (dice,) = comparison.metrics
    # All of nine signs, not of 27; the interval is that of nine values, the mean that of the cases.
    assert (dice.n, dice.p, dice.difference) == (27, 2 / 2**9, pytest.approx(0.05))
    assert (dice.low, dice.high) == pytest.approx(mean_interval(0.01 * np.arange(1, 10)))
    assert comparison.patients == 9
    assert any("Cases are of 9 patients" in note for note in comparison.notes)
    assert not any("in several folds" in note for note in comparison.notes)
    folds = {name: f"fold_{max(number, 1) % 3}" for number, name in enumerate(names)}
    by_folds = write_evaluation(tmp_path / "by_folds", values, found, name="by_folds", folds=folds)
    notes = compare_evaluations([base, by_folds], metrics=("dice",), groups=groups).notes
    assert sum(note.startswith("9 of 9 patients are in several folds") for note in notes) == 1
    every = comparison.sizes[-1]
    by_case = compare_evaluations([base, new], metrics=("dice",)).sizes[-1]
    assert (every.lesions, every.cases, every.challenger_recall) == (27, 27, by_case.challenger_recall)
    assert every.challenger_low < by_case.challenger_low < by_case.challenger_high < every.challenger_high
    assert every.low < by_case.low
    with pytest.raises(ValueError, match=r"No patient for case 'case_26' \(1 of 27 cases without one\)"):
        compare_evaluations([base, new], metrics=("dice",), groups={name: groups[name] for name in names[:-1]})


def test_labels_are_compared_one_by_one(tmp_path):
    keys = [(name, label) for name in NAMES for label in ("2", "(1, 2)")]
    base, new = (
        write_evaluation(tmp_path / name, {key: {"dice": dice[key[1]]} for key in keys}, name=name)
        for name, dice in (("base", {"2": 0.5, "(1, 2)": 0.6}), ("new", {"2": 0.5, "(1, 2)": 0.7}))
    )
    comparison = compare_evaluations([base, new], metrics=("dice",))
    assert [(row.label, row.wins) for row in comparison.metrics] == [("2", 0), ("(1, 2)", 8)]
    assert comparison.family.labels == ("2", "(1, 2)")


def test_order_of_cases_and_other_metrics_change_nothing(folders, tmp_path):
    comparison = compare_evaluations(folders[:2], resamples=500)
    shuffled = []
    for folder in folders[:2]:
        header, *lines = (folder / "cases.csv").read_text().splitlines()
        copy = tmp_path / "shuffled" / folder.name
        copy.mkdir(parents=True)
        for file in folder.iterdir():
            (copy / file.name).write_bytes(file.read_bytes())
        (copy / "cases.csv").write_text("\n".join([header, *reversed(lines)]))
        shuffled.append(copy)
    assert repr(compare_evaluations(shuffled, resamples=500)) == repr(comparison)
    (alone,) = compare_evaluations(folders[:2], metrics=("dice",), resamples=500).metrics
    first = comparison.metrics[0]
    assert (alone.difference, alone.low, alone.high, alone.p) == (first.difference, first.low, first.high, first.p)
    other_seed = compare_evaluations(folders[:2], metrics=("dice",), resamples=500, seed=1).metrics[0]
    assert (other_seed.low, other_seed.high) != (first.low, first.high)
    assert other_seed.p == first.p


def test_equal_names_become_folders(write):
    folders = [write(name, trainer="RWTrainer", dice=BASE_DICE) for name in ("plans_a", "plans_b")]
    comparison = compare_evaluations(folders, metrics=("dice",))
    assert (comparison.baseline, *comparison.challengers) == tuple(map(str, folders))


def test_default_metrics_are_known():
    assert set(DEFAULT_METRICS) < set(METRICS)


def test_refuses(folders, tmp_path):
    base, good, _ = folders
    with pytest.raises(ValueError, match="Expected at least two evaluations to compare, the baseline first, but got 1"):
        compare_evaluations([base])
    with pytest.raises(ValueError, match=r"Expected every evaluation once, but got \S*base twice"):
        compare_evaluations([base, good], baseline_seeds=[tmp_path / "good" / ".." / "base"])
    with pytest.raises(ValueError, match=r"Expected metrics out of dice, .*, but got dice, dise"):
        compare_evaluations([base, good], metrics=("dice", "dise"))
    with pytest.raises(ValueError, match="each once, but got dice, dice"):
        compare_evaluations([base, good], metrics=("dice", "dice"))
    for edges in ((0,), (10, 0), (0, 10, 10), (0, math.nan)):
        with pytest.raises(ValueError, match="Expected two or more ascending edges in mm3, but got"):
            compare_evaluations([base, good], edges_mm3=edges)


def test_seeds_must_be_comparable_too(folders, write):
    base, good, _ = folders
    seed = write("seed", read_lesions(), settings={"connectivity": 6}, dice=BASE_DICE)
    with pytest.raises(ValueError, match=r"connectivity is 26 in .*base and 6 in .*seed"):
        compare_evaluations([base, good], baseline_seeds=[seed])
