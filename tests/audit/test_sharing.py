"""Lesions of the very same shape in several cases."""

from pathlib import Path

import numpy as np
import pytest
from audit_datasets import write_raw_dataset

from nnunet_rw.audit.lesions import find_case_lesions
from nnunet_rw.audit.sharing import lesion_shapes, shared_lesions, sharing_warning
from nnunet_rw.maps.kinds import LabelScheme

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
