"""`nnunet-rw new-trainer`: the file, how to use it, and the errors."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_rw.cli import main
from nnunet_rw.losses import Term
from nnunet_rw.training.dataloading import CASES_BY, OVERSAMPLE_BY
from nnunet_rw.training.trainer import MAP_SOURCES, OPTIMIZERS

TRAINERS = Path(__file__).resolve().parents[2] / "trainers"


def test_new_trainer_is_found_after_the_line_that_is_printed(succeeds, tmp_path, monkeypatch):
    home = tmp_path / "it's mine"
    home.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setenv("nnUNet_extTrainer", "/others/trainers")
    output = succeeds("new-trainer", "RWTrainer_Mine", "--loss", "nnunet", "rrw:0.5", "--oversample-by", "lesion")
    path = home / "nnunet_trainers" / "rw_rwtrainer_mine.py"
    assert output.splitlines()[0] == str(path)
    assert output.splitlines()[-1].strip() == "nnUNetv2_train DATASET CONFIGURATION FOLD -tr RWTrainer_Mine"

    (line,) = re.findall(r"^ *(export .*)$", output, re.MULTILINE)
    script = 'eval "$LINE"; printf %s "$nnUNet_extTrainer"'
    value = subprocess.check_output(["bash", "-c", script], env={**os.environ, "LINE": line}, text=True)
    assert value.split(os.pathsep) == ["/others/trainers", str(path.parent), str(TRAINERS)]
    monkeypatch.setenv("nnUNet_extTrainer", value)
    trainer = recursive_find_trainer_class_by_name("RWTrainer_Mine_20epochs")
    assert trainer.loss_terms == (Term("nnunet"), Term("rrw", 0.5))
    assert (trainer.map_source, trainer.oversample_by) == ("stored", "lesion")

    # Once more, from the shell that has evaluated it: the line stays as it is.
    assert line in succeeds("new-trainer", "RWTrainer_Mine", "--loss", "rrw", "--overwrite")
    assert recursive_find_trainer_class_by_name("RWTrainer_Mine").loss_terms == (Term("rrw"),)


def test_new_trainer_in_a_folder_of_choice(succeeds, tmp_path):
    options = ("-o", tmp_path / "mine", "--map-source", "patch")
    path = succeeds("new-trainer", "Mine", "--loss", "dice:1:squared=False", *options).splitlines()[0]
    assert path == str(tmp_path / "mine" / "rw_mine.py")
    assert 'map_source = "patch"' in Path(path).read_text()


def test_new_trainer_with_another_optimiser(succeeds, tmp_path, monkeypatch):
    options = ("-o", tmp_path, "--optimizer", "adam", "--lr", "5e-4", "--weight-decay", "0", "--cases-by", "lesion")
    succeeds("new-trainer", "RWTrainer_Adam", "--loss", "rrw", *options)
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(TRAINERS), str(tmp_path)]))
    trainer = recursive_find_trainer_class_by_name("RWTrainer_Adam")
    assert (trainer.optimizer_name, trainer.initial_lr, trainer.weight_decay) == ("adam", 5e-4, 0)
    assert trainer.cases_by == "lesion"
    # What is not asked for is left to `MapTrainer`.
    assert "adam_betas" not in vars(trainer)


def test_new_trainer_with_adams_betas(succeeds, fails, tmp_path, monkeypatch):
    options = ("-o", tmp_path, "--adam-betas", "0.9", "0.95")
    message = fails("new-trainer", "RWTrainer_Betas", "--loss", "rrw", *options)
    assert message == "Expected the optimizer adam or adamw beside Adam's betas, but got sgd."
    succeeds("new-trainer", "RWTrainer_Betas", "--loss", "rrw", *options, "--optimizer", "adamw")
    monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(TRAINERS), str(tmp_path)]))
    assert recursive_find_trainer_class_by_name("RWTrainer_Betas").adam_betas == (0.9, 0.95)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Mine", "--loss", "rrw", "dise:2"), "Unknown loss 'dise'. Known: rrw, "),
        (("Mine", "--loss", "rrw:sometimes"), "Unknown schedule 'sometimes'. Known: "),
        (("Mine", "--loss", "dice:1:powr=2"), "Unknown option of loss 'dice': powr. Known: "),
        (("my-trainer", "--loss", "rrw"), "Expected a name like RWTrainer_Mine"),
        (("RWTrainer_RRW", "--loss", "rrw"), "nnU-Net finds another RWTrainer_RRW in "),
        (("RWTrainer_20epochs", "--loss", "rrw"), "Expected a name without length or seed"),
    ],
)
def test_new_trainer_refuses_and_writes_nothing(fails, tmp_path, arguments, message):
    assert fails("new-trainer", *arguments, "-o", tmp_path / "mine").startswith(message)
    assert not (tmp_path / "mine").exists()


def test_new_trainer_keeps_a_file_that_is_there(succeeds, fails, tmp_path):
    arguments = ("new-trainer", "Mine", "--loss", "rrw", "-o", tmp_path)
    succeeds(*arguments)
    assert "rw_mine.py is there already" in fails(*arguments)


def test_choices_are_those_of_the_trainer(capsys):
    with pytest.raises(SystemExit):
        main(["new-trainer", "--help"])
    # Spelt out in the parser, because importing the trainer takes seconds.
    text = capsys.readouterr().out
    assert f"--map-source {{{','.join(MAP_SOURCES)}}}" in text
    assert f"--oversample-by {{{','.join(OVERSAMPLE_BY)}}}" in text
    assert f"--cases-by {{{','.join(CASES_BY)}}}" in text
    assert f"--optimizer {{{','.join(OPTIMIZERS)}}}" in text
