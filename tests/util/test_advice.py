"""Commands that messages print: every one is understood by its program, and what they promise comes true."""

import argparse
import ast
import json
import re
import shlex
import shutil
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
from segmentation_files import write_dataset_json, write_image

import nnunet_rw
from nnunet_rw.cli import argument_parser, main
from nnunet_rw.maps.kinds import LESION_IDS
from nnunet_rw.store.files import open_map
from nnunet_rw.store.write import write_case
from nnunet_rw.util import advice

# A plans' name that, parted at an underscore, would be that of others.
PLANS = "my_plans_v2"
VALUES = {
    "dataset": "Dataset004_Hippo campus",
    "configuration": "3d_fullres",
    "plans": f"{PLANS}_3d_fullres",
    "kind": LESION_IDS,
    "overwrite": True,
    "processes": 1,
    "fit": True,
    "rules": True,
    "allow_fewer": True,
    "list": True,
    "validate": True,
    "probabilities": True,
    "resume": True,
    "trainers": ["nnUNetTrainer", "RWTrainer"],
    "folds": ["0", "all"],
    "fold": 0,
}


class Parsed(Exception):
    """What a program understood."""


def parsed(command, monkeypatch):
    """The options that the real parser of a command's program finds in it."""
    program, *words = shlex.split(command)
    if words[0] == "preprocess":  # hands all on
        program, *words = ["nnUNetv2_plan_and_preprocess", *words[1:]]
    if program == "nnunet-rw":
        return argument_parser().parse_args(words)
    (entry,) = entry_points(group="console_scripts", name=program)
    run, parse = entry.load(), argparse.ArgumentParser.parse_known_args

    def stop(parser, *args):
        options, rest = parse(parser, *args)
        assert rest == []
        raise Parsed(options)

    with monkeypatch.context() as patch:
        patch.setattr(sys, "argv", [program, *words])
        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        with pytest.raises(Parsed) as found:
            run()
    return found.value.args[0]


@pytest.mark.parametrize("name", advice.COMMANDS)
def test_command_is_understood_with_all_its_options(name, monkeypatch):
    options = [key for key in advice.COMMANDS[name] if key != "help"]
    values = {key: VALUES.get(key, f"a {key}") for key in options}
    found = vars(parsed(advice.command(name, **values), monkeypatch))
    told = json.dumps(list(found.values()), default=str)
    for key, value in values.items():
        if key == "dataset" and name in advice._BY_NUMBER:
            value = "4"
        assert value is True or str(value).replace("'", '"').replace("[", "").replace("]", "") in told, key


@pytest.mark.parametrize("name", advice.COMMANDS)
def test_command_is_understood_without_options_that_may_be_unknown(name, monkeypatch):
    may_lack = {"plans", "configuration", "trainer", "kind", "folds", "checkpoint", "predictions", "references"}
    if name == "nnUNetv2_train":
        may_lack -= {"configuration"}
    if name == "nnUNetv2_predict":
        may_lack -= {"configuration", "trainer"}
    values = {key: None if key in may_lack else VALUES.get(key, "X") for key in advice.COMMANDS[name] if key != "help"}
    parsed(advice.command(name, **values), monkeypatch)


def test_words_of_a_command():
    assert advice.command("maps", dataset="a b", plans=None, overwrite=False) == "nnunet-rw maps -d 'a b'"
    train = advice.command("nnUNetv2_train", dataset="4", configuration="2d", fold=0, validate=True)
    assert train == "nnUNetv2_train 4 2d 0 --val"
    # nnU-Net's planning takes numbers alone.
    assert advice.command("nnUNetv2_plan_experiment", dataset="Dataset004_Heart") == "nnUNetv2_plan_experiment -d 4"
    with pytest.raises(TypeError, match="Expected dataset of doctor, but got fold"):
        advice.command("doctor", fold=1)


def test_commands_of_help_texts_are_understood(monkeypatch, capsys):
    parser = argument_parser()
    commands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    texts = [parser.epilog, *(command.description or "" for command in commands.values())]
    # Without what stands behind two spaces or more, and the optional parts.
    lines = [re.split(r" {2,}", line.strip())[0] for text in texts for line in text.splitlines()]
    shown = [re.sub(r"\[[^]]*\]", "", line) for line in lines if line.startswith(("nnunet-rw ", "nnUNetv2_"))]
    assert len(shown) > 10
    for line in shown:
        parsed(line, monkeypatch)


