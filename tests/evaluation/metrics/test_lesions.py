import numpy as np
import pytest
from lesion_references import line

from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.maps import lesion_components

SPACING_MM = (0.5, 2.0, 3.0)  # a voxel has 3 mm3


def match(reference, prediction, **options):
    return match_lesions(line(reference), line(prediction), SPACING_MM, **options)


def test_found_missed_and_false_lesions_by_hand():
    # A: voxels 0, 1; the first predicted lesion 1, 2: one shared of three, Dice 2 * 1 / (2 + 2).
    # B: voxel 4, missed. C: 7 to 9; the second 9, 10: one shared of four, Dice 2 * 1 / (3 + 2), a third is covered.
    # The third predicted lesion touches nothing.
    matches = match("##..#..###.....", ".##......##..#.")
    reference, predicted = matches.reference, matches.predicted
    assert reference.voxels.tolist() == [2, 1, 3]
    assert reference.volume_mm3.tolist() == [6.0, 3.0, 9.0]
    assert reference.hit.tolist() == reference.matched.tolist() == [True, False, True]
    assert reference.missed.tolist() == [False, True, False]
    assert reference.iou.tolist() == [1 / 3, 0, 1 / 4]
    assert reference.dice.tolist() == [0.5, 0, 0.4]
    assert reference.kind.tolist() == ["matched", "missed", "under_segmented"]
    assert predicted.voxels.tolist() == [2, 2, 1]
    assert predicted.hit.tolist() == predicted.matched.tolist() == [True, True, False]
    assert predicted.false_positive.tolist() == [False, False, True]
    assert predicted.iou.tolist() == [1 / 3, 1 / 4, 0]
    assert predicted.dice.tolist() == [0.5, 0.4, 0]
    assert predicted.kind.tolist() == ["matched", "under_segmented", "false_positive"]
    assert list(zip(matches.pairs.reference, matches.pairs.predicted, matches.pairs.voxels, strict=True)) == [
        (0, 0, 1),
        (2, 1, 1),
    ]
    assert not reference.ignored.any()
    assert not predicted.neutral.any()
    assert np.isnan([*reference.score, *predicted.score]).all()


def test_merged():
    # IoU 5 / 8 and 2 / 8: the larger lesion takes the one partner. Its Dice is 2 * 5 / (5 + 8).
    matches = match("#####.##", "########")
    assert matches.reference.kind.tolist() == ["merged", "merged"]
    assert matches.reference.hit.tolist() == [True, True]
    assert matches.reference.matched.tolist() == [True, False]
    assert matches.reference.dice.tolist() == [10 / 13, 0]
    assert matches.reference.iou.tolist() == [5 / 8, 2 / 8]
    assert matches.predicted.kind.tolist() == ["merged"]
    assert matches.predicted.dice.tolist() == [10 / 13]


def test_split():
    # The second predicted lesion takes the lesion; the first is no false positive, but without a partner.
    matches = match("########", "##.#####")
    assert matches.reference.kind.tolist() == ["split"]
    assert matches.reference.dice.tolist() == [10 / 13]
    assert matches.predicted.kind.tolist() == ["split", "split"]
    assert matches.predicted.hit.tolist() == [True, True]
    assert matches.predicted.matched.tolist() == [False, True]
    assert matches.predicted.iou.tolist() == [2 / 8, 5 / 8]
    assert not matches.predicted.false_positive.any()


def test_merged_goes_before_split():
    # A: 0 to 3, overlapped by both; B: 5 and 6, overlapped by the second alone, which is merged therefore.
    # The first predicted lesion overlaps A alone, but not alone.
    matches = match("####.##", "#.#####")
    assert matches.reference.kind.tolist() == ["merged", "merged"]
    assert matches.predicted.kind.tolist() == ["split", "merged"]


@pytest.mark.parametrize(
    ("reference", "prediction", "kind", "iou", "matched"),
    [
        ("#####", "##...", "under_segmented", 2 / 5, True),
        ("####.", "##...", "matched", 2 / 4, True),  # half is not less than half
        ("###########", "#..........", "under_segmented", 1 / 11, False),
        ("##########", "#.........", "under_segmented", 1 / 10, True),  # an IoU of 0.1 is enough
        ("#..........", "###########", "over_segmented", 1 / 11, False),
        ("#.........", "##########", "matched", 1 / 10, True),
    ],
)
def test_one_to_one_overlap(reference, prediction, kind, iou, matched):
    matches = match(reference, prediction)
    for lesions in (matches.reference, matches.predicted):
        assert lesions.hit.tolist() == [True]
        assert lesions.kind.tolist() == [kind]
        assert lesions.iou.tolist() == [iou]
        assert lesions.matched.tolist() == [matched]
        assert lesions.dice.tolist() == [pytest.approx(2 * iou / (1 + iou)) if matched else 0]


