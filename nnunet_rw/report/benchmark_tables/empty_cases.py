"""Cases without lesions, and predictions of nothing: what is done with them, and how many there are."""

from __future__ import annotations

import numpy as np

from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.evaluation.evaluation_folder import Evaluation


def empty_case_text(results: BenchmarkResults) -> str:
    """One paragraph."""
    counts = [sentence for task in results.tasks for sentence in _counts(task)]
    policy = (
        "Where reference and prediction are both empty, Dice and all distances are undefined; the case is a true "
        "negative and enters no mean but that of the false positives. Where one of them is empty, Dice and NSD are 0, "
        "and a distance counts as the diagonal of the image. Lesion-free cases are in the denominator of the false "
        "positives per case and of FROC curves; recall has none of them."
    )
    if not counts and any(task.evaluations for task in results.tasks):
        counts = ["No evaluated case had an empty reference or prediction."]
    return " ".join([policy, *counts])


def _counts(task: TaskResults) -> list[str]:
    """A sentence per label that has an empty mask."""
    first = {trainer: seeds[min(seeds)] for trainer, seeds in task.evaluations.items() if seeds}
    labels = dict.fromkeys(label for evaluation in first.values() for label in evaluation.labels)
    sentences = []
    for label in labels:
        without = {trainer: _empty(evaluation, label) for trainer, evaluation in first.items()}
        num_free, num_cases = next(iter(without.values()))[0], len(next(iter(first.values())).cases)
        if not any(any(found) for found in without.values()):
            continue
        parts = []
        for trainer, (_, false_alarms, unpredicted) in without.items():
            told = [f"something in {false_alarms} of these"] if num_free else []
            told += [f"nothing in {unpredicted} of the others"] if unpredicted else []
            parts += [f"`{trainer}` predicted {' and '.join(told)}"] if told else []
        head = f"{task.task}, label {label}: {num_free} of {num_cases} cases had an empty reference"
        sentences.append(f"{'; '.join([head, *parts])}.")
    return sentences


def _empty(evaluation: Evaluation, label: str) -> tuple[int, int, int]:
    """Cases with an empty reference, those of them with a prediction, and other cases without a prediction."""
    columns = evaluation.columns[label]
    reference, prediction = columns["volume_reference_mm3"] > 0, columns["volume_prediction_mm3"] > 0
    return tuple(
        int(np.count_nonzero(chosen)) for chosen in (~reference, ~reference & prediction, reference & ~prediction)
    )  # type: ignore[return-value]
