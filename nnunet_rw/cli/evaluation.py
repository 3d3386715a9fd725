"""Commands that judge predictions."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_rw.cli.arguments import (
    add_command,
    add_groups,
    add_lesions,
    add_processes,
    add_scores,
    add_trained_model,
    groups_of,
    positive,
    refuse,
)
from nnunet_rw.evaluation.comparison.metrics import DEFAULT_METRICS, METRICS
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3

if TYPE_CHECKING:
    from nnunet_rw.evaluation.case import EvaluationSettings
    from nnunet_rw.evaluation.sources import Source

_TWO_WAYS = """\
Of two folders:
  nnunet-rw evaluate -p PREDICTIONS -g REFERENCES [-d DATASET | -djfile FILE]
Of the validation cases of a trained model, pooled over its folds:
  nnunet-rw evaluate -d DATASET -c CONFIGURATION -tr TRAINER [-f FOLD ...]
"""

_COMPARE = """\
Of folders that nnunet-rw evaluate wrote, the baseline first:
  nnunet-rw compare EVALUATION EVALUATION [EVALUATION ...]
Of trained models, which are evaluated where they have not been:
  nnunet-rw compare -d DATASET -c CONFIGURATION -tr TRAINER TRAINER [...] [-f FOLD ...]
"""


def register(commands) -> None:  # type: ignore[no-untyped-def]
    """Add the commands to the parser."""
    command = add_command(
        commands, "evaluate", _evaluate, "measure predictions, case by case and lesion by lesion", _TWO_WAYS
    )
    _add_source(command)
    command.add_argument("--probabilities", action="store_true", help="read the .npz files: scores, FROC, thresholds")
    _add_settings(command)
    add_groups(command)
    add_scores(command)
    command.add_argument("-o", metavar="FOLDER", type=Path, help="default: evaluation/ beside the predictions")

    command = add_command(
        commands, "overlay", _overlay, "show detected, missed and false lesions, for a viewer and as PNG"
    )
    _add_source(command)
    add_lesions(command)
    add_processes(command)
    command.add_argument("--worst", metavar="N", type=positive, default=6, help="cases drawn; default: %(default)s")
    command.add_argument("--no-nifti", action="store_true", help="figures only")
    command.add_argument("-o", metavar="FOLDER", type=Path, help="default: evaluation/ beside the predictions")

    command = add_command(
        commands, "compare", _compare, "tell whether a trainer is better than another, for which lesions", _COMPARE
    )
    command.add_argument("evaluations", metavar="EVALUATION", nargs="*", type=Path, help="folders, the baseline first")
    add_trained_model(command, several=True)
    _add_settings(command)
    add_scores(command)
    command.add_argument(
        "--probabilities", action="store_true", help="of trained models: compare at equal false positives too"
    )
    command.add_argument(
        "--also-connectivity",
        metavar="N",
        type=int,
        nargs="*",
        choices=(6, 18, 26),
        default=[6],
        help="of trained models: does the ranking hold with lesions so connected? default: %(default)s",
    )
    command.add_argument(
        "--baseline-seeds",
        metavar="EVALUATION",
        nargs="+",
        type=Path,
        default=[],
        help="of the baseline trained with other seeds: gains inside their spread are marked, every case is their mean",
    )
    command.add_argument(
        "--challenger-seeds",
        metavar="EVALUATION",
        nargs="+",
        type=Path,
        action="append",
        default=[],
        help="of a challenger trained with other seeds; once for each challenger, in their order",
    )
    add_groups(command)
    command.add_argument(
        "--metrics", metavar="METRIC", nargs="+", default=DEFAULT_METRICS, help=f"out of: {', '.join(METRICS)}"
    )
    command.add_argument(
        "--edges",
        metavar="MM3",
        nargs="+",
        type=float,
        default=DEFAULT_EDGES_MM3,
        help="of the size classes; default: " + " ".join(f"{edge:g}" for edge in DEFAULT_EDGES_MM3),
    )
    command.add_argument(
        "-o",
        metavar="FOLDER",
        type=Path,
        help="write CSV, JSON, Markdown and LaTeX as well, and missing evaluations below it, nothing elsewhere",
    )
    command.add_argument("--seed", type=int, default=0, help="of the bootstrap; default: %(default)s")


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-p", dest="predictions", metavar="PREDICTIONS", type=Path, help="folder; with -d and -tr the plans"
    )
    command.add_argument("-g", dest="references", metavar="REFERENCES", type=Path, help="folder")
    command.add_argument(
        "-djfile", metavar="FILE", type=Path, help="dataset.json; default: that beside the predictions"
    )
    add_trained_model(command, plans=["--plans"])
    command.add_argument("--images", metavar="FOLDER", type=Path, help="for volume x mean intensity")
    command.add_argument("--allow-missing", action="store_true", help="leave out cases without a prediction")


def _add_settings(command: argparse.ArgumentParser) -> None:
    add_lesions(command)
    command.add_argument("--tolerance", metavar="MM", type=float, default=1.0, help="of NSD; default: %(default)s")
    command.add_argument("--fast", action="store_true", help="no distances")
    add_processes(command)


def _settings(options: argparse.Namespace) -> EvaluationSettings:
    from nnunet_rw.evaluation.case import EvaluationSettings
    from nnunet_rw.evaluation.protocols import check_protocols

    scores = tuple(getattr(options, "scores", ()))
    check_protocols(scores)
    return EvaluationSettings(options.connectivity, options.min_volume, options.tolerance, options.fast, scores)


def _source(options: argparse.Namespace, probabilities: bool = False) -> Source:
    from nnunet_rw.datasets.folders import dataset_folder
    from nnunet_rw.evaluation.sources import cross_validation_source, folders_source

    predictions, plans = options.predictions, options.plans
    if options.d and options.tr and predictions and not options.references:
        # Beside a trainer -p is what it is to nnU-Net.
        refuse(options, ("plans",), "of a trained model (-d, -tr), whose plans -p names already.")
        predictions, plans = None, str(predictions)
    if predictions and options.references and not options.tr:
        refuse(options, ("c", "plans", "f"), "of a trained model (-d, -tr), not of folders (-p, -g).")
        dataset_json = options.djfile or (
            dataset_folder(options.d, "nnUNet_raw") / "dataset.json" if options.d else None
        )
        return folders_source(
            predictions,
            options.references,
            dataset_json,
            options.images,
            probabilities,
            options.allow_missing,
        )
    if options.d and options.tr and not (predictions or options.references):
        refuse(options, ("djfile",), "of folders (-p, -g); a trained model (-d, -tr) has its own.")
        return cross_validation_source(
            options.d,
            options.c,
            options.tr,
            plans,
            options.f,
            probabilities,
            options.allow_missing,
            options.images,
        )
    raise ValueError("Give either -p PREDICTIONS and -g REFERENCES, or -d DATASET and -tr TRAINER.")


def _evaluate(options: argparse.Namespace) -> None:
    from nnunet_rw.evaluation.evaluate import evaluation_text, write_evaluation
    from nnunet_rw.pictures.reliability import draw_reliability

    if options.djfile and options.references:
        refuse(options, ("d",), "its dataset.json, or another (-djfile); not both.")
    source = _source(options, options.probabilities)
    folder = options.o or source.folder
    groups = groups_of(options)
    summary = write_evaluation(source, _settings(options), folder, options.np, groups)
    draw_reliability(folder, summary)
    print(evaluation_text(summary))
    print(f"\n{folder}")


def _overlay(options: argparse.Namespace) -> None:
    from nnunet_rw.evaluation.case import EvaluationSettings
    from nnunet_rw.evaluation.sources import raw_images
    from nnunet_rw.pictures.gallery import overlay_evaluation

    if options.d and not options.images:
        options.images = raw_images(options.d)
    source = _source(options)
    folder = options.o or source.folder
    settings = EvaluationSettings(options.connectivity, options.min_volume)
    written = overlay_evaluation(source, settings, folder, options.worst, not options.no_nifti, options.np)
    print(*(path for path in written if path.suffix == ".png"), sep="\n")
    if not options.no_nifti:
        print(folder / "overlays")


def _evaluated(options: argparse.Namespace) -> tuple[list[Path], list[list[Path]]]:
    """The folders to compare, and those of another connectivity; those of trained models are brought up to date."""
    from nnunet_rw.evaluation.evaluate import ensure_evaluation
    from nnunet_rw.evaluation.sources import cross_validation_source

    if bool(options.evaluations) == bool(options.tr) or (options.tr and not options.d):
        raise ValueError("Give either folders of evaluations, or -d DATASET and -tr TRAINER TRAINER.")
    if options.evaluations:
        of_evaluating = (
            "scores",
            "probabilities",
            "also_connectivity",
            "connectivity",
            "min_volume",
            "tolerance",
            "fast",
        )
        why = "of models (-d, -tr); evaluations have been made with what they have."
        refuse(options, ("d", "c", "plans", "f", *of_evaluating), why)
        return options.evaluations, []
    twice = [trainer for trainer in options.tr if options.tr.count(trainer) > 1]
    if twice:
        raise ValueError(f"Expected every trainer once, but got {twice[0]} twice.")
    model, settings = (options.d, options.c), _settings(options)
    sources = [
        cross_validation_source(*model, trainer, options.plans, options.f, options.probabilities)
        for trainer in options.tr
    ]
    # With -o nothing is written elsewhere: results may be another's, or an archive.
    written = {source.name: options.o / "evaluations" / source.name if options.o else None for source in sources}
    folders = [ensure_evaluation(source, settings, options.np, otherwise=written[source.name]) for source in sources]
    # Ranks of lesions need neither distances nor probabilities.
    plain = [
        replace(source, cases=[replace(files, probabilities=None) for files in source.cases]) for source in sources
    ]
    others = []
    for connectivity in options.also_connectivity:
        if connectivity == settings.connectivity:
            continue
        other, name = replace(settings, connectivity=connectivity, fast=True, scores=()), f"connectivity_{connectivity}"
        others.append(
            [
                ensure_evaluation(source, other, options.np, source.folder / name, otherwise and otherwise / name)
                for source, otherwise in ((source, written[source.name]) for source in plain)
            ]
        )
    return folders, others


def _compare(options: argparse.Namespace) -> None:
    from nnunet_rw.evaluation.comparison.compare import check_request, compare_evaluations
    from nnunet_rw.evaluation.comparison.tables import terminal_text, write_comparison

    if options.evaluations or options.tr:
        trainers = len(options.evaluations or options.tr)
        check_request(trainers, len(options.challenger_seeds) or None, options.metrics, options.edges)
    groups = groups_of(options)
    folders, others = _evaluated(options)
    comparison = compare_evaluations(
        folders,
        options.baseline_seeds,
        options.metrics,
        options.edges,
        options.seed,
        otherwise_connected=others,
        challenger_seeds=options.challenger_seeds,
        groups=groups,
    )
    # Before anything is printed, which may go to a pipe that nobody reads to the end.
    written = write_comparison(comparison, options.o) if options.o else ()
    print(terminal_text(comparison))
    if written:
        print("", *written, sep="\n")
