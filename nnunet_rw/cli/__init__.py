"""``nnunet-rw <command>``: argument parsing, and what a command prints."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool

from nnunet_rw import __version__
from nnunet_rw.cli import audit, benchmark, data, evaluation, predictions, stability, trainers

_EPILOG = """\
a first training:
  eval "$(nnunet-rw env)"
  nnUNetv2_train DATASET CONFIGURATION FOLD -tr RWTrainer
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        0; 1 where `doctor` found a problem; 2 after an error of the user's, told in one line.
    """
    # What torch and nnU-Net mean for each other.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
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
    except BrokenProcessPool:
        print("nnunet-rw: a process died, most likely for want of memory; give a smaller -np", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"nnunet-rw: {_one_line(error)}", file=sys.stderr)
        return 2


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
    for group in (trainers, data, audit, stability, benchmark, evaluation, predictions):
        group.register(commands)
    return parser
