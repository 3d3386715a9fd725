"""Figures that compare trainers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np

from nnunet_rw.evaluation.matches import LesionMatches
from nnunet_rw.evaluation.recall import SizeRecall, recall_by_size

SIZE_EDGES_VOXELS = (1, 5, 10, 20, 50, 200, float("inf"))


def draw_recall_by_size(results: Mapping[str, Sequence[LesionMatches]], path: str | Path) -> None:
    """Bars of recall per lesion size, one colour a trainer; the number of lesions under each size."""
    figure, axis = plt.subplots(figsize=(8, 4))
    width = 0.8 / len(results)
    classes: list[SizeRecall] = []
    for position, (trainer, cases) in enumerate(results.items()):
        classes = recall_by_size(cases, SIZE_EDGES_VOXELS, unit="voxels")
        recall = [size.recall if size.num_lesions else 0 for size in classes]
        axis.bar(np.arange(len(classes)) + (position - (len(results) - 1) / 2) * width, recall, width, label=trainer)
    axis.set_xticks(range(len(classes)), [f"{_size(size)}\nn = {size.num_lesions}" for size in classes])
    axis.set(xlabel="lesion size in voxels", ylabel="recall (any overlap)", ylim=(0, 1))
    axis.legend(loc="upper left", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_predictions(
    image: np.ndarray, reference: np.ndarray, predictions: Mapping[str, np.ndarray], path: str | Path, title: str = ""
) -> None:
    """One slice, a panel a trainer: found reference voxels green, missed ones red, false ones blue.

    Parameters
    ----------
    image, reference, each prediction : arrays (Z, Y, X)
        Drawn is the slice with most reference voxels.
    """
    index = int((reference > 0).sum(axis=(1, 2)).argmax())
    figure, axes = plt.subplots(1, len(predictions) + 1, figsize=(4 * (len(predictions) + 1), 4.3))
    truth = reference[index] > 0
    panels = {"image": None, **predictions}
    for axis, (name, prediction) in zip(axes, panels.items(), strict=True):
        axis.imshow(image[index], cmap="gray")
        if prediction is not None:
            found = prediction[index] > 0
            overlay = np.zeros((*truth.shape, 4))
            overlay[truth & found] = (0.2, 0.8, 0.3, 0.7)
            overlay[truth & ~found] = (0.9, 0.1, 0.1, 0.8)
            overlay[found & ~truth] = (0.2, 0.4, 1.0, 0.7)
            axis.imshow(overlay)
        axis.set_title(name, fontsize=10)
        axis.axis("off")
    figure.suptitle(f"{title} slice {index}: found green, missed red, false blue", fontsize=10)
    figure.tight_layout(rect=(0, 0, 1, 0.96))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _size(size: SizeRecall) -> str:
    return f"{size.low} and more" if size.high == float("inf") else f"{size.low} to {size.high - 1}"
