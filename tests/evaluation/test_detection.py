import json

import numpy as np
import pytest

from nnunet_rw.evaluation.detection import Detection, detect_lesions, dice, summarise


def mask(shape, *boxes):
    result = np.zeros(shape, dtype=bool)
    for box in boxes:
        result[box] = True
    return result


def detection(volumes, hit, num_false_positives=0):
    volumes = np.asarray(volumes, dtype=int)
    num_predicted = int(np.sum(hit)) + num_false_positives
    hit = np.asarray(hit, dtype=bool)
    return Detection(volumes, volumes.astype(float), hit, num_predicted, num_false_positives, 0)


def test_hits_misses_and_false_positives_by_hand():
    # Reference on a line: A = 0..1 (2 voxels), B = 4 (1), C = 7..9 (3).
    # Prediction: 1..2 touches A, 9..10 touches C in one voxel, 13 touches nothing. B is missed.
    reference = mask((15, 3, 3), np.s_[0:2, 1, 1], np.s_[4, 1, 1], np.s_[7:10, 1, 1])
    prediction = mask((15, 3, 3), np.s_[1:3, 1, 1], np.s_[9:11, 1, 1], np.s_[13, 1, 1])
    result = detect_lesions(reference, prediction, spacing_mm=(1.0, 2.0, 3.0))
    hit_by_size = dict(zip(result.volumes_voxels.tolist(), result.hit.tolist(), strict=True))
    assert hit_by_size == {2: True, 1: False, 3: True}
    np.testing.assert_allclose(result.volumes_mm3, 6.0 * result.volumes_voxels)  # a voxel has 1 x 2 x 3 mm3
    assert (result.num_predicted, result.num_false_positives, result.num_neutral) == (3, 1, 0)


def test_one_prediction_may_hit_many_lesions_and_many_may_hit_one():
    two = mask((9, 3, 3), np.s_[0:3, 1, 1], np.s_[6:9, 1, 1])
    one = mask((9, 3, 3), np.s_[:, 1, 1])
    result = detect_lesions(two, one)
    assert result.hit.tolist() == [True, True]
    assert (result.num_predicted, result.num_false_positives) == (1, 0)
    result = detect_lesions(one, two)
    assert result.hit.tolist() == [True]
    assert (result.num_predicted, result.num_false_positives) == (2, 0)


def test_prediction_on_an_ignored_lesion_is_neither_true_nor_false():
    # 0.5 x 2 x 3 = 3 mm3 per voxel: the lesion of 1 voxel is below 6 mm3, that of 2 voxels is not.
    reference = mask((12, 3, 3), np.s_[0, 1, 1], np.s_[5:7, 1, 1])
    prediction = mask((12, 3, 3), np.s_[0:2, 1, 1], np.s_[10, 1, 1])
    result = detect_lesions(reference, prediction, spacing_mm=(0.5, 2.0, 3.0), min_volume_mm3=6.0)
    assert result.volumes_mm3.tolist() == [6.0]
    assert result.hit.tolist() == [False]
    assert (result.num_predicted, result.num_false_positives, result.num_neutral) == (2, 1, 1)


def test_prediction_on_an_ignored_and_a_counted_lesion_is_a_true_positive():
    reference = mask((12, 3, 3), np.s_[0, 1, 1], np.s_[3:6, 1, 1])
    result = detect_lesions(reference, mask((12, 3, 3), np.s_[0:6, 1, 1]), min_volume_mm3=2)
    assert result.volumes_voxels.tolist() == [3]
    assert result.hit.tolist() == [True]
    assert (result.num_predicted, result.num_false_positives, result.num_neutral) == (1, 0, 0)


def test_a_lesion_of_exactly_the_minimum_volume_counts_despite_rounding():
    # 0.7 * 0.7 * 3 = 1.47 mm3 per voxel, 10 voxels = 14.7 mm3; floating point gives 14.699999999999998.
    reference = mask((12, 3, 3), np.s_[0:10, 1, 1])
    result = detect_lesions(reference, reference, spacing_mm=(0.7, 0.7, 3.0), min_volume_mm3=14.7)
    assert result.hit.tolist() == [True]


@pytest.mark.parametrize(("connectivity", "expected"), [(6, 4), (18, 3), (26, 2)])
def test_connectivity(connectivity, expected):
    # (0,0,0)-(1,1,0) share an edge, (1,1,0)-(2,2,1) a corner, (4,4,4) is apart.
    volume = np.zeros((5, 5, 5), dtype=bool)
    volume[0, 0, 0] = volume[1, 1, 0] = volume[2, 2, 1] = volume[4, 4, 4] = True
    assert len(detect_lesions(volume, volume, connectivity=connectivity).hit) == expected


@pytest.mark.parametrize(("connectivity", "expected"), [(6, 2), (26, 1)])
def test_two_dimensional_masks(connectivity, expected):
    result = detect_lesions(np.eye(2, dtype=bool), np.ones((2, 2), dtype=bool), (2.0, 3.0), connectivity)
    assert result.volumes_mm3.sum() == 12  # two pixels of 2 x 3
    assert len(result.hit) == expected
    assert result.hit.all()


