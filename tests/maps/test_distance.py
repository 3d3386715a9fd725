import numpy as np
import pytest
import references

from nnunet_rw.maps import (
    boundary_maps,
    interior_distance,
    rectified_region_wise_maps,
    signed_distance,
)

SPACING_MM = (0.7, 1.3, 2.5)
TOLERANCE_MM = 1e-4  # edt computes in float32, SciPy in float64
IGNORE = 9


def single_voxel(shape, index, dtype=np.uint8):
    labels = np.zeros(shape, dtype)
    labels[index] = 1
    return labels


class TestInteriorDistance:
    def test_voxel_in_the_corner_by_hand(self):
        # Lesion of one voxel at the origin, spacing 3 x 2 x 5 mm. Its nearest background is one step along axis 1.
        # The background's distance is that of its centre to the origin: sqrt((3 i)^2 + (2 j)^2 + (5 k)^2).
        distance = interior_distance(single_voxel((2, 2, 2), (0, 0, 0)), spacing=(3, 2, 5))
        expected = [[[2, 5], [2, np.sqrt(4 + 25)]], [[3, np.sqrt(9 + 25)], [np.sqrt(9 + 4), np.sqrt(9 + 4 + 25)]]]
        np.testing.assert_allclose(distance, expected, rtol=1e-6)

    def test_three_labels_on_a_line_by_hand(self):
        # Each voxel to the nearest of another label, whichever it is, in steps of 2 mm; borders are no boundary.
        distance = interior_distance(np.array([[0, 0, 0, 2, 2, 1]]), spacing=(7, 2))
        assert distance.tolist() == [[6, 4, 2, 2, 2, 2]]

    def test_lesion_of_three_voxels_in_the_middle_by_hand(self):
        distance = interior_distance(np.array([[0, 0, 1, 1, 1, 0, 0]]), spacing=(1, 0.5))
        assert distance.tolist() == [[1, 0.5, 0.5, 1, 0.5, 0.5, 1]]

    @pytest.mark.parametrize("value", [0, 1, 7, 255])
    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 5)])
    def test_one_label_gives_the_diagonal(self, value, shape):
        # Of 3 x 4 pixels of 1 mm: 5 mm. Of 3 x 4 x 5 voxels: sqrt(9 + 16 + 25) mm.
        distance = interior_distance(np.full(shape, value, np.uint8))
        np.testing.assert_allclose(distance, np.full(shape, 5 if len(shape) == 2 else np.sqrt(50)), rtol=1e-6)

    def test_diagonal_is_in_mm(self):
        distance = interior_distance(np.zeros((3, 4), int), spacing=(2, 3))  # 6 x 12 mm
        np.testing.assert_allclose(distance, np.full((3, 4), np.sqrt(36 + 144)), rtol=1e-6)

    def test_255_labels_do_not_overflow(self):
        # 256 labels on a line, all one step from the next; edt takes 0 for "outside", so labels are shifted by one.
        assert interior_distance(np.arange(256, dtype=np.uint8)[None]).tolist() == [[1.0] * 256]

    @pytest.mark.parametrize(
        ("dtype", "highest"), [(np.uint8, 255), (np.uint16, 65535), (np.int32, 65536), (np.int64, 70000)]
    )
    def test_highest_label_does_not_wrap_around(self, dtype, highest):
        assert interior_distance(np.array([[0, 0, highest, highest, highest]], dtype)).tolist() == [[2, 1, 1, 2, 3]]

    def test_minus_one_is_background(self):
        outside = np.array([[-1, -1, 0, 1, -1]], np.int8)
        np.testing.assert_array_equal(interior_distance(outside), interior_distance(np.maximum(outside, 0)))
        assert interior_distance(np.full((3, 4), -1)).max() == 5  # nothing but background: the diagonal

    def test_ignored_voxels_are_no_boundary(self):
        # 0 0 ? 1 1 in steps of 2 mm: the nearest *known* voxel of the other class lies beyond the ignored one.
        distance = interior_distance(np.array([[0, 0, IGNORE, 1, 1]]), spacing=(1, 2), ignore_label=IGNORE)
        assert distance.tolist() == [[6, 4, 0, 4, 6]]

    def test_one_known_label_beside_ignored_ones_gives_the_diagonal(self):
        distance = interior_distance(np.array([[1, 1, IGNORE]] * 4), ignore_label=IGNORE)
        assert distance.tolist() == [[5, 5, 0]] * 4

    def test_all_ignored_gives_zero(self):
        assert not interior_distance(np.full((3, 4), IGNORE), ignore_label=IGNORE).any()

    def test_negative_ignore_label(self):
        with pytest.raises(ValueError, match="ignore label of at least 0, since below is background, but got -1"):
            interior_distance(np.array([[0, -1, 1]]), ignore_label=-1)

    def test_ignore_label_that_does_not_occur_changes_nothing(self):
        labels = references.random_blobs((9, 8, 7), 3, seed=1)
        np.testing.assert_array_equal(
            interior_distance(labels, SPACING_MM, ignore_label=IGNORE), interior_distance(labels, SPACING_MM)
        )

    def test_without_spacing_the_unit_is_the_voxel(self):
        labels = references.random_blobs((9, 8, 7), 3, seed=1)
        np.testing.assert_array_equal(interior_distance(labels), interior_distance(labels, (1, 1, 1)))

    def test_spacing_scales(self):
        labels = references.random_blobs((9, 8, 7), 3, seed=1)
        thrice = interior_distance(labels, np.multiply(3, SPACING_MM))
        np.testing.assert_allclose(thrice, 3 * interior_distance(labels, SPACING_MM), rtol=1e-5)

    @pytest.mark.parametrize("shape", [(14, 17, 11), (19, 23), (1, 9, 8), (12, 1, 1)])
    @pytest.mark.parametrize("num_classes", [2, 4])
    def test_equals_the_slow_reference(self, shape, num_classes):
        for seed in range(3):
            labels = references.random_blobs(shape, num_classes, seed)
            spacing = SPACING_MM[: len(shape)]
            expected = references.interior_distance(labels, spacing)
            np.testing.assert_allclose(interior_distance(labels, spacing), expected, rtol=0, atol=TOLERANCE_MM)

    @pytest.mark.parametrize("shape", [(14, 17, 11), (19, 23)])
    def test_equals_the_slow_reference_with_ignored_voxels(self, shape):
        labels = references.random_blobs(shape, 4, seed=5)
        labels[labels == 3] = IGNORE
        spacing = SPACING_MM[: len(shape)]
        expected = references.interior_distance(labels, spacing, IGNORE)
        distance = interior_distance(labels, spacing, ignore_label=IGNORE)
        np.testing.assert_allclose(distance, expected, rtol=0, atol=TOLERANCE_MM)

    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int8, np.int16, np.uint16, np.int32, np.int64])
    def test_every_integer_type_gives_the_same_float32(self, dtype):
        labels = references.random_blobs((9, 8, 7), 2, seed=2)
        distance = interior_distance(labels.astype(dtype), SPACING_MM)
        assert distance.dtype == np.float32
        np.testing.assert_array_equal(distance, interior_distance(labels, SPACING_MM))

    @pytest.mark.parametrize("view", [np.asfortranarray, lambda a: a[::-1, :, ::2], lambda a: a.transpose(2, 0, 1)])
    @pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
    def test_memory_layout_does_not_matter(self, view, dtype):
        labels = view(references.random_blobs((10, 8, 6), 2, seed=3).astype(dtype))
        np.testing.assert_array_equal(
            interior_distance(labels, SPACING_MM), interior_distance(labels.copy("C"), SPACING_MM)
        )

    def test_input_is_unchanged(self):
        labels = references.random_blobs((9, 8, 7), 3, seed=4).astype(np.int16) - 1
        before = labels.copy()
        labels.setflags(write=False)
        interior_distance(labels, SPACING_MM)
        interior_distance(labels, SPACING_MM, ignore_label=1)
        np.testing.assert_array_equal(labels, before)

    def test_mirrored_labels_give_the_mirrored_map(self):
        labels = references.random_blobs((9, 8, 7), 3, seed=6)
        mirrored = interior_distance(labels[::-1, :, ::-1], SPACING_MM)
        np.testing.assert_array_equal(mirrored, interior_distance(labels, SPACING_MM)[::-1, :, ::-1])

    @pytest.mark.parametrize("spacing", [(1.0,), (1.0, 2.0), (1.0, 2.0, 3.0, 4.0)])
    def test_spacing_of_wrong_length(self, spacing):
        with pytest.raises(ValueError, match=rf"one spacing per array axis \(3\), but got {len(spacing)}"):
            interior_distance(np.zeros((2, 2, 2), int), spacing)

    @pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
    def test_spacing_that_is_no_length(self, bad):
        with pytest.raises(ValueError, match="spacing above 0 mm on every axis"):
            interior_distance(np.zeros((2, 2, 2), int), (1.0, bad, 1.0))

    def test_float_labels(self):
        with pytest.raises(ValueError, match="integer labels, but got float32"):
            interior_distance(np.zeros((2, 2, 2), np.float32))

    @pytest.mark.parametrize("shape", [(4,), (1, 2, 2, 2)])
    def test_labels_without_two_or_three_axes(self, shape):
        with pytest.raises(ValueError, match=r"labels of shape \(X, Y\[, Z\]\)"):
            interior_distance(np.zeros(shape, int))

    def test_labels_without_voxels(self):
        with pytest.raises(ValueError, match="at least one voxel"):
            interior_distance(np.zeros((3, 0, 3), int))


