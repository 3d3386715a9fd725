import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_rw.evaluation.detection import Detection
from nnunet_rw.evaluation.predictions import CaseResult, evaluate_folder, pooled_recall_by_size

# Of array axes (Z, Y, X); a voxel has 3 mm3.
SPACING_MM = (4.0, 1.5, 0.5)


def write(folder, name, labels):
    folder.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(labels.astype(np.uint8))
    image.SetSpacing(tuple(reversed(SPACING_MM)))
    sitk.WriteImage(image, str(folder / name))


def labels(*voxels, shape=(3, 4, 9)):
    """Labels with (label, index or slice) set on the line z = 1, y = 1."""
    array = np.zeros(shape, int)
    for label, where in voxels:
        array[1, 1, where] = label
    return array


@pytest.fixture
def folders(tmp_path):
    return tmp_path / "predictions", tmp_path / "references"


def test_detection_and_dice_by_hand(folders):
    predictions, references = folders
    # Class 1: lesions of 2 (x = 0, 1) and 1 voxels (x = 4); class 2: one of 3 voxels (x = 6 to 8).
    write(references, "b.nii.gz", labels((1, slice(0, 2)), (1, 4), (2, slice(6, 9))))
    # Class 1 is seen at x = 1 and, falsely, at 8; class 2 at 6 and 7.
    write(predictions, "b.nii.gz", labels((1, 1), (1, 8), (2, slice(6, 8))))
    write(references, "a.nii.gz", labels())
    write(predictions, "a.nii.gz", labels())

    results = evaluate_folder(predictions, references, [1, 2])

    assert [(result.case, result.label) for result in results] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    for empty in results[:2]:
        assert np.isnan(empty.dice)
        assert len(empty.detection.hit) == empty.detection.num_predicted == 0
    first, second = results[2:]
    assert sorted(zip(first.detection.volumes_voxels, first.detection.hit, strict=True)) == [(1, False), (2, True)]
    assert sorted(first.detection.volumes_mm3) == [3.0, 6.0]
    assert first.detection.num_false_positives == 1
    assert first.dice == 2 * 1 / (3 + 2)
    assert second.detection.volumes_mm3.tolist() == [9.0]
    assert second.detection.hit.tolist() == [True]
    assert second.detection.num_false_positives == 0
    assert second.dice == 2 * 2 / (3 + 2)


def test_only_predicted_cases_and_listed_classes_count(folders):
    predictions, references = folders
    for case in ("a", "b"):
        write(references, f"{case}.nii.gz", labels((1, 0), (2, 5)))
    write(predictions, "b.nii.gz", labels((1, 0)))
    (predictions / "summary.json").write_text("{}")
    assert [(result.case, result.label) for result in evaluate_folder(predictions, references, [1])] == [("b", 1)]


def test_other_file_ending(folders):
    predictions, references = folders
    for folder in folders:
        write(folder, "a.nrrd", labels((1, 0)))
    (result,) = evaluate_folder(predictions, references, [1], file_ending=".nrrd")
    assert (result.case, result.dice) == ("a", 1.0)


def test_no_prediction(folders):
    predictions, references = folders
    with pytest.raises(FileNotFoundError, match=rf"No \*\.nii\.gz in {predictions}\. Run nnUNetv2_train with --val"):
        evaluate_folder(predictions, references, [1])


def test_prediction_without_reference(folders):
    predictions, references = folders
    write(predictions, "a.nii.gz", labels())
    with pytest.raises(FileNotFoundError, match=rf"No reference {references / 'a.nii.gz'} for the prediction"):
        evaluate_folder(predictions, references, [1])


def test_prediction_of_another_shape(folders):
    predictions, references = folders
    write(predictions, "a.nii.gz", labels(shape=(3, 4, 9)))
    write(references, "a.nii.gz", labels(shape=(3, 5, 9)))
    with pytest.raises(ValueError, match=r"a\.nii\.gz to have the shape .* \(3, 5, 9\), but got \(3, 4, 9\)"):
        evaluate_folder(predictions, references, [1])


def result(volumes, hit):
    volumes, hit = np.array(volumes, int), np.array(hit, bool)
    return CaseResult("case", 1, Detection(volumes, 3.0 * volumes, hit, int(hit.sum()), 0, 0), 0.5)


def test_recall_by_size_pools_cases_and_counts_the_lower_edge_in():
    # Voxels 1 2 | 5 9 | 10 100: the edge 5 opens the second class, 10 the third; 4 and below stay in the first.
    cases = [result([5, 1, 100], [True, False, True]), result([2, 9, 10], [True, False, True]), result([], [])]
    assert pooled_recall_by_size(cases, (1, 5, 10, float("inf"))) == [(1, 2), (1, 2), (2, 2)]


def test_recall_by_size_leaves_out_what_lies_beyond_the_edges():
    assert pooled_recall_by_size([result([1, 5, 20], [True, True, True])], (2, 10, 20)) == [(1, 1), (0, 0)]
