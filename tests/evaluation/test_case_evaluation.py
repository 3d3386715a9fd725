import math
import re

import numpy as np
import pytest
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from segmentation_files import (
    CORE_AND_EDGE,
    EMPTY,
    LESION,
    PREDICTION,
    REFERENCE,
    SHAPE,
    SPACING_MM,
    labels,
    write_image,
    write_probabilities,
)

from nnunet_rw.datasets.folders import labels_of
from nnunet_rw.evaluation.case import EvaluationSettings, evaluate_case
from nnunet_rw.evaluation.sources import CaseFiles

FAST = EvaluationSettings(fast=True)


@pytest.fixture
def evaluated(tmp_path):
    """Function that writes arrays and returns the classes of their evaluation, by label, and the diagonal."""

    def evaluate(
        reference, prediction, names=LESION, order=None, probabilities=None, image=None, settings=FAST, ending=".mha"
    ):
        paths = {}
        arrays = {"reference": reference, "prediction": prediction, "a_0000": image}
        for name, values in arrays.items():
            if values is not None:
                spacing_mm = SPACING_MM[-np.ndim(values) :]
                paths[name] = write_image(tmp_path / f"{name}{ending}", values, spacing_mm)
        npz = None if probabilities is None else write_probabilities(tmp_path / "a.npz", probabilities)
        images = () if image is None else (paths["a_0000"],)
        files = CaseFiles("a", paths["reference"], paths["prediction"], npz, images)
        case = evaluate_case(files, SimpleITKIO(), labels_of({"labels": names, "regions_class_order": order}), settings)
        assert case.files == files
        return {found.label: found for found in case.classes}, case.diagonal_mm

    return evaluate


def counts(found):
    return found.overlap.tp, found.overlap.fp, found.overlap.fn, found.overlap.tn


def test_one_class_by_hand(evaluated):
    found, diagonal_mm = evaluated(REFERENCE, PREDICTION, settings=EvaluationSettings())
    assert list(found) == ["1"]
    # 4 x 3 mm, 5 x 1 mm, 8 x 0.5 mm.
    assert diagonal_mm == pytest.approx(math.sqrt(12**2 + 5**2 + 4**2))
    one = found["1"]
    assert counts(one) == (2, 4, 3, 151)
    # Every voxel is border. To the prediction, from A 1, 0.5, 0 and 0 mm, from B 4 mm in y and 3 mm in x: 5 mm. To the
    # reference 0, 0, 0.5 and 1 mm, and from x = 0 and 1 to B (4, 3.5) and (4, 3) mm; A is 6 mm away in z.
    far = math.hypot(4, 3.5)
    assert one.surface.hd_mm == pytest.approx(far)
    # 6 distances from the prediction: between the fifth, 5 mm, and the sixth at 0.95 * 5 - 4 = 0.75.
    assert one.surface.hd95_mm == pytest.approx(5 + 0.75 * (far - 5))
    assert one.surface.assd_mm == pytest.approx((1.5 + 5 + 1.5 + 5 + far) / 11)
    assert one.surface.nsd == pytest.approx(8 / 11)
    assert (one.volume.reference_mm3, one.volume.prediction_mm3) == (7.5, 9.0)
    assert one.matches.reference.kind.tolist() == ["matched", "missed"]
    assert one.matches.predicted.kind.tolist() == ["matched", "false_positive"]
    assert (one.candidates, one.intensity) == (None, None)


@pytest.mark.parametrize(
    ("reference", "prediction", "status"),
    [
        (REFERENCE, PREDICTION, "both"),
        (EMPTY, EMPTY, "both_empty"),
        (REFERENCE, EMPTY, "only_reference"),
        (EMPTY, PREDICTION, "only_prediction"),
    ],
)
def test_empty_masks(evaluated, reference, prediction, status):
    (one,) = evaluated(reference, prediction, settings=EvaluationSettings())[0].values()
    assert one.overlap.status == status
    expected = {"both": 5.2, "both_empty": math.nan}.get(status, math.inf)
    assert one.surface.hd95_mm == pytest.approx(expected, abs=0.1, nan_ok=True)
    assert len(one.matches.reference) == (2 if reference.any() else 0)
    assert len(one.matches.predicted) == (2 if prediction.any() else 0)


def test_fast_leaves_out_distances_alone(evaluated):
    slow, fast = (
        evaluated(REFERENCE, PREDICTION, settings=EvaluationSettings(fast=fast))[0]["1"] for fast in (False, True)
    )
    assert fast.surface is None
    assert (fast.overlap, fast.volume) == (slow.overlap, slow.volume)


