from dataclasses import replace

import pytest
from benchmark_results import benchmark_results


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    return benchmark_results(tmp_path_factory.mktemp("benchmark"))


@pytest.fixture(scope="session")
def unevaluated(tmp_path_factory):
    return benchmark_results(tmp_path_factory.mktemp("benchmark"), evaluated=False)


@pytest.fixture
def with_record(results):
    """The results with other attributes of the first training's record."""

    def change(**attributes):
        task, *others = results.tasks
        first, *runs = task.runs
        runs = (replace(first, record=replace(first.record, **attributes)), *runs)
        return replace(results, tasks=(replace(task, runs=runs), *others))

    return change
