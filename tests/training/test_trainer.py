"""RWTrainer on a CPU, through nnU-Net's own entry points."""

import importlib.util
import inspect
import json
import math
import os
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from nnunetv2.evaluation.find_best_configuration import find_best_configuration
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint, run_training
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from torch.nn.parallel import DistributedDataParallel
from trainings import CPU, SHORT, SYNTHETIC, make_trainer

from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS
from nnunet_rw.store.files import map_path
from nnunet_rw.training.dataloading import MapDataLoader
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.transforms import ComputeMaps

HIPPOCAMPUS = "Dataset004_Hippocampus"
TRAINERS = Path(__file__).resolve().parents[2] / "trainers"


def train(trainer=SHORT, configuration="3d_fullres", dataset=SYNTHETIC, fold=0, plans="nnUNetPlans", **options):
    run_training(dataset, configuration, fold, trainer, plans, device=CPU, **options)


def model_folder(folders, trainer=SHORT, configuration="3d_fullres", dataset=SYNTHETIC, plans="nnUNetPlans"):
    return folders.results / dataset / f"{trainer}__{plans}__{configuration}"


def curves(fold_folder, checkpoint="checkpoint_final.pth"):
    """What nnU-Net's logger holds, by name."""
    return torch.load(fold_folder / checkpoint, weights_only=False)["logging"]


def training_log(fold_folder):
    return "\n".join(path.read_text() for path in sorted(fold_folder.glob("training_log_*.txt")))


def map_files(data_folder):
    """Kind and case of every map; all are of the same settings."""
    return sorted(f"{path.parents[1].name}/{path.stem}" for path in data_folder.glob("rw_maps/*/*/*.b2nd"))


@pytest.fixture
def small_dataset(make_dataset, blobs):
    return make_dataset({name: blobs((20, 22, 24), seed) for seed, name in enumerate("abc")})


@pytest.fixture(scope="module")
def trained(module_folders):
    """The way of a user: 3d_fullres of real data, two epochs, validation with probabilities. Nothing is replaced."""
    with pytest.MonkeyPatch.context() as patch:
        for variable, value in module_folders.environment.items():
            patch.setenv(variable, value)
        train("RWTrainer_2epochs_2iterations", dataset="4", fold=1, plans="tiny", export_validation_probabilities=True)
    return module_folders


@pytest.fixture
def trained_model(trained, monkeypatch):
    """Folder of the trained model; the environment names the folders that it lies in."""
    for variable, value in trained.environment.items():
        monkeypatch.setenv(variable, value)
    return model_folder(trained, "RWTrainer_2epochs_2iterations", dataset=HIPPOCAMPUS, plans="tiny")


def test_training_writes_maps_trains_and_validates(trained, trained_model):
    data_folder = trained.preprocessed / HIPPOCAMPUS / "nnUNetPlans_3d_fullres"
    cases = ["004", "007", "011", "014", "015", "017"]
    assert map_files(data_folder) == [f"interior_distance/hippocampus_{case}" for case in cases]
    fold = trained_model / "fold_1"
    validation = json.loads((trained.preprocessed / HIPPOCAMPUS / "splits_final.json").read_text())[1]["val"]
    assert (fold / "progress.png").is_file()
    assert {path.stem for path in fold.glob("validation/*.npz")} == set(validation)
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    assert 0 <= summary["foreground_mean"]["Dice"] <= 1
    assert "Training done" in training_log(fold)


def test_every_loss_term_has_one_value_per_epoch_in_nnunets_log(trained_model):
    logged = curves(trained_model / "fold_1")
    for part in ("train", "val"):
        for term in ("nnunet", "rrw"):
            assert len(logged[f"{part}_terms/{term}"]) == 2
        # Of the first epoch 1 and 0, of the second 1 and 4.
        total = np.add(logged[f"{part}_terms/nnunet"], np.multiply((0, 4), logged[f"{part}_terms/rrw"]))
        np.testing.assert_allclose(total, logged[f"{part}_losses"], atol=1e-4)
    assert {len(values) for values in logged.values()} == {2}


def test_the_training_log_states_formula_and_maps_once(trained_model):
    [path] = (trained_model / "fold_1").glob("training_log_*.txt")
    log = path.read_text()
    rrw = "rrw[mean over voxels of sum over classes(p z), z = -D / max D inside, +1 outside]"
    formula = f"Loss: 1 * nnunet[DC_and_CE_loss] + 4 * ramp_up * {rrw}"
    assert log.count(formula) == log.count("Loss: ") == 1
    assert log.count("Maps: interior_distance (stored)") == log.count("Maps: ") == 1
    assert log.count("Writing maps (interior_distance) of 6 cases") == 1


