"""The paragraphs of a paper's methods section."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

import nnunet_rw
from nnunet_rw.benchmark.jobs import plans_name
from nnunet_rw.benchmark.preparing import FoldsOf
from nnunet_rw.benchmark.report.provenance import device_text, software_text
from nnunet_rw.benchmark.results import BenchmarkResults, TaskResults
from nnunet_rw.datasets.msd import TASKS
from nnunet_rw.evaluation.comparison.statistics import ALPHA, MAX_EXACT, MIN_UNITS
from nnunet_rw.evaluation.folder import Evaluation
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3, size_name
from nnunet_rw.evaluation.metrics.probabilities import THRESHOLDS
from nnunet_rw.training.catalogue import trainer_classes, trainer_rows
from nnunet_rw.training.records import RunRecord, Session
from nnunet_rw.training.trainer import MapTrainer
from nnunet_rw.util.tables import latex_escape

_PATH = Path(__file__).with_name("references.bib")
_ENTRY = re.compile(r"^@\w+\{([^,\s]+),$.*?^\}$", re.MULTILINE | re.DOTALL)
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
# Papers that are on no arXiv, as the trainers name them.
_OTHERS = {
    "Chen et al. 2019, CVPR": "chen2019activecontour",
    "Lin et al. 2024, Information Sciences": "lin2024fuzzyrough",
}


def read_entries() -> dict[str, str]:
    """The entries of references.bib by citation key, each as it stands there."""
    return {found[1]: found[0] for found in _ENTRY.finditer(_PATH.read_text(encoding="utf-8"))}


def entries_text(keys: Iterable[str], version: str) -> str:
    """The entries of these keys, in the order of references.bib.

    Parameters
    ----------
    keys : citation keys
    version : str
        Of this package, for its own entry.
    """
    wanted = set(keys)
    entries = [entry for key, entry in read_entries().items() if key in wanted]
    return "\n\n".join(entries).replace("@VERSION@", version.replace("_", r"\_")) + "\n"


def keys_of_paper(paper: str) -> tuple[str, ...]:
    """Citation keys of what a trainer's `paper` names, such as "Valverde & Tohka 2022, arXiv 2108.01405".

    Several papers are parted by semicolons. One without an entry, as a user's own trainer may name it, is left out.
    """
    keys = (_key_of_one(one.strip()) for one in paper.split(";"))
    return tuple(key for key in keys if key)


def _key_of_one(paper: str) -> str | None:
    arxiv = _ARXIV.search(paper)
    if not arxiv:
        return _OTHERS.get(paper)
    field = f"eprint = {{{arxiv[1]}}}"
    return next((key for key, entry in read_entries().items() if field in entry), None)


def empty_case_text(results: BenchmarkResults) -> str:
    """What is done with cases without lesions and with empty predictions, and how many there were: one paragraph."""
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
    first = task.first_seeds
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
        f"{'' if specification.evaluation.tta else ', but without its test-time mirroring'}{_others(results)}.",
    ]
    if specification.small_options is not None:
        sentences.append(
            "These plans have a smaller network, patch and batch than nnU-Net's own, so that figures are below what "
            "nnU-Net reaches."
        )
    sentences += [_size_text(task) for task in results.tasks if task.records]
    sentences.append(_length_text(results))
    if len(_optimizers(results)) == 1:
        sentences.append(f"The optimiser was {_optimizers(results)[0]}.")
    sentences.append(
        f"Each trainer was trained on {_counted(len(folds), 'fold')} ({', '.join(map(str, folds))}){_whose(results)}, "
        f"with "
        f"{_counted(seeds, 'random seed')}{' each' if seeds > 1 else ''}"
        f"{' (0 to ' + str(seeds - 1) + ')' if seeds > 1 else ' (0)'}."
    )
    if specification.seeds_of:
        others = listed(f"`{name}` with {number}" for name, number in specification.seeds_of.items())
        sentences.append(f"Of these, {others} (from 0).")
    devices = listed(dict.fromkeys(device_text(session) for session in _sessions(results)))
    return " ".join([*sentences, *([f"Trainings ran on: {devices}."] if devices else [])])


def _others(results: BenchmarkResults) -> str:
    """Trainers that may change more than loss and patches: nnU-Net's own and others of which nothing is known."""
    known = {_STOCK_TRAINER, *(row.name for row in trainer_rows())}
    others = [f"`{name}`" for name in results.specification.trainers if name not in known]
    return f", but for what {listed(others)} change{'s' if len(others) == 1 else ''}" if others else ""


_FOLDS_OF: dict[FoldsOf, str] = {
    "": "a cross-validation",
    "nnU-Net": "nnU-Net's cross-validation",
    "patients": "a cross-validation by patient",
    "authors": "splits that the authors gave",
}


