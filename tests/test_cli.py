import ast
import os
import re
import runpy
import shlex
import shutil
import struct
import subprocess
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunet_rw import __version__, catalogue, compatibility, doctor
from nnunet_rw.cli import main
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, KINDS, LESION_IDS, SIGNED_DISTANCE
from nnunet_rw.store import FOLDER_NAME, is_current

CHECKOUT = Path(__file__).resolve().parents[1]
TRAINERS = CHECKOUT / "trainers"
DATASET = "Dataset900_Synthetic"
SHAPE, SPACING_MM = (18, 20, 24), (3.0, 1.0, 0.5)


@pytest.fixture
def succeeds(capsys):
    """Function that runs a command and returns what it printed."""

    def run(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def fails(capsys):
    """Function that runs a command that the user got wrong and returns its only line on stderr."""

    def run(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert re.fullmatch(r"nnunet-rw: [^\n]+\n", output.err), output.err
        return output.err.removeprefix("nnunet-rw: ").strip()

    return run


@pytest.fixture
def dataset(make_dataset, blobs):
    cases = {f"case_{number}": blobs(SHAPE, seed=number) for number in range(3)}
    return make_dataset(cases, configurations={"3d_fullres": {"spacing": SPACING_MM}})


def maps_of(data_folder):
    """Map files by kind and case, with the time at which they were written."""
    files = Path(data_folder, FOLDER_NAME).glob("*/*.b2nd")
    return {f"{path.parent.name}/{path.stem}": path.stat().st_mtime_ns for path in files}


def png_size(path):
    """Width and height, from the header."""
    content = Path(path).read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


# the command itself


def test_as_a_module_in_a_process_of_its_own(nnunet):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "nnunet_rw", *arguments], capture_output=True, text=True)

    good, wrong = run("env"), run("maps", "-d", "4")
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.startswith("export nnUNet_extTrainer=")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert re.fullmatch(r"nnunet-rw: No dataset '4'[^\n]+\n", wrong.stderr)


def test_script_of_the_checkout_works_without_an_installation():
    script = str(CHECKOUT / "scripts" / "nnunet-rw")
    # -S keeps out an editable installation, which works through a .pth file; the path brings nnU-Net back.
    packages = [path for path in sys.path if path.endswith("-packages")]
    start = f"import runpy, sys; sys.path += {packages}; runpy.run_path({script!r}, run_name='__main__')"
    command = [sys.executable, "-S", "-c", start, "trainers"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=TRAINERS)
    assert (done.returncode, done.stderr) == (0, "")
    assert "RWTrainer_IWDiceCE_RRW" in done.stdout


def test_script_of_the_checkout_runs_nothing_in_a_spawned_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nnunet-rw", "env"])
    # What multiprocessing does with the main file of its parent.
    runpy.run_path(str(CHECKOUT / "scripts" / "nnunet-rw"), run_name="__mp_main__")
    assert capsys.readouterr().out == ""


def test_version(capsys):
    with pytest.raises(SystemExit) as info:
        main(["--version"])
    assert info.value.code == 0
    assert capsys.readouterr().out == f"nnunet-rw {__version__}\n"


COMMANDS = ("env", "trainers", "doctor", "preprocess", "maps", "show", "export", "synthesize", "small-plans", "demo")


def test_help_names_every_command_and_a_first_training(capsys):
    with pytest.raises(SystemExit) as info:
        main(["--help"])
    assert info.value.code == 0
    text = capsys.readouterr().out
    assert tuple(re.findall(r"^    ([a-z-]+)(?: |$)", text, re.MULTILINE)) == COMMANDS
    assert 'eval "$(nnunet-rw env)"' in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as info:
        main([command, "--help"])
    assert info.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: nnunet-rw {command}")


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


