import numpy as np
import pytest
import references

from nnunet_rw.maps import expand_lesions, inverse_volume_weights, lesion_components, lesion_volume_map
from nnunet_rw.maps.lesions import find_lesions, with_locations

SPACING_MM = (0.5, 2.0, 3.0)  # 3 mm3 per voxel
IGNORE = 9


def three_lesions():
    """Label 1: voxels of a column, and one apart; label 2 touches the column."""
    labels = np.zeros((4, 5, 3), np.uint8)
    labels[0:3, 0, 0] = 1
    labels[3, 4, 2] = 1
    labels[0:2, 1, 0] = 2
    return labels


class TestLesionComponents:
    def test_by_hand(self):
        components = lesion_components(three_lesions(), spacing=SPACING_MM)
        found = sorted(
            zip(
                components.labels.tolist(),
                components.voxels.tolist(),
                components.volumes_mm3.tolist(),
                components.boxes.tolist(),
                strict=True,
            )
        )
        assert found == [
            (1, 1, 3.0, [[3, 4], [4, 5], [2, 3]]),
            (1, 3, 9.0, [[0, 3], [0, 1], [0, 1]]),
            (2, 2, 6.0, [[0, 2], [1, 2], [0, 1]]),
        ]
        assert len(components) == 3
        for number in (1, 2, 3):
            inside = components.ids == number
            assert inside.sum() == components.voxels[number - 1]
            assert np.all(three_lesions()[inside] == components.labels[number - 1])
        np.testing.assert_array_equal(components.ids > 0, three_lesions() > 0)

    def test_types(self):
        components = lesion_components(three_lesions())
        assert components.ids.dtype == np.int32
        assert components.labels.dtype == components.voxels.dtype == components.boxes.dtype == np.int64
        assert components.volumes_mm3.dtype == np.float64
        assert components.volumes_mm3.tolist() == components.voxels.tolist()  # no spacing: voxels

    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2)])
    @pytest.mark.parametrize("value", [0, -1])
    def test_no_lesion(self, shape, value):
        components = lesion_components(np.full(shape, value))
        assert len(components) == 0
        assert not components.ids.any()
        assert components.boxes.shape == (0, len(shape), 2)
        assert [components.ids.dtype, components.boxes.dtype, components.volumes_mm3.dtype] == [
            np.int32,
            np.int64,
            np.float64,
        ]

    def test_full_volume_is_one_lesion(self):
        components = lesion_components(np.full((3, 4, 2), 5))
        assert np.all(components.ids == 1)
        assert (components.labels.tolist(), components.voxels.tolist()) == ([5], [24])
        assert components.boxes.tolist() == [[[0, 3], [0, 4], [0, 2]]]

    @pytest.mark.parametrize(("connectivity", "count"), [(6, 3), (18, 2), (26, 1)])
    def test_connectivity(self, connectivity, count):
        # (0,0,0) and (1,1,0) share an edge, (1,1,0) and (2,2,1) a corner.
        labels = np.zeros((4, 4, 3), bool)
        labels[0, 0, 0] = labels[1, 1, 0] = labels[2, 2, 1] = True
        assert len(lesion_components(labels, connectivity)) == count

    @pytest.mark.parametrize(("connectivity", "count"), [(4, 2), (6, 2), (8, 1), (26, 1)])
    def test_connectivity_of_two_axes(self, connectivity, count):
        components = lesion_components(np.eye(2, dtype=int), connectivity, spacing=(0.5, 3.0))
        assert len(components) == count
        assert components.volumes_mm3.sum() == 3.0  # 2 pixels of 1.5 mm2

    @pytest.mark.parametrize(("shape", "connectivity"), [((3, 3, 3), 8), ((3, 3, 3), 27), ((3, 3), 18)])
    def test_unknown_connectivity(self, shape, connectivity):
        with pytest.raises(ValueError, match=rf"connectivity to be one of \(.*\), but got {connectivity}"):
            lesion_components(np.ones(shape, int), connectivity)

    def test_touching_labels_are_lesions_of_their_own(self):
        # 300 labels in a row: beyond uint8, each one voxel, all touching the next.
        components = lesion_components(np.arange(1, 301, dtype=np.int16)[None])
        assert sorted(components.labels.tolist()) == list(range(1, 301))
        assert np.all(components.voxels == 1)

    @pytest.mark.parametrize("highest", [255, 256, 65535, 70000])
    def test_high_labels_are_kept(self, highest):
        components = lesion_components(np.array([[0, highest, 1]], np.int32))
        assert sorted(components.labels.tolist()) == [1, highest]

    def test_ignored_and_minus_one_are_background(self):
        labels = np.array([[1, IGNORE, IGNORE, 1, -1, -1, 1]])
        components = lesion_components(labels, ignore_label=IGNORE)
        assert (components.ids > 0).tolist() == [[True, False, False, True, False, False, True]]
        assert components.voxels.tolist() == [1, 1, 1]

    @pytest.mark.parametrize("connectivity", [6, 18, 26])
    @pytest.mark.parametrize("seed", range(2))
    def test_equals_the_slow_reference(self, connectivity, seed):
        labels = references.random_blobs((14, 17, 11), 4, seed) * (
            np.random.default_rng(seed).random((14, 17, 11)) < 0.4
        )
        components = lesion_components(labels, connectivity, SPACING_MM)
        found = {
            (int(label), tuple(np.flatnonzero(components.ids == number)))
            for number, label in enumerate(components.labels, start=1)
        }
        expected = references.lesion_masks(labels, connectivity)
        assert len(expected) > 10
        assert found == {(label, tuple(np.flatnonzero(mask))) for label, mask in expected}

    @pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64])
    @pytest.mark.parametrize("view", [np.asarray, np.asfortranarray, lambda a: a[::-1, ::2]])
    def test_type_and_layout_do_not_matter(self, dtype, view):
        labels = references.random_blobs((10, 8, 6), 2, seed=3)
        expected = lesion_volume_map(view(labels).copy("C"), SPACING_MM)
        given = view(labels.astype(dtype))
        given.setflags(write=False)
        np.testing.assert_array_equal(lesion_volume_map(given, SPACING_MM), expected)

    def test_errors(self):
        with pytest.raises(ValueError, match="integer labels, but got float64"):
            lesion_components(np.zeros((3, 3, 3)))
        with pytest.raises(ValueError, match=r"labels of shape \(X, Y\[, Z\]\)"):
            lesion_components(np.zeros(3, int))
        with pytest.raises(ValueError, match=r"one spacing per array axis \(3\), but got 2"):
            lesion_components(np.zeros((3, 3, 3), int), spacing=(1, 1))


