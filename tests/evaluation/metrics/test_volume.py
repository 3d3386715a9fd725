import math

import numpy as np
import pytest
from scipy import integrate, stats

from nnunet_rw.evaluation.metrics.overlap import VolumeBias, bland_altman, total_lesion_intensity, volume_bias

SPACING = (0.5, 2.0, 3.0)  # a voxel has 3 mm3


def line(*voxels, length=10):
    mask = np.zeros((length, 1, 1), dtype=bool)
    mask[list(voxels)] = True
    return mask


def test_volumes_by_hand():
    # 4 voxels of 3 mm3 are 12 mm3, 3 are 9: 3 mm3 too little, a quarter of the reference.
    bias = volume_bias(line(0, 1, 2, 3), line(5, 6, 7), SPACING)
    assert bias == VolumeBias(12, 9)
    assert (bias.signed_mm3, bias.absolute_mm3, bias.relative) == (-3, 3, -0.25)
    swapped = volume_bias(line(5, 6, 7), line(0, 1, 2, 3), SPACING)
    assert (swapped.signed_mm3, swapped.absolute_mm3, swapped.relative) == (3, 3, pytest.approx(1 / 3))


def test_unlabelled_voxels_have_no_volume():
    bias = volume_bias(line(0, 1, 2), line(2, 3), SPACING, known=~line(0, 3))
    assert bias == VolumeBias(6, 3)


def test_two_dimensional_masks_have_an_area():
    assert volume_bias(np.ones((2, 3), dtype=bool), np.eye(2, 3, dtype=bool), (0.5, 4)) == VolumeBias(12, 4)


@pytest.mark.parametrize(
    ("reference", "prediction", "signed", "relative"),
    [
        (line(), line(), 0, math.nan),
        (line(1, 2), line(), -6, -1),
        (line(), line(1, 2), 6, math.nan),
        (line(1, 2), line(4, 5), 0, 0),
        (line(*range(10)), line(*range(10)), 0, 0),
    ],
)
def test_empty_and_full(reference, prediction, signed, relative):
    bias = volume_bias(reference, prediction, SPACING)
    np.testing.assert_equal([bias.signed_mm3, bias.absolute_mm3, bias.relative], [signed, abs(signed), relative])


def test_bland_altman_by_hand():
    # Differences 1, 2, 3, -2: mean 1, squared deviations 0 + 1 + 4 + 9 = 14, SD sqrt(14 / 3) = 2.160247.
    # Limits 1 -/+ 1.959964 * 2.160247 = 1 -/+ 4.234006. Bias: t(0.975, 3) = 3.182446, times SD / 2, is 3.437435.
    result = bland_altman([10, 10, 10, 10], [11, 12, 13, 8])
    assert (result.n, result.bias) == (4, 1)
    assert result.sd == pytest.approx(2.160247, abs=1e-6)
    assert (result.lower_limit, result.upper_limit) == pytest.approx((-3.234006, 5.234006), abs=1e-5)
    assert result.bias_ci == pytest.approx((-2.437435, 4.437435), abs=1e-5)
    assert result.upper_limit_ci[0] < result.upper_limit < result.upper_limit_ci[1]
    lower, upper = result.lower_limit_ci, result.upper_limit_ci
    assert (lower[0] + upper[1], lower[1] + upper[0]) == pytest.approx((2, 2))  # mirrored about the bias


@pytest.mark.parametrize("n", [3, 8, 30])
def test_limits_hold_with_the_stated_probability(n):
    """The upper limit's interval, integrated over the normal mean and the chi-distributed SD: 2.5 % on each side."""
    noise = np.arange(n) - (n - 1) / 2
    result = bland_altman(np.zeros(n), noise)
    near, far = (end / result.sd for end in result.upper_limit_ci)  # in SDs, the bias being 0
    z = stats.norm.ppf(0.975)

    def density_of_sd(sd):
        return stats.chi.pdf(sd * math.sqrt(n - 1), n - 1) * math.sqrt(n - 1)

    def probability_that_limit_is_above(k):
        """Of mean + k sd < z, mean of N(0, 1 / n)."""
        return integrate.quad(lambda sd: density_of_sd(sd) * stats.norm.cdf((z - k * sd) * math.sqrt(n)), 0, 8)[0]

    assert probability_that_limit_is_above(far) == pytest.approx(0.025, abs=1e-6)
    assert probability_that_limit_is_above(near) == pytest.approx(0.975, abs=1e-6)


def test_bland_altman_of_many_cases_approaches_the_approximation():
    # sd sqrt(1/n + 1.96^2 / (2 (n - 1))), Bland and Altman 1999; at n = 20 000 the two agree to 0.1 % of the SD.
    differences = np.random.default_rng(0).normal(5, 2, 20_000)
    result = bland_altman(np.zeros(20_000), differences)
    margin = 1.96 * result.sd * math.sqrt(1 / 20_000 + 1.96**2 / (2 * 19_999))
    assert result.upper_limit_ci == pytest.approx(
        (result.upper_limit - margin, result.upper_limit + margin), abs=0.001 * result.sd
    )
    assert result.bias_ci == pytest.approx(stats.ttest_1samp(differences, 0).confidence_interval(), rel=1e-9)


