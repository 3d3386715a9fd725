"""Values of the official codes are facts that they printed; no code of theirs is here.

Dice, HD95 and counts: github.com/rachitsaluja/BraTS-2023-Metrics at 43c9052 (with DeepMind's surface-distance, Apache
2.0), run on NIfTI files of these masks with NumPy 1.26, SciPy 1.10, pandas 1.5 and cc3d 3.12. NSD: its lesions, scored
by the function of github.com/rachitsaluja/BraTS-2024-Metrics at f1131e3 (Apache 2.0).
"""

import math

import numpy as np
import pytest
from scored_masks import SHAPE, scored_masks

from nnunet_rw.evaluation.metrics.brats import _areas, _weighted_hd95, brats_scores
from nnunet_rw.evaluation.protocols import CHALLENGES, PENALTY_MM, Challenge

ISOTROPIC, ANISOTROPIC = (1.0, 1.0, 1.0), (0.9, 1.1, 2.5)
# Seed, spacing, challenge: Dice, HD95, NSD at 0.5 and 1 mm, found, false and missed lesions.
OFFICIAL = [
    (0, ISOTROPIC, "brats-gli", (0.293408598606, 78.551366222008, 0.181085005163, 0.415689793034, 4, 1, 0)),
    (0, ISOTROPIC, "brats-met", (0.265924333995, 151.282165667976, 0.177692402542, 0.402963630852, 6, 3, 1)),
    (1, ANISOTROPIC, "brats-men", (0.322553430565, 167.5, 0.353311137915, 0.430513274183, 5, 2, 2)),
    (1, ANISOTROPIC, "brats-gli", (0.322553430565, 167.5, 0.353311137915, 0.430513274183, 5, 2, 2)),
]


def in_millimetres(seed, spacing):
    return scored_masks(seed, spacing_mm=spacing)


@pytest.mark.parametrize(("seed", "spacing", "challenge", "official"), OFFICIAL)
def test_scores_are_those_of_the_official_code(seed, spacing, challenge, official):
    scores = brats_scores(*in_millimetres(seed, spacing), spacing, CHALLENGES[challenge])
    found = scores.num_lesions - scores.num_missed
    counts = (found, scores.num_false_positives, scores.num_missed)
    # The official NSD has 1e-8 in its denominator.
    assert (scores.dice, scores.hd95_mm, *scores.nsd) == pytest.approx(official[:4], abs=1e-7)
    assert counts == official[4:]


SINGLE = np.zeros(SHAPE, bool)
SINGLE[3, 3, 3] = True


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ("neither", (1, 0, 1, 1)),
        ("prediction", (0, PENALTY_MM, 0, 0)),
        ("reference", (0, PENALTY_MM, 0, 0)),
        # One voxel of 1 mm3 does not count, found or missed.
        ("small", (1, 0, 1, 1)),
        ("small found", (1, 0, 1, 1)),
    ],
)
def test_empty_masks_and_small_lesions_as_the_official_code_has_them(sides, expected):
    reference, prediction = scored_masks(0)
    nothing = np.zeros_like(reference)
    masks = {
        "neither": (nothing, nothing),
        "prediction": (nothing, prediction),
        "reference": (reference, nothing),
        "small": (SINGLE, nothing),
        "small found": (SINGLE, SINGLE),
    }[sides]
    scores = brats_scores(*masks, ISOTROPIC, CHALLENGES["brats-met"])
    assert (scores.dice, scores.hd95_mm, *scores.nsd) == pytest.approx(expected)


def test_lesions_that_touch_when_dilated_are_one():
    # Two squares, three pixels apart: one lesion of 8 pixels after two dilations, two after one. One is found whole.
    reference = np.zeros((9, 14), bool)
    reference[3:5, 2:4] = reference[3:5, 7:9] = True
    prediction = reference.copy()
    prediction[:, 7:] = False
    apart, together = (brats_scores(reference, prediction, (1, 1), Challenge(steps, 0)) for steps in (1, 2))
    assert (apart.num_lesions, apart.num_missed, together.num_lesions, together.num_missed) == (2, 1, 1, 0)
    assert (apart.dice, together.dice) == pytest.approx((0.5, 2 * 4 / 12))
    assert apart.hd95_mm == pytest.approx(374 / 2)


