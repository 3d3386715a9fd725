from itertools import pairwise

import numpy as np
import pytest
from lesion_references import line, random_boxes

from nnunet_rw.evaluation.metrics.detection import PanopticQuality, panoptic_quality, pool_panoptic
from nnunet_rw.evaluation.metrics.lesions import match_lesions

SPACING_MM = (1.0, 2.0, 4.0)


def match(reference, prediction, **options):
    return match_lesions(line(reference), line(prediction), SPACING_MM, **options)


def test_by_hand():
    # IoU 3 / 4, 1 / 2 (not above 0.5), missed; one false positive.
    matches = match("####..##....#..", "###...#..##....")
    half = panoptic_quality(matches)
    assert (half.tp, half.fp, half.fn) == (1, 2, 2)
    assert half.sq == 3 / 4
    assert half.rq == 1 / (1 + 1 + 1)
    assert half.pq == half.sq * half.rq == 0.75 / 3
    tenth = panoptic_quality(matches, 0.1)
    assert (tenth.tp, tenth.fp, tenth.fn) == (2, 1, 1)
    assert tenth.sq == (3 / 4 + 1 / 2) / 2
    assert tenth.rq == 2 / (2 + 0.5 + 0.5)
    assert tenth.pq == pytest.approx(1.25 / 3)


def test_below_one_half_each_lesion_has_one_partner():
    # Two lesions of 4 in one prediction of 9: IoU 4 / 9 each.
    matches = match("####.####", "#########")
    quality = panoptic_quality(matches, 0.1)
    assert (quality.tp, quality.fp, quality.fn, quality.sq) == (1, 0, 1, 4 / 9)
    assert panoptic_quality(matches, 4 / 9).tp == 1  # at least
    assert panoptic_quality(matches, 0.45).tp == 0


def test_ignored_and_neutral_lesions_do_not_count():
    # A voxel has 8 mm3: the lesion of one voxel is ignored, found or not, and what lies on it is neutral.
    quality = panoptic_quality(match("##..#..#", "##..#...", min_volume_mm3=16))
    assert (quality.tp, quality.fp, quality.fn, quality.pq) == (1, 0, 0, 1)


@pytest.mark.parametrize("threshold", [0.1, 0.5])
def test_nothing_there(threshold):
    empty = panoptic_quality(match("....", "...."), threshold)
    assert np.isnan([empty.pq, empty.sq, empty.rq]).all()
    for pictures in (("##..", "...."), ("....", "##.."), ("##..", "...#")):
        quality = panoptic_quality(match(*pictures), threshold)
        assert (quality.tp, quality.pq, quality.rq) == (0, 0, 0)
        assert np.isnan(quality.sq)


def test_pooled_over_cases():
    cases = [PanopticQuality(1, 0, 0, 0.9), PanopticQuality(3, 2, 0, 1.8), PanopticQuality(0, 0, 2, 0.0)]
    pooled = pool_panoptic(cases)
    assert (pooled.tp, pooled.fp, pooled.fn) == (4, 2, 2)
    # The mean of the cases' PQ, (0.9 + 0.45 + 0) / 3 = 0.45, weighs the case with one lesion as much as the others.
    assert pooled.pq == pytest.approx(2.7 / 6)
    assert pooled.sq == pytest.approx(2.7 / 4)
    assert pooled.rq == 4 / 6
    assert np.isnan(pool_panoptic([]).pq)


@pytest.mark.parametrize("seed", range(6))
def test_lower_thresholds_match_more(seed):
    matches = match_lesions(*random_boxes(seed), SPACING_MM)
    found = [panoptic_quality(matches, threshold) for threshold in (0.1, 0.2, 0.3, 0.49, 0.5, 0.7, 0.9)]
    assert all(low.tp >= high.tp and low.iou_sum >= high.iou_sum for low, high in pairwise(found))
    assert found[0].tp == matches.reference.matched.sum() == matches.predicted.matched.sum()
    for quality in found:
        assert quality.tp + quality.fn == len(matches.reference)
        assert quality.tp + quality.fp == len(matches.predicted)


# What panoptica 2.1.7 (NumPy 2.2.6, SciPy 1.17.1) says of `random_boxes(seed)`: Panoptica_Evaluator with
# ConnectedComponentsInstanceApproximator() and MaxBipartiteMatching(Metric.IOU, threshold, strict_threshold=threshold
# >= 0.5). Columns: seed, threshold, tp, fp, fn, pq, sq (IoU), rq, sq_dsc (mean Dice of the matched pairs).
PANOPTICA = [
    (0, 0.5, 3, 6, 7, 0.21966902274412622, 0.6956185720230664, 0.3157894736842105, 0.814243921626472),
    (0, 0.1, 5, 4, 5, 0.29323299498001193, 0.5571426904620227, 0.5263157894736842, 0.6903875497537888),
    (1, 0.1, 5, 4, 7, 0.15612525707607008, 0.3278630398597472, 0.47619047619047616, 0.47407581036849333),
    (2, 0.5, 3, 10, 9, 0.18284057971014492, 0.7618357487922706, 0.24, 0.8624844940634414),
    (2, 0.1, 9, 4, 3, 0.33451309433002796, 0.4646015199028166, 0.72, 0.5967569517482284),
    (3, 0.5, 3, 7, 9, 0.20959595959595959, 0.7685185185185185, 0.2727272727272727, 0.8571428571428572),
    (3, 0.1, 7, 3, 5, 0.32758424581954, 0.5147752434307057, 0.6363636363636364, 0.6371722397879339),
    (4, 0.5, 4, 8, 5, 0.2557895951890543, 0.6714476873712676, 0.38095238095238093, 0.798922291240727),
    (4, 0.1, 8, 4, 1, 0.372032853410596, 0.48829312010140724, 0.7619047619047619, 0.6277397270822407),
]


@pytest.mark.parametrize(("seed", "threshold", "tp", "fp", "fn", "pq", "sq", "rq", "sq_dsc"), PANOPTICA)
def test_agrees_with_panoptica(seed, threshold, tp, fp, fn, pq, sq, rq, sq_dsc):
    matches = match_lesions(*random_boxes(seed), SPACING_MM)
    quality = panoptic_quality(matches, threshold)
    assert (quality.tp, quality.fp, quality.fn) == (tp, fp, fn)
    assert (quality.pq, quality.sq, quality.rq) == pytest.approx((pq, sq, rq), abs=1e-6)
    matched = matches.pairs.matched & (matches.pairs.iou > threshold)
    assert matches.pairs.dice[matched].mean() == pytest.approx(sq_dsc, abs=1e-6)


def test_where_panoptica_differs():
    # Seed 1 at 0.5: nothing is matched. panoptica has SQ 0 there, here it is the mean of no IoU.
    quality = panoptic_quality(match_lesions(*random_boxes(1), SPACING_MM))
    assert (quality.tp, quality.fp, quality.fn, quality.pq, quality.rq) == (0, 9, 12, 0, 0)
    assert np.isnan(quality.sq)


@pytest.mark.parametrize("threshold", [0, 1, -0.1, float("nan")])
def test_impossible_threshold(threshold):
    with pytest.raises(ValueError, match=f"IoU threshold between 0 and 1, but got {threshold}"):
        panoptic_quality(match("#", "#"), threshold)