@pytest.mark.slow
def test_nnunets_prediction_takes_the_trained_model(trained, trained_model, tmp_path):
    images = trained.root / "nnUNet_raw" / HIPPOCAMPUS / "imagesTr"
    predictor = nnUNetPredictor(device=CPU, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trained_model), use_folds=(1,))
    [validated] = list((trained_model / "fold_1" / "validation").glob("*.nii.gz"))[:1]
    image = images / validated.name.replace(".nii.gz", "_0000.nii.gz")
    predictor.predict_from_files(
        [[str(image)]], str(tmp_path), num_processes_preprocessing=1, num_processes_segmentation_export=1
    )
    predicted = list(tmp_path.glob("*.nii.gz"))
    assert [path.name for path in predicted] == [validated.name]


@pytest.mark.slow
def test_nnunets_search_for_the_best_configuration_takes_trained_models(trained, trained_model, thread_pools):
    name = "RWTrainer_2epochs_2iterations"
    train(name, "2d", "4", fold=1, plans="tiny", export_validation_probabilities=True)
    models = [{"plans": "tiny", "configuration": c, "trainer": name} for c in ("2d", "3d_fullres")]
    found = find_best_configuration(4, models, num_processes=1, folds=(1,))
    assert len(found["all_results"]) == 3
    assert found["best_model_or_ensemble"]["selected_model_or_models"]


def check_trained(fold_folder, terms=("nnunet", "rrw")):
    logged = curves(fold_folder)
    assert np.isfinite(logged["train_losses"]).all()
    assert np.isfinite(logged["val_losses"]).all()
    assert {key for key in logged if "terms" in key} == {
        f"{part}_terms/{t}" for part in ("train", "val") for t in terms
    }
    assert (fold_folder / "validation" / "summary.json").is_file()


