"""A whole audit, its files, and what is recommended for which figures."""

import csv
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from audit_datasets import write_raw_dataset

from nnunet_rw.audit import audit as audit_module
from nnunet_rw.audit.audit import AUDITED, REASONS, Figures, audit_dataset, recommend
from nnunet_rw.audit.report import COLUMNS, write_audit
from nnunet_rw.audit.sources import open_labels


@pytest.fixture
def audit(nnunet, monkeypatch):
    """Two cases of two classes, one absent; 1 mm voxels: lesions of 1 and 125 voxels, and none."""
    monkeypatch.setattr(audit_module, "PATCH_PAIRS", 4)
    labels = np.zeros((8, 8, 12), np.int16)
    labels[1:6, 1:6, 1:6] = 2
    labels[2, 2, 8] = 2
    classes = {"background": 0, "edema": 1, "core": 2}
    cases = {"full": labels, "empty": labels * 0}
    write_raw_dataset(nnunet.root / "nnUNet_raw", cases, spacing_mm=(1.0, 1.0, 1.0), labels=classes)
    return audit_dataset(open_labels("901"))


def test_what_is_found(audit):
    assert audit.cases == ("empty", "full")
    assert [len(lesions) for lesions in audit.lesions] == [0, 2]
    assert [(label.label, label.num_cases, label.num_lesions) for label in audit.labels] == [
        ("edema", 0, 0),
        ("core", 1, 2),
    ]
    # Of 5^3 voxels 3^3 are inside.
    assert audit.labels[1].border_share == (125 - 27 + 1) / 126
    assert [size.num_lesions for size in audit.sizes] == [1, 0, 1, 0]
    assert audit.num_patches == 2 * 2 * 2
    assert [shares.trainer for shares in audit.gradients] == list(AUDITED)
    stock, paper, mild, *_ = audit.gradients
    assert stock.by_size == pytest.approx((1 / 126, 0, 125 / 126, 0))
    # The whole case is one patch.
    assert paper.by_size == pytest.approx((0.5, 0, 0.5, 0))
    assert stock.by_size[0] < mild.by_size[0] < paper.by_size[0]
    assert all(0 < shares.of_lesions < 1 for shares in audit.gradients)
    # The one lesion is 125 of 126 voxels, the small one is in one case of two.
    assert audit.recommendation.trainer == "nnUNetTrainer"


def test_files(audit, tmp_path):
    paths = write_audit(audit, tmp_path / "new")
    assert [path.name for path in paths] == ["audit.json", "lesions.csv"]
    content = json.loads(paths[0].read_text(), parse_constant=pytest.fail)
    assert (content["dataset"], content["cases"]) == ("Dataset901_Raw", 2)
    assert content["labels"][0]["gini"] is None
    assert content["sizes"][-1]["high_mm3"] is None
    assert content["gradients"][0]["trainer"] == "nnUNetTrainer"
    assert content["recommendation"]["trainer"] == "nnUNetTrainer"
    with open(paths[1], newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert sorted(row[:2] + row[3:] for row in rows) == [
        ["full", "2", "1", "1", "1", "0"],
        ["full", "2", "125", "125", "98", "100"],
    ]
    assert sorted(row[2] for row in rows) == ["1", "2"]


@pytest.fixture
def eight_cases(nnunet, blobs, monkeypatch):
    monkeypatch.setattr(audit_module, "PATCH_PAIRS", 3)
    cases = {f"case_{number}": blobs((12, 14, 16), seed=number) for number in range(8)}
    write_raw_dataset(nnunet.root / "nnUNet_raw", cases)
    return open_labels("901")


def test_patches_of_some_cases_lesions_of_all(eight_cases):
    found = audit_dataset(eight_cases, processes=1)
    assert found.num_patches == 6
    assert len(found.lesions) == 8
    assert sum(label.num_lesions for label in found.labels) == sum(len(lesions) for lesions in found.lesions)
    # What a worker is sent.
    assert audit_dataset(pickle.loads(pickle.dumps(eight_cases)), processes=1).gradients == found.gradients


@pytest.mark.slow
def test_processes_find_the_same(eight_cases, monkeypatch):
    # A worker does not see the number of patches that a test has set, but it is told how many are its own.
    one, two = (audit_dataset(eight_cases, processes=number) for number in (1, 2))
    assert one.gradients == two.gradients
    assert one.labels == two.labels


def test_all_background(nnunet):
    empty = np.zeros((6, 6, 6), np.int16)
    write_raw_dataset(nnunet.root / "nnUNet_raw", {"a": empty, "b": empty})
    with pytest.raises(ValueError, match=r"No lesion in the 2 cases of .*labelsTr"):
        audit_dataset(open_labels("901"))


MANY_SMALL = Figures(
    small_per_case=33.0,
    small_share=0.91,
    small_voxel_share=0.098,
    small_stock_gradient=0.103,
    small_weighted_gradient=0.426,
    largest_lesion_share=0.6,
    border_share=0.58,
)
COMPACT = replace(MANY_SMALL, small_per_case=0.005, small_share=0.002, largest_lesion_share=1.0, border_share=0.44)


def test_many_small_lesions():
    found = recommend(MANY_SMALL)
    assert found.trainer == "RWTrainer_SmallLesions"
    for figure in ("91%", "below 100 mm3", "33 per case", "9.8%", "10.3%", "42.6%", "false positives"):
        assert figure in found.reason


@pytest.mark.parametrize(
    "figures",
    [
        # Specks beside structures: one in every case, but few of all.
        replace(MANY_SMALL, small_share=0.2),
        # A small lesion in some cases.
        replace(MANY_SMALL, small_per_case=0.5),
        # All are small.
        replace(MANY_SMALL, small_share=1.0, small_stock_gradient=1.0),
        # One compact structure.
        COMPACT,
    ],
)
def test_nothing_speaks_for_another_loss(figures):
    found = recommend(figures)
    assert found.trainer == "nnUNetTrainer"
    assert f"{figures.border_share:.0%}" in found.reason


def test_small_lesions_at_the_limits():
    figures = replace(COMPACT, small_per_case=1.0, small_share=1 / 3, small_stock_gradient=1 / 6)
    assert recommend(figures).trainer == "RWTrainer_SmallLesions"


def test_rectified_maps_alone_are_never_recommended():
    assert "RWTrainer_RRW" not in set(REASONS)