def test_interruption_says_that_nothing_is_lost(monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(catalogue, "export_line", interrupt)
    assert main(["env"]) == 130
    assert capsys.readouterr().err == "nnunet-rw: interrupted; the same command goes on where it stopped\n"


# env


def evaluated(line):
    """The variable after bash has read the line."""
    script = f'eval "$LINE"; printf %s "${catalogue.VARIABLE}"'
    done = subprocess.run(["bash", "-c", script], env={**os.environ, "LINE": line}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("others", [[], ["/my/trainers"], ["/a folder", '/it\'s "$HOME" `ls`; !']])
def test_env_keeps_other_folders_and_can_be_repeated(succeeds, monkeypatch, others):
    monkeypatch.setenv(catalogue.VARIABLE, os.pathsep.join(others))
    first = evaluated(succeeds("env"))
    assert first.split(os.pathsep) == [str(TRAINERS), *others]
    monkeypatch.setenv(catalogue.VARIABLE, first)
    assert evaluated(succeeds("env")) == first


def test_env_where_nothing_is_set(succeeds, monkeypatch):
    monkeypatch.delenv(catalogue.VARIABLE, raising=False)
    line = succeeds("env")
    assert line.count("\n") == 1
    assert evaluated(line) == str(TRAINERS)


def test_env_quotes_the_folder_of_this_package(succeeds, monkeypatch):
    folder = Path("/a place/of $USER's/trainers")
    monkeypatch.setattr(catalogue, "trainers_folder", lambda: folder)
    monkeypatch.setenv(catalogue.VARIABLE, "")
    assert evaluated(succeeds("env")) == str(folder)


# trainers


def defined_trainers():
    """Names of the classes that the files of the folder define, read without importing them."""
    trees = [ast.parse(path.read_text()) for path in TRAINERS.glob("*.py")]
    return {node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def test_trainers_lists_every_class_of_the_folder_and_the_base(succeeds):
    header, line, *rows = succeeds("trainers").split("\n\n")[0].splitlines()
    assert header.split() == ["trainer", "loss", "maps", "paper"]
    assert set(line) == {"-", " "}
    names = [row.split()[0] for row in rows]
    assert len(names) > 9
    assert sorted(names) == sorted({"RWTrainer", *defined_trainers()})


def test_trainers_table_tells_loss_maps_and_paper():
    rows = {row.name: row for row in catalogue.trainer_rows()}
    assert (rows["RWTrainer"].loss, rows["RWTrainer"].maps) == ("nnunet + rrw", "interior_distance")
    assert rows["RWTrainer_IWDiceCE_RRW"].loss.startswith("IW-dice(power=0.5, normalise=True) + IW-ce(power")
    assert rows["RWTrainer_IWDiceCE_RRW"].maps == "interior_distance, lesion_ids"
    assert rows["RWTrainer_Boundary"].loss == "rebalance_region * nnunet + rebalance_boundary * boundary"
    assert rows["RWTrainer_Boundary"].maps == "signed_distance"
    assert rows["RWTrainer_ActiveContour"].maps == "none"
    assert all(re.search(r"\b(19|20)\d\d\b", row.paper) and row.summary for row in rows.values())


def test_trainers_of_a_length_are_not_listed_once_used():
    before = sorted(catalogue.trainer_classes())
    module = import_module("nnunet_rw.trainers.rw_region_wise")
    try:
        assert module.RWTrainer_RRW_7epochs.__name__ == "RWTrainer_RRW_7epochs"
        assert sorted(catalogue.trainer_classes()) == before
    finally:
        vars(module).pop("RWTrainer_RRW_7epochs", None)


# doctor


@pytest.fixture
def findings(capsys):
    """Function that runs the doctor and returns its code and its lines, by level."""

    def run(*arguments):
        capsys.readouterr()
        code = main(["doctor", *arguments])
        output = capsys.readouterr()
        assert output.err == ""
        lines = [line.split(maxsplit=1) for line in output.out.splitlines()]
        assert {level for level, _ in lines} <= {"ok", "note", "problem"}
        return code, {level: [text for other, text in lines if other == level] for level in ("ok", "note", "problem")}

    return run


def test_doctor_finds_nothing_wrong(nnunet, findings):
    code, found = findings()
    assert (code, found["problem"]) == (0, [])
    texts = found["ok"]
    assert f"Python {sys.version.split()[0]}" in texts
    for package in ("nnunet_rw", "nnunetv2", "batchgenerators", "batchgeneratorsv2", "torch", "blosc2", "edt"):
        assert any(re.fullmatch(rf"{package} \d\S+", text) for text in texts), package
    assert f"nnUNet_raw = {nnunet.root / 'nnUNet_raw'}" in texts
    assert f"nnU-Net finds RWTrainer in {TRAINERS}" in texts


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"])
def test_doctor_finds_a_variable_that_is_not_set(nnunet, findings, monkeypatch, variable):
    monkeypatch.delenv(variable)
    code, found = findings()
    assert (code, found["problem"]) == (1, [f"{variable} is not set. Run: export {variable}=FOLDER"])


def test_doctor_finds_a_variable_that_names_no_folder(nnunet, findings, monkeypatch):
    folder = nnunet.root / "other"
    monkeypatch.setenv("nnUNet_results", str(folder))
    code, found = findings()
    advice = f"nnUNet_results names {folder}, which is no folder. Run: mkdir -p {folder}"
    assert (code, found["problem"]) == (1, [advice])
    subprocess.run(shlex.split(advice.split("Run: ")[1]), check=True)
    assert findings()[0] == 0


@pytest.mark.parametrize("folders", [None, "", "/somewhere/else"])
def test_doctor_finds_that_nnunet_cannot_find_the_trainers(nnunet, findings, monkeypatch, folders):
    if folders is None:
        monkeypatch.delenv(catalogue.VARIABLE)
    else:
        monkeypatch.setenv(catalogue.VARIABLE, folders)
    code, found = findings()
    assert (code, found["problem"]) == (1, ['nnU-Net does not find RWTrainer. Run: eval "$(nnunet-rw env)"'])


def test_doctor_finds_a_package_that_is_not_installed(nnunet, findings, monkeypatch):
    def version(package):
        if package == "edt":
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(doctor, "version", version)
    code, found = findings()
    assert (code, found["problem"]) == (1, ["edt is not installed. Run: pip install edt"])


def test_doctor_finds_an_nnunet_that_is_too_old(nnunet, findings, monkeypatch):
    monkeypatch.setattr(compatibility, "version", lambda package: "2.5.1")
    code, found = findings()
    assert code == 1
    (problem,) = found["problem"]
    assert problem.startswith("Expected nnunetv2 2.8 or newer, but got 2.5.1. Run: pip install")


@pytest.mark.parametrize(
    ("available", "level", "text"),
    [(True, "ok", "GPU: 2 x H200"), (False, "note", "GPU: none, train with -device cpu")],
)
def test_doctor_looks_for_a_gpu(nnunet, findings, monkeypatch, available, level, text):
    gpu = SimpleNamespace(is_available=lambda: available, device_count=lambda: 2, get_device_name=lambda index: "H200")
    monkeypatch.setattr(torch, "cuda", gpu)
    assert text in findings()[1][level]


def test_doctor_finds_that_no_map_is_written_yet(dataset, findings):
    code, found = findings("-d", "900")
    assert code == 0
    note = "maps of 900 3d_fullres: none yet, the first training of an RWTrainer writes them"
    assert note in found["note"]


@pytest.mark.parametrize("plans", ["nnUNetPlans", "own_plans"])
def test_doctor_finds_incomplete_maps_and_its_advice_completes_them(dataset, findings, plans):
    if plans != "nnUNetPlans":
        (dataset.folder / "nnUNetPlans.json").rename(dataset.folder / f"{plans}.json")
    dataset.write_maps([INTERIOR_DISTANCE, LESION_IDS])
    code, found = findings("-d", "900", "-p", plans)
    assert code == 0
    assert "interior_distance maps of 900 3d_fullres: 3 of 3 current" in found["ok"]

    (dataset.data_folder() / FOLDER_NAME / LESION_IDS / "case_1.b2nd").unlink()
    code, found = findings("-d", "900", "-p", plans)
    assert code == 1
    (problem,) = found["problem"]
    text, advice = problem.split(" Run: ")
    assert text == "lesion_ids maps of 900 3d_fullres: 2 of 3 current."
    assert main(shlex.split(advice)[1:]) == 0
    code, found = findings("-d", "900", "-p", plans)
    assert code == 0
    assert "lesion_ids maps of 900 3d_fullres: 3 of 3 current" in found["ok"]


def test_doctor_finds_maps_that_are_out_of_date(dataset, findings):
    dataset.write_maps([LESION_IDS])
    segmentations = [dataset.data_folder() / f"case_{number}_seg.b2nd" for number in (0, 1)]
    shutil.copyfile(*segmentations)
    code, found = findings("-d", "900", "-c", "3d_fullres")
    assert code == 1
    assert found["problem"][0].startswith("lesion_ids maps of 900 3d_fullres: 2 of 3 current.")


def test_doctor_checks_several_datasets(dataset, findings):
    code, found = findings("-d", DATASET, "901")
    assert code == 1
    assert any(text.startswith(f"maps of {DATASET} 3d_fullres: none yet") for text in found["note"])
    (problem,) = found["problem"]
    assert problem.startswith("No dataset '901'")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["-c", "2d"], r"No configuration '2d' in .*nnUNetPlans\.json\. Known: 3d_fullres\."),
        (["-p", "other"], r"No plans .*other\.json\. Run: nnUNetv2_plan_experiment -d 900, or give -p PLANS\."),
    ],
)
def test_doctor_finds_what_it_is_asked_for_missing(dataset, findings, arguments, problem):
    code, found = findings("-d", "900", *arguments)
    assert code == 1
    (text,) = found["problem"]
    assert re.fullmatch(problem, text)
    assert len(found["ok"]) > 8