LABELS = {
    "lesion": {"labels": {"background": 0, "lesion": 1}},
    "classes": {"labels": {"background": 0, "one": 1, "two": 2}},
    "ignore": {"labels": {"background": 0, "one": 1, "two": 2, "ignore": 3}},
    "regions": {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
    "regions_ignore": {
        "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
        "regions_class_order": [1, 2],
    },
}
CONFIGURATIONS = {
    "batch_of_one": {"3d_fullres": {"batch_size": 1}},
    "batch_dice": {"3d_fullres": {"batch_dice": True}},
    "dummy_2d": {"3d_fullres": {"patch_size": (4, 16, 16), "spacing": (5.0, 1.0, 1.0)}},
    "2d": {"2d": {"patch_size": (16, 16), "spacing": (1.0, 1.0)}},
    "mask_norm": {"3d_fullres": {"mask_norm": True}},
}


@pytest.mark.parametrize("labels", ["classes", "ignore", "regions", "regions_ignore"])
def test_every_kind_of_label_trains(nnunet, make_dataset, blobs, thread_pools, labels):
    num_classes = 4 if "ignore" in labels else 3
    cases = {name: blobs((20, 22, 24), seed, num_classes, share=0.2) for seed, name in enumerate("abc")}
    make_dataset(cases, **LABELS[labels])
    train()
    check_trained(model_folder(nnunet) / "fold_0")


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_kind_of_configuration_trains(nnunet, make_dataset, blobs, thread_pools, name):
    cases = {case: blobs((20, 22, 24), seed, share=0.1) for seed, case in enumerate("abc")}
    for labels in cases.values():
        labels[:, :3] = -1
    make_dataset(cases, configurations=CONFIGURATIONS[name])
    [configuration] = CONFIGURATIONS[name]
    train(configuration=configuration)
    fold = model_folder(nnunet, configuration=configuration) / "fold_0"
    check_trained(fold)
    assert (name == "dummy_2d") == ("do_dummy_2d_data_aug: True" in training_log(fold))


def test_validation_alone_can_be_repeated(nnunet, small_dataset, thread_pools):
    train()
    summary = model_folder(nnunet) / "fold_0" / "validation" / "summary.json"
    before = json.loads(summary.read_text())["foreground_mean"]
    summary.unlink()
    train(only_run_validation=True)
    assert json.loads(summary.read_text())["foreground_mean"] == before


def test_slices_of_the_real_images_train(hippocampus, thread_pools):
    train(configuration="2d", dataset="4", fold=1, plans="tiny")
    check_trained(model_folder(hippocampus, configuration="2d", dataset=HIPPOCAMPUS, plans="tiny") / "fold_1")


def test_low_resolution_and_cascade_train(nnunet, make_dataset, blobs, thread_pools, write_previous_stage):
    stages = {
        "3d_lowres": {"spacing": (2.0, 2.0, 2.0), "next_stage": "3d_cascade_fullres"},
        "3d_cascade_fullres": {"previous_stage": "3d_lowres"},
    }
    cases = {case: blobs((36, 34, 32), seed, num_classes=3) for seed, case in enumerate("abc")}
    dataset = make_dataset(cases, LABELS["classes"]["labels"], configurations=stages)
    train(configuration="3d_lowres")
    lowres = model_folder(nnunet, configuration="3d_lowres")
    check_trained(lowres / "fold_0")
    assert (lowres / "predicted_next_stage" / "3d_cascade_fullres" / "c.b2nd").is_file()
    # The other folds would predict the other cases.
    write_previous_stage(dataset, SHORT)
    train(configuration="3d_cascade_fullres")
    check_trained(model_folder(nnunet, configuration="3d_cascade_fullres") / "fold_0")


def test_cases_that_are_small_or_empty_train(nnunet, make_dataset, blobs, thread_pools):
    cases = {
        "small": blobs((10, 26, 12), 0),
        "empty": np.zeros((20, 20, 20), np.int16),
        "empty_and_small": np.zeros((12, 12, 12), np.int16),
    }
    make_dataset(cases)
    train()
    check_trained(model_folder(nnunet) / "fold_0")


def test_fold_all_trains_on_all_cases(nnunet, small_dataset, thread_pools):
    train(fold="all")
    fold = model_folder(nnunet) / "fold_all"
    check_trained(fold)
    assert {path.name for path in fold.glob("validation/*.nii.gz")} == {"a.nii.gz", "b.nii.gz", "c.nii.gz"}


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


@pytest.mark.slow
def test_augmentation_in_worker_processes_trains(nnunet, small_dataset, thread_pools, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    train()
    check_trained(model_folder(nnunet) / "fold_0")


def trainer_names():
    """Every trainer class of the checkout's folder."""
    names = set()
    for module in pkgutil.iter_modules([str(TRAINERS)]):
        spec = importlib.util.spec_from_file_location(f"_listed_{module.name}", TRAINERS / f"{module.name}.py")
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
        names |= {
            name
            for name, value in vars(loaded).items()
            if inspect.isclass(value) and issubclass(value, MapTrainer) and value is not MapTrainer
        }
    return sorted(names)


@pytest.mark.parametrize("name", trainer_names())
def test_every_trainer_is_found_and_steps_with_finite_gradients(small_dataset, name):
    trainer = make_trainer(f"{name}_1epochs_1iterations")
    trainer.initialize()
    training, _ = trainer.get_dataloaders()
    before = [parameter.detach().clone() for parameter in trainer.network.parameters()]
    trainer.on_train_epoch_start()
    result = trainer.train_step(next(training))
    assert math.isfinite(result["loss"])
    gradients = [parameter.grad for parameter in trainer.network.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients)
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.network.parameters(), strict=True))
    means = trainer.loss.pop_term_means()
    assert len(means) == len(type(trainer).loss_terms)
    assert all(math.isfinite(value) for value in means.values())


def test_numbers_below_the_normal_are_zero_in_a_training_on_a_cpu(small_dataset, monkeypatch):
    monkeypatch.setattr(stock.nnUNetTrainer, "on_train_start", lambda self: None)
    trainer = make_trainer()
    torch.set_flush_denormal(False)
    try:
        assert torch.tensor([1e-39]).mul(0.5).item() > 0
        trainer.on_train_start()
        assert torch.tensor([1e-39]).mul(0.5).item() == 0
    finally:
        torch.set_flush_denormal(False)


