import numpy as np
import pytest
from lesion_references import line
from scored_masks import scored_masks

from nnunet_rw.evaluation.metrics.detection import count_detections, found_lesions
from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.surface import surface_metrics
from nnunet_rw.maps.arrays import connected_components

SPACING_MM = (0.5, 2.0, 3.0)  # a voxel has 3 mm3


def match(reference, prediction, **options):
    return match_lesions(line(reference), line(prediction), SPACING_MM, **options)


@pytest.fixture
def cases():
    # Case 1: one predicted lesion finds two, and is the partner of one; one lesion is missed; one prediction is false.
    # Case 2: two predicted lesions find one, and one of them is its partner. Case 3: no lesion, one false prediction.
    return [match("###.##..##...", "######.....##"), match("#####", "##.##"), match("...", ".#.")]


def test_any_overlap_by_hand(cases):
    counts = count_detections(cases)
    assert (counts.num_cases, counts.num_lesions, counts.num_found) == (3, 4, 3)
    assert (counts.num_predicted, counts.num_false_positives) == (5, 2)
    assert counts.recall == 3 / 4  # pooled: the mean over the two cases with a lesion would be (2 / 3 + 1) / 2
    assert counts.precision == 3 / 5
    assert counts.false_positives_per_case == 2 / 3


def test_one_to_one_by_hand(cases):
    counts = count_detections(cases, "one_to_one")
    assert (counts.num_lesions, counts.num_found, counts.recall) == (4, 2, 2 / 4)
    # Of the two halves in case 2 one has no partner.
    assert (counts.num_predicted, counts.num_false_positives, counts.precision) == (5, 3, 2 / 5)


def test_overlap_of_a_quarter_and_of_a_half_by_hand():
    # Of four voxels one is covered, of four two, by two lesions, and of six one. Of predicted lesions 1 of 1, 1 of 2, 1
    # of 3 and 1 of 5 lie in the reference.
    cases = [match("####...####...######....", "#.....##..###......#####")]
    np.testing.assert_allclose(cases[0].reference.covered, [1 / 4, 2 / 4, 1 / 6])
    np.testing.assert_allclose(cases[0].predicted.covered, [1, 1 / 2, 1 / 3, 1 / 5])
    quarter, half = (count_detections(cases, rule) for rule in ("overlap_25", "overlap_50"))
    assert (quarter.num_lesions, quarter.num_found, quarter.num_predicted, quarter.num_false_positives) == (3, 2, 4, 1)
    assert (half.num_found, half.num_false_positives) == (1, 2)


@pytest.mark.parametrize("rule", ["any_overlap", "one_to_one", "overlap_25", "overlap_50"])
def test_ignored_and_neutral_lesions_are_in_no_number(rule):
    counts = count_detections([match("#..##.#", "#..##..", min_volume_mm3=6)], rule)
    assert (counts.num_lesions, counts.num_found, counts.num_predicted, counts.num_false_positives) == (1, 1, 1, 0)


def test_nothing_there():
    counts = count_detections([match("...", "...")])
    assert np.isnan([counts.recall, counts.precision]).all()
    assert counts.false_positives_per_case == 0
    assert np.isnan(count_detections([]).false_positives_per_case)


def test_volumes_of_false_and_missed_lesions_are_autopets():
    # Values of val_script.py of github.com/lab-midas/autoPET at 4681781 (MIT), in ml; its lesions are 18-connected.
    for seed, spacing, official_ml in ((0, (1, 1, 1), (0.489, 0.167)), (1, (0.9, 1.1, 2.5), (0.249975, 0.1485))):
        matches = match_lesions(*scored_masks(seed, spacing_mm=spacing), spacing, connectivity=18)
        assert (matches.false_positive_mm3 / 1000, matches.missed_mm3 / 1000) == pytest.approx(official_ml)


@pytest.mark.parametrize("shape", [(21, 20, 22), (1, 40, 41), (60, 62)])
def test_distances_of_partners_are_those_of_their_masks(shape):
    spacing = (2.0, 1.0, 0.7)[-len(shape) :]
    reference, prediction = scored_masks(6, shape, most=3)
    matches = match_lesions(reference, prediction, spacing, distances=True)
    ids = [
        connected_components(mask.astype(np.uint8), 8 if len(shape) == 2 else 26) for mask in (reference, prediction)
    ]
    pairs = np.flatnonzero(matches.pairs.matched)
    assert len(pairs) > 2
    for pair in pairs:
        partners = matches.pairs.reference[pair], matches.pairs.predicted[pair]
        masks = [found == number + 1 for found, number in zip(ids, partners, strict=True)]
        expected = surface_metrics(*masks, spacing)
        for lesions, number in zip((matches.reference, matches.predicted), partners, strict=True):
            assert lesions.hd95_mm[number] == pytest.approx(expected.hd95_mm, rel=1e-6)
            assert lesions.assd_mm[number] == pytest.approx(expected.assd_mm, rel=1e-6)
    assert np.isnan(matches.reference.hd95_mm).sum() == len(matches.reference) - len(pairs)
    assert np.isnan(match_lesions(reference, prediction, spacing).reference.hd95_mm).all()


def test_unknown_rule(cases):
    with pytest.raises(ValueError, match=r"one of \('any_overlap', 'one_to_one', .*\), but got 'iou'"):
        found_lesions(cases[0].reference, "iou")
