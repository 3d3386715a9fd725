"""Measures of inequality and summaries, against values taken by hand."""

import math

import numpy as np
import pytest

from nnunet_rw.audit.lesions import Lesions, gini, largest_tenth_share, summarise_label, summarise_sizes


def lesions(volumes, label=0, border=None):
    """Lesions with voxels of 1 mm3."""
    voxels = np.array(volumes, np.int64)
    border = voxels if border is None else np.array(border, np.int64)
    return Lesions(np.full(len(voxels), label), voxels, border, voxels.astype(np.float64))


def test_gini_by_hand():
    # The pairs of 1, 1, 2 differ by 0, 1 and 1, each twice: 4 / (2 * 3 * 4).
    assert gini(np.array([1.0, 2.0, 1.0])) == pytest.approx(1 / 6)
    assert gini(np.array([7.0])) == 0
    assert gini(np.full(5, 3.0)) == pytest.approx(0)
    assert math.isnan(gini(np.zeros(0)))


def test_gini_is_half_the_relative_mean_difference():
    volumes = np.random.default_rng(0).lognormal(3, 2, 40)
    differences = np.abs(volumes[:, None] - volumes).mean()
    assert gini(volumes) == pytest.approx(differences / (2 * volumes.mean()))


def test_largest_tenth():
    # Of 10 lesions one, of 11 two.
    assert largest_tenth_share(np.array([1.0] * 9 + [11.0])) == pytest.approx(11 / 20)
    assert largest_tenth_share(np.array([1.0] * 9 + [5.0, 6.0])) == pytest.approx(11 / 20)
    assert math.isnan(largest_tenth_share(np.zeros(0)))


def test_summary_of_a_label():
    none = lesions([])
    cases = [lesions([2, 8], border=[2, 3]), none, lesions([10], border=[5]), lesions([50], label=1)]
    found = summarise_label("core", 0, cases)
    assert (found.label, found.num_cases, found.num_lesions) == ("core", 2, 3)
    assert found.per_case == (0.5, 0, 2)  # counts 2, 0, 1, 0
    assert found.median_volume_mm3 == 8
    assert found.largest_tenth_share == 10 / 20
    assert found.border_share == 10 / 20
    assert found.largest_lesion_share == pytest.approx((0.8 + 1) / 2)


def test_summary_of_an_absent_label():
    found = summarise_label("core", 1, [lesions([2, 8]), lesions([3])])
    assert (found.num_cases, found.num_lesions, found.per_case) == (0, 0, (0, 0, 0))
    for value in (found.median_volume_mm3, found.gini, found.border_share, found.largest_lesion_share):
        assert math.isnan(value)


def test_summary_of_sizes():
    sizes = summarise_sizes([lesions([9, 10, 99]), lesions([100, 1000, 1782], label=1)])
    assert [(size.low_mm3, size.high_mm3) for size in sizes] == [(0, 10), (10, 100), (100, 1000), (1000, math.inf)]
    assert [size.num_lesions for size in sizes] == [1, 2, 1, 2]
    assert [size.lesion_share for size in sizes] == pytest.approx([1 / 6, 2 / 6, 1 / 6, 2 / 6])
    assert [size.voxel_share for size in sizes] == pytest.approx([9 / 3000, 109 / 3000, 100 / 3000, 2782 / 3000])
