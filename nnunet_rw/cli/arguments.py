"""What several commands have in common."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, KINDS, LESION_IDS


def add_command(  # type: ignore[no-untyped-def]
    commands, name: str, run, help_text: str, description: str | None = None
) -> argparse.ArgumentParser:
    """A command whose description, of several lines, is printed as it is."""
    command = commands.add_parser(
        name, help=help_text, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.set_defaults(run=run, parser=command)
    return command


def refuse(options: argparse.Namespace, names: Sequence[str], why: str) -> None:
    """Refuse, with a ValueError, options of these names that have another value than by default.

    An option that cannot take effect must not be taken for one that has.
    """
    given = [name for name in names if getattr(options, name) != options.parser.get_default(name)]
    flags = [action.option_strings[-1] for action in options.parser._actions if action.dest in given]
    if flags:
        raise ValueError(f"{', '.join(flags)}: {why}")


def add_plans(command: argparse.ArgumentParser) -> None:
    command.add_argument("-p", metavar="PLANS", default="nnUNetPlans", help="default: %(default)s")


def add_configuration(command: argparse.ArgumentParser) -> None:
    command.add_argument("-d", metavar="DATASET", required=True, help="id or name")
    command.add_argument("-c", metavar="CONFIGURATION", default="3d_fullres", help="default: %(default)s")
    add_plans(command)


def add_trained_model(
    command: argparse.ArgumentParser, several: bool = False, plans: Sequence[str] = ("-p", "--plans")
) -> None:
    """Named as nnU-Net does; -tr takes several where they are wanted, and -p may be taken by predictions."""
    command.add_argument("-d", metavar="DATASET", help="id or name")
    command.add_argument("-c", metavar="CONFIGURATION", default="3d_fullres", help="default: %(default)s")
    command.add_argument("-tr", metavar="TRAINER", nargs="+" if several else None, default=[] if several else None)
    command.add_argument(*plans, metavar="PLANS", default="nnUNetPlans", help="default: %(default)s")
    command.add_argument("-f", metavar="FOLD", nargs="+", default=[], help="default: every fold that was validated")


def add_lesions(command: argparse.ArgumentParser) -> None:
    command.add_argument("--connectivity", type=int, choices=(6, 18, 26), default=26, help="default: 26")
    command.add_argument(
        "--min-volume", metavar="MM3", type=float, default=0.0, help="of reference lesions; default: 0"
    )


def add_optimizer(command: argparse.ArgumentParser, name: str | None, rate: float | None) -> None:
    """Of a training; nnU-Net's own by default."""
    command.add_argument("--optimizer", choices=("sgd", "adam", "adamw"), default=name, help="default: nnU-Net's, sgd")
    command.add_argument(
        "--lr", type=positive_number, default=rate, metavar="LR", help="learning rate; default: nnU-Net's, 0.01"
    )
    command.add_argument(
        "--adam-betas",
        type=_number_below_one,
        nargs=2,
        default=(0.9, 0.999),
        metavar="BETA",
        help="how long adam and adamw remember the gradient, and its size; default: 0.9 0.999",
    )


def add_scores(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--scores",
        metavar="PROTOCOL",
        nargs="+",
        default=[],
        help="what challenges rank by, as well: one of brats-gli, brats-men, brats-met, brats-ped, brats-ssa; and cc",
    )


def add_groups(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--groups",
        metavar="FILE",
        type=Path,
        help="CSV with the columns case and patient: intervals and tests are over patients",
    )


def groups_of(options: argparse.Namespace) -> dict[str, str] | None:
    """The patient of every case, where ``--groups`` tells."""
    from nnunet_rw.evaluation.comparison.groups import read_groups

    return read_groups(options.groups) if options.groups else None


def add_processes(command: argparse.ArgumentParser) -> None:
    command.add_argument("-np", metavar="N", type=positive, help="processes; default: nnU-Net's, at most all cores")


def add_kinds(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--kind",
        nargs="+",
        choices=(*KINDS, "all"),
        default=[INTERIOR_DISTANCE, LESION_IDS],
        help="default: %(default)s; a training writes what else it needs",
    )


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, but got {value}")
    return value


def positive_number(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a number above 0, but got {text}")
    return value


def number_from_zero(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, but got {text}")
    return value


def _number_below_one(text: str) -> float:
    value = number_from_zero(text)
    if value >= 1:
        raise argparse.ArgumentTypeError(f"expected a number below 1, but got {text}")
    return value


def chosen_kinds(options: argparse.Namespace) -> list[str]:
    return list(KINDS) if "all" in options.kind else options.kind
