"""Misspelt options, and datasets, plans and folders that are not there: for several commands alike."""

import argparse
import re
import shutil

import pytest

from nnunet_rw.cli import evaluation, main, predictions


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: COMMAND"),
        (["train"], "invalid choice: 'train'"),
        (["env", "--no-such"], "unrecognized arguments: --no-such"),
        (["maps"], "arguments are required: -d"),
        (["maps", "-d", "4", "--kind", "distance"], "--kind: invalid choice: 'distance'"),
        (["maps", "-d", "4", "-np", "0"], "-np: expected a number above 0, but got 0"),
        (["show", "-d", "4", "--slice", "half"], "--slice: invalid int value: 'half'"),
        (["synthesize", "-o", "Task99_A", "--cases", "-3"], "--cases: expected a number above 0, but got -3"),
        (["demo", "--epochs", "0"], "--epochs: expected a number above 0, but got 0"),
        (["demo", "--device", "tpu"], "--device: invalid choice: 'tpu'"),
    ],
)
def test_misspelt_options_stop_with_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as info:
        main(arguments)
    assert info.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_plans_are_named_as_nnunet_does():
    parser, subcommands = argparse.ArgumentParser(), ("threshold", "ensemble", "compare")
    commands = parser.add_subparsers()
    for register in (evaluation.register, predictions.register):
        register(commands)
    for command in subcommands:
        for option in ("-p", "--plans"):
            options = parser.parse_args([command, "-o", "out", option, "nnUNetResEncUNetMPlans"])
            assert options.plans == "nnUNetResEncUNetMPlans"


READING = [("maps", []), ("show", []), ("small-plans", [])]


@pytest.mark.parametrize(("command", "more"), READING)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("4", r"No dataset '4'.* Look into .*nnUNet_preprocessed\."),
        ("Hippocampus", r"No dataset 'Hippocampus'.* Look into .*nnUNet_preprocessed\."),
        (
            "Dataset004_Hippo",
            r"No dataset 'Dataset004_Hippo' in .* Run: nnUNetv2_plan_and_preprocess -d 4",
        ),
    ],
)
def test_unknown_dataset(nnunet, fails, command, more, given, message):
    assert re.fullmatch(message, fails(command, "-d", given, *more))


@pytest.mark.parametrize(("command", "more"), READING)
def test_variable_that_is_not_set(nnunet, fails, monkeypatch, command, more):
    monkeypatch.delenv("nnUNet_preprocessed")
    message = "nnUNet_preprocessed is not set. Run: export nnUNet_preprocessed=FOLDER"
    assert fails(command, "-d", "4", *more) == message


@pytest.mark.parametrize(("command", "more"), READING)
def test_variable_that_names_no_folder(nnunet, fails, monkeypatch, command, more):
    monkeypatch.setenv("nnUNet_preprocessed", str(nnunet.root / "none"))
    message = (
        f"nnUNet_preprocessed names {nnunet.root / 'none'}, which is no folder. Create it or correct the variable."
    )
    assert fails(command, "-d", "4", *more) == message


@pytest.mark.parametrize("command", ["maps", "show"])
def test_unknown_configuration_or_plans(dataset, fails, command):
    plans = dataset.folder / "nnUNetPlans.json"
    assert fails(command, "-d", "900", "-c", "3d") == f"No configuration '3d' in {plans}. Known: 3d_fullres."
    other = dataset.folder / "other.json"
    run = "nnUNetv2_plan_experiment -d 900 -overwrite_plans_name other"
    message = f"No plans {other}. There are: nnUNetPlans. Run: {run}"
    assert fails(command, "-d", "900", "-p", "other") == message


@pytest.mark.parametrize("arguments", [["maps"], ["maps", "-c", "3d_fullres"], ["show"]])
def test_planned_but_not_preprocessed(dataset, fails, arguments):
    shutil.rmtree(dataset.data_folder())
    command, *more = arguments
    assert re.search(r"^No preprocessed data .* Run: nnUNetv2_", fails(command, "-d", "900", *more))


def test_plans_that_are_no_json(dataset, fails):
    (dataset.folder / "nnUNetPlans.json").write_text("{")
    assert "nnUNetPlans.json" in fails("maps", "-d", "900")
