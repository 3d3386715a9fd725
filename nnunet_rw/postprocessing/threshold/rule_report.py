"""Fitted rules as files and for the terminal, and the file read back to be applied."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_rw.evaluation.comparison.intervals import Interval
from nnunet_rw.postprocessing.threshold.rule_fit import FamilyFit, RuleFit, summary
from nnunet_rw.postprocessing.threshold.rules import DecisionRule
from nnunet_rw.util.advice import command
from nnunet_rw.util.files import write_atomically
from nnunet_rw.util.readers import read_json, told
from nnunet_rw.util.tables import text_table

_FIGURES = ("false_positives_per_case", "recall", "f1", "dice")
_COLUMNS = (
    *("label", "segmentation", "low", "high", "min_volume_mm3", *_FIGURES),
    *("recall_difference", "recall_low", "recall_high", "dice_low", "dice_high"),
)
_LEGEND = """\
"Cases left out": each case is segmented by the rule that was chosen without its fold; expect this of new cases.
Lesions are matched {matching}. In brackets 95 % of the difference to {baseline}, resampling {resampled};
"folds" counts the different rules that the folds chose."""


@dataclass(frozen=True)
class ChosenRules:
    """Rules to apply to new predictions.

    Attributes
    ----------
    dataset : str
        That they were fitted on.
    connectivity : int
    rules : dict of str to DecisionRule
        By label.
    """

    dataset: str
    connectivity: int
    rules: dict[str, DecisionRule]


def write_rules(fits: Sequence[RuleFit], dataset: str, folder: str | Path) -> list[Path]:
    """Write rules.csv, every family in cases left out, and rules.json, the rules to apply; return their paths.

    A label of which no rule keeps the conditions is not in rules.json; without any, the file is not written and an
    earlier one removed.
    """
    folder = Path(folder)
    paths = [folder / "rules.csv", folder / "rules.json"]
    paths[1].unlink(missing_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row for fit in fits for row in _rows(fit))
    write_atomically(paths[0], text.getvalue().encode())
    chosen = {fit.label: fit.best for fit in fits if fit.best}
    if not chosen:
        return paths[:1]
    content = {
        "dataset": dataset,
        "model": fits[0].model,
        "baseline": fits[0].baseline,
        "aim": fits[0].aim,
        "settings": fits[0].settings,
        "rules": {label: best.rule._asdict() for label, best in chosen.items() if best.rule},
        "left_out": {label: _finite(summary(best.left_out)) for label, best in chosen.items()},
    }
    write_atomically(paths[1], (json.dumps(content, indent=2) + "\n").encode())
    return paths


def holds_rules(path: str | Path) -> bool:
    """Whether a file of ``nnunet-rw threshold --fit`` is one of rules, and not of a single threshold."""
    try:
        return "rules" in json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def read_rules(path: str | Path) -> ChosenRules:
    """From the file that ``nnunet-rw threshold --fit --rules`` wrote.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    DamagedFile
        It holds no rules.
    """
    path, what_to_do = Path(path), f"Run: {command('threshold', fit=True, rules=True)}"
    content = read_json(path, what_to_do, fault="holds no rules")
    with told(path, what_to_do, "holds no rules"):
        rules = {str(label): DecisionRule(**_numbers(rule)) for label, rule in content["rules"].items()}
        return ChosenRules(str(content["dataset"]), int(content["settings"]["connectivity"]), rules)


def rules_text(fit: RuleFit) -> str:
    """The families beside the baseline in cases left out, and which rule is chosen."""
    lesions = sum(int(case.components.counted.sum()) for case in fit.cases)
    folds = len({case.fold for case in fit.cases})
    matching = str(fit.settings["matching"]).replace("_", " ")
    header = ("in cases left out", "false positives per case", "recall", "", "lesion F1", "Dice", "", "rule", "folds")
    baseline = [fit.baseline, *_cells(summary(fit.baseline_cases)), "", ""]
    baseline = [*baseline[:3], "", *baseline[3:5], "", *baseline[5:]]
    parts = [
        f"{fit.model}, label {fit.label}: {len(fit.cases)} cases in {folds} folds, {lesions} lesions; at most "
        f"{fit.false_positives:.2f} false positives per case and a Dice of at least {_number(fit.least_dice)}",
        text_table(header, [baseline, *(_family_row(family) for family in fit.families)]),
        _choice(fit),
        _LEGEND.format(matching=matching, baseline=fit.baseline, resampled=fit.resampled),
    ]
    return "\n\n".join(parts)


def _family_row(family: FamilyFit) -> list[str]:
    figures = summary(family.left_out)
    false, recall, f1, dice = _cells(figures)
    return [
        family.family,
        false,
        recall,
        _interval(family.recall.interval),
        f1,
        dice,
        _interval(family.dice),
        "none keeps within" if family.rule is None else str(family.rule),
        str(len(set(family.rules_without.values()))),
    ]


def _choice(fit: RuleFit) -> str:
    if fit.best is None:
        return "No rule keeps the conditions on all cases. Nothing to apply was written."
    simplest = fit.families[0]
    text = f"Chosen: {fit.best.family}, {fit.best.rule}."
    if fit.best is simplest:
        return f"{text} No other family has a higher {_AIMS[fit.aim]} in cases left out."
    gain = summary(fit.best.left_out)[fit.aim] - summary(simplest.left_out)[fit.aim]
    return f"{text} In cases left out its {_AIMS[fit.aim]} is {gain:+.3f} that of a single threshold."


_AIMS = {"recall": "recall", "f1": "lesion F1", "dice": "Dice"}


def _rows(fit: RuleFit) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"label": fit.label, "segmentation": fit.baseline, **summary(fit.baseline_cases)}]
    for family in fit.families:
        row: dict[str, Any] = {"label": fit.label, "segmentation": family.family, **summary(family.left_out)}
        row |= {} if family.rule is None else family.rule._asdict()
        row["recall_difference"] = family.recall.difference
        row["recall_low"], row["recall_high"] = family.recall.interval
        row["dice_low"], row["dice_high"] = family.dice
        rows.append(row)
    return [{key: "" if value != value else value for key, value in row.items()} for row in rows]


def _cells(figures: dict[str, float]) -> list[str]:
    false, *others = (figures[name] for name in _FIGURES)
    return [f"{false:.2f}", *map(_number, others)]


def _interval(interval: Interval) -> str:
    return "" if math.isnan(interval.low) else f"[{interval.low:+.3f}, {interval.high:+.3f}]"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _finite(figures: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in figures.items()}


def _numbers(rule: dict[str, Any]) -> dict[str, float]:
    numbers = {name: float(value) for name, value in rule.items()}
    if not (0 <= numbers["low"] <= numbers["high"] < 1 and 0 <= numbers["min_volume_mm3"] < math.inf):
        raise ValueError(f"Expected thresholds from 0 to below 1 and a volume from 0, but got {rule}.")
    return numbers
