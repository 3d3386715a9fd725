"""What nnU-Net is published to reach on the tasks of the Decathlon: whether a baseline of one's own is sound."""

from __future__ import annotations

from dataclasses import dataclass

from nnunet_rw.datasets.msd import dataset_name_of


@dataclass(frozen=True)
class PublishedDice:
    """Mean Dice of a label in per cent.

    Attributes
    ----------
    label : str
        As dataset.json names it, the background left out.
    test : float
        Of the official test server, over the cases that have the label.
    cross_validation : float
        Over all cases of the five folds' validation; a case without the label in which none was predicted has none.
    """

    label: str
    test: float
    cross_validation: float


# Of automl/AutoNNUnet at commit 7c9d676f (Becktepe, Hennig, Oeltze-Jafra and Lindauer 2025): the answers of the test
# server in output/msd_results/baseline_ConvolutionalEncoder_3d_fullres.json, "mean" of every "DCS"; and the mean over
# "metric_per_case" of the five summary.json of each results_zipped/baseline_ConvolutionalEncoder/<dataset>.zip.
SOURCE = "AutoNNUnet's baseline (github.com/automl/AutoNNUnet, files of commit 7c9d676f)"
WHAT_DIFFERS = (
    "nnU-Net v2 with its default plans, 3d_fullres, 1000 epochs, the best checkpoint of each fold. "
    "Test: the five folds' models together, on the official test set, whose labels are not public. Cross-validation: "
    "each fold's model on its own part of the training cases. Compare cross-validation with a benchmark of all five "
    "folds; one fold, fewer epochs or other plans differ by that alone."
)

PUBLISHED = {
    "Task01_BrainTumour": (
        PublishedDice("edema", 68.5, 81.1),
        PublishedDice("non-enhancing tumor", 46.7, 62.0),
        PublishedDice("enhancing tumour", 68.8, 78.8),
    ),
    "Task02_Heart": (PublishedDice("left atrium", 93.3, 93.4),),
    "Task03_Liver": (PublishedDice("liver", 94.8, 95.5), PublishedDice("cancer", 75.9, 63.6)),
    "Task04_Hippocampus": (PublishedDice("Anterior", 90.1, 89.9), PublishedDice("Posterior", 88.8, 88.2)),
    "Task05_Prostate": (PublishedDice("PZ", 73.4, 67.9), PublishedDice("TZ", 88.4, 79.9)),
    "Task06_Lung": (PublishedDice("cancer", 67.1, 68.2),),
    "Task07_Pancreas": (PublishedDice("pancreas", 81.4, 81.6), PublishedDice("cancer", 48.0, 50.5)),
    "Task08_HepaticVessel": (PublishedDice("Vessel", 65.7, 64.8), PublishedDice("Tumour", 71.0, 71.9)),
    "Task09_Spleen": (PublishedDice("spleen", 97.2, 96.6),),
    "Task10_Colon": (PublishedDice("colon cancer primaries", 53.0, 46.0),),
}


def values_of(task: str) -> tuple[str, str]:
    """Cross-validation and test set of every label in turn: ("89.9 / 88.2", "90.1 / 88.8")."""
    labels = PUBLISHED[task]
    return (
        " / ".join(f"{found.cross_validation:.1f}" for found in labels),
        " / ".join(f"{found.test:.1f}" for found in labels),
    )


def list_notes() -> str:
    """What the two columns of the list of tasks are."""
    return f"Dice: mean of each label in per cent, as published. {SOURCE}: {WHAT_DIFFERS}"


def published_sentence(dataset: str) -> str:
    """For a report on nnU-Net's dataset of a Decathlon task (``Dataset004_Hippocampus``); empty for others."""
    task = next((task for task in PUBLISHED if dataset_name_of(task) == dataset), None)
    if task is None:
        return ""
    values = "; ".join(f"{found.label} {found.cross_validation:.1f} ({found.test:.1f})" for found in PUBLISHED[task])
    return (
        f"Published for nnU-Net on {task}, mean Dice in per cent in cross-validation (on the test set): {values}. "
        f"{SOURCE}: {WHAT_DIFFERS}"
    )