def test_settings_reach_the_metrics(evaluated):
    # A and a voxel at its corner, z = 2, y = 2, x = 5: one lesion, or two by faces.
    reference = REFERENCE + labels((1, np.s_[2, 2, 5]))
    sizes = {}
    for connectivity in (6, 26):
        settings = EvaluationSettings(connectivity=connectivity, fast=True)
        sizes[connectivity] = evaluated(reference, EMPTY, settings=settings)[0]["1"].matches.reference.voxels.tolist()
    assert sizes == {6: [4, 1, 1], 26: [5, 1]}
    # B has 1.5 mm3.
    for min_volume_mm3, counted in ((1.5, [True, True]), (1.6, [True, False])):
        settings = EvaluationSettings(min_volume_mm3=min_volume_mm3, fast=True)
        matches = evaluated(REFERENCE, PREDICTION, settings=settings)[0]["1"].matches
        assert matches.reference.counted.tolist() == counted
    # Up to 0.5 mm: three of the reference and three of the prediction.
    settings = EvaluationSettings(tolerance_mm=0.5)
    assert evaluated(REFERENCE, PREDICTION, settings=settings)[0]["1"].surface.nsd == pytest.approx(6 / 11)


def test_classes_are_told_apart(evaluated):
    # Class 1 is predicted as class 2 where x >= 3.
    reference = labels((1, np.s_[1, 1, 1:5]), (2, np.s_[3, 4, 6:8]))
    prediction = labels((1, np.s_[1, 1, 1:3]), (2, np.s_[1, 1, 3:5]), (2, np.s_[3, 4, 6:8]))
    found, _ = evaluated(reference, prediction, CORE_AND_EDGE)
    assert list(found) == ["1", "2"]
    assert counts(found["1"]) == (2, 0, 2, 156)
    assert counts(found["2"]) == (2, 2, 0, 156)


def test_regions(evaluated):
    # Whole: 1 and 2 together, one lesion of 4 voxels, of which the prediction has x = 2 to 4. Core: 2 alone.
    names = {"background": 0, "whole": [1, 2], "core": 2}
    reference = labels((1, np.s_[1, 1, 1:4]), (2, np.s_[1, 1, 4]))
    prediction = labels((1, np.s_[1, 1, 2]), (2, np.s_[1, 1, 3:5]))
    found, _ = evaluated(reference, prediction, names, [1, 2])
    assert list(found) == ["(1, 2)", "2"]
    assert counts(found["(1, 2)"]) == (3, 0, 1, 156)
    assert counts(found["2"]) == (1, 1, 0, 158)
    assert found["(1, 2)"].matches.reference.voxels.tolist() == [4]


def test_unlabelled_voxels_count_nowhere(evaluated):
    # Ignored: x = 3 and 4 of A and all of the slice z = 3, with B and the false positive.
    reference = REFERENCE.copy()
    reference[1, 1, 3:5] = reference[3] = 2
    found, _ = evaluated(
        reference, PREDICTION, {**LESION, "ignore": 2}, image=np.full(SHAPE, 10.0), settings=EvaluationSettings()
    )
    assert list(found) == ["1"]
    one = found["1"]
    # Left are x = 1 and 2 of the reference and x = 5 and 6 of the prediction; 160 - 40 - 2 voxels are labelled.
    assert counts(one) == (0, 2, 2, 114)
    assert (one.volume.reference_mm3, one.volume.prediction_mm3) == (3.0, 3.0)
    assert one.intensity == (30.0, 30.0)
    assert one.matches.reference.kind.tolist() == ["missed"]
    assert one.matches.predicted.kind.tolist() == ["false_positive"]
    # x = 2 to 5, and 1 to 6 by way of 5.
    assert one.surface.hd_mm == pytest.approx(2.0)


def test_case_without_a_labelled_voxel(evaluated):
    (one,) = evaluated(np.full(SHAPE, 2, np.uint8), PREDICTION, {**LESION, "ignore": 2})[0].values()
    assert one.overlap.status == "both_empty"
    assert counts(one) == (0, 0, 0, 0)


def test_score_is_the_probability_of_the_class(evaluated):
    reference = labels((1, np.s_[1, 1, 1:5]), (2, np.s_[3, 4, 6:8]))
    probabilities = np.zeros((3, *SHAPE))
    probabilities[0] = 0.05
    probabilities[1][1, 1, 1:5] = (0.6, 0.9, 0.7, 0.6)
    probabilities[2][3, 4, 6:8] = (0.55, 0.8)
    found, _ = evaluated(reference, reference, CORE_AND_EDGE, probabilities=probabilities)
    assert found["1"].matches.predicted.score == pytest.approx([0.9])
    assert found["2"].matches.predicted.score == pytest.approx([0.8])
    assert found["2"].matches.reference.score == pytest.approx([0.8])


