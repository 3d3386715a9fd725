import numpy as np
import pytest

from nnunet_rw.postprocessing.ensemble.average import combine
from nnunet_rw.postprocessing.predictions import label_manager, to_segmentation

# Two models, three classes, one voxel.
FIRST = np.array([0.2, 0.5, 0.3]).reshape(3, 1, 1, 1)
SECOND = np.array([0.4, 0.0, 0.6]).reshape(3, 1, 1, 1)
WEIGHTS = np.array([[0.5, 1.0, 0.25], [0.5, 0.0, 0.75]])


def test_weighted_sums_by_hand():
    # Background (0.2 + 0.4) / 2 = 0.3; class 1: 0.5; class 2: 0.25 * 0.3 + 0.75 * 0.6 = 0.525; together 1.325.
    combined = combine([FIRST, SECOND], WEIGHTS)
    np.testing.assert_allclose(combined.ravel(), np.array([0.3, 0.5, 0.525]) / 1.325, rtol=1e-6)


def test_regions_are_not_renormalised():
    combined = combine([FIRST, SECOND], WEIGHTS, regions=True)
    np.testing.assert_allclose(combined.ravel(), [0.3, 0.5, 0.525], rtol=1e-6)


def test_default_is_the_mean():
    np.testing.assert_allclose(combine([FIRST, SECOND]).ravel(), [0.3, 0.25, 0.45], rtol=1e-6)


def test_probabilities_stay_between_those_of_the_models_for_each_region(random_probabilities):
    models = [random_probabilities(seed) for seed in range(3)]
    weights = np.random.default_rng(3).dirichlet(np.ones(3), size=3).T
    combined = combine(models, weights, regions=True)
    assert np.all(combined <= np.max(models, axis=0) + 1e-6)
    assert np.all(combined >= np.min(models, axis=0) - 1e-6)


def test_classes_sum_to_one(random_probabilities):
    weights = np.random.default_rng(3).dirichlet(np.ones(2), size=3).T
    combined = combine([random_probabilities(0), random_probabilities(1)], weights)
    np.testing.assert_allclose(combined.sum(0), 1, rtol=1e-6)


def test_background_where_no_weighted_model_gives_any_class_a_probability():
    # Only the second model counts for class 1 and only the first for the rest, and each of them says the other.
    first, second = (np.array(values, float).reshape(2, 1, 1) for values in ([0, 1], [1, 0]))
    combined = combine([first, second], np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert combined.ravel().tolist() == [1, 0]


def test_inputs_are_unchanged_and_the_result_is_float32(random_probabilities):
    models = [random_probabilities(0), random_probabilities(1)]
    copies = [model.copy() for model in models]
    assert combine(models).dtype == np.float32
    assert combine(models, np.full((2, 3), 0.5)).dtype == np.float32
    for model, copy in zip(models, copies, strict=True):
        np.testing.assert_array_equal(model, copy)


def test_order_of_models_with_their_weights_changes_nothing(random_probabilities):
    models = [random_probabilities(seed) for seed in range(3)]
    weights = np.random.default_rng(3).dirichlet(np.ones(3), size=3).T
    np.testing.assert_allclose(combine(models, weights), combine(models[::-1], weights[::-1]), atol=1e-6)


def test_regions_are_painted_in_their_order(region_json):
    # Voxel 0: nothing above 0.5; 1: whole; 2: core, painted last.
    probabilities = np.array([[0.4, 0.9, 0.9], [0.1, 0.2, 0.8]], np.float32).reshape(2, 3, 1, 1)
    assert to_segmentation(probabilities, label_manager(region_json)).ravel().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("models", "weights", "message"),
    [
        ([FIRST, SECOND[:, :, 0]], None, r"equal shape, but got \(3, 1, 1, 1\) and \(3, 1, 1\)"),
        ([FIRST, SECOND, SECOND], WEIGHTS, "Expected 2 models, one per row"),
        ([FIRST], WEIGHTS, "Expected 2 at least, but got 1"),
        ([], None, "Expected a model at least, but got 0"),
    ],
)
def test_refuses(models, weights, message):
    with pytest.raises(ValueError, match=message):
        combine(models, weights)
