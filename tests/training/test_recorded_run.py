"""Trainings with a seed: what they write down, when they refuse to be continued, and how they run."""

import json
import math
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint, run_training
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from trainings import CPU, SYNTHETIC, make_trainer

from nnunet_rw.training.export import export_model
from nnunet_rw.training.recorded_run import VALIDATION_TTA, TimedBatches, loss_formula, optimizer_text, pairs
from nnunet_rw.training.records import (
    ITERATIONS_FILE,
    RUN_FILE,
    content_hash,
    read_iterations,
    read_run_record,
    this_session,
    write_run_record,
)

SGD = "SGD, lr 0.01, momentum 0.99, Nesterov, weight decay 3e-05, poly"
RRW = "rrw[mean over voxels of sum over classes(p z), z = -D / max D inside, +1 outside]"
FORMULA = f"1 * nnunet[DC_and_CE_loss] + 4 * ramp_up * {RRW}"


@pytest.fixture(autouse=True)
def dataset(make_dataset, blobs):
    return make_dataset({name: blobs((20, 22, 24), seed) for seed, name in enumerate("abc")})


def continued(name):
    trainer = make_trainer(name, continue_training=True)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    return trainer


def interrupted(name, epoch):
    """A training of which the checkpoint of an epoch is not written any more."""
    trainer = make_trainer(name)
    save = trainer.save_checkpoint

    def save_checkpoint(path):
        if trainer.current_epoch == epoch:
            raise KeyboardInterrupt
        save(path)

    trainer.save_checkpoint = save_checkpoint
    with pytest.raises(KeyboardInterrupt):
        trainer.run_training()
    return Path(trainer.output_folder)


def rows(folder):
    return (folder / ITERATIONS_FILE).read_text().splitlines()[1:]


@pytest.mark.parametrize(
    ("trainer", "loss", "optimizer"),
    [
        ("RWTrainer", FORMULA, SGD),
        ("nnUNetTrainer", "DC_and_CE_loss", SGD),
        ("nnUNetTrainerDiceLoss", "MemoryEfficientSoftDiceLoss", SGD),
    ],
)
def test_every_field_of_a_training(dataset, trainer, loss, optimizer):
    name = f"{trainer}_2epochs_3iterations_seed5"
    run = make_trainer(name)
    run.run_training()
    record = read_run_record(run.output_folder)
    assert (record.trainer, record.class_name, record.seed) == (trainer, name, 5)
    assert (record.dataset, record.configuration, record.plans) == (SYNTHETIC, "3d_fullres", "nnUNetPlans")
    assert (record.fold, record.num_epochs, record.iterations_per_epoch) == (0, 2, 3)
    assert (record.batch_size, record.patch_size) == (2, (16, 16, 16))
    # Convolutions of 27 weights and normalisations, four features throughout; upsamplings of 8 weights.
    encoder = (27 * 4 + 4 + 8) + 2 * (27 * 16 + 4 + 8)
    decoder = 2 * ((8 * 16 + 4) + (27 * 32 + 4 + 8) + (4 * 2 + 2))
    assert record.num_parameters == encoder + decoder
    assert (record.loss, record.optimizer) == (loss, optimizer)
    assert record.plans_sha256 == content_hash(dataset.folder / "nnUNetPlans.json")
    assert record.splits_sha256 == content_hash(dataset.folder / "splits_final.json")
    [session] = record.sessions
    now = this_session(0, CPU)
    assert session.started <= now.started
    assert (session.first_epoch, session.device, session.num_gpus) == (0, "cpu", 1)
    assert (session.device_name, session.cpu_count) == (now.device_name, now.cpu_count)
    assert session.versions == now.versions
    assert record.finished
    assert record.validation_seconds is None

    logged = run.logger.local_logger.my_fantastic_logging
    for epoch, number in zip(record.epochs, range(2), strict=True):
        assert epoch.epoch == number
        assert 0 < epoch.loader_wait_seconds < epoch.seconds
        nnunets_seconds = logged["epoch_end_timestamps"][number] - logged["epoch_start_timestamps"][number]
        assert epoch.seconds == pytest.approx(nnunets_seconds, abs=0.2)
        assert 50 < epoch.peak_host_mib < 1e6
        assert epoch.peak_gpu_mib is epoch.peak_gpu_reserved_mib is None
        assert epoch.train_loss == pytest.approx(logged["train_losses"][number])
        assert epoch.val_loss == pytest.approx(logged["val_losses"][number])
        assert epoch.pseudo_dice == pytest.approx(logged["mean_fg_dice"][number], nan_ok=True)
        # nnU-Net's polynomial schedule.
        assert epoch.learning_rate == pytest.approx(0.01 * (1 - number / 2) ** 0.9)

    columns = read_iterations(run.output_folder)
    assert columns["epoch"].tolist() == [0, 0, 0, 1, 1, 1]
    assert columns["iteration"].tolist() == [0, 1, 2, 0, 1, 2]
    for number, epoch in enumerate(record.epochs):
        of_epoch = columns["epoch"] == number
        assert columns["loss"][of_epoch].mean() == pytest.approx(epoch.train_loss)
        assert columns["loader_wait_seconds"][of_epoch].sum() == pytest.approx(epoch.loader_wait_seconds)
    assert (columns["gradient_norm"] > 0).all()