def test_doctor_finds_that_a_dataset_is_not_preprocessed(dataset, findings):
    shutil.rmtree(dataset.data_folder())
    for arguments in ([], ["-c", "3d_fullres"]):
        code, found = findings("-d", "900", *arguments)
        assert code == 1
        (text,) = found["problem"]
        assert re.search(r"No preprocessed data .* Run: nnUNetv2_", text)


# maps


def test_maps_are_written_once(dataset, succeeds):
    assert succeeds("maps", "-d", "900").endswith(f"{DATASET} 3d_fullres: maps of 3 cases written, all are current\n")
    first = maps_of(dataset.data_folder())
    assert set(first) == {f"{kind}/case_{i}" for kind in (INTERIOR_DISTANCE, LESION_IDS) for i in range(3)}
    for name in first:
        assert is_current(dataset.data_folder(), *name.split("/"), dataset.settings())

    assert succeeds("maps", "-d", DATASET, "-c", "3d_fullres", "-np", "1") == (
        f"{DATASET} 3d_fullres: maps of 0 cases written, all are current\n"
    )
    assert maps_of(dataset.data_folder()) == first


def test_maps_overwrite(dataset, succeeds):
    succeeds("maps", "-d", "900", "--kind", SIGNED_DISTANCE)
    first = maps_of(dataset.data_folder())
    assert set(first) == {f"{SIGNED_DISTANCE}/case_{i}" for i in range(3)}
    assert "maps of 3 cases written" in succeeds("maps", "-d", "900", "--kind", SIGNED_DISTANCE, "--overwrite")
    second = maps_of(dataset.data_folder())
    assert all(second[name] > first[name] for name in first)


