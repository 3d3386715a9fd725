import numpy as np
import pytest

from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.overlap import overlap
from nnunet_rw.postprocessing.ensemble.average import (
    choose_min_component_mm3,
    counted_scores,
    is_improved,
    remove_small_components,
)
from nnunet_rw.postprocessing.predictions import label_manager

SPACING_MM = (3.0, 2.0, 1.0)  # a voxel has 6 mm3


def row(*values):
    return np.array(values).reshape(1, 1, -1)


def test_removed_below_the_volume_of_each_class(dataset_json):
    # Class 1: components of 1 and 2 voxels, 6 and 12 mm3. Class 2: of 1 and 3 voxels.
    labels = row(1, 0, 1, 1, 0, 2, 0, 2, 2, 2)
    cleaned = remove_small_components(labels, label_manager(dataset_json), SPACING_MM, {"1": 12, "2": 6.1})
    assert cleaned.ravel().tolist() == [0, 0, 1, 1, 0, 0, 0, 2, 2, 2]
    assert cleaned.dtype == labels.dtype
    assert labels[0, 0, 0] == 1


def test_classes_that_are_not_named_keep_everything(dataset_json):
    labels = row(1, 0, 2)
    cleaned = remove_small_components(labels, label_manager(dataset_json), SPACING_MM, {"2": 100})
    assert cleaned.ravel().tolist() == [1, 0, 0]


def test_touching_classes_are_components_of_their_own(dataset_json):
    cleaned = remove_small_components(row(1, 2, 2), label_manager(dataset_json), SPACING_MM, {"1": 7, "2": 7})
    assert cleaned.ravel().tolist() == [0, 2, 2]


def test_connectivity(dataset_json):
    labels = np.eye(3, dtype=int)[None]
    manager = label_manager(dataset_json)
    np.testing.assert_array_equal(remove_small_components(labels, manager, SPACING_MM, {"1": 18}), labels)
    assert not remove_small_components(labels, manager, SPACING_MM, {"1": 18}, connectivity=6).any()


def test_two_dimensions(dataset_json):
    cleaned = remove_small_components(np.array([[1, 0, 1, 1]]), label_manager(dataset_json), (2.0, 1.0), {"1": 4})
    assert cleaned.tolist() == [[0, 0, 1, 1]]


def test_a_volume_in_floating_point_is_exact(dataset_json):
    # Ten voxels of 1.47 mm3 are 14.7 mm3.
    labels = np.ones((1, 1, 10), int)
    assert remove_small_components(labels, label_manager(dataset_json), (1.0, 1.0, 1.47), {"1": 14.7}).all()


def test_a_small_core_becomes_what_is_around_it(region_json):
    cleaned = remove_small_components(row(1, 1, 2, 1), label_manager(region_json), SPACING_MM, {"2": 7})
    assert cleaned.ravel().tolist() == [1, 1, 1, 1]


def test_a_small_whole_goes_with_its_core(region_json):
    cleaned = remove_small_components(row(1, 2, 0, 1, 2, 2), label_manager(region_json), SPACING_MM, {"(1, 2)": 18})
    assert cleaned.ravel().tolist() == [0, 0, 0, 1, 2, 2]


def test_empty(dataset_json):
    labels = np.zeros((2, 3, 4), int)
    np.testing.assert_array_equal(
        remove_small_components(labels, label_manager(dataset_json), SPACING_MM, {"1": 10}), labels
    )


def test_unknown_class(dataset_json):
    with pytest.raises(ValueError, match="Expected minimum volumes of 1, 2, but got one of 3"):
        remove_small_components(row(1), label_manager(dataset_json), SPACING_MM, {"3": 10})


def matched(reference, prediction):
    return match_lesions(row(*reference) > 0, row(*prediction) > 0, SPACING_MM)


# A lesion of three voxels, found with two; a false positive of one voxel, 6 mm3, and one of two.
ONE = matched([1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 1, 0, 1, 1, 0])
EMPTY = matched([0] * 9, [0] * 9)
# A lesion-free case with a false positive of one voxel.
FREE = matched([0] * 9, [0, 0, 0, 0, 0, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ("minimum", "dice", "hit", "predicted", "false_positive"),
    [(0, 4 / 8, 1, 3, 2), (6, 4 / 8, 1, 3, 2), (7, 4 / 7, 1, 2, 1), (12, 4 / 7, 1, 2, 1), (13, 0, 0, 0, 0)],
)
def test_scores_by_hand(minimum, dice, hit, predicted, false_positive):
    scores = counted_scores(ONE, minimum)
    assert scores.dice == pytest.approx(dice)
    assert (scores.n_lesions, scores.n_hit) == (1, hit)
    assert (scores.n_predicted, scores.n_false_positive) == (predicted, false_positive)


def test_f1_by_hand():
    # Recall 1, precision 1 / 3; nothing at all; nothing to find.
    assert counted_scores(ONE).f1 == pytest.approx(0.5)
    assert counted_scores(ONE, 100).f1 == 0
    assert counted_scores(EMPTY).f1 == 1
    assert counted_scores(FREE).f1 == 0
    assert np.isnan(counted_scores(EMPTY).dice)
    assert counted_scores(EMPTY).dice_or_1 == 1


@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_cleaned_segmentation(seed, blobs, dataset_json):
    reference, prediction = blobs((12, 13, 14), seed), blobs((12, 13, 14), seed + 10)
    matches = match_lesions(reference == 1, prediction == 1, SPACING_MM)
    cleaned = remove_small_components(prediction, label_manager(dataset_json), SPACING_MM, {"1": 60})
    scores = counted_scores(matches, 60)
    assert scores.dice == pytest.approx(overlap(reference == 1, cleaned == 1).dice, nan_ok=True)
    assert scores == counted_scores(match_lesions(reference == 1, cleaned == 1, SPACING_MM))


def test_chosen_by_hand():
    # Above 6 mm3 the free case is right (F1 1); above 12 the lesion is lost.
    # Mean F1: 0.25 before; (2 / 3 + 1) / 2 above 6 mm3. The smallest volume that keeps 12 mm3 is 12 mm3.
    assert choose_min_component_mm3([ONE, FREE]) == 12


def test_nothing_is_removed_for_nothing():
    right = matched([1, 1, 0], [1, 1, 0])
    assert choose_min_component_mm3([right, EMPTY]) == 0
    assert choose_min_component_mm3([EMPTY]) == 0


def test_false_positives_as_large_as_the_lesion_stay():
    assert choose_min_component_mm3([matched([1, 1, 0, 0, 0], [1, 1, 0, 1, 1])]) == 0


def test_a_gain_in_f1_that_costs_dice_is_refused():
    # A lesion of nine voxels is found in parts of four and two; two more voxels are a false positive. Without what is
    # smaller than 24 mm3 F1 rises from 0.8 to 1, but Dice falls from 2 * 6 / (9 + 8) to 2 * 4 / (9 + 4).
    case = matched([1] * 9 + [0] * 3, [1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 1, 1])
    before, after = counted_scores(case), counted_scores(case, 24)
    assert (before.f1, after.f1) == pytest.approx((0.8, 1))
    assert (before.dice, after.dice) == pytest.approx((12 / 17, 8 / 13))
    assert not is_improved([before], [after])
    assert choose_min_component_mm3([case]) == 0


def test_improved():
    before = counted_scores(ONE)
    assert is_improved([before], [counted_scores(ONE, 7)])
    assert not is_improved([before], [before])
    assert not is_improved([before], [counted_scores(ONE, 13)])