def test_bland_altman_of_few_or_equal_cases():
    none, one, equal = bland_altman([], []), bland_altman([3], [5]), bland_altman([1, 2, 3], [3, 4, 5])
    assert (none.n, one.n, one.bias) == (0, 1, 2)
    assert all(
        np.isnan([none.bias, none.sd, none.lower_limit, one.sd, one.upper_limit, *one.bias_ci, *one.lower_limit_ci])
    )
    assert (equal.bias, equal.sd, equal.lower_limit, equal.upper_limit) == (2, 0, 2, 2)
    assert equal.bias_ci == equal.lower_limit_ci == equal.upper_limit_ci == (2, 2)
    two = bland_altman([0, 0], [1, 2])
    assert two.upper_limit_ci[0] < two.upper_limit < two.upper_limit_ci[1] < math.inf


def test_bland_altman_ignores_the_order_of_the_cases():
    reference, prediction = np.random.default_rng(1).uniform(0, 100, (2, 12))
    order = np.random.default_rng(2).permutation(12)
    straight, shuffled = bland_altman(reference, prediction), bland_altman(reference[order], prediction[order])
    assert shuffled.upper_limit_ci == pytest.approx(straight.upper_limit_ci)
    assert bland_altman(prediction, reference).bias == pytest.approx(-straight.bias)


def test_bland_altman_refuses_what_is_no_pair():
    with pytest.raises(ValueError, match=r"one prediction per case, but got shapes \(3,\) and \(2,\)"):
        bland_altman([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"got shapes \(1, 2\) and \(1, 2\)"):
        bland_altman([[1, 2]], [[1, 2]])
    with pytest.raises(ValueError, match=r"NaN or inf in 2 of 3 cases\. Leave them out"):
        bland_altman([1, math.nan, 3], [1, 2, math.inf])


def test_total_lesion_intensity_by_hand():
    # Voxels 2, 3 and 5 hold 4, 6 and 11: mean 7, volume 9 mm3, total 63.
    image = np.full((10, 1, 1), np.nan, dtype=np.float32)
    image[[2, 3, 5], 0, 0] = 4, 6, 11
    assert total_lesion_intensity(image, line(2, 3, 5), SPACING) == 63


def test_total_lesion_intensity_is_volume_times_mean():
    rng = np.random.default_rng(3)
    image, mask = rng.gamma(2, 3, (9, 8, 7)), rng.random((9, 8, 7)) < 0.2
    expected = volume_bias(mask, mask, SPACING).reference_mm3 * image[mask].mean()
    assert total_lesion_intensity(image, mask, SPACING) == pytest.approx(expected, rel=1e-12)
    flipped = total_lesion_intensity(image[::-1, :, ::-1], mask[::-1, :, ::-1], SPACING)
    assert flipped == pytest.approx(expected, rel=1e-12)


def test_total_lesion_intensity_of_an_empty_mask_is_none():
    assert total_lesion_intensity(np.full((10, 1, 1), math.nan), line(), SPACING) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
def test_narrow_types_do_not_overflow(dtype):
    # 1000 voxels of 200 are 200 000, above both types; a voxel has 0.001 mm3.
    image, mask = np.full((10, 10, 10), 200, dtype), np.ones((10, 10, 10), dtype=bool)
    assert total_lesion_intensity(image, mask, (0.1, 0.1, 0.1)) == pytest.approx(200)


def test_inputs_stay_unchanged():
    masks, image = np.random.default_rng(4).random((3, 5, 4, 3)) < 0.5, np.random.default_rng(5).random((5, 4, 3))
    before, image_before = masks.copy(), image.copy()
    masks.flags.writeable = image.flags.writeable = False
    volume_bias(*masks[:2], SPACING, masks[2])
    total_lesion_intensity(image, masks[0], SPACING)
    assert np.array_equal(masks, before)
    assert np.array_equal(image, image_before)


def test_wrong_input_is_refused():
    mask = np.ones((3, 4, 5), dtype=bool)
    image = np.ones((3, 4, 5))
    with pytest.raises(ValueError, match=r"boolean prediction, but got int64"):
        volume_bias(mask, mask.astype(np.int64), SPACING)
    with pytest.raises(ValueError, match=r"one spacing per array axis \(3\), but got 1"):
        volume_bias(mask, mask, (1,))
    with pytest.raises(ValueError, match=r"spacing above 0 mm on every axis"):
        total_lesion_intensity(image, mask, (1, 1, -1))
    with pytest.raises(ValueError, match=r"image of the mask's shape \(3, 4, 5\), but got \(3, 4, 4\)"):
        total_lesion_intensity(image[..., :4], mask, SPACING)
    with pytest.raises(ValueError, match=r"real numbers, but got complex128"):
        total_lesion_intensity(image * 1j, mask, SPACING)
    with pytest.raises(ValueError, match=r"boolean mask, but got float64"):
        total_lesion_intensity(image, image, SPACING)
    image[0, 0, :2] = math.nan, math.inf
    with pytest.raises(ValueError, match=r"NaN or inf in 2 of the mask's 60 voxels"):
        total_lesion_intensity(image, mask, SPACING)