def test_maps_writes_only_what_is_missing(dataset, succeeds):
    succeeds("maps", "-d", "900")
    first = maps_of(dataset.data_folder())
    damaged = dataset.data_folder() / FOLDER_NAME / LESION_IDS / "case_2.b2nd"
    damaged.write_bytes(damaged.read_bytes()[:100])
    (dataset.data_folder() / FOLDER_NAME / INTERIOR_DISTANCE / "case_0.b2nd").unlink()
    assert "maps of 2 cases written" in succeeds("maps", "-d", "900")
    second = maps_of(dataset.data_folder())
    changed = {name for name in first if first[name] != second[name]}
    assert changed == {f"{LESION_IDS}/case_2", f"{INTERIOR_DISTANCE}/case_0"}


def test_maps_of_all_kinds_and_configurations(make_dataset, blobs, succeeds):
    configurations = {"2d": {"patch_size": (16, 16), "spacing": (1.0, 0.5)}, "3d_fullres": {"spacing": SPACING_MM}}
    dataset = make_dataset({"a": blobs(SHAPE), "b": blobs(SHAPE, seed=1)}, configurations=configurations)
    lines = succeeds("maps", "-d", "900", "--kind", "all").splitlines()
    assert [line for line in lines if "written" in line] == [
        f"{DATASET} {name}: maps of 2 cases written, all are current" for name in configurations
    ]
    for name in configurations:
        assert set(maps_of(dataset.data_folder(name))) == {f"{kind}/{case}" for kind in KINDS for case in "ab"}


def test_maps_of_several_datasets(make_dataset, blobs, succeeds):
    for number in (901, 902):
        make_dataset({"a": blobs(SHAPE), "b": blobs(SHAPE, seed=1)}, name=f"Dataset{number}_Small")
    text = succeeds("maps", "-d", "901", "902", "--kind", LESION_IDS)
    assert re.findall(r"^(Dataset90\d)_Small 3d_fullres: maps of 2", text, re.MULTILINE) == ["Dataset901", "Dataset902"]


READING = [("maps", []), ("show", []), ("small-plans", [])]


