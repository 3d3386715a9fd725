import numpy as np
import pytest
import references

from nnunet_rw.maps import boundary_maps, interior_distance, lesion_components
from nnunet_rw.maps.kinds import (
    BOUNDARY_DISTANCE,
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    LabelScheme,
    LesionTable,
    boundary_distance,
    compute_distances,
    compute_lesion_ids,
    lesion_channels,
    list_lesions,
    stored_kinds,
)

SPACING_MM = (0.7, 1.3, 2.5)
IGNORE = 4
DISTANCES = (INTERIOR_DISTANCE, BOUNDARY_DISTANCE)
REGIONS = LabelScheme(((1, 2, 3), (2, 3), (3,)), regions=True)  # whole, core, enhancing


class TestLabelScheme:
    def test_classes(self):
        scheme = LabelScheme.classes(3, ignore_label=IGNORE)
        assert scheme.foreground == ((1,), (2,))
        assert (scheme.num_heads, scheme.highest_label) == (3, IGNORE)
        assert scheme.all_foreground == (1, 2)
        assert LabelScheme.classes(3).highest_label == 2

    def test_regions_have_no_background_head(self):
        assert (REGIONS.num_heads, REGIONS.highest_label) == (3, 3)
        assert REGIONS.all_foreground == (1, 2, 3)

    def test_masks(self):
        labels = np.array([[0, 1, 2, 3, IGNORE]])
        assert [mask.astype(int).tolist() for mask in REGIONS.masks(labels)] == [
            [[0, 1, 1, 1, 0]],
            [[0, 0, 1, 1, 0]],
            [[0, 0, 0, 1, 0]],
        ]


class TestMapKind:
    def test_names_and_sampling(self):
        assert list(KINDS) == [INTERIOR_DISTANCE, BOUNDARY_DISTANCE, LESION_IDS]
        assert [kind.name for kind in KINDS.values()] == list(KINDS)
        assert [kind.sampling for kind in KINDS.values()] == ["linear", "linear", "nearest"]

    def test_groups_of_classes_say_where_each_channel_begins(self):
        # The background's boundary is that of all foreground; ignored labels are in none.
        scheme = LabelScheme.classes(4, ignore_label=IGNORE)
        assert KINDS[INTERIOR_DISTANCE].groups(scheme) == ((1, 2, 3),)
        assert KINDS[BOUNDARY_DISTANCE].groups(scheme) == ((1, 2, 3), (1,), (2,), (3,))
        assert KINDS[LESION_IDS].groups(scheme) == ((1,), (2,), (3,))

    @pytest.mark.parametrize("kind", KINDS)
    def test_groups_of_regions_are_the_regions(self, kind):
        assert KINDS[kind].groups(REGIONS) == ((1, 2, 3), (2, 3), (3,))

    @pytest.mark.parametrize("scheme", [LabelScheme.classes(2), LabelScheme.classes(4), REGIONS])
    def test_maps_have_as_many_channels_as_groups(self, scheme):
        labels = references.random_blobs((6, 5, 4), 4, seed=0)
        counts = [KINDS[kind].num_channels(scheme) for kind in KINDS]
        assert counts == ([3, 3, 3] if scheme.regions else [1, scheme.num_heads, scheme.num_heads - 1])
        maps = [compute_distances(kind, labels, scheme, SPACING_MM) for kind in DISTANCES]
        maps.append(compute_lesion_ids(labels, scheme)[0])
        assert [array.shape for array in maps] == [(count, 6, 5, 4) for count in counts]


class TestStoredKinds:
    @pytest.mark.parametrize("kinds", [[BOUNDARY_DISTANCE], [INTERIOR_DISTANCE], list(DISTANCES)])
    @pytest.mark.parametrize(
        "scheme", [LabelScheme.classes(2), LabelScheme.classes(2, ignore_label=2), LabelScheme(((1, 2), (2,)), True)]
    )
    def test_two_heads_or_regions_have_one_boundary_each(self, scheme, kinds):
        assert stored_kinds(kinds, scheme) == (INTERIOR_DISTANCE,)
        # It is the same map.
        labels = references.random_blobs((8, 7, 6), scheme.highest_label + 1, seed=0)
        interior, boundary = (compute_distances(kind, labels, scheme, SPACING_MM) for kind in DISTANCES)
        np.testing.assert_array_equal(np.broadcast_to(interior, boundary.shape), boundary)
        assert interior.any()

    @pytest.mark.parametrize("scheme", [LabelScheme.classes(3), LabelScheme.classes(3, ignore_label=3)])
    def test_classes_that_touch_each_other_have_boundaries_of_their_own(self, scheme):
        assert stored_kinds([BOUNDARY_DISTANCE], scheme) == (BOUNDARY_DISTANCE,)
        assert stored_kinds(DISTANCES, scheme) == DISTANCES

    @pytest.mark.parametrize("kinds", [[LESION_IDS, BOUNDARY_DISTANCE], iter([BOUNDARY_DISTANCE, LESION_IDS] * 2)])
    def test_are_in_the_order_of_the_kinds_and_once(self, kinds):
        assert stored_kinds(kinds, REGIONS) == (INTERIOR_DISTANCE, LESION_IDS)

    def test_no_kind(self):
        assert stored_kinds((), REGIONS) == ()

    def test_unknown_kind(self):
        message = f"Unknown kind of map: signed_distance, volumes. Known: {', '.join(KINDS)}"
        with pytest.raises(ValueError, match=message):
            stored_kinds(["volumes", LESION_IDS, "signed_distance"], REGIONS)


