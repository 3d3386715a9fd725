import numpy as np
import pytest
import SimpleITK as sitk
from overlay_sources import IMAGE, LARGE, NOTHING, SMALL, SPACING_MM, volume, write_source

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.pictures.overlays import Code
from nnunet_rw.pictures.panels import View, Wanted, close_up, extent_mm, outline, take_pictures, view_of, within


def properties_of(image):
    return {"sitk_stuff": {"direction": image.GetDirection()}}


def test_slices_are_taken_along_the_coarsest_axis_the_first_of_several():
    assert view_of((1, 1, 1), {}).axis == 0
    assert view_of((1, 3, 2), {}).axis == 1
    assert view_of((0.5, 2, 2), {}).axis == 1
    assert view_of((0.5, 2, 2.001), {}).axis == 1  # headers are rounded
    assert view_of((1, 2), {}) == View(None)


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LAS", "PSR", "SPL", "ILA", "AIR"])
@pytest.mark.parametrize("coarse", [0, 1, 2])
def test_a_patient_looks_the_same_however_the_volume_is_stored(orientation, coarse):
    rng = np.random.default_rng(0)
    patient = rng.random((3, 4, 5)).astype(np.float32)  # towards head, back, left
    spacing = [1.0, 1.5, 2.0]
    spacing[coarse] = 6.0
    stored = sitk.GetImageFromArray(patient)
    stored.SetSpacing(spacing[::-1])
    # Axes that are tilted by a few degrees count as the patient's.
    tilt = sitk.Euler3DTransform((0, 0, 0), 0.1, -0.2, 0.15)
    stored.SetDirection(tilt.GetMatrix())
    stored = sitk.DICOMOrient(stored, orientation)
    array, steps = sitk.GetArrayFromImage(stored), stored.GetSpacing()[::-1]
    view = view_of(steps, properties_of(stored))
    axis = view.axis
    # From the front and the side the head is on top; the patient's right, or front, is on the left.
    expected = {0: patient, 1: patient.transpose(1, 0, 2)[:, ::-1], 2: patient.transpose(2, 0, 1)[:, ::-1]}[coarse]
    pictures = [view.picture(array, index) for index in range(array.shape[axis])]
    np.testing.assert_array_equal(sorted(map(np.ndarray.tolist, pictures)), sorted(expected.tolist()))
    rows, columns = (step for number, step in enumerate(spacing) if number != coarse)
    assert view.pixel_mm(steps) == pytest.approx((rows, columns))


def test_nibabel_readers_tell_directions_by_affines():
    # Towards the patient's right and front are minus; array axes are in reverse.
    lps, ras = np.diag([-2.0, -1, 3, 1]), np.diag([2.0, 1, 3, 1])
    spacing = (3, 1, 2)
    assert view_of(spacing, {"nibabel_stuff": {"original_affine": lps}}) == View(0)
    assert view_of(spacing, {"nibabel_stuff": {"original_affine": ras}}) == View(0, flipped=(True, True))
    both = {"original_affine": lps, "reoriented_affine": ras}
    assert view_of(spacing, {"nibabel_stuff": both}) == View(0, flipped=(True, True))


def test_voxels_of_every_slice():
    mask = np.zeros((2, 3, 4), bool)
    mask[0, 1, :3] = mask[1, 1, 0] = True
    assert [View(axis).counts(mask).tolist() for axis in range(3)] == [[3, 1], [0, 4, 0], [2, 1, 1, 0]]
    assert View().counts(mask[0]).tolist() == [3]


def test_outline_by_hand():
    def sides(mask):
        return {tuple(map(tuple, side)) for side in outline(np.array(mask, bool)).tolist()}

    # The pixel in row 0 and column 1.
    left, right, top, bottom = 0.5, 1.5, -0.5, 0.5
    square = {
        ((left, top), (left, bottom)),
        ((right, top), (right, bottom)),
        ((left, top), (right, top)),
        ((left, bottom), (right, bottom)),
    }
    assert sides([[0, 1], [0, 0]]) == square
    assert len(sides([[1, 1], [0, 0]])) == 6
    assert len(sides([[1, 0], [0, 1]])) == 8
    assert len(sides([[1, 1, 1], [1, 0, 1], [1, 1, 1]])) == 16  # the hole has an outline
    assert outline(np.zeros((2, 3), bool)).shape == (0, 2, 2)


def test_close_up_by_hand():
    mask = np.zeros((20, 30), bool)
    mask[4:7, 10] = mask[5, 10:12] = True  # rows 4 to 6, columns 10 to 11: 6 mm high, 1 mm wide
    pixel_mm = (2.0, 0.5)
    assert extent_mm(mask, pixel_mm) == 6
    # 8 mm are 4 rows and 16 columns.
    assert close_up(mask, pixel_mm, 8) == (10.5 - 8, 10.5 + 8, 5 - 2, 5 + 2)
    assert extent_mm(np.zeros((20, 30), bool), pixel_mm) == 0
    assert close_up(np.zeros((20, 30), bool), pixel_mm, 8) == (14.5 - 8, 14.5 + 8, 9.5 - 2, 9.5 + 2)


def test_windows_are_moved_into_the_picture():
    # A picture of 10 rows and 6 columns reaches from -0.5 to 9.5 and to 5.5.
    assert within((1, 4, 2, 5), (10, 6)) == (1, 4, 2, 5)
    assert within((-2, 1, 7, 11), (10, 6)) == (-0.5, 2.5, 5.5, 9.5)
    assert within((0, 8, 0, 8), (10, 6)) == (-1.5, 6.5, 0, 8)  # wider than the picture: about its middle


def test_pictures_show_the_slice_with_most_error_or_most_of_the_lesion(tmp_path):
    # A lesion that is right in slice 1; in slices 0 and 2 one that is missed, mostly in 2; a false voxel in slice 3.
    missed = {"b": np.s_[2, 0, 20:24], "c": np.s_[1, 0, 20], "d": np.s_[0, 0, 20]}
    reference, prediction = volume(a=LARGE, **missed), volume(a=LARGE, f=np.s_[3, 9, 39])
    source = write_source(tmp_path, {"a": (reference, prediction)}, {"a": IMAGE})
    lesion = Wanted(0, 0, 1)  # in array order it comes first
    pictures = take_pictures(source, EvaluationSettings(), [Wanted(0, 0), lesion, Wanted(0, 0)])
    assert list(pictures) == [Wanted(0, 0), lesion]
    error, close = pictures.values()
    assert error.index == close.index == 2  # along the axis of 4 mm
    assert error.pixel_mm == SPACING_MM[1:]
    assert error.lesion is None
    assert close.lesion.sum() == 4
    np.testing.assert_array_equal(close.lesion, close.codes == Code.MISSED)
    low, high = np.percentile(IMAGE, (1, 99.5))
    # Rows run to the back and columns to the left already: nothing is flipped.
    values = (IMAGE[2] - low) / (high - low)
    np.testing.assert_allclose(close.image, np.clip(values, 0, 1), atol=1e-5)
    assert close.lesion[0, 20:24].all()


def test_without_error_the_slice_with_most_of_the_lesions(tmp_path):
    labels = volume(a=LARGE, b=SMALL)
    source = write_source(tmp_path, {"a": (labels, labels), "b": (NOTHING, NOTHING)})
    pictures = take_pictures(source, EvaluationSettings(), [Wanted(0, 0), Wanted(1, 0)])
    assert [picture.index for picture in pictures.values()] == [1, 2]  # of nothing, the middle
    assert [picture.image for picture in pictures.values()] == [None, None]
