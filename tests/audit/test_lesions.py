"""The lesions of a case."""

import numpy as np
import pytest

from nnunet_rw.audit.lesions import Lesions, find_case_lesions, pooled
from nnunet_rw.evaluation.metrics.surface import border_voxels
from nnunet_rw.maps.kinds import LabelScheme

SPACING_MM = (3.0, 1.0, 0.5)


def test_classes_on_their_own():
    labels = np.zeros((5, 6, 8), np.int16)
    labels[1:4, 1:4, 1:4] = 1
    labels[2, 2, 4] = 2  # touches class 1
    labels[4, 5, 7] = 1
    labels[0, 0, 0] = -1
    before = labels.copy()
    lesions, ids = find_case_lesions(labels, LabelScheme.classes(3), SPACING_MM)
    np.testing.assert_array_equal(labels, before)
    order = np.lexsort((-lesions.voxels, lesions.label))
    assert lesions.label[order].tolist() == [0, 0, 1]
    assert lesions.voxels[order].tolist() == [27, 1, 1]
    # Of a cube of 3 voxels all but the middle.
    assert lesions.border_voxels[order].tolist() == [26, 1, 1]
    assert lesions.volume_mm3[order].tolist() == [40.5, 1.5, 1.5]
    assert ids.shape == (1, 5, 6, 8)
    np.testing.assert_array_equal(np.bincount(ids.ravel())[1:], lesions.voxels)
    np.testing.assert_array_equal(ids[0] > 0, labels > 0)


def test_border_is_that_of_surface_distances(blobs):
    labels = blobs((20, 24, 16))
    lesions, _ = find_case_lesions(labels, LabelScheme.classes(2), SPACING_MM)
    assert lesions.border_voxels.sum() == border_voxels(labels == 1).sum()


def test_border_in_one_slice_is_that_of_an_image():
    # A square of 5 x 5 has 16 voxels along its sides; among further slices all are at the border of their lesion.
    for slices, border in ((1, 16), (3, 25)):
        labels = np.zeros((slices, 7, 7), np.int16)
        labels[slices // 2, 1:6, 1:6] = 1
        lesions, _ = find_case_lesions(labels, LabelScheme.classes(2), SPACING_MM)
        assert (lesions.voxels.tolist(), lesions.border_voxels.tolist()) == ([25], [border])


def test_regions_have_their_own_lesions_and_channels():
    labels = np.zeros((4, 4, 9), np.int16)
    labels[1:3, 1:3, 1:4] = 1
    labels[1, 1, [1, 3]] = 2
    scheme = LabelScheme(((1, 2), (2,)), regions=True)
    lesions, ids = find_case_lesions(labels, scheme, (1, 1, 1))
    assert lesions.label.tolist() == [0, 1, 1]
    assert lesions.voxels.tolist() == [12, 1, 1]
    assert ids.shape == (2, 4, 4, 9)
    assert set(np.unique(ids[0])) == {0, 1}
    assert set(np.unique(ids[1])) == {0, 2, 3}


@pytest.mark.parametrize("regions", [False, True])
def test_unlabelled_voxels_are_in_no_lesion(regions):
    labels = np.zeros((4, 4, 6), np.int16)
    labels[1, 1, :3] = 1
    labels[1, 1, 3:] = 3
    scheme = LabelScheme(((1, 2), (2,)), True, 3) if regions else LabelScheme.classes(3, ignore_label=3)
    lesions, ids = find_case_lesions(labels, scheme, (1, 1, 1))
    assert lesions.voxels.tolist() == [3]
    assert not ids[:, labels == 3].any()


def test_no_lesion_and_two_axes():
    lesions, ids = find_case_lesions(np.zeros((4, 5), np.int16), LabelScheme.classes(3), (1.0, 2.0))
    assert len(lesions) == 0
    assert not ids.any()
    square = np.zeros((5, 5), np.int16)
    square[1:4, 1:4] = 1
    lesions, _ = find_case_lesions(square, LabelScheme.classes(2), (1.0, 2.0))
    assert (lesions.border_voxels.tolist(), lesions.volume_mm3.tolist()) == ([8], [18.0])


def test_size_classes_are_those_of_evaluations():
    # Ten voxels of 0.1 mm3 each a hundred times are not below 100 mm3 by rounding.
    volumes = np.array([9.99, 10.0, 1000 * 0.1, 100 * (1 - 1e-12), 1000.0])
    voxels = np.ones(5, np.int64)
    lesions = Lesions(np.zeros(5, np.int64), voxels, voxels, volumes)
    assert lesions.size_class.tolist() == [0, 1, 2, 2, 3]
    assert pooled([lesions, lesions]).size_class.tolist() == [0, 1, 2, 2, 3] * 2
