"""The optimiser of a trainer: nnU-Net's own, Adam, or with settings of a user's."""

import pytest
import torch
import trainings
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

ADAM = """
class Adaptive(MapTrainer):
    optimizer_name = "{name}"
    initial_lr = 2e-3
    weight_decay = 1e-4
"""


@pytest.fixture(autouse=True)
def dataset(make_dataset, blobs):
    return make_dataset({name: blobs((18, 18, 18), seed) for seed, name in enumerate("ab")})


def make_trainer(name, **options):
    trainer = trainings.make_trainer(name, **options)
    trainer.initialize()
    return trainer


def settings(optimizer):
    """Of its only group of parameters."""
    [group] = optimizer.param_groups
    return {key: value for key, value in group.items() if key != "params"}


def rates(trainer, epochs):
    """Learning rates as nnU-Net sets them at the start of these epochs."""
    found = []
    for epoch in epochs:
        trainer.lr_scheduler.step(epoch)
        found.append(trainer.optimizer.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize(("name", "optimizer"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_adam_has_the_rates_of_the_class_and_nnunets_schedule(user_trainers, name, optimizer):
    user_trainers(ADAM.format(name=name))
    trainer = make_trainer("Adaptive")
    assert type(trainer.optimizer) is optimizer
    assert (trainer.initial_lr, trainer.weight_decay) == (2e-3, 1e-4)
    found = settings(trainer.optimizer)
    assert (found["lr"], found["weight_decay"], found["betas"]) == (2e-3, 1e-4, (0.9, 0.999))
    parameters = trainer.optimizer.param_groups[0]["params"]
    assert {id(one) for one in parameters} == {id(one) for one in trainer.network.parameters()}
    assert type(trainer.lr_scheduler) is PolyLRScheduler
    # lr (1 - epoch / 1000)^0.9
    expected = [2e-3 * (1 - epoch / 1000) ** 0.9 for epoch in (0, 250, 999)]
    assert rates(trainer, (0, 250, 999)) == pytest.approx(expected)


def test_sgd_is_nnunets_own():
    ours, nnunets = make_trainer("RWTrainer"), make_trainer("nnUNetTrainer")
    assert type(ours.optimizer) is type(nnunets.optimizer) is torch.optim.SGD
    assert settings(ours.optimizer) == settings(nnunets.optimizer)
    assert (ours.initial_lr, ours.weight_decay) == (nnunets.initial_lr, nnunets.weight_decay)
    assert type(ours.lr_scheduler) is type(nnunets.lr_scheduler)
    assert rates(ours, (0, 1, 999)) == rates(nnunets, (0, 1, 999))


def test_sgd_takes_the_settings_of_the_class(user_trainers):
    user_trainers(ADAM.format(name="sgd"))
    found = settings(make_trainer("Adaptive").optimizer)
    assert (found["lr"], found["weight_decay"], found["momentum"], found["nesterov"]) == (2e-3, 1e-4, 0.99, True)


def test_rrw_alone_trains_with_adam():
    trainer = make_trainer("RWTrainer_RRW")
    assert type(trainer.optimizer) is torch.optim.Adam
    found = settings(trainer.optimizer)
    assert (found["lr"], found["betas"]) == (1e-3, (0.9, 0.95))


def test_an_unknown_optimiser_is_explained(user_trainers):
    user_trainers(ADAM.format(name="lion"))
    message = r"^Expected optimizer_name to be one of \('sgd', 'adam', 'adamw'\), but got 'lion'\.$"
    with pytest.raises(ValueError, match=message):
        make_trainer("Adaptive")


def test_what_a_user_sets_on_the_instance_wins(user_trainers):
    user_trainers("""
class Own(MapTrainer):
    optimizer_name = "adam"
    initial_lr = 2e-3

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.initial_lr, self.weight_decay = 5e-4, 0.0
""")
    for name in ("Own", "Own_20epochs", "Own_20epochs_seed1"):
        trainer = make_trainer(name)
        found = settings(trainer.optimizer)
        assert (found["lr"], found["weight_decay"]) == (5e-4, 0.0)
        assert rates(trainer, [0]) == [5e-4]


@pytest.mark.parametrize("name", ["Adaptive_20epochs", "Adaptive_seed1", "Adaptive_20epochs_50iterations_seed1"])
def test_lengths_and_seeds_keep_the_optimiser(user_trainers, name):
    user_trainers(ADAM.format(name="adamw"))
    trainer = make_trainer(name)
    assert type(trainer.optimizer) is torch.optim.AdamW
    assert (settings(trainer.optimizer)["lr"], settings(trainer.optimizer)["weight_decay"]) == (2e-3, 1e-4)
    epochs = 20 if "20epochs" in name else 1000
    assert rates(trainer, [epochs // 2]) == [pytest.approx(2e-3 * 0.5**0.9)]


@pytest.mark.parametrize("seed", ["", "_seed1"])
def test_a_continued_training_has_the_optimisers_state(seed):
    name = f"RWTrainer_RRW_2epochs_2iterations{seed}"
    first = make_trainer(name)
    first.save_every = 1
    save = first.save_checkpoint

    def stop(path):
        save(path)
        raise KeyboardInterrupt

    first.save_checkpoint = stop
    with pytest.raises(KeyboardInterrupt):
        first.run_training()
    second = make_trainer(name, continue_training=True)
    assert second.optimizer.state_dict()["state"] == {}
    maybe_load_checkpoint(second, continue_training=True, validation_only=False)
    assert second.current_epoch == 1
    before, after = first.optimizer.state_dict(), second.optimizer.state_dict()
    assert before["state"].keys() == after["state"].keys() != set()
    for key, values in before["state"].items():
        # Two steps were taken.
        assert after["state"][key]["step"] == values["step"] == 2
        for moment in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(after["state"][key][moment], values[moment])
    assert any(values["exp_avg"].abs().max() > 0 for values in after["state"].values())
    second.run_training()
    assert {int(values["step"]) for values in second.optimizer.state_dict()["state"].values()} == {4}


def test_a_training_does_not_go_on_with_another_optimiser():
    name = "RWTrainer_RRW_2epochs_2iterations"
    folder = make_trainer(name).output_folder
    # As it was before the trainer had Adam: the network is the same.
    old = make_trainer("RWTrainer_2epochs_2iterations")
    latest, final = f"{folder}/checkpoint_latest.pth", f"{folder}/checkpoint_final.pth"
    for old.current_epoch, path in enumerate((latest, final)):
        old.save_checkpoint(path)
    message = (
        rf"^{latest} was trained with SGD, but {name} trains with Adam now\. "
        r'Set optimizer_name = "sgd" and its initial_lr in a trainer of that name, or train again without --c\.$'
    )
    with pytest.raises(ValueError, match=message):
        make_trainer(name).load_checkpoint(latest)
    # A training that is over is validated with its last weights, and then with its best.
    over = make_trainer(name)
    over.load_checkpoint(final)
    over.load_checkpoint(latest)


@pytest.mark.parametrize(
    ("bases", "attributes", "optimizer", "rate"),
    [
        ("MapTrainer, nnUNetTrainerAdam1en3", "pass", torch.optim.AdamW, 1e-3),
        ("MapTrainer, nnUNetTrainerAdam1en3", "initial_lr = 5e-4", torch.optim.AdamW, 5e-4),
        ("MapTrainer, nnUNetTrainerAdam1en3", 'optimizer_name = "adam"', torch.optim.Adam, 1e-3),
        ("MapTrainer, nnUNetTrainerAdam1en3", 'optimizer_name = "sgd"', torch.optim.SGD, 1e-3),
        ("nnUNetTrainerAdam1en3, MapTrainer", "pass", torch.optim.AdamW, 1e-3),
        ("MapTrainer", "pass", torch.optim.SGD, 1e-2),
    ],
)
def test_what_a_class_leaves_open_is_of_the_next_class(user_trainers, bases, attributes, optimizer, rate):
    user_trainers(f"""
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerAdam1en3


class Mixed({bases}):
    {attributes}
""")
    trainer = make_trainer("Mixed")
    assert type(trainer.optimizer) is optimizer
    found = settings(trainer.optimizer)
    assert (found["lr"], found["weight_decay"], trainer.initial_lr) == (rate, 3e-5, rate)