def test_no_message_writes_a_command_by_itself():
    pattern = re.compile(r"nnunet-rw [a-z]|nnUNetv2_\w+ (-|[A-Z]|$)")
    package = Path(nnunet_rw.__file__).parent
    for path in package.rglob("*.py"):
        if path.name == "advice.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # Docstrings, and help texts, which the test above looks at.
        texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        if path.parent.name == "cli":
            texts |= {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Assign)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
                assert not pattern.search(node.value), f"{path}, line {node.lineno}: {node.value}"


def advised(text):
    """The command at the end of a message."""
    return shlex.split(re.search(r"(?:Run|Train with): (.*)$", text.strip())[1])


@pytest.fixture
def dataset(make_dataset, nnunet, blobs):
    """Two cases with raw files, under plans of another name alone."""
    cases = {case: blobs((16, 16, 16), seed) for seed, case in enumerate("ab")}
    dataset = make_dataset(cases)
    plans = json.loads((dataset.folder / "nnUNetPlans.json").read_text())
    plans |= {"plans_name": PLANS}
    plans["configurations"]["3d_fullres"]["data_identifier"] = f"{PLANS}_3d_fullres"
    (dataset.folder / f"{PLANS}.json").write_text(json.dumps(plans))
    (dataset.folder / "nnUNetPlans.json").unlink()
    (dataset.folder / "nnUNetPlans_3d_fullres").rename(dataset.folder / f"{PLANS}_3d_fullres")
    raw = nnunet.root / "nnUNet_raw" / dataset.name
    write_dataset_json(raw, numTraining=2)
    for case, labels in cases.items():
        write_image(raw / "labelsTr" / f"{case}.nii.gz", labels.astype(np.uint8), (1.0, 1.0, 1.0))
        write_image(raw / "imagesTr" / f"{case}_0000.nii.gz", labels.astype(np.float32), (1.0, 1.0, 1.0))
    return dataset.folder


def settings_of(folder, plans=PLANS):
    from nnunet_rw.datasets.folders import open_preprocessed

    return open_preprocessed(folder.name, "3d_fullres", plans).settings


def test_missing_map_is_written_by_what_its_error_says(dataset):
    data_folder, settings = dataset / f"{PLANS}_3d_fullres", settings_of(dataset)
    with pytest.raises(FileNotFoundError) as error:
        open_map(data_folder, LESION_IDS, "a", settings)
    command = advised(str(error.value))
    assert command == f"nnunet-rw maps -d {dataset.name} -c 3d_fullres -p {PLANS}".split()
    assert main(command[1:]) == 0
    open_map(data_folder, LESION_IDS, "a", settings)


def test_settings_of_plans_know_their_configuration(dataset):
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_rw.store.files import MapSettings

    plans = PlansManager(str(dataset / f"{PLANS}.json"))
    content = json.loads((dataset / "dataset.json").read_text())
    settings = MapSettings.from_plans(plans, plans.get_configuration("3d_fullres"), content)
    assert (settings.plans_name, settings.configuration_name) == (PLANS, "3d_fullres")
    # Names say nothing of the maps.
    (dataset / f"{PLANS}.json").rename(dataset / "renamed.json")
    renamed = settings_of(dataset, "renamed")
    assert renamed == settings
    assert renamed.plans_name == "renamed"


def test_damaged_case_is_preprocessed_by_what_its_error_says(dataset, thread_pools, capsys, monkeypatch):
    data_folder, settings = dataset / f"{PLANS}_3d_fullres", settings_of(dataset)
    (data_folder / "a_seg.b2nd").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"a_seg\.b2nd is damaged") as error:
        write_case(data_folder, "a", [LESION_IDS], settings)
    command = advised(str(error.value))
    assert command == f"nnUNetv2_preprocess -d 900 -plans_name {PLANS} -c 3d_fullres".split()
    # The doctor does not send the user to write maps of it.
    assert main(["maps", "-d", "900", "-p", PLANS, "--kind", LESION_IDS]) == 2
    capsys.readouterr()
    assert main(["doctor", "-d", "900", "-p", PLANS]) == 1
    problems = [line for line in capsys.readouterr().out.splitlines() if line.startswith("problem")]
    assert not any("nnunet-rw maps" in line for line in problems)
    assert any(line.endswith(" ".join(command)) for line in problems)

    (entry,) = entry_points(group="console_scripts", name=command[0])
    monkeypatch.setattr(sys, "argv", [*command, "-np", "1"])
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    entry.load()()
    write_case(data_folder, "a", [LESION_IDS], settings)


