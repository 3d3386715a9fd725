import math

import numpy as np
import pytest
from evaluation_folders import write_evaluation

from nnunet_rw.evaluation.comparison.lesions import compare_by_size, rank_by_rule
from nnunet_rw.evaluation.comparison.statistics import cluster_bootstrap, recall_interval
from nnunet_rw.evaluation.folder import read_evaluation

CASES = {"a": {}, "b": {}, "c": {}}
EDGES = (0, 10, 100, math.inf)


@pytest.fixture
def evaluation(tmp_path):
    """Function that makes an evaluation of three cases; c has no lesion."""

    def make(name, hit, matched, predicted, **options):
        # Volumes 4, 8, 10, 50 in case a, 6 and 200 in case b.
        lesions = zip("aaaabb", (4.0, 8.0, 10.0, 50.0, 6.0, 200.0), hit, matched, strict=True)
        return read_evaluation(write_evaluation(tmp_path / name, CASES, list(lesions), predicted, name, **options))

    return make


@pytest.fixture
def trainers(evaluation):
    baseline = evaluation("base", (0, 0, 1, 1, 0, 1), (0, 0, 1, 0, 0, 0), [("a", 12.0, 1, 1), ("b", 180.0, 1, 0)])
    # Finds two more small lesions, for two false positives in case c and one in case a.
    predicted = [("a", 12.0, 1, 1), ("b", 180.0, 1, 1), ("c", 2.0, 0, 0), ("c", 20.0, 0, 0), ("a", 2.0, 0, 0)]
    challenger = evaluation("new", (1, 0, 1, 0, 1, 1), (0, 0, 1, 0, 0, 1), predicted)
    return baseline, challenger


def test_sizes_by_hand(trainers):
    small, medium, large, every = compare_by_size(trainers[:1], [trainers[1:]], EDGES)
    assert [(row.size_from_mm3, row.size_to_mm3) for row in (small, medium, large, every)] == [
        (0, 10),
        (10, 100),
        (100, math.inf),
        (0, math.inf),
    ]
    assert (small.label, small.baseline, small.challenger) == ("1", "base", "new")
    # 4, 8 and 6 mm3: none found, then the first and the last. 10 mm3 is in the second class.
    assert (small.lesions, small.cases, small.baseline_recall, small.challenger_recall) == (3, 2, 0, 2 / 3)
    assert small.difference == pytest.approx(2 / 3)
    # Two cases tell no interval.
    assert np.isnan([small.low, small.baseline_low, small.challenger_low, small.simultaneous_low]).all()
    # Of 2 mm3: case a and c one each, three cases.
    assert (small.baseline_false_positives, small.challenger_false_positives) == (0, pytest.approx(2 / 3))
    assert small.false_positives_difference == pytest.approx(2 / 3)

    assert (medium.lesions, medium.cases, medium.difference) == (2, 1, -0.5)
    assert np.isnan([medium.low, medium.high]).all()  # all of one case
    assert medium.false_positives_difference == pytest.approx(1 / 3)
    assert (large.lesions, large.difference, large.false_positives_difference) == (1, 0, 0)
    assert (every.lesions, every.cases, every.baseline_recall) == (6, 2, 0.5)
    assert every.difference == pytest.approx(1 / 6)
    assert every.challenger_false_positives == 1


def test_intervals_are_of_cases(tmp_path):
    # Ten cases of two lesions, the second of which is the first again.
    cases = {f"case_{number}": {} for number in range(10)}
    hits = (1, 1, 1, 0, 1, 0, 1, 1, 0, 1)
    base, new, other = (
        read_evaluation(
            write_evaluation(
                tmp_path / name,
                cases,
                [(case, 20.0, hit, hit) for case, hit in zip(cases, found, strict=True) for _ in range(2)],
                [(case, 20.0, 0, 0) for case in list(cases)[:number]],
                name,
            )
        )
        for name, found, number in (("base", (0,) * 10, 0), ("new", hits, 10), ("other", hits, 5))
    )
    *_, row = compare_by_size([base], [[new]], (0, 10, math.inf))
    # Seven of ten, as for ten lesions.
    expected = cluster_bootstrap(list(cases), [0] * 10, hits)
    assert (row.lesions, row.difference, row.low, row.high) == (20, 0.7, *expected.interval)
    assert (row.challenger_low, row.challenger_high) == recall_interval(list(cases), hits)
    # Alike in all cases.
    assert (row.false_positives_low, row.false_positives_high) == (1, 1)
    # Of seeds the mean: 0.7 and 0 found, 1 and 0.5 false positives per case.
    *_, row = compare_by_size([base], [[new, other]], (0, 10, math.inf))
    assert (row.challenger_recall, row.challenger_false_positives) == (pytest.approx(0.7), 0.75)
    # The interval that holds for both challengers is wider.
    *_, row = compare_by_size([base], [[new], [other]], (0, 10, math.inf))
    assert row.simultaneous_low < row.low < row.high <= row.simultaneous_high