class TestSignedDistance:
    def test_line_by_hand(self):
        # Inside, the distance to the nearest outside; outside, to the nearest inside; 2 mm per step.
        signed = signed_distance(np.array([[0, 0, 1, 1, 1, 1, 0]], bool), spacing=(3, 2))
        assert signed.tolist() == [[4, 2, -2, -4, -4, -2, 2]]

    def test_voxel_at_the_border_by_hand(self):
        signed = signed_distance(single_voxel((2, 2, 2), (1, 0, 1)).astype(bool), spacing=(3, 2, 5))
        expected = [
            [[np.sqrt(9 + 25), 3], [np.sqrt(9 + 4 + 25), np.sqrt(9 + 4)]],
            [[5, -2], [np.sqrt(4 + 25), 2]],
        ]
        np.testing.assert_allclose(signed, expected, rtol=1e-6)

    def test_empty_and_full(self):
        assert signed_distance(np.zeros((3, 4), bool)).tolist() == np.full((3, 4), 5.0).tolist()
        assert signed_distance(np.ones((3, 4), bool)).tolist() == np.full((3, 4), -5.0).tolist()

    def test_ignored_voxels_are_no_boundary(self):
        # out out ? in in: to the nearest known voxel of the other side; unknown voxels themselves hold 0.
        mask, ignore = np.array([[0, 0, 1, 1, 1]], bool), np.array([[0, 0, 1, 0, 0]], bool)
        assert signed_distance(mask, (1, 2), ignore).tolist() == [[6, 4, 0, -4, -6]]
        # Whether the mask holds an unknown voxel says nothing.
        assert signed_distance(mask & ~ignore, (1, 2), ignore).tolist() == [[6, 4, 0, -4, -6]]

    def test_empty_and_full_beside_ignored_voxels(self):
        ignore = np.zeros((3, 4), bool)
        ignore[0] = True
        assert signed_distance(np.zeros((3, 4), bool), None, ignore).tolist() == [[0] * 4, [5] * 4, [5] * 4]
        assert signed_distance(np.ones((3, 4), bool), None, ignore).tolist() == [[0] * 4, [-5] * 4, [-5] * 4]

    @pytest.mark.parametrize("shape", [(14, 17, 11), (19, 23)])
    @pytest.mark.parametrize("with_ignored", [False, True])
    def test_equals_the_slow_reference(self, shape, with_ignored):
        for seed in range(3):
            labels = references.random_blobs(shape, 3, seed)
            ignore = labels == 2 if with_ignored else None
            spacing = SPACING_MM[: len(shape)]
            expected = references.signed_distance(labels == 1, spacing, ignore)
            signed = signed_distance(labels == 1, spacing, ignore)
            np.testing.assert_allclose(signed, expected, rtol=0, atol=TOLERANCE_MM)

    def test_opposite_of_the_complement(self):
        mask = references.random_blobs((9, 8, 7), 2, seed=7) == 1
        np.testing.assert_array_equal(signed_distance(mask, SPACING_MM), -signed_distance(~mask, SPACING_MM))

    @pytest.mark.parametrize("ignored", [False, True])
    def test_type_and_inputs(self, ignored):
        labels = references.random_blobs((10, 8, 6), 3, seed=8)
        mask, ignore = np.asfortranarray(labels == 1), (labels == 2) & ignored
        before = mask.copy(), ignore.copy()
        mask.setflags(write=False)
        ignore.setflags(write=False)
        signed = signed_distance(mask, SPACING_MM, ignore)
        assert signed.dtype == np.float32
        np.testing.assert_array_equal(signed, signed_distance(mask.astype(np.uint8), SPACING_MM, ignore))
        np.testing.assert_array_equal(mask, before[0])
        np.testing.assert_array_equal(ignore, before[1])

    def test_mask_of_one_axis(self):
        with pytest.raises(ValueError, match=r"mask of shape \(X, Y\[, Z\]\), but got \(4,\)"):
            signed_distance(np.zeros(4, bool))

    def test_spacing_of_wrong_length(self):
        with pytest.raises(ValueError, match=r"one spacing per array axis \(2\)"):
            signed_distance(np.zeros((4, 4), bool), (1, 1, 1))