class TestBoundaryDistance:
    def test_by_hand(self):
        # Steps of 2 mm: inside, to the nearest voxel outside; outside, to the nearest inside.
        mask = np.array([[0, 0, 1, 1, 1, 1, 0]], bool)
        distance = boundary_distance(mask, (3, 2))
        assert distance.dtype == np.float32
        assert distance.tolist() == [[4, 2, 2, 4, 4, 2, 2]]

    @pytest.mark.parametrize("value", [False, True], ids=["empty", "full"])
    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2)])
    def test_without_a_boundary_it_is_zero(self, shape, value):
        distance = boundary_distance(np.full(shape, value), SPACING_MM[: len(shape)])
        assert distance.dtype == np.float32
        assert distance.shape == shape
        assert not distance.any()

    def test_ignored_voxels_are_zero_and_no_boundary(self):
        # out out ? in in: to the nearest known voxel of the other side.
        mask, ignore = np.array([[0, 0, 1, 1, 1]], bool), np.array([[0, 0, 1, 0, 0]], bool)
        assert boundary_distance(mask, (1, 2), ignore).tolist() == [[6, 4, 0, 4, 6]]
        # Whether the mask holds an unknown voxel says nothing.
        assert boundary_distance(mask & ~ignore, (1, 2), ignore).tolist() == [[6, 4, 0, 4, 6]]

    def test_a_mask_that_only_ignored_voxels_would_bound_has_no_boundary(self):
        ignore = np.array([[0, 0, 1, 0, 0]], bool)
        for mask in (ignore, ~ignore, np.ones_like(ignore), np.zeros_like(ignore)):
            assert boundary_distance(mask, (1, 2), ignore).tolist() == [[0] * 5]
        assert boundary_distance(ignore, (1, 2), np.ones_like(ignore)).tolist() == [[0] * 5]

    @pytest.mark.parametrize("shape", [(14, 17, 11), (19, 23)])
    @pytest.mark.parametrize("with_ignored", [False, True])
    def test_equals_the_slow_reference(self, shape, with_ignored):
        labels = references.random_blobs(shape, 3, seed=3)
        ignore = labels == 2 if with_ignored else None
        expected = np.abs(references.signed_distance(labels == 1, SPACING_MM[: len(shape)], ignore))
        distance = boundary_distance(labels == 1, SPACING_MM[: len(shape)], ignore)
        np.testing.assert_allclose(distance, expected, rtol=0, atol=1e-4)

    def test_without_spacing_the_unit_is_the_voxel(self):
        mask = references.random_blobs((9, 8, 7), 2, seed=4) == 1
        np.testing.assert_array_equal(boundary_distance(mask), boundary_distance(mask, (1, 1, 1)))

    def test_input_is_unchanged(self):
        labels = references.random_blobs((9, 8, 7), 3, seed=5)
        mask, ignore = labels == 1, labels == 2
        before = mask.copy(), ignore.copy()
        mask.setflags(write=False)
        ignore.setflags(write=False)
        boundary_distance(mask, SPACING_MM, ignore)
        np.testing.assert_array_equal((mask, ignore), before)