def _whose(results: BenchmarkResults) -> str:
    """Whose the folds are, of each task where tasks differ."""
    tasks: dict[FoldsOf, list[str]] = {}
    for task in results.tasks:
        tasks.setdefault(task.folds_of, []).append(f"`{task.task}`")
    if len(tasks) == 1:
        return f" of {_FOLDS_OF[results.tasks[0].folds_of]}"
    return f": of {listed(f'{_FOLDS_OF[whose]} on {listed(names)}' for whose, names in tasks.items())}"


def losses_heading(results: BenchmarkResults) -> str:
    """What comes before the losses."""
    classes, trainers = trainer_classes(), results.specification.trainers
    known = {name for name, trainer in classes.items() if trainer.optimizer_name in (None, "sgd")} | {_STOCK_TRAINER}
    drawn = {(classes[name].oversample_by, classes[name].cases_by) for name in trainers if name in classes}
    if _STOCK_TRAINER in trainers:
        drawn.add((MapTrainer.oversample_by, MapTrainer.cases_by))
    differ = ""
    if known.issuperset(trainers) and len(_optimizers(results)) < 2:
        differ = f"The trainers differ in their loss {'alone' if len(drawn) == 1 else 'and in how patches are drawn'}. "
    return (
        f"{differ}In formulas `nnunet` stands for nnU-Net's own loss, Dice and cross-entropy, other names for losses "
        "of `nnunet_rw`:"
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
    evaluation = next(iter(task.first_seeds.values()), None)
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
    sizes = dict.fromkeys(
        f"patches of {' x '.join(map(str, record.patch_size))} voxels in batches of {record.batch_size} and "
        f"{record.num_parameters / 1e6:.2f} million parameters"
        for record in task.records
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


def _records(results: BenchmarkResults) -> list[RunRecord]:
    return [record for task in results.tasks for record in task.records]


def _sessions(results: BenchmarkResults) -> Sequence[Session]:
    return [session for record in _records(results) for session in record.sessions]


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def evaluation_text(results: BenchmarkResults) -> str:
    """Metrics and their conventions."""
    settings = results.specification.evaluation
    with_froc = any(
        evaluation.froc
        for task in results.tasks
        for seeds in task.evaluations.values()
        for evaluation in seeds.values()
    )
    units = " or ".join(results.size_units)
    ignored = (
        f" Reference lesions below {settings.min_volume_mm3:g} {units} were ignored, and so were predicted ones that "
        "touch these alone."
        if settings.min_volume_mm3
        else ""
    )
    classes = ", ".join(size_name(*edges, units) for edges in pairwise(DEFAULT_EDGES_MM3))
    sentences = [
        "The validation cases of all folds were pooled. Per case and label: the Dice coefficient; the normalised "
        f"surface distance (NSD) [@nikolov2021surface] with a tolerance of {settings.tolerance_mm:g} "
        f"{results.length_units}; HD95, the larger of the two directed 95th percentiles of the surface distances, and "
        f"the average symmetric surface distance (ASSD), both in {results.length_units}.",
        f"Lesions were {results.connected} components.{ignored} A reference lesion was found if a "
        "predicted one shares a voxel with it; a predicted lesion that touches no reference lesion was a false "
        "positive. Recall counts reference lesions and precision predicted ones, pooled over cases; F1 is their "
        "harmonic mean.",
        f"Recall is also given by lesion volume, in classes that were fixed beforehand: {classes}.",
    ]
    if with_froc:
        sentences.append(
            "FROC curves score each component of a foreground probability above 0.1 by its highest probability; their "
            "average is the mean recall at 1/8, 1/4, 1/2, 1, 2, 4 and 8 false positives per case [@setio2017luna16]."
        )
    if any(task.comparison and task.comparison.matched for task in results.tasks):
        sentences.append(
            "For recall at equal false positives the foreground probability was thresholded anew, at that of "
            f"{len(THRESHOLDS)} thresholds from {THRESHOLDS[-1]:g} to {THRESHOLDS[0]:g} that finds most lesions with "
            "no more false positives per case than the baseline's segmentations, of equal ones that of the better "
            "Dice; below a threshold with more false positives one was taken only for a better Dice. These thresholds "
            "were chosen on the evaluated cases, which favours them."
        )
    if any(task.comparison and task.comparison.rules for task in results.tasks):
        sentences.append(
            "For recall at the same price a rule was chosen for each trainer with probabilities and each label: "
            "foreground is what has a probability above one threshold, in components whose peak is above another and "
            "that have a minimum volume. Of those rules that have no more false positives per case than the "
            "baseline's segmentations and no lower Dice, the one that finds most lesions was taken, lesions being "
            "matched one-to-one; a second threshold or a volume was taken only where it was better by more than "
            "chance. Every case was segmented by the rule that was chosen without its fold. What a trainer gains is "
            "told beside the baseline by its own rule, or as it was segmented where that finds more: a rule alone "
            "brings something as well."
        )
    return " ".join(sentences)


def statistics_text(results: BenchmarkResults) -> str:
    """Intervals and tests; of tests only where trainers were compared."""
    comparisons = [(task.task, task.comparison) for task in results.tasks if task.comparison]
    grouped = any(task.groups for task in results.tasks)
    unit = "patients" if grouped else "cases"
    intervals = (
        f"Intervals are of 95 %, over {unit}: studentised bootstrap intervals [@hall1988bootstrap] of 10 000 resamples "
        "with tails widened for few units [@hesterberg2015bootstrap], nowhere narrower than Student's t; they are not "
        f"adjusted for their number, and none is given with fewer than {MIN_UNITS} {unit}. Lesions of one "
        f"{unit[:-1]} are found or missed together and were resampled together; intervals of recall are Wilson's "
        f"[@wilson1927inference] of the effective number of lesions [@franco2019proportions]."
    )
    if not comparisons:
        reasons = listed(dict.fromkeys(filter(None, (task.why_not_compared for task in results.tasks))))
        return f"{intervals} Trainers were not compared{f': {reasons}' if reasons else ''}."
    baseline = comparisons[0][1].baseline
    families = "; ".join(f"{task}: {comparison.family}" for task, comparison in comparisons)
    sentences = [
        intervals,
        f"Every trainer was compared with `{baseline}` on the same cases, each case being the mean over a trainer's "
        "seeds: the mean of the paired differences with its interval, and Wilcoxon's signed-rank test "
        f"[@wilcoxon1945ranking] over {unit}, two-sided, exact up to {MAX_EXACT} differences that are not zero, and "
        f"not made with fewer than {MIN_UNITS} {unit}.",
        f"p-values were adjusted by Holm's procedure [@holm1979procedure] over all tests of a task ({families}).",
        f"A trainer is called better or worse where the adjusted p is below {ALPHA} and the interval does not hold 0. "
        "The first sentence on a task says that lesions were found more often where that holds for recall, and its "
        "interval, adjusted by Bonferroni for all trainers and labels, does not hold 0 either.",
    ]
    if any(comparison.seeds for _, comparison in comparisons):
        sentences.append(
            "A difference no larger than the largest one between trainings of the baseline with different seeds is "
            "called within noise."
        )
    sentences.append("Folds share training cases; their means were not tested.")
    return " ".join(sentences)


_CITATION = re.compile(r"\[(@\w+(?:; @\w+)*)\]")
_CODE = re.compile(r"`([^`]+)`")


def methods_text(results: BenchmarkResults) -> str:
    """Markdown paragraphs with citations as Pandoc has them (``[@isensee2021nnunet]``)."""
    blocks = []
    for title, texts in _sections(results):
        blocks.append(f"### {title}")
        items = [text for text in texts if text.startswith("- ")]
        blocks += [text for text in texts if text not in items]
        blocks += ["\n".join(items)] if items else []
    # What a dataset's description may hold must not become markup. In code a backslash would be shown.
    pieces = "\n\n".join(blocks).split("`")
    pieces[::2] = [piece.replace("<", "\\<").replace("*", "\\*") for piece in pieces[::2]]
    return "`".join(pieces) + "\n"


def methods_latex(results: BenchmarkResults) -> str:
    r"""The same with ``\subsection*``, ``\cite`` and ``itemize``."""
    lines = []
    for title, texts in _sections(results):
        lines.append(f"\\subsection*{{{latex_escape(title)}}}")
        items = [text for text in texts if text.startswith("- ")]
        lines += [_latex(text) for text in texts if text not in items]
        if items:
            lines.append("\n".join(["\\begin{itemize}", *(f"\\item {_latex(i[2:])}" for i in items), "\\end{itemize}"]))
    return "\n\n".join(lines) + "\n"


def bibtex(results: BenchmarkResults) -> str:
    """BibTeX entries of all that `methods_text` cites, and no others."""
    keys = [key for found in _CITATION.findall(methods_text(results)) for key in re.findall(r"@(\w+)", found)]
    return entries_text(keys, package_version(results))


def _sections(results: BenchmarkResults) -> list[tuple[str, list[str]]]:
    return [
        ("Data", data_text(results)),
        ("Networks and training", [training_text(results), losses_heading(results), *loss_texts(results)]),
        ("Evaluation", [evaluation_text(results), empty_case_text(results)]),
        ("Statistics", [statistics_text(results)]),
        ("Software", [software_paragraph(results)]),
    ]


def _latex(text: str) -> str:
    """Escape everything but code and citations, which become commands."""
    parts = []
    end = 0
    for found in re.finditer(f"{_CODE.pattern}|{_CITATION.pattern}", text):
        parts.append(latex_escape(text[end : found.start()]))
        code, citation = found.groups()
        keys = ",".join(re.findall(r"@(\w+)", citation or ""))
        parts.append(f"\\texttt{{{latex_escape(code)}}}" if code else f"\\cite{{{keys}}}")
        end = found.end()
    return "".join([*parts, latex_escape(text[end:])]).replace(" \\cite", "~\\cite")
