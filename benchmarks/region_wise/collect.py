"""What the losses of Valverde & Tohka (2022) reached: ``python -m benchmarks.region_wise.collect FOLDER NAME``.

Of a benchmark that is not finished it takes what is, and says what is missing. Trainings of earlier calls are kept, so
that further seeds can be added from another folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import numpy as np
from batchgenerators.utilities.file_and_folder_operations import load_json

from benchmarks.harness import read_rows, write_result
from benchmarks.trainings import case_values, paired_difference, seconds_per_epoch, spread
from nnunet_rw.audit.curves import gradient_spikes, largest_rise, moving_mean, window_of
from nnunet_rw.benchmark.results import Run, TaskResults, read_results
from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.training.records import read_iterations
from nnunet_rw.util.files import nnunet_folder
from nnunet_rw.util.tables import json_value

METRICS = ("dice", "hd95_mm", "lesion_recall", "false_positives")
RRW, RRW_BETA = "RWPaper_RRW", "RWPaper_RRW_Beta95"
STOCK, STOCK_ADAM = "nnUNetTrainer", "RWPaper_Stock_Adam"
# Followed by the weight of the maps; the last is what the package's own trainer has.
BESIDE_STOCK, PRODUCT = "RWBeside_", "RWTrainer"
# Of all classes together, beside their names.
MEAN = "mean"
_REGION_TERMS = ("Dice", "CE")


def trainings_of(task: TaskResults, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row per evaluated trainer and seed: conditions and course of its first fold, and the figures of every case.

    ``cases`` has ``<metric>_<class>``, in the order of the cases; ``unpredicted_<class>`` counts those in which nothing
    is predicted of a class that is there: their distances are the image's diagonal.

    Parameters
    ----------
    task : TaskResults
    names : dict of label to name of the class
    """
    rows = []
    # One of several folds has a course; their cases are evaluated together.
    firsts: dict[tuple[str, int], Run] = {}
    for run in task.runs:
        firsts.setdefault((run.trainer, run.seed), run)
    for run in firsts.values():
        evaluation = task.evaluations.get(run.trainer, {}).get(run.seed)
        if evaluation is None:
            continue
        cases = {figure: _rounded(values) for figure, values in _values(evaluation, names).items()}
        unpredicted = {
            f"unpredicted_{name}": int(np.isinf(evaluation.columns[label]["hd95_mm"]).sum())
            for label, name in names.items()
        }
        of_run = {
            "task": task.task,
            "trainer": run.trainer,
            "seed": run.seed,
            "seconds_per_epoch": seconds_per_epoch([run]),
        }
        rows.append(json_value(of_run | _conditions(run) | unpredicted | _course(run)) | {"cases": cases})
    return rows