def test_small_lesions_are_ignored_and_what_touches_them_alone_is_neutral():
    # 3 mm3 are below the minimum of 6, 6 mm3 are not. The second predicted lesion touches the counted lesion too, and
    # the first the ignored one alone.
    matches = match("#....#.##..", "##...####.#", min_volume_mm3=6)
    reference, predicted = matches.reference, matches.predicted
    assert reference.ignored.tolist() == [True, True, False]
    assert reference.hit.tolist() == reference.matched.tolist() == [False, False, True]
    assert reference.missed.tolist() == [False, False, False]
    assert reference.kind.tolist() == ["ignored", "ignored", "matched"]  # not merged with a lesion that is ignored
    np.testing.assert_array_equal(reference.dice, [np.nan, np.nan, 2 * 2 / (2 + 4)])
    np.testing.assert_array_equal(reference.iou, [np.nan, np.nan, 2 / 4])
    assert predicted.neutral.tolist() == [True, False, False]
    assert predicted.hit.tolist() == [False, True, False]
    assert predicted.false_positive.tolist() == [False, False, True]
    assert predicted.kind.tolist() == ["neutral", "matched", "false_positive"]
    np.testing.assert_array_equal(predicted.dice, [np.nan, 2 / 3, 0])


def test_a_lesion_of_exactly_the_minimum_volume_counts_despite_rounding():
    # 0.7 * 0.7 * 3 = 1.47 mm3 per voxel, 10 voxels = 14.7 mm3; floating point gives 14.699999999999998.
    mask = line("##########")
    assert match_lesions(mask, mask, (0.7, 0.7, 3.0), min_volume_mm3=14.7).reference.hit.tolist() == [True]


def test_unknown_voxels_are_background_in_both_masks():
    # What was annotated of the lesion is 0, 1 and 5, 6; it is predicted whole, and a false one lies in the unknown.
    known = ~line("..###...##..#")
    matches = match_lesions(line("##...##......"), line("#######.##..#"), SPACING_MM, known=known)
    assert matches.reference.dice.tolist() == [1, 1]
    assert matches.predicted.kind.tolist() == ["matched", "matched"]
    # The reference's own voxels there do not count either: 0 and 1 of 0 to 4.
    matches = match_lesions(line("#####........"), line("##..........."), SPACING_MM, known=known)
    assert matches.reference.voxels.tolist() == [2]


def test_score_is_the_maximum_and_reaches_every_lesion_that_is_touched():
    score = np.zeros((3, 3, 9))
    score[1, 1] = [9, 0.2, 0.4, 9, 0.6, 0.5, 9, -1, 9]
    # Predicted: 1 and 2; 4 and 5; 7. The first two touch the lesion 2 to 4, the third the one that is ignored.
    matches = match("..###..#.", ".##.##.#.", score=score, min_volume_mm3=4)
    assert matches.predicted.score.tolist() == [0.4, 0.6, -1]
    np.testing.assert_array_equal(matches.reference.score, [0.6, np.nan])


def test_centroids_in_mm_along_each_axis():
    reference = np.zeros((9, 8, 7), bool)
    reference[4:6, 3, 2] = True  # mean index (4.5, 3, 2)
    prediction = np.zeros_like(reference)
    prediction[7, 1:4, 6] = True  # (7, 2, 6)
    matches = match_lesions(reference, prediction, SPACING_MM)
    np.testing.assert_allclose(matches.reference.centroid_mm, [[4.5 * 0.5, 3 * 2, 2 * 3]])
    np.testing.assert_allclose(matches.predicted.centroid_mm, [[7 * 0.5, 2 * 2, 6 * 3]])


@pytest.mark.parametrize(("connectivity", "expected"), [(6, 4), (18, 3), (26, 2)])
def test_connectivity(connectivity, expected):
    # (0,0,0)-(1,1,0) share an edge, (1,1,0)-(2,2,1) a corner, (4,4,4) is apart.
    mask = np.zeros((5, 5, 5), bool)
    mask[0, 0, 0] = mask[1, 1, 0] = mask[2, 2, 1] = mask[4, 4, 4] = True
    matches = match_lesions(mask, mask, SPACING_MM, connectivity=connectivity)
    assert len(matches.reference) == len(matches.predicted) == expected


