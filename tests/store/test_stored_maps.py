"""Maps that are read when the spatial transform knows what it needs, against maps of the whole loaded patch."""

import re

import numpy as np
import pytest
import torch
from spatial_transforms import spatial

from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE, INTERIOR_DISTANCE, KINDS, LESION_IDS, LabelScheme, compute_distances
from nnunet_rw.store.files import map_path
from nnunet_rw.store.layout import MapLayout
from nnunet_rw.store.read import MapPatch, StoredMaps
from nnunet_rw.training.dataloading import MAP_PATCH, MAPS, SPACING

DISTANCES = (INTERIOR_DISTANCE, BOUNDARY_DISTANCE)
SPACING_MM = (1.0, 1.5, 2.0)
SHAPE = (24, 26, 22)
CONFIGURATIONS = {"3d_fullres": {"spacing": SPACING_MM}, "2d": {"patch_size": (16, 16), "spacing": SPACING_MM[1:]}}
# Boxes of a patch: in the image, and beyond it at three sides.
BOXES = {
    "3d_fullres": [((2, 22), (3, 23), (1, 21)), ((-4, 20), (-2, 18), (6, 30))],
    "2d": [((5, 6), (3, 23), (1, 21)), ((5, 6), (-2, 18), (6, 30))],
}


@pytest.fixture
def make_patch(make_dataset, blobs):
    def make(configuration, box):
        labels = blobs(SHAPE, num_classes=3, share=0.2)
        classes = {"background": 0, "one": 1, "two": 2}
        dataset = make_dataset({"a": labels, "b": labels}, classes, configurations=CONFIGURATIONS)
        dataset.write_maps(KINDS, configuration)
        settings = dataset.settings(configuration)
        layout = MapLayout.of(KINDS, settings.scheme)
        stored = StoredMaps(str(dataset.data_folder(configuration)), layout, settings)
        inside = [slice(max(0, low), min(high, size)) for (low, high), size in zip(box, SHAPE, strict=True)]
        beyond = [(piece.start - low, high - piece.stop) for piece, (low, high) in zip(inside, box, strict=True)]
        loaded = torch.from_numpy(np.pad(labels[tuple(inside)], beyond, constant_values=-1))
        loaded = loaded[0] if configuration == "2d" else loaded
        return MapPatch(stored, "a", SHAPE, box, loaded), layout, labels

    return make


def moved(patch, layout, zoom, angle, late, size=12):
    """Labels and maps of the patch's centre, zoomed and rotated."""
    np.random.seed(4)
    maps = {MAP_PATCH: patch} if late else {MAPS: patch.whole()}
    sample = {"image": torch.zeros(1, *patch.labels.shape), "segmentation": patch.labels[None].to(torch.int16)}
    sample[SPACING] = SPACING_MM[-patch.labels.ndim :]
    sample = spatial((size,) * patch.labels.ndim, layout, zoom, angle)(**sample, **maps)
    assert MAP_PATCH not in sample
    return sample["segmentation"][0], sample[MAPS]


def test_distances_continued_outward_by_hand():
    # 5 mm beyond a voxel of the background, of class 1 and of class 2. Channels: interior distance, boundaries of the
    # background, of class 1, and of class 2, which has none in this image. Across a channel's boundary from the
    # background only the way to the image counts.
    layout = MapLayout.of(DISTANCES, LabelScheme.classes(3))
    at_border = torch.tensor([[3.0, 2, 1], [3, 2, 4], [3, 2, 1], [0, 0, 0]])
    found = layout.continued_outward(at_border, at_border, torch.full((3,), 5.0), torch.tensor([0, 1, 2]))
    assert found.tolist() == [[8, 5, 5], [8, 5, 5], [8, 5, 6], [0, 0, 0]]
    # Of regions, 2 within 1.
    layout = MapLayout.of(DISTANCES, LabelScheme(((1, 2), (2,)), regions=True))
    found = layout.continued_outward(at_border[:2], at_border[:2], torch.full((3,), 5.0), torch.tensor([-1, 1, 2]))
    assert found.tolist() == [[8, 5, 5], [8, 7, 5]]


