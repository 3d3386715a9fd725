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

from nnunet_rw.layout import MapLayout, lesion_table_tensor
from nnunet_rw.maps.kinds import (
    INTERIOR_DISTANCE,
    KINDS,
    LESION_IDS,
    SIGNED_DISTANCE,
    LabelScheme,
    compute_distances,
    compute_lesion_ids,
    region_distances,
)
from nnunet_rw.transforms import ComputeMaps, MapSpatialTransform, carry_maps, compute_maps

CLASSES = LabelScheme.classes(3)
REGIONS = LabelScheme(((1, 2), (2,)), regions=True)
ISOTROPIC = (1.0, 1.0, 1.0)


def ball(shape, centre, radius_mm, spacing=ISOTROPIC):
    grid = np.indices(shape)
    squared = sum(((grid[i] - centre[i]) * spacing[i]) ** 2 for i in range(len(shape)))
    return squared <= radius_mm**2


@pytest.fixture
def three_balls():
    labels = np.zeros((48, 48, 48), np.int16)
    labels[ball(labels.shape, (20, 22, 24), 7)] = 1
    labels[ball(labels.shape, (30, 30, 26), 5)] = 2
    labels[ball(labels.shape, (24, 12, 30), 4)] = 1
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
    """What a loader hands to the pipeline."""
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(channels, *labels.shape)).astype(np.float32))
    return {
        "image": image,
        "segmentation": torch.from_numpy(labels[None].astype(np.int16)),
        "regression_target": torch.from_numpy(stacked_maps(labels, layout, spacing)),
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
    layout = MapLayout.of([INTERIOR_DISTANCE, SIGNED_DISTANCE], scheme)
    mirror = MirrorTransform(tuple(range(len(shape))))
    for _ in range(8):
        out = mirror(**make_sample(labels, layout, spacing))
        expected = stacked_maps(out["segmentation"][0].numpy(), layout, spacing)
        # The same sums of squares in another order: equal to the last float32 digits.
        np.testing.assert_allclose(out["regression_target"].numpy(), expected, rtol=1e-6)


def test_a_patch_that_is_only_cropped_has_the_maps_of_its_place(blobs):
    labels, layout = blobs((20, 22, 24), num_classes=3), MapLayout.of(KINDS, CLASSES)
    out = spatial((12, 14, 16), layout)(**make_sample(labels, layout))
    # The centre of 20, 22, 24 voxels: from 10 - 6, 11 - 7, 12 - 8.
    box = (slice(None), slice(4, 16), slice(4, 18), slice(4, 20))
    assert np.array_equal(out["segmentation"].numpy(), labels[None][box])
    assert np.array_equal(out["regression_target"].numpy(), stacked_maps(labels, layout, ISOTROPIC)[box])


@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("angle", [0.0, 0.5])
@pytest.mark.parametrize("zoom", [0.7, 1.0, 1.4])
def test_rotated_and_scaled_distances_are_those_of_the_transformed_labels(three_balls, zoom, angle, scheme):
    layout = MapLayout.of([INTERIOR_DISTANCE, SIGNED_DISTANCE], scheme)
    out = spatial((40, 40, 40), layout, zoom=zoom, angle=angle)(**make_sample(three_balls, layout))
    labels, carried = out["segmentation"][0].numpy(), out["regression_target"].numpy()
    expected = stacked_maps(labels, layout, ISOTROPIC)
    inside_image = labels >= 0
    # Labels change by whole voxels and linear interpolation blurs ridges: below 0.75 voxel for 95 % of the voxels.
    assert percentile_of_error(carried, expected, inside_image) < 0.75
    # Distances as stored are those of an object of another size.
    if zoom != 1:
        assert percentile_of_error(carried * zoom, expected, inside_image) > 3


def test_scaling_of_a_wide_plane_divides_its_distances_exactly():
    # A half space: distance to it is linear, so linear interpolation is exact, and a zoom of 2 halves it. Zoomed
    # sample i of 8 lies at 15.5 + 2 (i - 3.5); the nearest lesion voxel is 9.
    labels = np.zeros((32, 32, 32), np.int16)
    labels[:10] = 1
    layout = MapLayout.of([SIGNED_DISTANCE], LabelScheme.classes(2))
    out = spatial((8, 8, 8), layout, zoom=2.0)(**make_sample(labels, layout))
    positions = 15.5 + 2 * (np.arange(8) - 3.5)
    assert np.allclose(positions[1:], [10.5, 12.5, 14.5, 16.5, 18.5, 20.5, 22.5])
    np.testing.assert_allclose(out["regression_target"][1, 1:, 4, 4].numpy(), (positions[1:] - 9) / 2, rtol=1e-5)


@pytest.mark.parametrize("zoom", [0.7, 1.4])
def test_dummy_2d_augmentation_scales_by_the_mean_zoom_of_the_axes(zoom):
    # Slices of 4 mm that are rotated and scaled one by one: of the three axes only two are zoomed.
    spacing, scheme = (4.0, 1.0, 1.0), LabelScheme.classes(2)
    labels = np.zeros((12, 48, 48), np.int16)
    labels[ball(labels.shape, (5, 22, 24), 9, spacing) | ball(labels.shape, (8, 36, 34), 6, spacing)] = 1
    layout = MapLayout.of([INTERIOR_DISTANCE, SIGNED_DISTANCE], scheme)
    pipeline = ComposeTransforms(
        [Convert3DTo2DTransform(), spatial((40, 40), layout, spacing, zoom, 0.5), Convert2DTo3DTransform()]
    )
    out = pipeline(**make_sample(labels, layout, spacing, channels=2))
    transformed, carried = out["segmentation"][0].numpy(), out["regression_target"].numpy()
    assert carried.shape == (3, 12, 40, 40)
    expected = stacked_maps(transformed, layout, spacing)
    inside_image = transformed >= 0
    error = percentile_of_error(carried, expected, inside_image)
    # Below a slice's thickness, and better than the zoom within the slices; in lesions within half a voxel.
    assert error < 4
    assert error < 0.7 * percentile_of_error(carried / zoom ** (1 / 3), expected, inside_image)
    assert np.abs(carried - expected)[0][transformed == 1].mean() < 0.5


def test_dummy_2d_rotation_by_a_right_angle_only_moves_the_maps(blobs):
    labels, spacing = blobs((6, 20, 20), num_classes=3), (5.0, 1.0, 1.0)
    layout = MapLayout.of(KINDS, CLASSES)
    transform = spatial((20, 20), layout, spacing)
    transform.p_rotation, transform.rotation = 1, (np.pi / 2, np.pi / 2)
    pipeline = ComposeTransforms([Convert3DTo2DTransform(), transform, Convert2DTo3DTransform()])
    out = pipeline(**make_sample(labels, layout, spacing))
    turned = out["segmentation"][0].numpy()
    assert any(np.array_equal(turned, np.rot90(labels, turns, (1, 2))) for turns in (1, 3))
    layout = MapLayout.of(KINDS[:2], CLASSES)
    expected = stacked_maps(turned, layout, spacing)
    np.testing.assert_allclose(out["regression_target"][: layout.num_channels].numpy(), expected, atol=1e-3)


def test_two_dimensional_patches_scale_by_their_own_two_axes():
    labels = np.zeros((48, 48), np.int16)
    labels[ball(labels.shape, (20, 22), 8)] = 1
    layout = MapLayout.of([INTERIOR_DISTANCE, SIGNED_DISTANCE], LabelScheme.classes(2))
    # The first spacing is that of the slice axis, which a slice does not have.
    out = spatial((40, 40), layout, (1.0, 1.0, 1.0), 1.4, 0.5)(**make_sample(labels, layout, (1.0, 1.0)))
    transformed = out["segmentation"][0].numpy()
    expected = stacked_maps(transformed, layout, (1.0, 1.0))
    assert percentile_of_error(out["regression_target"].numpy(), expected, transformed >= 0) < 0.75


@pytest.mark.parametrize("scheme", [CLASSES, REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("seed", range(3))
def test_beyond_the_loaded_patch_distances_grow_and_never_fall_below_the_true_ones(blobs, scheme, seed):
    # The truth: the same labels in a volume of background so large that nothing is sampled beyond it.
    labels, spacing, margin = blobs((20, 22, 24), seed, num_classes=3), (1.0, 1.5, 2.0), 30
    layout = MapLayout.of([INTERIOR_DISTANCE, SIGNED_DISTANCE], scheme)
    transform = spatial((20, 22, 24), layout, spacing, zoom=1.5, angle=0.5)
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
    # The background's own distance is negative in it.
    sign = torch.ones(layout.num_channels, 1, 1, 1)
    if not scheme.regions:
        sign[1] = -1
    distances, true_distances = sign * carried["regression_target"], sign * truth["regression_target"]
    assert torch.all(distances[:, beyond] > 0)
    # Linear interpolation lifts the truth by less than a quarter of the largest voxel edge.
    assert torch.all(distances[:, far] > true_distances[:, far] - 0.5)


def test_straight_outwards_distances_beyond_the_patch_are_exact():
    # One cube of voxels 4..7, zoom 2 around 7.5: sample i of 16 at 2 i - 7.5. Along the axis through the cube the
    # distance is position - 7 to the right and 4 - position to the left, in mm of 3 each, halved by the zoom.
    labels = np.zeros((16, 16, 16), np.int16)
    labels[4:8, 4:12, 4:12] = 1
    layout = MapLayout.of([SIGNED_DISTANCE], LabelScheme.classes(2))
    out = spatial((16, 16, 16), layout, (3.0, 1.0, 1.0), zoom=2.0)(**make_sample(labels, layout, (3.0, 1.0, 1.0)))
    row = out["regression_target"][1, :, 8, 8].numpy()
    positions = 2 * np.arange(16) - 7.5
    right, left = positions >= 8, positions <= 3
    np.testing.assert_allclose(row[right], 3 * (positions[right] - 7) / 2, rtol=1e-5)
    np.testing.assert_allclose(row[left], 3 * (4 - positions[left]) / 2, rtol=1e-5)
    assert positions[right].max() > 16
    assert np.all(np.diff(row[right]) > 0)


def test_a_lesion_at_the_patch_border_is_inside_wherever_the_labels_say_lesion():
    # nnU-Net shows a border voxel up to half a voxel beyond its centre; the map must not call that rim outside.
    labels = np.zeros((32, 32, 32), np.int16)
    labels[ball(labels.shape, (0, 16, 16), 9)] = 1
    labels[ball(labels.shape, (31, 8, 8), 5)] = 2
    layout = MapLayout.of([INTERIOR_DISTANCE, SIGNED_DISTANCE], CLASSES)
    for zoom in (1.3, 1.4):
        out = spatial((32, 32, 32), layout, zoom=zoom, angle=0.5)(**make_sample(labels, layout))
        transformed, maps = out["segmentation"][0], out["regression_target"]
        for label in (1, 2):
            lesion = transformed == label
            # 0 is where linear interpolation passes from -1 to 1, half a voxel from either.
            assert maps[1 + label][lesion].max() < 0.1
            assert maps[0][lesion].min() > 0.5 / zoom


def test_a_zero_between_border_voxels_is_no_boundary_beyond_the_patch():
    # The border between columns 7 and 8 lies at the centre, where an odd number of samples has one: -1 and +1 give 0.
    labels = np.zeros((16, 16), np.int16)
    labels[:, :8] = 1
    layout = MapLayout.of([SIGNED_DISTANCE], LabelScheme.classes(2))
    out = spatial((15, 15), layout, zoom=2.0)(**make_sample(labels, layout, (1.0, 1.0)))
    beyond = out["segmentation"][0] < 0
    assert beyond[:, 7].any()
    assert torch.all(out["regression_target"][1][beyond] > 0)
    assert torch.all(out["regression_target"][0][beyond] < 0)


def test_the_signed_distance_of_an_absent_class_stays_zero():
    labels = np.zeros((16, 16, 16), np.int16)
    labels[4:8, 4:8, 4:8] = 1
    layout = MapLayout.of([SIGNED_DISTANCE], CLASSES)
    out = spatial((16, 16, 16), layout, zoom=1.4, angle=0.5)(**make_sample(labels, layout))
    assert torch.all(out["regression_target"][2] == 0)
    assert torch.all(out["regression_target"][1][out["segmentation"][0] < 0] > 0)


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
        carried = out["regression_target"][0].numpy()[foreground]
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
            assert np.all(out["regression_target"][channel].numpy()[foreground] > 0)


def test_without_an_affine_part_distances_are_not_scaled(blobs):
    # Elastic deformation, which other trainers switch on: points move, the zoom is not defined.
    labels, layout = blobs((20, 20, 20)), MapLayout.of([INTERIOR_DISTANCE], LabelScheme.classes(2))
    transform = spatial((16, 16, 16), layout)
    transform.p_elastic_deform, transform.elastic_deform_magnitude = 1, (0.01, 0.01)
    out = transform(**make_sample(labels, layout))
    expected = stacked_maps(labels, layout, ISOTROPIC)[:, 2:18, 2:18, 2:18]
    np.testing.assert_allclose(out["regression_target"].numpy(), expected, atol=0.05)


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
    pipeline = carry_maps(stock_pipeline(name), layout, ISOTROPIC)
    sample = pipeline_sample(name, blobs, layout)
    num_transforms = 0
    for transform in pipeline.transforms:
        if isinstance(transform, RandomTransform):
            transform.apply_probability = 1
        moves = isinstance(
            transform, (SpatialTransform, MirrorTransform, Convert3DTo2DTransform, Convert2DTo3DTransform)
        )
        before = sample["regression_target"].clone()
        sample = transform(**sample)
        after = sample.get("regression_target")
        assert after is not None, transform
        assert after.shape == before.shape if not moves else after.numel() > 0, transform
        assert moves or torch.equal(after, before), transform
        num_transforms += 1
    assert num_transforms >= 10
    assert sample["regression_target"].shape == (layout.num_channels, *PIPELINES[name]["patch_size"])
    assert sample["segmentation"][0].shape[1:] == sample["regression_target"].shape[1:]
    assert any(isinstance(transform, MapSpatialTransform) for transform in pipeline.transforms)


@pytest.mark.parametrize("name", PIPELINES)
def test_maps_computed_in_the_pipeline_are_those_of_the_final_labels(name, blobs):
    spacing = (3.0, 1.0, 2.0)
    scheme = LabelScheme(REGIONS.foreground, True, PIPELINES[name].get("ignore_label")) if "reg" in name else CLASSES
    layout = MapLayout.of(KINDS, scheme)
    pipeline = compute_maps(stock_pipeline(name, deep_supervision=False), layout, spacing)
    assert sum(isinstance(transform, ComputeMaps) for transform in pipeline.transforms) == 1
    sample = pipeline_sample(name, blobs, layout)
    del sample["regression_target"]
    out = pipeline(**sample)
    final = out["segmentation"].numpy()
    spacing = spacing[-len(PIPELINES[name]["patch_size"]) :]
    maps, ids = out["regression_target"][: layout.num_distances].numpy(), out["regression_target"][-2:].numpy()
    if scheme.regions:
        expected = [region_distances(kind, list(final[:2] > 0), spacing) for kind in KINDS[:2]]
        foreground = final[:2] > 0
    else:
        expected = [compute_distances(kind, final[0], scheme, spacing) for kind in KINDS[:2]]
        foreground = np.stack([final[0] == 1, final[0] == 2])
    assert np.array_equal(maps, np.concatenate(expected))
    assert np.all(ids[foreground] > 0)
    table = out["lesion_table"].numpy()
    assert table[0, 0] == final[0].size
    # The patch is the whole case: a lesion's voxels in the table are those that carry its id.
    counted = np.bincount(ids[foreground].astype(int), minlength=table.shape[1])
    assert np.array_equal(counted[1:], table[0, 1:])


def test_the_table_of_computed_maps_equals_that_of_the_labels(blobs):
    labels, layout = blobs((16, 16, 16), num_classes=3), MapLayout.of([LESION_IDS], CLASSES)
    out = ComputeMaps(layout, ISOTROPIC)(segmentation=torch.from_numpy(labels[None]))
    table = compute_lesion_ids(labels, CLASSES)[1]
    assert torch.equal(out["lesion_table"], lesion_table_tensor(table))
    assert out["lesion_table"][:, 0].tolist() == [16**3, -1]