@pytest.mark.parametrize(("connectivity", "expected"), [(4, 2), (6, 2), (8, 1), (26, 1)])
def test_two_dimensional_masks(connectivity, expected):
    matches = match_lesions(np.eye(2, dtype=bool), np.ones((2, 2), bool), (2.0, 3.0), connectivity)
    assert len(matches.reference) == expected
    assert matches.reference.volume_mm3.sum() == 12  # two pixels of 2 x 3
    assert matches.reference.centroid_mm.shape == (expected, 2)
    assert matches.reference.hit.all()


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 4)])
@pytest.mark.parametrize(("truth", "found"), [(False, False), (True, False), (False, True), (True, True)])
def test_empty_and_full(shape, truth, found):
    matches = match_lesions(np.full(shape, truth), np.full(shape, found), SPACING_MM[: len(shape)])
    assert matches.reference.kind.tolist() == ["matched" if found else "missed"] * truth
    assert matches.predicted.kind.tolist() == ["matched" if truth else "false_positive"] * found
    assert matches.reference.centroid_mm.shape == (int(truth), len(shape))
    for lesions in (matches.reference, matches.predicted):
        assert [lesions.voxels.dtype, lesions.volume_mm3.dtype] == [np.int64, np.float64]
        assert lesions.hit.dtype == lesions.matched.dtype == lesions.counted.dtype == bool
        assert lesions.dice.dtype == lesions.iou.dtype == lesions.score.dtype == np.float64
        assert lesions.kind.dtype.kind == "U"


def test_ids_are_those_of_the_lesion_maps():
    mask = np.random.default_rng(0).random((12, 11, 10)) < 0.04
    matches = match_lesions(mask, np.zeros_like(mask), SPACING_MM)
    components = lesion_components(mask, spacing=SPACING_MM)
    np.testing.assert_array_equal(matches.reference.voxels, components.voxels)
    for number, centroid in enumerate(matches.reference.centroid_mm, start=1):
        np.testing.assert_allclose(np.argwhere(components.ids == number).mean(0) * SPACING_MM, centroid)


def test_inputs_stay_unchanged_and_may_be_read_only_views():
    reference, prediction = np.random.default_rng(1).random((2, 8, 7, 6)) < 0.1
    copies = reference.copy(), prediction.copy()
    views = [mask.transpose(2, 1, 0)[::-1] for mask in (reference, prediction)]
    for view in views:
        view.setflags(write=False)
    turned = match_lesions(*views, SPACING_MM[::-1])
    straight = match_lesions(reference, prediction, SPACING_MM)
    assert sorted(turned.reference.kind) == sorted(straight.reference.kind)
    np.testing.assert_array_equal(reference, copies[0])
    np.testing.assert_array_equal(prediction, copies[1])


def test_wrong_input_is_refused():
    mask = np.ones((3, 3, 3), bool)
    with pytest.raises(ValueError, match=r"boolean prediction, but got int64\. Pass labels == class_id"):
        match_lesions(mask, mask.astype(np.int64), SPACING_MM)
    with pytest.raises(ValueError, match="equal shape"):
        match_lesions(mask, mask[:2], SPACING_MM)
    with pytest.raises(ValueError, match="equal shape"):
        match_lesions(mask, mask, SPACING_MM, known=mask[:2])
    with pytest.raises(ValueError, match=r"one spacing per array axis \(3\), but got 2"):
        match_lesions(mask, mask, (1.0, 1.0))
    with pytest.raises(ValueError, match=r"one of \(6, 18, 26\), but got 8"):
        match_lesions(mask, mask, SPACING_MM, connectivity=8)
    for volume in ("nan", "inf", "-1.0"):
        with pytest.raises(ValueError, match=f"min_volume_mm3 of at least 0, but got {volume}"):
            match_lesions(mask, mask, SPACING_MM, min_volume_mm3=float(volume))
    with pytest.raises(ValueError, match=r"scores of the masks' shape, \(3, 3, 3\), but got \(2, 3, 3\)"):
        match_lesions(mask, mask, SPACING_MM, score=np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match="score for every voxel of a lesion, but got NaN"):
        match_lesions(mask, mask, SPACING_MM, score=np.full((3, 3, 3), np.nan))
    with pytest.raises(ValueError, match=r"shape \(X, Y\[, Z\]\)"):
        match_lesions(mask[0, 0], mask[0, 0], SPACING_MM[:1])
