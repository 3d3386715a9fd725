"""Results of a small benchmark, made up: two tasks, three trainers, two seeds, two folds."""

import csv
import json
from dataclasses import replace

from evaluation_folders import write_evaluation

from nnunet_rw.benchmark.results import BenchmarkResults, Run, TaskResults, Unfinished
from nnunet_rw.benchmark.specification import Specification
from nnunet_rw.evaluation.comparison.compare import compare_evaluations
from nnunet_rw.evaluation.comparison.rows import RuleRow
from nnunet_rw.evaluation.folder import read_evaluation
from nnunet_rw.training.records import read_run_record

TRAINERS = ("nnUNetTrainer", "RWTrainer", "RWTrainer_IWDiceCE")
HIPPOCAMPUS, LESIONS = "Task04_Hippocampus", "Task11_MSLesion"
DESCRIPTIONS = {
    HIPPOCAMPUS: "Left and right hippocampus segmentation",
    LESIONS: "Semi-synthetic multiple-sclerosis lesions: real FLAIR, real lesion masks implanted",
}
CASES = [f"case_{number}" for number in range(12)]
EPOCHS, ITERATIONS = 3, 2
OPTIMIZER = "SGD, lr 0.01, momentum 0.99, Nesterov, weight decay 3e-05, poly"
# Of the mean Dice, over the baseline's.
GAINS = {"nnUNetTrainer": 0.0, "RWTrainer": 0.05, "RWTrainer_IWDiceCE": -0.03}
VERSIONS = {"nnunet_rw": "0.1.0", "nnunetv2": "2.8.1", "torch": "2.9.0", "cuda": None, "python": "3.12.3"}


def benchmark_results(folder, trainers=TRAINERS, seeds=2, froc=True, compared=True, evaluated=True):
    """Everything finished but the last trainer's training of the last seed and fold on the second task.

    The first task has two labels, each one large object a case. The second has lesions of 6, 40 and 400 mm3 in every
    case but the last, and curves of probabilities with `froc`. Trainers beyond the three have the baseline's values.

    Parameters
    ----------
    folder : path
        Gets evaluations, run.json and iterations.csv.
    compared, evaluated : bool
        False leaves out the comparisons, or also the evaluations.
    """
    specification = Specification(
        tasks=(HIPPOCAMPUS, LESIONS),
        trainers=trainers,
        folds=(0, 1),
        seeds=seeds,
        epochs=EPOCHS,
        iterations=ITERATIONS,
        plans="small",
        device="cpu",
    )
    unfinished = (LESIONS, trainers[-1], seeds - 1, 1)
    tasks = []
    for task in specification.tasks:
        dataset = f"Dataset0{task.removeprefix('Task')}"
        keys = [(trainer, seed, fold) for trainer in trainers for seed in range(seeds) for fold in (0, 1)]
        runs = tuple(write_run(folder, dataset, *key, done=(task, *key) != unfinished) for key in keys)
        done = [
            (trainer, seed) for trainer in trainers for seed in range(seeds) if (task, trainer, seed, 1) != unfinished
        ]
        folders = {
            (trainer, seed): _write_evaluation(folder / "evaluations" / dataset, task, trainer, seed, froc)
            for trainer, seed in (done if evaluated else [])
        }
        evaluations = {}
        for (trainer, seed), path in folders.items():
            evaluations.setdefault(trainer, {})[seed] = replace(read_evaluation(path), name=trainer)
        comparison = None
        if compared and evaluated and len(trainers) > 1:
            noise, *others = (
                [path for (trainer, seed), path in folders.items() if trainer == name and seed > 0]
                for name in trainers
                if (name, 0) in folders
            )
            comparison = compare_evaluations(
                [path for (_, seed), path in folders.items() if seed == 0],
                noise,
                resamples=200,
                challenger_seeds=others,
            )
        tasks.append(TaskResults(task, dataset, DESCRIPTIONS[task], runs, evaluations, comparison, folds_of="nnU-Net"))
    job = Unfinished(f"train/{LESIONS}/{trainers[-1]}/seed{seeds - 1}/fold1", f"2 of {EPOCHS} epochs")
    return BenchmarkResults(folder, specification, tuple(tasks), (job,))


