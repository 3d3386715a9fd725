import numpy as np
import pytest
import references

from nnunet_rw.maps import active_contour_maps, rectified_region_wise_maps

SPACING_MM = (0.7, 1.3, 2.5)
IGNORE = 9


def test_line_by_hand():
    # D in steps of 2 mm: 6 4 2 | 2 4. Each class is divided by its own maximum, 6 and 4; outside it is +1.
    maps = rectified_region_wise_maps(np.array([[0, 0, 0, 1, 1]]), num_classes=2, spacing=(5, 2))
    np.testing.assert_allclose(maps, [[[-1, -2 / 3, -1 / 3, 1, 1]], [[1, 1, 1, -1 / 2, -1]]], rtol=1e-6)


def test_anisotropic_by_hand():
    # A lesion of 1 x 2 x 2 voxels at the border, spacing 3 x 2 x 5 mm: one step along axis 0 leaves it, 3 mm, where
    # its second voxels on axis 1 are 2 mm from the background. So its values are -1 and -2/3.
    labels = np.zeros((3, 4, 2), int)
    labels[0, :2] = 1
    lesion = rectified_region_wise_maps(labels, 2, spacing=(3, 2, 5))[1]
    np.testing.assert_allclose(lesion[0], [[-1, -1], [-2 / 3, -2 / 3], [1, 1], [1, 1]], rtol=1e-6)
    assert np.all(lesion[1:] == 1)


def test_absent_class_is_one_everywhere_and_a_full_one_minus_one():
    maps = rectified_region_wise_maps(np.full((3, 4, 2), 1), num_classes=3, spacing=SPACING_MM)
    assert [np.unique(channel).tolist() for channel in maps] == [[1], [-1], [1]]


@pytest.mark.parametrize("index", [(0, 0, 0), (2, 3, 1), (4, 5, 3)])
def test_single_voxel_is_minus_one_in_its_map(index):
    labels = np.zeros((5, 6, 4), np.uint8)
    labels[index] = 1
    background, lesion = rectified_region_wise_maps(labels, 2, SPACING_MM)
    assert lesion[index] == -1
    assert lesion.sum() == lesion.size - 2
    assert background[index] == 1
    assert background.min() == -1


def test_ignored_voxels_are_one_and_no_boundary():
    # 0 0 0 ? 1: to the nearest known voxel of the other class 4 3 2 . 2, of the maximum 4 and 2.
    maps = rectified_region_wise_maps(np.array([[0, 0, 0, IGNORE, 1]]), 2, ignore_label=IGNORE)
    np.testing.assert_allclose(maps, [[[-1, -3 / 4, -1 / 2, 1, 1]], [[1, 1, 1, 1, -1]]], rtol=1e-6)


def test_all_ignored():
    assert np.all(rectified_region_wise_maps(np.full((3, 4), IGNORE), 2, ignore_label=IGNORE) == 1)


def test_minus_one_is_background():
    labels = references.random_blobs((9, 8, 7), 3, seed=1).astype(np.int16)
    labels[:2] = -1
    np.testing.assert_array_equal(
        rectified_region_wise_maps(labels, 3, SPACING_MM),
        rectified_region_wise_maps(np.maximum(labels, 0), 3, SPACING_MM),
    )


def test_255_labels():
    labels = np.arange(256, dtype=np.uint8)[None]
    maps = rectified_region_wise_maps(labels, 256)
    np.testing.assert_array_equal(maps[:, 0], 1 - 2 * np.eye(256, dtype=np.float32))


def test_only_the_ratios_of_the_spacing_matter():
    labels = references.random_blobs((9, 8, 7), 3, seed=2)
    np.testing.assert_allclose(
        rectified_region_wise_maps(labels, 3, SPACING_MM),
        rectified_region_wise_maps(labels, 3, np.multiply(3, SPACING_MM)),
        atol=1e-6,
    )


@pytest.mark.parametrize("shape", [(14, 17, 11), (19, 23)])
@pytest.mark.parametrize("ignore_label", [None, 3])
def test_equals_the_slow_reference(shape, ignore_label):
    for seed in range(3):
        labels = references.random_blobs(shape, 4, seed)
        spacing = SPACING_MM[: len(shape)]
        maps = rectified_region_wise_maps(labels, 3, spacing, ignore_label)
        assert maps.dtype == np.float32
        assert maps.shape == (3, *shape)
        expected = references.rectified_region_wise_maps(labels, 3, spacing, ignore_label)
        np.testing.assert_allclose(maps, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64])
@pytest.mark.parametrize("view", [np.asarray, np.asfortranarray, lambda a: a[::2, ::-1]])
def test_type_and_layout_of_the_labels_do_not_matter(dtype, view):
    labels = references.random_blobs((10, 8, 6), 2, seed=3)
    expected = rectified_region_wise_maps(view(labels).copy("C"), 2, SPACING_MM)
    given = view(labels.astype(dtype))
    given.setflags(write=False)
    np.testing.assert_array_equal(rectified_region_wise_maps(given, 2, SPACING_MM), expected)
    np.testing.assert_array_equal(active_contour_maps(given, 2)[1] < 0, given > 0)


def test_errors():
    with pytest.raises(ValueError, match="one spacing per array axis"):
        rectified_region_wise_maps(np.zeros((3, 3), int), 2, SPACING_MM)
    with pytest.raises(ValueError, match="integer labels, but got float64"):
        rectified_region_wise_maps(np.zeros((3, 3)), 2)
    with pytest.raises(ValueError, match=r"labels of shape \(X, Y\[, Z\]\), but got \(3,\)"):
        rectified_region_wise_maps(np.zeros(3, int), 2)
    with pytest.raises(ValueError, match="integer labels, but got float64"):
        active_contour_maps(np.zeros((3, 3)), 2)


def test_active_contour_by_hand():
    maps = active_contour_maps(np.array([[-1, 0, 2, 2]], np.int8), num_classes=3)
    assert maps.dtype == np.float32
    assert maps.tolist() == [[[-1, -1, 1, 1]], [[1, 1, 1, 1]], [[1, 1, -1, -1]]]


def test_active_contour_of_three_axes():
    labels = references.random_blobs((6, 5, 4), 3, seed=4)
    expected = np.stack([np.where(labels == c, -1, 1) for c in range(3)])
    np.testing.assert_array_equal(active_contour_maps(labels, 3), expected)
