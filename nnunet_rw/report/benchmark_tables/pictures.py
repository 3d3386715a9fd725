"""Figures of a benchmark for slides and papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.report.benchmark_tables.difference_pictures import draw_differences
from nnunet_rw.report.benchmark_tables.lesion_pictures import draw_froc, draw_recall_by_size
from nnunet_rw.report.benchmark_tables.looks import Looks, looks_of
from nnunet_rw.report.benchmark_tables.training_pictures import draw_speed, draw_training

DPI = 200


def write_pictures(results: BenchmarkResults, folder: Path) -> list[Path]:
    """Write each figure of each task as PNG and PDF; what has nothing to show is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    looks = looks_of(results.specification.trainers)
    drawings: dict[str, Callable[[TaskResults, Looks], Figure | None]] = {
        "recall_by_size": draw_recall_by_size,
        "froc": draw_froc,
        "differences": draw_differences,
        "training": draw_training,
        "speed": draw_speed,
    }
    written = []
    for task in results.tasks:
        for name, draw in drawings.items():
            figure = draw(task, looks)
            if figure is None:
                continue
            figure.tight_layout()
            for ending in ("png", "pdf"):
                written.append(folder / f"{task.dataset}_{name}.{ending}")
                # Equal results give equal files.
                metadata = {"CreationDate": None} if ending == "pdf" else {}
                figure.savefig(written[-1], dpi=DPI, metadata=metadata)
            plt.close(figure)
    return written