def test_a_dilation_reaches_along_two_axes_at_a_time():
    # Across all three, voxels three steps apart would touch after one.
    reference = np.zeros((6, 6, 6), bool)
    reference[1, 1, 1] = reference[4, 4, 4] = True
    once, twice = (brats_scores(reference, reference, ISOTROPIC, Challenge(steps, 0)) for steps in (1, 2))
    assert (once.num_lesions, twice.num_lesions) == (2, 1)


def test_hd95_is_of_the_area_not_of_the_points():
    # Distances 1 to 20 of one area each: 95 % of it are reached at 19. With 19 of 20.5 parts at 1 and one at 10, 95 %
    # are not reached before that.
    line, origin = np.arange(1.0, 21)[:, None], (np.zeros((1, 1)), np.ones(1))
    assert _weighted_hd95((line, np.ones(20)), origin) == 19
    assert _weighted_hd95(origin, (line, np.ones(20))) == 19
    assert _weighted_hd95((line[[0, 9, 19]], np.array([19.0, 1.0, 0.5])), origin) == 10


def test_every_voxel_of_an_image_of_one_slice_is_border():
    # Squares of 5 x 5, shifted by two: of five rows three are in both, one is 1 mm off and one 2 mm, from either side.
    reference, prediction = np.zeros((2, 1, 9, 12), bool)
    reference[0, 2:7, 2:7] = prediction[0, 2:7, 4:9] = True
    assert brats_scores(reference, prediction, ISOTROPIC, Challenge(1, 0)).nsd == pytest.approx((0.6, 0.8))


def test_what_is_predicted_at_an_ignored_lesion_is_no_false_positive():
    reference = np.zeros((12, 12), bool)
    reference[1:3, 1:3] = reference[8, 8] = True
    prediction = reference.copy()
    prediction[8, 5:9] = True
    # A pixel has 1.5 mm2: the second lesion has as much as is ignored.
    scores = brats_scores(reference, prediction, (1, 1.5), Challenge(1, 1.5))
    assert (scores.num_lesions, scores.num_false_positives, scores.dice) == (1, 0, 1.0)


def test_contours_between_pixels():
    # Of the four pixels around a corner: one, two side by side along either axis, two across.
    lengths, half = _areas((3.0, 4.0)), 2.5
    assert lengths[[0b0001, 0b0011, 0b0101, 0b1001, 0b1110, 0b1111]] == pytest.approx([half, 4, 3, 2 * half, half, 0])


def test_surfaces_between_voxels():
    # A plane across the first axis; one voxel cuts off a triangle with legs of half the voxel's diagonals.
    areas = _areas((1.0, 2.0, 3.0))
    assert areas[0b00001111] == pytest.approx(2 * 3)
    corners = np.diag([0.5, 1.0, 1.5])
    triangle = np.linalg.norm(np.cross(corners[1] - corners[0], corners[2] - corners[0])) / 2
    assert areas[[0b1, 0b11111110]] == pytest.approx([triangle, triangle])


def test_one_slice_is_scored_as_an_image_but_for_its_surface():
    reference, prediction = scored_masks(3, shape=(40, 44))
    challenge = Challenge(2, 3)
    image = brats_scores(reference, prediction, (1, 1), challenge)
    volume = brats_scores(reference[None], prediction[None], (1, 1, 1), challenge)
    assert image.num_lesions > 2
    assert image.dice == pytest.approx(volume.dice)
    assert (image.num_lesions, image.num_missed, image.num_false_positives) == (
        volume.num_lesions,
        volume.num_missed,
        volume.num_false_positives,
    )


def test_masks_are_checked():
    mask = np.zeros((4, 4), bool)
    with pytest.raises(ValueError, match="equal shape"):
        brats_scores(mask, mask[:2], (1, 1), CHALLENGES["brats-gli"])
    with pytest.raises(ValueError, match="spacing above 0"):
        brats_scores(mask, mask, (0, 1), CHALLENGES["brats-gli"])
    assert not math.isnan(brats_scores(mask, mask, (1, 1), CHALLENGES["brats-gli"]).dice)
