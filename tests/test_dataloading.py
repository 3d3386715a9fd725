"""Patches and their maps, read from preprocessed cases on disk."""

import multiprocessing

import numpy as np
import pytest
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_rw.dataloading import MapDataLoader, StoredMaps
from nnunet_rw.layout import MapLayout
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, KINDS, LESION_IDS, SIGNED_DISTANCE, compute_distances
from nnunet_rw.store import map_path, open_map
from nnunet_rw.transforms import carry_maps

REGIONS = {"background": 0, "whole": [1, 2], "core": 2}
# float16 keeps 11 bits.
FLOAT16 = {"rtol": 2**-11, "atol": 1e-3}


def pipelines(dataset, configuration="3d_fullres"):
    """nnU-Net's training and validation transforms, two scales."""
    manager = dataset.plans_manager()
    label_manager = manager.get_label_manager(dataset.dataset_json)
    patch_size = manager.get_configuration(configuration).patch_size
    scales = [[1.0] * len(patch_size), [0.5] * len(patch_size)]
    common = {
        "regions": label_manager.foreground_regions if label_manager.has_regions else None,
        "ignore_label": label_manager.ignore_label,
    }
    training = nnUNetTrainer.get_training_transforms(
        patch_size, (-0.5, 0.5), scales, tuple(range(len(patch_size))), False, **common
    )
    return training, nnUNetTrainer.get_validation_transforms(scales, **common)


def make_loader(dataset, kinds=KINDS, configuration="3d_fullres", transforms=None, by_lesion=False, **options):
    """MapDataLoader without augmentation and without a larger first patch, unless given."""
    settings = dataset.settings(configuration)
    folder = str(dataset.data_folder(configuration))
    plans_manager = dataset.plans_manager()
    patch_size = plans_manager.get_configuration(configuration).patch_size
    return MapDataLoader(
        nnUNetDatasetBlosc2(folder),
        options.pop("batch_size", 2),
        options.pop("first_patch_size", patch_size),
        patch_size,
        plans_manager.get_label_manager(dataset.dataset_json),
        oversample_foreground_percent=options.pop("oversample", 0.33),
        transforms=transforms or pipelines(dataset, configuration)[1],
        stored=StoredMaps(folder, MapLayout.of(kinds, settings.scheme), settings.spacing_mm) if kinds else None,
        lesions=StoredMaps(folder, MapLayout.of([LESION_IDS], settings.scheme), settings.spacing_mm)
        if by_lesion
        else None,
        **options,
    )


@pytest.fixture(autouse=True)
def fixed_seeds():
    np.random.seed(1)
    torch.manual_seed(1)


@pytest.mark.parametrize(
    ("labels", "num_classes", "channels"),
    [
        # Interior distance, signed distances with the background's, lesion ids.
        ({"background": 0, "lesion": 1}, 2, 1 + 2 + 1),
        ({"background": 0, "one": 1, "two": 2}, 3, 1 + 3 + 2),
        # Regions overlap, so each has its own interior distance, and the background none.
        (REGIONS, 3, 2 + 2 + 2),
        ({"background": 0, "lesion": 1, "ignore": 2}, 3, 1 + 2 + 1),
        ({**REGIONS, "ignore": 3}, 4, 2 + 2 + 2),
    ],
    ids=["lesion", "classes", "regions", "ignore", "regions_ignore"],
)
def test_batches_carry_maps_and_lesions_beside_what_nnunet_loads(make_dataset, blobs, labels, num_classes, channels):
    cases = {name: blobs((20, 22, 24), seed, num_classes, share=0.2) for seed, name in enumerate("abc")}
    dataset = make_dataset(cases, labels, regions_class_order=[1, 2] if "whole" in labels else None)
    dataset.write_maps(KINDS)
    batch = make_loader(dataset, batch_size=3).generate_train_batch()
    assert set(batch) == {"data", "target", "keys", "maps", "lesion_table"}
    heads = (2 + ("ignore" in labels)) if "whole" in labels else 1
    assert batch["data"].shape == (3, 1, 16, 16, 16)
    assert [target.shape for target in batch["target"]] == [(3, heads, 16, 16, 16), (3, heads, 8, 8, 8)]
    assert batch["maps"].shape == (3, channels, 16, 16, 16)
    assert batch["data"].dtype == batch["maps"].dtype == batch["lesion_table"].dtype == torch.float32
    assert batch["lesion_table"].shape[:2] == (3, 2)
    labelled = [np.count_nonzero(cases[case] != labels.get("ignore", -1)) for case in batch["keys"]]
    assert batch["lesion_table"][:, 0, 0].tolist() == labelled
    assert torch.isfinite(batch["maps"]).all()


