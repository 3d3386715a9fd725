import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nnunetv2
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.data_augmentation.nnUNetTrainerDA5 import nnUNetTrainerDA5
from nnunetv2.training.nnUNetTrainer.variants.loss.nnUNetTrainerTopkLoss import nnUNetTrainerDiceTopK10Loss
from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs import nnUNetTrainer_1epoch
from nnunetv2.training.nnUNetTrainer.variants.training_length.nnUNetTrainer_Xepochs_NoMirroring import (
    nnUNetTrainer_250epochs_NoMirroring,
)
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_rw.losses import Term
from nnunet_rw.training import variants
from nnunet_rw.training.new_trainer import trainer_source
from nnunet_rw.training.recorded_run import RecordedRun
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import has_length, lengths

TRAINERS = Path(__file__).resolve().parents[2] / "trainers"


class RWTrainer(MapTrainer):
    """A trainer without settings of its own."""


class RWTrainer_Mine(MapTrainer):
    """Of a user."""


class NoTrainer:
    pass


@pytest.fixture
def find():
    return lengths({"RWTrainer": RWTrainer, "RWTrainer_Mine": RWTrainer_Mine, "NoTrainer": NoTrainer}, of_package=True)


@pytest.fixture
def make_trainer(make_dataset, blobs):
    """Function that builds a trainer as nnUNetv2_train does."""
    dataset = make_dataset({"a": blobs((16, 16, 16)), "b": blobs((16, 16, 16))})

    def make(name):
        return get_trainer_from_args(dataset.name, "3d_fullres", 0, name, device=torch.device("cpu"))

    return make


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("RWTrainer_20epochs", RWTrainer),
        ("RWTrainer_Mine_20epochs_50iterations", RWTrainer_Mine),
        # A baseline can be trained as long as its rivals.
        ("nnUNetTrainer_20epochs_50iterations", nnUNetTrainer),
        ("nnUNetTrainerDA5_3epochs", nnUNetTrainerDA5),
        ("RWTrainer_seed0", RWTrainer),
        ("RWTrainer_Mine_20epochs_50iterations_seed12", RWTrainer_Mine),
        ("nnUNetTrainer_seed1", nnUNetTrainer),
        ("nnUNetTrainerDiceTopK10Loss_20epochs_seed1", nnUNetTrainerDiceTopK10Loss),
        # Some of nnU-Net's own have a length in their names.
        ("nnUNetTrainer_1epoch_seed3", nnUNetTrainer_1epoch),
        ("nnUNetTrainer_250epochs_NoMirroring_seed3", nnUNetTrainer_250epochs_NoMirroring),
    ],
)
def test_a_name_with_a_length_or_a_seed_gives_a_trainer_of_that_name(find, name, base):
    trainer = find(name)
    assert trainer.__name__ == name
    assert issubclass(trainer, base)
    assert trainer.__doc__ == base.__doc__
    # nnU-Net stores the arguments by these names and builds the trainer from them for prediction.
    assert list(inspect.signature(trainer).parameters) == list(inspect.signature(nnUNetTrainer).parameters)


def test_a_length_becomes_a_member_of_the_module():
    namespace = {"RWTrainer": RWTrainer}
    found = lengths(namespace, of_package=True)("RWTrainer_3epochs")
    assert namespace == {"RWTrainer": RWTrainer, "RWTrainer_3epochs": found}


@pytest.mark.parametrize(
    ("name", "epochs", "iterations", "validation_iterations"),
    [
        ("RWTrainer_20epochs", 20, 250, 50),
        # nnU-Net validates on a fifth of the iterations that it trains on, and on at least one.
        ("RWTrainer_7epochs_60iterations", 7, 60, 12),
        ("RWTrainer_IWDiceCE_1epochs_4iterations", 1, 4, 1),
        ("nnUNetTrainer_1500epochs_300iterations", 1500, 300, 60),
        ("nnUNetTrainerDA5_1500epochs", 1500, 250, 50),
        ("RWTrainer_20epochs_60iterations_seed1", 20, 60, 12),
        ("RWTrainer_IWDiceCE_seed1", 1000, 250, 50),
        ("nnUNetTrainer_1epoch_seed3", 1, 250, 50),
    ],
)
def test_nnunet_finds_trainers_of_any_length(make_trainer, name, epochs, iterations, validation_iterations):
    trainer = make_trainer(name)
    assert type(trainer).__name__ == name
    assert trainer.num_epochs == epochs
    assert trainer.num_iterations_per_epoch == iterations
    assert trainer.num_val_iterations_per_epoch == validation_iterations
    assert f"{name}__nnUNetPlans__3d_fullres" in trainer.output_folder
    assert set(trainer.my_init_kwargs) == {"plans", "configuration", "fold", "dataset_json", "device"}


