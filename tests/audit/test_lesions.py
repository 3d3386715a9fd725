"""The lesions of a case, summaries of many against values taken by hand, and cases that share lesions."""

import math
from pathlib import Path

import numpy as np
import pytest
from audit_datasets import write_raw_dataset

from nnunet_rw.audit.lesions import (
    Lesions,
    find_case_lesions,
    gini,
    largest_tenth_share,
    lesion_shapes,
    pooled,
    shared_lesions,
    summarise_label,
    summarise_sizes,
)
from nnunet_rw.audit.report import sharing_warning
from nnunet_rw.evaluation.metrics.surface import border_voxels
from nnunet_rw.maps.kinds import LabelScheme

SPACING_MM = (3.0, 1.0, 0.5)


def test_classes_on_their_own():
    labels = np.zeros((5, 6, 8), np.int16)
    labels[1:4, 1:4, 1:4] = 1
    labels[2, 2, 4] = 2  # touches class 1
    labels[4, 5, 7] = 1
    labels[0, 0, 0] = -1
    before = labels.copy()
    lesions, ids = find_case_lesions(labels, LabelScheme.classes(3), SPACING_MM)
    np.testing.assert_array_equal(labels, before)
    order = np.lexsort((-lesions.voxels, lesions.label))
    assert lesions.label[order].tolist() == [0, 0, 1]
    assert lesions.voxels[order].tolist() == [27, 1, 1]
    # Of a cube of 3 voxels all but the middle.
    assert lesions.border_voxels[order].tolist() == [26, 1, 1]
    assert lesions.volume_mm3[order].tolist() == [40.5, 1.5, 1.5]
    assert ids.shape == (1, 5, 6, 8)
    np.testing.assert_array_equal(np.bincount(ids.ravel())[1:], lesions.voxels)
    np.testing.assert_array_equal(ids[0] > 0, labels > 0)


def test_border_is_that_of_surface_distances(blobs):
    labels = blobs((20, 24, 16))
    lesions, _ = find_case_lesions(labels, LabelScheme.classes(2), SPACING_MM)
    assert lesions.border_voxels.sum() == border_voxels(labels == 1).sum()