def test_the_record_names_no_machine_and_no_folder(nnunet):
    run = make_trainer("nnUNetTrainer_1epochs_1iterations_seed0")
    run.run_training()
    text = (Path(run.output_folder) / RUN_FILE).read_text()
    assert str(nnunet.root) not in text
    assert f'"{socket.gethostname()}"' not in text


def test_loss_and_gradient_norm_are_those_of_the_step():
    run = make_trainer("nnUNetTrainer_1epochs_3iterations_seed5")
    run.initialize()
    losses, norms = [], []
    run.loss.register_forward_hook(lambda module, inputs, value: losses.append(value.item()))

    def norm_by_hand(*arguments):
        gradients = [weights.grad for weights in run.network.parameters() if weights.grad is not None]
        squares = [gradient.double().square().sum() for gradient in gradients]
        norms.append(math.sqrt(sum(squares)))

    run.optimizer.register_step_pre_hook(norm_by_hand)
    run.run_training()
    columns = read_iterations(run.output_folder)
    # The validation iteration comes last. Clipping at 12 leaves these gradients alone.
    np.testing.assert_array_equal(columns["loss"], losses[:3])
    np.testing.assert_allclose(columns["gradient_norm"], norms, rtol=1e-5)
    assert max(norms) < 12


def test_the_gradient_norm_is_taken_before_clipping(user_trainers):
    user_trainers('class Steep(MapTrainer):\n    loss_terms = (Term("nnunet", 1000.0),)\n')
    run = make_trainer("Steep_1epochs_1iterations_seed5")
    run.run_training()
    assert read_iterations(run.output_folder)["gradient_norm"][0] > 100
    squares = sum(weights.grad.square().sum() for weights in run.network.parameters() if weights.grad is not None)
    assert math.sqrt(squares) == pytest.approx(12, rel=1e-3)


def test_without_clipping_there_is_no_norm(user_trainers):
    user_trainers("""
class Unclipped(MapTrainer):
    def train_step(self, batch):
        return {"loss": torch.tensor(0.25).numpy()}
""")
    run = make_trainer("Unclipped_1epochs_1iterations_seed5")
    run.run_training()
    columns = read_iterations(run.output_folder)
    assert np.isnan(columns["gradient_norm"]).all()
    assert columns["loss"].tolist() == [0.25]


def test_the_wait_is_for_the_loader_alone(monkeypatch):
    def slow(batches, seconds):
        for batch in batches:
            time.sleep(seconds)
            yield batch

    get_dataloaders, train_step = nnUNetTrainer.get_dataloaders, nnUNetTrainer.train_step

    def slow_loaders(self):
        training, validation = get_dataloaders(self)
        return slow(training, 0.1), slow(validation, 0.3)

    def slow_step(self, batch):
        time.sleep(0.3)
        return train_step(self, batch)

    monkeypatch.setattr(nnUNetTrainer, "get_dataloaders", slow_loaders)
    monkeypatch.setattr(nnUNetTrainer, "train_step", slow_step)
    run = make_trainer("nnUNetTrainer_1epochs_2iterations_seed5")
    run.run_training()
    waits = read_iterations(run.output_folder)["loader_wait_seconds"]
    assert (waits >= 0.1).all()
    assert waits.sum() < 0.8
    [epoch] = read_run_record(run.output_folder).epochs
    assert epoch.seconds > 2 * (0.1 + 0.3) + 0.3