def chosen_rule(trainer, **changes):
    """Of the second task: twice the baseline's false positives as segmented, fewer than it has out of fold."""
    row = RuleRow(
        label="1",
        baseline="nnUNetTrainer",
        trainer=trainer,
        family="hysteresis_volume",
        low=0.6,
        high=0.95,
        min_volume_mm3=12.0,
        folds=5,
        rules_in_folds=2,
        allowed=1.0,
        baseline_recall=0.5,
        baseline_f1=0.55,
        baseline_dice=0.6,
        half_false_positives=2.0,
        half_recall=0.75,
        half_f1=0.6,
        half_dice=0.62,
        false_positives=0.875,
        recall=0.625,
        f1=0.64,
        dice=0.63,
        excess_low=-0.25,
        excess_high=0.125,
        recall_difference=0.125,
        recall_low=0.0625,
        recall_high=0.25,
        dice_difference=0.03,
        dice_low=-0.01,
        dice_high=0.07,
    )
    return replace(row, **changes)


def with_rules(task, *rows):
    """The task whose comparison has these rules."""
    return replace(task, comparison=replace(task.comparison, rules=rows))


def in_unit(task, unit):
    """The task whose sizes are in another unit, such as pixels."""
    evaluations = {
        trainer: {seed: replace(evaluation, size_unit=unit) for seed, evaluation in seeds.items()}
        for trainer, seeds in task.evaluations.items()
    }
    return replace(task, evaluations=evaluations)


def scaled(task, column, factor):
    """The task with a column of all its evaluations times a factor."""
    evaluations = {
        trainer: {
            seed: replace(
                found,
                columns={label: {**of, column: of[column] * factor} for label, of in found.columns.items()},
            )
            for seed, found in seeds.items()
        }
        for trainer, seeds in task.evaluations.items()
    }
    return replace(task, evaluations=evaluations)


