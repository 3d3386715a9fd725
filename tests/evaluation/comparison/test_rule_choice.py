"""Which rule is chosen, of outcomes that are given: two cases in two folds, with a lesion or several each."""

from dataclasses import replace

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


def with_lesion_free_cases(cases, dice_of_rules, baseline_dice):
    """As many cases without a lesion behind them, in the same folds, with a Dice for every rule of the grid."""
    number = len(cases.folds)
    nothing = np.zeros(len(cases.grid), int)
    empty = Outcomes(nothing, nothing, nothing, np.asarray(dice_of_rules, float))
    none = np.zeros(number, int)
    of_baseline = Outcomes(none, none, cases.baseline.false_positives, np.full(number, float(baseline_dice)))
    return replace(
        cases,
        outcomes=[*cases.outcomes, *[empty] * number],
        num_lesions=np.concatenate([cases.num_lesions, none]),
        baseline=Outcomes(*map(np.concatenate, zip(cases.baseline, of_baseline, strict=True))),
        folds=[*cases.folds, *cases.folds],
        units=[*cases.units, *(f"empty {name}" for name in cases.units)],
    )


@pytest.mark.parametrize("aim", ["recall", "dice"])
def test_a_rule_that_empties_lesion_free_cases_buys_no_dice_with_it(aim):
    # Baseline: 0.8, and 0 in lesion-free cases, 0.4 on the whole. The low threshold loses 0.3 where there are lesions
    # and empties the others, so that its mean over what is defined is 0.5. The high one keeps 0.8 and empties nothing.
    cases = rule_cases((1, 0, 0.8), (2, 0, 0.5), 2, 0.8)
    rules = [cases.grid.rule(position) for position in range(len(cases.grid))]
    empties = [np.nan if rule == LOW else 0.0 for rule in rules]
    cases = with_lesion_free_cases(cases, empties, 0.0)
    assert cases.least_dice == pytest.approx(0.8)
    (family,) = choose_rules(cases, aim, families=("single",)).families
    assert family.rule == HIGH
    # Without the condition the recall is what counts.
    (family,) = choose_rules(replace(cases, keeps_dice=False), "recall", families=("single",)).families
    assert family.rule == LOW


def test_dice_is_no_condition_where_no_case_has_a_reference():
    cases = rule_cases((0, 0, np.nan), (0, 0, 0.0), 2, 0.0)
    assert np.isnan(cases.least_dice)
    assert choose_rules(cases, families=("single",)).best.rule in (HIGH, LOW)


def test_no_volume_is_taken_where_a_small_one_does_the_same():
    cases = rule_cases((1, 0, 0.6), (0, 9, 0.1), 2, 0.3, volumes_mm3=(0.0, 2.0, 3.0))
    (family,) = choose_rules(cases, families=("single_volume",)).families
    assert family.rule == HIGH


def test_a_richer_family_has_to_beat_the_best_so_far():
    # Twelve cases of four lesions. Volumes let a lower threshold find two more than a single threshold in every case.
    # Hysteresis with volumes finds one more on the whole, in the first case alone.
    grid = RuleGrid((0.0, 2.0), (0.9, 0.5))
    found = {HIGH: 1, LOW._replace(min_volume_mm3=2.0): 3}
    rules = [grid.rule(position) for position in range(len(grid))]
    cases = []
    for case in range(12):
        richest = 4 if case == 0 else 3
        found[DecisionRule(0.5, 0.9, 2.0)] = richest
        numbers = np.array([found.get(rule, 0) for rule in rules])
        cases.append(Outcomes(numbers, numbers, 0 * numbers, np.full(len(rules), 0.5)))
    names, nothing = [str(case) for case in range(12)], np.zeros(12, int)
    baseline = Outcomes(nothing, nothing, nothing, np.full(12, 0.5))
    choice = choose_rules(RuleCases(grid, cases, np.full(12, 4), baseline, names, names))
    gains = {fit.family: fit.gain.low for fit in choice.families}
    assert gains["hysteresis_volume"] > 0.4
    assert (choice.best.family, choice.over.family) == ("single_volume", "single")
    assert (choice.gain, choice.gain_interval) == (0.5, (0.5, 0.5))


def test_a_margin_needs_enough_cases_beside_every_fold():
    # Eight cases are left beside each of nine folds, and seven of eight.
    choice = choose_rules(rule_cases((1, 0, 0.6), (2, 2, 0.6), 1, 0.3, number=9), families=("single",), margin=0.9)
    assert choice.best.rule == HIGH
    with pytest.raises(ValueError, match="a fold is left with 7 of 8 to choose on, fewer than 8"):
        choose_rules(rule_cases((1, 0, 0.6), (2, 2, 0.6), 1, 0.3, number=8), families=("single",), margin=0.9)
