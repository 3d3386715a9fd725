"""Commands about trainers and what they trained."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rw.cli.arguments import add_command, add_configuration, add_optimizer, number_from_zero
from nnunet_rw.util import advice

_NEW_TRAINER = """\
Write a trainer of your own. A term is LOSS[:WEIGHT[:NAME=VALUE,...]]:

  nnunet                            nnU-Net's own loss
  rrw:0.5                           with a weight
  boundary:rebalance_boundary       with a schedule
  dice:1:reweight=inverse_volume,scope=case,power=0.5
"""


def register(commands) -> None:  # type: ignore[no-untyped-def]
    """Add the commands to the parser."""
    command = add_command(commands, "env", _env, "print the line that lets nnU-Net find the trainers")
    command.description = 'Use it as: eval "$(nnunet-rw env)"'

    add_command(commands, "trainers", _trainers, "list the trainers: loss, maps, paper")

    command = add_command(commands, "new-trainer", _new_trainer, "write a trainer of your own", _NEW_TRAINER)
    # NAME first: after --loss it would be a term.
    command.usage = "nnunet-rw new-trainer NAME --loss TERM [TERM ...] [options]"
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
    command.add_argument("--cases-by", choices=("case", "lesion"), default="case", help="default: %(default)s")
    add_optimizer(command, None, None)
    command.add_argument("--weight-decay", type=number_from_zero, metavar="DECAY", help="default: nnU-Net's, 3e-05")
    command.add_argument("--overwrite", action="store_true", help="replace the file if it is there")

    command = add_command(commands, "export", _export, "make a stock nnU-Net model of a trained one")
    add_configuration(command)
    command.add_argument("-tr", metavar="TRAINER", required=True)
    command.add_argument("-f", metavar="FOLD", nargs="+", help="default: all finished folds")
    command.add_argument("-chk", metavar="FILE", default="checkpoint_final.pth", help="default: %(default)s")
    command.add_argument("-o", metavar="FOLDER", type=Path, required=True)


def _env(options: argparse.Namespace) -> None:
    from nnunet_rw.training.catalogue import export_line

    print(export_line())


def _trainers(options: argparse.Namespace) -> None:
    from nnunet_rw.training.catalogue import RECOMMENDED, trainer_rows
    from nnunet_rw.util.tables import text_table

    rows = [(row.name, row.loss, row.maps, row.paper) for row in trainer_rows()]
    print(text_table(("trainer", "loss", "maps", "paper"), rows))
    print()
    audit = advice.command("audit", dataset="DATASET")
    for trainer, dataset in RECOMMENDED.items():
        print(f"Recommended for {dataset}: {trainer}. {audit} looks whether a dataset has them.")
    print("\nnnunet stands for nnU-Net's own loss, IW for inverse lesion-volume weights. Add _20epochs or")
    print("_20epochs_50iterations to any name, nnUNetTrainer included, for a training of that length.")


def _new_trainer(options: argparse.Namespace) -> None:
    from nnunet_rw.training.catalogue import export_line
    from nnunet_rw.training.new_trainer import parse_term, write_trainer

    terms = [parse_term(text) for text in options.loss]
    path = write_trainer(
        options.name,
        terms,
        options.o,
        options.overwrite,
        map_source=options.map_source,
        oversample_by=options.oversample_by,
        cases_by=options.cases_by,
        optimizer_name=options.optimizer,
        initial_lr=options.lr,
        weight_decay=options.weight_decay,
        adam_betas=tuple(options.adam_betas),
    )
    print(f"{path}\nLet nnU-Net find it, best in your shell's start-up file:\n  {export_line(path.parent)}")
    places = {"dataset": "DATASET", "configuration": "CONFIGURATION", "fold": "FOLD"}
    print(f"Train with:\n  {advice.command('nnUNetv2_train', **places, trainer=options.name)}")


def _export(options: argparse.Namespace) -> None:
    from nnunet_rw.training.export import export_model

    folder = export_model(options.d, options.c, options.tr, options.o, options.p, options.f, options.chk)
    folds = sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*"))
    predict = advice.command(
        "nnUNetv2_predict_from_modelfolder",
        images="IMAGES",
        output="PREDICTIONS",
        model=folder,
        folds=folds,
        checkpoint=None if options.chk == "checkpoint_final.pth" else options.chk,
    )
    print(f"{folder}\nPredict with: {predict}")
