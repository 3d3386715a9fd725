"""Where plans do not resample, every case keeps its own spacing: in the files, in the batch and in the loss."""

import pickle

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_rw.losses import CompoundLoss, Term, build
from nnunet_rw.losses.compound import MappedLoss
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, compute_distances
from nnunet_rw.store.files import missing_maps, open_map
from nnunet_rw.store.layout import MapLayout
from nnunet_rw.store.read import StoredMaps
from nnunet_rw.training.dataloading import MapDataLoader, carry_maps
from nnunet_rw.training.trainer import MapTrainer

# In the order of the images' axes; the plans transpose them.
OWN_MM = {"a": (3.0, 1.0, 2.0), "b": (0.5, 4.0, 1.5)}
TRANSPOSED_MM = {"a": (1.0, 3.0, 2.0), "b": (4.0, 0.5, 1.5)}
PLANS_MM = (1.0, 1.0, 1.0)


@pytest.fixture
def dataset(make_dataset, blobs):
    cases = {case: blobs((24, 22, 20), num_classes=2, share=0.2, seed=seed) for seed, case in enumerate(OWN_MM)}
    made = make_dataset(cases, configurations={"3d_fullres": {"resampling_fn_seg": "no_resampling_hack"}})
    made.plans["transpose_forward"] = [1, 0, 2]
    for case, spacing in OWN_MM.items():
        path = made.data_folder() / f"{case}.pkl"
        path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | {"spacing": spacing}))
    return made


def test_the_plans_say_that_cases_keep_their_spacing(dataset):
    settings = dataset.settings()
    assert settings.case_axes == (1, 0, 2)
    assert {case: settings.spacing_of(dataset.data_folder(), case) for case in OWN_MM} == TRANSPOSED_MM


@pytest.mark.parametrize("case", OWN_MM)
def test_stored_distances_are_in_the_spacing_of_the_case(dataset, case):
    dataset.write_maps([INTERIOR_DISTANCE])
    settings, labels = dataset.settings(), dataset.labels[case]
    stored = open_map(dataset.data_folder(), INTERIOR_DISTANCE, case, settings)[:]
    expected = compute_distances(INTERIOR_DISTANCE, labels, settings.scheme, TRANSPOSED_MM[case])
    np.testing.assert_allclose(stored, expected, rtol=2**-11)
    assert not np.allclose(stored, compute_distances(INTERIOR_DISTANCE, labels, settings.scheme, PLANS_MM), rtol=0.1)


def test_another_spacing_of_a_case_makes_its_map_outdated(dataset):
    dataset.write_maps([INTERIOR_DISTANCE])
    path = dataset.data_folder() / "a.pkl"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | {"spacing": (3.0, 1.0, 2.5)}))
    assert missing_maps(dataset.data_folder(), OWN_MM, [INTERIOR_DISTANCE], dataset.settings()) == {
        "a": [INTERIOR_DISTANCE]
    }
    with pytest.raises(ValueError, match=r"is of another spacing \(\[1\.0, 3\.0, 2\.0\]\) than expected"):
        open_map(dataset.data_folder(), INTERIOR_DISTANCE, "a", dataset.settings())


def test_unreadable_properties_are_named(dataset):
    (dataset.data_folder() / "a.pkl").write_bytes(b"no pickle")
    with pytest.raises(ValueError, match=r"a\.pkl is damaged \(.*\)\. Run: nnUNetv2_preprocess"):
        dataset.settings().spacing_of(dataset.data_folder(), "a")


def test_a_batch_brings_the_spacing_of_every_sample(dataset):
    dataset.write_maps([INTERIOR_DISTANCE])
    settings, folder = dataset.settings(), str(dataset.data_folder())
    layout = MapLayout.of([INTERIOR_DISTANCE], settings.scheme)
    manager = dataset.plans_manager()
    loader = MapDataLoader(
        nnUNetDatasetBlosc2(folder),
        4,
        (16, 16, 16),
        (16, 16, 16),
        manager.get_label_manager(dataset.dataset_json),
        transforms=carry_maps(nnUNetTrainer.get_validation_transforms(None), layout),
        maps=StoredMaps(folder, layout, settings),
    )
    batch = next(loader)
    assert batch["spacing_mm"].tolist() == [list(TRANSPOSED_MM[case]) for case in batch["keys"]]
    assert len(set(batch["keys"])) == 2


@pytest.mark.parametrize("map_source", ["stored", "patch"])
def test_a_training_takes_distances_in_the_spacing_of_each_sample(dataset, monkeypatch, map_source):
    trainer_class = type("OwnSpacing", (MapTrainer,), {"loss_terms": (Term("hausdorff_dt"),), "map_source": map_source})
    plans = {**dataset.plans, "continue_training": False}
    trainer = trainer_class(plans, "3d_fullres", "all", dataset.dataset_json, torch.device("cpu"))
    trainer.initialize()
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    seen = []
    monkeypatch.setattr(
        "nnunet_rw.losses.inputs.distance_to",
        lambda mask, spacing: seen.append(spacing) or torch.zeros(mask.shape),
    )
    batches, _ = trainer.get_dataloaders()
    batch = next(batches)
    trainer.set_deep_supervision_enabled(True)
    trainer.train_step(batch)
    expected = torch.tensor([TRANSPOSED_MM[case] for case in batch["keys"]])
    assert torch.equal(seen[0], expected)


def test_coarser_outputs_have_larger_voxels_of_each_sample():
    seen = []

    class Spy(CompoundLoss):
        def compute(self, inputs):
            seen.append(inputs.spacing)
            return super().compute(inputs)

    loss = MappedLoss(Spy([("ce", 1.0, build("ce"))]), (0.5, 0.5), torch.tensor([[1.0, 3, 2], [4, 0.5, 1.5]]))
    outputs = [torch.zeros((2, 2, *size)) for size in ((8, 8, 8), (4, 4, 8))]
    loss(outputs, [torch.zeros((2, 1, *output.shape[2:])) for output in outputs])
    assert [spacing.tolist() for spacing in seen] == [
        [[1.0, 3.0, 2.0], [4.0, 0.5, 1.5]],
        [[2.0, 6.0, 2.0], [8.0, 1.0, 1.5]],
    ]


def test_a_loss_without_maps_takes_the_spacing_of_each_sample(dataset, monkeypatch):
    trainer_class = type("WithoutMaps", (MapTrainer,), {"loss_terms": (Term("hausdorff_cv"),)})
    plans = {**dataset.plans, "continue_training": False}
    trainer = trainer_class(plans, "3d_fullres", "all", dataset.dataset_json, torch.device("cpu"))
    trainer.initialize()
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    seen = []
    trainer.loss.loss.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[3]))
    batches, _ = trainer.get_dataloaders()
    batch = next(batches)
    trainer.set_deep_supervision_enabled(True)
    trainer.train_step(batch)
    assert seen[0].tolist() == [list(TRANSPOSED_MM[case]) for case in batch["keys"]]