class TestDistances:
    def test_classes_are_the_maps_of_the_labels(self):
        labels = references.random_blobs((9, 8, 7), 4, seed=1)
        scheme = LabelScheme.classes(3, ignore_label=3)
        np.testing.assert_array_equal(
            compute_distances(INTERIOR_DISTANCE, labels, scheme, SPACING_MM),
            interior_distance(labels, SPACING_MM, ignore_label=3)[None],
        )
        np.testing.assert_array_equal(
            compute_distances(BOUNDARY_DISTANCE, labels, scheme, SPACING_MM),
            np.abs(boundary_maps(labels, 3, SPACING_MM, ignore_label=3)),
        )

    def test_classes_by_hand(self):
        # Labels 0 1 2 2 0 0 in steps of 2 mm: every voxel to the next label; and of each head, the background's first,
        # to the other side of its own boundary. Class 3 does not occur.
        labels = np.array([[0, 1, 2, 2, 0, 0]])
        scheme = LabelScheme.classes(4)
        assert compute_distances(INTERIOR_DISTANCE, labels, scheme, (5, 2)).tolist() == [[[2, 2, 2, 2, 2, 4]]]
        assert compute_distances(BOUNDARY_DISTANCE, labels, scheme, (5, 2)).tolist() == [
            [[2, 2, 4, 2, 2, 4]],
            [[2, 2, 2, 4, 6, 8]],
            [[4, 2, 2, 2, 2, 4]],
            [[0] * 6],
        ]

    @pytest.mark.parametrize("kind", DISTANCES)
    def test_overlapping_regions_by_hand(self, kind):
        # Labels 0 1 2 2 0 0 in steps of 2 mm. Region (1, 2) covers voxels 1-3, region (2,) voxels 2-3, region (3,)
        # does not occur: it has no boundary, so its distance is 0.
        labels = np.array([[0, 1, 2, 2, 0, 0]])
        distance = compute_distances(kind, labels, REGIONS, (5, 2))
        assert distance.tolist() == [[[2, 2, 4, 2, 2, 4]], [[4, 2, 2, 2, 2, 4]], [[0] * 6]]

    @pytest.mark.parametrize("kind", DISTANCES)
    @pytest.mark.parametrize("value", [0, 1])
    @pytest.mark.parametrize("scheme", [LabelScheme.classes(3), LabelScheme(((1, 2), (2,)), regions=True)])
    def test_what_fills_the_volume_or_is_absent_has_no_boundary(self, kind, value, scheme):
        maps = compute_distances(kind, np.full((3, 4), value), scheme, (1, 1))
        assert not maps.any()
        assert maps.shape == (KINDS[kind].num_channels(scheme), 3, 4)

    @pytest.mark.parametrize("kind", DISTANCES)
    @pytest.mark.parametrize("regions", [False, True])
    def test_one_known_label_beside_ignored_ones_has_no_boundary(self, kind, regions):
        scheme = LabelScheme(((1,), (2,)), regions, ignore_label=IGNORE)
        for labels in ([[1, 1, IGNORE, 1]], [[IGNORE] * 4], [[0, IGNORE, IGNORE, 0]]):
            assert not compute_distances(kind, np.array(labels), scheme, (1, 1)).any()

    @pytest.mark.parametrize("kind", DISTANCES)
    def test_minus_one_is_background(self, kind):
        labels = np.array([[-1, 0, 1, 1, -1]], np.int8)
        for scheme in (LabelScheme.classes(3), REGIONS):
            expected = compute_distances(kind, np.maximum(labels, 0), scheme, (1, 1))
            np.testing.assert_array_equal(compute_distances(kind, labels, scheme, (1, 1)), expected)
            # Beyond the crop and background alone are one label: no boundary.
            assert not compute_distances(kind, np.minimum(labels, 0), scheme, (1, 1)).any()

    @pytest.mark.parametrize("kind", DISTANCES)
    def test_ignored_voxels_are_no_region_and_no_boundary(self, kind):
        # 0 0 ? 1 1 as for classes: the nearest known voxel of the other side is two steps of 2 mm away.
        scheme = LabelScheme(((1, 2), (2,)), regions=True, ignore_label=IGNORE)
        labels = np.array([[0, 0, IGNORE, 1, 1]])
        assert compute_distances(kind, labels, scheme, (1, 2)).tolist() == [[[6, 4, 0, 4, 6]], [[0] * 5]]

    @pytest.mark.parametrize("kind", DISTANCES)
    def test_equals_the_slow_reference_for_regions(self, kind):
        labels = references.random_blobs((12, 11, 9), 5, seed=2)  # 4 is ignored
        scheme = LabelScheme(REGIONS.foreground, regions=True, ignore_label=IGNORE)
        distance = compute_distances(kind, labels, scheme, SPACING_MM)
        expected = [
            np.abs(references.signed_distance(np.isin(labels, group), SPACING_MM, labels == IGNORE))
            for group in REGIONS.foreground
        ]
        assert distance.dtype == np.float32
        np.testing.assert_allclose(distance, expected, rtol=0, atol=1e-4)

    def test_regions_may_overlap_in_any_way(self):
        # Labels 1 and 3 are in the first region, 2 and 3 in the second.
        a, b = (references.random_blobs((9, 8, 7), 2, seed=seed) == 1 for seed in (3, 4))
        scheme = LabelScheme(((1, 3), (2, 3)), regions=True)
        assert (a & b).any()
        assert (a & ~b).any()
        assert (~a & b).any()
        np.testing.assert_array_equal(
            compute_distances(BOUNDARY_DISTANCE, a + 2 * b, scheme, SPACING_MM),
            [boundary_distance(a, SPACING_MM), boundary_distance(b, SPACING_MM)],
        )

    @pytest.mark.parametrize("kind", DISTANCES)
    @pytest.mark.parametrize("scheme", [LabelScheme.classes(4), LabelScheme.classes(3, ignore_label=3), REGIONS])
    def test_per_slice_is_the_map_of_every_slice(self, kind, scheme):
        labels = references.random_blobs((5, 9, 8), 4, seed=5)
        labels[2] = 0  # a slice without foreground
        maps = compute_distances(kind, labels, scheme, SPACING_MM, per_slice=True)
        assert maps.shape == (KINDS[kind].num_channels(scheme), 5, 9, 8)
        for index in range(5):
            alone = compute_distances(kind, labels[index], scheme, SPACING_MM[1:])
            np.testing.assert_array_equal(maps[:, index], alone)
        # The spacing between the slices says nothing, and neither do their neighbours.
        other = compute_distances(kind, labels, scheme, (99.0, *SPACING_MM[1:]), per_slice=True)
        np.testing.assert_array_equal(other, maps)

    def test_per_slice_by_hand(self):
        # The lesion's slice: 1 step of 3 mm to the background, although the next slice is 1 mm away. The other slice
        # has one label, so no boundary.
        labels = np.zeros((2, 2, 4), int)
        labels[0, :, :2] = 1
        distance = compute_distances(INTERIOR_DISTANCE, labels, LabelScheme.classes(2), (1, 3, 3), per_slice=True)[0]
        assert distance[0].tolist() == [[6, 3, 3, 6]] * 2
        assert distance[1].tolist() == [[0] * 4] * 2

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
            compute_distances(BOUNDARY_DISTANCE, np.zeros((3, 3, 3), int), scheme, (1, 1), per_slice)
        with pytest.raises(ValueError, match="integer labels, but got float64"):
            compute_distances(BOUNDARY_DISTANCE, np.zeros((3, 3, 3)), scheme, (1, 1, 1), per_slice)
        with pytest.raises(ValueError, match="Expected a kind of distance, but got 'lesion_ids'"):
            compute_distances(LESION_IDS, np.zeros((3, 3, 3), int), scheme, (1, 1, 1), per_slice)


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
        table = LesionTable()
        assert (len(table), table.locations.shape, table.starts.tolist()) == (0, (0, 3), [0])

    def test_without_a_limit_no_locations_are_listed(self):
        _, table = compute_lesion_ids(np.array([[[1, 0, 2]]]), LabelScheme.classes(3))
        assert len(table) == 2
        assert (table.locations.shape, table.starts.tolist()) == ((0, 3), [0, 0, 0])