def write_run(folder, dataset, trainer, seed, fold, done=True):
    """The run.json and iterations.csv of a training, in its folder below nnUNet_results; an epoch lacks unless done."""
    name = f"{trainer}_{EPOCHS}epochs_{ITERATIONS}iterations_seed{seed}"
    path = folder / "nnUNet_results" / dataset / f"{name}__nnUNetPlansSmall__3d_fullres" / f"fold_{fold}"
    path.mkdir(parents=True, exist_ok=True)
    epochs = EPOCHS if done else EPOCHS - 1
    session = {
        "started": "2026-01-02T03:04:05+00:00",
        "first_epoch": 0,
        "device": "cpu",
        "device_name": "Example CPU",
        "num_gpus": 1,
        "cpu_count": 2,
        "versions": VERSIONS,
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "changed": False},
    }
    record = {
        "version": 1,
        "trainer": trainer,
        "class": name,
        "seed": seed,
        "dataset": dataset,
        "configuration": "3d_fullres",
        "plans": "nnUNetPlansSmall",
        "fold": fold,
        "num_epochs": EPOCHS,
        "iterations_per_epoch": ITERATIONS,
        "batch_size": 2,
        "patch_size": [40, 56, 40],
        "num_parameters": 1_400_000,
        "loss": "nnunet" if trainer == "nnUNetTrainer" else "nnunet + rrw",
        "optimizer": OPTIMIZER,
        "plans_sha256": f"{dataset[9]}a" * 32,
        "splits_sha256": "5b" * 32,
        "sessions": [session],
        "epochs": [_epoch(epoch, seed) for epoch in range(epochs)],
        "validation_seconds": 12.5 if done else None,
    }
    (path / "run.json").write_text(json.dumps(record))
    with open(path / "iterations.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["epoch", "iteration", "loss", "gradient_norm", "loader_wait_seconds"])
        writer.writerows(
            [epoch, step, 0.5 - 0.1 * epoch, 2.0 - 0.5 * step, 0.25]
            for epoch in range(epochs)
            for step in range(ITERATIONS)
        )
    return Run(trainer, seed, fold, path, read_run_record(path))


def _epoch(epoch, seed):
    """Seconds 14, 10, 10; a loader wait of a twentieth; host memory growing by 1 MiB an epoch."""
    seconds = 14.0 if epoch == 0 else 10.0
    return {
        "epoch": epoch,
        "seconds": seconds,
        "loader_wait_seconds": seconds / 20,
        "peak_host_mib": 1000.0 + epoch,
        "peak_gpu_mib": None,
        "train_loss": 0.5 - 0.1 * epoch,
        "val_loss": 0.6 - 0.1 * epoch,
        "pseudo_dice": 0.2 + 0.2 * epoch + 0.01 * seed,
        "learning_rate": 0.01 * (1 - epoch / EPOCHS) ** 0.9,
    }


def _write_evaluation(folder, task, trainer, seed, froc):
    path = folder / f"{trainer}_seed{seed}"
    if task == HIPPOCAMPUS:
        return _write_hippocampus(path, trainer, seed)
    _write_lesions(path, trainer, seed)
    if froc:
        lines = ["label,threshold,false_positives_per_case,recall", *FROC.get(trainer, FROC["nnUNetTrainer"])]
        (path / "froc.csv").write_text("\n".join(lines) + "\n")
        lines = ["label,threshold,false_positives_per_case,recall,precision,f1,dice", *POINTS[trainer != "RWTrainer"]]
        (path / "operating_points.csv").write_text("\n".join(lines) + "\n")
    return path


def _write_hippocampus(path, trainer, seed):
    cases = {
        (case, label): {
            "dice": 0.7 + 0.01 * number + GAINS.get(trainer, 0) + 0.01 * seed,
            "nsd": 0.8 + GAINS.get(trainer, 0),
            "hd95_mm": 2.0 + 0.1 * number - 10 * GAINS.get(trainer, 0),
            "assd_mm": 0.5,
            "volume_reference_mm3": 2000,
            "volume_prediction_mm3": 1900,
            **dict.fromkeys(("n_lesions", "n_hit", "n_predicted"), 1),
            "n_false_positive": 0,
        }
        for number, case in enumerate(CASES)
        for label in ("1", "2")
    }
    lesions = [(case, 2000.0, 1, 1, "matched", label) for case, label in cases]
    return write_evaluation(path, cases, lesions, lesions, name=trainer)


# A threshold of 0.5 leaves the baseline 1/12 false positives per case.
FROC = {
    "nnUNetTrainer": ("1,inf,0,0", "1,0.9,0,0.25", "1,0.5,0.0833333333,0.5", "1,0.2,4,0.75"),
    "RWTrainer": ("1,inf,0,0", "1,0.9,0,0.5", "1,0.4,0.0833333333,0.75", "1,0.2,8,1"),
    "RWTrainer_IWDiceCE": ("1,inf,0,0", "1,0.6,0.5,0.5", "1,0.5,2,0.75", "1,0.2,8,1"),
}
# At 0.4 the second trainer has the baseline's false positives, at none another.
POINTS = (
    ("1,0.9,0,0.5,1,0.667,0.5", "1,0.4,0.0833333333,0.75,0.9,0.818,0.6", "1,0.2,8,1,0.2,0.333,0.4"),
    ("1,0.9,1,0.5,0.5,0.5,0.5", "1,0.2,8,1,0.2,0.333,0.4"),
)


def _found(trainer, number):
    """Hits of the lesions of 6, 40 and 400 mm3: in all 17, 24 and 28 of 33, of the small ones 0, 2 and 6 of 11."""
    if trainer == "RWTrainer":
        return int(number < 2), 1, 1
    if trainer == "RWTrainer_IWDiceCE":
        return int(number % 2 == 0), 1, 1
    return 0, int(number % 2 == 0), 1


def _write_lesions(path, trainer, seed):
    """False positives: the baseline's one, in the lesion-free last case; the third trainer's two in every case."""
    cases, lesions, predicted = {}, [], []
    for number, case in enumerate(CASES):
        free = number == len(CASES) - 1
        hits = () if free else _found(trainer, number)
        extra = {"RWTrainer": 0, "RWTrainer_IWDiceCE": 2}.get(trainer, int(free))
        lesions += [
            (case, volume_mm3, hit, hit, "matched" if hit else "missed")
            for volume_mm3, hit in zip((6.0, 40.0, 400.0), hits, strict=False)
        ]
        right = [volume_mm3 for volume_mm3, hit in zip((6.0, 40.0, 400.0), hits, strict=False) if hit]
        predicted += [(case, volume_mm3, 1, 1) for volume_mm3 in right]
        predicted += [(case, 8.0, 0, 0, "false")] * extra
        cases[case] = {
            "n_lesions": len(hits),
            "n_hit": sum(hits),
            "n_predicted": len(right) + extra,
            "n_false_positive": extra,
            "volume_reference_mm3": 0 if free else 446,
            "volume_prediction_mm3": sum(right) + 8 * extra,
            **(_free_case(extra) if free else _lesion_case(number, trainer, seed)),
        }
    write_evaluation(path, cases, lesions, predicted, name=trainer)


def _free_case(false_positives):
    if not false_positives:
        return {"status": "both_empty"}
    return {"status": "only_prediction", "dice": 0, "nsd": 0, "hd_mm": "inf", "hd95_mm": "inf", "assd_mm": "inf"}


def _lesion_case(number, trainer, seed):
    gain = GAINS.get(trainer, 0)
    return {
        "dice": 0.5 + 0.02 * number + gain + 0.01 * seed,
        "nsd": 0.6 + 0.02 * number + gain,
        "hd95_mm": 6.0 + 0.5 * number - 20 * gain,
        "assd_mm": 1.5 - gain,
    }
