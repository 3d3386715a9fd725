"""Patches and their maps, read from preprocessed cases on disk."""

import multiprocessing
import pickle

import numpy as np
import pytest
import torch
from batchgenerators.dataloading.nondet_multi_threaded_augmenter import NonDetMultiThreadedAugmenter
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_rw.maps.kinds import BOUNDARY_DISTANCE, INTERIOR_DISTANCE, KINDS, LESION_IDS, compute_distances
from nnunet_rw.store.files import lesion_table, map_path, open_map
from nnunet_rw.store.layout import MapLayout
from nnunet_rw.store.read import StoredMaps
from nnunet_rw.training.dataloading import MapDataLoader, carry_maps

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


def make_loader(dataset, kinds=KINDS, configuration="3d_fullres", transforms=None, **options):
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
        maps=StoredMaps(folder, MapLayout.of(kinds, settings.scheme), settings),
        **options,
    )


@pytest.fixture(autouse=True)
def fixed_seeds():
    np.random.seed(1)
    torch.manual_seed(1)


@pytest.mark.parametrize(
    ("labels", "num_classes", "channels"),
    [
        # Interior distance, which is that to the boundary too, and lesion ids.
        ({"background": 0, "lesion": 1}, 2, 1 + 1),
        # Interior distance, that to each head's boundary, lesion ids.
        ({"background": 0, "one": 1, "two": 2}, 3, 1 + 3 + 2),
        # Regions overlap, so each has its own interior distance, and the background none.
        (REGIONS, 3, 2 + 2),
        ({"background": 0, "lesion": 1, "ignore": 2}, 3, 1 + 1),
        ({**REGIONS, "ignore": 3}, 4, 2 + 2),
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
    expected = compute_distances(BOUNDARY_DISTANCE, labels[slice_index], scheme, (2.0, 3.0))[(slice(None), *box)]
    np.testing.assert_allclose(batch["maps"][0, 1:4].numpy(), expected, **FLOAT16)
    table = lesion_table(open_map(dataset.data_folder("2d"), LESION_IDS, "a", dataset.settings("2d")))
    assert batch["lesion_table"][0, 0, 1:].tolist() == table.voxels.tolist()


def test_the_maps_of_a_patch_are_the_stored_maps_of_its_box(make_dataset, blobs):
    dataset = make_dataset({name: blobs((20, 26, 24), seed) for seed, name in enumerate("ab")})
    dataset.write_maps(KINDS)
    loader = make_loader(dataset, batch_size=1)
    seen = set()
    for _ in range(6):
        batch = loader.generate_train_batch()
        case, box = batch["keys"][0], tuple(slice(low, high) for low, high in loader.box)
        settings = dataset.settings()
        stored = [
            open_map(dataset.data_folder(), kind, case, settings)[(slice(None), *box)]
            for kind in settings.stored_kinds(KINDS)
        ]
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
    labels[start : start + 3, 27:29, start : start + 3] = 2
    dataset = make_dataset(
        {"a": labels, "b": labels},
        {"background": 0, "one": 1, "two": 2},
        configurations={"3d_fullres": {"spacing": spacing}},
    )
    dataset.write_maps(KINDS)
    batch = (loader := make_loader(dataset, batch_size=1)).generate_train_batch()
    lows = [low for low, _ in loader.box]
    assert lows[0] == -2
    assert lows[2] == -3
    scheme = dataset.settings().scheme
    distances = (INTERIOR_DISTANCE, BOUNDARY_DISTANCE)
    truth = np.concatenate([compute_distances(kind, np.pad(labels, margin), scheme, spacing) for kind in distances])
    truth = truth[(slice(None), *(slice(low + margin, low + margin + 16) for low in lows))]
    carried = batch["maps"][0, :4].numpy()
    inside = np.zeros((16, 16, 16), bool)
    inside[2:14, max(0, -lows[1]) :, 3:13] = True
    assert np.all(carried[:, ~inside] > 0)
    assert np.all(carried[:, ~inside] >= truth[:, ~inside] - 0.01)
    if start > 0:  # the image's own border is no boundary, but in the larger volume it is one
        np.testing.assert_allclose(carried[:, inside], truth[:, inside], **FLOAT16)
    # Straight outwards from the first lesion, along either axis: exact, but for the other's own distance.
    row, column = 12 - lows[1], start - lows[2]
    beyond = ~inside[:, row, column]
    np.testing.assert_allclose(carried[:3, beyond, row, column], truth[:3, beyond, row, column], **FLOAT16)
    beyond = ~inside[start + 2, row]
    carried, truth = carried[:3, start + 2, row], truth[:3, start + 2, row]
    np.testing.assert_allclose(carried[:, beyond], truth[:, beyond], **FLOAT16)
    # The patch still says that nothing is there, and lesions keep their ids in it.
    assert torch.all(batch["target"][0][0, 0][torch.from_numpy(~inside)] == 0)
    assert torch.all(batch["maps"][0, -2][batch["target"][0][0, 0] == 1] == 1)
    assert torch.all(batch["maps"][0, -1][batch["target"][0][0, 0] == 2] == 2)


def test_a_map_of_another_shape_is_refused_with_the_remedy(make_dataset, blobs):
    dataset = make_dataset({"a": blobs((20, 20, 20)), "b": blobs((20, 20, 21))})
    dataset.write_maps([INTERIOR_DISTANCE])
    folder, settings = dataset.data_folder(), dataset.settings()
    stored = StoredMaps(str(folder), MapLayout.of([INTERIOR_DISTANCE], settings.scheme), settings)
    message = r"map of case 'a' in .* to have shape \(1, 20, 20, 21\), but got \(1, 20, 20, 20\).*nnunet-rw maps"
    with pytest.raises(ValueError, match=message):
        stored.crop("a", (20, 20, 21), [(0, 16)] * 3, torch.zeros(16, 16, 16))


def test_a_map_of_another_segmentation_is_refused_with_the_remedy(make_dataset, blobs):
    dataset = make_dataset({"a": blobs((20, 20, 20)), "b": blobs((20, 20, 20), 1)})
    dataset.write_maps([INTERIOR_DISTANCE])
    folder, settings = dataset.data_folder(), dataset.settings()
    paths = [map_path(folder, INTERIOR_DISTANCE, case, settings) for case in "ab"]
    paths[0].write_bytes(paths[1].read_bytes())
    loader = make_loader(dataset, [INTERIOR_DISTANCE], batch_size=1)
    loader.indices = ["a"]
    with pytest.raises(ValueError, match=r"a\.b2nd is of another segmentation .* Run: nnunet-rw maps -d Dataset900"):
        loader.generate_train_batch()


def test_a_map_is_checked_when_a_process_opens_it_for_the_first_time(make_dataset, blobs, monkeypatch):
    dataset = make_dataset({"a": blobs((20, 20, 20)), "b": blobs((20, 20, 20), 1)})
    dataset.write_maps(KINDS)
    checks = []

    def opened(folder, kind, case, settings, check=True):
        checks.append((kind, case, check))
        return open_map(folder, kind, case, settings, check)

    monkeypatch.setattr("nnunet_rw.store.read.open_map", opened)
    loader = make_loader(dataset, [INTERIOR_DISTANCE], batch_size=1)
    for case in "aabba":
        loader.indices = [case]
        loader.generate_train_batch()
    assert checks == [(INTERIOR_DISTANCE, case, first) for case, first in zip("aabba", (1, 0, 1, 0, 0), strict=True)]


def test_a_missing_map_is_named_with_the_command_that_writes_it(make_dataset, blobs):
    dataset = make_dataset({"a": blobs((20, 20, 20)), "b": blobs((20, 20, 20))})
    loader = make_loader(dataset, [BOUNDARY_DISTANCE], batch_size=1)
    message = r"No interior_distance map for case '[ab]' .*nnunet-rw maps -d Dataset900_Synthetic -c 3d_fullres"
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
    loader = make_loader(dataset, [LESION_IDS], oversample_by="lesion")
    found = centres(loader, "a", 700)
    ids = open_map(dataset.data_folder(), LESION_IDS, "a", dataset.settings())[0]
    assert np.all(dataset.labels["a"][tuple(found.T)] == 1)
    counts = np.bincount(ids[tuple(found.T)], minlength=8)[1:]
    # Binomial(700, 1/7): mean 100, standard deviation 9.3.
    assert counts.sum() == 700
    assert counts.min() > 100 - 5 * 9.3
    assert counts.max() < 100 + 5 * 9.3
    # Within the large lesion its 64 locations alike, which are spread over its ten planes: 10 draws each on average.
    in_large = found[ids[tuple(found.T)] == ids[10, 10, 10]]
    assert len(np.unique(in_large[:, 0])) == 10
    assert 40 < len(np.unique(in_large, axis=0)) <= 64


def test_by_voxel_the_large_lesion_is_the_centre_nearly_always(one_large_and_many_small):
    loader = make_loader(one_large_and_many_small, [LESION_IDS])
    found = centres(loader, "a", 300)
    # 1000 of 1018 voxels.
    assert np.mean(found[:, 0] < 20) > 0.95


def test_by_lesion_the_voxel_is_drawn_from_the_table_without_a_look_at_the_ids(one_large_and_many_small, monkeypatch):
    loader = make_loader(one_large_and_many_small, [LESION_IDS], oversample_by="lesion")
    monkeypatch.setattr(StoredMaps, "_read", None)
    table = loader.maps.lesions("a")
    found = centres(loader, "a", 20)
    assert {tuple(voxel) for voxel in found} <= {tuple(voxel) for voxel in table.locations.tolist()}
    # The table is parsed once, then no file is opened either.
    monkeypatch.setattr("nnunet_rw.store.read.open_map", None)
    assert loader.maps.lesions("a") is table
    assert len(centres(loader, "a", 20)) == 20


def test_locations_of_eight_bits_are_drawn_without_overflow(make_dataset):
    # Voxels are stored as bytes, and nnU-Net subtracts half a patch from them: 250 - 8, and 3 - 8, so from the border.
    labels = np.zeros((256, 20, 20), np.int16)
    labels[250, 10, 10] = labels[3, 10, 10] = 1
    dataset = make_dataset({"a": labels, "b": labels})
    dataset.write_maps([LESION_IDS])
    loader = make_loader(dataset, [LESION_IDS], oversample_by="lesion")
    assert loader.maps.lesions("a").locations.dtype == np.uint8
    loader._data.load_case("a")
    lows = {loader.get_bbox(np.array(labels.shape), True, {})[0][0] for _ in range(20)}
    assert lows == {242, 0}


@pytest.fixture
def three_two_and_no_lesions(make_dataset):
    """Cases of two classes with 2 + 1, 0 + 2 and no lesions; the validation case of fold 0 has one."""
    cases = {name: np.zeros((20, 20, 20), np.int16) for name in ("three", "none", "two", "one")}
    cases["three"][4, 4, [4, 8]] = cases["one"][4, 4, 4] = 1
    cases["three"][9, 9, 9:12] = cases["two"][4, 4, [4, 8]] = 2
    dataset = make_dataset(cases, {"background": 0, "one": 1, "two": 2})
    dataset.write_maps([LESION_IDS])
    return dataset


def test_cases_are_drawn_in_proportion_to_their_lesions(three_two_and_no_lesions):
    loader = make_loader(three_two_and_no_lesions, [LESION_IDS], cases_by="lesion")
    assert loader.indices == ["none", "one", "three", "two"]
    np.testing.assert_allclose(loader.sampling_probabilities, [0, 1 / 6, 3 / 6, 2 / 6])
    drawn = [case for _ in range(200) for case in loader.get_indices()]
    counts = {case: drawn.count(case) for case in loader.indices}
    # Binomial(400, p): within five standard deviations, of at most 10. One without lesions is never drawn.
    assert counts["none"] == 0
    for case, share in (("one", 1 / 6), ("three", 3 / 6), ("two", 2 / 6)):
        assert abs(counts[case] - 400 * share) < 50
    batch = loader.generate_train_batch()
    assert "none" not in batch["keys"]
    assert batch["maps"].shape == (2, 2, 16, 16, 16)


def test_cases_are_drawn_alike_by_default(three_two_and_no_lesions):
    loader = make_loader(three_two_and_no_lesions, [LESION_IDS])
    assert loader.sampling_probabilities is None
    drawn = {case for _ in range(50) for case in loader.get_indices()}
    assert drawn == {"none", "one", "three", "two"}


def test_cases_are_drawn_by_lesions_also_where_no_maps_are_carried(three_two_and_no_lesions):
    loader = make_loader(three_two_and_no_lesions, (), cases_by="lesion", carry=False, batch_size=8)
    np.testing.assert_allclose(loader.sampling_probabilities, [0, 1 / 6, 3 / 6, 2 / 6])
    batch = loader.generate_train_batch()
    assert set(batch) == {"data", "target", "keys"}
    assert "none" not in batch["keys"]


def test_cases_cannot_be_drawn_by_lesions_where_there_are_none(make_dataset):
    empty = np.zeros((20, 20, 20), np.int16)
    dataset = make_dataset({"a": empty, "b": empty})
    dataset.write_maps([LESION_IDS])
    with pytest.raises(ValueError, match=r"No case of .*3d_fullres has a lesion.* Set cases_by = 'case'"):
        make_loader(dataset, [LESION_IDS], cases_by="lesion")


@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_batches_carry_the_spacing_of_every_case(make_dataset, blobs, configuration):
    # Plans that do not resample: the map of each case is in its own mm.
    labels, axes = blobs((20, 22, 24), share=0.2), int(configuration[0])
    dataset = make_dataset(
        {"a": labels, "b": labels, "c": labels},
        configurations={
            configuration: {
                "patch_size": (16,) * axes,
                "spacing": (1.0,) * axes,
                "resampling_fn_seg": "no_resampling_hack",
            }
        },
    )
    spacings = {"a": [3.0, 1.0, 0.5], "b": [1.0, 2.0, 4.0], "c": [0.5, 0.5, 2.0]}
    for case, spacing in spacings.items():
        path = dataset.data_folder(configuration) / f"{case}.pkl"
        path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | {"spacing": spacing}))
    dataset.write_maps([INTERIOR_DISTANCE], configuration)
    loader = make_loader(dataset, [INTERIOR_DISTANCE], configuration, batch_size=1)
    scheme = dataset.settings(configuration).scheme
    for case, spacing in spacings.items():
        loader.indices = [case]
        batch = loader.generate_train_batch()
        assert batch["spacing_mm"].tolist() == [spacing[-axes:]]
        box = tuple(slice(low, high) for low, high in loader.box)
        whole = labels if axes == 3 else labels[loader.box[0][0]]
        expected = compute_distances(INTERIOR_DISTANCE, whole, scheme, spacing[-axes:])[(slice(None), *box[-axes:])]
        np.testing.assert_allclose(batch["maps"][0].numpy(), expected, **FLOAT16)
    loader.batch_size = 3
    loader.indices = list(spacings)
    batch = loader.generate_train_batch()
    assert batch["spacing_mm"].tolist() == [spacings[case][-axes:] for case in batch["keys"]]


