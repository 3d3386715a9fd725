import math
from dataclasses import replace

import pytest

from nnunet_rw.benchmark.report.provenance import duration, resource_notes, resource_table, resources
from nnunet_rw.benchmark.specification import Execution


def test_numbers_by_hand(results):
    found = resources(results.tasks[1])[2]
    # Three trainings of 14, 10 and 10 s, and one that lacks its last epoch.
    assert (found.runs, found.finished) == (4, 3)
    assert found.seconds_per_epoch == 10
    assert found.loader_wait_share == pytest.approx(1 / 20)
    assert (found.peak_host_mib, found.training_seconds, found.validation_seconds) == (1002, 34, 12.5)
    assert math.isnan(found.peak_gpu_mib)


def test_rows(results):
    rows = resource_table(results.tasks[1]).records
    assert rows[2] == {
        "trainer": "RWTrainer_IWDiceCE",
        "trainings": "3 of 4",
        "parameters": "1.40 M",
        "s per epoch": "10",
        "loader wait": "5.0 %",
        "peak host MiB": "1002",
        "training": "34 s",
        "validation": "12.5 s",
    }


def test_gpu_memory_is_told_where_there_is_one(with_record, results):
    epochs = tuple(replace(epoch, peak_gpu_mib=512.4) for epoch in results.tasks[0].runs[0].record.epochs)
    rows = resource_table(with_record(epochs=epochs).tasks[0]).records
    assert [row["peak GPU MiB"] for row in rows] == ["512", "-", "-"]


def test_trainings_that_have_not_begun(results):
    task = results.tasks[0]
    task = replace(task, runs=tuple(replace(run, record=None) for run in task.runs))
    row = resource_table(task).records[0]
    assert row["trainings"] == "0 of 4"
    assert set(row.values()) == {"nnUNetTrainer", "0 of 4", "-"}
    assert resource_table(replace(task, runs=())).rows == ()


def test_shared_machine_is_told(results):
    assert len(resource_notes(results)) == 1
    shared = results.specification.model_copy(update={"execution": Execution(jobs=3)})
    assert "Up to 3 trainings shared the machine" in resource_notes(replace(results, specification=shared))[1]


def test_duration():
    assert [str(duration(seconds)) for seconds in (0.5, 34, 100, 6000, math.nan)] == [
        "0.5 s",
        "34 s",
        "1.7 min",
        "1.7 h",
        "-",
    ]
