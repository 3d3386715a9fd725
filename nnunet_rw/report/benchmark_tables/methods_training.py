"""Methods: data, networks, training, losses and software, from the specification and the trainings' records."""

from __future__ import annotations

from collections.abc import Sequence

import nnunet_rw
from nnunet_rw.benchmark.jobs import plans_name
from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.catalogue import trainer_classes, trainer_rows
from nnunet_rw.msd import TASKS
from nnunet_rw.report.benchmark_tables.provenance import device_text, software_text
from nnunet_rw.report.benchmark_tables.references import keys_of_paper
from nnunet_rw.run_record import RunRecord, Session

_STOCK_TRAINER = "nnUNetTrainer"
# Of nnU-Net's trainer.
_STOCK_EPOCHS, _STOCK_ITERATIONS = 1000, 250
_SEMI_SYNTHETIC = (
    " Such cases may share images and lesions, while all intervals and tests take cases for independent, and results "
    "do not carry over to patients without further evidence."
)


def data_text(results: BenchmarkResults) -> list[str]:
    """An item per task."""
    return [_task_text(task) for task in results.tasks]


def training_text(results: BenchmarkResults) -> str:
    """Network, plans, length, folds, seeds and devices."""
    specification = results.specification
    records = _records(results)
    plans = listed(dict.fromkeys(f"`{record.plans}`" for record in records)) or f"`{plans_name(specification)}`"
    folds, seeds = specification.folds, specification.seeds
    sentences = [
        f"All networks were nnU-Net's [@isensee2021nnunet], configuration `{specification.configuration}` with the "
        f"plans {plans}, and its preprocessing, augmentation, deep supervision and sliding-window prediction"
        f"{'' if specification.evaluation.tta else ', but without its test-time mirroring'}.",
    ]
    if specification.small_options is not None:
        sentences.append(
            "These plans have a smaller network, patch and batch than nnU-Net's own, so that figures are below what "
            "nnU-Net reaches."
        )
    sentences += [_size_text(task) for task in results.tasks if _records_of(task)]
    sentences.append(_length_text(results))
    if len(_optimizers(results)) == 1:
        sentences.append(f"The optimiser was {_optimizers(results)[0]}.")
    sentences.append(
        f"Each trainer was trained on {_counted(len(folds), 'fold')} ({', '.join(map(str, folds))}) of nnU-Net's "
        f"cross-validation, with {_counted(seeds, 'random seed')}{' each' if seeds > 1 else ''}"
        f"{' (0 to ' + str(seeds - 1) + ')' if seeds > 1 else ' (0)'}."
    )
    if specification.seeds_of:
        others = listed(f"`{name}` with {number}" for name, number in specification.seeds_of.items())
        sentences.append(f"Of these, {others} (from 0).")
    if specification.splits:
        given = listed(f"`{task}`" for task in specification.splits)
        sentences.append(f"Folds of {given} were given by the authors, not drawn at random.")
    devices = listed(dict.fromkeys(device_text(session) for session in _sessions(results)))
    return " ".join([*sentences, *([f"Trainings ran on: {devices}."] if devices else [])])


def losses_heading(results: BenchmarkResults) -> str:
    """What comes before the losses."""
    classes, trainers = trainer_classes(), results.specification.trainers
    known = {name for name, trainer in classes.items() if trainer.optimizer_name == "sgd"} | {_STOCK_TRAINER}
    only_losses = known.issuperset(trainers) and len(_optimizers(results)) < 2
    alone = "The trainers differ in their loss alone. " if only_losses else ""
    return (
        f"{alone}In formulas `nnunet` stands for nnU-Net's own loss, Dice and cross-entropy, other names for losses of "
        "`nnunet_rw`:"
    )


def loss_texts(results: BenchmarkResults) -> list[str]:
    """An item per trainer: its loss in words, in a formula and by its paper; its optimiser where they differ."""
    rows = {row.name: row for row in trainer_rows()}
    classes = trainer_classes()
    items = []
    for position, trainer in enumerate(results.specification.trainers):
        name = f"- `{trainer}`{' (baseline)' if position == 0 else ''}: "
        if trainer in rows:
            cited = "; ".join(f"@{key}" for key in keys_of_paper(classes[trainer].paper))
            # What the class is besides, concerns programmers.
            summary = rows[trainer].summary.partition(", and the base of")[0].rstrip(".").replace("`", "")
            items.append(f"{name}{summary}; loss `{rows[trainer].loss}` [{cited}]")
        elif trainer == _STOCK_TRAINER:
            items.append(f"{name}nnU-Net's own loss, Dice and cross-entropy [@isensee2021nnunet]")
        else:
            items.append(f"{name}no trainer of `nnunet_rw`{_recorded_loss(results, trainer)}")
        optimizers = _optimizers(results, trainer) if len(_optimizers(results)) > 1 else []
        items[-1] += f"; optimiser {listed(optimizers)}." if optimizers else "."
    return items