def test_a_case_without_lesion_is_drawn_at_random(one_large_and_many_small):
    loader = make_loader(one_large_and_many_small, [LESION_IDS], oversample_by="lesion")
    found = centres(loader, "empty", 50)
    assert all(len(np.unique(found[:, axis])) > 10 for axis in range(3))
    loader = make_loader(one_large_and_many_small, (), oversample_by="lesion", carry=False, oversample=1.0)
    assert set(loader.generate_train_batch()) == {"data", "target", "keys"}


@pytest.mark.parametrize("labels", [REGIONS, {"background": 0, "one": 1, "two": 2, "ignore": 3}])
def test_by_lesion_the_centre_lies_in_a_labelled_lesion_of_any_class_or_region(make_dataset, blobs, labels):
    drawn = blobs((40, 40, 40), num_classes=3, share=0.02)
    if "ignore" in labels:
        drawn[drawn == 0] = np.where(np.random.default_rng(0).random(np.sum(drawn == 0)) < 0.3, 3, 0)
    dataset = make_dataset({"a": drawn, "b": drawn}, labels, [1, 2] if labels is REGIONS else None)
    dataset.write_maps([LESION_IDS])
    # The first patch of a batch is nnU-Net's: anywhere, with an ignore label around any labelled voxel.
    loader = make_loader(dataset, [LESION_IDS], oversample_by="lesion", batch_size=2, oversample=0.5)
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
        assert ours["maps"].shape == (2, 2, *patch_size)
    assert len({float(ours["data"].sum()) for ours in batches[0]}) == 10


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_worker_processes_yield_batches_with_maps(make_dataset, blobs, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"This system cannot {method}.")
    dataset = make_dataset({name: blobs((20, 22, 24), seed) for seed, name in enumerate("ab")})
    dataset.write_maps(KINDS)
    settings = dataset.settings()
    pipeline = carry_maps(pipelines(dataset)[0], MapLayout.of(KINDS, settings.scheme))
    loader = make_loader(dataset, transforms=pipeline, oversample_by="lesion", first_patch_size=(20, 20, 20))
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    augmenter = NonDetMultiThreadedAugmenter(loader, None, num_processes=1, num_cached=2, wait_time=0.002)
    try:
        batches = [next(augmenter) for _ in range(3)]
    finally:
        augmenter._finish()
        multiprocessing.set_start_method(before, force=True)
    for batch in batches:
        assert batch["maps"].shape == (2, 2, 16, 16, 16)
        assert batch["lesion_table"].shape[:2] == (2, 2)
        assert torch.isfinite(batch["maps"]).all()
