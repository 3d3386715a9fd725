import numpy as np
import pytest

from nnunet_rw.postprocessing.ensemble.weights import class_statistics, fit_class_weights


def statistics(probabilities, target, voxel_mm3=1.0, background=False):
    return class_statistics(
        [np.asarray(p, float) for p in probabilities], np.array(target, bool), voxel_mm3, background
    )


def loss(weights, probabilities, target):
    return ((np.tensordot(weights, probabilities, 1) - target) ** 2).sum()


def test_sums_by_hand():
    # Two models, three voxels of 2 mm3, the first of them target.
    # Residuals (-0.5, 0.5, 0) and (0, 0.5, 1): squares 0.5 and 1.25, across 0.25.
    found = statistics([[0.5, 0.5, 0], [1, 0.5, 1]], [1, 0, 0], voxel_mm3=2)
    np.testing.assert_allclose(found.errors, 2 * np.array([[0.5, 0.25], [0.25, 1.25]]))
    assert found.volume_mm3 == 2


def test_background_is_measured_by_the_foreground():
    assert statistics([[1, 1, 0]], [1, 1, 0], background=True).volume_mm3 == 1


def test_parts_of_a_large_array_are_added(monkeypatch):
    rng = np.random.default_rng(0)
    probabilities, target = rng.random((2, 50)), rng.random(50) > 0.5
    whole = statistics(probabilities, target)
    monkeypatch.setattr("nnunet_rw.postprocessing.ensemble.weights._VOXELS_AT_A_TIME", 7)
    np.testing.assert_allclose(statistics(probabilities, target).errors, whole.errors)


def test_a_perfect_model_takes_all():
    weights = fit_class_weights([statistics([[1, 0, 0, 1], [0.6, 0.5, 0, 0.9]], [1, 0, 0, 1])])
    np.testing.assert_allclose(weights, [1, 0], atol=1e-3)


def test_models_that_err_alike_in_different_voxels_share():
    # Mirror images of each other.
    weights = fit_class_weights([statistics([[1, 1, 0.8, 0], [1, 1, 0, 0.8]], [1, 1, 0, 0])])
    np.testing.assert_allclose(weights, [0.5, 0.5], atol=1e-4)


def test_weights_by_hand():
    # Errors 0.2 and 0.4 in different voxels: w^2 0.04 + (1 - w)^2 0.16 is lowest at w = 0.16 / 0.2.
    weights = fit_class_weights([statistics([[1, 0.2, 0], [1, 0, 0.4]], [1, 0, 0])])
    np.testing.assert_allclose(weights, [0.8, 0.2], atol=1e-5)


def test_plain_soft_dice_would_have_chosen_one_model():
    # Why squares: with plain sums the better of two models has a higher Dice than any average, though their errors lie
    # in different voxels; the average is right everywhere at 0.5, neither of the models is.
    models, target = np.array([[1, 1, 0.8, 0], [1, 1, 0, 0.9]]), np.array([1, 1, 0, 0])
    plain = [2 * w @ models @ target / ((w @ models).sum() + 2) for w in np.array([[1, 0], [0.9, 0.1], [0.5, 0.5]])]
    assert plain == sorted(plain, reverse=True)
    weights = fit_class_weights([statistics(models, target)])
    np.testing.assert_array_equal(weights @ models > 0.5, target)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_a_grid(seed):
    rng = np.random.default_rng(seed)
    target = rng.random(200) < 0.2
    models = np.clip(target + rng.normal(0, [[0.3], [0.4], [0.5]], (3, 200)), 0, 1)
    weights = fit_class_weights([statistics(models, target)])
    steps = np.linspace(0, 1, 51)
    grid = [(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-9]
    best = min(grid, key=lambda candidate: loss(np.array(candidate), models, target))
    assert loss(weights, models, target) <= loss(np.array(best), models, target) + 1e-7
    np.testing.assert_allclose(weights, best, atol=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_convex(seed):
    rng = np.random.default_rng(seed)
    cases = [statistics(rng.random((4, 30)) ** 3, rng.random(30) < 0.3) for _ in range(4)]
    weights = fit_class_weights(cases)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert weights.min() >= 0


def test_order_of_models_and_cases_changes_nothing():
    rng = np.random.default_rng(1)
    drawn = [(rng.random((3, 40)), rng.random(40) < 0.3) for _ in range(3)]
    weights = fit_class_weights([statistics(models, target) for models, target in drawn])
    reversed_weights = fit_class_weights([statistics(models[::-1], target) for models, target in drawn[::-1]])
    np.testing.assert_allclose(weights, reversed_weights[::-1], atol=1e-4)


def test_two_copies_of_a_model_share_its_weight():
    rng = np.random.default_rng(2)
    target = rng.random(100) < 0.3
    first, second = np.clip(target + rng.normal(0, 0.4, (2, 100)), 0, 1)
    alone = fit_class_weights([statistics([first, second], target)])
    weights = fit_class_weights([statistics([first, first, second], target)])
    np.testing.assert_allclose(weights, [alone[0] / 2, alone[0] / 2, alone[1]], atol=1e-3)


def test_a_large_case_does_not_decide_alone():
    # A is right in nine small cases and half right in a large one, B the other way round; pooled, B would win.
    small, large = np.ones(10), np.ones(1000)
    cases = [statistics([small, small / 2], small)] * 9 + [statistics([large / 2, large], large)]
    # Errors, which do not overlap: A 250 mm3, B 9 * 2.5 mm3. Pooled, A would get 22.5 / 272.5 = 0.08. Measured by
    # 1000 + 10.9 and 10 + 10.9 mm3 they are 0.247 and 1.077, so that A gets 1.077 / 1.324 = 0.813.
    weights = fit_class_weights(cases)
    assert weights[0] == pytest.approx(0.813, abs=0.001)


def test_false_positives_in_cases_without_the_class_count():
    # Equal where the class is; in the other case only A predicts anything.
    present, absent = np.array([1, 1, 0, 0]), np.zeros(4)
    found = [statistics([[0.9, 0.9, 0, 0]] * 2, present), statistics([[0.5] * 4, [0] * 4], absent)]
    np.testing.assert_allclose(fit_class_weights(found), [0, 1], atol=1e-3)


def test_two_classes_share_their_weights():
    rng = np.random.default_rng(4)
    lesion = rng.random(50) < 0.3
    models = rng.random((3, 50))
    foreground = fit_class_weights([statistics(models, lesion)])
    background = fit_class_weights([statistics(1 - models, ~lesion, background=True)])
    np.testing.assert_allclose(foreground, background, atol=1e-9)


def test_equal_where_nothing_tells_the_models_apart():
    absent = statistics([[0.5, 0.5], [0, 0]], [0, 0])
    perfect = statistics([[1, 0], [1, 0]], [1, 0])
    for cases in ([absent], [perfect], [absent, absent], [perfect, perfect]):
        assert fit_class_weights(cases).tolist() == [0.5, 0.5]


def test_the_unit_of_volume_does_not_matter():
    rng = np.random.default_rng(3)
    target = rng.random(60) < 0.3
    models = np.clip(target + rng.normal(0, 0.5, (2, 60)), 0, 1)
    cubic = fit_class_weights([statistics(models, target, 0.001)])
    np.testing.assert_allclose(cubic, fit_class_weights([statistics(models, target, 1000)]), atol=1e-6)
