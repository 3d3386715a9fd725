"""Surface metrics against values by hand, SciPy, MONAI and, where it is installed, DeepMind's surface-distance.

The last differs by definition (corners of a marching cubes surface weighted with their area, where the package counts
border voxels): the tests bound by how much. They run where that package is on the path, and are skipped elsewhere.
"""

import itertools
import math

import numpy as np
import pytest
from references import random_blobs
from scipy import ndimage
from scipy.spatial.distance import cdist

from nnunet_rw.evaluation.metrics.surface import SurfaceMetrics, border_voxels, surface_distances, surface_metrics

SPACING = (0.7, 1.3, 2.9)


def points(shape, *voxels):
    mask = np.zeros(shape, dtype=bool)
    for voxel in voxels:
        mask[voxel] = True
    return mask


def ball(shape, centre_mm, radius_mm, spacing):
    grid = np.ogrid[tuple(slice(0, size) for size in shape)]
    offsets = [axis * step - centre for axis, step, centre in zip(grid, spacing, centre_mm, strict=True)]
    return sum(offset**2 for offset in offsets) <= radius_mm**2


def values(metrics):
    return [metrics.hd_mm, metrics.hd95_mm, metrics.assd_mm, metrics.nsd]


def blobs(shape, seed):
    """Two masks that overlap, both in part at the image border."""
    labels = random_blobs(shape, 3, seed)
    return labels == 1, np.roll(labels, 1, axis=0) >= 1


def brute_force(reference, prediction, spacing, tolerance_mm):
    """All pairs of border voxels; SciPy's erosion takes what is outside the image for background, a slice for 2D."""
    borders = [mask & ~ndimage.binary_erosion(mask.squeeze()).reshape(mask.shape) for mask in (reference, prediction)]
    pairs = cdist(*(np.argwhere(border) * np.asarray(spacing) for border in borders))
    directed = pairs.min(axis=1), pairs.min(axis=0)
    pooled = np.concatenate(directed)
    hd95 = max(np.percentile(distances, 95) for distances in directed)
    return [pooled.max(), hd95, pooled.mean(), (pooled <= tolerance_mm).mean()]


def test_two_voxels_by_hand():
    # 1, 2 and 1 steps of 0.7, 1.3 and 2.9 mm: sqrt(0.49 + 6.76 + 8.41) = sqrt(15.66) mm, both ways.
    shape, distance = (4, 5, 6), math.sqrt(15.66)
    one, other = points(shape, (1, 1, 2)), points(shape, (2, 3, 3))
    assert values(surface_metrics(one, other, SPACING)) == pytest.approx([distance, distance, distance, 0])
    assert surface_metrics(one, other, SPACING, tolerance_mm=3.958).nsd == 1  # sqrt(15.66) = 3.9573


def test_directions_percentiles_and_pooling_by_hand():
    # A line of voxels 2 mm apart. Reference 0 .. 20 (21 voxels, all border as it is one voxel thick), prediction 0.
    # From the reference 0, 2, ..., 40 mm; from the prediction 0. HD 40. The 95th percentile of 21 values is the one of
    # rank 0.95 * 20 = 19, 38 mm; of the one value 0. HD95 38 (MedPy's percentile of all 22 together would be 37.9).
    # ASSD (0 + 2 + ... + 40 + 0) / 22 = 420 / 22 (the mean of the two directed means would be 10).
    # Within 4 mm: 0, 2, 4 and the prediction's 0, 4 of 22.
    line = np.zeros((25, 3, 3), dtype=bool)
    line[2:23, 1, 1] = True
    end = points(line.shape, (2, 1, 1))
    for masks in ((line, end), (end, line)):
        result = surface_metrics(*masks, spacing_mm=(2, 3, 5), tolerance_mm=4)
        assert values(result) == pytest.approx([40, 38, 420 / 22, 4 / 22])


def test_inside_of_a_mask_is_no_surface():
    # A cube of 5^3 voxels with its central voxel: 125 - 27 = 98 border voxels, 1 + 26 inside. The prediction is the
    # central voxel alone, spacing (1, 2, 4). HD from a corner: 2 steps each, sqrt(4 + 16 + 64) = sqrt(84). From the
    # prediction to the nearest border voxel: 2 steps of 1 mm = 2 mm, though it lies within the reference.
    cube = np.zeros((7, 7, 7), dtype=bool)
    cube[1:6, 1:6, 1:6] = True
    centre = points(cube.shape, (3, 3, 3))
    assert np.count_nonzero(border_voxels(cube)) == 98
    from_cube, from_centre = surface_distances(cube, centre, (1, 2, 4))
    assert from_cube.max() == pytest.approx(math.sqrt(84))
    assert len(from_cube) == 98
    assert from_centre.tolist() == [2]
    # Nearest of the 98 is 2 mm away, and only the centres of the two faces along the first axis are that near.
    result = surface_metrics(cube, centre, (1, 2, 4), tolerance_mm=2)
    assert result.nsd == pytest.approx((2 + 1) / 99)


