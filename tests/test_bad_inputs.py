"""Damaged files: kind x damage x command. Each gives one line that names the file, and nothing is written."""

import errno
import fcntl
import json
import os
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ensemble_files import one_hot, write_case
from evaluation_folders import write_evaluation
from segmentation_files import write_dataset_json, write_image

from nnunet_rw import cli
from nnunet_rw.cli import main

DATASET = "Dataset900_Synthetic"
PREPROCESSED, RAW = f"nnunet/nnUNet_preprocessed/{DATASET}", f"nnunet/nnUNet_raw/{DATASET}"
ARRAYS = f"{PREPROCESSED}/nnUNetPlans_3d_fullres"
MODEL = f"nnunet/nnUNet_results/{DATASET}/nnUNetTrainer__nnUNetPlans__3d_fullres"
TRAINED = "-d 900 -tr nnUNetTrainer -o out"
STABILITY = "stability -d 900 -p nnUNetPlans --iterations 1 --seeds 1 -o stability"
AUDIT, FIT = "audit -d 900 -p nnUNetPlans -o audit", f"threshold --fit {TRAINED} --false-positives 1"
ENSEMBLE, THRESHOLD = "ensemble -i one two -o out", "threshold -i one --at 0.5 -o out"
EVALUATE, COMPARE = "evaluate -p one -g one -o out", "compare eval_one eval_two -o out"
EVALUATE_RAW = "evaluate -p one -g one -d 900 -o out"
PREPROCESS = "preprocess -d 900"
BENCHMARK, STATUS, REPORT = "benchmark -o bench --dry-run", "benchmark status -o bench --once", "report bench"

HALF = "half"  # of what was there
TORN = {"empty": b"", "junk": bytes(range(256)), "half": HALF}
JSON = {
    "object": b"{}",
    "list": b"[]",
    **TORN,
    "null": b"null",
    "other types": b'{"labels": 3, "configurations": {"3d_fullres": 1}, "settings": 1, "spacings": 0, "nnUNet_raw": 2}',
    "list of others": b'[{"train": 3}]',
}
PICKLE = {**TORN, "list": pickle.dumps([1]), "unknown class": b"cno_such_module\nThing\n."}
TABLE = {**TORN, "wide": b"case,label\n" + b"x" * 200_000 + b",1\n", "NUL": b"case,label\n\0,1\n"}
CURVES = {name: TABLE[name] for name in ("junk", "wide", "NUL")}  # what is torn is trained again
LABELS = b'{"labels": {"background": 0, "lesion": 1}, "file_ending": ".foo"}'
READER = b'{"image_reader_writer": "NoSuchIO", "label_manager": "LabelManager", "configurations": {}}'


# File, damages, commands.
FILES = [
    (f"{PREPROCESSED}/nnUNetPlans.json", JSON, ("maps -d 900", "show -d 900", AUDIT)),
    (f"{PREPROCESSED}/nnUNetPlans.json", JSON, ("small-plans -d 900 -o mine", STABILITY)),
    (f"{PREPROCESSED}/dataset.json", JSON, ("maps -d 900", "show -d 900", AUDIT)),
    (f"{PREPROCESSED}/splits_final.json", JSON, (f"evaluate {TRAINED}", f"overlay {TRAINED}", BENCHMARK, STABILITY)),
    (f"{PREPROCESSED}/splits_final.json", JSON, (FIT,)),
    (f"{PREPROCESSED}/dataset_fingerprint.json", JSON, (PREPROCESS,)),
    (
        f"{RAW}/dataset.json",
        JSON,
        ("audit -d 900 -o audit", EVALUATE_RAW, PREPROCESS),
    ),
    (f"{RAW}/dataset.json", JSON, (BENCHMARK, STATUS, REPORT)),
    (f"{RAW}/dataset.json", {"ending": LABELS}, (EVALUATE_RAW,)),
    (f"{ARRAYS}/a.b2nd", TORN, ("show -d 900",)),
    (f"{ARRAYS}/a_seg.b2nd", TORN, ("show -d 900", AUDIT)),
    (f"{ARRAYS}/a.pkl", PICKLE, ("show -d 900", AUDIT)),
    (f"{MODEL}/dataset.json", JSON, (f"evaluate {TRAINED}", f"overlay {TRAINED}")),
    (f"{MODEL}/dataset.json", JSON, (FIT,)),
    (f"{MODEL}/fold_0/checkpoint_final.pth", {**TORN, "keys": {}, "list": [1]}, (f"export {TRAINED}",)),
    (
        "one/dataset.json",
        JSON,
        (EVALUATE, ENSEMBLE, THRESHOLD),
    ),
    ("one/dataset.json", {"ending": LABELS}, (ENSEMBLE, THRESHOLD)),
    ("two/dataset.json", JSON, (ENSEMBLE,)),
    ("one/plans.json", {**JSON, "reader": READER}, (ENSEMBLE, THRESHOLD)),
    (
        "one/a.pkl",
        {**PICKLE, "keys": pickle.dumps({})},
        (ENSEMBLE, THRESHOLD),
    ),
    ("one/a.npz", TORN, (ENSEMBLE, THRESHOLD)),
    ("one/b.nii.gz", TORN, (EVALUATE,)),
    ("weights.json", JSON, ("ensemble -i one two -o out --weights weights.json",)),
    ("threshold.json", JSON, ("threshold -i one --chosen threshold.json -o out",)),
    ("eval_one/summary.json", JSON, (COMPARE,)),
    ("eval_one/cases.csv", TABLE, (COMPARE,)),
    ("eval_two/lesions.csv", TABLE, (COMPARE,)),
    ("bench/benchmark.yaml", JSON, (BENCHMARK, STATUS, REPORT)),
    ("bench/folders.json", JSON, (BENCHMARK, STATUS, REPORT)),
    ("stability/settings.json", JSON, (STABILITY,)),
    ("stability/runs/boundary_seed0.csv", CURVES, (STABILITY,)),
]
CASES = [
    pytest.param(file, content, command, id=f"{command.split(' -')[0]}-{file.split('/')[-1]}-{name}")
    for file, damages, commands in FILES
    for place, command in enumerate(commands)
    for name, content in damages.items()
    # The first command meets all, the others what only a look at the content finds.
    if place == 0 or name in ("object", "list", "keys", "ending", "reader")
]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return tmp_path_factory.mktemp("bad_inputs") / "everything"


