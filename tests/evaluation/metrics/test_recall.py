import numpy as np
import pytest
from lesion_references import line, random_boxes

from nnunet_rw.evaluation.comparison.statistics import recall_interval
from nnunet_rw.evaluation.metrics.detection import recall_by_size
from nnunet_rw.evaluation.metrics.lesions import match_lesions

SPACING_MM = (0.5, 2.0, 3.0)  # a voxel has 3 mm3


def match(reference, prediction, **options):
    return match_lesions(line(reference), line(prediction), SPACING_MM, **options)


def counts(sizes):
    return [(size.num_found, size.num_lesions) for size in sizes]


def test_by_hand_pooled_over_cases():
    # Voxels 1 (missed), 3 and 2; 4 (missed) and 1. The edge of 9 mm3 is the lesion of 3 voxels: upper class.
    cases = [match("#..###..##", "...#....##"), match("####.#", ".....#"), match("...", "#..")]
    sizes = recall_by_size(cases, (0, 9, 12, 1000))
    assert [(size.low, size.high) for size in sizes] == [(0, 9), (9, 12), (12, 1000)]
    assert counts(sizes) == [(2, 3), (1, 1), (0, 1)]
    assert [size.recall for size in sizes] == [2 / 3, 1, 0]
    # Three cases tell no interval.
    assert np.isnan([sizes[0].recall_low, sizes[0].recall_high]).all()


def test_beyond_the_edges_and_empty_classes():
    sizes = recall_by_size([match("#..###", "#..###")], (6, 9, 12))
    assert counts(sizes) == [(0, 0), (1, 1)]
    assert np.isnan([sizes[0].recall, sizes[0].recall_low, sizes[0].recall_high]).all()
    assert counts(recall_by_size([], (0, 10))) == [(0, 0)]


def test_default_classes():
    # 1, 4 and 40 voxels of 3 mm3: 3, 12 and 120 mm3.
    reference = line("#.####." + 40 * "#")
    sizes = recall_by_size([match_lesions(reference, reference, SPACING_MM)])
    assert [size.high for size in sizes] == [10, 100, 1000, np.inf]
    assert counts(sizes) == [(1, 1), (1, 1), (1, 1), (0, 0)]


def test_lesion_on_an_edge_is_above_it_despite_rounding():
    # 10 voxels of 0.7 * 0.7 * 3 = 1.47 mm3 are 14.7 mm3; floating point gives 14.699999999999998.
    mask = line("##########")
    sizes = recall_by_size([match_lesions(mask, mask, (0.7, 0.7, 3.0))], (0, 14.7, 100))
    assert counts(sizes) == [(0, 0), (1, 1)]


def test_ignored_lesions_are_in_no_class():
    # The larger two share a predicted lesion, the third is ignored.
    case = match("###.##..#", "######..#", min_volume_mm3=6)
    assert counts(recall_by_size([case], (0, 1000))) == [(2, 2)]


def test_classes_add_up_and_order_of_cases_does_not_matter():
    cases = [match_lesions(*random_boxes(seed), SPACING_MM) for seed in range(4)]
    sizes = recall_by_size(cases)
    (total,) = recall_by_size(cases, (0, np.inf))
    assert sum(size.num_lesions for size in sizes) == total.num_lesions == sum(len(case.reference) for case in cases)
    assert sum(size.num_found for size in sizes) == total.num_found
    assert str(recall_by_size(cases[::-1])) == str(sizes)


def test_interval_is_over_cases_or_patients():
    # Twice seven of ten cases found.
    cases = [match("##.##", "##.##" if number % 10 < 7 else ".....") for number in range(20)]
    patients = [f"patient_{number % 10}" for number in range(20)]
    (by_case,), (by_patient,) = (recall_by_size(cases, (0, np.inf), units=units) for units in (None, patients))
    assert (by_case.num_found, by_case.num_lesions) == (by_patient.num_found, by_patient.num_lesions) == (28, 40)
    hits = np.arange(20) % 10 < 7
    assert (by_case.recall_low, by_case.recall_high) == recall_interval(range(20), hits)
    assert (by_patient.recall_low, by_patient.recall_high) == recall_interval(range(10), hits[:10])


def test_wrong_input_is_refused():
    for edges in ((1,), (1, 1), (2, 1), (0, float("nan"))):
        with pytest.raises(ValueError, match="two or more rising edges"):
            recall_by_size([], edges)