def test_image_border_is_a_surface():
    # Full image of 3^3: every voxel but the central one touches the outside.
    border = border_voxels(np.ones((3, 3, 3), dtype=bool))
    assert np.argwhere(~border).tolist() == [[1, 1, 1]]
    # One slice is an image of two axes, and one row of one axis.
    border = border_voxels(np.ones((3, 4, 1), dtype=bool))
    assert np.argwhere(~border).tolist() == [[1, 1, 0], [1, 2, 0]]
    assert border_voxels(np.ones((1, 1, 5), dtype=bool)).ravel().tolist() == [True, False, False, False, True]
    assert border_voxels(np.ones((1, 1, 1), dtype=bool)).all()
    # In 2D four neighbours: the pixel whose diagonal neighbour alone is outside is none of the border.
    mask = np.ones((5, 5), dtype=bool)
    mask[0, 0] = False
    assert not border_voxels(mask)[1, 1]
    assert border_voxels(mask)[1, 0]


@pytest.mark.parametrize("axis", [0, 1, 2, None])
def test_one_slice_of_a_volume_is_an_image(axis):
    # A square of 5 x 5 pixels of 2 x 1 mm, and its central pixel. The square's border is its ring: 2 rows 4 mm away
    # with columns at 0, 1, 1, 2 and 2 mm, and in the 3 rows between, at 0, 2 and 2 mm, 2 columns 2 mm away. The centre
    # is 2 mm from the ring.
    square, centre = np.ones((5, 5), bool), points((5, 5), (2, 2))
    ring = 2 * (4 + 2 * math.sqrt(17) + 2 * math.sqrt(20)) + 2 * (2 + 2 * math.sqrt(8))
    spacing = [2.0, 1.0]
    if axis is not None:
        square, centre = (np.expand_dims(mask, axis) for mask in (square, centre))
        spacing.insert(axis, 7.0)
    result = surface_metrics(square, centre, spacing)
    assert (result.hd_mm, result.assd_mm) == pytest.approx((math.sqrt(20), (ring + 2) / 17))
    # 4 of the ring's 16 voxels are corners, and its 95th percentile lies between the 15th and the 16th.
    assert result.hd95_mm == pytest.approx(math.sqrt(20))
    assert result.nsd == 0


def test_a_flat_mask_in_a_volume_of_several_slices_is_all_surface():
    square, centre = np.zeros((2, 3, 5, 5), bool)
    square[1], centre[1, 2, 2] = True, True
    from_square, from_centre = surface_distances(square, centre, (7, 2, 1))
    assert (len(from_square), from_centre.tolist()) == (25, [0])


def test_two_dimensions_by_hand():
    # A pixel and one 3 rows of 2 mm and 4 columns of 0.5 mm away: sqrt(36 + 4) mm.
    result = surface_metrics(points((6, 6), (1, 1)), points((6, 6), (4, 5)), (2, 0.5), tolerance_mm=6)
    assert values(result) == pytest.approx([math.sqrt(40)] * 3 + [0])


def test_equal_masks_agree_at_no_tolerance():
    mask, _ = blobs((12, 11, 10), 0)
    assert surface_metrics(mask, mask, SPACING, tolerance_mm=0) == SurfaceMetrics(0, 0, 0, 1)


def test_tolerance_includes_itself_despite_rounding():
    # 3 * 0.1 is 0.30000000000000004 in float64 and not 0.3 in float32 either.
    one, other = points((5, 3, 3), (0, 1, 1)), points((5, 3, 3), (3, 1, 1))
    assert surface_metrics(one, other, (0.1, 1, 1), tolerance_mm=0.3).nsd == 1
    assert surface_metrics(one, other, (0.1, 1, 1), tolerance_mm=0.2999).nsd == 0


