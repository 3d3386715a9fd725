"""Values of github.com/alexanderjaus/CC-Metrics at 20a704b (Apache 2.0), printed by its code with MONAI 1.6."""

import numpy as np
import pytest
from scored_masks import scored_masks

from nnunet_rw.evaluation.metrics.cc_metrics import CCScores, cc_scores, nearest_lesion
from nnunet_rw.evaluation.metrics.surface import surface_metrics
from nnunet_rw.maps.arrays import connected_components

# Seed: Dice, HD95, symmetric surface distance and NSD at 1 voxel; the code was told the diagonal as worst distance.
OFFICIAL = {
    0: (0.2068106234073639, 8.876127243041992, 7.588042259216309, 0.4004201591014862),
    1: (0.16240790486335754, 9.098773002624512, 8.05148983001709, 0.3891529142856598),
    2: (0.3055952191352844, 4.388360023498535, 3.626405715942383, 0.530096709728241),
}


@pytest.mark.parametrize("seed", OFFICIAL)
def test_scores_are_those_of_the_official_code(seed):
    scores = cc_scores(*scored_masks(seed, (14, 16, 15), most=2.0), (1, 1, 1))
    # It computes in single precision.
    assert (scores.dice, scores.hd95_mm, scores.assd_mm, scores.nsd) == pytest.approx(OFFICIAL[seed], rel=1e-6)


def nearest_by_brute_force(lesion):
    """The lowest id among the nearest lesion voxels of every voxel."""
    points, owners = np.argwhere(lesion), lesion[lesion > 0]
    result = np.empty(lesion.shape, int)
    for index in np.ndindex(lesion.shape):
        squared = ((points - index) ** 2).sum(axis=1)
        result[index] = owners[squared == squared.min()].min()
    return result


@pytest.mark.parametrize("shape", [(9, 11, 8), (17, 19)])
def test_every_voxel_belongs_to_the_nearest_lesion_and_of_two_to_the_first(shape):
    reference, _ = scored_masks(4, shape, most=1.2)
    lesion = connected_components(reference.view(np.uint8), 26 if len(shape) == 3 else 8)
    assert lesion.max() > 3
    nearest = nearest_lesion(lesion, np.ones(shape, bool))
    np.testing.assert_array_equal(nearest, nearest_by_brute_force(lesion))


@pytest.mark.parametrize("first", range(8))
def test_more_ties_than_are_looked_at_first(first):
    # Eight lesions of a voxel, all as near to the centre, where four are looked at first: wherever the first one lies.
    lesion = np.zeros((5, 5, 5), int)
    places = [place for place in np.ndindex(3, 3, 3) if 1 not in place]
    for number, place in enumerate(places):
        lesion[tuple(2 * step for step in place)] = (number - first) % 8 + 1
    wanted = np.zeros(lesion.shape, bool)
    wanted[2, 2, 2] = True
    assert nearest_lesion(lesion, wanted).sum() == 1


def test_one_slice_is_scored_as_an_image():
    # A square of 25 pixels, 16 of them border, and a prediction that reaches two pixels further along the second axis.
    reference, prediction = np.zeros((2, 9, 12), bool)
    reference[2:7, 2:7] = prediction[2:7, 2:9] = True
    image = cc_scores(reference, prediction, (1, 1))
    assert cc_scores(reference[None], prediction[None], (5, 1, 1)) == image
    # Of the reference's 16 border pixels the middle three of one side lie within: 1, 2 and 1 from a row of the other.
    # Of the prediction's 20 the last five are 2 away, and the two before them 1.
    assert image.assd_mm == pytest.approx((4 + 12) / 36)


def test_anisotropic_parts_are_cut_in_voxels_and_measured_in_mm():
    reference, prediction = scored_masks(5, (12, 13, 14), most=2.0)
    spacing = (3.0, 1.0, 0.5)
    lesion = connected_components(reference.view(np.uint8), 26)
    part = nearest_by_brute_force(lesion)
    rows = []
    diagonal_mm = np.linalg.norm(np.multiply(reference.shape, spacing))
    for number in range(1, lesion.max() + 1):
        here, predicted = lesion == number, prediction & (part == number)
        found = surface_metrics(here, predicted, spacing, 0.5)
        distances = [diagonal_mm] * 2 if not predicted.any() else [found.hd95_mm, found.assd_mm]
        rows.append([2 * (here & predicted).sum() / (here.sum() + predicted.sum()), *distances, found.nsd])
    scores = cc_scores(reference, prediction, spacing, 0.5)
    assert len(rows) > 3
    assert (scores.dice, scores.hd95_mm, scores.assd_mm, scores.nsd) == pytest.approx(np.mean(rows, axis=0), rel=1e-6)


def test_masks_without_a_voxel():
    something, nothing = np.eye(4, dtype=bool), np.zeros((4, 4), bool)
    worst = CCScores(0.0, pytest.approx(np.hypot(4, 8)), pytest.approx(np.hypot(4, 8)), 0.0)
    assert cc_scores(nothing, nothing, (1, 2)) == CCScores(1.0, 0.0, 0.0, 1.0)
    assert cc_scores(nothing, something, (1, 2)) == worst
    assert cc_scores(something, nothing, (1, 2)) == worst
