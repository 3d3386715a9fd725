import hashlib
import json
import math
import os
import shutil
import subprocess
from dataclasses import asdict, replace
from datetime import datetime, timezone

import numpy as np
import pytest
import torch

import nnunet_rw
from nnunet_rw.training import records as run_session
from nnunet_rw.training.records import (
    ITERATIONS_FILE,
    RUN_FILE,
    Epoch,
    Git,
    RunRecord,
    Session,
    append_iterations,
    content_hash,
    git_state,
    json_hash,
    keep_iterations,
    peak_host_mib,
    read_iterations,
    read_run_record,
    this_session,
    write_run_record,
)

HEADER = "epoch,iteration,loss,gradient_norm,loader_wait_seconds\n"


def make_epoch(number, **changes):
    values = {
        "epoch": number,
        "seconds": 10.5,
        "loader_wait_seconds": 0.25,
        "peak_host_mib": 900.0,
        "peak_gpu_mib": 2000.0,
        "train_loss": 0.5,
        "val_loss": 0.75,
        "pseudo_dice": 0.125,
        "learning_rate": 0.01,
        "peak_gpu_reserved_mib": 2048.0,
    }
    return Epoch(**{**values, **changes})


SESSION = Session(
    started="2026-01-02T03:04:05+00:00",
    first_epoch=0,
    device="cuda",
    device_name="NVIDIA Example",
    num_gpus=2,
    cpu_count=8,
    versions={"nnunetv2": "2.8.1", "cuda": None},
    git=Git("0123abcd", True),
)
RECORD = RunRecord(
    trainer="RWTrainer",
    class_name="RWTrainer_3epochs_2iterations_seed7",
    seed=7,
    dataset="Dataset004_Hippocampus",
    configuration="3d_fullres",
    plans="nnUNetPlans",
    fold=1,
    num_epochs=3,
    iterations_per_epoch=2,
    batch_size=4,
    patch_size=(40, 56, 48),
    num_parameters=1234,
    loss="1 * nnunet[DC_and_CE_loss]",
    optimizer="Adam, lr 0.001, poly",
    plans_sha256="ab" * 32,
    splits_sha256="cd" * 32,
    sessions=(SESSION, replace(SESSION, first_epoch=1, git=None)),
    epochs=(make_epoch(0), make_epoch(1)),
    validation_seconds=12.5,
)


def test_a_record_is_read_as_it_was_written(tmp_path):
    write_run_record(tmp_path, RECORD)
    assert read_run_record(tmp_path) == RECORD
    changed = replace(RECORD, fold="all", splits_sha256=None, validation_seconds=None)
    write_run_record(tmp_path, changed)
    assert read_run_record(tmp_path) == changed


def test_the_file_has_the_record_s_fields(tmp_path):
    write_run_record(tmp_path, RECORD)
    content = json.loads((tmp_path / RUN_FILE).read_text())
    fields = asdict(RECORD)
    fields["class"] = fields.pop("class_name")
    assert content == json.loads(json.dumps(fields))
    assert next(iter(content.items())) == ("version", 1)


def test_what_is_no_number_is_null_in_the_file(tmp_path):
    epoch = make_epoch(0, pseudo_dice=math.nan, train_loss=math.inf, peak_gpu_mib=None)
    write_run_record(tmp_path, replace(RECORD, epochs=(epoch,)))
    text = (tmp_path / RUN_FILE).read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    [read] = read_run_record(tmp_path).epochs
    assert math.isnan(read.pseudo_dice)
    assert math.isnan(read.train_loss)
    assert read.val_loss == 0.75
    assert read.peak_gpu_mib is None


def test_an_older_record_names_no_optimiser(tmp_path):
    write_run_record(tmp_path, RECORD)
    content = json.loads((tmp_path / RUN_FILE).read_text())
    del content["optimizer"]
    (tmp_path / RUN_FILE).write_text(json.dumps(content))
    assert read_run_record(tmp_path) == replace(RECORD, optimizer="")


def test_a_folder_without_a_record_has_none(tmp_path):
    assert read_run_record(tmp_path) is None
    assert read_run_record(tmp_path / "absent") is None


