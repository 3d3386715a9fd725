"""Trainers that a user writes: what a class may set, and what is said of mistakes."""

import math
import pickle

import numpy as np
import pytest
from trainings import LABELS, check_trained, make_trainer, map_files, model_folder, train, training_log

from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS


@pytest.mark.parametrize("labels", ["lesion", "regions"])
def test_a_users_trainer_without_deep_supervision_trains(
    nnunet, make_dataset, blobs, thread_pools, user_trainers, labels
):
    user_trainers("""
class WithoutDeepSupervision(MapTrainer):
    loss_terms = (Term("nnunet"), Term("rrw"))

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.enable_deep_supervision = False
""")
    num_classes = 2 if labels == "lesion" else 3
    make_dataset({case: blobs((20, 22, 24), seed, num_classes) for seed, case in enumerate("abc")}, **LABELS[labels])
    name = "WithoutDeepSupervision_1epochs_2iterations"
    train(name)
    check_trained(model_folder(nnunet, name) / "fold_0")


@pytest.mark.parametrize("labels", ["lesion", "regions_ignore"])
@pytest.mark.parametrize("configuration", ["3d_fullres", "2d"])
def test_a_users_trainer_with_maps_of_the_patch_stores_none(
    nnunet, make_dataset, blobs, thread_pools, user_trainers, labels, configuration
):
    user_trainers("""
class MapsOfThePatch(MapTrainer):
    loss_terms = (Term("nnunet"), Term("boundary", 0.1), Term("dice", options={"reweight": "inverse_volume"}))
    map_source = "patch"
""")
    axes = int(configuration[0])
    dataset = make_dataset(
        {
            case: blobs((20, 22, 24), seed, num_classes=4 if labels != "lesion" else 2)
            for seed, case in enumerate("abc")
        },
        configurations={configuration: {"patch_size": (16,) * axes, "spacing": (1.0,) * axes}},
        **LABELS[labels],
    )
    name = "MapsOfThePatch_1epochs_2iterations"
    train(name, configuration)
    fold = model_folder(nnunet, name, configuration) / "fold_0"
    check_trained(fold, ("nnunet", "boundary", "dice"))
    # Of two classes and of regions the distance to the boundary is the interior distance.
    assert "Maps: interior_distance, lesion_ids (patch)" in training_log(fold)
    assert not (dataset.data_folder(configuration) / "rw_maps").exists()


def test_nnunets_loss_within_a_compound_trains(nnunet, make_dataset, blobs, thread_pools, user_trainers):
    user_trainers("""
class Giving(MapTrainer):
    loss_terms = (Term("compound", "falling", {"terms": (("nnunet",), ("dice",))}), Term("boundary", "rising"))
""")
    make_dataset({case: blobs((20, 22, 24), seed) for seed, case in enumerate("abc")})
    name = "Giving_1epochs_1iterations"
    train(name, "3d_fullres")
    check_trained(model_folder(nnunet, name, "3d_fullres") / "fold_0", ("compound", "boundary"))


@pytest.mark.parametrize("maps", ["stored", "patch"])
def test_a_users_trainer_that_draws_by_lesion_needs_lesion_maps(
    nnunet, small_dataset, thread_pools, user_trainers, maps
):
    user_trainers(f"""
class ByLesion(MapTrainer):
    loss_terms = (Term("nnunet"), Term("active_contour"), Term("rrw"))
    map_source = "{maps}"
    oversample_by = "lesion"
""")
    train("ByLesion_1epochs_2iterations")
    check_trained(model_folder(nnunet, "ByLesion_1epochs_2iterations") / "fold_0", ("nnunet", "active_contour", "rrw"))
    kinds = {"stored": [INTERIOR_DISTANCE, LESION_IDS], "patch": [LESION_IDS]}[maps]
    assert map_files(small_dataset.data_folder()) == [f"{kind}/{case}" for kind in kinds for case in "abc"]