def test_nnunet_gets_its_loaders_back_at_the_end():
    class Loader(stock.NonDetMultiThreadedAugmenter):
        """Of the class that nnU-Net shuts down."""

        def __init__(self):
            self.finished = False

        def _finish(self, timeout=10, force=False):
            self.finished = True

    run = make_trainer("nnUNetTrainer_1epochs_1iterations_seed5")
    run.on_train_start()
    assert isinstance(run.dataloader_train, TimedBatches)
    loader = Loader()
    run.dataloader_train = TimedBatches(loader)
    run.on_train_end()
    assert run.dataloader_train is loader
    assert loader.finished


@pytest.mark.parametrize("trainer", ["RWTrainer", "nnUNetTrainer"])
def test_a_continued_training_drops_what_its_checkpoint_has_not_seen(trainer):
    name = f"{trainer}_4epochs_2iterations_seed5"
    folder = interrupted(name, epoch=2)
    before = read_run_record(folder)
    assert [epoch.epoch for epoch in before.epochs] == [0, 1, 2]
    assert not before.finished
    old_rows = rows(folder)
    # As if it had been killed while epoch 3 was written.
    with open(folder / ITERATIONS_FILE, "a") as file:
        file.write("3,0,0.5,1.0,0.0\n3,1,0.")

    run = continued(name)
    assert run.current_epoch == 2
    run.on_train_start()
    begun = read_run_record(folder)
    assert begun.epochs == before.epochs[:2]
    assert rows(folder) == old_rows[:4]

    run = continued(name)
    run.run_training()
    record = read_run_record(folder)
    assert record.finished
    assert record.epochs[:2] == before.epochs[:2]
    assert [session.first_epoch for session in record.sessions] == [0, 2, 2]
    assert rows(folder)[:4] == old_rows[:4]
    columns = read_iterations(folder)
    assert columns["epoch"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(rows(folder)) == 8


def test_a_training_anew_begins_a_new_record():
    name = "nnUNetTrainer_2epochs_1iterations_seed5"
    folder = interrupted(name, epoch=1)
    (folder / RUN_FILE).write_text("{")
    run = make_trainer(name)
    run.on_train_start()
    record = read_run_record(folder)
    assert record.epochs == ()
    assert len(record.sessions) == 1
    assert rows(folder) == []


def test_a_training_whose_record_is_gone_goes_on_with_a_new_one():
    name = "nnUNetTrainer_3epochs_1iterations_seed5"
    folder = interrupted(name, epoch=2)
    (folder / RUN_FILE).unlink()
    continued(name).run_training()
    record = read_run_record(folder)
    assert [epoch.epoch for epoch in record.epochs] == [2]
    assert not record.finished
    assert read_iterations(folder)["epoch"].tolist() == [2]


def test_a_damaged_record_stops_a_continued_training_before_it_begins():
    name = "nnUNetTrainer_2epochs_1iterations_seed5"
    folder = interrupted(name, epoch=1)
    (folder / RUN_FILE).write_text((folder / RUN_FILE).read_text()[:100])
    with pytest.raises(ValueError, match=r"run\.json is damaged"):
        continued(name).run_training()


@pytest.mark.parametrize(
    ("file", "what"), [("splits_final.json", r"splits_final\.json"), ("nnUNetPlans.json", "plans")]
)
def test_other_splits_or_plans_than_before_stop_a_continued_training(dataset, file, what):
    name = "nnUNetTrainer_2epochs_1iterations_seed5"
    interrupted(name, epoch=1)
    content = json.loads((dataset.folder / file).read_text())
    if file == "nnUNetPlans.json":
        content["configurations"]["3d_fullres"]["batch_size"] = 3
    else:
        content[0]["train"].reverse()
    (dataset.folder / file).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"began with other {what} than there are now. Restore them, or train again"):
        continued(name).run_training()


@pytest.mark.parametrize(
    ("trainer", "text"),
    [
        ("RWTrainer_RRW", "Adam, lr 0.001, betas 0.9 and 0.95, weight decay 3e-05, poly"),
        ("nnUNetTrainerAdam", "AdamW, lr 0.01, AMSGrad, weight decay 3e-05, poly"),
        ("nnUNetTrainerVanillaAdam1en3", "Adam, lr 0.001, weight decay 3e-05, poly"),
        ("nnUNetTrainerCosAnneal", SGD.replace("poly", "CosineAnnealingLR")),
    ],
)
def test_optimisers_of_other_trainers(trainer, text):
    run = make_trainer(f"{trainer}_seed5" if trainer.startswith("RW") else trainer)
    run.initialize()
    assert optimizer_text(run.optimizer, run.lr_scheduler) == text


