"""Commands about data and their maps."""

from __future__ import annotations

import argparse
from itertools import chain
from pathlib import Path

from nnunet_rw.cli.arguments import (
    add_command,
    add_configuration,
    add_kinds,
    add_plans,
    add_processes,
    chosen_kinds,
    positive,
)
from nnunet_rw.util import advice


def register(commands) -> None:  # type: ignore[no-untyped-def]
    """Add the commands to the parser."""
    command = add_command(commands, "doctor", _doctor, "check versions, variables, GPU, trainers and maps")
    command.add_argument("-d", metavar="DATASET", nargs="*", default=[], help="datasets whose maps are checked as well")
    command.add_argument("-c", metavar="CONFIGURATION", help="default: all that are preprocessed")
    add_plans(command)

    command = add_command(commands, "preprocess", _preprocess, "nnUNetv2_plan_and_preprocess, then the maps")
    command.description = "Takes all options of nnUNetv2_plan_and_preprocess; they are handed on."
    add_kinds(command)

    command = add_command(commands, "maps", _maps, "write the maps of preprocessed data")
    command.add_argument("-d", metavar="DATASET", nargs="+", required=True, help="ids or names")
    command.add_argument("-c", metavar="CONFIGURATION", nargs="+", help="default: all that are preprocessed")
    add_plans(command)
    add_processes(command)
    add_kinds(command)
    command.add_argument("--overwrite", action="store_true", help="write also what is complete and current")
    command.add_argument(
        "--compact", action="store_true", help="the same maps in smaller files, which take longer to write and read"
    )
    # The second spellings are those of nnUNetv2_predict.
    command.add_argument(
        "--num-parts", "-num_parts", type=positive, metavar="P", help="spread the cases over P machines or jobs"
    )
    command.add_argument("--part-id", "-part_id", type=int, metavar="I", help="which of them this is, from 0 to P - 1")

    command = add_command(commands, "splits", _splits, "write nnU-Net's folds so that no patient is in both parts")
    command.add_argument("-d", metavar="DATASET", required=True, help="id or name, preprocessed")
    command.add_argument(
        "--groups", metavar="FILE", type=Path, required=True, help="CSV with the columns case and patient"
    )
    command.add_argument("--folds", metavar="N", type=positive, default=5, help="default: %(default)s")
    add_plans(command)
    command.add_argument("--overwrite", action="store_true", help="replace other splits that are there")

    command = add_command(commands, "show", _show, "draw a case's image, labels and maps")
    add_configuration(command)
    command.add_argument("--case", help="default: the first")
    command.add_argument("--slice", type=int, metavar="N", help="default: the slice with most lesions")
    command.add_argument("-o", metavar="PNG", type=Path, help="default: <case>.png here")
    command.add_argument("--nifti", metavar="FOLDER", type=Path, help="write the volumes for a viewer as well")

    command = add_command(commands, "msd", _msd, "download tasks of the Medical Segmentation Decathlon")
    command.add_argument("tasks", metavar="TASK", nargs="*", help="such as Task04_Hippocampus, 4 or Hippocampus")
    command.add_argument("-o", metavar="FOLDER", type=Path, default=Path("."), help="default: this one")
    command.add_argument("--keep-archive", action="store_true", help="keep the .tar file beside the task's folder")
    command.add_argument(
        "--list", action="store_true", help="print the ten tasks, and what nnU-Net is published to reach"
    )
    command.add_argument(
        "--url", help="of a server with the .tar files; default: the variable NNUNET_RW_MSD_URL, or AWS Open Data"
    )

    command = add_command(commands, "synthesize", _synthesize, "make a synthetic multi-lesion dataset in MSD layout")
    command.add_argument("-o", metavar="FOLDER", type=Path, required=True, help="named like Task99_SyntheticLesions")
    command.add_argument("--cases", type=positive, default=24, help="default: %(default)s")
    command.add_argument("--shape", type=positive, nargs=3, default=(64, 64, 64), metavar="N")
    command.add_argument("--seed", type=int, default=0)

    command = add_command(commands, "small-plans", _small_plans, "plans of a network that trains on a CPU in minutes")
    command.add_argument("-d", metavar="DATASET", required=True, help="id or name")
    add_plans(command)
    command.add_argument("-o", metavar="NAME", default="nnUNetPlansSmall", help="default: %(default)s")
    command.add_argument(
        "--max-patch", type=positive, default=48, metavar="VOXELS", help="along each axis; default: %(default)s"
    )
    command.add_argument("--batch-size", type=positive, default=2, metavar="N", help="default: %(default)s")
    command.add_argument("--overwrite", action="store_true", help="replace other plans of that name")