def test_border_in_one_slice_is_that_of_an_image():
    # A square of 5 x 5 has 16 voxels along its sides; among further slices all are at the border of their lesion.
    for slices, border in ((1, 16), (3, 25)):
        labels = np.zeros((slices, 7, 7), np.int16)
        labels[slices // 2, 1:6, 1:6] = 1
        lesions, _ = find_case_lesions(labels, LabelScheme.classes(2), SPACING_MM)
        assert (lesions.voxels.tolist(), lesions.border_voxels.tolist()) == ([25], [border])


def test_regions_have_their_own_lesions_and_channels():
    labels = np.zeros((4, 4, 9), np.int16)
    labels[1:3, 1:3, 1:4] = 1
    labels[1, 1, [1, 3]] = 2
    scheme = LabelScheme(((1, 2), (2,)), regions=True)
    lesions, ids = find_case_lesions(labels, scheme, (1, 1, 1))
    assert lesions.label.tolist() == [0, 1, 1]
    assert lesions.voxels.tolist() == [12, 1, 1]
    assert ids.shape == (2, 4, 4, 9)
    assert set(np.unique(ids[0])) == {0, 1}
    assert set(np.unique(ids[1])) == {0, 2, 3}


@pytest.mark.parametrize("regions", [False, True])
def test_unlabelled_voxels_are_in_no_lesion(regions):
    labels = np.zeros((4, 4, 6), np.int16)
    labels[1, 1, :3] = 1
    labels[1, 1, 3:] = 3
    scheme = LabelScheme(((1, 2), (2,)), True, 3) if regions else LabelScheme.classes(3, ignore_label=3)
    lesions, ids = find_case_lesions(labels, scheme, (1, 1, 1))
    assert lesions.voxels.tolist() == [3]
    assert not ids[:, labels == 3].any()


def test_no_lesion_and_two_axes():
    lesions, ids = find_case_lesions(np.zeros((4, 5), np.int16), LabelScheme.classes(3), (1.0, 2.0))
    assert len(lesions) == 0
    assert not ids.any()
    square = np.zeros((5, 5), np.int16)
    square[1:4, 1:4] = 1
    lesions, _ = find_case_lesions(square, LabelScheme.classes(2), (1.0, 2.0))
    assert (lesions.border_voxels.tolist(), lesions.volume_mm3.tolist()) == ([8], [18.0])


def test_size_classes_are_those_of_evaluations():
    # Ten voxels of 0.1 mm3 each a hundred times are not below 100 mm3 by rounding.
    volumes = np.array([9.99, 10.0, 1000 * 0.1, 100 * (1 - 1e-12), 1000.0])
    voxels = np.ones(5, np.int64)
    lesions = Lesions(np.zeros(5, np.int64), voxels, voxels, volumes)
    assert lesions.size_class.tolist() == [0, 1, 2, 2, 3]
    assert pooled([lesions, lesions]).size_class.tolist() == [0, 1, 2, 2, 3] * 2


def lesions(volumes, label=0, border=None):
    """Lesions with voxels of 1 mm3."""
    voxels = np.array(volumes, np.int64)
    border = voxels if border is None else np.array(border, np.int64)
    return Lesions(np.full(len(voxels), label), voxels, border, voxels.astype(np.float64))


def test_gini_by_hand():
    # The pairs of 1, 1, 2 differ by 0, 1 and 1, each twice: 4 / (2 * 3 * 4).
    assert gini(np.array([1.0, 2.0, 1.0])) == pytest.approx(1 / 6)
    assert gini(np.array([7.0])) == 0
    assert gini(np.full(5, 3.0)) == pytest.approx(0)
    assert math.isnan(gini(np.zeros(0)))


def test_gini_is_half_the_relative_mean_difference():
    volumes = np.random.default_rng(0).lognormal(3, 2, 40)
    differences = np.abs(volumes[:, None] - volumes).mean()
    assert gini(volumes) == pytest.approx(differences / (2 * volumes.mean()))


def test_largest_tenth():
    # Of 10 lesions one, of 11 two.
    assert largest_tenth_share(np.array([1.0] * 9 + [11.0])) == pytest.approx(11 / 20)
    assert largest_tenth_share(np.array([1.0] * 9 + [5.0, 6.0])) == pytest.approx(11 / 20)
    assert math.isnan(largest_tenth_share(np.zeros(0)))


def test_summary_of_a_label():
    none = lesions([])
    cases = [lesions([2, 8], border=[2, 3]), none, lesions([10], border=[5]), lesions([50], label=1)]
    found = summarise_label("core", 0, cases)
    assert (found.label, found.num_cases, found.num_lesions) == ("core", 2, 3)
    assert found.per_case == (0.5, 0, 2)  # counts 2, 0, 1, 0
    assert found.median_volume_mm3 == 8
    assert found.largest_tenth_share == 10 / 20
    assert found.border_share == 10 / 20
    assert found.largest_lesion_share == pytest.approx((0.8 + 1) / 2)


def test_summary_of_an_absent_label():
    found = summarise_label("core", 1, [lesions([2, 8]), lesions([3])])
    assert (found.num_cases, found.num_lesions, found.per_case) == (0, 0, (0, 0, 0))
    for value in (found.median_volume_mm3, found.gini, found.border_share, found.largest_lesion_share):
        assert math.isnan(value)


def test_summary_of_sizes():
    sizes = summarise_sizes([lesions([9, 10, 99]), lesions([100, 1000, 1782], label=1)])
    assert [(size.low_mm3, size.high_mm3) for size in sizes] == [(0, 10), (10, 100), (100, 1000), (1000, math.inf)]
    assert [size.num_lesions for size in sizes] == [1, 2, 1, 2]
    assert [size.lesion_share for size in sizes] == pytest.approx([1 / 6, 2 / 6, 1 / 6, 2 / 6])
    assert [size.voxel_share for size in sizes] == pytest.approx([9 / 3000, 109 / 3000, 100 / 3000, 2782 / 3000])


DATA = Path(__file__).parents[3] / "shared" / "data"


def lesion(seed):
    """A connected, irregular lesion of 60 voxels or more in 5 x 6 x 7."""
    mask = np.random.default_rng(seed).random((5, 6, 7)) < 0.5
    mask[:, 2, 3] = mask[2, :, 3] = mask[2, 2, :] = True
    return mask


def shapes_of(*placed, shape=(20, 20, 24)):
    labels = np.zeros(shape, np.int16)
    for corner, mask in placed:
        labels[tuple(slice(start, start + size) for start, size in zip(corner, mask.shape, strict=True))] = mask
    return lesion_shapes(*find_case_lesions(labels, LabelScheme.classes(2), (1.0, 1.0, 1.0)))


def test_the_same_lesion_elsewhere():
    here, there = shapes_of(((1, 2, 3), lesion(0))), shapes_of(((9, 9, 9), lesion(0)), ((1, 1, 1), lesion(1)))
    assert here
    assert here < there
    assert not here & shapes_of(((1, 2, 3), lesion(2)))


def test_small_and_regular_lesions_tell_nothing():
    # 48 of 4 x 3 x 4 voxels, and a box of any size.
    small = np.ones((4, 3, 4), bool)
    small[0, 0, 0] = False
    assert shapes_of(((1, 1, 1), small)) == frozenset()
    assert shapes_of(((1, 1, 1), np.ones((5, 6, 7), bool))) == frozenset()


def test_pairs_and_folds_by_hand():
    shapes = {"a": frozenset("xy"), "b": frozenset("x"), "c": frozenset("yz"), "d": frozenset("w")}
    folds = [{"train": ["a", "b"], "val": ["c", "d"]}, {"train": ["c", "d"], "val": ["a", "b"]}]
    shared = shared_lesions(shapes, folds)
    # x joins a and b, which stay together; y joins a and c, which both folds part.
    assert (shared.lesions, shared.pairs, shared.parted) == (2, (("a", "b"), ("a", "c")), (1, 1))
    text = sharing_warning(shared, "Dataset001_A")
    assert "2 pairs of cases share 2 lesions of the very same shape, such as 'a' and 'b', and 2 of 2 folds" in text
    assert text.endswith("nnunet-rw splits -d Dataset001_A --groups FILE")
    together = [{"train": ["d"], "val": ["a", "b", "c"]}, {"train": ["a", "b", "c"], "val": ["d"]}]
    assert sharing_warning(shared_lesions(shapes, together), "Dataset001_A") == ""
    assert "drawn at random, will part them" in sharing_warning(shared_lesions(shapes), "Dataset001_A")
    assert sharing_warning(shared_lesions({"a": frozenset("x"), "b": frozenset()}), "Dataset001_A") == ""


def test_the_command_warns(nnunet, tmp_path, monkeypatch, capsys):
    from nnunet_rw.audit import audit
    from nnunet_rw.cli import main

    monkeypatch.setattr(audit, "PATCH_PAIRS", 2)
    labels = np.zeros((12, 12, 12), np.uint8)
    labels[1:6, 1:7, 1:8] = lesion(0)
    other = labels * 0
    other[6:11, 5:11, 4:11] = lesion(1)
    write_raw_dataset(nnunet.root / "nnUNet_raw", {"a": labels, "b": labels.copy(), "c": other})
    assert main(["audit", "-d", "901", "-o", str(tmp_path / "out"), "-np", "1"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Warning: 1 pair of cases share 1 lesion of the very same shape, such as 'a' and 'b'" in text


@pytest.mark.slow
@pytest.mark.parametrize(("task", "shares"), [("Task11_MSLesion", True), ("Task51_TabrizMS", False)])
def test_datasets(task, shares):
    nibabel = pytest.importorskip("nibabel")
    files = sorted((DATA / task / "labelsTr").glob("*.nii.gz"))[:20]
    if not files:
        pytest.skip(f"no {task} at hand")
    scheme, shapes = LabelScheme.classes(2), {}
    for path in files:
        labels = np.asarray(nibabel.load(path).dataobj).astype(np.int16)
        shapes[path.name] = lesion_shapes(*find_case_lesions(labels, scheme, (1.0, 1.0, 1.0)))
    assert bool(shared_lesions(shapes).pairs) == shares
