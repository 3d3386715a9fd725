import numpy as np
import pytest
from lesion_references import best_assignment, line

from nnunet_rw.evaluation.metrics.lesions import assign_one_to_one, match_lesions


def assign(gains):
    """The chosen pairs of {(reference, predicted): IoU}."""
    reference, predicted = np.array(list(gains)).T
    chosen = assign_one_to_one(reference, predicted, np.array(list(gains.values())))
    return {pair for pair, taken in zip(gains, chosen, strict=True) if taken}


def test_total_counts_and_not_the_best_pair():
    # Greedy takes 0.6 and is left with 0.1; the other two pairs have 0.5 + 0.4.
    assert assign({(0, 0): 0.6, (0, 1): 0.5, (1, 0): 0.4, (1, 1): 0.1}) == {(0, 1), (1, 0)}


def test_one_lesion_for_many():
    assert assign({(0, 3): 0.2, (0, 1): 0.3, (0, 2): 0.1}) == {(0, 1)}
    assert assign({(3, 0): 0.2, (1, 0): 0.3, (2, 0): 0.1}) == {(1, 0)}


def test_blocks_do_not_disturb_each_other():
    gains = {(5, 5): 0.1, (0, 0): 0.4, (0, 1): 0.5, (9, 2): 0.9, (1, 1): 0.3}
    assert assign(gains) == {(5, 5), (9, 2), (0, 0), (1, 1)}  # 0.4 + 0.3 is more than 0.5


def test_tie_goes_to_more_pairs():
    # 0.5 alone, or 0.25 + 0.25.
    assert assign({(0, 0): 0.25, (0, 1): 0.5, (1, 1): 0.25}) == {(0, 0), (1, 1)}
    # The other way round, in another order.
    assert assign({(1, 1): 0.25, (0, 1): 0.5, (0, 0): 0.25}) == {(0, 0), (1, 1)}


def test_tie_of_as_many_pairs_goes_to_the_better_single_pair():
    # 0.375 + 0.375, or 0.5 + 0.25.
    gains = {(0, 0): 0.375, (1, 1): 0.375, (0, 1): 0.5, (1, 0): 0.25}
    assert assign(gains) == {(0, 1), (1, 0)}
    assert assign(dict(reversed(gains.items()))) == {(0, 1), (1, 0)}


def test_tie_between_equal_halves_changes_no_number():
    # A lesion of 4 voxels, either end predicted: IoU 1 / 4 each, so that either may be its partner, but one alone.
    for prediction in ("#..#", "#..#"[::-1]):
        matches = match_lesions(line("####"), line(prediction), (1, 1, 1))
        assert matches.reference.dice.tolist() == [2 * 1 / 5]
        assert sorted(matches.predicted.dice) == [0, 2 * 1 / 5]
        assert matches.pairs.matched.sum() == 1


def test_no_pair():
    nothing = np.zeros(0, int)
    assert assign_one_to_one(nothing, nothing, np.zeros(0)).tolist() == []


@pytest.mark.parametrize("seed", range(20))
def test_largest_total_by_trying_all(seed):
    rng = np.random.default_rng(seed)
    pairs = [(int(row), int(column)) for row, column in rng.integers(0, 7, (14, 2))]
    drawn = dict(zip(pairs, rng.random(14).tolist(), strict=True))
    chosen = assign(drawn)
    assert sum(drawn[pair] for pair in chosen) == pytest.approx(best_assignment(drawn), abs=1e-8)
    assert len({row for row, _ in chosen}) == len({column for _, column in chosen}) == len(chosen)
