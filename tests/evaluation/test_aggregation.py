import math

import numpy as np
import pytest

from nnunet_rw.evaluation.summary import Aggregate, aggregate


def test_by_hand():
    # 1, 2, 6: mean 3, median 2, SD sqrt((4 + 1 + 9) / 2) = sqrt(7). The NaN is counted apart.
    assert aggregate([1, math.nan, 6, 2]) == Aggregate(
        mean=3, median=2, sd=pytest.approx(math.sqrt(7)), n=3, n_undefined=1, n_penalised=0
    )


def test_penalty_replaces_infinity_alone():
    # 1, 10, 4: mean 5, median 4, SD sqrt((16 + 25 + 1) / 2) = sqrt(21).
    result = aggregate([1, math.inf, math.nan, 4], penalty=10)
    assert result == Aggregate(5, 4, pytest.approx(math.sqrt(21)), n=3, n_undefined=1, n_penalised=1)


def test_every_case_may_have_its_own_penalty():
    # 7 for the second and 11 for the fourth: the penalties of the others, NaN included, go unused.
    result = aggregate([3, math.inf, math.nan, math.inf], penalty=[math.nan, 7, 9, 11])
    assert (result.mean, result.median, result.n, result.n_penalised) == (7, 7, 3, 2)


def test_nothing_defined_and_one_value():
    for values, n_undefined in (([], 0), ([math.nan, math.nan], 2)):
        result = aggregate(values, penalty=5)
        assert (result.n, result.n_undefined, result.n_penalised) == (0, n_undefined, 0)
        assert all(np.isnan([result.mean, result.median, result.sd]))
    one = aggregate([4])
    assert (one.mean, one.median, one.n) == (4, 4, 1)
    assert math.isnan(one.sd)


def test_order_changes_nothing_and_the_input_stays():
    values = np.random.default_rng(0).random(20)
    values[3], values[7] = math.nan, math.inf
    before = values.copy()
    values.flags.writeable = False
    straight, shuffled = aggregate(values, 9), aggregate(np.random.default_rng(1).permutation(values), 9)
    np.testing.assert_equal(values, before)
    assert (shuffled.mean, shuffled.sd) == pytest.approx((straight.mean, straight.sd))
    assert (shuffled.median, shuffled.n, shuffled.n_undefined) == (straight.median, 19, 1)


def test_infinity_without_a_penalty_is_refused():
    with pytest.raises(ValueError, match=r"finite penalty for 2 infinite values, but got None\. Pass the diagonal"):
        aggregate([1, math.inf, math.inf])
    with pytest.raises(ValueError, match=r"finite penalty for 1 infinite values, but got inf"):
        aggregate([1, math.inf], penalty=math.inf)
    with pytest.raises(ValueError, match=r"one penalty or 2, one per case, but got shape \(3,\)"):
        aggregate([1, math.inf], penalty=[1, 2, 3])
    with pytest.raises(ValueError, match=r"but got -inf"):
        aggregate([1, -math.inf], penalty=5)
    with pytest.raises(ValueError, match=r"one value per case, but got an array of shape \(1, 2\)"):
        aggregate([[1, 2]])