def test_small_plans_name_a_configuration_that_they_have(make_dataset, blobs, capsys):
    configurations = {"2d": {"patch_size": (16, 16), "spacing": (1.0, 1.0)}}
    folder = make_dataset({"a": blobs((16, 16, 16))}, configurations=configurations).folder
    assert main(["small-plans", "-d", "900", "-o", "mine"]) == 0
    assert advised(capsys.readouterr().out.splitlines()[-1]) == ["nnUNetv2_train", "900", "2d", "0", "-p", "mine"]
    # Small plans that are missing are written by what an error says.
    (folder / "nnUNetPlansSmall.json").unlink(missing_ok=True)
    assert main(["show", "-d", "900", "-c", "2d", "-p", "nnUNetPlansSmall", "-o", str(folder / "x.png")]) == 2
    command = advised(capsys.readouterr().err)
    assert command == ["nnunet-rw", "small-plans", "-d", "Dataset900_Synthetic"]
    assert main(command[1:]) == 0
    assert (folder / "nnUNetPlansSmall.json").is_file()


@pytest.fixture
def unvalidated(make_dataset, nnunet, blobs):
    """A model of folds that were trained more or less, and none validated."""
    dataset = make_dataset({case: blobs((16, 16, 16)) for case in "abcd"})
    splits = [{"train": ["a"], "val": ["b"]}, {"train": ["a"], "val": ["c"]}, {"train": ["b"], "val": []}]
    (dataset.folder / "splits_final.json").write_text(json.dumps([*splits, {"train": ["a"], "val": ["d"]}]))
    model = nnunet.results / dataset.name / f"RWTrainer__{PLANS}__3d_fullres"
    write_dataset_json(model)
    for fold, checkpoint in ((0, "checkpoint_final.pth"), (1, "checkpoint_latest.pth"), (2, "checkpoint_final.pth")):
        (model / f"fold_{fold}").mkdir(parents=True)
        (model / f"fold_{fold}" / checkpoint).touch()
    return model


@pytest.mark.parametrize(
    ("fold", "expected"),
    [("0", " --val"), ("1", " --c"), ("3", "")],
    ids=["trained", "begun", "not begun"],
)
def test_fold_that_was_not_validated(unvalidated, capsys, monkeypatch, fold, expected):
    command = ["evaluate", "-d", "900", "-tr", "RWTrainer", "--plans", PLANS, "-f", fold]
    assert main(command) == 2
    text = " ".join(advised(capsys.readouterr().err))
    assert text == f"nnUNetv2_train 900 3d_fullres {fold} -tr RWTrainer -p {PLANS}{expected}"
    parsed(text, monkeypatch)
    # Where probabilities are wanted, they are written.
    assert main(["threshold", "--fit", *command[1:], "--false-positives", "1", "-o", "out"]) == 2
    assert " ".join(advised(capsys.readouterr().err)) == f"{text.removesuffix(expected)} --npz{expected}"


def test_fold_without_validation_cases(unvalidated, capsys):
    command = ["evaluate", "-d", "900", "-tr", "RWTrainer", "--plans", PLANS]
    assert main([*command, "-f", "2"]) == 2
    assert re.search(r"It has no validation case in \S+splits_final\.json: name other", capsys.readouterr().err)
    # Of no fold in particular: the first that has some.
    shutil.rmtree(unvalidated / "fold_0")
    assert main(command) == 2
    assert capsys.readouterr().err.endswith(f"Run: nnUNetv2_train 900 3d_fullres 1 -tr RWTrainer -p {PLANS} --c\n")


def test_model_that_was_not_trained(unvalidated, capsys, monkeypatch):
    shutil.rmtree(unvalidated)
    for command in (["evaluate"], ["export", "-o", "out"]):
        plans = "-p" if command[0] == "export" else "--plans"
        assert main([*command, "-d", "900", "-tr", "RWTrainer", plans, PLANS]) == 2
        text = " ".join(advised(capsys.readouterr().err))
        assert text == f"nnUNetv2_train 900 3d_fullres 0 -tr RWTrainer -p {PLANS}"
        parsed(text, monkeypatch)
