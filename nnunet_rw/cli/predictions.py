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
    refuse,
)
from nnunet_rw.util import advice

_ENSEMBLE = """\
Average predictions that hold probabilities (nnUNetv2_predict --save_probabilities):
  nnunet-rw ensemble -i PREDICTIONS PREDICTIONS [...] -o FOLDER [--weights FILE]
Learn the weights, and what is too small to keep, on validation cases (nnUNetv2_train --npz):
  nnunet-rw ensemble --fit -d DATASET -c CONFIGURATION -tr TRAINER TRAINER [...] -o FOLDER
"""
_THRESHOLD = """\
Choose a rule for each class on validation cases (nnUNetv2_train --npz): a threshold, hysteresis, each also with a
smallest volume. It has most of what is asked for, within some false positives per case and with no less Dice:
  nnunet-rw threshold --fit -d DATASET -c CONFIGURATION -tr TRAINER --like nnUNetTrainer -o FOLDER
Segment predictions by it (nnUNetv2_predict --save_probabilities):
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
    add_groups(command)
    add_processes(command)

    command = add_command(
        commands, "threshold", _threshold, "segment with no more false positives than another trainer has", _THRESHOLD
    )
    command.add_argument("-o", metavar="FOLDER", type=Path, required=True)
    command.add_argument("--fit", action="store_true", help="choose; write rules.json, rules.csv and thresholds.csv")
    add_trained_model(command)
    command.add_argument(
        "--like", metavar="TRAINER", help="no more false positives and no less Dice than it has; default: itself"
    )
    command.add_argument("--false-positives", metavar="N", type=float, help="per case; instead of the compared ones")
    command.add_argument("--any-dice", action="store_true", help="also rules whose Dice is below the compared one")
    command.add_argument("--aim", choices=("recall", "f1", "dice"), default="recall", help="default: recall of lesions")
    command.add_argument(
        "--family",
        choices=("single", "single_volume", "hysteresis", "hysteresis_volume"),
        help="of rules; default: the simplest, unless a richer one is better in cases left out by more than chance",
    )
    command.add_argument(
        "--margin",
        metavar="CONFIDENCE",
        type=float,
        help="such as 0.9: new cases keep within the false positives in so many of such choices; default: in half",
    )
    command.add_argument(
        "--matching", choices=("one_to_one", "any_overlap"), default="one_to_one", help="default: one_to_one"
    )
    add_lesions(command)
    command.set_defaults(connectivity=None)
    add_groups(command)
    command.add_argument("-i", dest="predictions", metavar="PREDICTIONS", type=Path, help="folder, with probabilities")
    command.add_argument("--chosen", metavar="FILE", type=Path, help="rules.json of --fit")
    command.add_argument("--at", metavar="P", type=float, help="a threshold of your own instead")
    command.add_argument("--label", help="default: of --fit every one, of --at the only one")
    add_processes(command)


def _ensemble(options: argparse.Namespace) -> None:
    from nnunet_rw.evaluation.sources import cross_validation_source
    from nnunet_rw.postprocessing.ensemble.average import ensemble_folders
    from nnunet_rw.postprocessing.ensemble.fit import fit_ensemble
    from nnunet_rw.postprocessing.ensemble.report import report_text, write_fit
    from nnunet_rw.postprocessing.ensemble.weights import read_weights

    if options.fit and options.d and len(options.tr) > 1 and not options.i:
        refuse(options, ("weights", "min_component", "save_probabilities"), "of predictions (-i), not of --fit.")
        model = options.d, options.c
        sources = [cross_validation_source(*model, name, options.plans, options.f, True) for name in options.tr]
        report = fit_ensemble(sources, processes=options.np, groups=groups_of(options))
        write_fit(report, options.o)
        print(f"{report_text(report)}\n\n{options.o}")
    elif len(options.i) > 1 and not options.fit:
        refuse(options, ("d", "c", "tr", "plans", "f", "groups"), "of --fit, not of predictions (-i).")
        weights = read_weights(options.weights) if options.weights else None
        if weights:
            for folder, of_model in zip(options.i, weights.order(options.i), strict=True):
                print(f"{folder}: weights of {of_model}")
        written = ensemble_folders(
            options.i, options.o, weights, options.min_component, options.save_probabilities, options.np
        )
        print(f"{len(written)} cases in {options.o}")
    else:
        raise ValueError("Give either -i with two or more folders, or --fit with -d DATASET and -tr TRAINER TRAINER.")


def _threshold(options: argparse.Namespace) -> None:
    from nnunet_rw.postprocessing.threshold.apply import apply_rules, threshold_rules
    from nnunet_rw.postprocessing.threshold.report import read_rules

    of_a_fit = (options.d, options.tr, options.like, options.false_positives, options.margin, options.groups)
    of_use = (options.predictions, options.at, options.chosen)
    if options.fit and options.d and options.tr and of_use == (None, None, None):
        _fit_rules(options)
    elif (
        options.predictions
        and not options.fit
        and all(value is None for value in (*of_a_fit, options.family))
        and (options.at is None) != (options.chosen is None)
        and not (options.chosen and options.label)
    ):
        of_choosing = ("c", "plans", "f", "aim", "any_dice", "matching", "min_volume")
        refuse(options, of_choosing, "of --fit; rules for predictions (-i) are chosen already.")
        chosen = read_rules(options.chosen) if options.chosen else threshold_rules(options.at, options.label)
        if options.chosen and options.connectivity not in (None, chosen.connectivity):
            raise ValueError(
                f"Expected rules for {options.connectivity}-connected lesions, but those of {options.chosen} were "
                f"fitted for {chosen.connectivity}-connected ones. Leave --connectivity out, or fit again with it."
            )
        segmented = apply_rules(options.predictions, options.o, chosen, options.np)
        print(f"{len(segmented)} cases in {options.o}")
    else:
        raise ValueError(
            "Give either --fit with -d DATASET and -tr TRAINER, or -i PREDICTIONS with one of --chosen and --at; a "
            "chosen rule has its label."
        )


def _fit_rules(options: argparse.Namespace) -> None:
    from nnunet_rw.datasets.folders import dataset_folder
    from nnunet_rw.evaluation.metrics.rules import FAMILIES
    from nnunet_rw.evaluation.sources import cross_validation_source
    from nnunet_rw.postprocessing.threshold.apply import judged_together
    from nnunet_rw.postprocessing.threshold.fit import NoLesions, fit_rules
    from nnunet_rw.postprocessing.threshold.report import FittedModel, rules_text, write_rules

    model, folds = (options.d, options.c), options.f
    source = cross_validation_source(*model, options.tr, options.plans, folds, probabilities=True)
    like = cross_validation_source(*model, options.like, options.plans, folds) if options.like else None
    labels = [options.label] if options.label else [str(label) for label in source.labels.foreground]
    fits, without = [], []
    for label in labels:
        try:
            fit = fit_rules(
                source,
                like,
                options.false_positives,
                label,
                aim=options.aim,
                families=(options.family,) if options.family else tuple(FAMILIES),
                margin=options.margin,
                matching=options.matching,
                keeps_dice=not options.any_dice,
                connectivity=options.connectivity or 26,
                min_volume_mm3=options.min_volume,
                processes=options.np,
                groups=groups_of(options),
            )
        except NoLesions as error:
            without.append(str(error))
        else:
            fits.append(fit)
    if not fits:
        raise ValueError(" ".join(without))
    fits = judged_together(source, fits, options.np)
    fitted_on = FittedModel(dataset_folder(options.d).name, options.tr, options.plans, options.c)
    written = write_rules(fits, fitted_on, options.o)
    print(rules_text(fits), *without, "", *written, sep="\n")
    if len(written) > 2:
        use = advice.command("threshold", predictions="PREDICTIONS", chosen=written[-1], output="SEGMENTATIONS")
        print(f"\nApply it: {use}")