class TestWithLocations:
    def located(self, labels, limit):
        """Locations of every lesion, with what they were found in."""
        found = find_lesions(labels, connectivity=26 if labels.ndim == 3 else 8)
        with_some = with_locations(found, limit)
        assert with_some.num_locations.dtype == with_some.locations.dtype == np.int64
        return np.split(with_some.locations, np.cumsum(with_some.num_locations)[:-1]), with_some

    def test_by_hand(self):
        # Lesions of 5, 1 and 2 voxels in a row. Two of five: the middles of voxels 0-2.5 and 2.5-5 are 1 and 3.
        labels = np.array([[0, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 0]], np.uint8)
        locations, found = self.located(labels, limit=2)
        assert [voxels.tolist() for voxels in locations] == [[[0, 2], [0, 4]], [[0, 7]], [[0, 9], [0, 10]]]
        assert found.num_locations.tolist() == [2, 1, 2]
        # Of one each the middle; of three all of the smaller ones, and of five 0, 2 and 4.
        assert [voxels[:, 1].tolist() for voxels in self.located(labels, 1)[0]] == [[3], [7], [10]]
        assert [voxels[:, 1].tolist() for voxels in self.located(labels, 3)[0]] == [[1, 3, 5], [7], [9, 10]]
        assert [voxels[:, 1].tolist() for voxels in self.located(labels, 9)[0]] == [[1, 2, 3, 4, 5], [7], [9, 10]]

    def test_lesions_that_interlock_keep_their_own_voxels(self):
        # Two columns side by side, a gap between: in array order their voxels take turns.
        labels = np.zeros((6, 3, 1), np.uint8)
        labels[:, 0], labels[1:4, 2] = 1, 1
        locations, _ = self.located(labels, limit=3)
        assert sorted(voxels[:, :2].tolist() for voxels in locations) == [
            [[1, 0], [3, 0], [5, 0]],  # of six: 1, 3 and 5
            [[1, 2], [2, 2], [3, 2]],
        ]

    @pytest.mark.parametrize("limit", [1, 4, 64])
    @pytest.mark.parametrize("shape", [(14, 17, 11), (25, 23)])
    def test_count_and_place(self, shape, limit):
        labels = references.random_blobs(shape, 3, seed=4)
        labels[:2] = labels[:, -3:] = 0  # lesions whose box begins elsewhere than the volume
        locations, found = self.located(labels, limit)
        assert found.num_locations.tolist() == np.minimum(found.voxels, limit).tolist()
        assert found.voxels.min() < 64 < found.voxels.max()
        components = lesion_components(labels)
        for number, voxels in enumerate(locations, start=1):
            own = np.argwhere(components.ids == number)  # in array order
            assert len(np.unique(voxels, axis=0)) == len(voxels) == min(len(own), limit)
            place = [int(np.flatnonzero((own == voxel).all(1))[0]) for voxel in voxels]
            if len(own) <= limit:
                assert place == list(range(len(own)))
            # Spread evenly: steps differ by one at most.
            step = len(own) / len(place)
            assert {int(np.floor(step)), int(np.ceil(step))} >= set(np.diff(place).tolist())
            assert place[0] == int(step / 2)

    def test_everything_else_stays(self):
        labels = references.random_blobs((14, 17, 11), 3, seed=4)
        found = find_lesions(labels, 26)
        ids = found.ids.copy()
        assert (found.locations.shape, found.num_locations.tolist()) == ((0, 3), [0] * len(found.voxels))
        other = with_locations(found, 5)
        np.testing.assert_array_equal(found.ids, ids)
        for name in ("box", "ids", "labels", "voxels", "boxes"):
            np.testing.assert_array_equal(getattr(other, name), getattr(found, name))

    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 2)])
    def test_no_lesion(self, shape):
        found = with_locations(find_lesions(np.zeros(shape, np.uint8), 26), 5)
        assert (found.locations.shape, found.num_locations.shape) == ((0, len(shape)), (0,))

    def test_full_volume(self):
        (voxels,), found = self.located(np.ones((3, 4, 2), np.uint8), limit=24)
        assert found.num_locations.tolist() == [24]
        np.testing.assert_array_equal(voxels, np.argwhere(np.ones((3, 4, 2))))


