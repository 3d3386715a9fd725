"""The command that asks which losses train stably."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rw.cli.arguments import add_command, positive, positive_number


def register(commands) -> None:  # type: ignore[no-untyped-def]
    """Add the commands to the parser."""
    command = add_command(
        commands, "stability", _stability, "train with several losses and seeds; tell which are unstable"
    )
    command.add_argument("-d", metavar="DATASET", required=True, help="id or name")
    command.add_argument("-c", metavar="CONFIGURATION", default="3d_fullres", help="default: %(default)s")
    command.add_argument("-p", metavar="PLANS", default="nnUNetPlansSmall", help="default: %(default)s")
    command.add_argument("-f", metavar="FOLD", type=int, default=0, help="default: %(default)s")
    command.add_argument(
        "--losses", metavar="LOSS", nargs="+", default=["boundary", "rrw"], help="default: %(default)s"
    )
    command.add_argument("--with-dice", action="store_true", help="each loss also together with Dice")
    command.add_argument("--seeds", type=positive, default=5, metavar="N", help="runs of a loss; default: %(default)s")
    command.add_argument("--iterations", type=positive, default=300, metavar="N", help="of a run; default: %(default)s")
    command.add_argument("-o", metavar="FOLDER", type=Path, help="default: stability_<dataset> here")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    command.add_argument(
        "--optimizer", choices=("sgd", "adam", "adamw"), default="sgd", help="default: nnU-Net's, %(default)s"
    )
    command.add_argument("--lr", type=positive_number, default=0.01, metavar="LR", help="default: %(default)s")


def _stability(options: argparse.Namespace) -> None:
    from nnunet_rw.audit.stability import Stability, run_stability

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
        optimizer_name=options.optimizer,
        initial_lr=options.lr,
    )
    print(run_stability(settings))
