import numpy as np
import pytest
import references

from nnunet_rw.maps import boundary_maps, interior_distance, lesion_components, signed_distance
from nnunet_rw.maps.kinds import (
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    SIGNED_DISTANCE,
    LabelScheme,
    LesionTable,
    compute_distances,
    compute_lesion_ids,
    region_distances,
)

SPACING_MM = (0.7, 1.3, 2.5)
IGNORE = 4
DISTANCES = (INTERIOR_DISTANCE, SIGNED_DISTANCE)
REGIONS = LabelScheme(((1, 2, 3), (2, 3), (3,)), regions=True)  # whole, core, enhancing


class TestLabelScheme:
    def test_classes(self):
        scheme = LabelScheme.classes(3, ignore_label=IGNORE)
        assert scheme.foreground == ((1,), (2,))
        assert (scheme.num_heads, scheme.highest_label) == (3, IGNORE)
        assert [scheme.num_channels(kind) for kind in KINDS] == [1, 3, 2]
        assert LabelScheme.classes(3).highest_label == 2

    def test_regions_have_no_background_head(self):
        assert (REGIONS.num_heads, REGIONS.highest_label) == (3, 3)
        assert [REGIONS.num_channels(kind) for kind in KINDS] == [3, 3, 3]

    @pytest.mark.parametrize("scheme", [LabelScheme.classes(4), REGIONS])
    def test_maps_have_the_promised_channels(self, scheme):
        labels = references.random_blobs((6, 5, 4), 4, seed=0)
        for kind in DISTANCES:
            maps = compute_distances(kind, labels, scheme, SPACING_MM)
            assert maps.shape == (scheme.num_channels(kind), 6, 5, 4)
        assert len(compute_lesion_ids(labels, scheme)[0]) == scheme.num_channels(LESION_IDS)

    def test_masks(self):
        labels = np.array([[0, 1, 2, 3, IGNORE]])
        assert [mask.astype(int).tolist() for mask in REGIONS.masks(labels)] == [
            [[0, 1, 1, 1, 0]],
            [[0, 0, 1, 1, 0]],
            [[0, 0, 0, 1, 0]],
        ]