@pytest.fixture
def everything(template, make_dataset, nnunet, tmp_path, monkeypatch):
    """A folder with one small file of every kind, in which commands are run; copied after the first time."""
    if not template.is_dir():
        _write_everything(make_dataset, nnunet, tmp_path)
        shutil.copytree(tmp_path, template)
    else:
        shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    (tmp_path / "bench" / "folders.json").write_text(json.dumps(nnunet.environment))
    monkeypatch.chdir(tmp_path)
    # Plans without a network: no weights are compared with those that it would have.
    monkeypatch.setattr("nnunet_rw.training.export._stock_shapes", lambda model, configuration: {})
    return tmp_path


def _write_everything(make_dataset, nnunet, folder):
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[4:8, 4:8, 4:8] = 1
    dataset = make_dataset({"a": labels, "b": labels})
    raw = nnunet.root / "nnUNet_raw" / DATASET
    write_dataset_json(raw, numTraining=2)
    spacing_mm = (3.0, 2.0, 1.0)
    for case in "ab":
        write_image(raw / "labelsTr" / f"{case}.nii.gz", labels, spacing_mm)
        write_image(raw / "imagesTr" / f"{case}_0000.nii.gz", labels.astype(np.float32), spacing_mm)
        write_image(dataset.folder / "gt_segmentations" / f"{case}.nii.gz", labels, spacing_mm)
    plans = json.dumps({"image_reader_writer": "SimpleITKIO", "label_manager": "LabelManager", "configurations": {}})
    model = folder / MODEL
    write_dataset_json(model)
    for name in ("plans.json", "dataset_fingerprint.json"):
        (model / name).write_text(plans)
    write_case(model / "fold_0" / "validation", "b", one_hot(labels, 2))
    checkpoint = {"trainer_name": "nnUNetTrainer", "logging": {}, "network_weights": {}}
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
    for name in ("one", "two"):
        for case in "ab":
            write_case(folder / name, case, one_hot(labels, 2))
        write_dataset_json(folder / name)
        (folder / name / "plans.json").write_text(plans)
        write_evaluation(folder / f"eval_{name}", {case: {"dice": 0.5} for case in "abcdef"}, [("a", 2, 1, 1)])
    weights = {channel: {"one": 0.5, "two": 0.5} for channel in "01"}
    (folder / "weights.json").write_text(json.dumps({"models": ["one", "two"], "weights": weights}))
    (folder / "threshold.json").write_text(json.dumps({"label": "1", "threshold": 0.5}))
    (folder / "bench").mkdir()
    (folder / "bench" / "benchmark.yaml").write_text(
        f"tasks: [{DATASET}]\ntrainers: [nnUNetTrainer]\nfolds: [0]\ndevice: cpu\n"
    )
    settings = {"dataset": DATASET, "configuration": "3d_fullres", "plans": "nnUNetPlans", "fold": 0}
    settings |= {"iterations": 1, "device": "cpu", "optimizer_name": "sgd", "initial_lr": 0.01}
    (folder / "stability" / "runs").mkdir(parents=True)
    (folder / "stability" / "settings.json").write_text(json.dumps(settings))
    curve = "loss,seed,iteration,value,gradient_norm,predicted_1,true_1,overlap_1\nx,0,0,1,1,1,1,1\n"
    for name in ("boundary", "rrw"):
        (folder / "stability" / "runs" / f"{name}_seed0.csv").write_text(curve)


