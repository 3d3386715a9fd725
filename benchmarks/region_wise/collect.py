"""What the losses of Valverde & Tohka (2022) reached: ``python -m benchmarks.region_wise.collect FOLDER NAME``.

Of a benchmark that is not finished it takes what is, and says what is missing.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json

from benchmarks.harness import write_result
from benchmarks.trainings import case_values, paired_difference, seconds_per_epoch, spread, without_nan
from nnunet_rw.benchmark.results import Run, TaskResults, read_results
from nnunet_rw.evaluation.evaluation_folder import Evaluation
from nnunet_rw.files import nnunet_folder
from nnunet_rw.run_record import read_iterations
from nnunet_rw.stability.measures import gradient_spikes, largest_rise, moving_mean, window_of

METRICS = ("dice", "hd95_mm")
RRW, STOCK, STOCK_ADAM = "RWPaper_RRW", "nnUNetTrainer", "RWPaper_Stock_Adam"
# Of all classes together, beside their names.
MEAN = "mean"
_REGION_TERMS = ("Dice", "CE")


def trainer_rows(task: TaskResults, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row per trainer: means over cases and seeds, differences to other trainers, and the course of its trainings.

    ``<metric>_<class>`` is the mean over the seeds, ``..._seeds`` its values, ``..._spread`` their largest difference.
    ``differences`` has, by trainer and figure, [mean, low, high] of this trainer's cases less the other's: means over
    the seeds that both have, with a 95 % interval that resamples cases. ``unpredicted_<class>_seeds`` counts the cases
    in which nothing is predicted of a class that is there: their distances are the image's diagonal. A trainer of
    which nothing is evaluated has no figures, but ``missing`` seeds.

    Parameters
    ----------
    task : TaskResults
    names : dict of label to name of the class
    """
    values = {
        trainer: {seed: _values(evaluation, names) for seed, evaluation in seeds.items()}
        for trainer, seeds in task.evaluations.items()
    }
    rows = []
    for trainer in dict.fromkeys(run.trainer for run in task.runs):
        runs = {run.seed: run for run in task.runs if run.trainer == trainer}
        evaluations = task.evaluations.get(trainer, {})
        done = [runs[seed] for seed in evaluations]
        row = {
            "task": task.task,
            "trainer": trainer,
            "seeds": len(done),
            "missing": sorted(set(runs) - set(evaluations)),
        }
        if done:
            row |= {"cases": len(next(iter(evaluations.values())).cases), **_conditions(done[0])}
            row |= {"seconds_per_epoch": seconds_per_epoch(done), **_courses(done)}
            for figure in values[trainer][done[0].seed]:
                of_seeds = [float(np.nanmean(cases[figure])) for cases in values[trainer].values()]
                row |= {figure: fmean(of_seeds), f"{figure}_seeds": of_seeds, f"{figure}_spread": spread(of_seeds)}
            for label, name in names.items():
                infinite = [np.isinf(item.columns[label]["hd95_mm"]).sum() for item in evaluations.values()]
                row[f"unpredicted_{name}_seeds"] = [int(cases) for cases in infinite]
            row["differences"] = {
                other: _differences(values[other], values[trainer])
                for other in compared_with(trainer)
                if set(values.get(other, ())) & set(values[trainer])
            }
        rows.append(without_nan(row))
    return rows


def compared_with(trainer: str) -> list[str]:
    """Trainers that differ from one in a single respect, and RRW alone.

    The same loss without a schedule, with rectified maps in place of boundary maps, without maps, and with Adam.
    """
    equal = trainer.removesuffix("_Gradual")
    region_term = equal.rpartition("_")[2]
    others = [RRW, equal, trainer.replace("Boundary", "RRW"), trainer.removesuffix("_SGD")]
    if region_term in _REGION_TERMS:
        others.append(f"RWPaper_{region_term}")
    if trainer == STOCK:
        others.append(STOCK_ADAM)
    return [other for other in dict.fromkeys(others) if other != trainer]


def _values(evaluation: Evaluation, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """(N,) of every metric, of each class and of their mean."""
    values: dict[str, np.ndarray] = {}
    for metric in METRICS:
        of_classes = [case_values(evaluation, label, metric) for label in names]
        values |= {f"{metric}_{name}": cases for name, cases in zip(names.values(), of_classes, strict=True)}
        values[f"{metric}_{MEAN}"] = np.nanmean(of_classes, axis=0)
    return values


def _differences(
    before: Mapping[int, Mapping[str, np.ndarray]], after: Mapping[int, Mapping[str, np.ndarray]]
) -> dict[str, list[float]]:
    seeds = sorted(set(before) & set(after))
    differences = {}
    for figure in after[seeds[0]]:
        value, interval = paired_difference(*([cases[seed][figure] for seed in seeds] for cases in (before, after)))
        differences[figure] = [value, *interval]
    return differences


def _conditions(run: Run) -> dict[str, Any]:
    """Under which a training ran, and what it minimised."""
    record = run.record
    assert record is not None  # or it would not be evaluated
    return {
        "loss": record.loss,
        "learning_rate": record.epochs[0].learning_rate,
        "configuration": record.configuration,
        "epochs": record.num_epochs,
        "iterations_per_epoch": record.iterations_per_epoch,
        "batch_size": record.batch_size,
        "patch_size": list(record.patch_size),
        "parameters": record.num_parameters,
    }


def _courses(runs: Sequence[Run]) -> dict[str, list]:
    """Of every seed: nnU-Net's pseudo-Dice after each epoch, and how steadily the training went.

    ``largest_fall_seeds`` is how far the pseudo-Dice was at most below the best before; ``loss_rise_seeds`` the same of
    the training loss, relative to its range, and ``gradient_spikes_seeds`` the number of iterations whose gradient was
    ten times as long as usual, both as `nnunet_rw.stability.measures` has them.
    """
    courses: dict[str, list] = {
        key: [] for key in ("pseudo_dice", "largest_fall_seeds", "loss_rise_seeds", "gradient_spikes_seeds")
    }
    for run in runs:
        assert run.record is not None
        curve = np.nan_to_num([epoch.pseudo_dice for epoch in run.record.epochs])
        iterations = read_iterations(run.folder)
        loss = iterations["loss"]
        courses["pseudo_dice"].append([round(float(value), 4) for value in curve])
        courses["largest_fall_seeds"].append(float((np.maximum.accumulate(curve) - curve).max()))
        courses["loss_rise_seeds"].append(largest_rise(moving_mean(loss, window_of(len(loss)))))
        courses["gradient_spikes_seeds"].append(int(gradient_spikes(iterations["gradient_norm"]).sum()))
    return courses


def _class_names(dataset: str) -> dict[str, str]:
    """Names of the foreground classes by their label."""
    labels = load_json(str(nnunet_folder("nnUNet_raw") / dataset / "dataset.json"))["labels"]
    return {str(label): name.lower() for name, label in labels.items() if label != 0}


def main() -> None:
    """Write ``results/region_wise_NAME.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="of a benchmark")
    parser.add_argument("name", help="of the result, such as 2d")
    options = parser.parse_args()
    results = read_results(options.folder)
    rows = [row for task in results.tasks for row in trainer_rows(task, _class_names(task.dataset))]
    for line in results.unfinished:
        print(f"missing: {line}")
    print(write_result(f"region_wise_{options.name}", rows))


if __name__ == "__main__":
    main()