def test_two_dimensional_batches_carry_distances_of_the_slice_and_lesions_of_the_volume(make_dataset, blobs):
    labels = blobs((20, 22, 24), num_classes=3, share=0.2)
    dataset = make_dataset(
        {"a": labels, "b": labels},
        {"background": 0, "one": 1, "two": 2},
        configurations={"2d": {"patch_size": (16, 16), "spacing": (2.0, 3.0)}},
    )
    dataset.write_maps(KINDS, "2d")
    loader = make_loader(dataset, configuration="2d", batch_size=1)
    batch = loader.generate_train_batch()
    assert batch["data"].shape == (1, 1, 16, 16)
    assert batch["maps"].shape == (1, 6, 16, 16)
    (slice_index, _), *box = loader.box
    box = tuple(slice(low, high) for low, high in box)
    scheme = dataset.settings("2d").scheme
    expected = compute_distances(SIGNED_DISTANCE, labels[slice_index], scheme, (2.0, 3.0))[(slice(None), *box)]
    np.testing.assert_allclose(batch["maps"][0, 1:4].numpy(), expected, **FLOAT16)
    table = open_map(dataset.data_folder("2d"), LESION_IDS, "a")[1]["lesions"]
    assert batch["lesion_table"][0, 0, 1:].tolist() == table["voxels"]


def test_the_maps_of_a_patch_are_the_stored_maps_of_its_box(make_dataset, blobs):
    dataset = make_dataset({name: blobs((20, 26, 24), seed) for seed, name in enumerate("ab")})
    dataset.write_maps(KINDS)
    loader = make_loader(dataset, batch_size=1)
    seen = set()
    for _ in range(6):
        batch = loader.generate_train_batch()
        case, box = batch["keys"][0], tuple(slice(low, high) for low, high in loader.box)
        stored = [open_map(dataset.data_folder(), kind, case)[0][(slice(None), *box)] for kind in KINDS]
        assert np.array_equal(batch["maps"][0].numpy(), np.concatenate(stored).astype(np.float32))
        assert np.array_equal(batch["target"][0][0, 0].numpy(), dataset.labels[case][box])
        seen.add((case, box[0].start))
    assert len(seen) > 3


def test_a_lesion_cut_by_the_patch_keeps_its_identity_and_its_volume(make_dataset):
    # A U: 2 arms of 32 voxels and the 9 between them, which no patch holds that begins before voxel 20.
    labels = np.zeros((40, 40, 40), np.int16)
    labels[4:36, 10, 10] = labels[4:36, 20, 10] = 1
    labels[35, 10:21, 10] = 1
    dataset = make_dataset({"a": labels, "b": labels})
    dataset.write_maps([LESION_IDS])
    loader = make_loader(dataset, [LESION_IDS], batch_size=1)
    num_with_both_arms = 0
    for _ in range(100):
        batch = loader.generate_train_batch()
        ids, lesion = batch["maps"][0, 0], batch["target"][0][0, 0] == 1
        assert torch.all(ids[lesion] == 1)
        assert batch["lesion_table"][0].tolist() == [[40**3, 73.0], [-1.0, 0.0]]
        arms = lesion.any(2).any(0).sum()
        num_with_both_arms += int(arms == 2 and loader.box[0][0] < 20)
    assert num_with_both_arms > 3


@pytest.mark.parametrize("start", [0, 3], ids=["at_the_border", "within"])
def test_the_box_that_reaches_beyond_a_small_case_continues_distances_outwards(make_dataset, start):
    # 12 voxels where the patch has 16: two before and two after. Truth: the labels in a larger volume of background.
    labels, spacing, margin = np.zeros((12, 30, 10), np.int16), (2.0, 1.0, 3.0), 8
    labels[start : start + 3, 10:20, start : start + 3] = 1
    dataset = make_dataset({"a": labels, "b": labels}, configurations={"3d_fullres": {"spacing": spacing}})
    dataset.write_maps(KINDS)
    batch = (loader := make_loader(dataset, batch_size=1)).generate_train_batch()
    lows = [low for low, _ in loader.box]
    assert lows[0] == -2
    assert lows[2] == -3
    scheme = dataset.settings().scheme
    truth = np.concatenate([compute_distances(kind, np.pad(labels, margin), scheme, spacing) for kind in KINDS[:2]])
    truth = truth[(slice(None), *(slice(low + margin, low + margin + 16) for low in lows))]
    carried = batch["maps"][0, :3].numpy()
    inside = np.zeros((16, 16, 16), bool)
    inside[2:14, max(0, -lows[1]) :, 3:13] = True
    sign = np.array([1, -1, 1]).reshape(3, 1, 1, 1)
    assert np.all((sign * carried)[:, ~inside] > 0)
    assert np.all((sign * carried)[:, ~inside] >= (sign * truth)[:, ~inside] - 0.01)
    if start > 0:  # the image's own border is no boundary, but in the larger volume it is one
        np.testing.assert_allclose(carried[:, inside], truth[:, inside], **FLOAT16)
    # Straight outwards from the lesion, along either axis: exact.
    row, column = 12 - lows[1], start - lows[2]
    beyond = ~inside[:, row, column]
    np.testing.assert_allclose(carried[:, beyond, row, column], truth[:, beyond, row, column], **FLOAT16)
    beyond = ~inside[start + 2, row]
    np.testing.assert_allclose(carried[:, start + 2, row][:, beyond], truth[:, start + 2, row][:, beyond], **FLOAT16)
    # The patch still says that nothing is there, and lesions keep their ids in it.
    assert torch.all(batch["target"][0][0, 0][torch.from_numpy(~inside)] == 0)
    assert torch.all(batch["maps"][0, -1][batch["target"][0][0, 0] == 1] == 1)