@pytest.mark.parametrize(("command", "more"), READING)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("4", r"No dataset '4'.* Look into .*nnUNet_preprocessed\."),
        ("Hippocampus", r"No dataset 'Hippocampus'.* Look into .*nnUNet_preprocessed\."),
        (
            "Dataset004_Hippo",
            r"No dataset 'Dataset004_Hippo' in .* Run: nnUNetv2_plan_and_preprocess -d Dataset004_Hippo",
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
    message = f"No plans {other}. Run: nnUNetv2_plan_experiment -d 900, or give -p PLANS."
    assert fails(command, "-d", "900", "-p", "other") == message


@pytest.mark.parametrize("arguments", [["maps"], ["maps", "-c", "3d_fullres"], ["show"]])
def test_planned_but_not_preprocessed(dataset, fails, arguments):
    shutil.rmtree(dataset.data_folder())
    command, *more = arguments
    assert re.search(r"^No preprocessed data .* Run: nnUNetv2_", fails(command, "-d", "900", *more))


def test_plans_that_are_no_json(dataset, fails):
    (dataset.folder / "nnUNetPlans.json").write_text("{")
    assert "nnUNetPlans.json" in fails("maps", "-d", "900")


# preprocess


@pytest.fixture
def raw_hippocampus(hippocampus, thread_pools, monkeypatch):
    # With 0 nnU-Net's planning asks torch for no threads at all, and fails.
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    return hippocampus.preprocessed / "Dataset004_Hippocampus"


PREPROCESS = ("preprocess", "-d", "4", "-c", "3d_fullres", "-np", "1", "-npfp", "1", "--no_pbar")


@pytest.mark.slow
def test_preprocess_writes_maps_of_what_it_preprocessed(raw_hippocampus, succeeds):
    shutil.rmtree(raw_hippocampus)
    succeeds(*PREPROCESS, "--verify_dataset_integrity")
    maps = maps_of(raw_hippocampus / "nnUNetPlans_3d_fullres")
    assert len(maps) == 12
    assert {name.split("/")[0] for name in maps} == {INTERIOR_DISTANCE, LESION_IDS}
    assert not (raw_hippocampus / "nnUNetPlans_2d").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nnUNetPlansOwn", "fine"])
def test_preprocess_under_another_plans_name(raw_hippocampus, succeeds, name):
    options = ("-overwrite_plans_name", name, "-overwrite_target_spacing", "1", "1", "1", "--kind", LESION_IDS)
    succeeds(*PREPROCESS, *options)
    assert len(maps_of(raw_hippocampus / f"{name}_3d_fullres")) == 6
    # Other plans' data stay without, as they were not preprocessed.
    assert maps_of(raw_hippocampus / "nnUNetPlans_3d_fullres") == {}


@pytest.mark.slow
def test_preprocess_of_plans_alone_writes_no_maps(raw_hippocampus, succeeds):
    succeeds(*PREPROCESS, "--no_pp")
    assert maps_of(raw_hippocampus / "nnUNetPlans_3d_fullres") == {}


def last_line_of_failure(capsys, *arguments):
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_preprocess_of_an_unknown_dataset(nnunet, capsys):
    line = last_line_of_failure(capsys, "preprocess", "-d", "4", "-c", "3d_fullres")
    assert line.startswith("nnunet-rw: nnUNetv2_plan_and_preprocess failed: Could not find a dataset with the ID 4.")


def test_preprocess_of_no_dataset(nnunet, fails):
    assert fails("preprocess", "-c", "3d_fullres") == "No dataset. Give its number: nnunet-rw preprocess -d 4"


@pytest.mark.parametrize("variable", ["nnUNet_raw", "nnUNet_preprocessed"])
def test_preprocess_without_folders(nnunet, fails, monkeypatch, variable):
    monkeypatch.delenv(variable)
    assert fails("preprocess", "-d", "4") == f"{variable} is not set. Run: export {variable}=FOLDER"


def test_preprocess_leaves_the_arguments_of_this_process_alone(nnunet, capsys):
    before = list(sys.argv)
    last_line_of_failure(capsys, "preprocess", "-d", "4")
    assert sys.argv == before


# show


def test_show_draws_the_first_case_here(dataset, succeeds, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    line = succeeds("show", "-d", "900")
    assert re.fullmatch(r"case_0\.png: case_0, slice \d+\n", line)
    width, height = png_size(tmp_path / "case_0.png")
    assert 800 < width < 3000
    assert 400 < height < 3000


def test_show_draws_the_slice_with_most_lesions(make_dataset, succeeds, tmp_path):
    labels = np.zeros(SHAPE, np.int16)
    # Slice 4: a lesion of each class; slice 9: three of one class.
    labels[4, 5, 5], labels[4, 5, 15], labels[9, 5, [2, 8, 14]] = 1, 2, 1
    classes = {"background": 0, "core": 1, "edge": 2}
    make_dataset({"a": labels, "b": labels}, labels=classes, configurations={"3d_fullres": {"spacing": SPACING_MM}})
    assert succeeds("show", "-d", "900", "-o", tmp_path / "a.png").endswith("a, slice 9\n")
    assert succeeds("show", "-d", "900", "-o", tmp_path / "a.png", "--slice", "4").endswith("a, slice 4\n")


def test_show_another_case_and_its_volumes(dataset, succeeds, tmp_path):
    dataset.write_maps([INTERIOR_DISTANCE])
    path, folder = tmp_path / "own.png", tmp_path / "new" / "volumes"
    lines = succeeds("show", "-d", "900", "--case", "case_2", "-o", path, "--nifti", folder).splitlines()
    assert lines[0].startswith(f"{path}: case_2, slice ")
    assert png_size(path)
    files = {Path(line).name.removeprefix("case_2_").removesuffix(".nii.gz"): Path(line) for line in lines[1:]}
    assert {file.parent for file in files.values()} == {folder}
    maps = {INTERIOR_DISTANCE, "signed_distance_0", "signed_distance_1", LESION_IDS, "lesion_volume_mm3"}
    assert set(files) == {"image", "labels", "rectified_region_wise_0", "rectified_region_wise_1", *maps}
    volumes = {name: sitk.ReadImage(str(file)) for name, file in files.items()}
    for volume in volumes.values():
        # SimpleITK's axes are those of the array, reversed.
        assert volume.GetSize() == SHAPE[::-1]
        assert volume.GetSpacing() == SPACING_MM[::-1]
    arrays = {name: sitk.GetArrayFromImage(volume) for name, volume in volumes.items()}
    np.testing.assert_array_equal(arrays["labels"], dataset.labels["case_2"])
    # A voxel has 3 * 1 * 0.5 mm3.
    assert set(np.unique(arrays["lesion_volume_mm3"] / 1.5 % 1)) == {0}
    # Outside of the lesions the distance to the next one; stored in half precision, the other computed.
    outside = arrays["labels"] == 0
    np.testing.assert_allclose(arrays[INTERIOR_DISTANCE][outside], arrays["signed_distance_1"][outside], rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"configurations": {"2d": {"patch_size": (16, 16), "spacing": (1.0, 0.5)}}},
        {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
        {"labels": {"background": 0, "lesion": 1, "ignore": 2}},
    ],
    ids=["2d", "regions", "ignore label"],
)
def test_show_other_kinds_of_dataset(make_dataset, blobs, succeeds, tmp_path, options):
    cases = {
        case: blobs(SHAPE, seed=seed, num_classes=3 if "labels" in options else 2) for seed, case in enumerate("ab")
    }
    make_dataset(cases, **options)
    configuration = next(iter(options.get("configurations", {"3d_fullres": {}})))
    succeeds("show", "-d", "900", "-c", configuration, "-o", tmp_path / "a.png")
    assert min(png_size(tmp_path / "a.png")) > 400


@pytest.mark.filterwarnings("error")
def test_show_a_case_without_lesions(make_dataset, capsys, tmp_path):
    empty = np.zeros(SHAPE, np.int16)
    make_dataset({"a": empty, "b": empty})
    assert main(["show", "-d", "900", "-o", str(tmp_path / "a.png")]) == 0
    output = capsys.readouterr()
    assert output.out.endswith(f"slice {SHAPE[0] // 2}\n")
    assert output.err == ""


def test_show_what_is_not_there(dataset, fails, tmp_path):
    path = tmp_path / "a.png"
    message = fails("show", "-d", "900", "--case", "case_9", "-o", path)
    assert message == f"No case 'case_9' in {dataset.data_folder()}. There are case_0, case_1, case_2."
    for index in ("-1", SHAPE[0]):
        message = f"Expected a slice from 0 to {SHAPE[0] - 1}, but got {index}."
        assert fails("show", "-d", "900", "--slice", index, "-o", path) == message
    assert not path.exists()


def test_show_into_a_folder_that_does_not_exist(dataset, fails, tmp_path):
    path = tmp_path / "none" / "a.png"
    assert str(path) in fails("show", "-d", "900", "-o", path)


# export


@pytest.fixture
def model(nnunet):
    """What a training of two folds leaves, as far as it is read."""
    folder = nnunet.results / DATASET / "RWTrainer_5epochs__nnUNetPlans__3d_fullres"
    for name in ("plans.json", "dataset.json", "dataset_fingerprint.json"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f'{{"{name}": 1}}')
    for fold in (0, 1):
        (folder / f"fold_{fold}" / "validation").mkdir(parents=True)
        curves = {"train_losses": [1.0, 2.0], "train_terms/rrw": [3.0], "val_terms/rrw": [4.0]}
        checkpoint = {
            "network_weights": {"w": torch.full((2,), float(fold))},
            "trainer_name": "RWTrainer_5epochs",
            "logging": curves,
            "init_args": {"configuration": "3d_fullres", "fold": fold},
        }
        torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
    shutil.copyfile(folder / "fold_0" / "checkpoint_final.pth", folder / "fold_0" / "checkpoint_best.pth")
    return folder


EXPORT = ("export", "-d", "900", "-tr", "RWTrainer_5epochs")
EXPORTED = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def test_export_names_the_stock_trainer_and_keeps_the_rest(model, succeeds, tmp_path):
    text = succeeds(*EXPORT, "-o", tmp_path / "out")
    folder = tmp_path / "out" / EXPORTED
    command = f"Predict with: nnUNetv2_predict_from_modelfolder -i IMAGES -o PREDICTIONS -m {folder}"
    assert text.splitlines() == [str(folder), command]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "dataset.json",
        "dataset_fingerprint.json",
        "fold_0/checkpoint_final.pth",
        "fold_1/checkpoint_final.pth",
        "plans.json",
    ]
    assert list((tmp_path / "out").iterdir()) == [folder]
    assert (folder / "plans.json").read_text() == '{"plans.json": 1}'
    for fold in (0, 1):
        exported = torch.load(folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)
        assert exported["trainer_name"] == "nnUNetTrainer"
        assert exported["network_weights"]["w"].tolist() == [fold, fold]
        assert exported["init_args"] == {"configuration": "3d_fullres", "fold": fold}
        assert exported["logging"] == {"train_losses": [1.0, 2.0]}


