"""Evaluations are made where there are none, or none that fit."""

import os
from dataclasses import replace

import numpy as np
import pytest
from segmentation_files import EMPTY, PREDICTION, REFERENCE, SHAPE, source_of

from nnunet_rw.evaluation import evaluate as module
from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.evaluate import ensure_evaluation, write_evaluation
from nnunet_rw.evaluation.folder import read_evaluation

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


@pytest.mark.parametrize("missing", ["froc.csv", "operating_points.csv"])
def test_ensured_evaluation_with_probabilities_is_whole(two_cases, evaluations, missing):
    for number, files in enumerate(two_cases.cases):
        path = files.prediction.with_name(f"{files.case}.npz")
        np.savez(path, probabilities=np.zeros((2, *SHAPE), np.float32))
        two_cases.cases[number] = replace(files, probabilities=path)
    ensure_evaluation(two_cases, FAST)
    ensure_evaluation(two_cases, FAST)
    assert len(evaluations) == 1
    (two_cases.folder / missing).unlink()
    ensure_evaluation(two_cases, FAST)
    assert len(evaluations) == 2
    assert (two_cases.folder / missing).is_file()


def make_newer(path):
    later = path.stat().st_mtime + 100
    os.utime(path, (later, later))


@pytest.mark.parametrize(
    "change",
    [
        lambda source: make_newer(source.cases[1].prediction),
        lambda source: make_newer(source.cases[0].reference),
        lambda source: (source.folder / "summary.json").unlink(),
        lambda source: (source.folder / "summary.json").write_text('{"metric_per_case": ['),
        lambda source: (source.folder / "summary.json").write_text("{}"),
        lambda source: (source.folder / "summary.json").write_text("[]"),
    ],
    ids=["newer prediction", "newer reference", "no summary", "torn summary", "other summary", "no object"],
)
def test_ensured_evaluation_is_made_again(two_cases, evaluations, change):
    ensure_evaluation(two_cases, FAST)
    change(two_cases)
    ensure_evaluation(two_cases, FAST)
    assert evaluations == [FAST, FAST]
    assert read_evaluation(two_cases.folder).cases == ("a", "b")


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
