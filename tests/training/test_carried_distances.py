"""Distances carried through rotation and zoom are those of the transformed labels, above all in small lesions."""

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.pseudo2d import Convert2DTo3DTransform, Convert3DTo2DTransform

from nnunet_rw.losses import LossInputs
from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE, INTERIOR_DISTANCE, LabelScheme, compute_distances
from nnunet_rw.store.layout import MapLayout
from nnunet_rw.training.dataloading import MAPS, SPACING, MapSpatialTransform

IGNORE = 3
# Shape, spacing in mm, and whether slices are moved one by one (nnU-Net's dummy-2D augmentation).
CASES = {
    "3d": ((48, 48, 48), (1.0, 1.0, 1.0), False),
    "2d": ((96, 96), (1.0, 1.0), False),
    "dummy_2d": ((12, 64, 64), (5.0, 1.0, 1.0), True),
    "anisotropic": ((24, 56, 56), (2.0, 1.0, 1.0), False),
}


def small_lesions(shape, spacing, seed, num_labels):
    """Lesions of up to 20 voxels, each a ball of one to two mm, far enough apart to stay separate."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.int16)
    steps = [round(max(7, 3 * step) / step) for step in spacing]
    for place in np.ndindex(*(size // step for size, step in zip(shape, steps, strict=True))):
        box = tuple(slice(at * step, at * step + step) for at, step in zip(place, steps, strict=True))
        voxels = np.stack(np.meshgrid(*(np.arange(step) for step in steps), indexing="ij"), -1)
        middle = np.array(steps) / 2 + rng.uniform(-0.5, 0.5, len(shape))
        near = np.linalg.norm((voxels - middle) * spacing, axis=-1) <= rng.uniform(1.0, 1.7) * min(spacing)
        if near.sum() <= 20:
            labels[box][near] = rng.integers(1, num_labels + 1)
    return labels


def moved(labels, spacing, layout, dummy_2d, angle_degrees=0.0, zoom=None):
    """(labels, maps) after one rotation, by at least a third of the largest angle, and one zoom."""
    angle = np.deg2rad(angle_degrees)
    patch = tuple(size - size % 4 for size in labels.shape)
    stock = SpatialTransform(
        patch[1:] if dummy_2d else patch,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=float(angle > 0),
        rotation=(angle / 3, angle),
        p_scaling=float(zoom is not None),
        scaling=(zoom, zoom),
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    spatial = MapSpatialTransform(stock, layout)
    pipeline = ComposeTransforms(
        [Convert3DTo2DTransform(), spatial, Convert2DTo3DTransform()] if dummy_2d else [spatial]
    )
    maps = np.concatenate([compute_distances(kind, labels, layout.scheme, spacing) for kind in layout.kinds])
    sample = pipeline(
        image=torch.zeros((1, *labels.shape)),
        segmentation=torch.from_numpy(labels[None]),
        **{MAPS: torch.from_numpy(maps), SPACING: spacing},
    )
    return sample["segmentation"][0], sample[MAPS]


def signed(labels, layout, maps=None, spacing=None):
    """(C, ...) signed distances as a loss sees them: of carried maps, or computed from the labels."""
    target = labels.clamp_min(0)[None, None]
    logits = torch.zeros((1, layout.scheme.num_heads, *labels.shape))
    carried = None if maps is None else layout.split(maps[None])
    return LossInputs(logits, target, carried, spacing, ignore_label=layout.scheme.ignore_label).signed_distance[0]


@pytest.mark.parametrize("num_labels", [1, 2], ids=["two_classes", "three_classes"])
@pytest.mark.parametrize(
    "motion", [{"angle_degrees": 30}, {"zoom": 0.75}, {"zoom": 1.3}], ids=["rotated", "0.75", "1.3"]
)
@pytest.mark.parametrize("case", CASES)
def test_small_lesions_keep_their_signed_distances(case, motion, num_labels):
    shape, spacing, dummy_2d = CASES[case]
    scheme = LabelScheme.classes(num_labels + 1)
    layout = MapLayout.of([BOUNDARY_DISTANCE], scheme)
    carried_sum = expected_sum = 0.0
    np.random.seed(1)
    for seed in range(3):
        labels, maps = moved(small_lesions(shape, spacing, seed, num_labels), spacing, layout, dummy_2d, **motion)
        carried, expected = signed(labels, layout, maps), signed(labels, layout, spacing=spacing)
        for label in range(1, num_labels + 1):
            inside = labels == label
            assert inside.sum() > 20
            assert (carried[label][inside] < 0).all()
            assert (carried[label][(labels >= 0) & ~inside] > 0).all()
            carried_sum += float(carried[label][inside].sum())
            expected_sum += float(expected[label][inside].sum())
    assert carried_sum / expected_sum == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("scheme", [LabelScheme.classes(3), LabelScheme(((1, 2), (2,)), regions=True)])
@pytest.mark.parametrize("case", CASES)
def test_interior_distances_are_those_of_the_moved_labels(case, scheme):
    shape, spacing, dummy_2d = CASES[case]
    layout = MapLayout.of([INTERIOR_DISTANCE], scheme)
    np.random.seed(2)
    labels, maps = moved(small_lesions(shape, spacing, 0, 2), spacing, layout, dummy_2d, 30, 1.3)
    expected = compute_distances(INTERIOR_DISTANCE, labels.numpy(), scheme, spacing)
    places = np.meshgrid(*(np.arange(size) for size in labels.shape), indexing="ij")
    sides = zip(places, labels.shape, spacing, strict=True)
    to_edge = np.min([np.minimum(at + 1, size - at) * step for at, size, step in sides], axis=0)
    for carried, computed in zip(maps.numpy(), expected, strict=True):
        sure = computed <= to_edge
        assert sure.sum() > 2000
        # But for some next to a lesion that the image's border cuts.
        assert np.isclose(carried[sure], computed[sure], rtol=1e-5).mean() > 0.999
        # Never longer: beyond the patch may be a boundary that its labels do not know.
        assert (carried <= computed * (1 + 1e-5)).all()


@pytest.mark.parametrize("kind", [INTERIOR_DISTANCE, BOUNDARY_DISTANCE])
@pytest.mark.parametrize("scheme", [LabelScheme.classes(3, IGNORE), LabelScheme.classes(2, IGNORE)])
def test_ignored_voxels_take_no_part(scheme, kind):
    # Every fourth slice is annotated, as in sparse annotation; moved by 5 to 15 degrees.
    labels = small_lesions((32, 48, 48), (1.0, 1.0, 1.0), 0, scheme.num_heads - 1)
    annotated = np.zeros(labels.shape, bool)
    annotated[::4] = True
    labels[~annotated] = IGNORE
    layout = MapLayout.of([kind], scheme)
    np.random.seed(3)
    after, maps = moved(labels, (1.0, 1.0, 1.0), layout, False, 15)
    expected = compute_distances(layout.kinds[0], after.numpy(), scheme, (1.0, 1.0, 1.0))
    known = (after != IGNORE).numpy() & (after >= 0).numpy()
    assert 0.1 < known.mean() < 0.5
    for carried, computed in zip(maps.numpy(), expected, strict=True):
        assert (carried[known] > 0).all()
        ratio = carried[known] / computed[known]
        assert np.median(ratio) == pytest.approx(1, abs=0.02)
        assert np.percentile(ratio, 5) > 0.8


def test_a_boundary_outside_of_the_patch_is_carried():
    # A plane at voxel 10 of 64, a patch of the last 32 voxels, zoomed by 1.25: nothing of the plane is in the patch.
    labels = np.zeros((64, 48, 48), np.int16)
    labels[:10] = 1
    layout = MapLayout.of([INTERIOR_DISTANCE], LabelScheme.classes(2))
    maps = torch.from_numpy(compute_distances(INTERIOR_DISTANCE, labels, layout.scheme, (1.0, 1.0, 1.0)))
    stock = SpatialTransform(
        (16, 16, 16), 0, False, p_rotation=0, p_scaling=1, scaling=(1.25, 1.25), p_synchronize_scaling_across_axes=1
    )
    part = slice(32, 64)
    sample = MapSpatialTransform(stock, layout)(
        image=torch.zeros((1, 32, 48, 48)),
        segmentation=torch.from_numpy(labels[None, part]),
        **{MAPS: maps[:, part], SPACING: (1.0, 1.0, 1.0)},
    )
    assert not sample["segmentation"].any()
    # Sample i of 16 lies at 32 + 15.5 + 1.25 (i - 7.5), the nearest lesion voxel at 9; distances shrink by 1.25.
    expected = (32 + 15.5 + 1.25 * (np.arange(16) - 7.5) - 9) / 1.25
    np.testing.assert_allclose(sample[MAPS][0, :, 8, 8].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_a_volume_without_a_boundary_says_nothing(seed):
    layout = MapLayout.of([BOUNDARY_DISTANCE, INTERIOR_DISTANCE], LabelScheme.classes(3))
    np.random.seed(seed)
    labels, maps = moved(np.zeros((16, 16, 16), np.int16), (1.0, 1.0, 1.0), layout, False, 30, 1.3)
    assert not maps.any()
    assert not signed(labels, layout, maps).any()


@pytest.mark.parametrize("scheme", [LabelScheme.classes(2), LabelScheme(((1, 2), (2,)), regions=True)])
def test_the_border_of_the_image_is_no_boundary(scheme):
    # A structure that the image cuts, in a patch that shows 8 voxels beyond each border, hardly zoomed at all.
    labels = np.zeros((24, 24, 24), np.int16)
    labels[:12] = 1
    layout = MapLayout.of([INTERIOR_DISTANCE], scheme)
    maps = torch.from_numpy(compute_distances(INTERIOR_DISTANCE, labels, scheme, (1.0, 1.0, 1.0)))
    stock = SpatialTransform(
        (40, 40, 40),
        0,
        False,
        p_rotation=0,
        p_scaling=1,
        scaling=(1 + 1e-6, 1 + 1e-6),
        p_synchronize_scaling_across_axes=1,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )
    sample = MapSpatialTransform(stock, layout)(
        image=torch.zeros((1, *labels.shape)),
        segmentation=torch.from_numpy(labels[None]),
        **{MAPS: maps.clone(), SPACING: (1.0, 1.0, 1.0)},
    )
    inside = (slice(8, 32),) * 3
    np.testing.assert_allclose(sample[MAPS][0][inside], maps[0], rtol=1e-4)
    # Beyond it is background: a voxel away from the structure it is one voxel from it, next to the background farther.
    assert sample[MAPS][0, 7, 20, 20] == pytest.approx(1, rel=1e-4)
    assert sample[MAPS][0, 32, 20, 20] == pytest.approx(13, rel=1e-4)