def test_export_of_one_fold_or_another_checkpoint(model, succeeds, tmp_path):
    succeeds(*EXPORT, "-o", tmp_path / "one", "-f", "1")
    assert [path.parent.name for path in tmp_path.glob("one/*/*/*.pth")] == ["fold_1"]
    succeeds(*EXPORT, "-o", tmp_path / "best", "-chk", "checkpoint_best.pth")
    assert [path.parent.name for path in tmp_path.glob("best/*/*/*.pth")] == ["fold_0"]


def test_export_overwrites_nothing(model, succeeds, fails, tmp_path):
    succeeds(*EXPORT, "-o", tmp_path, "-f", "1")
    message = fails(*EXPORT, "-o", tmp_path)
    assert message == f"{tmp_path / EXPORTED} exists. Remove it or give another folder with -o."
    assert [path.parent.name for path in (tmp_path / EXPORTED).glob("*/*.pth")] == ["fold_1"]


def test_export_leaves_nothing_half_done(model, fails, tmp_path):
    (model / "fold_1" / "checkpoint_final.pth").write_bytes(b"")
    assert main([*EXPORT, "-o", str(tmp_path / "out")]) == 2
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-tr", "RWTrainer"],
            r"No trained model .*/RWTrainer__\S+\. Run: nnUNetv2_train 900 3d_fullres 0 -tr RWTrainer -p",
        ),
        (["-c", "2d"], r"No trained model .*__2d\. Run: nnUNetv2_train 900 2d 0 -tr RWTrainer_5epochs -p nnUNetPlans"),
        (["-p", "tiny"], r"No trained model .*\. Run: nnUNetv2_train 900 3d_fullres 0 -tr RWTrainer_5epochs -p tiny"),
        (["-f", "0", "3"], r"No checkpoint_final\.pth in fold_3 of .*\. Finish the training\."),
        (["-chk", "checkpoint_x.pth"], r"No checkpoint_x\.pth in any fold of .*\. Finish the training\."),
        (["-d", "901"], r"No dataset '901'.* Look into .*nnUNet_results\."),
        (["-d", "Dataset901_None"], r"No dataset 'Dataset901_None' in .*nnUNet_results\. Run: nnUNetv2_train .*"),
    ],
)
def test_export_of_what_is_not_there(model, fails, tmp_path, arguments, message):
    assert re.match(message, fails(*EXPORT, *arguments, "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


PREDICT = """
import sys
from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder
if __name__ == "__main__":
    predict_entry_point_modelfolder()
    assert not any(name.split(".")[0] == "nnunet_rw" for name in sys.modules)
"""


@pytest.mark.slow
def test_exported_model_predicts_without_this_package(make_dataset, blobs, nnunet, succeeds, monkeypatch, tmp_path):
    # As large as the patch: prediction then is a single tile.
    make_dataset({case: blobs((16, 16, 16), seed=seed) for seed, case in enumerate("abc")})
    trainer = "RWTrainer_IWDiceCE_RRW_1epochs_1iterations"
    train = [Path(sys.executable).with_name("nnUNetv2_train"), "900", "3d_fullres", "0", "-tr", trainer]
    done = subprocess.run([*train, "-device", "cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    succeeds("export", "-d", "900", "-tr", trainer, "-o", tmp_path)

    original = nnunet.results / DATASET / f"{trainer}__nnUNetPlans__3d_fullres"
    checkpoints = [
        torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
        for folder in (original, tmp_path / EXPORTED)
    ]
    weights = [checkpoint["network_weights"] for checkpoint in checkpoints]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(key.startswith("train_terms/") for key in checkpoints[0]["logging"])

    monkeypatch.delenv("nnUNet_extTrainer")
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((16, 16, 16), np.float32))
    image.SetOrigin((3.0, 4.0, 5.0))
    (tmp_path / "images").mkdir()
    sitk.WriteImage(image, str(tmp_path / "images" / "new_0000.nii.gz"))
    (tmp_path / "predict.py").write_text(PREDICT)
    options = [
        "-i",
        "images",
        "-o",
        "predictions",
        "-m",
        EXPORTED,
        "-f",
        "0",
        "-device",
        "cpu",
        "-npp",
        "1",
        "-nps",
        "1",
    ]
    predict = [sys.executable, "predict.py", *options, "--disable_tta"]
    done = subprocess.run(predict, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predicted = sitk.ReadImage(str(tmp_path / "predictions" / "new.nii.gz"))
    assert (predicted.GetSize(), predicted.GetOrigin()) == (image.GetSize(), image.GetOrigin())


# synthesize


def test_synthesize_writes_an_msd_dataset(succeeds, tmp_path):
    folder = tmp_path / "Task99_Small"
    options = ("--cases", 2, "--shape", 16, 17, 18)
    lines = succeeds("synthesize", "-o", folder, *options).splitlines()
    assert lines == [str(folder), f"Convert with: nnUNetv2_convert_MSD_dataset -i {folder}"]
    assert (folder / "dataset.json").is_file()
    assert (folder / "imagesTs").is_dir()
    images = sorted((folder / "imagesTr").iterdir())
    assert [path.name for path in images] == ["synthetic_001.nii.gz", "synthetic_002.nii.gz"]
    first = sitk.GetArrayFromImage(sitk.ReadImage(str(images[0])))
    assert first.shape == (18, 17, 16)

    succeeds("synthesize", "-o", folder, *options)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(images[0]))), first)
    succeeds("synthesize", "-o", folder, *options, "--seed", 1)
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(images[0]))) != first).any()


