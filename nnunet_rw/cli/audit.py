"""The command that looks at a dataset before anyone trains."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rw.cli.arguments import add_command, positive

_DESCRIPTION = """\
Count and measure the lesions of a dataset, tell which of them dominate a loss's gradient, and which trainer to try.

Raw labels are taken where there are any; preprocessed ones otherwise, or if -c or -p is given.
"""


def register(commands) -> None:  # type: ignore[no-untyped-def]
    """Add the command to the parser."""
    command = add_command(commands, "audit", _audit, "look at a dataset's lesions, and recommend a trainer")
    command.description = _DESCRIPTION
    command.formatter_class = argparse.RawDescriptionHelpFormatter
    command.add_argument("-d", metavar="DATASET", required=True, help="id or name")
    command.add_argument("-c", metavar="CONFIGURATION", help="of preprocessed data")
    command.add_argument("-p", metavar="PLANS", help="of preprocessed data; default: nnUNetPlans")
    command.add_argument(
        "-o", "--output", metavar="PATH", type=Path, help="a folder, or a .png alone; default: audit_<dataset> here"
    )
    command.add_argument("--max-cases", type=positive, metavar="N", help="look at N cases, evenly chosen")
    command.add_argument("-np", metavar="N", type=positive, help="processes; default: nnU-Net's, at most all cores")


def _audit(options: argparse.Namespace) -> None:
    from nnunet_rw.audit.audit import audit_dataset
    from nnunet_rw.audit.report import audit_text, draw_audit, write_audit
    from nnunet_rw.audit.sources import open_labels
    from nnunet_rw.benchmark.preparing import present_splits

    audit = audit_dataset(
        open_labels(options.d, options.c, options.p, options.max_cases), options.np, present_splits(options.d)
    )
    output = options.output or Path(f"audit_{audit.dataset}")
    picture_alone = output.suffix.lower() == ".png"
    picture = output if picture_alone else output / "audit.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    draw_audit(audit, picture)
    written = [picture] if picture_alone else [picture, *write_audit(audit, output)]
    print(f"{audit_text(audit)}\n")
    print(*written, sep="\n")