@pytest.mark.parametrize(
    ("name", "trainer", "seed"),
    [
        ("RWTrainer_seed0", "RWTrainer", 0),
        ("RWTrainer_Mine_20epochs_50iterations_seed12", "RWTrainer_Mine", 12),
        ("nnUNetTrainer_1epoch_seed3", "nnUNetTrainer_1epoch", 3),
    ],
)
def test_a_trainer_with_a_seed_is_recorded_and_knows_its_base(find, name, trainer, seed):
    found = find(name)
    assert issubclass(found, RecordedRun)
    assert (found.trainer_name, found.run_seed) == (trainer, seed)


def test_a_length_alone_leaves_a_trainer_unseeded(find):
    assert not issubclass(find("RWTrainer_20epochs"), RecordedRun)


@pytest.mark.parametrize("name", ["RWTrainer_seed1_seed2", "RWTrainer_20epochs_30epochs", "RWTrainer_seed1_20epochs"])
def test_no_variant_is_another_ones_base(find, name):
    for asked_before in ("RWTrainer_seed1", "RWTrainer_20epochs"):
        find(asked_before)
    with pytest.raises(ValueError, match=f"Unknown trainer '{name}'"):
        find(name)


def test_the_length_replaces_the_one_that_a_base_sets_itself(make_dataset, make_trainer, user_trainers):
    user_trainers("""
class Patient(MapTrainer):
    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.initial_lr = 4000, 1e-3
""")
    assert make_trainer("Patient").num_epochs == 4000
    short = make_trainer("Patient_5epochs")
    assert short.num_epochs == 5
    assert short.initial_lr == 1e-3


@pytest.mark.parametrize(
    "name",
    [
        "RWTrainer_20epoch",
        "RWTrainer_20Epochs",
        "RWTrainer_20_epochs",
        "RWTrainer_epochs20",
        "RWTrainer_0epochs",
        "RWTrainer_020epochs",
        "RWTrainer_50iterations",
        "RWTrainer_20epochs_50iter",
        "RWTrainer_20epochs_0iterations",
        "RWTrainer_20epochs50iterations",
        "RWTrainer_50iterations_20epochs",
        "RWTrainer_Mine_20epoch",
        "RWTrainer_seed01",
        "RWTrainer_seed-1",
        "RWTrainer_seed_1",
        "RWTrainer_Seed1",
        "RWTrainer_seeds2",
        "RWTrainer_1seed",
        "RWTrainer_20epochs_seed",
        "RWTrainer_20epochs_seed1b",
        "RWTrainer_20epoch_seed1",
        "RWTrainer_20epochs_seed1_50iterations",
        "RWTrainer_Mine_seed1_20epochs",
    ],
)
def test_a_length_or_a_seed_spelt_otherwise_is_explained(find, name):
    base = "RWTrainer_Mine" if "Mine" in name else name.split("_")[0]
    message = f"Unknown trainer '{name}'.*{base}_20epochs or {base}_20epochs_50iterations, a seed {base}_seed1 or"
    with pytest.raises(ValueError, match=message):
        find(name)


@pytest.mark.parametrize(
    "name",
    [
        # Another module's, perhaps: nnU-Net asks all of them.
        "RWTrainer_Other",
        "RWTrainer_Other_20epochs",
        "RWTrainer_Other_20epoch",
        "Unheard_20epochs",
        "NoTrainer_20epochs",
        "NoTrainer_seed1",
        "RWTrainer_Other_seed1",
        # nnU-Net's to explain.
        "nnUNetTrainer_20epochs_50its",
        "nnUNetTrainerDA5_20epoch",
        "nnUNetTrainer_100epochs_MyAug",
        # nnU-Net's, but no trainer.
        "DC_and_CE_loss_seed1",
        # Words that only look like a length.
        "RWTrainer_Criterion",
        "RWTrainer_Literature2",
        "RWTrainer_IterativeV2",
        "RWTrainer_EpochWise",
        "RWTrainer_Seedling",
        # Asked of every module by Python and its tools.
        "__path__",
        "__wrapped__",
    ],
)
def test_other_names_are_left_to_other_modules(find, name):
    with pytest.raises(AttributeError, match=name):
        find(name)


