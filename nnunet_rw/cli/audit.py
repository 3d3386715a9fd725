"""The commands that look before anyone trains: at a dataset, and at which losses train stably."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rw.cli.arguments import add_command, add_optimizer, add_processes, positive

_DESCRIPTION = """\
Count and measure the lesions of a dataset, tell which of them dominate a loss's gradient, and which trainer to try.

Raw labels are taken where there are any; preprocessed ones otherwise, or if -c or -p is given.
"""


def register(commands) -> None:  # type: ignore[no-untyped-def]
    """Add the commands to the parser."""
    command = add_command(
        commands, "audit", _audit, "look at a dataset's lesions, and recommend a trainer", _DESCRIPTION
    )
    command.add_argument("-d", metavar="DATASET", required=True, help="id or name")
    command.add_argument("-c", metavar="CONFIGURATION", help="of preprocessed data")
    command.add_argument("-p", metavar="PLANS", help="of preprocessed data; default: nnUNetPlans")
    command.add_argument(
        *("-o", "--output"),
        metavar="PATH",
        type=Path,
        help="a folder, or a .png, .pdf or .svg alone; default: audit_<dataset> here",
    )
    command.add_argument("--max-cases", type=positive, metavar="N", help="look at N cases, evenly chosen")
    add_processes(command)

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
    add_optimizer(command, "sgd", 0.01)


def _audit(options: argparse.Namespace) -> None:
    from nnunet_rw.audit.audit import audit_dataset
    from nnunet_rw.audit.report import audit_text, draw_audit, write_audit
    from nnunet_rw.audit.sources import open_labels
    from nnunet_rw.benchmark.preparing import present_splits

    audit = audit_dataset(
        open_labels(options.d, options.c, options.p, options.max_cases), options.np, present_splits(options.d)
    )
    output = options.output or Path(f"audit_{audit.dataset}")
    picture_alone = output.suffix.lower() in (".png", ".pdf", ".svg")
    picture = output if picture_alone else output / "audit.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_audit(audit, picture)
    written = [picture] if picture_alone else [picture, *write_audit(audit, output)]
    print(f"{audit_text(audit)}\n")
    print(*written, sep="\n")


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
        adam_betas=tuple(options.adam_betas),
    )
    print(run_stability(settings))