@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5)])
def test_empty_masks(shape):
    empty = np.zeros(shape, dtype=bool)
    one = ~empty
    spacing = SPACING[: len(shape)]
    np.testing.assert_equal(values(surface_metrics(empty, empty, spacing)), [math.nan] * 4)
    for masks in ((one, empty), (empty, one)):
        assert values(surface_metrics(*masks, spacing)) == [math.inf, math.inf, math.inf, 0]
    from_reference, from_prediction = surface_distances(one, empty, spacing)
    assert np.isposinf(from_reference).all()
    assert len(from_reference) == np.count_nonzero(border_voxels(one))
    assert from_prediction.shape == (0,)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((16, 14, 12), SPACING), ((9, 16, 20), (3, 1, 1)), ((24, 20), (0.7, 1.9)), ((12, 9, 1), SPACING)],
)
def test_equals_all_pairs(shape, spacing, seed):
    """To 1e-6 of the distance: it is float32."""
    reference, prediction = blobs(shape, seed)
    result = surface_metrics(reference, prediction, spacing, tolerance_mm=1.234)
    np.testing.assert_allclose(values(result), brute_force(reference, prediction, spacing, 1.234), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("shape", "spacing"), [((16, 14, 12), SPACING), ((24, 20), (0.7, 1.9))])
def test_equals_monai(shape, spacing, seed):
    """Its edges are the same border voxels; 1e-4 mm as its distances and percentiles are float32."""
    metrics = pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    masks = blobs(shape, seed)
    result = surface_metrics(*masks, spacing, tolerance_mm=1.234)
    reference, prediction = (torch.from_numpy(mask)[None, None].float() for mask in masks)
    options = {"include_background": True, "spacing": spacing}
    hd, hd95 = (metrics.compute_hausdorff_distance(prediction, reference, percentile=p, **options) for p in (None, 95))
    assd = metrics.compute_average_surface_distance(prediction, reference, symmetric=True, **options)
    nsd = metrics.compute_surface_dice(prediction, reference, [1.234], **options)
    np.testing.assert_allclose(values(result), [float(value) for value in (hd, hd95, assd, nsd)], atol=1e-4)


# What `pixel_center_metrics` of DisTorch (Rony & Kervadec, MIDL 2025; commit 80f190c, on a CPU) gives of `blobs`: the
# Hausdorff distance, the larger of both 95th percentiles, the mean surface distance and NSD within 1.234 mm.
DISTORCH = {
    ((16, 14, 12), SPACING, 0): (5.98916, 3.47274, 0.87549, 0.70052),
    ((16, 14, 12), SPACING, 1): (6.94551, 4.42945, 1.19927, 0.64790),
    ((24, 20), (0.7, 1.9), 0): (9.02717, 7.25327, 1.81214, 0.57848),
    ((24, 20), (0.7, 1.9), 1): (7.63217, 5.80612, 1.51529, 0.61856),
}


@pytest.mark.parametrize(("shape", "spacing", "seed"), DISTORCH)
def test_equals_distorch(shape, spacing, seed):
    """To 2e-4 mm: its distances are float32, of differences that nearly cancel."""
    result = surface_metrics(*blobs(shape, seed), spacing, tolerance_mm=1.234)
    np.testing.assert_allclose(values(result), DISTORCH[shape, spacing, seed], atol=2e-4)


def test_shifted_ball():
    """A ball moved by 3 mm: HD is 3 mm, and the mean over the sphere of |3 cos| is 1.5 mm.

    A voxel is 0.5 mm, so both surfaces are where the sphere is, to half a voxel diagonal, 0.43 mm, at most.
    """
    spacing, shape = (0.5, 0.5, 0.5), (70, 64, 64)
    result = surface_metrics(*(ball(shape, (x, 15, 15), 12, spacing) for x in (15, 18)), spacing)
    assert result.hd_mm == pytest.approx(3, abs=0.43)
    assert result.assd_mm == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 1, 3), (0.7, 1.1, 2.5), (0.5, 0.5, 5)])
def test_distance_from_deepmind_is_bounded(spacing):
    """HD within a voxel diagonal, which holds always; on balls HD95 too, ASSD within a quarter, NSD within 0.3."""
    metrics = pytest.importorskip("surface_distance.metrics")
    rng = np.random.default_rng(0)
    shape = tuple(math.ceil(48 / step) + 1 for step in spacing)
    diagonal = float(np.linalg.norm(spacing))
    for _ in range(8):
        centre = rng.uniform(22, 26, 3)
        reference = ball(shape, centre, rng.uniform(5, 14), spacing)
        prediction = ball(shape, centre + rng.uniform(-4, 4, 3), rng.uniform(5, 14), spacing)
        surfaces = metrics.compute_surface_distances(reference, prediction, spacing)
        areas = np.concatenate([surfaces["surfel_areas_gt"], surfaces["surfel_areas_pred"]])
        distances = np.concatenate([surfaces["distances_gt_to_pred"], surfaces["distances_pred_to_gt"]])
        ours = surface_metrics(reference, prediction, spacing)
        assert abs(ours.hd_mm - metrics.compute_robust_hausdorff(surfaces, 100)) <= diagonal
        assert abs(ours.hd95_mm - metrics.compute_robust_hausdorff(surfaces, 95)) <= diagonal
        assert abs(ours.assd_mm - np.average(distances, weights=areas)) <= diagonal / 4
        assert abs(ours.nsd - metrics.compute_surface_dice_at_tolerance(surfaces, 1.0)) <= 0.3