def test_a_map_of_another_shape_is_refused_with_the_remedy(make_dataset, blobs):
    dataset = make_dataset({"a": blobs((20, 20, 20)), "b": blobs((20, 20, 21))})
    dataset.write_maps([INTERIOR_DISTANCE])
    folder = dataset.data_folder()
    map_path(folder, INTERIOR_DISTANCE, "a").write_bytes(map_path(folder, INTERIOR_DISTANCE, "b").read_bytes())
    loader = make_loader(dataset, [INTERIOR_DISTANCE], batch_size=1)
    loader.indices = ["a"]
    message = r"map of case 'a' in .* to have shape \(1, 20, 20, 20\), but got \(1, 20, 20, 21\).*nnunet-rw maps"
    with pytest.raises(ValueError, match=message):
        loader.generate_train_batch()


def test_a_missing_map_is_named_with_the_command_that_writes_it(make_dataset, blobs):
    dataset = make_dataset({"a": blobs((20, 20, 20)), "b": blobs((20, 20, 20))})
    loader = make_loader(dataset, [SIGNED_DISTANCE], batch_size=1)
    message = r"No signed_distance map for case '[ab]' .*nnunet-rw maps -d Dataset900_Synthetic -c 3d_fullres"
    with pytest.raises(FileNotFoundError, match=message):
        loader.generate_train_batch()


@pytest.fixture
def one_large_and_many_small(make_dataset):
    """A lesion of 1000 voxels and six of 3, far enough from the border for any voxel to be a patch's centre."""
    labels = np.zeros((48, 48, 48), np.int16)
    labels[10:20, 10:20, 10:20] = 1
    for number in range(6):
        labels[30, 10 + 5 * number, 10:13] = 1
    empty = np.zeros_like(labels)
    dataset = make_dataset({"a": labels, "empty": empty})
    dataset.write_maps([LESION_IDS])
    return dataset


def centres(loader, case, draws):
    """Centre voxels of forced foreground patches of a case."""
    _, _, _, properties = loader._data.load_case(case)
    shape = np.array((48, 48, 48))
    boxes = [loader.get_bbox(shape, True, properties["class_locations"]) for _ in range(draws)]
    return np.array([np.add(lows, 8) for lows, _ in boxes])


def test_by_lesion_every_lesion_is_the_centre_equally_often(one_large_and_many_small):
    dataset = one_large_and_many_small
    loader = make_loader(dataset, [LESION_IDS], by_lesion=True)
    found = centres(loader, "a", 700)
    ids = open_map(dataset.data_folder(), LESION_IDS, "a")[0][0]
    assert np.all(dataset.labels["a"][tuple(found.T)] == 1)
    counts = np.bincount(ids[tuple(found.T)], minlength=8)[1:]
    # Binomial(700, 1/7): mean 100, standard deviation 9.3.
    assert counts.sum() == 700
    assert counts.min() > 100 - 5 * 9.3
    assert counts.max() < 100 + 5 * 9.3
    # Within the large lesion every voxel alike: its ten planes, 10 draws each on average.
    in_large = found[ids[tuple(found.T)] == ids[10, 10, 10]]
    assert len(np.unique(in_large[:, 0])) == 10


def test_by_voxel_the_large_lesion_is_the_centre_nearly_always(one_large_and_many_small):
    loader = make_loader(one_large_and_many_small, [LESION_IDS])
    found = centres(loader, "a", 300)
    # 1000 of 1018 voxels.
    assert np.mean(found[:, 0] < 20) > 0.95