def test_a_continued_training_goes_on_with_its_schedules_and_curves(nnunet, small_dataset):
    name = "RWTrainer_Boundary_4epochs_1iterations"
    first = make_trainer(name)
    first.save_every = 1

    def interrupt():
        stock.nnUNetTrainer.on_epoch_start(first)
        if first.current_epoch == 2:
            raise KeyboardInterrupt

    first.on_epoch_start = interrupt
    with pytest.raises(KeyboardInterrupt):
        first.run_training()

    second = make_trainer(name, continue_training=True)
    maybe_load_checkpoint(second, continue_training=True, validation_only=False)
    weights, step = [], second.train_step

    def remember(batch):
        weights.append((second.current_epoch, dict(second.loss.loss.current_weights)))
        return step(batch)

    second.train_step = remember
    second.run_training()
    # From 0.01 in the first of four epochs to 0.99 in the last.
    assert weights == [
        (2, {"nnunet": pytest.approx(0.01 + 0.98 / 3), "boundary": pytest.approx(0.01 + 0.98 * 2 / 3)}),
        (3, {"nnunet": pytest.approx(0.01), "boundary": pytest.approx(0.99)}),
    ]
    logged = curves(model_folder(nnunet, name) / "fold_0")
    assert {key: len(values) for key, values in logged.items()} == dict.fromkeys(logged, 4)
    assert all(math.isfinite(value) for key, values in logged.items() if "terms" in key for value in values)


def test_a_term_that_is_new_in_a_continued_training_starts_with_gaps(nnunet, small_dataset):
    first = make_trainer("RWTrainer_2epochs_1iterations")
    first.save_every, first.num_epochs = 1, 1
    first.run_training()
    fold = model_folder(nnunet, "RWTrainer_2epochs_1iterations") / "fold_0"
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    for part in ("train", "val"):
        del checkpoint["logging"][f"{part}_terms/rrw"]
    torch.save(checkpoint, fold / "checkpoint_final.pth")
    second = make_trainer("RWTrainer_2epochs_1iterations", continue_training=True)
    maybe_load_checkpoint(second, continue_training=True, validation_only=False)
    second.run_training()
    values = curves(fold)["train_terms/rrw"]
    assert math.isnan(values[0])
    assert math.isfinite(values[1])


def test_an_image_with_nan_stops_the_training_and_says_where_to_look(make_dataset, blobs):
    make_dataset({"a": blobs((18, 18, 18)), "b": blobs((18, 18, 18))}, nan_in="a")
    message = r"The loss is nan in epoch 0 \(means of its terms: nnunet = nan, rrw = nan\)\. Check the images for NaN"
    with pytest.raises(FloatingPointError, match=message):
        train()


def test_mixed_precision_may_overflow_now_and_then_but_not_for_long(small_dataset):
    trainer = make_trainer()
    trainer.initialize()
    # Any scaler: it only says that nnU-Net skips steps whose gradients overflow.
    trainer.grad_scaler = object()
    for _ in range(3):
        for _ in range(20):
            trainer._stop_if_not_finite(math.inf)
        trainer._stop_if_not_finite(0.5)
    for _ in range(20):
        trainer._stop_if_not_finite(math.nan)
    with pytest.raises(FloatingPointError, match="The loss is nan"):
        trainer._stop_if_not_finite(math.nan)


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


def test_nnunets_own_trainer_trains_beside_the_maps_and_sees_the_same_cases(nnunet, small_dataset, thread_pools):
    own = "nnUNetTrainer_1epochs_2iterations"
    trainer = make_trainer(own)
    trainer.initialize()
    before = [sorted(part.identifiers) for part in trainer.get_tr_and_val_datasets()]
    small_dataset.write_maps([INTERIOR_DISTANCE, LESION_IDS])
    assert map_path(small_dataset.data_folder(), LESION_IDS, "a", small_dataset.settings()).is_file()
    after = [sorted(part.identifiers) for part in trainer.get_tr_and_val_datasets()]
    assert before == after == [["a", "b"], ["c"]]
    train(own)
    check_trained(model_folder(nnunet, own) / "fold_0", terms=())


