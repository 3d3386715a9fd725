"""RWTrainer on a CPU, through nnU-Net's own entry points."""

import importlib.util
import inspect
import json
import math
import pkgutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.evaluation.find_best_configuration import find_best_configuration
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from trainings import (
    CPU,
    LABELS,
    SHORT,
    check_trained,
    curves,
    make_trainer,
    map_files,
    model_folder,
    train,
    training_log,
)

from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS
from nnunet_rw.store.files import map_path
from nnunet_rw.training.dataloading import ComputeMaps, MapDataLoader
from nnunet_rw.training.trainer import MapTrainer

HIPPOCAMPUS = "Dataset004_Hippocampus"
TRAINERS = Path(__file__).resolve().parents[2] / "trainers"


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


def continued_with(nnunet, change):
    """The curves of a training of two epochs that was stopped after one, its logged curves then changed."""
    name = "RWTrainer_2epochs_1iterations"
    first = make_trainer(name)
    first.save_every, first.num_epochs = 1, 1
    first.run_training()
    fold = model_folder(nnunet, name) / "fold_0"
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    change(checkpoint["logging"])
    torch.save(checkpoint, fold / "checkpoint_final.pth")
    second = make_trainer(name, continue_training=True)
    maybe_load_checkpoint(second, continue_training=True, validation_only=False)
    second.run_training()
    return curves(fold)


def test_a_term_that_is_new_in_a_continued_training_starts_with_gaps(nnunet, small_dataset):
    def without_rrw(logged):
        del logged["train_terms/rrw"], logged["val_terms/rrw"]

    values = continued_with(nnunet, without_rrw)["train_terms/rrw"]
    assert math.isnan(values[0])
    assert math.isfinite(values[1])


def test_a_term_that_is_gone_in_a_continued_training_has_no_curve(nnunet, small_dataset):
    logged = continued_with(nnunet, lambda logged: logged.update({"train_terms/dice": [0.5], "val_terms/dice": [0.5]}))
    # nnU-Net draws as many epochs as the shortest of them has.
    assert {len(values) for values in logged.values()} == {2}
    assert not any("dice" in name for name in logged if "terms/" in name)


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