def test_a_users_trainer_is_found_behind_the_modules_of_this_package(user_trainers):
    user_trainers("class RWTrainer_Criterion(MapTrainer):\n    pass\n")
    assert recursive_find_trainer_class_by_name("RWTrainer_Criterion_3epochs").__name__ == "RWTrainer_Criterion_3epochs"
    assert issubclass(recursive_find_trainer_class_by_name("RWTrainer_Criterion"), MapTrainer)
    seeded = recursive_find_trainer_class_by_name("RWTrainer_Criterion_3epochs_seed1")
    assert (seeded.trainer_name, seeded.run_seed) == ("RWTrainer_Criterion", 1)


def test_a_name_is_sought_in_nnunet_only_once(find, monkeypatch):
    """Every module of nnU-Net's and of the user's folders is asked for every name."""
    calls = []

    def search(folder, name, *others):
        calls.append(name)

    monkeypatch.setattr(variants, "recursive_find_python_class", search)
    for name in ("Sought_20epochs", "Sought_seed1", "Sought_20epochs", "Sought", "__path__"):
        with pytest.raises(AttributeError):
            find(name)
    assert calls == ["Sought"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RWTrainer_20epochs", True),
        ("RWTrainer_seed1", True),
        ("RWTrainer_20epochs_seed1", True),
        ("RWTrainer_Seed1", True),
        ("RWTrainer_20epoch", True),
        ("RWTrainer_Mine", False),
        ("RWTrainer_Seedling", False),
    ],
)
def test_names_with_a_length_or_a_seed_are_told(name, expected):
    assert has_length(name) is expected


RESOLVE = """
import sys
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
for name in sys.argv[1:]:
    try:
        trainer = recursive_find_trainer_class_by_name(name)
        print("FOUND", trainer.__name__, *(f"{base.__module__}.{base.__name__}" for base in trainer.__mro__[:3]))
    except (RuntimeError, ValueError) as error:
        print("FOUND", type(error).__name__)
"""
HAND_WRITTEN = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainer_300epochs(nnUNetTrainer):
    of_user = True


class nnUNetTrainer_5epochs_seed42(nnUNetTrainer):
    pass


class nnUNetTrainer_100epochs_MyAug(nnUNetTrainer):
    pass


class RWTrainer_7epochs(nnUNetTrainer):
    pass


class RWTrainer_20epoch_Mine(nnUNetTrainer):
    pass