class TestDistances:
    def test_classes_are_the_maps_of_the_labels(self):
        labels = references.random_blobs((9, 8, 7), 4, seed=1)
        scheme = LabelScheme.classes(3, ignore_label=3)
        np.testing.assert_array_equal(
            compute_distances(INTERIOR_DISTANCE, labels, scheme, SPACING_MM),
            interior_distance(labels, SPACING_MM, ignore_label=3)[None],
        )
        np.testing.assert_array_equal(
            compute_distances(SIGNED_DISTANCE, labels, scheme, SPACING_MM),
            boundary_maps(labels, 3, SPACING_MM, ignore_label=3),
        )

    def test_overlapping_regions_by_hand(self):
        # Labels 0 1 2 2 0 0 in steps of 2 mm. Region (1, 2) covers voxels 1-3, region (2,) voxels 2-3, region (3,)
        # does not occur: it has no boundary, so its signed distance is 0; its interior distance the diagonal.
        labels = np.array([[0, 1, 2, 2, 0, 0]])
        signed = compute_distances(SIGNED_DISTANCE, labels, REGIONS, (5, 2))
        assert signed.tolist() == [[[2, -2, -4, -2, 2, 4]], [[4, 2, -2, -2, 2, 4]], [[0] * 6]]
        interior = compute_distances(INTERIOR_DISTANCE, labels, REGIONS, (5, 2))
        np.testing.assert_array_equal(interior[:2], np.abs(signed[:2]))
        np.testing.assert_allclose(interior[2], np.full((1, 6), 13.0))  # 5 x 12 mm

    @pytest.mark.parametrize("kind", DISTANCES)
    def test_region_that_fills_the_volume(self, kind):
        maps = compute_distances(kind, np.full((3, 4), 1), LabelScheme(((1, 2), (2,)), regions=True), (1, 1))
        assert np.all(maps[0] == (5 if kind == INTERIOR_DISTANCE else -5))

    def test_ignored_voxels_are_no_region_and_no_boundary(self):
        # 0 0 ? 1 1 as for classes: the nearest known voxel of the other side is two steps of 2 mm away.
        scheme = LabelScheme(((1, 2), (2,)), regions=True, ignore_label=IGNORE)
        labels = np.array([[0, 0, IGNORE, 1, 1]])
        signed = compute_distances(SIGNED_DISTANCE, labels, scheme, (1, 2))
        assert signed.tolist() == [[[6, 4, 0, -4, -6]], [[0] * 5]]

    def test_equals_the_slow_reference_for_regions(self):
        labels = references.random_blobs((12, 11, 9), 5, seed=2)  # 4 is ignored
        scheme = LabelScheme(REGIONS.foreground, regions=True, ignore_label=IGNORE)
        signed = compute_distances(SIGNED_DISTANCE, labels, scheme, SPACING_MM)
        expected = [
            references.signed_distance(np.isin(labels, group), SPACING_MM, labels == IGNORE)
            for group in REGIONS.foreground
        ]
        assert signed.dtype == np.float32
        np.testing.assert_allclose(signed, expected, rtol=0, atol=1e-4)

    def test_masks_may_overlap_in_any_way(self):
        a, b = (references.random_blobs((9, 8, 7), 2, seed=seed) == 1 for seed in (3, 4))
        np.testing.assert_array_equal(
            region_distances(SIGNED_DISTANCE, [a, b], SPACING_MM),
            [signed_distance(a, SPACING_MM), signed_distance(b, SPACING_MM)],
        )

    @pytest.mark.parametrize("kind", DISTANCES)
    @pytest.mark.parametrize("scheme", [LabelScheme.classes(4), LabelScheme.classes(3, ignore_label=3), REGIONS])
    def test_per_slice_is_the_map_of_every_slice(self, kind, scheme):
        labels = references.random_blobs((5, 9, 8), 4, seed=5)
        labels[2] = 0  # a slice without foreground
        maps = compute_distances(kind, labels, scheme, SPACING_MM, per_slice=True)
        assert maps.shape == (scheme.num_channels(kind), 5, 9, 8)
        for index in range(5):
            alone = compute_distances(kind, labels[index], scheme, SPACING_MM[1:])
            np.testing.assert_array_equal(maps[:, index], alone)
        # The spacing between the slices says nothing, and neither do their neighbours.
        other = compute_distances(kind, labels, scheme, (99.0, *SPACING_MM[1:]), per_slice=True)
        np.testing.assert_array_equal(other, maps)

    def test_per_slice_by_hand(self):
        # The lesion's slice: 1 step of 3 mm to the background, although the next slice is 1 mm away. The other slice
        # has one label: the diagonal of 2 x 3 mm by 4 x 3 mm.
        labels = np.zeros((2, 2, 4), int)
        labels[0, :, :2] = 1
        distance = compute_distances(INTERIOR_DISTANCE, labels, LabelScheme.classes(2), (1, 3, 3), per_slice=True)[0]
        assert distance[0].tolist() == [[6, 3, 3, 6]] * 2
        np.testing.assert_allclose(distance[1], np.full((2, 4), np.hypot(6, 12)), rtol=1e-6)

    def test_input_is_unchanged(self):
        labels = references.random_blobs((5, 9, 8), 4, seed=6).astype(np.int16) - 1
        before = labels.copy()
        labels.setflags(write=False)
        for scheme in (LabelScheme.classes(3), REGIONS):
            for kind in DISTANCES:
                compute_distances(kind, labels, scheme, SPACING_MM)
            compute_lesion_ids(labels, scheme)
        np.testing.assert_array_equal(labels, before)

    @pytest.mark.parametrize("per_slice", [False, True])
    def test_errors(self, per_slice):
        scheme = LabelScheme.classes(2)
        with pytest.raises(ValueError, match=r"one spacing per array axis \(3\), but got 2"):
            compute_distances(SIGNED_DISTANCE, np.zeros((3, 3, 3), int), scheme, (1, 1), per_slice)
        with pytest.raises(ValueError, match="integer labels, but got float64"):
            compute_distances(SIGNED_DISTANCE, np.zeros((3, 3, 3)), scheme, (1, 1, 1), per_slice)