@pytest.mark.parametrize(
    ("epochs", "finished"), [((), False), ((0, 1), False), ((0, 1, 2), True), ((1, 2), False), ((0, 2, 3), False)]
)
def test_a_training_is_finished_with_all_its_epochs(epochs, finished):
    assert replace(RECORD, epochs=tuple(make_epoch(number) for number in epochs)).finished is finished


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda text: text[: len(text) // 2], "Invalid JSON"),
        (lambda text: "", "Invalid JSON"),
        (lambda text: "[]", "Input should be"),
        (lambda text: text.replace('"seed": 7,', ""), "seed: Field required"),
        (lambda text: text.replace('"seed": 7', '"seed": "seven"'), "seed: Input should be a valid integer"),
        (lambda text: text.replace('"version": 1', '"version": 2'), "version: Input should be 1"),
        (lambda text: text.replace('"seconds": 10.5', '"seconds": null', 1), r"epochs\.0\.seconds: Input should be"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, damage, problem):
    write_run_record(tmp_path, RECORD)
    path = tmp_path / RUN_FILE
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=rf"run\.json is damaged \({problem}.*\)\. Move it elsewhere"):
        read_run_record(tmp_path)


def test_iterations_are_columns_of_the_recorded_epochs(tmp_path):
    write_run_record(tmp_path, RECORD)
    keep_iterations(tmp_path, ())
    append_iterations(tmp_path, [(0, 0, 1.5, 2.0, 0.25), (0, 1, 1.25, math.inf, 0.0)])
    append_iterations(tmp_path, [(1, 0, 1 / 3, math.nan, 0.0)])
    assert (tmp_path / ITERATIONS_FILE).read_text() == (
        HEADER + "0,0,1.5,2.0,0.25\n0,1,1.25,inf,0.0\n1,0,0.3333333333333333,nan,0.0\n"
    )
    columns = read_iterations(tmp_path)
    assert list(columns) == HEADER.strip().split(",")
    expected = [[0, 0, 1], [0, 1, 0], [1.5, 1.25, 1 / 3], [2, math.inf, math.nan], [0.25, 0, 0]]
    for column, values in zip(columns.values(), expected, strict=True):
        assert column.dtype == np.float64
        np.testing.assert_array_equal(column, values)


@pytest.mark.parametrize("left", ["2,0,0.5,1.0,0.0\n2,1,0.5,1.0,0.0\n", "2,0,0.5,1.0,0.0\n2,1,0.", "2,0,0.5\n", "1"])
def test_rows_of_an_epoch_that_was_cut_short_are_not_read(tmp_path, left):
    """The process was killed after it wrote these, or while it did; run.json tells of epochs 0 and 1."""
    write_run_record(tmp_path, RECORD)
    (tmp_path / ITERATIONS_FILE).write_text(HEADER + "0,0,1.5,2.0,0.25\n1,0,1.25,2.0,0.25\n" + left)
    assert read_iterations(tmp_path)["loss"].tolist() == [1.5, 1.25]
    # A training that goes on drops them.
    keep_iterations(tmp_path, {0, 1})
    append_iterations(tmp_path, [(2, 0, 1.0, 2.0, 0.0)])
    expected = HEADER + "0,0,1.5,2.0,0.25\n1,0,1.25,2.0,0.25\n2,0,1.0,2.0,0.0\n"
    assert (tmp_path / ITERATIONS_FILE).read_text() == expected


def test_no_iteration_yet_is_empty_columns(tmp_path):
    write_run_record(tmp_path, replace(RECORD, epochs=()))
    keep_iterations(tmp_path, ())
    assert {name: column.shape for name, column in read_iterations(tmp_path).items()} == dict.fromkeys(
        HEADER.strip().split(","), (0,)
    )


