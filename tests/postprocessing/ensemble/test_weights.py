import json

import numpy as np
import pytest

from nnunet_rw.datasets.folders import labels_of
from nnunet_rw.postprocessing.ensemble.weights import EnsembleWeights, channel_names, read_weights

VALUES = np.array([[0.25, 1.0], [0.75, 0.0]])


@pytest.fixture
def weights():
    return EnsembleWeights(("a", "b"), ("0", "1"), VALUES, {"1": 5.0})


def test_names_of_channels(dataset_json, region_json):
    assert channel_names(labels_of(dataset_json)) == ("0", "1", "2")
    assert channel_names(labels_of(region_json)) == ("(1, 2)", "2")


def test_written_and_read(weights, tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(json.dumps(weights.as_json()))
    found = read_weights(path)
    assert (found.models, found.channels, found.min_component_mm3) == (("a", "b"), ("0", "1"), {"1": 5.0})
    np.testing.assert_array_equal(found.values, VALUES)


def test_thirds_survive_the_file(tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(json.dumps(EnsembleWeights(("a", "b", "c"), ("0",), np.full((3, 1), 1 / 3)).as_json()))
    assert np.all(read_weights(path).values == 1 / 3)


@pytest.mark.parametrize(
    ("folders", "rows"),
    [(["x/b", "y/a"], [1, 0]), (["x/a", "y/b"], [0, 1]), (["second", "first"], [0, 1]), (["b", "other"], [0, 1])],
)
def test_by_name_where_all_names_are_those_of_the_models(weights, folders, rows):
    np.testing.assert_array_equal(weights.in_order_of(folders), VALUES[rows])


def test_validation_folders_by_their_models(weights, tmp_path):
    folders = [tmp_path / f"{name}__nnUNetPlans__3d_fullres" / "fold_0" / "validation" for name in "bac"]
    assert weights.order(folders[:2]) == ("b", "a")
    with pytest.raises(ValueError, match="Expected predictions of a, b, as the weights, but got folders of a, c"):
        weights.order(folders[1:])


def test_as_many_folders_as_models(weights):
    with pytest.raises(ValueError, match="each of the 2 models of the weights, a, b, but got 3"):
        weights.in_order_of(["a", "b", "c"])


@pytest.mark.parametrize(
    ("values", "volumes", "message"),
    [
        ([[0.5, 0.5]], {}, r"shape \(2, 2\), models by channels, but got \(1, 2\)"),
        ([[0.5, 0.5], [0.5, 0.6]], {}, r"sum to 1 for each channel, but got sums 1, 1.1"),
        ([[-0.5, 0.5], [1.5, 0.5]], {}, "lowest weight -0.5"),
        ([[np.nan, 0.5], [0.5, 0.5]], {}, "sums nan, 1"),
        (VALUES, {"2": 1.0}, "one of 0, 1, but got 1.0 of 2"),
        (VALUES, {"1": -1.0}, "but got -1.0 of 1"),
    ],
)
def test_refuses(values, volumes, message):
    with pytest.raises(ValueError, match=message):
        EnsembleWeights(("a", "b"), ("0", "1"), np.array(values), volumes)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No .*weights.json. Run: nnunet-rw ensemble --fit"):
        read_weights(tmp_path / "weights.json")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"models": ["a"], "weights": {"0": {"b": 1}}}'])
def test_no_weights_in_the_file(tmp_path, content):
    path = tmp_path / "weights.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"weights.json holds no weights of an ensemble"):
        read_weights(path)


def test_no_convex_weights_in_the_file(tmp_path):
    path = tmp_path / "weights.json"
    path.write_text('{"models": ["a"], "weights": {"0": {"a": 0.5}}}')
    with pytest.raises(ValueError, match=r"holds no weights of an ensemble \(Expected weights from 0 that sum to 1"):
        read_weights(path)
