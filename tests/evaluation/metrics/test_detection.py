import numpy as np
import pytest
from lesion_references import line

from nnunet_rw.evaluation.metrics.detection import count_detections, found_lesions
from nnunet_rw.evaluation.metrics.lesions import match_lesions

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


@pytest.mark.parametrize("rule", ["any_overlap", "one_to_one"])
def test_ignored_and_neutral_lesions_are_in_no_number(rule):
    counts = count_detections([match("#..##.#", "#..##..", min_volume_mm3=6)], rule)
    assert (counts.num_lesions, counts.num_found, counts.num_predicted, counts.num_false_positives) == (1, 1, 1, 0)


def test_nothing_there():
    counts = count_detections([match("...", "...")])
    assert np.isnan([counts.recall, counts.precision]).all()
    assert counts.false_positives_per_case == 0
    assert np.isnan(count_detections([]).false_positives_per_case)


def test_unknown_rule(cases):
    with pytest.raises(ValueError, match=r"one of \('any_overlap', 'one_to_one'\), but got 'iou'"):
        found_lesions(cases[0].reference, "iou")
