"""Every part of the check in a process of its own, in order of importance, each result written as it comes.

    python -m benchmarks.on_gpu.measure OUTPUT [--data FOLDER] [--pretend]

A part has a time limit, and what fails or is late does not stop the next. With ``--pretend`` the same code runs on a
CPU, tiny, and tells nothing about a GPU. All results stay in OUTPUT; ``benchmarks/results`` is for those of a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.child import CHECKOUT
from benchmarks.harness import write_result

SECONDS = 450  # of all parts; with starting and copying, less than 8 minutes
# Of a part that is killed: what it had written stays.
_GRACE = 5


@dataclass(frozen=True)
class Part:
    """One result.

    Attributes
    ----------
    name : str
        Of its file.
    seconds : float
        It may take.
    function : str
        "module:function", called with ``device``, ``data``, ``pretend`` and a ``write`` for rows as they come.
    """

    name: str
    seconds: float
    function: str


PARTS = (
    Part("gpu_tests", 40, "benchmarks.on_gpu.parts:tests"),
    Part("gpu_agreement", 60, "benchmarks.on_gpu.parts:agreement"),
    Part("gpu_distance", 40, "benchmarks.on_gpu.parts:distance"),
    Part("gpu_losses", 20, "benchmarks.on_gpu.parts:losses_of_targets"),
    Part("gpu_every_loss", 25, "benchmarks.on_gpu.parts:every_loss"),
    Part("gpu_epochs", 260, "benchmarks.on_gpu.parts:epochs"),
    Part("gpu_training", 400, "benchmarks.on_gpu.parts:training"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.on_gpu.measure", description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--data", type=Path, help="the nnUNet_preprocessed of `prepare`")
    parser.add_argument("--parts", nargs="+", choices=[part.name for part in PARTS], help="default: all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of all parts together; default: %(default)s")
    parser.add_argument("--pretend", action="store_true", help="tiny, on the CPU")
    parser.add_argument("--only", help=argparse.SUPPRESS)  # one part, in this process
    options = parser.parse_args(arguments)
    output = options.output.resolve()
    if output.is_relative_to(CHECKOUT / "benchmarks" / "results") and options.pretend:
        parser.error(f"{output} is for what a GPU gave: give another folder")
    if options.only:
        run_here(next(part for part in PARTS if part.name == options.only), output, options.data, options.pretend)
        return 0
    output.mkdir(parents=True, exist_ok=True)
    deadline, failed = time.monotonic() + options.seconds, []
    for part in PARTS:
        if options.parts and part.name not in options.parts:
            continue
        seconds = min(part.seconds, deadline - time.monotonic())
        outcome = (
            run_apart(part, output, options.data, options.pretend, seconds) if seconds > _GRACE else "no time left"
        )
        print(f"{part.name}: {outcome}, {deadline - time.monotonic():.0f} s left", flush=True)
        failed += [part.name] if outcome != "done" else []
    return int(bool(failed))


def run_apart(part: Part, output: Path, data: Path | None, pretend: bool, seconds: float) -> str:
    """Run a part in a process of its own, with all that it starts, and stop it when its time is over."""
    command = [sys.executable, "-m", "benchmarks.on_gpu.measure", str(output), "--only", part.name]
    command += (["--data", str(data.resolve())] if data else []) + (["--pretend"] if pretend else [])
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (output / f"{part.name}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code = process.wait(max(1.0, seconds - _GRACE))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"stopped after {seconds:.0f} s"
    return "done" if code == 0 else f"failed with exit code {code}, see {part.name}.log"


def run_here(part: Part, output: Path, data: Path | None, pretend: bool) -> None:
    """Run a part, its rows written anew whenever one is added."""
    module, _, function = part.function.partition(":")
    rows: list[dict[str, Any]] = []

    def write(row: dict[str, Any]) -> None:
        rows.append(row)
        write_result(part.name, rows, output, pretend=pretend)
        print(json.dumps(row), flush=True)

    if not pretend:
        import torch

        if not torch.cuda.is_available():
            raise SystemExit("There is no GPU that torch can use: nothing was measured. Try the script with --pretend.")
    getattr(import_module(module), function)(
        device="cpu" if pretend else "cuda", data=data, pretend=pretend, write=write
    )


if __name__ == "__main__":
    sys.exit(main())
