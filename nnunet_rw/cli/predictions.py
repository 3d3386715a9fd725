"""Commands that make predictions of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_rw.cli.arguments import (
    add_command,
    add_groups,
    add_lesions,
    add_processes,
    add_trained_model,
    groups_of,
)
from nnunet_rw.util import advice

_ENSEMBLE = """\
Average predictions that hold probabilities (nnUNetv2_predict --save_probabilities):
  nnunet-rw ensemble -i PREDICTIONS PREDICTIONS [...] -o FOLDER [--weights FILE]
Learn the weights, and what is too small to keep, on validation cases (nnUNetv2_train --npz):
  nnunet-rw ensemble --fit -d DATASET -c CONFIGURATION -tr TRAINER TRAINER [...] -o FOLDER
"""
_THRESHOLD = """\
Choose, on validation cases (nnUNetv2_train --npz), the one that finds most within some false positives per case:
  nnunet-rw threshold --fit -d DATASET -c CONFIGURATION -tr TRAINER --like nnUNetTrainer -o FOLDER
Segment predictions with it (nnUNetv2_predict --save_probabilities):
  nnunet-rw threshold -i PREDICTIONS --chosen FOLDER/threshold.json -o SEGMENTATIONS
Try hysteresis and smallest volumes beside a single threshold, each tested on cases left out of its choice:
  nnunet-rw threshold --fit --rules -d DATASET -c CONFIGURATION -tr TRAINER --like nnUNetTrainer -o FOLDER
  nnunet-rw threshold -i PREDICTIONS --chosen FOLDER/rules.json -o SEGMENTATIONS