class TestLesionVolumeMap:
    def test_by_hand(self):
        # Lesions of 2, 1 and 1 voxels on a line, 1 and 2 touching.
        volumes = lesion_volume_map(np.array([[1, 1, 2, 0, 1]]), spacing=(0.5, 3.0))
        assert volumes.dtype == np.float32
        assert volumes.tolist() == [[3.0, 3.0, 1.5, 0.0, 1.5]]

    def test_without_spacing_in_voxels(self):
        assert lesion_volume_map(np.array([[1, 1, 2, 0, 1]])).tolist() == [[2, 2, 1, 0, 1]]

    def test_empty_full_and_ignored(self):
        assert not lesion_volume_map(np.zeros((3, 4, 2), int)).any()
        assert np.all(lesion_volume_map(np.ones((3, 4, 2), int), SPACING_MM) == 72)
        assert lesion_volume_map(np.array([[IGNORE, 1]]), ignore_label=IGNORE).tolist() == [[0, 1]]

    @pytest.mark.parametrize("connectivity", [6, 26])
    def test_equals_the_slow_reference(self, connectivity):
        labels = references.random_blobs((14, 17, 11), 4, seed=1)
        expected = references.lesion_volume_map(labels, SPACING_MM, connectivity)
        np.testing.assert_array_equal(lesion_volume_map(labels, SPACING_MM, connectivity), expected.astype(np.float32))

    def test_input_is_unchanged(self):
        labels = three_lesions().astype(np.int16) - 1
        before = labels.copy()
        labels.setflags(write=False)
        lesion_volume_map(labels, SPACING_MM, ignore_label=1)
        np.testing.assert_array_equal(labels, before)