@pytest.mark.parametrize(
    ("reference", "prediction", "num_lesions", "num_hit", "num_false_positives"),
    [(False, False, 0, 0, 0), (True, False, 1, 0, 0), (False, True, 0, 0, 1), (True, True, 1, 1, 0)],
)
def test_empty_and_full(reference, prediction, num_lesions, num_hit, num_false_positives):
    result = detect_lesions(np.full((3, 4, 5), reference), np.full((3, 4, 5), prediction))
    assert result.volumes_voxels.shape == result.volumes_mm3.shape == result.hit.shape == (num_lesions,)
    assert result.hit.sum() == num_hit
    assert result.num_false_positives == num_false_positives


def test_agrees_with_a_loop_over_lesions():
    from scipy.ndimage import label

    rng = np.random.default_rng(0)
    reference, prediction = rng.random((2, 20, 18, 16)) < 0.04
    result = detect_lesions(reference, prediction, min_volume_mm3=2)
    reference_ids, num_reference = label(reference, np.ones((3, 3, 3)))
    predicted_ids, num_predicted = label(prediction, np.ones((3, 3, 3)))
    lesions = [reference_ids == i for i in range(1, num_reference + 1)]
    counted = [lesion for lesion in lesions if lesion.sum() >= 2]
    predictions = [predicted_ids == i for i in range(1, num_predicted + 1)]
    assert sorted(result.volumes_voxels.tolist()) == sorted(int(lesion.sum()) for lesion in counted)
    assert result.hit.sum() == sum((lesion & prediction).any() for lesion in counted)
    assert result.num_predicted == num_predicted
    false = [not (lesion & reference).any() for lesion in predictions]
    assert result.num_false_positives == sum(false)
    true = [any((lesion & other).any() for other in counted) for lesion in predictions]
    assert result.num_neutral == num_predicted - sum(false) - sum(true)


def test_inputs_stay_unchanged_and_may_be_views():
    reference, prediction = np.random.default_rng(1).random((2, 8, 7, 6)) < 0.1
    copies = reference.copy(), prediction.copy()
    result = detect_lesions(reference.transpose(2, 1, 0)[::-1], prediction.transpose(2, 1, 0)[::-1])
    straight = detect_lesions(reference, prediction)
    assert result.hit.sum() == straight.hit.sum()
    assert result.num_false_positives == straight.num_false_positives
    assert np.array_equal(reference, copies[0])
    assert np.array_equal(prediction, copies[1])


def test_wrong_input_is_refused():
    boolean = np.zeros((3, 3, 3), dtype=bool)
    with pytest.raises(ValueError, match=r"boolean prediction, but got int64\. Pass labels == class_id"):
        detect_lesions(boolean, boolean.astype(np.int64))
    with pytest.raises(ValueError, match="equal shape"):
        detect_lesions(boolean, boolean[:2])
    with pytest.raises(ValueError, match="3 positive values in mm"):
        detect_lesions(boolean, boolean, spacing_mm=(1.0, 1.0))
    with pytest.raises(ValueError, match="6, 18 or 26"):
        detect_lesions(boolean, boolean, connectivity=8)
    with pytest.raises(ValueError, match="min_volume_mm3 of at least 0"):
        detect_lesions(boolean, boolean, min_volume_mm3=float("nan"))
    with pytest.raises(ValueError, match=r"shape \(X, Y\[, Z\]\)"):
        detect_lesions(boolean[0, 0], boolean[0, 0])


def test_dice_by_hand():
    # |A| = 3, |B| = 2, |A and B| = 1: 2 * 1 / (3 + 2) = 0.4.
    assert dice(mask((5,), np.s_[0:3]), mask((5,), np.s_[2:4])) == pytest.approx(0.4)


def test_dice_of_empty_masks():
    empty, full = np.zeros((2, 2), dtype=bool), np.ones((2, 2), dtype=bool)
    assert np.isnan(dice(empty, empty))
    assert dice(empty, full) == dice(full, empty) == 0
    assert dice(full, full) == 1
    with pytest.raises(ValueError, match="boolean reference"):
        dice(full.astype(np.uint8), full)


def test_summary_by_hand():
    detections = [
        detection([5, 20, 21], [True, False, True], num_false_positives=3),  # small: 5 (hit) and 20 (missed)
        detection([300], [True]),
        detection([], [], num_false_positives=1),
    ]
    summary = summarise(detections, [0.5, 0.8, float("nan")])
    assert summary["dice"] == pytest.approx(0.65)  # (0.5 + 0.8) / 2: the empty case has no Dice
    assert summary["dice_n"] == 2
    assert summary["recall_small"] == 0.5  # 1 of 2
    assert summary["recall_all"] == 0.75  # 3 of 4, pooled: the mean over cases would be (2/3 + 1) / 2
    assert summary["false_positives_per_case"] == pytest.approx(4 / 3)
    assert summary["num_cases"] == 3
    assert (summary["num_lesions"], summary["num_hit"]) == (4, 3)
    assert (summary["num_small_lesions"], summary["num_small_hit"]) == (2, 1)
    assert (summary["num_predicted"], summary["num_false_positives"]) == (7, 4)
    assert json.loads(json.dumps(summary)) == summary


def test_summary_without_lesions_has_no_recall():
    summary = summarise([detection([], [])], [float("nan")])
    assert np.isnan(summary["recall_all"])
    assert np.isnan(summary["recall_small"])
    assert np.isnan(summary["dice"])
    assert summary["dice_n"] == summary["false_positives_per_case"] == 0


def test_summary_needs_cases_in_pairs():
    with pytest.raises(ValueError, match="got 0 detections, 0 dices"):
        summarise([], [])
    with pytest.raises(ValueError, match="got 1 detections, 2 dices"):
        summarise([detection([], [])], [1.0, 1.0])
