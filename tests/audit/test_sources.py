"""Where labels are taken from, and what is refused."""

import json

import numpy as np
import pytest
from audit_datasets import write_raw_dataset

from nnunet_rw.audit.sources import PreprocessedLabels, RawLabels, open_labels

SPACING_MM = (3.0, 1.0, 0.5)
SHAPE = (6, 8, 10)


@pytest.fixture
def raw(nnunet):
    return nnunet.root / "nnUNet_raw"


@pytest.fixture
def labels():
    values = np.zeros(SHAPE, np.int16)
    values[1, 2, 3:5] = 1
    return values


def test_raw_labels_have_the_images_spacing(raw, labels):
    folder = write_raw_dataset(raw, {"b": labels, "a": labels * 0})
    source = open_labels("901")
    assert isinstance(source, RawLabels)
    assert (source.dataset, source.folder, source.cases) == ("Dataset901_Raw", folder / "labelsTr", ("a", "b"))
    assert (source.label_names, source.label_values) == (("lesion",), ("1",))
    assert source.patch_size is None
    found, spacing_mm = source.read("b")
    np.testing.assert_array_equal(found, labels)
    assert spacing_mm == pytest.approx(SPACING_MM)


def test_regions_and_ignore_label(raw, labels):
    names = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    write_raw_dataset(raw, {"a": labels}, labels=names, regions_class_order=[1, 2])
    source = open_labels("901")
    assert source.scheme.regions
    assert (source.scheme.foreground, source.scheme.ignore_label) == (((1, 2), (2,)), 3)
    assert (source.label_names, source.label_values) == (("whole", "core"), ("(1, 2)", "(2,)"))


def test_files_that_dataset_json_lists(raw, labels):
    folder = write_raw_dataset(raw, {"a": labels})
    (folder / "labelsTr").rename(folder / "elsewhere")
    content = json.loads((folder / "dataset.json").read_text())
    content["dataset"] = {"case": {"label": "elsewhere/a.nii.gz", "images": ["a_0000.nii.gz"]}}
    (folder / "dataset.json").write_text(json.dumps(content))
    source = open_labels("901")
    assert source.cases == ("case",)
    np.testing.assert_array_equal(source.read("case")[0], labels)


def test_preprocessed_where_nothing_raw_is_or_it_is_asked_for(make_dataset, raw, labels):
    dataset = make_dataset({"a": labels, "b": labels}, configurations={"3d_fullres": {"spacing": SPACING_MM}})
    source = open_labels("900")
    assert isinstance(source, PreprocessedLabels)
    assert (source.folder, source.patch_size) == (dataset.data_folder(), (16, 16, 16))
    found, spacing_mm = source.read("a")
    np.testing.assert_array_equal(found, labels)
    assert spacing_mm == SPACING_MM
    write_raw_dataset(raw, {"a": labels}, name=dataset.name)
    assert isinstance(open_labels("900"), RawLabels)
    for options in ({"configuration": "3d_fullres"}, {"plans_name": "nnUNetPlans"}):
        assert isinstance(open_labels("900", **options), PreprocessedLabels)


def test_slices_keep_their_distance(make_dataset, labels):
    make_dataset({"a": labels, "b": labels}, configurations={"2d": {"patch_size": (8, 8), "spacing": (1.0, 0.5)}})
    found, spacing_mm = open_labels("900").read("a")
    # The fixture's images lie 1 mm apart.
    assert (found.shape, spacing_mm) == (SHAPE, (1.0, 1.0, 0.5))


def test_cases_are_chosen_evenly(raw, labels):
    write_raw_dataset(raw, {f"case_{number}": labels for number in range(9)})
    assert open_labels("901", max_cases=3).cases == ("case_0", "case_4", "case_8")
    assert len(open_labels("901", max_cases=20).cases) == 9


def test_unknown_dataset(nnunet):
    with pytest.raises(FileNotFoundError, match="No dataset '77'"):
        open_labels("77")


def test_no_labels(raw, labels):
    folder = write_raw_dataset(raw, {"a": labels})
    (folder / "labelsTr" / "a.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"No \*\.nii\.gz in .*labelsTr"):
        open_labels("901")
    (folder / "labelsTr").rmdir()
    with pytest.raises(FileNotFoundError, match=r"No labels: there is no .*labelsTr"):
        open_labels("901")
    (folder / "dataset.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"No .*dataset\.json"):
        open_labels("901")


def test_damaged_files(raw, labels, make_dataset):
    folder = write_raw_dataset(raw, {"a": labels, "b": labels})
    path = folder / "labelsTr" / "b.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"b\.nii\.gz cannot be read"):
        open_labels("901").read("b")
    dataset = make_dataset({"a": labels, "b": labels})
    path = dataset.data_folder() / "b_seg.b2nd"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"b_seg\.b2nd is damaged .* Run: nnUNetv2_preprocess -d 900 "):
        open_labels("900").read("b")


def test_unknown_label(raw, labels, make_dataset):
    write_raw_dataset(raw, {"a": labels * 4})
    with pytest.raises(ValueError, match="holds label 4"):
        open_labels("901").read("a")
    make_dataset({"a": labels * 4, "b": labels})
    with pytest.raises(ValueError, match=r"Case 'a' .* holds label 4"):
        open_labels("900").read("a")