class TestBoundaryMaps:
    def test_line_by_hand(self):
        # Class 2 does not occur: its boundary does not exist, so its map is 0.
        maps = boundary_maps(np.array([[0, 0, 1, 1, 3]]), num_classes=4, spacing=(1, 2))
        assert maps.tolist() == [[[-4, -2, 2, 4, 6]], [[4, 2, -2, -2, 2]], [[0] * 5], [[8, 6, 4, 2, -2]]]

    def test_offset_is_added_inside_only(self):
        # In voxel units an offset of 1 makes the boundary's own voxels 0, as in the authors' code.
        maps = boundary_maps(np.array([[0, 0, 1, 1, 1]]), num_classes=2, inside_offset=1)
        assert maps.tolist() == [[[-1, 0, 1, 2, 3]], [[2, 1, 0, -1, -2]]]

    def test_one_label(self):
        # It fills the volume: its boundary does not exist either.
        maps = boundary_maps(np.full((3, 4), 1), num_classes=3, inside_offset=1)
        assert maps.shape == (3, 3, 4)
        assert not maps.any()

    def test_one_known_label_beside_ignored_ones(self):
        maps = boundary_maps(np.array([[1, 1, IGNORE, IGNORE]]), num_classes=2, ignore_label=IGNORE)
        assert not maps.any()
        # One voxel of another label, and both have a boundary.
        maps = boundary_maps(np.array([[1, 1, IGNORE, 0]]), num_classes=2, ignore_label=IGNORE)
        assert maps.tolist() == [[[3, 2, 0, -2]], [[-3, -2, 0, 2]]]

    def test_ignored_voxels_are_zero_and_no_boundary(self):
        maps = boundary_maps(np.array([[0, 0, IGNORE, 1, 1]]), num_classes=3, spacing=(1, 2), ignore_label=IGNORE)
        assert maps.tolist() == [[[-6, -4, 0, 4, 6]], [[6, 4, 0, -4, -6]], [[0] * 5]]

    def test_minus_one_is_background(self):
        labels = np.array([[-1, 0, 1, 1]], np.int16)
        np.testing.assert_array_equal(boundary_maps(labels, 2), boundary_maps(np.maximum(labels, 0), 2))

    def test_highest_of_256_classes(self):
        maps = boundary_maps(np.array([[0, 255, 255]], np.uint8), num_classes=256)
        assert maps[255].tolist() == [[1, -1, -2]]

    @pytest.mark.parametrize("shape", [(14, 17, 11), (19, 23)])
    @pytest.mark.parametrize("ignore_label", [None, 2])
    def test_equals_the_slow_reference(self, shape, ignore_label):
        labels = references.random_blobs(shape, 4, seed=9)
        spacing = SPACING_MM[: len(shape)]
        options = {"inside_offset": 0.25, "ignore_label": ignore_label}
        maps = boundary_maps(labels, 5, spacing, **options)
        assert maps.dtype == np.float32
        chosen = [0, 1, 3, 4]  # 2 is a class in one case and ignored in the other
        expected = references.boundary_maps(labels, 5, spacing, **options)
        np.testing.assert_allclose(maps[chosen], expected[chosen], rtol=0, atol=TOLERANCE_MM)

    def test_input_is_unchanged(self):
        labels = references.random_blobs((9, 8, 7), 3, seed=4).astype(np.int16) - 1
        before = labels.copy()
        labels.setflags(write=False)
        boundary_maps(labels, 2, SPACING_MM, inside_offset=1)
        np.testing.assert_array_equal(labels, before)


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


def test_errors():
    with pytest.raises(ValueError, match="one spacing per array axis"):
        rectified_region_wise_maps(np.zeros((3, 3), int), 2, SPACING_MM)
    with pytest.raises(ValueError, match="integer labels, but got float64"):
        rectified_region_wise_maps(np.zeros((3, 3)), 2)
    with pytest.raises(ValueError, match=r"labels of shape \(X, Y\[, Z\]\), but got \(3,\)"):
        rectified_region_wise_maps(np.zeros(3, int), 2)