def test_hausdorff_distance_is_within_a_voxel_diagonal_of_corners():
    """The bound that the module states for surface-distance, on its points: corners of voxels both in and out."""
    for seed in range(5):
        masks = blobs((12, 10, 9), seed)
        corners = []
        for mask in masks:
            inside = sum(np.pad(mask, [(1 - shift, shift) for shift in shifts]) for shifts in np.ndindex(2, 2, 2))
            corners.append(np.argwhere((inside > 0) & (inside < 8)) * np.asarray(SPACING))
        pairs = cdist(*corners)
        corner_hd = max(pairs.min(axis=0).max(), pairs.min(axis=1).max())
        assert abs(surface_metrics(*masks, SPACING).hd_mm - corner_hd) <= np.linalg.norm(SPACING)


def test_flips_and_order_of_axes_change_nothing():
    reference, prediction = blobs((14, 12, 10), 5)
    straight = values(surface_metrics(reference, prediction, SPACING))
    for flips in itertools.product((1, -1), repeat=3):
        view = tuple(slice(None, None, step) for step in flips)
        np.testing.assert_allclose(
            values(surface_metrics(reference[view], prediction[view], SPACING)), straight, rtol=1e-6
        )
    for axes in itertools.permutations(range(3)):
        permuted = surface_metrics(reference.transpose(axes), prediction.transpose(axes), [SPACING[a] for a in axes])
        np.testing.assert_allclose(values(permuted), straight, rtol=1e-6)


def test_swap_label_numbers_and_background_around_change_nothing():
    labels = random_blobs((14, 12, 10), 3, 6)
    labels[[0, -1]] = labels[:, [0, -1]] = labels[:, :, [0, -1]] = 0
    other = np.roll(labels, 1, axis=1)
    other[:, 0] = 0
    straight = surface_metrics(labels == 2, other == 2, SPACING)
    assert values(surface_metrics(other == 2, labels == 2, SPACING)) == pytest.approx(values(straight))
    renumbered = [np.array([0, 7, 1])[array] == 1 for array in (labels, other)]
    assert surface_metrics(*renumbered, SPACING) == straight
    padded = [np.pad(array == 2, ((3, 9), (0, 5), (2, 0))) for array in (labels, other)]
    assert surface_metrics(*padded, SPACING) == straight


def test_scale_of_the_spacing_scales_the_distances():
    reference, prediction = blobs((14, 12, 10), 7)
    one = surface_metrics(reference, prediction, SPACING, tolerance_mm=1.5)
    ten = surface_metrics(reference, prediction, [10 * step for step in SPACING], tolerance_mm=15)
    assert [ten.hd_mm, ten.hd95_mm, ten.assd_mm, ten.nsd] == pytest.approx(
        [10 * one.hd_mm, 10 * one.hd95_mm, 10 * one.assd_mm, one.nsd], rel=1e-6
    )


def test_inputs_stay_unchanged():
    masks = np.stack(blobs((9, 8, 7), 8))
    before = masks.copy()
    masks.flags.writeable = False
    result = surface_metrics(*masks, SPACING)
    border_voxels(masks[0])
    assert np.array_equal(masks, before)
    assert all(type(value) is float for value in values(result))


def test_wrong_input_is_refused():
    mask = np.zeros((3, 4, 5), dtype=bool)
    with pytest.raises(ValueError, match=r"boolean prediction, but got float64"):
        surface_metrics(mask, mask.astype(float), SPACING)
    with pytest.raises(
        ValueError, match=r"equal shape, but got \(3, 4, 5\) as reference and \(3, 4, 4\) as prediction"
    ):
        surface_metrics(mask, mask[..., :4], SPACING)
    with pytest.raises(ValueError, match=r"one spacing per array axis \(3\), but got 2: \(1\.0, 1\.0\)"):
        surface_metrics(mask, mask, (1, 1))
    with pytest.raises(ValueError, match=r"spacing above 0 mm on every axis, but got \(1\.0, 0\.0, 1\.0\)"):
        surface_metrics(mask, mask, (1, 0, 1))
    with pytest.raises(ValueError, match=r"mask of shape \(X, Y\[, Z\]\), but got \(3,\)"):
        border_voxels(mask[:, 0, 0])
    for tolerance in (-0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"tolerance of at least 0 mm, but got {tolerance}"):
            surface_metrics(mask, mask, SPACING, tolerance)
