"""Maps that go through nnU-Net's augmentation against maps computed anew from the augmented labels."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from spatial_transforms import spatial

from nnunet_rw.maps.kinds import (
    BOUNDARY_DISTANCE,
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    LabelScheme,
    boundary_distance,
    compute_distances,
    compute_lesion_ids,
)
from nnunet_rw.store.layout import MapLayout, lesion_table_tensor
from nnunet_rw.training.dataloading import (
    LESION_TABLE,
    MAPS,
    SPACING,
    ComputeMaps,
    MapSpatialTransform,
    carry_maps,
    compute_maps,
)

CLASSES = LabelScheme.classes(3)
DISTANCES = (INTERIOR_DISTANCE, BOUNDARY_DISTANCE)
REGIONS = LabelScheme(((1, 2), (2,)), regions=True)
ISOTROPIC = (1.0, 1.0, 1.0)


def ball(shape, centre, radius_mm, spacing=ISOTROPIC):
    grid = np.indices(shape)
    squared = sum(((grid[i] - centre[i]) * spacing[i]) ** 2 for i in range(len(shape)))
    return squared <= radius_mm**2


@pytest.fixture
def near_and_far():
    """A ball in the middle, and two that a patch of 12 voxels there does not show, or shows in part."""
    labels = np.zeros((48, 48, 48), np.int16)
    labels[ball(labels.shape, (22, 26, 24), 3)] = 1
    labels[ball(labels.shape, (38, 24, 26), 6)] = 2
    labels[ball(labels.shape, (12, 14, 12), 5)] = 1
    return labels


def stacked_maps(labels, layout, spacing):
    """(M, ...) float32 maps of whole labels, and nothing but the public functions to make them."""
    maps = [
        compute_lesion_ids(labels, layout.scheme)[0]
        if kind == LESION_IDS
        else compute_distances(kind, labels, layout.scheme, spacing)
        for kind in layout.kinds
    ]
    return np.concatenate([values.astype(np.float32) for values in maps])


def make_sample(labels, layout, spacing=ISOTROPIC, channels=1):
    """What a loader hands to the pipeline; ``spacing`` of the labels' axes, or in dummy 2D of the volume's."""
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(channels, *labels.shape)).astype(np.float32))
    return {
        "image": image,
        "segmentation": torch.from_numpy(labels[None].astype(np.int16)),
        MAPS: torch.from_numpy(stacked_maps(labels, layout, spacing)),
        SPACING: spacing,
    }


def percentile_of_error(carried, expected, where):
    return float(np.percentile(np.abs(carried - expected)[:, where], 95))


@pytest.fixture(autouse=True)
def fixed_seeds():
    np.random.seed(1)
    torch.manual_seed(1)


@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("shape", [(12, 14, 16), (18, 22)], ids=["3d", "2d"])
def test_mirrored_maps_are_the_maps_of_the_mirrored_labels(blobs, shape, scheme):
    labels, spacing = blobs(shape, num_classes=3, share=0.2), (1.0, 2.0, 3.0)[-len(shape) :]
    layout = MapLayout.of(DISTANCES, scheme)
    mirror = MirrorTransform(tuple(range(len(shape))))
    for _ in range(8):
        out = mirror(**make_sample(labels, layout, spacing))
        expected = stacked_maps(out["segmentation"][0].numpy(), layout, spacing)
        # The same sums of squares in another order: equal to the last float32 digits.
        np.testing.assert_allclose(out[MAPS].numpy(), expected, rtol=1e-6)


def test_a_patch_that_is_only_cropped_has_the_maps_of_its_place(blobs):
    labels, layout = blobs((20, 22, 24), num_classes=3), MapLayout.of(KINDS, CLASSES)
    out = spatial((12, 14, 16), layout)(**make_sample(labels, layout))
    # The centre of 20, 22, 24 voxels: from 10 - 6, 11 - 7, 12 - 8.
    box = (slice(None), slice(4, 16), slice(4, 18), slice(4, 20))
    assert np.array_equal(out["segmentation"].numpy(), labels[None][box])
    assert np.array_equal(out[MAPS].numpy(), stacked_maps(labels, layout, ISOTROPIC)[box])


def in_patch(labels, layout, spacing=ISOTROPIC):
    """Distance maps of a patch's labels alone, and where nothing outside of the patch can be nearer."""
    distances = MapLayout.of([kind for kind in layout.kinds if kind != LESION_IDS], layout.scheme)
    computed = stacked_maps(labels, distances, spacing)
    # The first voxel outside is one step from the outermost.
    steps = [np.minimum(np.arange(size) + 1, size - np.arange(size)) for size in labels.shape]
    edge = np.min(np.meshgrid(*(n * step for n, step in zip(steps, spacing, strict=True)), indexing="ij"), axis=0)
    return computed, (computed > 0) & (computed <= edge)