class TestInverseVolumeWeights:
    # N = 12 voxels, K = 2 lesions of 1 and 3: 12 / (3 * 1) = 4 and 12 / (3 * 3) = 4/3; background 12 / (3 * 8) = 1/2.
    components = np.array([[1, 0, 0, 0], [0, 2, 2, 2], [0, 0, 0, 0]])

    def expected(self, background, small, large):
        return np.array([background, small, large])[self.components]

    @pytest.mark.parametrize(
        ("options", "background", "small", "large"),
        [
            ({}, 1, 4, 4 / 3),  # the paper's lower limit of 1 lifts the background
            ({"w_min": 0}, 1 / 2, 4, 4 / 3),
            ({"w_min": 1.5, "w_max": 3}, 1.5, 3, 1.5),
            ({"w_min": 0, "power": 2}, 1 / 4, 16, 16 / 9),
            ({"w_min": 0, "power": 0.5}, np.sqrt(1 / 2), 2, np.sqrt(4 / 3)),
            ({"power": 0}, 1, 1, 1),
            # Mean over the 4 foreground voxels (4 + 3 * 4/3) / 4 = 2.
            ({"normalise": True}, 1, 2, 2 / 3),
            # Clipped first: (3 + 3 * 1.5) / 4 = 15/8.
            ({"normalise": True, "w_min": 1.5, "w_max": 3}, 1, 8 / 5, 4 / 5),
        ],
    )
    def test_by_hand(self, options, background, small, large):
        weights = inverse_volume_weights(self.components, **options)
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, self.expected(background, small, large), rtol=1e-6)

    def test_without_clipping_the_weights_sum_to_the_number_of_voxels(self):
        assert inverse_volume_weights(self.components, w_min=0).sum() == pytest.approx(12, rel=1e-6)

    @pytest.mark.parametrize("options", [{}, {"w_min": 0, "power": 0.5}, {"normalise": True}])
    def test_no_lesion_gives_ones(self, options):
        weights = inverse_volume_weights(np.zeros((3, 4, 2), int), **options)
        assert weights.dtype == np.float32
        assert np.all(weights == 1)

    def test_lesion_that_fills_the_volume(self):
        # N / (2 N) = 1/2, clipped to 1; there is no background.
        assert np.all(inverse_volume_weights(np.ones((3, 4), int)) == 1)
        assert np.all(inverse_volume_weights(np.ones((3, 4), int), w_min=0) == 0.5)

    @pytest.mark.parametrize("options", [{}, {"normalise": True}, {"normalise": True, "w_max": float("inf")}])
    def test_ids_need_not_be_consecutive(self, options):
        gaps = np.array([0, 5, 70000])[self.components]
        np.testing.assert_array_equal(
            inverse_volume_weights(gaps, **options), inverse_volume_weights(self.components, **options)
        )

    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(
        "options", [{}, {"w_min": 0.2, "w_max": 30}, {"w_min": 0, "power": 0.5}, {"normalise": True}]
    )
    def test_equals_the_loop_of_the_paper(self, seed, options):
        labels = references.random_blobs((14, 17, 11), 3, seed)
        ids = lesion_components(labels, connectivity=6).ids
        expected = references.inverse_volume_weights(ids, **options).astype(np.float32)
        weights = inverse_volume_weights(ids, **options)
        if options.get("normalise"):  # a mean, summed in another order
            np.testing.assert_allclose(weights, expected, rtol=1e-6)
            assert weights[ids > 0].mean() == pytest.approx(1, rel=1e-5)
            assert np.all(weights[ids == 0] == 1)
        else:
            np.testing.assert_array_equal(weights, expected)

    def test_input_is_unchanged(self):
        before = self.components.copy()
        inverse_volume_weights(self.components, normalise=True)
        np.testing.assert_array_equal(self.components, before)


class TestExpandLesions:
    def test_line_by_hand(self):
        # One voxel each way; between 3 and 5 the higher wins; lesion voxels keep their own id.
        ids = np.array([[0, 0, 3, 0, 5, 2, 0, 0]], np.int32)
        expanded = expand_lesions(ids)
        assert expanded.dtype == np.int32
        assert expanded.tolist() == [[0, 3, 3, 5, 5, 2, 2, 0]]

    @pytest.mark.parametrize("index", [(0, 0, 0), (2, 3, 1), (4, 5, 3)])
    def test_single_voxel_becomes_its_neighbourhood(self, index):
        ids = np.zeros((5, 6, 4), np.int32)
        ids[index] = 7
        near = np.all([np.abs(grid - i) <= 1 for grid, i in zip(np.indices(ids.shape), index, strict=True)], axis=0)
        np.testing.assert_array_equal(expand_lesions(ids), 7 * near)

    def test_empty_and_full(self):
        assert not expand_lesions(np.zeros((3, 4, 2), np.int32)).any()
        assert np.all(expand_lesions(np.full((3, 4, 2), 2, np.int32)) == 2)

    @pytest.mark.parametrize("shape", [(12, 9, 10), (15, 14)])
    def test_equals_the_slow_reference(self, shape):
        ids = lesion_components(references.random_blobs(shape, 4, seed=2)).ids
        ids[np.random.default_rng(2).random(shape) < 0.6] = 0
        before = ids.copy()
        expanded = expand_lesions(ids)
        np.testing.assert_array_equal(expanded, references.expand_lesions(ids))
        np.testing.assert_array_equal(expanded[ids > 0], ids[ids > 0])
        np.testing.assert_array_equal(ids, before)
