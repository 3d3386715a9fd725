"""What a comparison of trainers finds, as rows of its tables."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from nnunet_rw.evaluation.metrics.rules import DecisionRule

BETTER, WORSE, NOT_SHOWN, WITHIN_NOISE = "better", "worse", "no difference shown", "within noise"
NOT_TESTED = "too few cases"


@dataclass(frozen=True)
class MetricRow:
    """A metric of a challenger against the baseline, over the cases for which both have it.

    A case's value is the mean over a trainer's seeds.

    Attributes
    ----------
    n, undefined_in_both, undefined_in_one, infinite
        See `Pairs`; n is the number of pairs.
    baseline_mean, challenger_mean, difference, low, high, median
        The difference is the challenger's mean minus the baseline's, with its 95 % interval over cases or patients; the
        median is of the differences.
    p, p_holm, no_p
        Wilcoxon's, unadjusted and adjusted over the family; NaN for the reason in `no_p`.
    wins, ties, losses : int
        Cases in which the challenger is better, equal, worse.
    noise : float
        The largest difference between means of the baseline's seeds; NaN without seeds.
    verdict : str
        "within noise" where the difference is no larger than that; "too few cases" where there is no p; "better" or
        "worse" where `p_holm` is below 0.05 and the interval without zero; else "no difference shown".
    """

    label: str
    metric: str
    baseline: str
    challenger: str
    n: int
    undefined_in_both: int
    undefined_in_one: int
    infinite: int
    baseline_mean: float
    challenger_mean: float
    difference: float
    low: float
    high: float
    median: float
    p: float
    p_holm: float
    no_p: str
    wins: int
    ties: int
    losses: int
    noise: float
    verdict: str


@dataclass(frozen=True)
class SizeRow:
    """Lesions of one size class: recall, any overlap, and the false positives of that size.

    Recall and false positives are means over a trainer's seeds. Intervals are of 95 %, over cases or patients with all
    their lesions; NaN where these are too few. The simultaneous one of the difference in recall holds for all
    challengers and labels at once (Bonferroni). Sizes are from, inclusive, to, exclusive; reference lesions by their
    own volume, false positives by the predicted one. False positives are per case, lesion-free cases included.
    """

    label: str
    baseline: str
    challenger: str
    size_from_mm3: float
    size_to_mm3: float
    lesions: int
    cases: int
    baseline_recall: float
    baseline_low: float
    baseline_high: float
    challenger_recall: float
    challenger_low: float
    challenger_high: float
    difference: float
    low: float
    high: float
    baseline_false_positives: float
    challenger_false_positives: float
    false_positives_difference: float
    false_positives_low: float
    false_positives_high: float
    simultaneous_low: float = math.nan
    simultaneous_high: float = math.nan


@dataclass(frozen=True)
class RankingRow:
    """A trainer's place by lesion-wise F1 under one rule and minimum size, of its first seed.

    Attributes
    ----------
    rule : str
        "hit", any overlap, or "matched", one-to-one.
    connectivity : int
        Of the lesions.
    min_volume_mm3 : float
        Smaller reference lesions are left out, and smaller predicted ones too where it is above the evaluation's own
        minimum, but for those that found a lesion: each one-to-one, by any overlap one per case where no larger one
        did. Found or not is as evaluated with all of them.
    recall, precision, f1 : float
        Of the pooled lesions: found among the reference's, right among the predicted, 2 PR / (P + R). Precision is NaN
        where nothing is predicted, and F1 0 where nothing is found.
    rank : int
        1 for the highest F1; equal ones share the better place.
    rank_as_evaluated : int
        By any overlap, with the minimum size of the evaluation.
    """

    label: str
    rule: str
    connectivity: int
    min_volume_mm3: float
    trainer: str
    lesions: int
    recall: float
    predicted: int
    precision: float
    false_positives_per_case: float
    f1: float
    rank: int
    rank_as_evaluated: int


@dataclass(frozen=True)
class MatchedRow:
    """What a challenger with probabilities finds, any overlap, with no more false positives than the baseline has.

    Of the first seed of both.

    Attributes
    ----------
    false_positives : float
        A case, of the baseline as it was segmented.
    baseline_recall, baseline_dice : float
        As it was segmented.
    threshold : float
        Of the challenger's own, that finds most within these false positives, see
        `nnunet_rw.evaluation.metrics.probabilities.OperatingPoints.within`, chosen on these same cases. NaN where none
        keeps within, as all that follows.
    challenger_false_positives, challenger_recall, challenger_dice : float
        At this threshold.
    """

    label: str
    baseline: str
    challenger: str
    false_positives: float
    baseline_recall: float
    baseline_dice: float
    threshold: float
    challenger_false_positives: float
    challenger_recall: float
    challenger_dice: float


@dataclass(frozen=True, kw_only=True)
class RuleRow:
    """What a trainer with probabilities finds out of fold, with no more false positives than the baseline and its Dice.

    The baseline has a row as well where it has probabilities: what a rule alone brings. Every case is segmented by the
    rule that was chosen without its fold, so that no rule was chosen on the cases that it is judged by; its family was,
    by a test. Lesions are matched one to one; all is of the first seed, NaN where undefined.

    Attributes
    ----------
    family : str
        A key of `nnunet_rw.evaluation.metrics.rules.FAMILIES`: the simplest, unless a richer one is better by more than
        chance. "" where no rule keeps the conditions on all cases; what follows `half_dice` is then NaN.
    low, high, min_volume_mm3 : float
        The rule chosen on all cases.
    folds, rules_in_folds : int
        Folds of the choice, and how many different rules they chose.
    allowed : float
        False positives per case: the baseline's.
    baseline_recall, baseline_f1, baseline_dice : float
        As it was segmented.
    half_false_positives, half_recall, half_f1, half_dice : float
        The trainer as it was segmented.
    false_positives, recall, f1, dice : float
        The trainer out of fold.
    excess_low, excess_high : float
        95 % of the false positives beyond `allowed`.
    recall_difference, recall_low, recall_high, dice_difference, dice_low, dice_high : float
        To the baseline as it was segmented, with 95 % intervals: of the trainer and its rule together.
    recall_gain, recall_gain_low, recall_gain_high, dice_gain, dice_gain_low, dice_gain_high : float
        To the baseline by its own rule, or as it was segmented where that finds more, with 95 % intervals: of the
        trainer without what a rule brings. NaN in the baseline's row, and where it has no probabilities.
    """

    label: str
    baseline: str
    trainer: str
    family: str = ""
    low: float = math.nan
    high: float = math.nan
    min_volume_mm3: float = math.nan
    folds: int
    rules_in_folds: int = 0
    allowed: float
    baseline_recall: float
    baseline_f1: float
    baseline_dice: float
    half_false_positives: float
    half_recall: float
    half_f1: float
    half_dice: float
    false_positives: float = math.nan
    recall: float = math.nan
    f1: float = math.nan
    dice: float = math.nan
    excess_low: float = math.nan
    excess_high: float = math.nan
    recall_difference: float = math.nan
    recall_low: float = math.nan
    recall_high: float = math.nan
    dice_difference: float = math.nan
    dice_low: float = math.nan
    dice_high: float = math.nan
    recall_gain: float = math.nan
    recall_gain_low: float = math.nan
    recall_gain_high: float = math.nan
    dice_gain: float = math.nan
    dice_gain_low: float = math.nan
    dice_gain_high: float = math.nan

    @property
    def rule(self) -> DecisionRule | None:
        """None where none keeps the conditions."""
        return DecisionRule(self.low, self.high, self.min_volume_mm3) if self.family else None

    @property
    def rule_loses_nothing(self) -> bool:
        """Whether there is a rule, and it finds at least what was segmented without it."""
        return self.rule is not None and not self.recall < self.half_recall


@dataclass(frozen=True)
class Family:
    """The tests that are adjusted together: every metric of every challenger and label."""

    metrics: tuple[str, ...]
    challengers: tuple[str, ...]
    labels: tuple[str, ...]
    made: int

    def __str__(self) -> str:
        counts = (len(self.metrics), "metric"), (len(self.challengers), "challenger"), (len(self.labels), "label")
        factors = " x ".join(f"{count} {noun}{'s' if count > 1 else ''}" for count, noun in counts)
        return f"{factors} = {math.prod(count for count, _ in counts)} tests, of which {self.made} could be made"


@dataclass(frozen=True)
class Comparison:
    """All that `compare_evaluations` found.

    Attributes
    ----------
    seeds : tuple of str
        Folders of the baseline's other seeds.
    label_texts : dict of str to str
    size_unit : str
        As of `nnunet_rw.evaluation.folder.Evaluation`.
    patients : int
        That the cases are of; 0 where each case stands for itself.
    """

    baseline: str
    challengers: tuple[str, ...]
    seeds: tuple[str, ...]
    cases: int
    settings: dict[str, Any]
    family: Family
    metrics: tuple[MetricRow, ...]
    sizes: tuple[SizeRow, ...]
    rankings: tuple[RankingRow, ...]
    notes: tuple[str, ...]
    matched: tuple[MatchedRow, ...] = ()
    rules: tuple[RuleRow, ...] = ()
    label_texts: dict[str, str] = field(default_factory=dict)
    size_unit: str = "mm3"
    patients: int = 0
