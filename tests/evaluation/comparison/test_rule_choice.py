"""Which rule is chosen, of outcomes that are given: two cases in two folds, with a lesion or several each."""

import numpy as np
import pytest

from nnunet_rw.evaluation.comparison.rule_choice import RuleCases, choose_rules
from nnunet_rw.evaluation.metrics.rules import DecisionRule, Outcomes, RuleGrid

HIGH, LOW = DecisionRule(0.9, 0.9), DecisionRule(0.5, 0.5)


def rule_cases(of_high, of_low, allowed, baseline_dice, number=2, volumes_mm3=(0.0,)):
    """Equal cases: found lesions of four, false positives and Dice of both single thresholds; others find nothing."""
    grid = RuleGrid(volumes_mm3, (0.9, 0.5))
    rules = [grid.rule(position) for position in range(len(grid))]
    by_thresholds = {(0.9, 0.9): of_high, (0.5, 0.5): of_low}
    rows = np.array([by_thresholds.get(rule[:2], (0, 9, 0.0)) for rule in rules])
    found, false, dice = rows[:, 0].astype(int), rows[:, 1].astype(int), rows[:, 2]
    nothing = np.zeros(number, int)
    names = [str(case) for case in range(number)]
    return RuleCases(
        grid=grid,
        outcomes=[Outcomes(found, found, false, dice)] * number,
        num_lesions=np.full(number, 4),
        baseline=Outcomes(nothing, nothing, np.full(number, allowed), np.full(number, baseline_dice)),
        folds=names,
        units=names,
    )


@pytest.mark.parametrize(
    ("of_high", "of_low", "chosen"),
    [
        # Most lesions first, then Dice, then the fewest false positives.
        ((1, 0, 0.6), (2, 2, 0.3), LOW),
        ((1, 0, 0.3), (1, 2, 0.6), LOW),
        ((1, 0, 0.3), (1, 2, 0.3), HIGH),
        # Neither more false positives than allowed nor less Dice.
        ((1, 0, 0.3), (2, 3, 0.6), HIGH),
        ((1, 0, 0.3), (2, 2, 0.2), HIGH),
    ],
)
def test_the_rule_with_most_within_the_price(of_high, of_low, chosen):
    (family,) = choose_rules(rule_cases(of_high, of_low, 2, 0.3), families=("single",)).families
    assert family.rule == chosen
    assert set(family.rules_without.values()) == {chosen}


@pytest.mark.parametrize(
    ("allowed", "nearest"),
    [
        (2, LOW),  # both keep within, but have too little Dice: the better of it
        (1, HIGH),  # only one keeps within
        (0, HIGH),  # none does: the fewest
    ],
)
def test_where_no_rule_keeps_the_conditions_a_fold_takes_the_nearest(allowed, nearest):
    cases = rule_cases((1, 1, 0.3), (2, 2, 0.6), allowed, 0.9)
    choice = choose_rules(cases, families=("single",))
    (family,) = choice.families
    assert (family.rule, choice.best) == (None, None)
    assert set(family.rules_without.values()) == {nearest}


def test_no_volume_is_taken_where_a_small_one_does_the_same():
    cases = rule_cases((1, 0, 0.6), (0, 9, 0.1), 2, 0.3, volumes_mm3=(0.0, 2.0, 3.0))
    (family,) = choose_rules(cases, families=("single_volume",)).families
    assert family.rule == HIGH


def test_a_margin_needs_enough_cases_beside_every_fold():
    # Eight cases are left beside each of nine folds, and seven of eight.
    choice = choose_rules(rule_cases((1, 0, 0.6), (2, 2, 0.6), 1, 0.3, number=9), families=("single",), margin=0.9)
    assert choice.best.rule == HIGH
    with pytest.raises(ValueError, match="a fold is left with 7 of 8 to choose on, fewer than 8"):
        choose_rules(rule_cases((1, 0, 0.6), (2, 2, 0.6), 1, 0.3, number=8), families=("single",), margin=0.9)
