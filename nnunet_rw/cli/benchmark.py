"""The demo, the benchmark and its report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnunet_rw.cli.arguments import add_command, add_groups, add_scores, positive, refuse

if TYPE_CHECKING:
    from nnunet_rw.benchmark.run import Benchmark
    from nnunet_rw.benchmark.specification import Specification

_BENCHMARK = """\
Train, validate, evaluate and compare trainers over tasks, folds and seeds; the end is a report.

  nnunet-rw benchmark --tasks Task04_Hippocampus --trainers nnUNetTrainer RWTrainer -o my_benchmark
  nnunet-rw benchmark my_benchmark.yaml -o my_benchmark
  nnunet-rw benchmark -o my_benchmark            resumes: does what is missing
  nnunet-rw benchmark status -o my_benchmark     how far it is

Tasks, trainers and all other settings are kept in FOLDER/benchmark.yaml. The first trainer is the baseline.
"""
# Options by the keys of the specification; None was not given.
_KEYS = ("tasks", "trainers", "configuration", "folds", "seeds", "epochs", "iterations", "plans", "device", "num_gpus")


def register(commands) -> None:  # type: ignore[no-untyped-def]
    """Add the commands to the parser."""
    command = add_command(commands, "demo", _demo, "dataset, training and comparison, in minutes on a CPU")
    command.add_argument("-o", metavar="FOLDER", type=Path, default=Path("demo_output"), help="default: %(default)s")
    command.add_argument("--msd", metavar="FOLDER", type=Path, help="a real dataset in MSD layout")
    command.add_argument(
        "--trainers", nargs="+", default=["nnUNetTrainer", "RWTrainer_SmallLesions"], metavar="TRAINER"
    )
    command.add_argument("--epochs", type=positive, default=6, help="default: %(default)s")
    command.add_argument("--iterations", type=positive, default=50, help="per epoch; default: %(default)s")
    command.add_argument("--device", choices=("cpu", "cuda"), default="cpu")

    command = add_command(
        commands, "benchmark", _benchmark, "trainers x tasks x folds x seeds, to a report", _BENCHMARK
    )
    command.add_argument("what", nargs="?", metavar="FILE.yaml | status", help="a specification, or the word status")
    command.add_argument("-o", metavar="FOLDER", type=Path, default=Path("benchmark"), help="default: %(default)s")
    command.add_argument("--tasks", nargs="+", metavar="TASK", help="Decathlon name, MSD folder or Dataset004_Name")
    command.add_argument("--trainers", nargs="+", metavar="TRAINER", help="the baseline first")
    command.add_argument("-c", dest="configuration", metavar="CONFIGURATION", help="default: 3d_fullres")
    command.add_argument("-f", dest="folds", nargs="+", type=int, metavar="FOLD", help="default: 0 1 2 3 4")
    command.add_argument("--seeds", type=positive, metavar="N", help="trainings of each fold; default: 1")
    command.add_argument("--epochs", type=positive, metavar="N", help="default: the trainer's")
    command.add_argument(
        "--iterations", type=positive, metavar="N", help="per epoch, with --epochs; default: the trainer's"
    )
    command.add_argument("--plans", metavar="PLANS", help="or small, for a CPU; default: nnUNetPlans")
    command.add_argument("--device", choices=("cpu", "cuda", "mps"), help="default: cuda")
    command.add_argument("-num_gpus", type=positive, metavar="N", help="of one training; default: 1")
    command.add_argument("--no-froc", action="store_true", help="write no probabilities, which take much space")
    command.add_argument(
        "--no-tta", action="store_true", help="validate without mirroring: an eighth of the time, and a little worse"
    )
    add_scores(command)
    add_groups(command)
    command.add_argument("--executor", choices=("local", "slurm"), help="default: local")
    command.add_argument("--jobs", type=positive, metavar="N", help="at a time on this machine; default: 1")
    slurm = command.add_argument_group("with --executor slurm")
    slurm.add_argument("--partition", metavar="NAME")
    slurm.add_argument("--time", dest="minutes", type=positive, metavar="MINUTES", help="of a job; default: 1440")
    slurm.add_argument("--gpus", type=int, metavar="N", help="of a training; default: 1")
    slurm.add_argument("--cpus", type=positive, metavar="N", help="of a job; default: 8")
    slurm.add_argument("--memory", dest="memory_gb", type=positive, metavar="GB", help="of a job")
    slurm.add_argument("--array-size", type=positive, metavar="N", help="jobs at a time; default: 16")
    command.add_argument("--dry-run", action="store_true", help="list the jobs, and do nothing")
    command.add_argument("--once", action="store_true", help="status: print it once")

    command = add_command(commands, "report", _report, "write the report of a benchmark")
    command.add_argument("folder", metavar="FOLDER", type=Path, help="of the benchmark")
    command.add_argument(
        "--format", nargs="+", choices=("html", "md", "latex", "csv"), default=["html"], help="default: html"
    )
    command.add_argument(
        "-o", metavar="PATH", type=Path, help="a page.html or a folder; default: report.html, or report/, in FOLDER"
    )
    command.add_argument("--show-case-ids", action="store_true", help="name cases, which may identify patients")
    command.add_argument(
        "--allow-fewer", action="store_true", help="replace a report even if it has results that are not there now"
    )
    add_groups(command)


def _benchmark(options: argparse.Namespace) -> int:
    from nnunet_rw.benchmark.run import Benchmark

    if options.what == "status":
        from nnunet_rw.benchmark.status import show_status

        refuse(
            options, sorted(vars(options).keys() - {"what", "o", "once"}), "of a benchmark that is run, not of status."
        )
        show_status(Benchmark(options.o), watch=not options.once)
        return 0
    refuse(options, ["once"], "of benchmark status.")
    benchmark = Benchmark(options.o, _specification(options))
    _refuse_of_other_executors(options, benchmark.specification)
    if options.dry_run:
        _list_jobs(benchmark)
        return 0
    return _run(benchmark)


_SLURM_KEYS = ("partition", "minutes", "gpus", "cpus", "memory_gb", "array_size")


def _refuse_of_other_executors(options: argparse.Namespace, specification: Specification) -> None:
    """Options of Slurm alone would leave the trainings on the login node."""
    if specification.execution.executor == "slurm":
        refuse(options, ["jobs"], "of --executor local; jobs of Slurm at a time are --array-size.")
    else:
        refuse(options, _SLURM_KEYS, "of --executor slurm.")


def _demo(options: argparse.Namespace) -> int:
    from nnunet_rw.benchmark.demo import demo_benchmark, demo_table

    benchmark = demo_benchmark(
        options.o.resolve(),
        options.msd.absolute() if options.msd else None,
        tuple(options.trainers),
        options.epochs,
        options.iterations,
        options.device,
    )
    code = _run(benchmark)
    print(f"\n{demo_table(benchmark)}")
    return code


def _run(benchmark: Benchmark) -> int:
    """Run it, and tell what failed and where the report is."""
    from nnunet_rw.benchmark.status import LiveStatus

    with LiveStatus(benchmark) as status:
        failures = benchmark.run(status.report, status.look)
    for failure in failures:
        print(f"nnunet-rw: {failure.job}: {failure.reason}", file=sys.stderr)
        for line in failure.log_tail:
            print(f"    {line}", file=sys.stderr)
    if failures:
        print("nnunet-rw: the same command tries again what failed and does what is missing", file=sys.stderr)
    print(benchmark.workspace.folder / "report.html")
    return 2 if failures else 0


def _specification(options: argparse.Namespace) -> Specification | None:
    """Of the file or of the options; None where neither is given, so that the kept one is resumed."""
    from nnunet_rw.benchmark.specification import read_specification, specification_of

    given = {key: getattr(options, key) for key in _KEYS if getattr(options, key) is not None}
    execution: dict[str, Any] = {
        key: getattr(options, key) for key in ("executor", "jobs") if getattr(options, key) is not None
    }
    slurm = {key: getattr(options, key) for key in _SLURM_KEYS if getattr(options, key) is not None}
    if slurm:
        execution["slurm"] = slurm
    if execution:
        given["execution"] = execution
    if options.groups:
        given["groups"] = str(options.groups)
    evaluation: dict[str, Any] = {key: False for key in ("froc", "tta") if getattr(options, f"no_{key}")}
    if options.scores:
        evaluation["scores"] = options.scores
    if evaluation:
        given["evaluation"] = evaluation
    kept = options.o / "benchmark.yaml"
    path = Path(options.what) if options.what else kept if kept.is_file() else None
    if path is None:
        if not given:
            raise ValueError(f"No benchmark in {options.o}. Give --tasks and --trainers, or a YAML file.")
        return specification_of(given, "benchmark")
    # What is given on the command line goes before what the file says.
    merged = _merged(read_specification(path).model_dump(), given)
    # Not what it says of trainers and tasks that are now left out, nor its exceptions from the number of seeds.
    names = {Path(task).name for task in merged["tasks"]}
    merged["splits"] = {task: splits for task, splits in merged["splits"].items() if task in names}
    seeds_of = merged["seeds_of"] if options.seeds is None else {}
    merged["seeds_of"] = {name: seeds for name, seeds in seeds_of.items() if name in merged["trainers"]}
    return specification_of(merged, "benchmark")


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {
        **values,
        **{
            key: _merged(values[key], change) if isinstance(change, dict) else change for key, change in changes.items()
        },
    }


def _list_jobs(benchmark: Benchmark) -> None:
    done = 0
    for job in benchmark.jobs:
        is_done = benchmark.is_done(job)
        done += is_done
        print(f"{'done   ' if is_done else 'to do  '} {job.name}")
    print(f"{len(benchmark.jobs)} jobs, {done} done")


def _report(options: argparse.Namespace) -> None:
    from nnunet_rw.benchmark.report.report import write_reports

    written = write_reports(
        options.folder, options.format, options.o, options.show_case_ids, options.allow_fewer, options.groups
    )
    print(*written, sep="\n")
