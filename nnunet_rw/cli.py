"""``nnunet-rw <command>``: argument parsing, and what a command prints."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from nnunet_rw import __version__
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, KINDS, LESION_IDS

_EPILOG = """\
a first training:
  eval "$(nnunet-rw env)"
  nnUNetv2_train DATASET CONFIGURATION FOLD -tr RWTrainer
"""

_NEW_TRAINER = """\
Write a trainer of your own. A term is LOSS[:WEIGHT[:NAME=VALUE,...]]:

  nnunet                            nnU-Net's own loss
  rrw:0.5                           with a weight
  boundary:rebalance_boundary       with a schedule
  dice:1:reweight=inverse_volume,scope=case,power=0.5
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        0; 1 where `doctor` found a problem; 2 after an error of the user's, told in one line.
    """
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "preprocess":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("nnunet-rw: interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, ImportError, _command_failed()) as error:
        print(f"nnunet-rw: {_one_line(error)}", file=sys.stderr)
        return 2


def _command_failed() -> type[Exception]:
    from nnunet_rw.steps import CommandFailed

    return CommandFailed


def _one_line(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror and not error.filename else str(error)
    return " ".join(text.split())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nnunet-rw",
        description="Losses for nnU-Net that see where a voxel lies and how large its lesion is.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nnunet-rw {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = _add(commands, "env", _env, "print the line that lets nnU-Net find the trainers")
    command.description = 'Use it as: eval "$(nnunet-rw env)"'

    _add(commands, "trainers", _trainers, "list the trainers: loss, maps, paper")

    command = _add(commands, "new-trainer", _new_trainer, "write a trainer of your own")
    # NAME first: after --loss it would be a term.
    command.usage = "nnunet-rw new-trainer NAME --loss TERM [TERM ...] [options]"
    command.description = _NEW_TRAINER
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument("name", metavar="NAME", help="of the trainer, and so of its results folder")
    command.add_argument("--loss", metavar="TERM", nargs="+", required=True, help="terms of the loss, added up")
    command.add_argument(
        "-o",
        metavar="FOLDER",
        type=Path,
        default=Path("nnunet_trainers"),
        help="of trainers alone, nnU-Net imports every file of it; default: %(default)s",
    )
    command.add_argument("--map-source", choices=("stored", "patch"), default="stored", help="default: %(default)s")
    command.add_argument("--oversample-by", choices=("voxel", "lesion"), default="voxel", help="default: %(default)s")
    command.add_argument("--overwrite", action="store_true", help="replace the file if it is there")

    command = _add(commands, "doctor", _doctor, "check versions, variables, GPU, trainers and maps")
    command.add_argument("-d", metavar="DATASET", nargs="*", default=[], help="datasets whose maps are checked as well")
    command.add_argument("-c", metavar="CONFIGURATION", help="default: all that are preprocessed")
    _add_plans(command)

    command = _add(commands, "preprocess", _preprocess, "nnUNetv2_plan_and_preprocess, then the maps")
    command.description = "Takes all options of nnUNetv2_plan_and_preprocess; they are handed on."
    _add_kinds(command)

    command = _add(commands, "maps", _maps, "write the maps of preprocessed data")
    command.add_argument("-d", metavar="DATASET", nargs="+", required=True, help="ids or names")
    command.add_argument("-c", metavar="CONFIGURATION", nargs="+", help="default: all that are preprocessed")
    _add_plans(command)
    command.add_argument("-np", metavar="N", type=_positive, help="processes; default: nnU-Net's, at most all cores")
    _add_kinds(command)
    command.add_argument("--overwrite", action="store_true", help="write also what is complete and current")

    command = _add(commands, "show", _show, "draw a case's image, labels and maps")
    _add_configuration(command)
    command.add_argument("--case", help="default: the first")
    command.add_argument("--slice", type=int, metavar="N", help="default: the slice with most lesions")
    command.add_argument("-o", metavar="PNG", type=Path, help="default: <case>.png here")
    command.add_argument("--nifti", metavar="FOLDER", type=Path, help="write the volumes for a viewer as well")

    command = _add(commands, "export", _export, "make a stock nnU-Net model of a trained one")
    _add_configuration(command)
    command.add_argument("-tr", metavar="TRAINER", required=True)
    command.add_argument("-f", metavar="FOLD", nargs="+", help="default: all finished folds")
    command.add_argument("-chk", metavar="FILE", default="checkpoint_final.pth", help="default: %(default)s")
    command.add_argument("-o", metavar="FOLDER", type=Path, required=True)

    command = _add(commands, "synthesize", _synthesize, "make a synthetic multi-lesion dataset in MSD layout")
    command.add_argument("-o", metavar="FOLDER", type=Path, required=True, help="named like Task99_SyntheticLesions")
    command.add_argument("--cases", type=_positive, default=24, help="default: %(default)s")
    command.add_argument("--shape", type=_positive, nargs=3, default=(64, 64, 64), metavar="N")
    command.add_argument("--seed", type=int, default=0)

    command = _add(commands, "small-plans", _small_plans, "plans of a network that trains on a CPU in minutes")
    command.add_argument("-d", metavar="DATASET", required=True, help="id or name")
    _add_plans(command)
    command.add_argument("-o", metavar="NAME", default="nnUNetPlansSmall", help="default: %(default)s")

    command = _add(commands, "demo", _demo, "dataset, training and comparison, in minutes on a CPU")
    command.add_argument("-o", metavar="FOLDER", type=Path, default=Path("demo_output"), help="default: %(default)s")
    command.add_argument("--msd", metavar="FOLDER", type=Path, help="a real dataset in MSD layout")
    command.add_argument("--trainers", nargs="+", default=["nnUNetTrainer", "RWTrainer"], metavar="TRAINER")
    command.add_argument("--epochs", type=_positive, default=6, help="default: %(default)s")
    command.add_argument("--iterations", type=_positive, default=50, help="an epoch; default: %(default)s")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")

    command = _add(commands, "stability", _stability, "train with several losses and seeds; tell which are unstable")
    command.add_argument("-d", metavar="DATASET", required=True, help="id or name")
    command.add_argument("-c", metavar="CONFIGURATION", default="3d_fullres", help="default: %(default)s")
    command.add_argument("-p", metavar="PLANS", default="nnUNetPlansSmall", help="default: %(default)s")
    command.add_argument("-f", metavar="FOLD", type=int, default=0, help="default: %(default)s")
    command.add_argument(
        "--losses", metavar="LOSS", nargs="+", default=["boundary", "rrw"], help="default: %(default)s"
    )
    command.add_argument("--with-dice", action="store_true", help="each loss also together with Dice")
    command.add_argument("--seeds", type=_positive, default=5, metavar="N", help="runs of a loss; default: %(default)s")
    command.add_argument(
        "--iterations", type=_positive, default=300, metavar="N", help="of a run; default: %(default)s"
    )
    command.add_argument("-o", metavar="FOLDER", type=Path, help="default: stability_<dataset> here")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    return parser


def _add(commands, name: str, run, help_text: str) -> argparse.ArgumentParser:  # type: ignore[no-untyped-def]
    command = commands.add_parser(name, help=help_text)
    command.set_defaults(run=run)
    return command


def _add_plans(command: argparse.ArgumentParser) -> None:
    command.add_argument("-p", metavar="PLANS", default="nnUNetPlans", help="default: %(default)s")


def _add_configuration(command: argparse.ArgumentParser) -> None:
    command.add_argument("-d", metavar="DATASET", required=True, help="id or name")
    command.add_argument("-c", metavar="CONFIGURATION", default="3d_fullres", help="default: %(default)s")
    _add_plans(command)


def _add_kinds(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--kind",
        nargs="+",
        choices=(*KINDS, "all"),
        default=[INTERIOR_DISTANCE, LESION_IDS],
        help="default: %(default)s; a training writes what else it needs",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, but got {value}")
    return value


def _kinds(options: argparse.Namespace) -> list[str]:
    return list(KINDS) if "all" in options.kind else options.kind


def _env(options: argparse.Namespace) -> None:
    from nnunet_rw.catalogue import export_line

    print(export_line())


def _trainers(options: argparse.Namespace) -> None:
    from nnunet_rw.catalogue import trainer_rows
    from nnunet_rw.report.table import text_table

    rows = [(row.name, row.loss, row.maps, row.paper) for row in trainer_rows()]
    print(text_table(("trainer", "loss", "maps", "paper"), rows))
    print("\nnnunet stands for nnU-Net's own loss, IW for inverse lesion-volume weights. Add _20epochs or")
    print("_20epochs_50iterations to any name, nnUNetTrainer included, for a training of that length.")


def _new_trainer(options: argparse.Namespace) -> None:
    from nnunet_rw.catalogue import export_line
    from nnunet_rw.new_trainer import parse_term, write_trainer

    terms = [parse_term(text) for text in options.loss]
    path = write_trainer(options.name, terms, options.o, options.map_source, options.oversample_by, options.overwrite)
    print(f"{path}\nLet nnU-Net find it, best in your shell's start-up file:\n  {export_line(path.parent)}")
    print(f"Train with:\n  nnUNetv2_train DATASET CONFIGURATION FOLD -tr {options.name}")


def _doctor(options: argparse.Namespace) -> int:
    from nnunet_rw.doctor import check_environment, check_maps

    problems = 0
    maps = chain.from_iterable(check_maps(dataset, options.c, options.p) for dataset in options.d)
    for finding in chain(check_environment(), maps):
        print(f"{finding.level:8s} {finding.text}")
        problems += finding.level == "problem"
    return 1 if problems else 0


def _preprocess(options: argparse.Namespace) -> None:
    from nnunet_rw.preprocessing import preprocess_with_maps

    preprocess_with_maps(options.rest, _kinds(options))


def _maps(options: argparse.Namespace) -> None:
    from nnunet_rw.preprocessed import data_configurations, open_preprocessed
    from nnunet_rw.writing import ensure_maps

    for dataset in options.d:
        for name in options.c or data_configurations(dataset, options.p):
            data = open_preprocessed(dataset, name, options.p)
            written = ensure_maps(
                data.data_folder,
                _kinds(options),
                data.settings,
                num_processes=options.np,
                overwrite=options.overwrite,
            )
            print(f"{data.dataset_folder.name} {name}: maps of {written} cases written, all are current")


def _show(options: argparse.Namespace) -> None:
    from nnunet_rw.preprocessed import open_preprocessed
    from nnunet_rw.report.case_figure import draw_case, load_case_volumes, write_nifti

    volumes = load_case_volumes(open_preprocessed(options.d, options.c, options.p), options.case)
    path = options.o or Path(f"{volumes.case}.png")
    index = draw_case(volumes, path, options.slice)
    print(f"{path}: {volumes.case}, slice {index}")
    if options.nifti:
        for written in write_nifti(volumes, options.nifti):
            print(written)


def _export(options: argparse.Namespace) -> None:
    from nnunet_rw.export import export_model

    folder = export_model(options.d, options.c, options.tr, options.o, options.p, options.f, options.chk)
    print(f"{folder}\nPredict with: nnUNetv2_predict_from_modelfolder -i IMAGES -o PREDICTIONS -m {folder}")


def _synthesize(options: argparse.Namespace) -> None:
    from nnunet_rw.synthetic import write_synthetic_dataset

    write_synthetic_dataset(options.o, options.cases, tuple(options.shape), seed=options.seed)
    print(f"{options.o}\nConvert with: nnUNetv2_convert_MSD_dataset -i {options.o}")


def _small_plans(options: argparse.Namespace) -> None:
    from nnunet_rw.benchmark.small_plans import write_small_plans
    from nnunet_rw.preprocessed import dataset_folder

    path = write_small_plans(dataset_folder(options.d), options.p, options.o)
    print(f"{path}\nTrain with: nnUNetv2_train {options.d} 3d_fullres 0 -p {options.o}")


def _demo(options: argparse.Namespace) -> None:
    from nnunet_rw.demo import Demo, run_demo

    demo = Demo(
        output=options.o.resolve(),
        msd=options.msd.resolve() if options.msd else None,
        epochs=options.epochs,
        iterations=options.iterations,
        trainers=tuple(options.trainers),
        device=options.device,
    )
    print(f"\n{run_demo(demo)}")


def _stability(options: argparse.Namespace) -> None:
    from nnunet_rw.benchmark.stability import Stability, run_stability

    settings = Stability(
        dataset=options.d,
        configuration=options.c,
        plans_name=options.p,
        fold=options.f,
        losses=tuple(options.losses),
        seeds=options.seeds,
        iterations=options.iterations,
        with_dice=options.with_dice,
        output=options.o,
        device=options.device,
    )
    print(run_stability(settings))