def moved_patch(labels, layout, zoom, angle):
    """Labels and maps of a patch of 12 voxels after the transform, and the true maps: of a patch of 44 around it."""
    found = []
    for size in (12, 44):
        np.random.seed(1)
        out = spatial((size,) * 3, layout, zoom=zoom, angle=angle)(**make_sample(labels, layout))
        found.append((out["segmentation"][0].numpy(), out[MAPS].numpy()))
    (shown, carried), (large, _) = found
    middle = (slice(16, 28),) * 3
    assert np.array_equal(shown, large[middle])
    return shown, carried, stacked_maps(large, layout, ISOTROPIC)[(slice(None), *middle)]


@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("angle", [0.0, 0.5])
@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.4])
def test_rotated_and_scaled_distances_are_those_of_the_transformed_labels(near_and_far, zoom, angle, scheme):
    layout = MapLayout.of(DISTANCES, scheme)
    labels, carried, truth = moved_patch(near_and_far, layout, zoom, angle)
    computed, exact = in_patch(labels, layout)
    assert 0.1 < exact.mean() < 0.4
    np.testing.assert_allclose(carried[exact], truth[exact], rtol=1e-6)
    # Elsewhere the nearest boundary may lie outside of the patch, and what is carried counts if it is shorter. Labels
    # change by whole voxels and linear interpolation blurs ridges: below 0.75 voxel wrong for 95 % of the voxels.
    elsewhere = [np.percentile(np.abs(values - truth)[~exact], 95) for values in (carried, computed, zoom * carried)]
    assert elsewhere[0] < 0.75
    assert np.all((carried <= computed + 1e-5) | (computed == 0))
    # The patch's labels alone say nothing of the other balls, and distances as stored are of objects of another size.
    assert elsewhere[1] > 1.5
    assert elsewhere[2] > 3 or zoom == 1


def test_scaling_of_a_wide_plane_divides_its_distances_exactly():
    # A half space outside of the patch: distance to it is linear, so linear interpolation is exact, and a zoom of 2
    # halves it. Zoomed sample i of 8 lies at 15.5 + 2 (i - 3.5); the nearest lesion voxel is 3.
    labels = np.zeros((32, 32, 32), np.int16)
    labels[:4] = 1
    layout = MapLayout.of([BOUNDARY_DISTANCE], LabelScheme.classes(2))
    out = spatial((8, 8, 8), layout, zoom=2.0)(**make_sample(labels, layout))
    positions = 15.5 + 2 * (np.arange(8) - 3.5)
    assert np.allclose(positions, [8.5, 10.5, 12.5, 14.5, 16.5, 18.5, 20.5, 22.5])
    np.testing.assert_allclose(out[MAPS][0, :, 4, 4].numpy(), (positions - 3) / 2, rtol=1e-5)


def test_a_boundary_within_the_patch_is_as_far_as_in_the_transformed_labels():
    # As above, the lesion's last voxel 9 in the first sample: steps of one voxel from there. Where the first slice
    # outside is nearer than that, 8 - i or along the other axes 4 steps, the shorter of it and (position - 9) / 2.
    labels = np.zeros((32, 32, 32), np.int16)
    labels[:10] = 1
    layout = MapLayout.of([BOUNDARY_DISTANCE], LabelScheme.classes(2))
    out = spatial((8, 8, 8), layout, zoom=2.0)(**make_sample(labels, layout))
    assert out["segmentation"][0, :, 4, 4].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(out[MAPS][0, 1:, 4, 4].numpy(), [1, 2, 3, 4, 4.75, 5.75, 6.75], rtol=1e-5)


