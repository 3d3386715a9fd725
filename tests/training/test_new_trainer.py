"""A trainer of the user's own: its terms, its source, the file, and that nnU-Net finds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_rw.losses import Term
from nnunet_rw.training.new_trainer import parse_term, trainer_source, write_trainer
from nnunet_rw.training.trainer import MapTrainer

CHECKOUT = Path(__file__).resolve().parents[2]
TERMS = (Term("nnunet"), Term("rrw", 0.5))
WEIGHTED = {"reweight": "inverse_volume", "scope": "case", "power": 0.5}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of the user's that nnU-Net searches after this package's; not there yet."""
    folder = tmp_path / "my trainers"
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(CHECKOUT / "trainers"), str(folder)]))
    return folder


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("nnunet", Term("nnunet")),
        ("rrw", Term("rrw")),
        ("rrw:0.5", Term("rrw", 0.5)),
        ("rrw:0", Term("rrw", 0.0)),
        ("nnunet:rebalance_region", Term("nnunet", "rebalance_region")),
        ("boundary:rebalance_boundary", Term("boundary", "rebalance_boundary")),
        ("dice:1:reweight=inverse_volume,scope=case,power=0.5", Term("dice", options=WEIGHTED)),
        ("dice::reweight='inverse_volume', scope = case, power=0.5,", Term("dice", options=WEIGHTED)),
        ("focal:2:gamma=3", Term("focal", 2.0, {"gamma": 3})),
        ("dice:1:batch_dice=True,smooth=1e-5", Term("dice", options={"batch_dice": True, "smooth": 1e-5})),
        ("dice:1:reweight=None", Term("dice", options={"reweight": None})),
        ("ce:1:", Term("ce")),
        ("hausdorff_cv:1:radii=(1, 2.5),alpha=2", Term("hausdorff_cv", options={"radii": (1, 2.5), "alpha": 2})),
        ("wce:1:class_weights=[1,2]", Term("wce", options={"class_weights": [1, 2]})),
    ],
)
def test_term(text, term):
    parsed = parse_term(text)
    assert parsed == term
    # 1 == True: the types tell them apart.
    assert {key: type(value) for key, value in parsed.options.items()} == {
        key: type(value) for key, value in term.options.items()
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dise", r"Unknown loss 'dise'\. Known: rrw, boundary, .*"),
        ("", r"Unknown loss ''\. Known: .*"),
        ("compound", r"Expected the terms of a compound one by one, but got 'compound'\."),
        ("rrw:often", r"Unknown schedule 'often'\. Known: gradual_region, .*"),
        ("nnunet:often", r"Unknown schedule 'often'\. Known: gradual_region, .*"),
        ("rrw:-1", r"Expected a weight of at least 0 or the name of a schedule, but got -1\."),
        ("rrw:nan", r"Expected a weight of at least 0 or the name of a schedule, but got nan\."),
        ("rrw:1e999", r"Expected a weight of at least 0 or the name of a schedule, but got 1e999\."),
        ("nnunet:1:squared=True", r"Expected no options of 'nnunet', nnU-Net's own loss, but got squared\."),
        ("dice:1:powr=2", r"Unknown option of loss 'dice': powr\. Known: .*"),
        ("blob:1:reweight=inverse_volume", r"Unknown option of loss 'blob': reweight\. Known: .*"),
        ("dice:1:reweight=volume", r"Expected reweight to be 'inverse_volume' or None, but got 'volume'\."),
        (
            "dice:1:reweight=inverse_volume,scope=all",
            r"Expected scope to be one of \('patch', 'case'\), but got 'all'\.",
        ),
        ("focal:1:alpha=2", r"Expected alpha from 0 to 1, but got 2\."),
        ("dice:1:squared", r"Expected options as NAME=VALUE,NAME=VALUE, but got 'squared'\."),
        ("dice:1:squared=", r"Expected options as NAME=VALUE,NAME=VALUE, but got 'squared='\."),
        ("dice:1:=True", r"Expected options as NAME=VALUE,NAME=VALUE, but got '=True'\."),
        ("focal:1:gamma=1,gamma=2", r"Expected every option once, but got gamma twice in 'gamma=1,gamma=2'\."),
        # A string, and so true, if it were taken.
        ("dice:1:squared=false", r"Expected squared of loss 'dice' to be True or False, but got 'false'\."),
        ("dice:1:squared=0", r"Expected squared of loss 'dice' to be True or False, but got 0\."),
        ("focal:1:gamma=high", r"Expected gamma of loss 'focal' to be a number, but got 'high'\."),
        ("focal:1:gamma=True", r"Expected gamma of loss 'focal' to be a number, but got True\."),
        (
            "hausdorff_er:1:erosions=2.5",
            r"Expected erosions of loss 'hausdorff_er' to be a whole number, but got 2\.5\.",
        ),
        ("hausdorff_cv:1:radii=3", r"Expected radii of loss 'hausdorff_cv' to be numbers in brackets, but got 3\."),
        ("wce:1:class_weights=3", r"Expected other values for loss 'wce' than .*: 'int' object is not iterable\."),
        ("focal:1:gamma=1e999", r"Expected gamma of loss 'focal' to be a number, but got inf\."),
        # No weights, and so no effect.
        ("dice:1:scope=case,power=0.5", r"Expected reweight=inverse_volume of loss 'dice' beside scope, power\."),
        ("rrw:1:regions=True", r"Expected loss 'rrw' without regions: nnU-Net sets that\."),
        ("dice:1:ddp=True,ignore_label=3", r"Expected loss 'dice' without ddp, ignore_label: nnU-Net sets that\."),
    ],
)
def test_wrong_term(text, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        parse_term(text)


def test_source():
    assert (
        trainer_source(
            "RWTrainer_Mine", (Term("nnunet", "rebalance_region"), Term("dice", 0.5, WEIGHTED)), map_source="patch"
        )
        == '''\
"""A trainer for nnU-Net. Its name is the name of its results folder: do not change it after a training."""

from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.training.variants import lengths


class RWTrainer_Mine(MapTrainer):
    """Loss: rebalance_region * nnunet + 0.5 * IW-dice(scope=case, power=0.5)."""

    loss_terms = (
        Term("nnunet", weight="rebalance_region"),
        Term("dice", weight=0.5, options={"reweight": "inverse_volume", "scope": "case", "power": 0.5}),
    )
    map_source = "patch"


# nnU-Net finds RWTrainer_Mine_20epochs and the like as well.
__getattr__ = lengths(globals())
'''
    )


def of_many_widths():
    """Terms whose sources grow by one character, past the length of a line; alone, and beside a short one."""
    for digits in range(1, 30):
        options = {**WEIGHTED, "w_max": 10**digits, "normalise": True}
        yield (Term("dice", options=options),)
        yield (Term("nnunet"), Term("dice", 0.5, options))


SETTINGS = {"map_source": "patch", "oversample_by": "lesion", "optimizer_name": "adamw", "initial_lr": 3e-5}


@pytest.mark.parametrize("command", [("check",), ("format", "--check")])
def test_source_is_formatted(tmp_path, command):
    many = {**WEIGHTED, "w_min": 0.01, "w_max": 1e5, "normalise": True, "smooth": 1e-5, "batch_dice": True}
    for number, terms in enumerate([(Term("rrw"),), TERMS, (Term("dice", 0.1, many),) * 3, *of_many_widths()]):
        (tmp_path / f"rw_{number}.py").write_text(trainer_source("RWTrainer_Mine", terms, **SETTINGS))
    ruff = [sys.executable, "-m", "ruff", command[0], "--no-cache", "--config", CHECKOUT / "pyproject.toml"]
    done = subprocess.run([*ruff, *command[1:], tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("terms", [*list(of_many_widths())[::15], TERMS])
def test_source_defines_what_was_asked_for(terms):
    namespace = {"__name__": "rw_mine"}
    exec(trainer_source("Mine", terms, **SETTINGS), namespace)
    trainer = namespace["Mine"]
    assert issubclass(trainer, MapTrainer)
    assert (trainer.loss_terms, trainer.map_source, trainer.oversample_by) == (terms, "patch", "lesion")
    assert (trainer.optimizer_name, trainer.initial_lr) == ("adamw", 3e-5)


def test_file_has_a_name_of_its_own_and_nothing_else_is_left(folder):
    path = write_trainer("RWTrainer_Mine", TERMS, folder)
    assert path == folder / "rw_rwtrainer_mine.py"
    assert path.read_text() == trainer_source("RWTrainer_Mine", TERMS)
    assert list(folder.iterdir()) == [path]


def test_path_is_absolute(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert write_trainer("Mine", TERMS, "trainers") == tmp_path / "trainers" / "rw_mine.py"


def test_nnunet_finds_it_and_its_lengths(folder):
    write_trainer("RWTrainer_Mine", TERMS, folder)
    write_trainer("RWTrainer_Yours", (Term("boundary"),), folder)
    for name, terms in [
        ("RWTrainer_Mine", TERMS),
        ("RWTrainer_Yours", (Term("boundary"),)),
        ("RWTrainer_Mine_20epochs_50iterations", TERMS),
    ]:
        trainer = recursive_find_trainer_class_by_name(name)
        assert trainer.__name__ == name
        assert trainer.loss_terms == terms


# The dataset first: its folders name this package's trainers alone.
def test_nnunet_trains_with_its_loss(make_dataset, folder, blobs):
    dataset = make_dataset({"a": blobs((16, 16, 16)), "b": blobs((16, 16, 16))})
    texts = ("nnunet", "boundary:rebalance_boundary", "dice:0.5:reweight=inverse_volume,scope=case,power=0.5")
    write_trainer("Mine", [parse_term(text) for text in texts], folder, oversample_by="lesion")
    trainer = get_trainer_from_args(dataset.name, "3d_fullres", 0, "Mine_7epochs", device=torch.device("cpu"))
    trainer.initialize()
    assert (trainer.num_epochs, trainer.oversample_by) == (7, "lesion")
    compound = trainer.loss.loss
    assert compound.term_weights == {"nnunet": 1, "boundary": "rebalance_boundary", "dice": 0.5}
    assert "w = (N / ((K + 1) V))^0.5 per case" in compound.formula()
    assert compound.kinds == ("boundary_distance", "lesion_ids")
    assert trainer.map_layout.kinds == ("interior_distance", "lesion_ids")  # of two classes


@pytest.mark.parametrize(
    "name", ["", "my-trainer", "3D", "class", "RWTrainer Mine", "../Mine", "Größe", "RWTrainer__A"]
)
def test_name_that_is_none(folder, name):
    with pytest.raises(ValueError, match=rf"^Expected a name like RWTrainer_Mine, .*, but got '{name}'\.$"):
        write_trainer(name, TERMS, folder)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["Mine_20epochs", "Mine_20epochs_50iterations", "RWTrainer_20epoch", "RWTrainer_5its"])
def test_name_with_a_length(folder, name):
    with pytest.raises(
        ValueError, match=rf"^Expected a name without length or seed, but got '{name}'\. Write .*_20epochs\.$"
    ):
        write_trainer(name, TERMS, folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("nnUNetTrainer", "nnunetv2.training.nnUNetTrainer"),
        ("nnUNetTrainerDA5", "nnunetv2.training.nnUNetTrainer"),
        ("RWTrainer", "trainers"),
        ("RWTrainer_IWDice", "trainers"),
        # Imported by modules that nnU-Net asks first, and so found instead of the trainer.
        ("torch", "nnunetv2.training.nnUNetTrainer"),
        ("Term", "trainers"),
    ],
)
def test_name_that_is_taken(folder, name, where):
    with pytest.raises(ValueError, match=rf"^nnU-Net finds another {name} in .*{where}\. Choose another name\.$"):
        write_trainer(name, TERMS, folder, overwrite=True)
    assert not folder.exists()


@pytest.mark.parametrize("searched", [True, False])
def test_name_that_another_file_of_the_users_defines(folder, tmp_path, monkeypatch, searched):
    other = (tmp_path / "others" if searched else folder) / "by_hand.py"
    other.parent.mkdir()
    # Read, not run.
    other.write_text("raise SystemExit\nclass RWTrainer_Mine(MapTrainer):\n    ...\n", encoding="latin-1")
    monkeypatch.setenv("nnUNet_extTrainer", str(other.parent) if searched else "")
    with pytest.raises(ValueError, match=r"^nnU-Net finds another RWTrainer_Mine in .*by_hand\.py\. Choose another"):
        write_trainer("RWTrainer_Mine", TERMS, folder)
    assert write_trainer("RWTrainer_Mi", TERMS, folder).is_file()


def test_a_file_that_is_there_is_kept(folder):
    path = write_trainer("Mine", TERMS, folder)
    path.write_text("# Changed by hand.\n")
    with pytest.raises(ValueError, match=r"rw_mine\.py is there already\. Choose another name, or give --overwrite"):
        write_trainer("Mine", TERMS, folder)
    assert path.read_text() == "# Changed by hand.\n"
    write_trainer("Mine", TERMS, folder, overwrite=True)
    assert path.read_text() == trainer_source("Mine", TERMS)
    write_trainer("Mine", (Term("ce"),), folder, overwrite=True)
    assert path.read_text() == trainer_source("Mine", (Term("ce"),))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map_source": "disk"}, r"Expected map_source to be one of \('stored', 'patch'\), but got 'disk'\."),
        ({"cases_by": "voxel"}, r"Expected cases_by to be one of \('case', 'lesion'\), but got 'voxel'\."),
        ({"weight_decay": -1.0}, r"Expected a weight decay of at least 0, but got -1\.0\."),
        ({"initial_lr": 0.0}, r"Expected a learning rate above 0, but got 0\.0\."),
        (
            {"optimizer_name": "adam", "adam_betas": (0.9, 1.0)},
            r"Expected two Adam betas of at least 0 and below 1, but got \(0\.9, 1\.0\)\.",
        ),
        (
            {"optimizer_name": "sgd", "adam_betas": (0.9, 0.95)},
            r"Expected the optimizer adam or adamw beside Adam's betas, but got sgd\.",
        ),
        ({"oversample_by": "case"}, r"Expected oversample_by to be one of \('voxel', 'lesion'\), but got 'case'\."),
    ],
)
def test_unknown_setting(folder, options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        write_trainer("Mine", TERMS, folder, **options)
    assert not folder.exists()


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
def test_betas_of_either_adam(folder, optimizer):
    path = write_trainer("Mine", TERMS, folder, optimizer_name=optimizer, adam_betas=(0.0, 0.95))
    assert "    adam_betas = (0.0, 0.95)\n" in path.read_text()


def test_folder_that_the_variable_cannot_name(tmp_path):
    with pytest.raises(ValueError, match=rf"^Expected a folder without '{os.pathsep}' in its path, but got "):
        write_trainer("Mine", TERMS, tmp_path / f"a{os.pathsep}b")
