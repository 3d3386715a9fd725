import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.evaluation.metrics.overlap import overlap
from nnunet_rw.evaluation.metrics.rules import (
    FAMILIES,
    DecisionRule,
    RuleGrid,
    apply_rule,
    kept_components,
    rule_case,
    volumes_to_try,
)


def noisy_case(shape, seed=0):
    """A reference, and probabilities of tenths, many of them a threshold, that find some of it and more."""
    rng = np.random.default_rng(seed)
    reference = gaussian_filter(rng.random(shape), 1.2) > 0.55
    probability = gaussian_filter(reference.astype(float), 0.9) + 0.5 * gaussian_filter(rng.standard_normal(shape), 1)
    return reference, np.clip(probability, 0, 1).astype(np.float32).round(1)


@pytest.mark.parametrize("matching", ["one_to_one", "any_overlap"])
@pytest.mark.parametrize("least_voxels", [0, 3])
@pytest.mark.parametrize(("shape", "connectivity"), [((22, 23, 24), 26), ((22, 23, 24), 6), ((60, 70), 8)])
def test_outcomes_are_those_of_the_masks_that_the_rules_make(shape, connectivity, least_voxels, matching):
    reference, probability = noisy_case(shape)
    spacing = (1.5, 1.0, 2.0)[: len(shape)]
    voxel = float(np.prod(spacing))
    grid = RuleGrid((0.0, 2 * voxel, 5 * voxel), (0.9, 0.7, 0.5, 0.3, 0.2))
    settings = connectivity, least_voxels * voxel
    case = rule_case(reference, probability, spacing, *settings, thresholds=grid.thresholds)
    outcomes = case.outcomes(grid, matching)
    assert case.counted.sum() > 10
    assert len(grid) == 15 * 3
    for position in range(len(grid)):
        mask = apply_rule(probability, grid.rule(position), voxel, connectivity)
        matches = match_lesions(reference, mask, spacing, *settings)
        name = "matched" if matching == "one_to_one" else "hit"
        predicted, found = getattr(matches.predicted, name), getattr(matches.reference, name)
        assert outcomes.found[position] == found.sum()
        assert outcomes.right[position] == predicted.sum()
        assert outcomes.false_positives[position] == (matches.predicted.counted & ~predicted).sum()
        assert outcomes.dice[position] == pytest.approx(overlap(reference, mask).dice, nan_ok=True)
        decided = case.decided(grid.rule(position), matching)
        assert decided.found.tolist() == found[matches.reference.counted].tolist()
        assert (decided.right, decided.false_positives) == (
            outcomes.right[position],
            outcomes.false_positives[position],
        )
        assert decided.dice == pytest.approx(outcomes.dice[position], nan_ok=True)


def test_a_swallowed_lesion_is_found_by_overlap_alone():
    # Three lesions of a voxel, and one component over all of them: IoU 1/5 each, one of them is its partner.
    reference = np.array([[1, 0, 1, 0, 1]], bool)
    probability = np.full((1, 5), 0.6, np.float32)
    grid = RuleGrid((0.0,), (0.5,))
    case = rule_case(reference, probability, (1.0, 1.0), 4, thresholds=grid.thresholds)
    found = {matching: case.outcomes(grid, matching).found.item() for matching in ("any_overlap", "one_to_one")}
    assert found == {"any_overlap": 3, "one_to_one": 1}


@pytest.mark.parametrize(("voxels", "found"), [(10, 1), (11, 0)])
def test_partners_share_a_tenth(voxels, found):
    # A lesion of a voxel in a component: IoU 1/10, and a little less.
    reference = np.zeros((1, voxels), bool)
    reference[0, 3] = True
    grid = RuleGrid((0.0,), (0.5,))
    case = rule_case(reference, np.full((1, voxels), 0.6, np.float32), (1.0, 1.0), 4, thresholds=grid.thresholds)
    assert case.outcomes(grid).found.item() == case.decided(grid.rule(0)).num_found == found
    assert case.outcomes(grid).false_positives.item() == case.decided(grid.rule(0)).false_positives == 1 - found


def test_hysteresis_keeps_whole_components_with_a_high_peak():
    probability = np.array([[0.4, 0.9, 0.4, 0.1, 0.4, 0.6]], np.float32)
    assert apply_rule(probability, DecisionRule(0.3, 0.8), 1.0, 4).tolist() == [[True, True, True, False, False, False]]
    assert apply_rule(probability, DecisionRule(0.3, 0.3), 1.0, 4).tolist() == [[True, True, True, False, True, True]]
    # 2 voxels of 1.5 are a volume of 3.
    assert apply_rule(probability, DecisionRule(0.3, 0.3, 3.0), 1.5, 4)[0].tolist() == [True] * 3 + [False] + [True] * 2
    assert apply_rule(probability, DecisionRule(0.3, 0.3, 3.1), 1.5, 4)[0].tolist() == [True] * 3 + [False] * 3


def test_families_of_rules():
    grid = RuleGrid((0.0, 2.0, 4.0), (0.9, 0.5))
    assert [int(grid.family(name).sum()) for name in FAMILIES] == [2, 6, 3, 9]
    rules = [grid.rule(index) for index in range(len(grid))]
    assert all(rule.high >= rule.low for rule in rules)
    assert len(set(rules)) == 9


def test_a_component_of_exactly_the_smallest_volume_stays():
    # 0.7 * 0.7 * 3 = 1.47 mm3 per voxel, 10 voxels = 14.7 mm3; floating point gives 14.699999999999998.
    mask = np.ones((1, 1, 10), bool)
    assert kept_components(mask, 0.7 * 0.7 * 3.0, 14.7).all()
    assert not kept_components(mask, 0.7 * 0.7 * 3.0, 14.701).any()


def test_a_rule_in_words():
    assert str(DecisionRule(0.5, 0.5)) == "above 0.5"
    assert str(DecisionRule(0.3, 0.9, 12.5)) == "above 0.3, peak above 0.9, from 12.5 mm3"


def test_volumes_are_multiples_of_the_largest_voxel():
    assert volumes_to_try([1.0, 2.0]) == (0.0, 4.0, 6.0, 10.0, 16.0, 26.0, 42.0, 68.0)
