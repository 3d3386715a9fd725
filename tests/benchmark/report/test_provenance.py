from dataclasses import replace

import pytest
from benchmark_results import OPTIMIZER

from nnunet_rw.benchmark.report.provenance import device_text, provenance_table, provenance_warnings
from nnunet_rw.training.records import Git


@pytest.fixture(scope="module")
def session(results):
    return results.tasks[0].runs[0].record.sessions[0]


def test_row(results):
    hippocampus, lesions = provenance_table(results).records
    assert hippocampus["plans"] == "nnUNetPlansSmall 4a4a4a4a4a"
    assert (hippocampus["splits"], hippocampus["folds"], hippocampus["seeds"]) == ("5b5b5b5b5b", "0, 1", "0, 1")
    assert (hippocampus["devices"], hippocampus["source"]) == ("Example CPU (2 cores)", "0123456789")
    assert (hippocampus["started"], hippocampus["continued"]) == ("2026-01-02", "none")
    # Without a version, no CUDA.
    assert hippocampus["versions"] == "nnunet_rw 0.1.0, nnunetv2 2.8.1, torch 2.9.0, python 3.12.3"
    assert lesions["trainings"] == "11 of 12"


def test_equal_trainings_warn_of_nothing(results):
    assert provenance_warnings(results) == []


def test_versions_devices_and_sessions(with_record, session):
    other = replace(session, versions={**session.versions, "torch": "2.8.0"}, device_name="Other CPU", cpu_count=1)
    changed = with_record(sessions=(session, other))
    warnings = provenance_warnings(changed)
    # 24 trainings, of which one has a second session.
    assert warnings == [
        "Trainings differ in versions of torch: 2.9.0 (24), 2.8.0 (1).",
        "Trainings differ in devices (their times do not compare): Example CPU (2 cores) (24), Other CPU (1 core) (1).",
    ]
    row = provenance_table(changed).records[0]
    assert row["continued"] == "nnUNetTrainer seed 0 fold 0 (2 sessions)"
    assert row["devices"] == "Example CPU (2 cores); Other CPU (1 core)"
    assert "torch 2.9.0 and 2.8.0" in row["versions"]


def test_plans_splits_and_lengths(with_record):
    warnings = provenance_warnings(with_record(plans_sha256="cd" * 32, splits_sha256=None, num_epochs=5))
    assert warnings == [
        "Trainings of Task04_Hippocampus differ in plans: 4a4a4a4a4a (11), cdcdcdcdcd (1).",
        "Trainings of Task04_Hippocampus differ in splits: 5b5b5b5b5b (11), none (1).",
        "Trainings of Task04_Hippocampus differ in lengths: 3 epochs of 2 iterations (11), 5 epochs of 2 iterations (1).",  # noqa: E501
    ]


def test_optimisers(results, with_record):
    assert provenance_table(results).records[0]["optimisers"] == OPTIMIZER
    # Of another trainer they may be others.
    changed = with_record(optimizer="Adam, lr 0.001, poly")
    assert provenance_table(changed).records[0]["optimisers"] == f"Adam, lr 0.001, poly; {OPTIMIZER}"
    assert provenance_warnings(changed) == [
        f"Trainings of Task04_Hippocampus with nnUNetTrainer differ in optimisers: {OPTIMIZER} (3), "
        "Adam, lr 0.001, poly (1)."
    ]
    older = with_record(optimizer="")
    assert provenance_table(older).records[0]["optimisers"] == OPTIMIZER
    assert provenance_warnings(older) == []


def test_source(with_record, session):
    changed = with_record(sessions=(replace(session, git=Git("f" * 40, True)),))
    assert provenance_warnings(changed) == [
        "Trainings differ in commits: 0123456789 (23), ffffffffff with changes (1).",
        "1 of 24 sessions ran from a checkout with changes that no commit has.",
    ]
    installed = with_record(sessions=(replace(session, git=None),))
    assert "no checkout (1)" in provenance_warnings(installed)[0]


def test_device_text(session):
    gpu = replace(session, device="cuda", device_name="Example GPU", num_gpus=2)
    assert device_text(gpu) == "2 x Example GPU"
    assert device_text(replace(gpu, num_gpus=1)) == "Example GPU"


def test_nothing_trained(results):
    tasks = tuple(replace(task, runs=tuple(replace(run, record=None) for run in task.runs)) for task in results.tasks)
    row = provenance_table(replace(results, tasks=tasks)).records[0]
    assert (row["trainings"], row["devices"], row["versions"], row["started"]) == ("0 of 12", "-", "-", "-")
    assert provenance_warnings(replace(results, tasks=tasks)) == []