"""


def register(commands) -> None:  # type: ignore[no-untyped-def]
    """Add the commands to the parser."""
    command = add_command(
        commands, "ensemble", _ensemble, "average several trained models; learn their weights", _ENSEMBLE
    )
    command.add_argument("-i", metavar="PREDICTIONS", nargs="+", type=Path, default=[], help="folders, one per model")
    command.add_argument("-o", metavar="FOLDER", type=Path, required=True)
    command.add_argument("--weights", metavar="FILE", type=Path, help="weights.json of --fit; default: equal")
    command.add_argument("--min-component", metavar="MM3", type=float, help="remove less; default: by the weights")
    command.add_argument("--save-probabilities", action="store_true", help="write the averaged ones too")
    command.add_argument("--fit", action="store_true", help="learn weights, written to weights.json")
    add_trained_model(command, several=True)
    add_processes(command)

    command = add_command(
        commands, "threshold", _threshold, "segment with no more false positives than another trainer has", _THRESHOLD
    )
    command.add_argument("-o", metavar="FOLDER", type=Path, required=True)
    command.add_argument("--fit", action="store_true", help="choose; write threshold.json and thresholds.csv")
    add_trained_model(command)
    command.add_argument("--like", metavar="TRAINER", help="no more false positives than it has, in the same cases")
    command.add_argument("--false-positives", metavar="N", type=float, help="per case; instead of another trainer's")
    command.add_argument(
        "--margin",
        metavar="CONFIDENCE",
        type=float,
        help="such as 0.9: new cases keep within the false positives in so many of such choices; default: in half",
    )
    command.add_argument(
        "--rules",
        action="store_true",
        help="fit hysteresis and smallest volumes too; write rules.json and rules.csv",
    )
    command.add_argument("--aim", choices=("recall", "f1", "dice"), default="recall", help="of rules; default: recall")
    command.add_argument(
        "--matching", choices=("one_to_one", "any_overlap"), default="one_to_one", help="of rules; default: one_to_one"
    )
    add_lesions(command)
    add_groups(command)
    command.add_argument("-i", dest="predictions", metavar="PREDICTIONS", type=Path, help="folder, with probabilities")
    command.add_argument("--chosen", metavar="FILE", type=Path, help="threshold.json or rules.json of --fit")
    command.add_argument("--at", metavar="P", type=float, help="a threshold of your own instead")
    command.add_argument("--label", help="of several; default: the only one")
    add_processes(command)


def _ensemble(options: argparse.Namespace) -> None:
    from nnunet_rw.evaluation.sources import cross_validation_source
    from nnunet_rw.postprocessing.ensemble.average import ensemble_folders
    from nnunet_rw.postprocessing.ensemble.fit import fit_ensemble
    from nnunet_rw.postprocessing.ensemble.report import report_text, write_fit
    from nnunet_rw.postprocessing.ensemble.weights import read_weights

    if options.fit and options.d and len(options.tr) > 1 and not options.i:
        model = options.d, options.c
        sources = [cross_validation_source(*model, name, options.plans, options.f, True) for name in options.tr]
        report = fit_ensemble(sources, processes=options.np)
        write_fit(report, options.o)
        print(f"{report_text(report)}\n\n{options.o}")
    elif len(options.i) > 1 and not options.fit:
        weights = read_weights(options.weights) if options.weights else None
        written = ensemble_folders(
            options.i, options.o, weights, options.min_component, options.save_probabilities, options.np
        )
        print(f"{len(written)} cases in {options.o}")
    else:
        raise ValueError("Give either -i with two or more folders, or --fit with -d DATASET and -tr TRAINER TRAINER.")


def _threshold(options: argparse.Namespace) -> None:
    from nnunet_rw.evaluation.sources import cross_validation_source
    from nnunet_rw.postprocessing.threshold.apply import apply_rules, apply_threshold
    from nnunet_rw.postprocessing.threshold.fit import fit_threshold
    from nnunet_rw.postprocessing.threshold.report import Threshold, read_threshold, threshold_text, write_threshold
    from nnunet_rw.postprocessing.threshold.rule_report import holds_rules, read_rules

    of_a_fit = (options.d, options.tr, options.like, options.false_positives, options.margin, options.groups)
    of_use = (options.predictions, options.at, options.chosen)
    is_fit = options.fit and options.d and options.tr and of_use == (None, None, None)
    is_applied = options.predictions and not options.fit and not any(value is not None for value in of_a_fit)
    prices = [price for price in (options.like, options.false_positives) if price is not None]
    if is_fit and options.rules and options.margin is None and len(prices) < 2:
        _fit_rules(options)
    elif is_fit and not options.rules and len(prices) == 1:
        model, folds = (options.d, options.c), options.f
        source = cross_validation_source(*model, options.tr, options.plans, folds, probabilities=True)
        like = cross_validation_source(*model, options.like, options.plans, folds) if options.like else None
        fit = fit_threshold(
            source,
            like,
            options.false_positives,
            options.label,
            options.connectivity,
            options.min_volume,
            processes=options.np,
            margin=options.margin,
            groups=groups_of(options),
        )
        written = write_threshold(fit, options.o)
        print(threshold_text(fit), "", *written, sep="\n")
        if fit.threshold is not None:
            use = advice.command("threshold", predictions="PREDICTIONS", chosen=written[-1], output="SEGMENTATIONS")
            print(f"\nApply it: {use}")
    elif is_applied and (options.at is None) != (options.chosen is None) and not (options.chosen and options.label):
        if options.chosen and holds_rules(options.chosen):
            segmented = apply_rules(options.predictions, options.o, read_rules(options.chosen), options.np)
        else:
            chosen = read_threshold(options.chosen) if options.chosen else Threshold(options.label, options.at)
            segmented = apply_threshold(options.predictions, options.o, chosen.threshold, chosen.label, options.np)
        print(f"{len(segmented)} cases in {options.o}")
    else:
        raise ValueError(
            "Give either --fit with -d DATASET, -tr TRAINER and one of --like and --false-positives, or -i PREDICTIONS "
            "with one of --chosen and --at; a chosen one has its label. With --rules, --like and --false-positives may "
            "both be left out, and there is no --margin."
        )


def _fit_rules(options: argparse.Namespace) -> None:
    from nnunet_rw.datasets.folders import dataset_folder
    from nnunet_rw.evaluation.sources import cross_validation_source
    from nnunet_rw.postprocessing.threshold.rule_fit import fit_rules
    from nnunet_rw.postprocessing.threshold.rule_report import rules_text, write_rules

    model, folds = (options.d, options.c), options.f
    source = cross_validation_source(*model, options.tr, options.plans, folds, probabilities=True)
    like = cross_validation_source(*model, options.like, options.plans, folds) if options.like else None
    labels = [options.label] if options.label else [str(label) for label in source.labels.foreground]
    fits = [
        fit_rules(
            source,
            like,
            options.false_positives,
            label,
            options.aim,
            options.matching,
            options.connectivity,
            options.min_volume,
            processes=options.np,
            groups=groups_of(options),
        )
        for label in labels
    ]
    written = write_rules(fits, dataset_folder(options.d).name, options.o)
    print(*(rules_text(fit) for fit in fits), "", sep="\n\n", end="")
    print(*written, sep="\n")
    if len(written) > 1:
        use = advice.command("threshold", predictions="PREDICTIONS", chosen=written[-1], output="SEGMENTATIONS")
        print(f"\nApply it: {use}")
