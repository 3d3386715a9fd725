"""``nnunet-rw <command>``: argument parsing, and what a command prints."""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from nnunet_rw import __version__

# With it an error is shown with all that led to it.
TRACEBACK_VARIABLE = "NNUNET_RW_TRACEBACK"
# What to do where the file system refuses.
_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "Free space, and run the same command again."),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Make it writable, or choose another place."),
}
# The modules of the commands. Some take seconds to import: a shell that starts with `nnunet-rw env` waits for none.
_GROUPS = {
    "trainers": ("env", "trainers", "new-trainer", "export"),
    "data": ("doctor", "preprocess", "maps", "splits", "show", "msd", "synthesize", "small-plans"),
    "audit": ("audit", "stability"),
    "benchmark": ("demo", "benchmark", "report"),
    "evaluation": ("evaluate", "overlay", "compare"),
    "predictions": ("ensemble", "threshold"),
}
# What these have finished stays, and is not done again.
_RESUMING = ("maps", "preprocess", "msd", "benchmark", "demo", "stability")
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
        0; 1 where `doctor` found a problem; 2 after a user's error, told in one line.
    """
    # What torch and nnU-Net mean for each other.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
    try:
        # Imports within: they take seconds, in which a user may think better of it.
        return _run(arguments)
    except KeyboardInterrupt as interrupt:
        print(f"nnunet-rw: interrupted{interrupt}", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        print(f"nnunet-rw: {' '.join(_told(error).split())}", file=sys.stderr)
        return 2


def _run(arguments: Sequence[str] | None) -> int:
    given = sys.argv[1:] if arguments is None else arguments
    parser = argument_parser(given[0] if given else None)
    options, rest = parser.parse_known_args(arguments)
    if rest and options.command != "preprocess":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        return options.run(options) or 0
    except KeyboardInterrupt as interrupt:
        if options.command in _RESUMING:
            raise KeyboardInterrupt("; the same command resumes where it stopped") from interrupt
        raise


def _told(error: Exception) -> str:
    """What happened and what to do, for the user."""
    from concurrent.futures.process import BrokenProcessPool

    if isinstance(error, BrokenProcessPool):
        return "a process died, most likely for want of memory; give a smaller -np"
    if isinstance(error, OSError) and error.strerror:
        # Of a renaming the second: the first is a temporary name.
        name = error.filename2 or error.filename
        file = f"{name}: " if name else ""
        advice = _ADVICE.get(error.errno or 0, "") if file else ""
        return f"{file}{error.strerror}{f'. {advice}' if advice else ''}"
    if isinstance(error, (ValueError, OSError, ImportError, ArithmeticError)):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"unexpected {type(error).__name__}: {error} ({place.filename}, line {place.lineno}). Please report it, with "
        f"what the same command shows after: export {TRACEBACK_VARIABLE}=1"
    )


def argument_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Of all commands, or of those that are defined beside one."""
    parser = argparse.ArgumentParser(
        prog="nnunet-rw",
        description="Losses for nnU-Net that see where a voxel lies and how large its lesion is.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nnunet-rw {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    beside = [group for group, names in _GROUPS.items() if command in names]
    for group in beside or _GROUPS:
        importlib.import_module(f"{__name__}.{group}").register(commands)
    return parser