@pytest.mark.parametrize("number", [0, 1], ids=["within", "beyond"])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_part_is_that_of_the_whole(make_patch, configuration, number):
    patch, _, _ = make_patch(configuration, BOXES[configuration][number])
    axes = patch.labels.ndim
    lows, sizes = (3, 0, 4)[-axes:], (16, 15, 16)[-axes:]
    part = (slice(None), *(slice(low, low + size) for low, size in zip(lows, sizes, strict=True)))
    assert torch.equal(patch.crop(lows, sizes), patch.whole()[part])
    assert torch.equal(patch.within_image(), patch.whole()[(slice(None), *patch.inside)])
    assert torch.all(patch.labels[patch.inside] >= 0)


@pytest.mark.parametrize("number", [0, 1], ids=["within", "beyond"])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_patch_that_is_only_cropped(make_patch, configuration, number):
    patch, layout, _ = make_patch(configuration, BOXES[configuration][number])
    for size in (12, 28):  # the latter more than was loaded
        labels, maps = moved(patch, layout, None, 0.0, late=True, size=size)
        expected_labels, expected = moved(patch, layout, None, 0.0, late=False, size=size)
        assert torch.equal(labels, expected_labels)
        assert torch.equal(maps, expected)


@pytest.mark.parametrize("zoom", [0.7, 1.4])
@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_a_patch_within_the_image_is_sampled_alike(make_patch, configuration, zoom):
    patch, layout, _ = make_patch(configuration, BOXES[configuration][0])
    labels, maps = moved(patch, layout, zoom, 0.5, late=True)
    expected_labels, expected = moved(patch, layout, zoom, 0.5, late=False)
    assert torch.equal(labels, expected_labels)
    torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("zoom", [0.7, 1.4])
def test_beyond_the_image_distances_grow(make_patch, zoom):
    box = BOXES["3d_fullres"][1]
    patch, layout, labels = make_patch("3d_fullres", box)
    transformed, maps = moved(patch, layout, zoom, 0.5, late=True)
    _, expected = moved(patch, layout, zoom, 0.5, late=False)
    # The truth: the same labels in so much background that nothing lies beyond it.
    margin = 40
    whole = np.pad(labels, margin)
    part = (slice(None), *(slice(low + margin, high + margin) for low, high in box))
    truth = np.concatenate([compute_distances(kind, whole, layout.scheme, SPACING_MM) for kind in DISTANCES])[part]
    ids = patch.whole()[layout.num_distances :]
    patch.whole = lambda: torch.cat([torch.from_numpy(truth), ids])
    _, true = moved(patch, layout, zoom, 0.5, late=False)
    outside = (transformed < 0).expand_as(maps[: layout.num_distances])
    distances, true_distances = maps[: layout.num_distances], true[: layout.num_distances]
    assert 0 < outside.float().mean() < 0.9
    assert torch.all(distances[outside] > 0)
    # Interpolated across a boundary, the true unsigned distance is too long by up to half of the largest voxel edge.
    assert torch.all((distances - true_distances)[outside] > -0.5 * max(SPACING_MM) / zoom)
    # As close to what the continued map gives as that is to the truth.
    error, earlier = ((values[: layout.num_distances] - true_distances)[outside] for values in (maps, expected))
    assert error.abs().mean() < 1.2 * earlier.abs().mean()
    # Every lesion voxel still has an id.
    lesion = (transformed > 0) & (maps[layout.num_distances :] == 0).all(0)
    assert LESION_IDS in layout.kinds
    assert not lesion.any()


def test_map_damaged_within_is_named(make_patch):
    patch, _, _ = make_patch("3d_fullres", BOXES["3d_fullres"][0])
    path = map_path(patch.stored.data_folder, INTERIOR_DISTANCE, "a", patch.stored.settings)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(1000) + content[middle + 1000 :])
    with pytest.raises(
        ValueError, match=rf"Map file {re.escape(str(path))} is damaged\. Delete it\. Run: nnunet-rw maps"
    ):
        patch.whole()
