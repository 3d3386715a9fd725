"""Evaluations are made where there are none, or none that fit."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from segmentation_files import EMPTY, PREDICTION, REFERENCE, SHAPE, source_of, write_image

from nnunet_rw.evaluation import evaluate as module
from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.evaluate import ensure_evaluation, is_current, write_evaluation
from nnunet_rw.evaluation.folder import read_evaluation
from nnunet_rw.evaluation.sources import folders_source

DEFAULT, FAST = EvaluationSettings(), EvaluationSettings(fast=True)


@pytest.fixture
def evaluations(monkeypatch):
    """The settings of the evaluations that were made."""
    made = []

    def write(source, settings, folder, processes=None):
        made.append(settings)
        return write_evaluation(source, settings, folder, processes)

    monkeypatch.setattr(module, "write_evaluation", write)
    return made


@pytest.fixture
def two_cases(tmp_path):
    return source_of(tmp_path, {"a": (REFERENCE, PREDICTION), "b": (EMPTY, EMPTY)})


def test_ensured_evaluation_is_made_once(two_cases, evaluations):
    for _ in range(2):
        assert ensure_evaluation(two_cases, FAST) == two_cases.folder
    assert read_evaluation(two_cases.folder).cases == ("a", "b")
    assert evaluations == [FAST]


def leave_out_of_what_was_written(folder, name):
    """As an earlier version did that wrote no such file."""
    summary = json.loads((folder / "summary.json").read_text())
    del summary["written"][name]
    (folder / "summary.json").write_text(json.dumps(summary))


def add_probabilities(source):
    for number, files in enumerate(source.cases):
        path = files.prediction.with_name(f"{files.case}.npz")
        np.savez(path, probabilities=np.zeros((2, *SHAPE), np.float32))
        source.cases[number] = replace(files, probabilities=path)


@pytest.mark.parametrize("missing", ["froc.csv", "operating_points.csv", "reliability.csv", "rules.npz"])
@pytest.mark.parametrize("earlier", [False, True])
def test_ensured_evaluation_with_probabilities_is_whole(two_cases, evaluations, missing, earlier):
    without = list(two_cases.cases)
    add_probabilities(two_cases)
    ensure_evaluation(two_cases, FAST)
    ensure_evaluation(two_cases, FAST)
    assert len(evaluations) == 1
    (two_cases.folder / missing).unlink()
    if earlier:
        leave_out_of_what_was_written(two_cases.folder, missing)
        # Nobody who asks for no probabilities misses it.
        assert is_current(replace(two_cases, cases=without), FAST, two_cases.folder)
    ensure_evaluation(two_cases, FAST)
    assert len(evaluations) == 2
    assert (two_cases.folder / missing).is_file()


def test_probabilities_that_an_earlier_version_rounded_are_counted_again(two_cases, evaluations):
    plain = list(two_cases.cases)
    add_probabilities(two_cases)
    ensure_evaluation(two_cases, FAST)
    summary = json.loads((two_cases.folder / "summary.json").read_text())
    assert summary["settings"].pop("probability_values") == 28673
    (two_cases.folder / "summary.json").write_text(json.dumps(summary))
    assert is_current(replace(two_cases, cases=plain), FAST, two_cases.folder)
    ensure_evaluation(two_cases, FAST)
    assert len(evaluations) == 2
    assert is_current(two_cases, FAST, two_cases.folder)


def replace_by_older(path, values):
    """As `cp -p` and `rsync -a` do: the new file is older than the evaluation."""
    before = path.stat().st_mtime - 100_000
    write_image(path, values)
    os.utime(path, (before, before))


def cut_off(path, lines=None):
    """Leave the first lines, or all but a few bytes."""
    content = path.read_bytes()
    path.write_bytes(content[:-7] if lines is None else b"".join(content.splitlines(True)[:lines]))


@pytest.mark.parametrize(
    "change",
    [
        lambda source: replace_by_older(source.cases[1].prediction, PREDICTION),
        lambda source: replace_by_older(source.cases[0].reference, PREDICTION),
        lambda source: source.dataset_json["labels"].update(rim=2),
        lambda source: cut_off(source.folder / "cases.csv"),
        lambda source: cut_off(source.folder / "cases.csv", lines=1),
        lambda source: cut_off(source.folder / "lesions.csv", lines=2),
        lambda source: (source.folder / "predicted_lesions.csv").unlink(),
        lambda source: (source.folder / "summary.json").unlink(),
        lambda source: (source.folder / "summary.json").write_text('{"metric_per_case": ['),
        lambda source: (source.folder / "summary.json").write_text("{}"),
        lambda source: (source.folder / "summary.json").write_text("[]"),
    ],
    ids=[
        "older prediction",
        "older reference",
        "labels",
        "cases cut off",
        "header alone",
        "lesions cut off",
        "no predicted lesions",
        "no summary",
        "torn summary",
        "other summary",
        "no object",
    ],
)
def test_ensured_evaluation_is_made_again(two_cases, evaluations, change):
    ensure_evaluation(two_cases, FAST)
    change(two_cases)
    ensure_evaluation(two_cases, FAST)
    assert evaluations == [FAST, FAST]
    ensure_evaluation(two_cases, FAST)
    assert evaluations == [FAST, FAST]
    assert read_evaluation(two_cases.folder).cases == ("a", "b")


def test_ensured_evaluation_tells_of_the_files_that_are_there(two_cases):
    ensure_evaluation(two_cases, FAST)
    # The prediction has 6 voxels and hits 2 of the reference's 5: 2 * 2 / (5 + 6).
    assert read_evaluation(two_cases.folder).columns["1"]["dice"][0] == pytest.approx(4 / 11)
    replace_by_older(two_cases.cases[0].prediction, REFERENCE)
    ensure_evaluation(two_cases, FAST)
    assert read_evaluation(two_cases.folder).columns["1"]["dice"][0] == 1


def test_ensured_evaluation_is_kept_where_the_same_files_are_written_again_or_moved(two_cases, evaluations, tmp_path):
    ensure_evaluation(two_cases, FAST)
    for path in (two_cases.cases[0].prediction, two_cases.cases[1].reference):
        path.write_bytes(path.read_bytes())
        os.utime(path, (0, 0))
    ensure_evaluation(two_cases, FAST)
    for name in ("predictions", "references"):
        (tmp_path / name).rename(tmp_path / f"moved_{name}")
    moved = folders_source(tmp_path / "moved_predictions", tmp_path / "moved_references")
    assert ensure_evaluation(moved, FAST) == tmp_path / "moved_predictions" / "evaluation"
    assert evaluations == [FAST]


def test_curves_of_other_probabilities_are_made_again(two_cases, evaluations, tmp_path):
    def write(value):
        for files in two_cases.cases:
            np.savez(files.prediction.with_name(f"{files.case}.npz"), probabilities=np.full((2, *SHAPE), value))

    write(0.0)
    ensure_evaluation(folders_source(tmp_path / "predictions", tmp_path / "references", probabilities=True), FAST)
    ensure_evaluation(two_cases, FAST)
    assert len(evaluations) == 1
    write(1.0)
    ensure_evaluation(two_cases, FAST)
    assert len(evaluations) == 2
    assert not (two_cases.folder / "froc.csv").exists()


def test_ensured_evaluation_of_other_cases_or_with_other_settings(two_cases, evaluations):
    ensure_evaluation(two_cases, FAST)
    one_case = replace(two_cases, cases=two_cases.cases[:1])
    ensure_evaluation(one_case, FAST)
    assert read_evaluation(two_cases.folder).cases == ("a",)
    changed = [FAST, replace(FAST, connectivity=6), replace(FAST, min_volume_mm3=2.0), DEFAULT]
    for settings in changed[1:]:
        ensure_evaluation(one_case, settings)
    ensure_evaluation(one_case, DEFAULT)
    assert evaluations == [FAST, *changed]