def software_paragraph(results: BenchmarkResults) -> str:
    """Every version that was used."""
    used = software_text(_sessions(results)) or f"nnunet_rw {nnunet_rw.__version__}"
    return f"Trainings, evaluation and statistics were made with `nnunet_rw` [@nnunet_rw]. Versions: {used}."


def package_version(results: BenchmarkResults) -> str:
    """Of this package, as the trainings recorded it; the present one without any."""
    used = dict.fromkeys(session.versions.get("nnunet_rw") for session in _sessions(results))
    return listed(filter(None, used)) or nnunet_rw.__version__


def listed(words) -> str:  # type: ignore[no-untyped-def]
    """``a``, ``a and b``, ``a, b and c``."""
    words = list(words)
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _task_text(task: TaskResults) -> str:
    description = " ".join(task.description.split()).rstrip(".").replace("`", "'").replace("[@", "[ @")
    semi_synthetic = "semi-synthetic" in description.lower()
    source = " of the Medical Segmentation Decathlon [@antonelli2022decathlon]" if task.task in TASKS else ""
    kind = ", a semi-synthetic dataset" if semi_synthetic else ""
    about = f" ({description})" if description else ""
    evaluation = next((seeds[min(seeds)] for seeds in task.evaluations.values() if seeds), None)
    if evaluation is None:
        return f"- `{task.task}`{source}{kind}{about}: not evaluated yet."
    lesions = listed(
        f"{int(evaluation.columns[label]['n_lesions'].sum())} of label {label}" for label in evaluation.labels
    )
    return (
        f"- `{task.task}`{source}{kind}{about}: {len(evaluation.cases)} cases were evaluated. Reference lesions "
        f"(connected components): {lesions}.{_SEMI_SYNTHETIC if semi_synthetic else ''}"
    )


def _size_text(task: TaskResults) -> str:
    records = _records_of(task)
    sizes = dict.fromkeys(
        f"patches of {' x '.join(map(str, record.patch_size))} voxels in batches of {record.batch_size} and "
        f"{record.num_parameters / 1e6:.2f} million parameters"
        for record in records
    )
    return f"For {task.task}: {listed(sizes)}."


def _length_text(results: BenchmarkResults) -> str:
    lengths = {(record.num_epochs, record.iterations_per_epoch) for record in _records(results)}
    if not lengths:
        return "How long they were trained is not recorded."
    told = listed(f"{epochs} epochs of {iterations} iterations" for epochs, iterations in sorted(lengths))
    shorter = all(epochs * iterations < _STOCK_EPOCHS * _STOCK_ITERATIONS for epochs, iterations in lengths)
    default = f", fewer than nnU-Net's {_STOCK_EPOCHS} of {_STOCK_ITERATIONS}" if shorter else ""
    return f"Training took {told}{default}."


def _recorded_loss(results: BenchmarkResults, trainer: str) -> str:
    losses = dict.fromkeys(record.loss.replace("`", "'") for record in _records(results) if record.trainer == trainer)
    return f"; its loss was recorded as `{listed(losses)}`" if losses else ""


def _optimizers(results: BenchmarkResults, trainer: str | None = None) -> list[str]:
    """What the trainings recorded, all or one trainer's; records from before there was a choice say nothing."""
    records = (record for record in _records(results) if trainer in (None, record.trainer))
    return list(dict.fromkeys(record.optimizer for record in records if record.optimizer))


def _records_of(task: TaskResults) -> list[RunRecord]:
    return [run.record for run in task.runs if run.record is not None]


def _records(results: BenchmarkResults) -> list[RunRecord]:
    return [record for task in results.tasks for record in _records_of(task)]


def _sessions(results: BenchmarkResults) -> Sequence[Session]:
    return [session for record in _records(results) for session in record.sessions]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