def test_score_of_regions_is_that_of_their_own_head(evaluated):
    names = {"background": 0, "whole": [1, 2], "core": 2}
    reference = labels((1, np.s_[1, 1, 1:4]), (2, np.s_[1, 1, 4]))
    probabilities = np.stack([np.full(SHAPE, 0.7), np.full(SHAPE, 0.6)])
    found, _ = evaluated(reference, reference, names, [1, 2], probabilities=probabilities)
    assert found["(1, 2)"].matches.predicted.score == pytest.approx([0.7])
    assert found["2"].matches.predicted.score == pytest.approx([0.6])


def test_candidates_are_lesions_at_a_low_probability(evaluated):
    # The segmentation misses B, whose voxel has a probability of 0.3; another voxel has 0.2, one 0.1: none above 0.1.
    probabilities = np.zeros((2, *SHAPE), np.float32)
    probabilities[1, 1, 1, 1:5] = 0.8
    probabilities[1, 3, 4, 7], probabilities[1, 0, 4, 0], probabilities[1, 3, 0, 0] = 0.3, 0.2, 0.1
    prediction = labels((1, np.s_[1, 1, 1:5]))
    one = evaluated(REFERENCE, prediction, probabilities=probabilities)[0]["1"]
    assert len(one.matches.predicted) == 1
    assert one.candidates.predicted.score == pytest.approx([0.2, 0.8, 0.3])
    assert one.candidates.predicted.kind.tolist() == ["false_positive", "matched", "matched"]
    assert one.candidates.reference.hit.tolist() == [True, True]


def test_unlabelled_voxels_hold_no_candidates(evaluated):
    reference = REFERENCE.copy()
    reference[3] = 2
    probabilities = np.stack([np.zeros(SHAPE), np.where(np.arange(4)[:, None, None] == 3, 0.9, 0.0) * np.ones(SHAPE)])
    one = evaluated(reference, EMPTY, {**LESION, "ignore": 2}, probabilities=probabilities)[0]["1"]
    assert len(one.candidates.predicted) == 0


def test_volume_times_mean_intensity(evaluated):
    image = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    # Voxel (z, y, x) holds 40 z + 8 y + x: A 49 to 52, B 159; the prediction 51 to 54, 120 and 121. Times 1.5 mm3.
    one = evaluated(REFERENCE, PREDICTION, image=image)[0]["1"]
    assert one.intensity == pytest.approx(((49 + 50 + 51 + 52 + 159) * 1.5, (51 + 52 + 53 + 54 + 120 + 121) * 1.5))


def test_image_may_be_undefined_outside_of_the_masks_alone(evaluated):
    image = np.ones(SHAPE, np.float32)
    image[0, 0, 0] = np.nan
    assert evaluated(REFERENCE, PREDICTION, image=image)[0]["1"].intensity == (7.5, 9.0)
    image[1, 1, 1] = np.nan
    with pytest.raises(
        ValueError, match=r"^Case 'a': Expected finite intensities, but got NaN or inf in 1 of the mask's 5"
    ):
        evaluated(REFERENCE, PREDICTION, image=image)


def test_two_dimensions(evaluated):
    found, diagonal_mm = evaluated(REFERENCE[1], PREDICTION[1], settings=EvaluationSettings())
    assert diagonal_mm == pytest.approx(math.hypot(5, 4))
    one = found["1"]
    assert counts(one) == (2, 2, 2, 34)
    assert one.surface.hd_mm == pytest.approx(1.0)
    # A pixel has 0.5 mm2.
    assert one.volume.reference_mm3 == 2.0
    assert one.matches.reference.centroid_mm.tolist() == [[1.0, 1.25]]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (EvaluationSettings(tolerance_mm=-1.0), "Expected a tolerance of at least 0 mm, but got -1.0."),
        (EvaluationSettings(min_volume_mm3=-1.0), "Expected min_volume_mm3 of at least 0, but got -1.0."),
        (EvaluationSettings(connectivity=8), "Expected connectivity to be one of (6, 18, 26), but got 8."),
    ],
)
def test_impossible_settings(evaluated, settings, message):
    with pytest.raises(ValueError, match="^" + re.escape(f"Case 'a': {message}")):
        evaluated(REFERENCE, PREDICTION, settings=settings)
