"""From nothing to a table: a dataset, stock nnU-Net, a region-wise trainer, and what each of them found."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json

from nnunet_rw.catalogue import VARIABLE, trainers_folder
from nnunet_rw.evaluation.aggregation import aggregate
from nnunet_rw.evaluation.case_evaluation import CaseEvaluation, EvaluationSettings
from nnunet_rw.evaluation.detection import count_detections
from nnunet_rw.evaluation.evaluate import evaluate
from nnunet_rw.evaluation.matches import LesionMatches
from nnunet_rw.evaluation.recall import recall_by_size
from nnunet_rw.evaluation.sources import folders_source
from nnunet_rw.report.comparison_figure import draw_predictions, draw_recall_by_size
from nnunet_rw.report.table import text_table
from nnunet_rw.small_plans import write_small_plans
from nnunet_rw.steps import run_command
from nnunet_rw.synthetic import write_synthetic_dataset

SYNTHETIC_TASK = "Task99_SyntheticLesions"
CONFIGURATION = "3d_fullres"
PLANS = "nnUNetPlansDemo"
# Small enough for two trainings of a few hundred iterations in minutes on two cores.
SHAPE = (48, 48, 48)
MAX_PATCH = 32
SMALL_VOXELS = 20
_HEADER = (
    "trainer",
    "Dice",
    f"recall, up to {SMALL_VOXELS} voxels",
    "recall, all",
    "false positives a case",
    "s an epoch",
)


@dataclass(frozen=True)
class Demo:
    """Folders and settings of a demonstration.

    Attributes
    ----------
    output : Path
        Everything is written here; a second run goes on where the first stopped.
    msd : Path, optional
        A Medical Segmentation Decathlon folder; without it a synthetic dataset is made.
    epochs, iterations : int
        Of each training.
    trainers : tuple of str
        Trained one after the other, without length suffix.
    device : str
        "cpu" or "cuda".
    """

    output: Path
    msd: Path | None = None
    epochs: int = 6
    iterations: int = 50
    trainers: tuple[str, ...] = ("nnUNetTrainer", "RWTrainer")
    device: str = "cpu"

    @property
    def task(self) -> Path:
        return self.msd or self.output / SYNTHETIC_TASK

    @property
    def dataset_id(self) -> int:
        return int(self.task.name.split("_")[0].removeprefix("Task"))

    @property
    def dataset(self) -> str:
        return f"Dataset{self.dataset_id:03d}_{self.task.name.split('_', 1)[1]}"

    def folder(self, variable: str) -> Path:
        return self.output / variable

    def results(self, trainer: str) -> Path:
        name = f"{self.full_name(trainer)}__{PLANS}__{CONFIGURATION}"
        return self.folder("nnUNet_results") / self.dataset / name / "fold_0"

    def full_name(self, trainer: str) -> str:
        return f"{trainer}_{self.epochs}epochs_{self.iterations}iterations"

    def environment(self, **more: str) -> dict[str, str]:
        folders = {name: str(self.folder(name)) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        own = {VARIABLE: str(trainers_folder()), "nnUNet_def_n_proc": "2", "PYTHONWARNINGS": "ignore"}
        # The commands of the environment that runs this, whether it is activated or not.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        return {**os.environ, **folders, **own, "PATH": path, **more}


def run_demo(demo: Demo) -> str:
    """Run all steps that are not done yet.

    Returns
    -------
    str
        The table and the names of the figures.

    Raises
    ------
    FileNotFoundError, ValueError
        The MSD folder is none.
    CommandFailed
        A step failed.
    """
    _check_msd(demo)
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        demo.folder(variable).mkdir(parents=True, exist_ok=True)
    _prepare(demo)
    for trainer in demo.trainers:
        _train(demo, trainer)
    return _report(demo)


def _check_msd(demo: Demo) -> None:
    if demo.msd is None:
        return
    for name in ("dataset.json", "imagesTr", "labelsTr"):
        if not (demo.msd / name).exists():
            raise FileNotFoundError(
                f"No {name} in {demo.msd}. Give a folder in MSD layout, such as Task04_Hippocampus."
            )
    tests = demo.msd / "imagesTs"
    if not tests.is_dir():
        raise FileNotFoundError(f"No imagesTs in {demo.msd}. Run: mkdir {tests} (nnU-Net wants it, if empty)")
    if not re.fullmatch(r"Task\d+_[^_]+", demo.msd.name):
        raise ValueError(f"Expected a folder named like Task04_Hippocampus, but got {demo.msd.name}.")


def _prepare(demo: Demo) -> None:
    log = demo.output / "logs"
    number = str(demo.dataset_id)
    if demo.msd is None and not (demo.task / "dataset.json").is_file():
        print("Making a synthetic dataset of small lesions")
        write_synthetic_dataset(demo.task, shape=SHAPE)
    raw = demo.folder("nnUNet_raw") / demo.dataset
    if not (raw / "dataset.json").is_file():
        # nnU-Net refuses to go on with what an interrupted conversion left.
        shutil.rmtree(raw, ignore_errors=True)
        _step(demo, ["nnUNetv2_convert_MSD_dataset", "-i", str(demo.task), "-np", "2"], log / "convert.txt")
    preprocessed = demo.folder("nnUNet_preprocessed") / demo.dataset
    # Copied last by nnU-Net, so its presence means that the preprocessing is complete.
    if not (preprocessed / "gt_segmentations").is_dir() or not (preprocessed / "nnUNetPlans.json").is_file():
        options = ["-d", number, "-c", CONFIGURATION, "-np", "2", "-npfp", "2", "--no_pbar"]
        _step(demo, ["nnUNetv2_plan_and_preprocess", *options], log / "preprocess.txt")
    if not (preprocessed / f"{PLANS}.json").is_file():
        write_small_plans(preprocessed, name=PLANS, max_patch=MAX_PATCH)
    options = ["-d", number, "-c", CONFIGURATION, "-p", PLANS, "-np", "2"]
    _step(demo, [sys.executable, "-m", "nnunet_rw", "maps", *options], log / "maps.txt")


def _step(demo: Demo, command: list[str], log: Path) -> None:
    print(f"$ {' '.join(command)}")
    # What README advises for training on a CPU, 0, makes planning fail.
    run_command(command, log, demo.environment(nnUNet_n_proc_DA="1"), title=log.stem)


def _train(demo: Demo, trainer: str) -> None:
    if (demo.results(trainer) / "validation" / "summary.json").is_file():
        return
    finished = (demo.results(trainer) / "checkpoint_final.pth").is_file()
    command = ["nnUNetv2_train", str(demo.dataset_id), CONFIGURATION, "0", "-tr", demo.full_name(trainer)]
    command += ["-p", PLANS, "-device", demo.device, *(["--val"] if finished else [])]
    print(f"$ {' '.join(command)}")
    run_command(
        command,
        demo.output / "logs" / f"{trainer}.txt",
        # One process loads and trains: with two cores more only wait for each other. And its threads sleep while they
        # wait: where another program has a core, threads that spin hold each other up, many times over.
        demo.environment(**({"nnUNet_n_proc_DA": "0", "OMP_WAIT_POLICY": "PASSIVE"} if demo.device == "cpu" else {})),
        title=trainer,
        pattern=r"Epoch time|: predicting ",
        total=(0 if finished else demo.epochs) + len(_validation_cases(demo)),
    )


def _validation_cases(demo: Demo) -> list[str]:
    splits = demo.folder("nnUNet_preprocessed") / demo.dataset / "splits_final.json"
    if splits.is_file():
        return load_json(str(splits))[0]["val"]
    references = demo.folder("nnUNet_preprocessed") / demo.dataset / "gt_segmentations"
    return [""] * (len(list(references.iterdir())) // 5)


def _report(demo: Demo) -> str:
    results = {trainer: _evaluate(demo, trainer) for trainer in demo.trainers}
    figures = [demo.output / "recall_by_size.png", demo.output / "predictions.png"]
    draw_recall_by_size({trainer: _matches(cases) for trainer, cases in results.items()}, figures[0])
    _draw_case(demo, results[demo.trainers[0]], figures[1])
    rows = [_row(trainer, cases, _seconds_per_epoch(demo.results(trainer))) for trainer, cases in results.items()]
    progress = [demo.results(trainer) / "progress.png" for trainer in demo.trainers]
    names = "\n".join(f"  {path}" for path in [*figures, *progress])
    return f"{text_table(_HEADER, rows)}\n\nFigures:\n{names}"


def _evaluate(demo: Demo, trainer: str) -> list[CaseEvaluation]:
    source = folders_source(
        demo.results(trainer) / "validation",
        demo.folder("nnUNet_preprocessed") / demo.dataset / "gt_segmentations",
        demo.folder("nnUNet_raw") / demo.dataset / "dataset.json",
        allow_missing=True,  # the references of the training are there as well
    )
    return evaluate(source, EvaluationSettings(fast=True))


def _matches(cases: list[CaseEvaluation]) -> list[LesionMatches]:
    return [found.matches for case in cases for found in case.classes]


def _row(trainer: str, cases: list[CaseEvaluation], seconds: float) -> tuple[str, ...]:
    matches = _matches(cases)
    dice = aggregate([found.overlap.dice for case in cases for found in case.classes])
    (small,) = recall_by_size(matches, (1, SMALL_VOXELS + 1), unit="voxels")
    lesions = count_detections(matches)
    # The cases of several classes are one for each in `lesions`.
    false_positives = lesions.num_false_positives / len(cases)
    return (
        trainer,
        f"{dice.mean:.3f} (n = {dice.n})",
        f"{small.recall:.2f} ({small.num_found} of {small.num_lesions})",
        f"{lesions.recall:.2f} ({lesions.num_found} of {lesions.num_lesions})",
        f"{false_positives:.1f}",
        f"{seconds:.1f}",
    )


def _seconds_per_epoch(fold: Path) -> float:
    logged = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)["logging"]
    return float(np.mean(np.subtract(logged["epoch_end_timestamps"], logged["epoch_start_timestamps"])))


def _draw_case(demo: Demo, cases: list[CaseEvaluation], path: Path) -> None:
    """The validation case with most lesions."""
    files = max(cases, key=lambda case: sum(len(found.matches.reference) for found in case.classes)).files
    image = demo.folder("nnUNet_raw") / demo.dataset / "imagesTr" / f"{files.case}_0000.nii.gz"
    predictions = {
        trainer: _read(demo.results(trainer) / "validation" / files.prediction.name) for trainer in demo.trainers
    }
    draw_predictions(_read(image), _read(files.reference), predictions, path, title=f"{files.case},")


def _read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