def test_a_lesion_of_one_voxel_keeps_its_distance():
    # Its whole map is a voxel at its boundary, of which interpolation would make too much or too little.
    labels = np.zeros((32, 32, 32), np.int16)
    labels[15:17, 15:17, 15:17] = 1
    layout = MapLayout.of([INTERIOR_DISTANCE], LabelScheme.classes(2))
    out = spatial((9, 9, 9), layout, zoom=2.0)(**make_sample(labels, layout))
    assert (out["segmentation"] == 1).sum() == 1
    assert out[MAPS][0][out["segmentation"][0] == 1].tolist() == [1.0]


def test_ignored_voxels_take_no_part_in_what_is_sampled():
    # A half space outside of the patch, d = position - 3. Sample i of 8 at 15.5 + 1.5 (i - 3.5): 10.25, 11.75, 13.25,
    # 14.75, 16.25, 17.75, 19.25, 20.75. Slice 14 is ignored, where the map holds 0: samples beside it are of 13 and of
    # 15 alone. Of 17 and 18 none is labelled: 16 alone, nothing, and again the mean of two.
    labels = np.zeros((32, 32, 32), np.int16)
    labels[:4] = 1
    labels[[14, 17, 18]] = 2
    layout = MapLayout.of([BOUNDARY_DISTANCE], LabelScheme.classes(2, ignore_label=2))
    out = spatial((8, 8, 8), layout, zoom=1.5)(**make_sample(labels, layout))
    assert out["segmentation"][0, :, 4, 4].tolist() == [0, 0, 0, 0, 0, 2, 0, 0]
    expected = np.array([7.25, 8.75, 10, 12, 13, 0, 16.25, 17.75]) / 1.5
    np.testing.assert_allclose(out[MAPS][0, :, 4, 4].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("scheme", [LabelScheme.classes(3, ignore_label=3), LabelScheme(((1, 2), (2,)), True, 3)])
def test_beside_ignored_voxels_distances_are_those_of_the_transformed_labels(near_and_far, scheme):
    # Two slabs of unlabelled voxels, one of them through two of the balls.
    near_and_far[25:27], near_and_far[:, :, 21:23] = 3, 3
    layout = MapLayout.of(DISTANCES, scheme)
    labels, carried, truth = moved_patch(near_and_far, layout, 0.8, 0.5)
    known = labels != 3
    _, exact = in_patch(labels, layout)
    assert 0.05 < exact.mean() < 0.4
    np.testing.assert_allclose(carried[exact], truth[exact], rtol=1e-6)
    assert not carried[:, ~known].any()
    assert carried[:, known].min() > 0.5
    assert np.percentile(np.abs(carried - truth)[:, known], 95) < 0.75


@pytest.mark.parametrize("zoom", [0.7, 1.4])
def test_dummy_2d_augmentation_scales_by_the_mean_zoom_of_the_axes(zoom):
    # Slices of 4 mm that are rotated and scaled one by one: of the three axes only two are zoomed.
    spacing = (4.0, 1.0, 1.0)
    labels = np.zeros((12, 48, 48), np.int16)
    labels[ball(labels.shape, (5, 22, 24), 9, spacing)] = 1
    labels[ball(labels.shape, (8, 36, 34), 6, spacing)] = 2
    layout = MapLayout.of(DISTANCES, CLASSES)
    pipeline = ComposeTransforms(
        [Convert3DTo2DTransform(), spatial((40, 40), layout, zoom, 0.5), Convert2DTo3DTransform()]
    )
    out = pipeline(**make_sample(labels, layout, spacing, channels=2))
    transformed, carried = out["segmentation"][0].numpy(), out[MAPS].numpy()
    assert carried.shape == (4, 12, 40, 40)
    expected = stacked_maps(transformed, layout, spacing)
    inside_image = transformed >= 0
    error = percentile_of_error(carried, expected, inside_image)
    # Below a slice's thickness, and better than the zoom within the slices; in lesions within half a voxel.
    assert error < 4
    assert error < 0.7 * percentile_of_error(carried / zoom ** (1 / 3), expected, inside_image)
    for label in (1, 2):
        for channel in (0, 1 + label):
            assert np.abs(carried - expected)[channel][transformed == label].mean() < 0.5


def test_dummy_2d_rotation_by_a_right_angle_only_moves_the_maps(blobs):
    labels, spacing = blobs((6, 20, 20), num_classes=3), (5.0, 1.0, 1.0)
    layout = MapLayout.of(KINDS, CLASSES)
    transform = spatial((20, 20), layout)
    transform.p_rotation, transform.rotation = 1, (np.pi / 2, np.pi / 2)
    pipeline = ComposeTransforms([Convert3DTo2DTransform(), transform, Convert2DTo3DTransform()])
    out = pipeline(**make_sample(labels, layout, spacing))
    turned = out["segmentation"][0].numpy()
    assert any(np.array_equal(turned, np.rot90(labels, turns, (1, 2))) for turns in (1, 3))
    layout = MapLayout.of(DISTANCES, CLASSES)
    expected = stacked_maps(turned, layout, spacing)
    np.testing.assert_allclose(out[MAPS][: layout.num_channels].numpy(), expected, atol=1e-3)


def test_two_dimensional_patches_scale_by_their_own_two_axes():
    labels = np.zeros((48, 48), np.int16)
    labels[ball(labels.shape, (20, 22), 8)] = 1
    layout = MapLayout.of(DISTANCES, LabelScheme.classes(2))
    out = spatial((40, 40), layout, 1.4, 0.5)(**make_sample(labels, layout, (1.0, 1.0)))
    transformed = out["segmentation"][0].numpy()
    expected = stacked_maps(transformed, layout, (1.0, 1.0))
    assert percentile_of_error(out[MAPS].numpy(), expected, transformed >= 0) < 0.75


@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("seed", range(3))
def test_beyond_the_loaded_patch_distances_grow_and_never_fall_below_the_true_ones(blobs, scheme, seed):
    # The truth: the same labels in a volume of background so large that nothing is sampled beyond it.
    labels, spacing, margin = blobs((20, 22, 24), seed, num_classes=3), (1.0, 1.5, 2.0), 30
    layout = MapLayout.of(DISTANCES, scheme)
    transform = spatial((20, 22, 24), layout, zoom=1.5, angle=0.5)
    small, large = make_sample(labels, layout, spacing), make_sample(np.pad(labels, margin), layout, spacing)
    # Where the image still reaches into a sample's cell, an unsigned distance is interpolated across the boundary.
    reach = np.pad(np.ones(np.add(labels.shape, 2), np.int16), margin - 1)
    large["segmentation"] = torch.cat([large["segmentation"], torch.from_numpy(reach[None])])
    np.random.seed(seed)
    carried = transform(**small)
    np.random.seed(seed)
    truth = transform(**large)
    beyond, far = carried["segmentation"][0] < 0, truth["segmentation"][1] == 0
    assert 0.5 < far.float().mean() < beyond.float().mean() < 0.9
    distances, true_distances = carried[MAPS].numpy(), truth[MAPS].numpy()
    assert np.all(distances > 0)
    # Boundaries that the patch shows are where its labels have them, but for lesions that the image's border cuts:
    # it is no boundary. An eighth of the voxels of these large ones is near such a place.
    computed, exact = in_patch(carried["segmentation"][0].numpy(), layout, spacing)
    assert np.isclose(distances[exact], computed[exact], rtol=1e-6).mean() > 0.8
    # Linear interpolation lifts the truth by less than a quarter of the largest voxel edge.
    assert np.all((distances > np.minimum(computed, true_distances) - 0.5)[:, far])


@pytest.mark.parametrize("step", [3.0, 0.5])
def test_straight_outwards_distances_beyond_the_patch_are_exact(step):
    # One cube of voxels 4..7, zoom 2 around 7.5: sample i of 16 at 2 i - 7.5, so the cube is samples 6 and 7. Along the
    # axis through it the distance is position - 7 to the right and 4 - position to the left, in steps of the sample's
    # spacing, halved by the zoom; or whole steps from the cube's samples, where the patch's edge (8 voxels of 1 mm
    # along the other axes) is not nearer.
    labels = np.zeros((16, 16, 16), np.int16)
    labels[4:8, 4:12, 4:12] = 1
    layout = MapLayout.of([BOUNDARY_DISTANCE], LabelScheme.classes(2))
    out = spatial((16, 16, 16), layout, zoom=2.0)(**make_sample(labels, layout, (step, 1.0, 1.0)))
    row = out[MAPS][0, :, 8, 8].numpy()
    positions = 2 * np.arange(16) - 7.5
    right, left = positions >= 8, positions <= 3
    number = np.arange(16)
    edge = np.minimum(step * np.minimum(number + 1, 16 - number), 8)
    for side, steps, away in ((right, number - 7, positions - 7), (left, 6 - number, 4 - positions)):
        expected = np.where(step * steps <= edge, step * steps, step * away / 2)
        np.testing.assert_allclose(row[side], expected[side], rtol=1e-5)
        assert 0 < np.mean((step * steps <= edge)[side]) < 0.6
    assert positions[right].max() > 16
    assert np.all(np.diff(row[right]) > 0)


def test_a_lesion_at_the_patch_border_has_its_own_distances_wherever_the_labels_say_lesion():
    # nnU-Net shows a border voxel up to half a voxel beyond its centre; there the map is that voxel's, and does not
    # grow outwards as in the background.
    labels = np.zeros((32, 32, 32), np.int16)
    labels[ball(labels.shape, (0, 16, 16), 9)] = 1
    labels[ball(labels.shape, (31, 8, 8), 5)] = 2
    layout = MapLayout.of(DISTANCES, CLASSES)
    for zoom in (1.3, 1.4):
        out = spatial((32, 32, 32), layout, zoom=zoom, angle=0.5)(**make_sample(labels, layout))
        transformed, maps = out["segmentation"][0], out[MAPS]
        for label in (1, 2):
            lesion = transformed == label
            for channel in (0, 1 + label):
                assert maps[channel][lesion].min() > 0.5 / zoom


def test_between_border_voxels_of_either_side_there_is_a_distance():
    # The border between columns 7 and 8 lies at the centre, where an odd number of samples has one. Half a voxel from
    # either, and beyond the image too, the distance is never 0, which would say that there is no boundary.
    labels = np.zeros((16, 16), np.int16)
    labels[:, :8] = 1
    layout = MapLayout.of([BOUNDARY_DISTANCE], LabelScheme.classes(2))
    out = spatial((15, 15), layout, zoom=2.0)(**make_sample(labels, layout, (1.0, 1.0)))
    beyond = out["segmentation"][0] < 0
    assert beyond[:, 7].any()
    assert not beyond[:, 7].all()
    assert torch.all(out[MAPS][0] >= 0.5)


@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("angle", [0.0, 0.5])
def test_the_distance_of_what_has_no_boundary_stays_zero(scheme, angle):
    # Label 2 is absent: of classes the fourth channel (after the interior distance, background and 1), of regions the
    # second.
    labels = np.zeros((16, 16, 16), np.int16)
    labels[4:8, 4:8, 4:8] = 1
    layout = MapLayout.of(DISTANCES, scheme)
    out = spatial((16, 16, 16), layout, zoom=1.4, angle=angle)(**make_sample(labels, layout))
    beyond = out["segmentation"][0] < 0
    assert beyond.any()
    assert torch.all(out[MAPS][-1] == 0)
    assert torch.all(out[MAPS][:-1] > 0)
    # Background alone, and a label that fills the volume: its rim is no boundary where what is around it is shown.
    assert not spatial((16, 16, 16), layout, zoom=1.4, angle=angle)(**make_sample(0 * labels, layout))[MAPS].any()
    full = make_sample(np.ones_like(labels), layout)
    assert not spatial((8, 8, 8), layout, zoom=0.7, angle=angle)(**full)[MAPS].any()
    full = make_sample(np.ones_like(labels), layout)
    assert not spatial((16, 16, 16), layout, zoom=1.4, angle=angle)(**full)[MAPS].any()


@pytest.mark.parametrize("dimensions", [2, 3])
def test_every_lesion_voxel_finds_its_own_id_after_rotation_and_scaling(dimensions):
    # Lesions of 1 to 27 voxels, three apart; each once more as a label channel of its own, moved by nnU-Net.
    rng, shape = np.random.default_rng(0), (22,) * dimensions
    labels, lesions = np.zeros(shape, np.int16), []
    for corner in np.ndindex((4,) * dimensions):
        size = rng.integers(1, 4)
        box = tuple(slice(5 * start + 1, 5 * start + 1 + size) for start in corner)
        lesions.append(np.zeros(shape, np.int16))
        lesions[-1][box] = 1
        labels[box] = 1
    layout = MapLayout.of([LESION_IDS], LabelScheme.classes(2))
    ids = stacked_maps(labels, layout, ISOTROPIC)
    id_of_lesion = np.array([ids[0][lesion > 0].max() for lesion in lesions])
    for seed in range(4):
        np.random.seed(seed)
        sample = make_sample(labels, layout)
        sample["segmentation"] = torch.from_numpy(np.stack([labels, *lesions]))
        transform = spatial(shape, layout, zoom=(0.7, 0.9, 1.2, 1.4)[seed], angle=np.pi)
        out = transform(**sample)
        foreground = out["segmentation"][0].numpy() == 1
        carried = out[MAPS][0].numpy()[foreground]
        assert foreground.any()
        assert np.all(carried > 0)
        owners = (out["segmentation"][1:].numpy() == 1)[:, foreground]
        known = owners.sum(0) == 1
        assert known.mean() > 0.95
        assert np.array_equal(carried[known], id_of_lesion[owners.argmax(0)[known]])


@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
def test_lesions_of_any_shape_that_touch_or_leave_the_patch_have_ids_everywhere(blobs, scheme):
    labels, layout = blobs((24, 24, 24), num_classes=3, share=0.15), MapLayout.of([LESION_IDS], scheme)
    for seed in range(10):
        np.random.seed(seed)
        zoom = np.random.uniform(0.7, 1.4)
        out = spatial((24, 24, 24), layout, zoom=zoom, angle=np.pi)(**make_sample(labels, layout))
        for channel, group in enumerate(scheme.foreground):
            foreground = np.isin(out["segmentation"][0].numpy(), group)
            assert foreground.any()
            assert np.all(out[MAPS][channel].numpy()[foreground] > 0)


def test_without_an_affine_part_distances_are_not_scaled(blobs):
    # Elastic deformation, which other trainers switch on: points move, the zoom is not defined.
    labels, layout = blobs((20, 20, 20)), MapLayout.of([INTERIOR_DISTANCE], LabelScheme.classes(2))
    transform = spatial((16, 16, 16), layout)
    transform.p_elastic_deform, transform.elastic_deform_magnitude = 1, (0.01, 0.01)
    out = transform(**make_sample(labels, layout))
    expected = stacked_maps(labels, layout, ISOTROPIC)[:, 2:18, 2:18, 2:18]
    np.testing.assert_allclose(out[MAPS].numpy(), expected, atol=0.05)


PIPELINES = {
    "3d": {"patch_size": (12, 12, 12)},
    "2d": {"patch_size": (12, 12)},
    "dummy_2d": {"patch_size": (4, 12, 12), "do_dummy_2d_data_aug": True},
    "cascade": {"patch_size": (12, 12, 12), "is_cascaded": True, "foreground_labels": [1, 2]},
    "regions": {"patch_size": (12, 12, 12), "regions": [(1, 2), 2]},
    "regions_with_ignore": {"patch_size": (12, 12, 12), "regions": [(1, 2), 2], "ignore_label": 3},
    "mask_norm": {"patch_size": (12, 12, 12), "use_mask_for_norm": [True]},
}


MOVING = (SpatialTransform, MirrorTransform, Convert3DTo2DTransform, Convert2DTo3DTransform)


def stock_pipeline(name, deep_supervision=True):
    options = {"do_dummy_2d_data_aug": False, **PIPELINES[name]}
    axes = len(options["patch_size"])
    return nnUNetTrainer.get_training_transforms(
        rotation_for_DA=(-0.5, 0.5),
        deep_supervision_scales=[[1.0] * axes, [0.5] * axes] if deep_supervision else None,
        mirror_axes=tuple(range(axes)),
        **options,
    )


def pipeline_sample(name, blobs, layout):
    shape = (4, 20, 20) if name == "dummy_2d" else (20,) * len(PIPELINES[name]["patch_size"])
    labels = blobs(shape, num_classes=3, share=0.2)
    labels[..., :3] = -1
    sample = make_sample(labels, layout, ISOTROPIC[-len(shape) :])
    if "is_cascaded" in PIPELINES[name]:
        sample["segmentation"] = torch.cat([sample["segmentation"], sample["segmentation"].clamp_min(0)])
    return sample


@pytest.mark.parametrize("name", PIPELINES)
def test_every_transform_of_nnunets_pipelines_keeps_the_maps(name, blobs):
    layout = MapLayout.of(KINDS, REGIONS if "regions" in name else CLASSES)
    pipeline = carry_maps(stock_pipeline(name), layout)
    sample = pipeline_sample(name, blobs, layout)
    num_transforms = 0
    for transform in pipeline.transforms:
        if isinstance(transform, RandomTransform):
            transform.apply_probability = 1
        moves = isinstance(
            transform, (SpatialTransform, MirrorTransform, Convert3DTo2DTransform, Convert2DTo3DTransform)
        )
        before = sample[MAPS].clone()
        sample = transform(**sample)
        after = sample.get("regression_target")
        assert after is not None, transform
        assert after.shape == before.shape if not moves else after.numel() > 0, transform
        assert moves or torch.equal(after, before), transform
        num_transforms += 1
    assert num_transforms >= 10
    assert sample[MAPS].shape == (layout.num_channels, *PIPELINES[name]["patch_size"])
    assert sample["segmentation"][0].shape[1:] == sample[MAPS].shape[1:]
    assert any(isinstance(transform, MapSpatialTransform) for transform in pipeline.transforms)


@pytest.mark.parametrize("name", PIPELINES)
def test_maps_computed_in_the_pipeline_are_those_of_the_final_labels(name, blobs):
    spacing = (3.0, 1.0, 2.0)
    scheme = LabelScheme(REGIONS.foreground, True, PIPELINES[name].get("ignore_label")) if "reg" in name else CLASSES
    layout = MapLayout.of(KINDS, scheme)
    pipeline = compute_maps(stock_pipeline(name, deep_supervision=False), layout)
    assert sum(isinstance(transform, ComputeMaps) for transform in pipeline.transforms) == 1
    sample = pipeline_sample(name, blobs, layout)
    del sample[MAPS]
    out = pipeline(**(sample | {SPACING: spacing}))
    assert out[SPACING] == spacing
    final = out["segmentation"].numpy()
    spacing = spacing[-len(PIPELINES[name]["patch_size"]) :]
    maps, ids = out[MAPS][: layout.num_distances].numpy(), out[MAPS][-2:].numpy()
    if scheme.regions:
        expected = [np.stack([boundary_distance(region, spacing) for region in final[:2] > 0])]
        foreground = final[:2] > 0
    else:
        expected = [compute_distances(kind, final[0], scheme, spacing) for kind in DISTANCES]
        foreground = np.stack([final[0] == 1, final[0] == 2])
    assert np.array_equal(maps, np.concatenate(expected))
    assert np.all(ids[foreground] > 0)
    table = out[LESION_TABLE].numpy()
    assert table[0, 0] == final[0].size
    # The patch is the whole case: a lesion's voxels in the table are those that carry its id.
    counted = np.bincount(ids[foreground].astype(int), minlength=table.shape[1])
    assert np.array_equal(counted[1:], table[0, 1:])


def test_the_table_of_computed_maps_equals_that_of_the_labels(blobs):
    labels, layout = blobs((16, 16, 16), num_classes=3), MapLayout.of([LESION_IDS], CLASSES)
    out = ComputeMaps(layout)(segmentation=torch.from_numpy(labels[None]), **{SPACING: ISOTROPIC})
    table = compute_lesion_ids(labels, CLASSES)[1]
    assert torch.equal(out[LESION_TABLE], lesion_table_tensor(table))
    assert out[LESION_TABLE][:, 0].tolist() == [16**3, -1]