def test_a_class_without_lesions(trainers):
    row = compare_by_size(trainers[:1], [trainers[1:]], (0, 3, math.inf))[0]
    assert (row.lesions, row.cases) == (0, 0)
    assert np.isnan([row.baseline_recall, row.difference, row.low, row.baseline_low]).all()
    assert row.false_positives_difference == pytest.approx(2 / 3)


def test_one_class_of_all_sizes_comes_once(trainers):
    assert len(compare_by_size(trainers[:1], [trainers[1:]], (0, math.inf))) == 1


def test_edges_hold_in_floating_point(tmp_path):
    # 0.1 x 3 is a little more than 0.3, 0.7 x 11 a little less than 7.7.
    lesions = [("a", 0.1 * 3, 1, 1), ("a", 0.7 * 11, 1, 1)]
    one = read_evaluation(write_evaluation(tmp_path / "one", CASES, lesions))
    assert [row.lesions for row in compare_by_size([one], [[one]], (0, 0.3, 7.7, 100))] == [0, 1, 1, 2]


def test_ignored_lesions_are_in_no_class(tmp_path):
    lesions = [("a", 2.0, 0, 0, "ignored"), ("a", 20.0, 1, 1), ("b", 20.0, 0, 0, "missed")]
    predicted = [("a", 20.0, 1, 1), ("a", 2.0, 0, 0, "neutral"), ("c", 2.0, 0, 0, "false_positive")]
    settings = {"min_volume_mm3": 3.0}
    one, two = (
        read_evaluation(write_evaluation(tmp_path / name, CASES, lesions, predicted, name, settings))
        for name in ("one", "two")
    )
    small, *_, every = compare_by_size([one], [[two]], EDGES)
    assert (small.lesions, small.baseline_false_positives) == (0, pytest.approx(1 / 3))
    assert every.lesions == 2
    first = rank_by_rule([one, two], EDGES[:-1])[0]
    assert (first.min_volume_mm3, first.lesions, first.predicted, first.precision) == (3, 2, 2, 0.5)


def test_places_by_hand(trainers):
    rows = rank_by_rule(trainers, (0, 10, 100, 1000))
    settings = [(row.rule, row.min_volume_mm3, row.trainer) for row in rows]
    # Nothing is left above 1000 mm3; a trainer after the other.
    assert settings == [
        (rule, size, name) for rule in ("hit", "matched") for size in (0, 10, 100) for name in ("base", "new")
    ]
    by_setting = dict(zip(settings, rows, strict=True))

    base, new = by_setting["hit", 0, "base"], by_setting["hit", 0, "new"]
    # base: 3 of 6, 2 of 2 right, F1 2/3. new: 4 of 6, 2 of 5 right, F1 2 (2/3)(2/5) / (16/15) = 1/2.
    assert (base.lesions, base.recall, base.predicted, base.precision) == (6, 0.5, 2, 1)
    assert (base.f1, base.rank, base.rank_as_evaluated) == (pytest.approx(2 / 3), 1, 1)
    assert (new.recall, new.precision, new.false_positives_per_case) == (pytest.approx(2 / 3), 0.4, 1)
    assert (new.f1, new.rank, new.rank_as_evaluated) == (pytest.approx(0.5), 2, 2)

    base, new = by_setting["matched", 0, "base"], by_setting["matched", 0, "new"]
    # base: 1 of 6, 1 of 2, F1 2 (1/6)(1/2) / (2/3) = 1/4. new: 2 of 6, 2 of 5, F1 2 (1/3)(2/5) / (11/15) = 4/11.
    assert (base.f1, new.f1) == pytest.approx((0.25, 4 / 11))
    assert base.false_positives_per_case == pytest.approx(1 / 3)

    base, new = by_setting["matched", 100, "base"], by_setting["matched", 100, "new"]
    # One lesion and one prediction above 100 mm3, paired by new only.
    assert (base.lesions, base.predicted, base.f1, base.rank, base.rank_as_evaluated) == (1, 1, 0, 2, 1)
    assert (new.f1, new.rank, new.rank_as_evaluated) == (1, 1, 2)

    both = by_setting["hit", 100, "base"], by_setting["hit", 100, "new"]
    assert [(row.f1, row.rank) for row in both] == [(1, 1), (1, 1)]