@pytest.mark.parametrize("maps", ["stored", "patch"])
def test_a_users_trainer_that_draws_cases_by_their_lesions(nnunet, make_dataset, blobs, user_trainers, maps):
    user_trainers(f"""
class CasesByLesion(MapTrainer):
    loss_terms = (Term("nnunet"), Term("rrw"))
    map_source = "{maps}"
    cases_by = "lesion"
""")
    # a has two lesions, empty none, b one; c is for validation, and has none.
    cases = {case: np.zeros((20, 22, 24), np.int16) for case in ("a", "empty", "b", "c")}
    cases["a"][4, 4, [4, 9]] = cases["b"][9:12, 4, 4] = 1
    dataset = make_dataset(cases)
    trainer = make_trainer("CasesByLesion_1epochs_1iterations")
    trainer.initialize()
    training, validation = trainer.get_dataloaders()
    assert training.data_loader.indices == ["a", "b", "empty"]
    np.testing.assert_allclose(training.data_loader.sampling_probabilities, [2 / 3, 1 / 3, 0])
    # Validation has no lesion, and draws as nnU-Net does.
    assert validation.data_loader.sampling_probabilities is None
    result = trainer.train_step(next(training))
    assert math.isfinite(result["loss"])
    kinds = {"stored": [INTERIOR_DISTANCE, LESION_IDS], "patch": [LESION_IDS]}[maps]
    assert map_files(dataset.data_folder()) == [f"{kind}/{case}" for kind in kinds for case in ("a", "b", "c", "empty")]


@pytest.mark.parametrize("maps", ["stored", "patch"])
def test_where_plans_do_not_resample_the_loss_gets_the_spacing_of_every_sample(
    nnunet, make_dataset, blobs, user_trainers, maps
):
    user_trainers(f"""
class OwnSpacing(MapTrainer):
    loss_terms = (Term("nnunet"), Term("boundary"), Term("hausdorff_dt"), Term("hausdorff_cv"), Term("cc_dice_ce"))
    map_source = "{maps}"
""")
    own = {"a": [3.0, 1.0, 0.5], "b": [1.0, 2.0, 4.0], "c": [0.5, 0.5, 2.0]}
    cases = {case: blobs((20, 22, 24), seed, share=0.2) for seed, case in enumerate(own)}
    dataset = make_dataset(cases, configurations={"3d_fullres": {"resampling_fn_seg": "no_resampling_hack"}})
    for case, spacing in own.items():
        path = dataset.data_folder() / f"{case}.pkl"
        path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | {"spacing": spacing}))
    trainer = make_trainer("OwnSpacing_1epochs_1iterations")
    trainer.initialize()
    training, _ = trainer.get_dataloaders()
    seen = []
    trainer.loss.loss.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[3]))
    for step in range(1, 4):
        batch = next(training)
        rows = [own[case] for case in batch["keys"]]
        assert batch["spacing_mm"].tolist() == rows
        assert math.isfinite(trainer.train_step(batch)["loss"])
        assert len(seen) == step  # the second scale has no weight
        assert seen[-1].tolist() == rows


@pytest.mark.parametrize("name", ["RWTrainer_20epoch", "RWTrainer_0epochs", "RWTrainer_IWDiceCE_epochs20"])
def test_an_unknown_length_is_explained(small_dataset, name):
    with pytest.raises(ValueError, match=f"Unknown trainer '{name}'. A length is written RWTrainer.*_20epochs"):
        train(name)


def test_an_unknown_trainer_is_nnunets_to_report(small_dataset):
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer RWTrainer_Unheard"):
        train("RWTrainer_Unheard")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ('map_source = "disk"', "Expected map_source to be one of .*'stored', 'patch'.*but got 'disk'"),
        ('oversample_by = "case"', "Expected oversample_by to be one of .*'voxel', 'lesion'.*but got 'case'"),
        ('cases_by = "voxel"', "Expected cases_by to be one of .*'case', 'lesion'.*but got 'voxel'"),
        ('loss_terms = (Term("dise"),)', "Unknown loss 'dise'"),
    ],
)
def test_a_users_mistake_is_explained_before_anything_is_written(small_dataset, user_trainers, setting, message):
    user_trainers(f"class Mistaken(MapTrainer):\n    {setting}\n")
    with pytest.raises(ValueError, match=message):
        train("Mistaken_1epochs_1iterations")
    assert not (small_dataset.data_folder() / "rw_maps").exists()