"""
NAMES = [name.removeprefix("class ").partition("(")[0] for name in HAND_WRITTEN.splitlines() if "class " in name]


@pytest.fixture
def resolve():
    """Function that asks nnU-Net for trainers in a process of its own, and returns what it found by name."""

    def ask(*names, folders, path=()):
        variables = {"nnUNet_extTrainer": os.pathsep.join(map(str, folders)), "PYTHONPATH": os.pathsep.join(sys.path)}
        variables["PYTHONPATH"] = os.pathsep.join([*map(str, path), str(TRAINERS.parent), variables["PYTHONPATH"]])
        command = [sys.executable, "-c", RESOLVE, *names]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("FOUND")]
        return dict(zip(names, found, strict=True))

    return ask


@pytest.mark.parametrize("ours_first", [False, True])
def test_trainers_that_a_user_wrote_win(resolve, tmp_path, ours_first):
    user = tmp_path / "user"
    user.mkdir()
    # Asked after the modules of this package, and after those that `nnunet-rw new-trainer` writes.
    (user / "zz_mine.py").write_text(HAND_WRITTEN)
    (user / "rw_mine.py").write_text(trainer_source("RWTrainer_Mine", (Term("ce"),)))
    folders = (TRAINERS, user) if ours_first else (user, TRAINERS)
    names = (*NAMES, "nnUNetTrainer_300epochs_seed42", "nnUNetTrainer_300epochs_50iterations", "RWTrainer_Mine_3epochs")
    found = resolve(*names, "nnUNetTrainer_6epochs", "RWTrainer_8epochs", "nnUNetTrainer_20epoch", folders=folders)
    for name in NAMES:
        assert found[name][:2] == [name, f"zz_mine.{name}"]
    # Lengths and seeds are added to what the user wrote.
    assert found["nnUNetTrainer_300epochs_50iterations"][2] == "zz_mine.nnUNetTrainer_300epochs"
    assert found["nnUNetTrainer_300epochs_seed42"][2] == "nnunet_rw.training.recorded_run.RecordedRun"
    assert found["RWTrainer_Mine_3epochs"][2] == "rw_mine.RWTrainer_Mine"
    # What nobody wrote is made, by this package.
    assert found["nnUNetTrainer_6epochs"][2].endswith(".nnUNetTrainer.nnUNetTrainer")
    assert found["RWTrainer_8epochs"][2] == "rw_region_wise.RWTrainer"
    # nnU-Net says that there is no such trainer: its names are not this package's to explain.
    assert found["nnUNetTrainer_20epoch"] == ["RuntimeError"]


def test_trainers_that_a_user_wrote_into_nnunets_own_folder_win(resolve, tmp_path):
    package = tmp_path / "copy" / "nnunetv2"
    shutil.copytree(nnunetv2.__path__[0], package, copy_function=os.symlink)
    variants_folder = package / "training" / "nnUNetTrainer" / "variants"
    (variants_folder / "zz_mine.py").write_text(HAND_WRITTEN)
    # Asked before.
    (variants_folder.parent / "rw_mine.py").write_text(trainer_source("RWTrainer_Mine", (Term("ce"),)))
    names = (*NAMES, "nnUNetTrainer_300epochs_seed42", "RWTrainer_Mine_3epochs")
    found = resolve(*names, folders=[TRAINERS], path=[package.parent])
    module = "nnunetv2.training.nnUNetTrainer.variants.zz_mine"
    for name in NAMES:
        assert found[name][:2] == [name, f"{module}.{name}"]
    assert found["nnUNetTrainer_300epochs_seed42"][2] == "nnunet_rw.training.recorded_run.RecordedRun"
    assert found["RWTrainer_Mine_3epochs"][2] == "nnunetv2.training.nnUNetTrainer.rw_mine.RWTrainer_Mine"


def test_seeds_are_made_of_the_trainer_that_a_user_wrote(tmp_path, monkeypatch):
    (tmp_path / "zz_mine.py").write_text(HAND_WRITTEN)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(tmp_path), str(TRAINERS)]))
    seeded = recursive_find_trainer_class_by_name("nnUNetTrainer_300epochs_seed42")
    assert seeded.of_user
    # Without length and seed, as of any other.
    assert (seeded.trainer_name, seeded.run_seed) == ("nnUNetTrainer", 42)


def test_a_users_module_answers_for_nothing_but_its_own():
    namespace = {"__name__": "rw_mine"}
    exec(trainer_source("Mine", (Term("ce"),)), namespace)
    find = namespace["__getattr__"]
    assert issubclass(find("Mine_20epochs"), namespace["Mine"])
    assert issubclass(find("Mine_20epochs_seed1"), namespace["Mine"])
    for name in (
        "RWTrainer_20epochs",
        "RWTrainer_seed1",
        "nnUNetTrainer_20epochs",
        "nnUNetTrainer_seed1",
        "Mine_20epoch",
    ):
        with pytest.raises(AttributeError, match=name):
            find(name)


def test_a_copy_of_this_packages_trainers_does_not_ask_itself(resolve, tmp_path):
    shutil.copytree(TRAINERS, tmp_path / "copy")
    found = resolve("nnUNetTrainer_6epochs_seed1", "RWTrainer_CE_6epochs", folders=[tmp_path / "copy", TRAINERS])
    assert found["nnUNetTrainer_6epochs_seed1"][0] == "nnUNetTrainer_6epochs_seed1"
    assert found["RWTrainer_CE_6epochs"][2] == "rw_cross_entropy.RWTrainer_CE"