def test_synthesize_refuses(fails, tmp_path):
    small = ("--cases", 1, "--shape", 16, 16, 16)
    message = fails("synthesize", "-o", tmp_path / "lesions", *small)
    assert message == f"Expected a folder named like Task99_SyntheticLesions, but got {tmp_path / 'lesions'}."
    (tmp_path / "Task98_Mine").mkdir()
    (tmp_path / "Task98_Mine" / "thesis.txt").touch()
    message = fails("synthesize", "-o", tmp_path / "Task98_Mine", *small)
    assert message == f"{tmp_path / 'Task98_Mine'} holds files of something else. Choose a new or empty folder."
    assert re.search(
        "of at least 16 voxels, but got", fails("synthesize", "-o", tmp_path / "Task99_A", "--shape", 8, 8, 8)
    )
    assert "seed=-1" in fails("synthesize", "-o", tmp_path / "Task99_A", *small, "--seed", "-1")


# small-plans


def test_small_plans_stand_beside_the_others(dataset, succeeds):
    lines = succeeds("small-plans", "-d", "900").splitlines()
    path = dataset.folder / "nnUNetPlansSmall.json"
    assert lines == [str(path), "Train with: nnUNetv2_train 900 3d_fullres 0 -p nnUNetPlansSmall"]
    assert '"plans_name": "nnUNetPlansSmall"' in path.read_text()
    # They use the same arrays, and so the same maps.
    succeeds("maps", "-d", "900")
    assert succeeds("maps", "-d", "900", "-p", "nnUNetPlansSmall").endswith(
        "maps of 0 cases written, all are current\n"
    )