def _doctor(options: argparse.Namespace) -> int:
    from nnunet_rw.cli.doctor import check_environment, check_maps

    problems = 0
    maps = chain.from_iterable(check_maps(dataset, options.c, options.p) for dataset in options.d)
    for finding in chain(check_environment(), maps):
        print(f"{finding.level:8s} {finding.text}")
        problems += finding.level == "problem"
    return 1 if problems else 0


def _preprocess(options: argparse.Namespace) -> None:
    from nnunet_rw.datasets.planning import preprocess_with_maps

    preprocess_with_maps(options.rest, chosen_kinds(options))


def _maps(options: argparse.Namespace) -> None:
    from nnunet_rw.datasets.folders import data_configurations, open_preprocessed
    from nnunet_rw.store.write import ensure_maps

    part = _chosen_part(options)
    for dataset in options.d:
        for name in options.c or data_configurations(dataset, options.p):
            data = open_preprocessed(dataset, name, options.p)
            written = ensure_maps(
                data.data_folder,
                chosen_kinds(options),
                data.settings,
                num_processes=options.np,
                overwrite=options.overwrite,
                part=part,
                compact=options.compact,
            )
            done = "all are current" if part is None else f"part {part[0]} of {part[1]} is current"
            print(f"{data.dataset_folder.name} {name}: maps of {written} cases written, {done}")


def _chosen_part(options: argparse.Namespace) -> tuple[int, int] | None:
    if options.num_parts is None and options.part_id is None:
        return None
    if options.num_parts is None or options.part_id is None:
        raise ValueError("Give both --num-parts and --part-id, such as --num-parts 4 --part-id 0 for the first of 4.")
    if not 0 <= options.part_id < options.num_parts:
        last = options.num_parts - 1
        raise ValueError(f"Expected --part-id from 0 to {last}, counted from 0, but got {options.part_id}.")
    return options.part_id, options.num_parts


def _splits(options: argparse.Namespace) -> None:
    from nnunet_rw.benchmark.preparing import write_patient_splits
    from nnunet_rw.datasets.folders import data_configurations, open_preprocessed
    from nnunet_rw.evaluation.comparison.groups import read_groups

    groups = read_groups(options.groups)
    data = open_preprocessed(options.d, data_configurations(options.d, options.p)[0], options.p)
    print(write_patient_splits(data, groups, options.folds, options.overwrite))


def _show(options: argparse.Namespace) -> None:
    from nnunet_rw.datasets.folders import open_preprocessed
    from nnunet_rw.pictures.case_figure import draw_case, load_case_volumes, write_nifti

    volumes = load_case_volumes(open_preprocessed(options.d, options.c, options.p), options.case)
    path = options.o or Path(f"{volumes.case}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    index = draw_case(volumes, path, options.slice)
    print(f"{path}: {volumes.case}, slice {index}")
    if options.nifti:
        for written in write_nifti(volumes, options.nifti):
            print(written)


def _msd(options: argparse.Namespace) -> None:
    from nnunet_rw.datasets.msd import TASKS, decathlon_task, download_task, list_notes, values_of
    from nnunet_rw.util.tables import text_table

    if options.list:
        header = ("task", "target", "modality", "training cases", "Dice, cross-validation", "Dice, test set")
        rows = [
            (task.name, task.target, task.modality, str(task.num_training), *values_of(task.name))
            for task in TASKS.values()
        ]
        print(f"{text_table(header, rows)}\n\n{list_notes()}")
        return
    if not options.tasks:
        see = advice.command("msd", list=True)
        raise ValueError(f"No task. Name some, such as Task04_Hippocampus, or see them with: {see}")
    # All names first: a mistake in the last would be told after hours.
    for name in [decathlon_task(text).name for text in options.tasks]:
        folder = download_task(name, options.o, options.url, keep_archive=options.keep_archive)
        print(f"{folder}\nConvert with: {advice.command('nnUNetv2_convert_MSD_dataset', folder=folder)}")


def _synthesize(options: argparse.Namespace) -> None:
    from nnunet_rw.datasets.synthetic import write_synthetic_dataset

    write_synthetic_dataset(options.o, options.cases, tuple(options.shape), seed=options.seed)
    print(f"{options.o}\nConvert with: {advice.command('nnUNetv2_convert_MSD_dataset', folder=options.o)}")


def _small_plans(options: argparse.Namespace) -> None:
    from nnunet_rw.datasets.folders import dataset_folder, first_configuration
    from nnunet_rw.datasets.planning import write_small_plans

    path = write_small_plans(
        dataset_folder(options.d),
        options.p,
        options.o,
        options.overwrite,
        max_patch=options.max_patch,
        batch_size=options.batch_size,
    )
    configuration = first_configuration(options.d, options.o)
    train = advice.command("nnUNetv2_train", dataset=options.d, configuration=configuration, fold=0, plans=options.o)
    print(f"{path}\nTrain with: {train}")
