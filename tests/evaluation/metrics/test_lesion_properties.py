"""Matching of random lesions: agreement with a slow loop, and what must not matter."""

import numpy as np
import pytest
from lesion_references import match, random_boxes
from references import random_blobs

from nnunet_rw.evaluation.metrics.detection import count_detections, panoptic_quality, pool_panoptic
from nnunet_rw.evaluation.metrics.lesions import Lesions, match_lesions

SPACING_MM = (0.5, 2.0, 3.0)
FIELDS = ("voxels", "volume_mm3", "counted", "hit", "kind", "iou", "score")


def boxes(seed):
    return random_boxes(seed, shape=(18, 16, 14), count=12)


def specks(seed):
    return tuple(np.random.default_rng(seed).random((2, 12, 11, 9)) < 0.05)


def blobs(seed):
    reference = random_blobs((16, 14, 12), 2, seed) == 1
    return reference, np.roll(reference, 2, axis=seed % 3)


def swollen(seed):
    return np.random.default_rng(seed).random((18, 16, 14)) < 0.01, boxes(seed)[1]


def plane(seed):
    return tuple(np.random.default_rng(seed).random((2, 16, 15)) < 0.15)


MASKS = [boxes, specks, blobs, swollen, plane]


def rows(lesions: Lesions, fields=FIELDS, flipped_mm=None):
    """A tuple a lesion, sorted by centroid, that of a flipped mask being turned back."""
    centroids = lesions.centroid_mm if flipped_mm is None else flipped_mm - lesions.centroid_mm
    columns = [getattr(lesions, field).tolist() for field in fields]
    return sorted(zip(np.round(centroids, 6).tolist(), *columns, strict=True), key=lambda row: row[0])


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("connectivity", [6, 26])
@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_a_loop_over_lesions(masks, connectivity, seed):
    reference, prediction = masks(seed)
    spacing = SPACING_MM[: reference.ndim]
    minimum = 2 * np.prod(spacing)
    score = np.random.default_rng(seed).random(reference.shape)
    matches = match_lesions(reference, prediction, spacing, connectivity, minimum, score=score)
    references, predictions, total = match(reference, prediction, spacing, connectivity, minimum, score)
    for lesions, expected in ((matches.reference, references), (matches.predicted, predictions)):
        assert len(lesions) == len(expected) > 0
        expected.sort(key=lambda lesion: np.round(lesion["centroid_mm"], 6).tolist())
        for row, lesion in zip(rows(lesions), expected, strict=True):
            np.testing.assert_allclose(row[0], lesion["centroid_mm"], atol=1e-5)
            for field, value in zip(FIELDS, row[1:], strict=True):
                if isinstance(value, float):
                    np.testing.assert_allclose(value, lesion[field], rtol=1e-12)
                else:
                    assert value == lesion[field], field

    pairs = matches.pairs
    chosen = pairs.matched
    assert pairs.iou[chosen].sum() == pytest.approx(total)
    assert len(set(pairs.reference[chosen])) == len(set(pairs.predicted[chosen])) == chosen.sum()
    np.testing.assert_allclose(pairs.dice, 2 * pairs.iou / (1 + pairs.iou))
    for lesions, column in ((matches.reference, pairs.reference), (matches.predicted, pairs.predicted)):
        dice = np.where(lesions.counted, 0.0, np.nan)
        dice[column[chosen]] = pairs.dice[chosen]
        np.testing.assert_array_equal(lesions.dice, dice)
        assert set(np.flatnonzero(lesions.matched)) == set(column[chosen])
        assert lesions.matched[lesions.kind == "matched"].all()
        assert not lesions.matched[lesions.kind == "over_segmented"].any()


@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("seed", range(3))
def test_flips_and_the_numbering_that_they_change_do_not_matter(masks, seed):
    reference, prediction = masks(seed)
    score = np.random.default_rng(seed).random(reference.shape)
    spacing = SPACING_MM[: reference.ndim]
    straight = match_lesions(reference, prediction, spacing, score=score)
    for axis in range(reference.ndim):
        flipped = match_lesions(
            *(np.flip(a, axis) for a in (reference, prediction)), spacing, score=np.flip(score, axis)
        )
        far = np.zeros(reference.ndim)
        far[axis] = (reference.shape[axis] - 1) * spacing[axis]
        turned = np.where(np.arange(reference.ndim) == axis, -1, 1)
        for before, after in ((straight.reference, flipped.reference), (straight.predicted, flipped.predicted)):
            sizes = ("voxels", "volume_mm3", "hit", "kind", "iou")
            back = Lesions(**{**vars(after), "centroid_mm": far + turned * after.centroid_mm})
            assert rows(back, sizes) == rows(before, sizes)
            assert sorted(after.dice) == pytest.approx(sorted(before.dice))
            assert sorted(after.score[after.hit]) == sorted(before.score[before.hit])


@pytest.mark.parametrize("masks", MASKS)
def test_exchanged_masks_exchange_the_sides(masks):
    reference, prediction = masks(7)
    spacing = SPACING_MM[: reference.ndim]
    one, other = match_lesions(reference, prediction, spacing), match_lesions(prediction, reference, spacing)
    np.testing.assert_array_equal(one.reference.hit, other.predicted.hit)
    np.testing.assert_array_equal(one.predicted.iou, other.reference.iou)
    assert sorted(one.reference.dice) == pytest.approx(sorted(other.predicted.dice))
    names = {"missed": "false_positive", "split": "merged", "merged": "split"}
    both = np.isin(one.reference.kind, list(names))
    # A lesion in pairs of either kind is merged from both sides.
    for before, after in zip(one.reference.kind[both], other.predicted.kind[both], strict=True):
        assert after in (names[before], "merged")


def test_every_kind_occurs_among_them():
    kinds = {"matched", "merged", "split", "under_segmented", "over_segmented"}
    cases = [
        match_lesions(*masks(seed), SPACING_MM, min_volume_mm3=minimum)
        for masks, minimum in ((boxes, 9), (specks, 9), (swollen, 0))
        for seed in range(8)
    ]
    assert {*np.concatenate([case.reference.kind for case in cases])} == {*kinds, "missed", "ignored"}
    assert {*np.concatenate([case.predicted.kind for case in cases])} == {*kinds, "false_positive", "neutral"}


def test_order_of_cases_does_not_matter():
    cases = [match_lesions(*boxes(seed), SPACING_MM, min_volume_mm3=9) for seed in range(5)]
    for rule in ("any_overlap", "one_to_one"):
        assert count_detections(cases, rule) == count_detections(cases[::-1], rule)
    pooled = [pool_panoptic([panoptic_quality(case) for case in order]) for order in (cases, cases[::-1])]
    assert pooled[0].pq == pytest.approx(pooled[1].pq, abs=1e-12)
    assert (pooled[0].tp, pooled[0].fp, pooled[0].fn) == (pooled[1].tp, pooled[1].fp, pooled[1].fn)