def test_small_plans_under_another_name(dataset, succeeds):
    assert "-p mine" in succeeds("small-plans", "-d", DATASET, "-o", "mine")
    assert (dataset.folder / "mine.json").is_file()


def test_small_plans_refuse(dataset, fails):
    message = fails("small-plans", "-d", "900", "-p", "other")
    assert message == f"No plans {dataset.folder / 'other.json'}. Run: nnUNetv2_plan_experiment -d 900"
    before = (dataset.folder / "nnUNetPlans.json").read_text()
    message = fails("small-plans", "-d", "900", "-o", "nnUNetPlans")
    assert message == "'nnUNetPlans' are the stock plans. Choose another name for the small ones."
    assert (dataset.folder / "nnUNetPlans.json").read_text() == before


# demo


def msd_folder(root, name, leave_out=()):
    folder = root / name
    for subfolder in {"imagesTr", "labelsTr", "imagesTs"} - set(leave_out):
        (folder / subfolder).mkdir(parents=True)
    if "dataset.json" not in leave_out:
        (folder / "dataset.json").write_text("{}")
    return folder


@pytest.mark.parametrize("missing", ["dataset.json", "imagesTr", "labelsTr", "imagesTs"])
def test_demo_of_an_incomplete_folder(fails, tmp_path, missing):
    folder = msd_folder(tmp_path, "Task04_Hippocampus", [missing])
    message = fails("demo", "--msd", folder, "-o", tmp_path / "out")
    advice = f"Run: mkdir {folder / 'imagesTs'}" if missing == "imagesTs" else "Give a folder in MSD layout, such as"
    assert message.startswith(f"No {missing} in {folder}. {advice}")
    assert not (tmp_path / "out").exists()


def test_demo_of_a_folder_that_does_not_exist(fails, tmp_path):
    message = fails("demo", "--msd", tmp_path / "Task04_Hippocampus", "-o", tmp_path / "out")
    assert message.startswith(f"No dataset.json in {tmp_path / 'Task04_Hippocampus'}. Give a folder in MSD layout")


@pytest.mark.parametrize(
    "name", ["Hippocampus", "Task_Hippocampus", "Task04", "Task04_", "TaskX_A", "Task04_Left_Half"]
)
def test_demo_of_a_folder_that_nnunet_would_not_convert(fails, tmp_path, name):
    folder = msd_folder(tmp_path, name)
    message = fails("demo", "--msd", folder, "-o", tmp_path / "out")
    assert message == f"Expected a folder named like Task04_Hippocampus, but got {name}."
    assert not (tmp_path / "out").exists()
