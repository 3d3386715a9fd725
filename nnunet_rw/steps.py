"""Run nnU-Net's commands one after the other, with progress on the terminal and all output in a log."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm


class CommandFailed(RuntimeError):
    """A command ended with an error; the message names its log and quotes the end of it."""


def run_command(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    title: str,
    pattern: str | None = None,
    total: int | None = None,
) -> None:
    """Run a command; lines of its output that match the pattern move a progress bar.

    Parameters
    ----------
    command : sequence of str
    log : path
        Gets all output.
    environment : mapping
        The whole environment of the command.
    title : str
        Before the bar.
    pattern : str, optional
        Regular expression, searched in every line.
    total : int, optional
        Matches that make the bar full.

    Raises
    ------
    CommandFailed
        The command returned an error, or is not installed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    tail: list[str] = []
    progress = tqdm(total=total, desc=title, unit="step" if pattern else "line", leave=True)
    with open(log, "w", encoding="utf-8") as file, progress:
        try:
            process = subprocess.Popen(
                command,
                env=dict(environment),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
        except FileNotFoundError as error:
            raise CommandFailed(f"{command[0]} is not installed. Run: pip install nnunetv2") from error
        with process:
            for line in process.stdout or ():
                file.write(line)
                file.flush()
                if line.strip():
                    tail = [*tail[-4:], line.strip()]
                if pattern is None or re.search(pattern, line):
                    progress.update()
    if process.returncode != 0:
        raise CommandFailed(f"{' '.join(command)} failed. Its output is in {log}; the end of it: {' | '.join(tail)}")