def test_the_rate_is_the_first_one_however_far_the_training_is():
    run = make_trainer("RWTrainer_RRW")
    run.initialize()
    run.lr_scheduler.step(500)
    assert run.optimizer.param_groups[0]["lr"] < 0.001
    assert optimizer_text(run.optimizer, None) == "Adam, lr 0.001, betas 0.9 and 0.95, weight decay 3e-05"


def test_another_optimiser_than_before_stops_a_continued_training():
    name = "RWTrainer_RRW_2epochs_1iterations_seed5"
    folder = interrupted(name, epoch=1)
    record = read_run_record(folder)
    now = "Adam, lr 0.001, betas 0.9 and 0.95, weight decay 3e-05, poly"
    assert record.optimizer == now
    write_run_record(folder, replace(record, optimizer=SGD))
    with pytest.raises(ValueError, match=f"began with {SGD}, and its trainer has {now} now. Restore the trainer, or"):
        continued(name).run_training()
    # A record from before optimisers were written down: there was none but nnU-Net's.
    write_run_record(folder, replace(record, optimizer=""))
    with pytest.raises(ValueError, match=f"began with SGD, and its trainer has {now} now"):
        continued(name).run_training()


def test_another_loss_than_before_stops_a_continued_training():
    name = "RWTrainer_CE_2epochs_1iterations_seed5"
    folder = interrupted(name, epoch=1)
    record = read_run_record(folder)
    write_run_record(folder, replace(record, loss="1 * old[]"))
    with pytest.raises(ValueError, match=r"began with the loss 1 \* old\[\], and its trainer has the loss 1 \* ce\["):
        continued(name).run_training()
    assert read_run_record(folder).loss == "1 * old[]"
    # A record from before optimisers were written down, of nnU-Net's.
    write_run_record(folder, replace(record, optimizer=""))
    continued(name).on_train_start()
    assert read_run_record(folder).optimizer == SGD


def test_what_a_checkpoint_was_written_with_hides_no_other_rate(user_trainers, monkeypatch):
    user_trainers("""
import os


class Changed(MapTrainer):
    optimizer_name = "adam"
    initial_lr = float(os.environ["RATE_OF_A_TEST"])
""")
    monkeypatch.setenv("RATE_OF_A_TEST", "1e-3")
    name = "Changed_2epochs_1iterations_seed5"
    interrupted(name, epoch=1)
    monkeypatch.setenv("RATE_OF_A_TEST", "2e-3")
    with pytest.raises(ValueError, match=r"began with Adam, lr 0\.001, .* and its trainer has Adam, lr 0\.002, "):
        continued(name).run_training()


@pytest.mark.parametrize(("variable", "axes"), [(None, (0, 1, 2)), ("1", (0, 1, 2)), ("0", None)])
def test_validation_without_mirroring(monkeypatch, variable, axes):
    seen = []
    monkeypatch.setattr(
        nnUNetTrainer,
        "perform_actual_validation",
        lambda trainer, probabilities: seen.append((trainer.inference_allowed_mirroring_axes, probabilities)),
    )
    if variable is not None:
        monkeypatch.setenv(VALIDATION_TTA, variable)
    trainer = make_trainer("nnUNetTrainer_1epochs_1iterations_seed5")
    trainer.initialize()
    trainer.inference_allowed_mirroring_axes = (0, 1, 2)
    trainer.perform_actual_validation(True)
    assert seen == [(axes, True)]
    # A checkpoint written afterwards says what prediction may do.
    assert trainer.inference_allowed_mirroring_axes == (0, 1, 2)