def test_places_under_another_connectivity(evaluation, trainers):
    # Two lesions of one hang together by a corner: with 6-connectivity there is one more, and "new" does not find it.
    others = [
        evaluation(name, hits, hits, predicted, settings={"connectivity": 6})
        for name, hits, predicted in (("base_6", (1,) * 6, [("a", 8.0, 1, 1)]), ("new_6", (0,) * 6, [("a", 8.0, 0, 0)]))
    ]
    rows = rank_by_rule(trainers, (0,), [others])
    settings = [(row.rule, row.connectivity, row.trainer) for row in rows]
    assert settings == [
        (rule, connectivity, name)
        for connectivity in (26, 6)
        for rule in ("hit", "matched")
        for name in ("base", "new")
    ]
    assert [(row.f1, row.rank, row.rank_as_evaluated) for row in rows[4:6]] == [(1, 1, 1), (0, 2, 2)]


def test_the_minimum_of_the_evaluation_leaves_predictions_alone(evaluation):
    predicted = [("a", 12.0, 1, 1), ("b", 180.0, 1, 1), ("c", 2.0, 0, 0)]
    one = evaluation("one", (0, 0, 1, 1, 1, 1), (0,) * 6, predicted, settings={"min_volume_mm3": 5.0})
    rows = [row for row in rank_by_rule([one], (0, 5, 6)) if row.rule == "hit"]
    # 2 mm3 count in the evaluation, and not under a larger minimum.
    assert [(row.min_volume_mm3, row.lesions, row.predicted) for row in rows] == [(5, 5, 3), (6, 5, 2)]


def test_a_trainer_that_predicts_nothing(evaluation):
    one = evaluation("one", (0,) * 6, (0,) * 6, [])
    row = rank_by_rule([one], (0,))[0]
    assert (row.recall, row.predicted, row.f1, row.rank) == (0, 0, 0, 1)


def test_found_by_pieces_that_are_smaller_than_the_minimum(evaluation):
    """Of 10 mm3 and more "pieces" predicts one false lesion, and yet it finds more than "whole"."""
    hits, small = (0, 0, 1, 1, 0, 1), [("a", 2.0, 1, 1), ("a", 2.0, 1, 1), ("b", 2.0, 1, 1)]
    pieces = evaluation("pieces", hits, hits, [*small, ("b", 2.0, 0, 0), ("c", 20.0, 0, 0)])
    whole = evaluation("whole", (0, 0, 0, 0, 0, 1), (0, 0, 0, 0, 0, 1), [("b", 200.0, 1, 1)])
    rows = {(row.rule, row.min_volume_mm3, row.trainer): row for row in rank_by_rule([pieces, whole], (0, 10))}
    # 3 of 6 with 3 of 5, F1 6/11; 1 of 6 with 1 of 1, F1 2/7.
    assert [rows["hit", 0, name].rank for name in ("pieces", "whole")] == [1, 2]
    # All 3 of 10 mm3 and more. One-to-one with 3 of 4, by any overlap with one per case at least, 2 of 3.
    for rule, predicted, f1 in (("matched", 4, 6 / 7), ("hit", 3, 0.8)):
        row = rows[rule, 10, "pieces"]
        assert (row.recall, row.predicted, row.f1, row.rank) == (1, predicted, pytest.approx(f1), 1)
        assert (rows[rule, 10, "whole"].f1, rows[rule, 10, "whole"].rank) == (0.5, 2)


def test_right_ones_of_lesions_that_are_left_out_make_no_precision(evaluation):
    # 200 mm3 and a false lesion as large; of 4 mm3 and more there are two more, both found.
    hits, predicted = (1, 1, 0, 0, 0, 1), [("a", 4.0, 1, 1), ("a", 8.0, 1, 1), ("b", 180.0, 1, 1), ("c", 150.0, 0, 0)]
    one = evaluation("one", hits, hits, predicted)
    assert [row.precision for row in rank_by_rule([one], (0, 100))] == [0.75, 0.5, 0.75, 0.5]


def test_no_lesion_no_places(tmp_path):
    empty = read_evaluation(write_evaluation(tmp_path / "a", CASES, predicted=[("a", 4.0, 0, 0)]))
    assert rank_by_rule([empty], EDGES[:-1]) == ()
    assert compare_by_size([empty], [[empty]], EDGES)[-1].baseline_false_positives == pytest.approx(1 / 3)
