import numpy as np
import pytest

from nnunet_rw.maps.arrays import as_connectivity, connected_components, foreground_box


def test_labels_are_not_joined_and_ids_follow_their_first_voxel():
    labels = np.array([[0, 2, 2, 0, 1], [0, 1, 0, 0, 1], [1, 0, 0, 3, 0]])
    # Diagonal neighbours: 1 at (1, 1) with (2, 0), but not 2 with 1 or 1 with 3.
    expected = [[0, 1, 1, 0, 2], [0, 3, 0, 0, 2], [3, 0, 0, 4, 0]]
    assert connected_components(labels, 8).tolist() == expected
    expected[2] = [4, 0, 0, 5, 0]
    assert connected_components(labels, 4).tolist() == expected


@pytest.mark.parametrize("seed", range(3))
def test_ids_rise_along_the_array(seed):
    labels = (np.random.default_rng(seed).random((9, 8, 7)) < 0.1).astype(np.uint8)
    ids = connected_components(labels, 26)
    present, first = np.unique(ids[ids > 0], return_index=True)
    assert present.tolist() == list(range(1, ids.max() + 1))
    assert np.all(np.diff(first) > 0)


def test_many_labels_and_no_label():
    labels = np.zeros((3, 4), np.int64)
    assert not connected_components(labels, 4).any()
    labels[0, 0], labels[0, 1] = 300, 300 - 256  # the same in eight bits
    assert connected_components(labels, 4)[0].tolist() == [1, 2, 0, 0]


def test_read_only_views_stay_unchanged():
    labels = np.eye(4, dtype=np.uint8)[::-1].T
    labels.setflags(write=False)
    copy = labels.copy()
    assert connected_components(labels, 8).max() == 1
    np.testing.assert_array_equal(labels, copy)


@pytest.mark.parametrize(
    ("ndim", "given", "expected"),
    [(3, 6, 6), (3, 18, 18), (3, 26, 26), (2, 4, 4), (2, 8, 8), (2, 6, 4), (2, 26, 8)],
)
def test_connectivity(ndim, given, expected):
    assert as_connectivity(given, ndim) == expected


@pytest.mark.parametrize(("ndim", "given"), [(3, 4), (3, 8), (2, 18), (3, 1)])
def test_impossible_connectivity(ndim, given):
    with pytest.raises(ValueError, match=rf"Expected connectivity to be one of .*, but got {given}\."):
        as_connectivity(given, ndim)


def test_box():
    mask = np.zeros((6, 5, 4), bool)
    mask[2, 1, 3] = mask[4, 2, 3] = True
    assert foreground_box(mask) == (slice(2, 5), slice(1, 3), slice(3, 4))
    widened = mask[foreground_box(mask, margin=2)]
    assert widened.shape == (6, 5, 3)  # 0 to 6 of six, -1 to 4 (0 to 4), 1 to 5 (1 to 3)
    assert foreground_box(np.zeros((3, 3), bool)) is None
