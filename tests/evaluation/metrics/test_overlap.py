import math

import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_tp_fp_fn_tn

from nnunet_rw.evaluation.metrics.overlap import Overlap, overlap

RATIOS = ("dice", "jaccard", "ppv", "sensitivity", "specificity")


def line(*voxels, length=10):
    mask = np.zeros((length, 1, 1), dtype=bool)
    mask[list(voxels)] = True
    return mask


def ratios(counts):
    return [getattr(counts, name) for name in RATIOS]


def test_counts_and_ratios_by_hand():
    # Reference 0 1 2 3, prediction 2 3 4: both 2 3; prediction alone 4; reference alone 0 1; neither 5 .. 9.
    counts = overlap(line(0, 1, 2, 3), line(2, 3, 4))
    assert counts == Overlap(tp=2, fp=1, fn=2, tn=5)
    assert counts.status == "both"
    # Dice 2 * 2 / (4 + 3), Jaccard 2 / 5, PPV 2 / 3, sensitivity 2 / 4, specificity 5 / 6: five different numbers.
    assert ratios(counts) == pytest.approx([4 / 7, 2 / 5, 2 / 3, 1 / 2, 5 / 6])
    assert all(type(count) is int for count in (counts.tp, counts.fp, counts.fn, counts.tn))


def test_unlabelled_voxels_count_nowhere():
    # As above without the voxels 0 (was reference alone), 3 (both), 4 (prediction alone) and 9 (neither).
    counts = overlap(line(0, 1, 2, 3), line(2, 3, 4), known=~line(0, 3, 4, 9))
    assert counts == Overlap(tp=1, fp=0, fn=1, tn=4)


def test_a_mask_among_unlabelled_voxels_is_empty():
    counts = overlap(line(0, 1), line(5), known=~line(0, 1))
    assert counts == Overlap(tp=0, fp=1, fn=0, tn=7)
    assert counts.status == "only_prediction"
    assert overlap(line(0), line(1), known=line()) == Overlap(0, 0, 0, 0)


nan = math.nan


@pytest.mark.parametrize(
    ("reference", "prediction", "status", "expected"),
    [
        (line(), line(), "both_empty", [nan, nan, nan, nan, 1]),
        (line(3), line(), "only_reference", [0, 0, nan, 0, 1]),
        (line(), line(3), "only_prediction", [0, 0, 0, nan, 9 / 10]),
        (line(3), line(4), "both", [0, 0, 0, 0, 8 / 9]),
        (line(3), line(3), "both", [1, 1, 1, 1, 1]),
        (line(*range(10)), line(*range(10)), "both", [1, 1, 1, 1, nan]),
        (line(*range(10)), line(), "only_reference", [0, 0, nan, 0, nan]),
        (line(), line(*range(10)), "only_prediction", [0, 0, 0, nan, 0]),
    ],
)
def test_empty_disjoint_and_full(reference, prediction, status, expected):
    counts = overlap(reference, prediction)
    assert counts.status == status
    np.testing.assert_equal(ratios(counts), expected)


@pytest.mark.parametrize("shape", [(9, 8, 7), (13, 11)])
@pytest.mark.parametrize("ignoring", [False, True])
def test_equals_nnunet(shape, ignoring):
    reference, prediction, ignored = np.random.default_rng(0).random((3, *shape)) < 0.3
    counts = overlap(reference, prediction, ~ignored if ignoring else None)
    expected = compute_tp_fp_fn_tn(reference, prediction, ignored if ignoring else None)
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == expected


def test_swapping_the_masks_swaps_what_depends_on_the_side():
    reference, prediction = np.random.default_rng(1).random((2, 9, 8, 7)) < np.array([0.2, 0.4])[:, None, None, None]
    one, other = overlap(reference, prediction), overlap(prediction, reference)
    assert (one.dice, one.jaccard, one.ppv) == (other.dice, other.jaccard, other.sensitivity)
    assert one.jaccard == pytest.approx(one.dice / (2 - one.dice))


def test_flips_views_and_label_numbers_change_nothing():
    rng = np.random.default_rng(2)
    reference, prediction = rng.integers(0, 3, (2, 9, 8, 7))
    known = rng.random((9, 8, 7)) < 0.8
    straight = overlap(reference == 2, prediction == 2, known)
    flipped = [array.transpose(2, 0, 1)[::-1, :, ::-1] for array in (reference == 2, prediction == 2, known)]
    assert overlap(*flipped) == straight
    renumbered = [np.array([0, 5, 1])[labels] == 1 for labels in (reference, prediction)]
    assert overlap(*renumbered, known) == straight


def test_inputs_stay_unchanged():
    masks = np.random.default_rng(3).random((3, 5, 4, 3)) < 0.5
    before = masks.copy()
    masks.flags.writeable = False
    overlap(*masks)
    assert np.array_equal(masks, before)


def test_wrong_input_is_refused():
    mask = np.zeros((3, 4, 5), dtype=bool)
    with pytest.raises(ValueError, match=r"boolean prediction, but got float32\. Pass labels == class_id"):
        overlap(mask, mask.astype(np.float32))
    with pytest.raises(ValueError, match=r"boolean reference, but got int64"):
        overlap(mask.astype(np.int64), mask)
    with pytest.raises(ValueError, match=r"boolean known, but got uint8"):
        overlap(mask, mask, mask.astype(np.uint8))
    with pytest.raises(
        ValueError, match=r"equal shape, but got \(3, 4, 5\) as reference and \(3, 4, 4\) as prediction"
    ):
        overlap(mask, mask[..., :4])
    with pytest.raises(ValueError, match=r"\(3, 4, 5\) as reference and \(1, 4, 5\) as known"):
        overlap(mask, mask, mask[:1])
    with pytest.raises(ValueError, match=r"reference of shape \(X, Y\[, Z\]\), but got \(3,\)"):
        overlap(mask[:, 0, 0], mask[:, 0, 0])