def test_a_network_works_in_pairs_on_single_patches():
    trainer = make_trainer("RWTrainer")
    trainer.initialize()
    trainer.set_deep_supervision_enabled(False)
    size = trainer.configuration_manager.patch_size
    one, three = (torch.rand(n, 1, *size, generator=torch.Generator().manual_seed(n)) for n in (1, 3))
    seen = []
    trainer.network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        alone = trainer.network(one), trainer.network(three)
        with pairs(trainer.network):
            paired = trainer.network(one), trainer.network(three)
        trainer.network(one)
    assert seen == [1, 3, 2, 3, 1]
    for expected, found in zip(alone, paired, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_seconds_of_the_validation_are_added(nnunet, thread_pools):
    name = "RWTrainer_1epochs_1iterations_seed5"
    started = time.perf_counter()
    run_training(SYNTHETIC, "3d_fullres", 0, name, device=CPU)
    folder = nnunet.results / SYNTHETIC / f"{name}__nnUNetPlans__3d_fullres" / "fold_0"
    first = read_run_record(folder)
    assert 0 < first.validation_seconds < time.perf_counter() - started
    assert first.finished
    assert (folder / "validation" / "summary.json").is_file()
    # nnUNetv2_train --val validates a finished training again.
    run_training(SYNTHETIC, "3d_fullres", 0, name, device=CPU, only_run_validation=True)
    second = read_run_record(folder)
    assert second.validation_seconds != first.validation_seconds
    assert (second.sessions, second.epochs) == (first.sessions, first.epochs)
    assert first.validation_tta is second.validation_tta is True
    # A training that goes on has not validated yet.
    continued(name).on_train_start()
    assert read_run_record(folder).validation_seconds is None

    exported = export_model(SYNTHETIC, "3d_fullres", name, nnunet.root / "exported")
    checkpoint = torch.load(exported / "fold_0" / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "nnUNetTrainer"


def test_the_layout_of_memory_changes_no_weight_and_no_result():
    recorded, contiguous = make_trainer("RWTrainer_1epochs_1iterations_seed0"), make_trainer("RWTrainer")
    recorded.initialize()
    contiguous.initialize()
    weights = [value for value in recorded.network.state_dict().values() if value.ndim == 5]
    assert all(value.is_contiguous(memory_format=torch.channels_last_3d) for value in weights)
    contiguous.network.load_state_dict(recorded.network.state_dict())
    assert any(
        not value.is_contiguous(memory_format=torch.channels_last_3d) for value in contiguous.network.parameters()
    )
    batch = torch.rand(2, 1, *recorded.configuration_manager.patch_size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for found, expected in zip(recorded.network(batch), contiguous.network(batch), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "own", "expected"),
    [
        ("nnUNetTrainer_4epochs_seed5", 50, 1),
        ("nnUNetTrainer_100epochs_seed5", 50, 10),
        ("nnUNetTrainer_seed5", 50, 50),
        ("nnUNetTrainer_seed5", 7, 7),
    ],
)
def test_short_trainings_keep_more_checkpoints(monkeypatch, name, own, expected):
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    run = make_trainer(name)
    run.save_every = own
    run.initialize()
    run.on_train_start()
    assert run.save_every == expected


def test_only_the_first_gpu_writes(monkeypatch):
    run = make_trainer("nnUNetTrainer_1epochs_1iterations_seed5")
    run.local_rank = 1
    monkeypatch.setattr(run, "save_checkpoint", lambda path: None)
    run.run_training()
    assert not (Path(run.output_folder) / RUN_FILE).exists()
    assert not (Path(run.output_folder) / ITERATIONS_FILE).exists()


def test_memory_of_a_gpu_is_measured_per_epoch(monkeypatch):
    run = make_trainer("nnUNetTrainer_1epochs_1iterations_seed5")
    run.on_train_start()
    calls = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: calls.append("reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: calls.append("read") or 3 * 2**20)
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda device: 4 * 2**20)
    run.device = torch.device("cuda")
    run.on_epoch_start()
    for curve in ("train_losses", "val_losses", "mean_fg_dice", "dice_per_class_or_region", "lrs"):
        run.logger.log(curve, [0.5] if "per_class" in curve else 0.5, 0)
    monkeypatch.setattr(run, "save_checkpoint", lambda path: None)
    run.on_epoch_end()
    assert calls == ["reset", "read"]
    [epoch] = read_run_record(run.output_folder).epochs
    assert (epoch.peak_gpu_mib, epoch.peak_gpu_reserved_mib) == (3, 4)


def test_a_loss_without_formula_is_named_by_its_class():
    class Wrapped(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.loss = torch.nn.MSELoss()

    assert loss_formula(Wrapped()) == "MSELoss"
    assert loss_formula(torch.nn.MSELoss()) == "MSELoss"
    assert loss_formula(lambda output, target: 0) == "function"