def damage(path, content):
    if content == HALF:
        whole = path.read_bytes()
        content = whole[: len(whole) // 2]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


def files_of(folder):
    """All but the maps of other cases, which are written."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "rw_maps" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in paths}


def error_line(capsys, command):
    """The only line on stderr of a command that ends with 2."""
    capsys.readouterr()
    assert main(command.split()) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(r"nnunet-rw: [^\n]+\n", line), line
    assert "Traceback" not in line
    assert "unexpected" not in line
    return line


@pytest.mark.parametrize(("file", "content", "command"), CASES)
def test_damaged_file_is_named_and_nothing_is_written(everything, capsys, file, content, command):
    damage(everything / file, content)
    before = files_of(everything)
    line = error_line(capsys, command)
    assert Path(file).name in line or content == LABELS
    # Predictions are segmented one by one; what tells that all are done is not written.
    written = {path.name for path, time in files_of(everything).items() if before.get(path) != time}
    assert written <= {"dataset.json", "plans.json"}


WHOLE = sorted({command for *_, commands in FILES for command in commands} - {PREPROCESS})
DRAWING = ("audit", "overlay", "show", "stability")


@pytest.mark.parametrize(
    "command",
    [pytest.param(command, marks=pytest.mark.slow if command.startswith(DRAWING) else ()) for command in WHOLE],
)
def test_whole_files_are_accepted(everything, capsys, command):
    if "--fit" in command:
        assert "Expected two or more cases" in error_line(capsys, command)
    else:
        assert main(command.split()) == 0


@pytest.mark.parametrize("name", ["a.b2nd", "a_seg.b2nd", "a.pkl"])
@pytest.mark.parametrize("content", [*TORN.values(), None], ids=[*TORN, "segmentation missing"])
def test_maps_of_the_other_cases_are_written(everything, capsys, name, content):
    """What an interrupted preprocessing leaves."""
    damage(everything / ARRAYS / name, content or b"")
    if content is None:
        (everything / ARRAYS / "a_seg.b2nd").unlink()
    line = error_line(capsys, "maps -d 900 --kind lesion_ids")
    assert line.startswith("nnunet-rw: Maps of 1 case cannot be written, those of all others are: ")
    assert name in line or content is None
    assert line.endswith("Run: nnUNetv2_preprocess -d 900 -plans_name nnUNetPlans -c 3d_fullres\n")
    written = [map_file.stem for map_file in (everything / ARRAYS / "rw_maps").rglob("*.b2nd")]
    assert written == ["b"]


def refuse(number):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("small-plans -d 900 -o mine", "mine.json"),
        ("compare eval_one eval_two -o out", "out/"),
        ("evaluate -p one -g one -o out", "out/cases.csv"),
        ("ensemble -i one two -o out", "out/a.nii.gz"),
        ("maps -d 900", "rw_maps"),
    ],
)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_names_the_file(everything, capsys, monkeypatch, command, file, number):
    # The system names none where it is writing that fails.
    monkeypatch.setattr(os, "fsync", refuse(number))
    line = error_line(capsys, command)
    assert file in line
    assert os.strerror(number) in line
    assert re.search("free space", line, re.IGNORECASE)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_names_the_lock(everything, capsys, monkeypatch, number):
    monkeypatch.setattr(fcntl, "flock", refuse(number))
    line = error_line(capsys, "maps -d 900")
    lock = everything / ARRAYS / "rw_maps" / ".lock"
    assert line.startswith(f"nnunet-rw: {lock} cannot be locked ({os.strerror(number)}). Move the folder")


@pytest.mark.parametrize("module", ["nnunet_rw.cli.trainers", "nnunet_rw.training.catalogue"])
def test_interruption_during_imports(monkeypatch, capsys, module):
    class Interrupt:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == module:
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.delattr(module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupt, *sys.meta_path])
    assert main(["env"]) == 130
    assert capsys.readouterr().err == "nnunet-rw: interrupted\n"


def test_fault_of_the_program_is_told_in_a_line_too(monkeypatch, capsys):
    monkeypatch.setattr("nnunet_rw.training.catalogue.export_line", lambda: {}["missing"])
    assert main(["env"]) == 2
    line = capsys.readouterr().err
    assert re.fullmatch(
        rf"nnunet-rw: unexpected KeyError: 'missing' \({__file__}, line \d+\)\. Please report .*\n", line
    )
    monkeypatch.setenv(cli.TRACEBACK_VARIABLE, "1")
    with pytest.raises(KeyError):
        main(["env"])