class TestLocations:
    def test_of_all_channels_follow_each_other(self):
        # Lesions: 1 at 0-1 and at 4, 2 at 5. At most one voxel of each; the middle of two is the second.
        labels, scheme = np.array([[[1, 1, 0, 0, 1, 2]]]), LabelScheme.classes(3)
        found = list(lesion_channels(scheme.each_mask(labels), max_locations=1))
        table = list_lesions(found, labels.size)
        assert table.starts.tolist() == [0, 1, 2, 3]
        assert table.locations.tolist() == [[0, 0, 1], [0, 0, 4], [0, 0, 5]]
        assert table.channels.tolist() == [0, 0, 1]

    @pytest.mark.parametrize("scheme", [LabelScheme.classes(4), LabelScheme.classes(3, ignore_label=3), REGIONS])
    def test_lie_in_their_lesion_in_the_whole_volume(self, scheme):
        labels = references.random_blobs((14, 13, 12), 4, seed=7)
        labels[:3] = 0  # so that the lesions' box does not begin at the first voxel
        limit = 5
        table = list_lesions(list(lesion_channels(scheme.each_mask(labels), limit)), labels.size)
        ids, expected = compute_lesion_ids(labels, scheme)
        for name in ("channels", "voxels", "boxes"):
            np.testing.assert_array_equal(getattr(table, name), getattr(expected, name))
        assert np.diff(table.starts).tolist() == np.minimum(table.voxels, limit).tolist()
        assert table.voxels.min() < limit < table.voxels.max()
        masks = scheme.masks(labels)
        for index, channel in enumerate(table.channels):
            voxels = table.locations[table.starts[index] : table.starts[index + 1]]
            assert len(np.unique(voxels, axis=0)) == len(voxels)
            assert np.all(masks[channel][tuple(voxels.T)])
            assert np.all(ids[channel][tuple(voxels.T)] == index + 1)