def trainer_rows(trainings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row per trainer: means over cases and seeds, differences to other trainers, and the course of its trainings.

    ``<metric>_<class>`` is the mean over the seeds, ``..._seeds`` its values, ``..._spread`` their largest difference.
    ``differences`` has, by trainer and figure, [mean, low, high] of this trainer's cases less the other's: means over
    the seeds that both have, with a 95 % interval that resamples cases. Keys that end in ``_seeds`` hold a value of
    each seed.
    """
    by_trainer: dict[str, dict[int, Mapping[str, Any]]] = {}
    for training in sorted(trainings, key=lambda training: training["seed"]):
        by_trainer.setdefault(training["trainer"], {})[training["seed"]] = training
    values = {
        trainer: {
            seed: {figure: np.array(cases, float) for figure, cases in training["cases"].items()}
            for seed, training in seeds.items()
        }
        for trainer, seeds in by_trainer.items()
    }
    rows = []
    for trainer, seeds in by_trainer.items():
        first, *_ = of_seeds = list(seeds.values())
        row = {"trainer": trainer, "seeds": len(of_seeds)} | {key: first[key] for key in ("task", *_CONDITIONS)}
        for figure, cases in values[trainer][first["seed"]].items():
            means = [float(np.nanmean(of_seed[figure])) for of_seed in values[trainer].values()]
            row |= {
                figure: fmean(means),
                f"{figure}_seeds": means,
                f"{figure}_spread": spread(means),
                "cases": len(cases),
            }
        each = [key for key in first if key.startswith("unpredicted_") or key in _COURSE]
        row |= {f"{key}_seeds": [training[key] for training in of_seeds] for key in each}
        seconds = [training["seconds_per_epoch"] for training in of_seeds]
        row["seconds_per_epoch"] = float(np.median([value for value in seconds if value is not None] or [np.nan]))
        row["differences"] = {
            other: _differences(values[other], values[trainer])
            for other in compared_with(trainer)
            if set(values.get(other, ())) & set(values[trainer])
        }
        rows.append(json_value(row))
    return rows


def compared_with(trainer: str) -> list[str]:
    """Trainers that differ from one in a single respect, and RRW alone.

    The same loss without a schedule, with rectified maps in place of boundary maps, without maps, and with Adam; of
    maps beside nnU-Net's loss, that without.
    """
    if trainer.startswith(BESIDE_STOCK) or trainer == PRODUCT:
        return [STOCK]
    equal = trainer.removesuffix("_Gradual")
    region_term = equal.rpartition("_")[2]
    others = [RRW, equal, trainer.replace("Boundary", "RRW"), trainer.removesuffix("_SGD")]
    if region_term in _REGION_TERMS:
        others.append(f"RWPaper_{region_term}")
    if trainer == STOCK:
        others.append(STOCK_ADAM)
    return [other for other in dict.fromkeys(others) if other != trainer]


def _values(evaluation: Evaluation, names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """(N,) of every metric that there is, of each class and of their mean."""
    values: dict[str, np.ndarray] = {}
    for metric in METRICS:
        of_classes = [case_values(evaluation, label, metric) for label in names]
        if np.isnan(of_classes).all():
            continue
        values |= {f"{metric}_{name}": cases for name, cases in zip(names.values(), of_classes, strict=True)}
        values[f"{metric}_{MEAN}"] = np.nanmean(of_classes, axis=0)
    return values


def _differences(
    before: Mapping[int, Mapping[str, np.ndarray]], after: Mapping[int, Mapping[str, np.ndarray]]
) -> dict[str, list[float | None]]:
    """By figure the mean, and the ends of its interval, which are None where there are too few cases."""
    seeds = sorted(set(before) & set(after))
    differences: dict[str, list[float | None]] = {}
    for figure in after[seeds[0]]:
        value, interval = paired_difference(*([cases[seed][figure] for seed in seeds] for cases in (before, after)))
        differences[figure] = [None if np.isnan(end) else float(end) for end in (value, *interval)]
    return differences


def _rounded(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(value) else round(float(value), 4) for value in values]


_CONDITIONS = (
    "loss",
    "learning_rate",
    "configuration",
    "epochs",
    "iterations_per_epoch",
    "batch_size",
    "patch_size",
    "parameters",
)
_COURSE = ("pseudo_dice", "largest_fall", "loss_rise", "gradient_spikes")


def _conditions(run: Run) -> dict[str, Any]:
    """Under which a training ran, and what it minimised."""
    record = run.record
    assert record is not None  # or it would not be evaluated
    values = (
        record.loss,
        record.epochs[0].learning_rate,
        record.configuration,
        record.num_epochs,
        record.iterations_per_epoch,
        record.batch_size,
        list(record.patch_size),
        record.num_parameters,
    )
    return dict(zip(_CONDITIONS, values, strict=True))


def _course(run: Run) -> dict[str, Any]:
    """nnU-Net's pseudo-Dice after each epoch, and how steadily the training went.

    ``largest_fall`` is how far the pseudo-Dice was at most below the best before; ``loss_rise`` the same of the
    training loss, relative to its range, and ``gradient_spikes`` the number of iterations whose gradient was ten times
    as long as usual, both as `nnunet_rw.audit.curves` has them.
    """
    assert run.record is not None
    curve = np.nan_to_num([epoch.pseudo_dice for epoch in run.record.epochs])
    iterations = read_iterations(run.folder)
    loss = iterations["loss"]
    values = (
        [round(float(value), 4) for value in curve],
        float((np.maximum.accumulate(curve) - curve).max()),
        largest_rise(moving_mean(loss, window_of(len(loss)))),
        int(gradient_spikes(iterations["gradient_norm"]).sum()),
    )
    return dict(zip(_COURSE, values, strict=True))


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
    trainings = [row for task in results.tasks for row in trainings_of(task, _class_names(task.dataset))]
    for line in results.unfinished:
        print(f"missing: {line}")
    name = f"region_wise_{options.name}"
    print(write_result(name, with_earlier(trainings, read_rows(name))))


def with_earlier(trainings: Sequence[dict[str, Any]], earlier: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trainings, and those of an earlier call that they do not repeat.

    Raises
    ------
    ValueError
        An earlier training ran under other conditions, so that the two cannot be compared.
    """
    rows = {(row["task"], row["trainer"], row["seed"]): row for row in (*earlier, *trainings)}
    compared = ("configuration", "epochs", "iterations_per_epoch", "batch_size", "patch_size", "parameters")
    for task in {task for task, _, _ in rows}:
        conditions = {json.dumps([row[key] for key in compared]) for row in rows.values() if row["task"] == task}
        if len(conditions) > 1:
            raise ValueError(f"Trainings of {task} ran under different conditions: {' and '.join(sorted(conditions))}.")
    return list(rows.values())


if __name__ == "__main__":
    main()
