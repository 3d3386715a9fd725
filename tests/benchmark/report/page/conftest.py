from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from benchmark_results import LESIONS

from nnunet_rw.benchmark.report.page.page import write_html_report


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
    failed = f"evaluate/{LESIONS}/RWTrainer/seed1: failed, No maps for case 'case_3' in /x/case_4.npz"
    results = replace(results, unfinished=(*results.unfinished, failed))
    path = tmp_path_factory.mktemp("page") / "new" / "report.html"
    return write_html_report(results, path, galleries=galleries)
