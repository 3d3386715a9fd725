from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from benchmark_results import LESIONS, benchmark_results

from nnunet_rw.benchmark.report.page import write_html_report
from nnunet_rw.benchmark.results import Unfinished


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


@pytest.fixture(scope="session")
def galleries(tmp_path_factory):
    """Two pictures of one trainer."""
    folder = tmp_path_factory.mktemp("gallery")
    paths = [folder / "missed_lesions_lesion.png", folder / "worst_cases_lesion.png"]
    for number, path in enumerate(paths):
        plt.imsave(path, np.full((40, 60 + number), 0.5), metadata={"Title": "case_3 of the clinic"})
    return {(LESIONS, "RWTrainer"): paths, (LESIONS, "nnUNetTrainer"): []}


@pytest.fixture(scope="session")
def page(results, galleries, tmp_path_factory):
    """The report, without names of cases; a message of an error has one."""
    failed = Unfinished(
        f"evaluate/{LESIONS}/RWTrainer/seed1", "failed", "No maps for case 'case_3' in /x/case_4.npz, or damaged"
    )
    results = replace(results, unfinished=(*results.unfinished, failed))
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    return write_html_report(results, path, galleries=galleries)