@pytest.mark.parametrize("row", ["1,0,0.5\n", "1,0,half,1.0,0.0\n", "one,0,0.5,1.0,0.0\n"])
def test_damaged_iterations_are_refused(tmp_path, row):
    write_run_record(tmp_path, RECORD)
    (tmp_path / ITERATIONS_FILE).write_text(HEADER + "0,0,1.5,2.0,0.25\n" + row + "1,1,0.5,1.0,0.0\n")
    with pytest.raises(ValueError, match=r"iterations\.csv is damaged .* Remove the training's folder"):
        read_iterations(tmp_path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No run\.json in .*Trainings with a seed have one"):
        read_iterations(tmp_path)
    write_run_record(tmp_path, RECORD)
    with pytest.raises(FileNotFoundError, match=r"iterations\.csv"):
        read_iterations(tmp_path)


def test_the_hash_is_of_what_a_file_says(tmp_path):
    """SHA-256 of JSON with sorted keys and no spaces, also computed by hand."""
    content = {"b": [1, 2.5], "a": {"d": None, "c": "x"}, "continue_training": True}
    by_hand = hashlib.sha256(b'{"a":{"c":"x","d":null},"b":[1,2.5]}').hexdigest()
    for indent, sort in ((None, False), (4, True)):
        (tmp_path / "plans.json").write_text(json.dumps(content, indent=indent, sort_keys=sort))
        assert content_hash(tmp_path / "plans.json") == by_hand
    assert json_hash(content) == by_hand
    assert "continue_training" in content
    assert json_hash({**content, "b": [2.5, 1]}) != by_hand
    assert json_hash([content, 1]) != json_hash([1, content])
    assert content_hash(tmp_path / "absent.json") is None


def git(folder, *arguments):
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    result = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    )
    return result.stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "checkout"
    (root / "nnunet_rw").mkdir(parents=True)
    (root / "nnunet_rw" / "module.py").write_text("A = 1\n")
    git(root.parent, "init", "--quiet", "checkout")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def test_the_commit_of_a_checkout(checkout):
    assert git_state(checkout) == Git(git(checkout, "rev-parse", "HEAD"), changed=False)


def test_a_changed_or_new_file_of_the_package_is_a_change(checkout):
    (checkout / "notes.txt").write_text("results, perhaps")
    assert not git_state(checkout).changed
    (checkout / "nnunet_rw" / "module.py").write_text("A = 2\n")
    assert git_state(checkout).changed
    git(checkout, "checkout", "--", ".")
    assert not git_state(checkout).changed
    (checkout / "nnunet_rw" / "other.py").write_text("B = 2\n")
    assert git_state(checkout).changed


def test_a_package_within_somebody_elses_checkout_has_no_commit(checkout):
    assert git_state(checkout / "nnunet_rw") is None


def test_no_checkout_no_commits_or_no_git_is_no_error(tmp_path, monkeypatch):
    assert git_state(tmp_path) is None
    if shutil.which("git"):
        git(tmp_path, "init", "--quiet", "empty")
        assert git_state(tmp_path / "empty") is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None


def test_a_session_tells_what_the_training_runs_on():
    before = datetime.now(timezone.utc).replace(microsecond=0)
    session = this_session(3, torch.device("cpu"))
    assert before <= datetime.fromisoformat(session.started) <= datetime.now(timezone.utc)
    assert datetime.fromisoformat(session.started).utcoffset().total_seconds() == 0
    assert session.first_epoch == 3
    assert session.device == "cpu"
    assert session.device_name
    assert session.num_gpus == 1
    assert 1 <= session.cpu_count <= os.cpu_count()
    assert session.versions["nnunet_rw"] == nnunet_rw.__version__
    assert session.versions["torch"] == torch.__version__
    assert session.versions["cuda"] == torch.version.cuda
    assert session.versions["numpy"] == np.__version__
    assert {"nnunetv2", "batchgenerators", "batchgeneratorsv2", "python"} < set(session.versions)


def test_the_peak_of_memory_grows_with_what_is_held_and_stays():
    before = peak_host_mib()
    held = np.ones(int(before + 64) * 2**17)  # 8 bytes each: 64 MiB more than the peak
    peak = peak_host_mib()
    assert peak > before + 60
    del held
    assert peak_host_mib() == pytest.approx(peak, abs=1)


def test_the_peak_of_memory_is_unknown_on_windows(monkeypatch):
    monkeypatch.setattr(run_session, "resource", None)
    assert np.isnan(peak_host_mib())