def test_a_case_without_lesion_is_drawn_at_random(one_large_and_many_small):
    loader = make_loader(one_large_and_many_small, [LESION_IDS], by_lesion=True)
    found = centres(loader, "empty", 50)
    assert all(len(np.unique(found[:, axis])) > 10 for axis in range(3))
    batch = make_loader(one_large_and_many_small, by_lesion=True, kinds=(), oversample=1.0).generate_train_batch()
    assert set(batch) == {"data", "target", "keys"}


@pytest.mark.parametrize("labels", [REGIONS, {"background": 0, "one": 1, "two": 2, "ignore": 3}])
def test_by_lesion_the_centre_lies_in_a_labelled_lesion_of_any_class_or_region(make_dataset, blobs, labels):
    drawn = blobs((40, 40, 40), num_classes=3, share=0.02)
    if "ignore" in labels:
        drawn[drawn == 0] = np.where(np.random.default_rng(0).random(np.sum(drawn == 0)) < 0.3, 3, 0)
    dataset = make_dataset({"a": drawn, "b": drawn}, labels, [1, 2] if labels is REGIONS else None)
    dataset.write_maps([LESION_IDS])
    # The first patch of a batch is nnU-Net's: anywhere, with an ignore label around any labelled voxel.
    loader = make_loader(dataset, [LESION_IDS], by_lesion=True, batch_size=2, oversample=0.5)
    classes = set()
    for _ in range(60):
        batch = loader.generate_train_batch()
        centre = tuple(low + 8 for low, _ in loader.box)
        if all(low > 0 for low, _ in loader.box):
            assert drawn[centre] in (1, 2)
            classes.add(int(drawn[centre]))
        assert batch["maps"].shape[1] == 2
    assert classes == {1, 2}


def without_timing(pipeline):
    """nnU-Net's blur measures which of two algorithms is faster; they differ in the last digits."""
    for transform in pipeline.transforms:
        if isinstance(transform, RandomTransform) and hasattr(transform.transform, "benchmark"):
            transform.transform.benchmark = False
    return pipeline


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_by_voxel_data_and_target_are_bit_for_bit_those_of_nnunets_loader(make_dataset, blobs, configuration):
    axes = 2 if configuration == "2d" else 3
    patch_size, spacing, first_patch_size = (16,) * axes, (1.0,) * axes, (20,) * axes
    dataset = make_dataset(
        {name: blobs((26, 22, 24), seed) for seed, name in enumerate("abc")},
        configurations={configuration: {"patch_size": patch_size, "spacing": spacing}},
    )
    dataset.write_maps(KINDS, configuration)
    settings = dataset.settings(configuration)
    mine = make_loader(
        dataset,
        configuration=configuration,
        first_patch_size=first_patch_size,
        transforms=carry_maps(
            without_timing(pipelines(dataset, configuration)[0]),
            MapLayout.of(KINDS, settings.scheme),
            settings.spacing_mm,
        ),
    )
    stock = nnUNetDataLoader(
        nnUNetDatasetBlosc2(str(dataset.data_folder(configuration))),
        2,
        first_patch_size,
        patch_size,
        dataset.plans_manager().get_label_manager(dataset.dataset_json),
        oversample_foreground_percent=0.33,
        transforms=without_timing(pipelines(dataset, configuration)[0]),
    )
    batches = []
    for loader in (mine, stock):
        np.random.seed(3)
        torch.manual_seed(3)
        batches.append([loader.generate_train_batch() for _ in range(10)])
    for ours, theirs in zip(*batches, strict=True):
        assert list(ours["keys"]) == list(theirs["keys"])
        assert torch.equal(ours["data"], theirs["data"])
        assert all(torch.equal(a, b) for a, b in zip(ours["target"], theirs["target"], strict=True))
        assert ours["maps"].shape == (2, 4, *patch_size)
    assert len({float(ours["data"].sum()) for ours in batches[0]}) == 10


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_worker_processes_yield_batches_with_maps(make_dataset, blobs, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"This system cannot {method}.")
    dataset = make_dataset({name: blobs((20, 22, 24), seed) for seed, name in enumerate("ab")})
    dataset.write_maps(KINDS)
    settings = dataset.settings()
    pipeline = carry_maps(pipelines(dataset)[0], MapLayout.of(KINDS, settings.scheme), settings.spacing_mm)
    loader = make_loader(dataset, transforms=pipeline, by_lesion=True, first_patch_size=(20, 20, 20))
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    augmenter = NonDetMultiThreadedAugmenter(loader, None, num_processes=1, num_cached=2, wait_time=0.002)
    try:
        batches = [next(augmenter) for _ in range(3)]
    finally:
        augmenter._finish()
        multiprocessing.set_start_method(before, force=True)
    for batch in batches:
        assert batch["maps"].shape == (2, 4, 16, 16, 16)
        assert batch["lesion_table"].shape[:2] == (2, 2)
        assert torch.isfinite(batch["maps"]).all()