def test_only_the_loaders_of_a_trainer_with_maps_are_replaced(small_dataset, monkeypatch):
    trainer = make_trainer("RWTrainer_IWDiceCE_1epochs_1iterations")
    trainer.initialize()
    for augmenter in trainer.get_dataloaders():
        assert isinstance(augmenter.data_loader, MapDataLoader)
    assert stock.nnUNetDataLoader is nnUNetDataLoader
    # Also when building them fails.
    monkeypatch.setattr(trainer, "get_tr_and_val_datasets", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer.get_dataloaders()
    assert stock.nnUNetDataLoader is nnUNetDataLoader


def test_a_loss_without_maps_leaves_nnunets_loaders_and_writes_nothing(small_dataset):
    trainer = make_trainer("RWTrainer_ActiveContour_1epochs_1iterations")
    trainer.initialize()
    for augmenter in trainer.get_dataloaders():
        assert type(augmenter.data_loader) is nnUNetDataLoader
        assert not any(isinstance(transform, ComputeMaps) for transform in augmenter.data_loader.transforms.transforms)
    assert not (small_dataset.data_folder() / "rw_maps").exists()


def test_a_segmentation_that_changed_gets_new_maps(nnunet, small_dataset):
    trainer = make_trainer()
    trainer.run_training()
    folder, settings = small_dataset.data_folder(), small_dataset.settings()
    old = {case: map_path(folder, INTERIOR_DISTANCE, case, settings).read_bytes() for case in "abc"}
    (folder / "a_seg.b2nd").write_bytes((folder / "b_seg.b2nd").read_bytes())
    trainer = make_trainer()
    trainer.initialize()
    trainer.get_dataloaders()
    new = {case: map_path(folder, INTERIOR_DISTANCE, case, settings).read_bytes() for case in "abc"}
    assert [case for case in "abc" if old[case] != new[case]] == ["a"]


def train_on_rank(rank, folder, trainer_name):
    """One of two processes of a training, as nnU-Net's `run_ddp` but on the CPU. Called by name from a new process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=int(rank), world_size=2)
    stock.DDP = lambda network, device_ids: DistributedDataParallel(network)
    LocalLogger.plot_progress_png = lambda self, folder: None
    trainer = get_trainer_from_args(SYNTHETIC, "3d_fullres", 0, trainer_name)
    trainer.device, trainer.grad_scaler = CPU, None
    trainer.run_training()
    state = {"weights": trainer.network.module.state_dict(), "curves": trainer.logger.get_checkpoint()}
    torch.save({**state, "batch_size": trainer.batch_size}, f"{folder}/rank_{rank}.pth")
    dist.destroy_process_group()


def train_on_two_ranks(folder, trainer_name):
    """Exit codes and outputs of both processes."""
    code = "import runpy, sys; runpy.run_path(sys.argv[1])['train_on_rank'](*sys.argv[2:])"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, __file__, str(rank), str(folder), trainer_name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for rank in (0, 1)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], outputs


@pytest.mark.slow
def test_two_processes_train_one_network_with_batches_of_unequal_size(nnunet, make_dataset, blobs, tmp_path):
    # A batch of three is one of two and one of one; batch Dice sums over both.
    cases = {case: blobs((20, 22, 24), seed, num_classes=3) for seed, case in enumerate("abc")}
    dataset = make_dataset(
        cases, LABELS["classes"]["labels"], configurations={"3d_fullres": {"batch_size": 3, "batch_dice": True}}
    )
    name = "RWTrainer_IWDiceCE_1epochs_2iterations"
    codes, outputs = train_on_two_ranks(tmp_path, name)
    assert codes == [0, 0], outputs
    ranks = [torch.load(tmp_path / f"rank_{rank}.pth", weights_only=False) for rank in (0, 1)]
    assert [rank["batch_size"] for rank in ranks] == [2, 1]
    for key, weights in ranks[0]["weights"].items():
        assert torch.equal(weights, ranks[1]["weights"][key]), key
    for term in ("train_terms/dice", "train_terms/ce", "val_terms/dice", "train_losses"):
        assert len(ranks[0]["curves"][term]) == 1
        assert ranks[0]["curves"][term] == pytest.approx(ranks[1]["curves"][term])
    assert map_files(dataset.data_folder()) == [f"lesion_ids/{case}" for case in "abc"]
    assert ["Writing maps" in output for output in outputs] == [True, False]
    assert training_log(model_folder(nnunet, name) / "fold_0").count("Writing maps") == 1


@pytest.mark.slow
def test_an_error_while_maps_are_written_stops_both_processes(make_dataset, blobs, tmp_path):
    labels = blobs((20, 22, 24))
    labels[5, 5, 5] = 7
    make_dataset({"a": labels, "b": blobs((20, 22, 24))})
    codes, outputs = train_on_two_ranks(tmp_path, SHORT)
    assert all(code != 0 for code in codes)
    for output in outputs:
        assert "Case 'a'" in output
        assert "holds label 7, but the dataset's highest is 1" in output
