import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, generate_binary_structure, label

from nnunet_rw.evaluation.metrics.component_tree import component_levels

STRUCTURES = {4: (2, 1), 8: (2, 2), 6: (3, 1), 18: (3, 2), 26: (3, 3)}


def smooth(shape, seed, sigma):
    noise = gaussian_filter(np.random.default_rng(seed).random(shape), sigma)
    return ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)


def sought_anew(probability, threshold, connectivity, lesions):
    """(voxels, peak, overlaps) of each component at one threshold, by SciPy."""
    found, number = label(probability > np.float32(threshold), generate_binary_structure(*STRUCTURES[connectivity]))
    components = []
    for index in range(1, number + 1):
        inside = found == index
        overlaps = {int(lesion) - 1: int((lesions[inside] == lesion).sum()) for lesion in np.unique(lesions[inside])}
        overlaps.pop(-1, None)
        components.append((int(inside.sum()), float(probability[inside].max()), sorted(overlaps.items())))
    return sorted(components)


def listed(level):
    pairs = list(zip(level.component, level.lesion, level.shared, strict=True))
    return sorted(
        (int(voxels), float(peak), sorted((int(b), int(n)) for a, b, n in pairs if a == index))
        for index, (voxels, peak) in enumerate(zip(level.voxels, level.peak, strict=True))
    )


@pytest.mark.parametrize("connectivity", STRUCTURES)
def test_every_level_is_that_of_components_sought_anew(connectivity):
    shape = (23, 24, 25)[: STRUCTURES[connectivity][0]]
    probability = smooth(shape, 0, 1.2)
    lesions, _ = label(smooth(shape, 1, 1.5) > 0.6)
    thresholds = np.round(np.arange(0.95, 0.25, -0.05), 2)
    levels = component_levels(probability, thresholds, connectivity, lesions)
    assert len(levels[5]) > 3
    for level, threshold in zip(levels, thresholds, strict=True):
        assert listed(level) == sought_anew(probability, threshold, connectivity, lesions)


def test_rows_do_not_touch_around_the_border():
    probability = np.zeros((3, 4), np.float32)
    probability[0, 3] = probability[1, 0] = 0.9
    [level] = component_levels(probability, [0.5], 8)
    assert level.voxels.tolist() == [1, 1]


def test_nothing_above_the_lowest_threshold():
    for level in component_levels(np.zeros((3, 4, 5), np.float32), [0.9, 0.1]):
        assert len(level) == len(level.component) == 0


def test_a_probability_is_not_above_itself():
    # 0.3 of a file in single precision against the user's 0.3 in double.
    probability = np.full((2, 2), 0.3, np.float32)
    assert [len(level) for level in component_levels(probability, [0.3, 0.2], 4)] == [0, 1]


@pytest.mark.parametrize(
    ("thresholds", "ids", "message"),
    [
        ([0.3, 0.5], None, r"^Expected falling thresholds, but got \[0\.3, 0\.5\]"),
        ([], None, r"^Expected falling thresholds, but got \[\]"),
        ([0.5], np.zeros((2, 3), int), r"^Expected lesion ids of shape \(2, 2\), but got \(2, 3\)"),
    ],
)
def test_impossible_input_is_refused(thresholds, ids, message):
    with pytest.raises(ValueError, match=message):
        component_levels(np.zeros((2, 2), np.float32), thresholds, 4, ids)