class TestLesionIds:
    def test_classes_by_hand(self):
        # Lesions: label 1 at 0-1 and at 5, label 2 at 6. Each carried one voxel on within its class's channel.
        ids, table = compute_lesion_ids(np.array([[1, 1, 0, 0, 0, 1, 2, 0, -1]]), LabelScheme.classes(3))
        assert ids.dtype == np.uint16
        assert ids.tolist() == [[[1, 1, 1, 0, 2, 2, 2, 0, 0]], [[0, 0, 0, 0, 0, 3, 3, 3, 0]]]
        assert table.channels.tolist() == [0, 0, 1]
        assert table.voxels.tolist() == [2, 1, 1]
        assert table.boxes.tolist() == [[[0, 1], [0, 2]], [[0, 1], [5, 6]], [[0, 1], [6, 7]]]
        assert (table.num_voxels, len(table)) == (9, 3)

    def test_regions_by_hand(self):
        # Labels 1 3 0 2: the whole is two lesions; so is the core (2, 3); the enhancing part (3,) is one.
        ids, table = compute_lesion_ids(np.array([[1, 3, 0, 0, 2]]), REGIONS)
        assert ids.tolist() == [[[1, 1, 1, 2, 2]], [[3, 3, 3, 4, 4]], [[5, 5, 5, 0, 0]]]
        assert table.channels.tolist() == [0, 0, 1, 1, 2]
        assert table.voxels.tolist() == [2, 1, 1, 1, 1]

    @pytest.mark.parametrize("scheme", [LabelScheme.classes(4), LabelScheme.classes(3, ignore_label=3), REGIONS])
    def test_lesions_keep_their_id_and_ids_are_unique(self, scheme):
        labels = references.random_blobs((14, 13, 12), 4, seed=7)
        ids, table = compute_lesion_ids(labels, scheme)
        assert len(table) > len(scheme.foreground)
        seen = set()
        for channel, mask in enumerate(scheme.masks(labels)):
            own = lesion_components(mask).ids
            of_channel = set(np.unique(ids[channel])) - {0}
            assert not of_channel & seen
            seen |= of_channel
            for number in np.unique(own[own > 0]):
                inside = own == number
                (given,) = np.unique(ids[channel][inside])
                assert table.voxels[given - 1] == inside.sum()
                assert table.channels[given - 1] == channel
                box = tuple(slice(*axis) for axis in table.boxes[given - 1])
                assert inside[box].sum() == inside.sum()
        assert seen == set(range(1, len(table) + 1))

    def test_no_lesion(self):
        ids, table = compute_lesion_ids(np.zeros((3, 4, 2), int), LabelScheme.classes(3))
        assert not ids.any()
        assert ids.shape == (2, 3, 4, 2)
        assert (len(table), table.num_voxels, table.boxes.shape) == (0, 24, (0, 3, 2))

    def test_full(self):
        ids, table = compute_lesion_ids(np.ones((3, 4, 2), int), LabelScheme.classes(3))
        assert np.all(ids[0] == 1)
        assert not ids[1].any()
        assert table.voxels.tolist() == [24]

    def test_more_lesions_than_uint16_holds(self):
        # Every second voxel along each axis: 41^3 = 68921 lesions of one voxel.
        labels = np.zeros((81, 81, 81), np.uint8)
        labels[::2, ::2, ::2] = 1
        ids, table = compute_lesion_ids(labels, LabelScheme.classes(2))
        assert ids.dtype == np.uint32
        assert ids.max() == len(table) == 41**3
        assert len(np.unique(ids[0][labels == 1])) == 41**3

    def test_default_table_is_empty(self):
        assert len(LesionTable()) == 0
