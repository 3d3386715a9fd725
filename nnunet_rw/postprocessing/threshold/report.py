"""Fitted rules as files and for the terminal, and the file read back to be applied."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_rw.evaluation.comparison.groups import PART
from nnunet_rw.evaluation.comparison.rule_choice import FamilyFit, Figures
from nnunet_rw.evaluation.comparison.statistics import MIN_UNITS, Interval
from nnunet_rw.evaluation.metrics.detection import DEFAULT_EDGES_MM3
from nnunet_rw.evaluation.metrics.lesions import in_size
from nnunet_rw.evaluation.metrics.rules import DecisionRule
from nnunet_rw.evaluation.tables import write_operating_points
from nnunet_rw.postprocessing.threshold.fit import RuleFit
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.readers import read_json, told
from nnunet_rw.util.tables import csv_text, json_value, rounded, signed_interval, text_table

_ENDS = ("excess", "recall", "dice")
_COLUMNS = (
    *("label", "segmentation", "low", "high", "min_volume_mm3", *Figures._fields),
    *("recall_difference", "dice_difference", *(f"{name}_{end}" for name in _ENDS for end in ("low", "high"))),
    "rules_in_folds",
)
FAMILY_NAMES = {
    "single": "single threshold",
    "single_volume": "single threshold + minimum volume",
    "hysteresis": "hysteresis",
    "hysteresis_volume": "hysteresis + minimum volume",
}
TOGETHER = "all rules together"
_AIMS = {"recall": "recall", "f1": "lesion F1", "dice": "Dice"}


@dataclass(frozen=True)
class FittedModel:
    """What rules were fitted on; an empty name stands for any."""

    dataset: str = ""
    trainer: str = ""
    plans: str = ""
    configuration: str = ""


@dataclass(frozen=True)
class ChosenRules:
    """Rules to apply to new predictions.

    Attributes
    ----------
    fitted_on : FittedModel
    connectivity : int
    rules : dict of str to DecisionRule
        By label; "" stands for the only one.
    """

    fitted_on: FittedModel
    connectivity: int
    rules: dict[str, DecisionRule]


def write_rules(fits: Sequence[RuleFit], model: FittedModel, folder: str | Path) -> list[Path]:
    """Write thresholds.csv, rules.csv and rules.json; return their paths.

    thresholds.csv tells what is found, by any overlap, at every single threshold, rules.csv what each family does in
    cases left out and, of several labels, all rules together; rules.json holds the rules to apply. A label of which no
    rule keeps the conditions is not in rules.json; without any, the file is not written and an earlier one removed.
    """
    folder = Path(folder)
    paths = [folder / name for name in ("thresholds.csv", "rules.csv", "rules.json")]
    paths[2].unlink(missing_ok=True)
    write_operating_points(paths[0], {fit.label: fit.points for fit in fits})
    rows = ([row.get(column) for column in _COLUMNS] for fit in fits for row in _rows(fit))
    write_atomically(paths[1], csv_text(_COLUMNS, rows).encode())
    chosen = {fit.label: fit for fit in fits if fit.choice.best is not None}
    if not chosen:
        return paths[:2]
    write_atomically(paths[2], (json.dumps(_content(chosen, model), indent=2) + "\n").encode())
    return paths


def _content(chosen: dict[str, RuleFit], model: FittedModel) -> dict[str, Any]:
    first = next(iter(chosen.values()))
    best = {label: fit.choice.best for label, fit in chosen.items()}
    together = {
        label: json_value(_numbers(fit.together_figures))
        for label, fit in chosen.items()
        if fit.together_figures is not None
    }
    return {
        **asdict(model),
        "baseline": first.baseline,
        "aim": first.aim,
        "margin": first.margin,
        "settings": first.settings,
        "rules": {label: found.rule._asdict() for label, found in best.items() if found and found.rule},
        "families": {label: found.family for label, found in best.items() if found},
        "conditions": {
            label: json_value({"false_positives_per_case": fit.false_positives, "least_dice": fit.least_dice})
            for label, fit in chosen.items()
        },
        "left_out": {
            label: {
                **json_value(_numbers(found.figures)),
                **{f"{name}_interval": _ends(getattr(found, name)) for name in ("false_positives", *_ENDS)},
            }
            for label, found in best.items()
            if found
        },
        **({"together": together} if together else {}),
        "rules_without": {
            label: {fold: rule._asdict() for fold, rule in found.rules_without.items()}
            for label, found in best.items()
            if found
        },
        "baseline_figures": {label: json_value(_numbers(fit.baseline_figures)) for label, fit in chosen.items()},
    }


def read_rules(path: str | Path) -> ChosenRules:
    """From the file that ``nnunet-rw threshold --fit`` wrote; also a threshold.json of earlier versions.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFile
        It holds no rules.
    """
    path = Path(path)
    options = {"dataset": "DATASET", "configuration": "CONFIGURATION", "trainer": "TRAINER", "like": "TRAINER"}
    what_to_do = f"Run: {command('threshold', fit=True, **options, output=path.parent)}"
    content = read_json(path, what_to_do, fault="holds no rules")
    with told(path, what_to_do, "holds no rules"):
        if "threshold" in content:  # of a single label, and of any model
            label, at = content["label"], content["threshold"]
            rule = {"low": at, "high": at, "min_volume_mm3": 0}
            return ChosenRules(FittedModel(), 26, {str(label): _as_rule(rule)})
        rules = {str(label): _as_rule(rule) for label, rule in content["rules"].items()}
        names = {name: str(content.get(name, "")) for name in ("trainer", "plans", "configuration")}
        connectivity = int(content["settings"]["connectivity"])
        if not rules or connectivity not in (6, 18, 26):
            raise ValueError("Expected a rule, and lesions that are 6-, 18- or 26-connected.")
        return ChosenRules(FittedModel(str(content["dataset"]), **names), connectivity, rules)


def _as_rule(rule: dict[str, Any]) -> DecisionRule:
    numbers = DecisionRule(**{name: float(value) for name, value in rule.items()})
    if not (0 <= numbers.low <= numbers.high < 1 and 0 <= numbers.min_volume_mm3 < math.inf):
        raise ValueError(f"Expected thresholds from 0 to below 1 and a volume from 0, but got {rule}.")
    return numbers


def rules_text(fits: Sequence[RuleFit]) -> str:
    """For each label the families beside the baseline in cases left out, their differences, and the chosen rule."""
    first = fits[0]
    legend = _LEGEND.format(
        expect="" if any(fit.together for fit in fits) else "; expect this of new cases",
        matching="one to one" if first.matching == "one_to_one" else "by any overlap",
        resampled=first.resampled,
        unit=first.size_unit,
        few=MIN_UNITS,
        kept=f"About {100 * first.margin:g} % or more" if first.margin else "About half",
        more="" if first.margin else "; with --margin 0.9 nine of ten do",
    )
    if any(fit.together for fit in fits):
        legend = f"{legend}\n{_TOGETHER_LEGEND}"
    return "\n\n".join([*map(_label_text, fits), legend, *first.notes])


def _label_text(fit: RuleFit) -> str:
    lesions, folds = int(fit.num_lesions.sum()), len({case.fold for case in fit.cases})
    name = "random parts" if fit.cases[0].fold.startswith(PART) else "folds"
    price = f"{fit.false_positives:.2f} false positives per case"
    dice = "" if math.isnan(fit.least_dice) else f" and a Dice of at least {_least_dice(fit)}"
    source = f" ({fit.baseline})" if dice or fit.false_positives == fit.baseline_figures[0] else ""
    sizes = _sizes(fit)
    parts = [
        f"{fit.model}, {fit.label_text}: {len(fit.cases)} cases in {folds} {name}, {lesions} lesions; at "
        f"most {price}{dice}{source}",
        text_table(
            ("in cases left out", "false positives per case", "recall", *sizes, "lesion F1", "Dice"),
            [
                _figure_row(fit.baseline, fit.baseline_figures, [case.baseline.found for case in fit.cases], sizes),
                *(
                    _figure_row(FAMILY_NAMES[family.family], family.figures, _found(fit, family), sizes)
                    for family in fit.choice.families
                ),
                *_together_row(fit, sizes),
            ],
        ),
        text_table(
            (
                *("difference", "to false positives allowed", "to baseline's recall", "to its Dice"),
                *(f"to first row's {_AIMS[fit.aim]}", "rule", "rules in folds"),
            ),
            [_difference_row(fit, family, folds) for family in fit.choice.families],
        ),
        _choice(fit),
    ]
    return "\n\n".join(parts)


_LEGEND = """\
Cases left out: each is segmented by the rule that was chosen without its fold{expect}. Lesions are
matched {matching}, recall also by size in {unit}. Brackets: 95 % intervals, resampling {resampled}; none with fewer
than {few}, nor where all are alike. {kept} of such choices have no more false positives than allowed in new
cases{more}."""


def _least_dice(fit: RuleFit) -> str:
    number = fit.num_with_reference
    return f"{fit.least_dice:.3f}" + (f" in the {number} cases with lesions" if number < len(fit.cases) else "")


_TOGETHER_LEGEND = """\
Rules are chosen for each label alone. "All rules together" is the segmentation that they make of a case, each the
one chosen without its fold: where two classes meet, one gives way. Expect this of new cases."""


def _sizes(fit: RuleFit) -> dict[str, np.ndarray]:
    """Booleans of all lesions by the name of their size; classes without a lesion are left out."""
    volume_mm3 = np.concatenate([case.components.volume_mm3 for case in fit.cases])
    classes = {
        f"from {low:g}" if math.isinf(high) else f"{low:g} to {high:g}": in_size(volume_mm3, low, high)
        for low, high in pairwise(DEFAULT_EDGES_MM3)
    }
    return {name: chosen for name, chosen in classes.items() if chosen.any()}


def _found(fit: RuleFit, family: FamilyFit) -> list[np.ndarray]:
    """Of each case its lesions, found or not under the rule chosen without its fold."""
    return [case.components.decided(family.rules_without[case.fold], fit.matching).found for case in fit.cases]


def _figure_row(name: str, figures: Figures, found: Sequence[np.ndarray], sizes: dict[str, np.ndarray]) -> list[str]:
    of_all = np.concatenate(found)
    false, recall, f1, dice = map(float, figures)
    by_size = [float(of_all[chosen].mean()) for chosen in sizes.values()]
    return [name, rounded(false, 2), *(rounded(value, 3) for value in (recall, *by_size, f1, dice))]


def _together_row(fit: RuleFit, sizes: dict[str, np.ndarray]) -> list[list[str]]:
    if fit.together is None or fit.together_figures is None:
        return []
    return [_figure_row(TOGETHER, fit.together_figures, [case.found for case in fit.together], sizes)]


def _difference_row(fit: RuleFit, family: FamilyFit, folds: int) -> list[str]:
    first = fit.choice.families[0]
    gain = float(getattr(family.figures, fit.aim)) - float(getattr(first.figures, fit.aim))
    return [
        FAMILY_NAMES[family.family],
        signed_interval(family.mean_excess, family.excess, 2),
        signed_interval(family.recall_difference, family.recall),
        signed_interval(family.dice_difference, family.dice),
        "" if family is first else signed_interval(gain, family.gain),
        "none keeps within" if family.rule is None else family.rule.text(fit.size_unit),
        f"{len(set(family.rules_without.values()))} of {folds}",
    ]


def _choice(fit: RuleFit) -> str:
    best = fit.choice.best
    sure = f" with a margin of {fit.margin:g}" if fit.margin else ""
    if best is None or best.rule is None:
        conditions = f"within {fit.false_positives:.2f} false positives per case{sure}"
        if not math.isnan(fit.least_dice):
            conditions += f" and a Dice of {_least_dice(fit)} (--any-dice drops this condition)"
        return f"No rule keeps {conditions} on all cases. Nothing to apply was written."
    without = Counter(rule.text(fit.size_unit) for rule in best.rules_without.values()).most_common()
    folds = "; ".join(f"{rule} ({number} of {len(best.rules_without)})" for rule, number in without)
    lines = [
        f"Chosen{sure}: {FAMILY_NAMES[best.family]}, {best.rule.text(fit.size_unit)}. {_reason(fit, best)}",
        f"Chosen without a fold: {folds}.",
    ]
    if fit.num_lesions.any() and not any(family.figures.recall for family in fit.choice.families):
        lines.append(
            "In cases left out it finds no lesion, nor does any other rule: no threshold makes up for what a model "
            "does not predict."
        )
    return "\n".join(lines)


def _reason(fit: RuleFit, best: FamilyFit) -> str:
    aim, first, choice = _AIMS[fit.aim], fit.choice.families[0], fit.choice
    if len(choice.families) == 1:
        return "No other family was tried."
    if choice.over is not None:
        return (
            f"In cases left out its {aim} is {signed_interval(choice.gain, choice.gain_interval)} above that of "
            f"a {FAMILY_NAMES[choice.over.family]}, more than chance."
        )
    if first.rule is None:
        return f"A {FAMILY_NAMES[first.family]} cannot keep the conditions."
    return f"The simplest: in cases left out no other has more {aim} by more than chance. --family takes another."


def _rows(fit: RuleFit) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"label": fit.label, "segmentation": fit.baseline, **_numbers(fit.baseline_figures)},
    ]
    for family in fit.choice.families:
        row: dict[str, Any] = {"label": fit.label, "segmentation": family.family, **_numbers(family.figures)}
        row |= {} if family.rule is None else family.rule._asdict()
        row |= {name: getattr(family, name) for name in ("recall_difference", "dice_difference")}
        for name in _ENDS:
            row[f"{name}_low"], row[f"{name}_high"] = getattr(family, name)
        row["rules_in_folds"] = len(set(family.rules_without.values()))
        rows.append(row)
    if fit.together_figures is not None:
        rows.append({"label": fit.label, "segmentation": TOGETHER, **_numbers(fit.together_figures)})
    return rows


def _numbers(figures: Figures) -> dict[str, float]:
    return {name: float(value) for name, value in figures._asdict().items()}


def _ends(interval: Interval) -> list[float] | None:
    return None if math.isnan(interval.low) else list(interval)
