import json
import re

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from overlay_sources import SPACING_MM, write_overlays, write_source
from scipy import ndimage

from nnunet_rw.evaluation.sources import folders_source
from nnunet_rw.pictures.overlays import COLOURS, MEANINGS, Code, class_names, label_descriptions, overlay_codes

VOXEL_MM3 = 4.0
READERS = ("NibabelIO", "NibabelIOWithReorient", "SimpleITKIO", "SimpleITKIOWithReorient")


def line(text):
    """A volume of one row of voxels, from a digit or a dot each."""
    return np.array([[[int(mark.replace(".", "0")) for mark in text]]], np.uint8)


def codes_of(reference, prediction, **options):
    """As text."""
    codes = overlay_codes(line(reference) > 0, line(prediction) > 0, SPACING_MM, **options)
    assert codes.dtype == np.uint8
    return "".join(map(str, codes.ravel())).replace("0", ".")


def test_codes_by_hand():
    # The first lesion is found but for a voxel, and predicted one voxel too far; the others are missed, what is
    # predicted between them is false.
    reference = ".111..11....1."
    predicted = "..111....11..."
    assert codes_of(reference, predicted) == ".2114.33.55.3."


def test_codes_of_lesions_below_the_minimum_volume():
    # With at least two voxels the single ones are ignored: missed, or predicted, by a lesion that goes on beyond it.
    reference = "1..1....11"
    predicted = "...11...1."
    assert codes_of(reference, predicted) == "3..14...12"
    assert codes_of(reference, predicted, min_volume_mm3=2 * VOXEL_MM3) == "6..66...12"


def test_a_lesion_that_is_found_does_not_count_for_the_ignored_one_that_it_covers_as_well():
    assert codes_of("11.1", ".111", min_volume_mm3=2 * VOXEL_MM3) == "2146"


def test_codes_where_the_reference_says_nothing():
    # What is predicted there is not counted and connects nothing: the last three predicted voxels are a lesion apart.
    known = line("1111001111") > 0
    assert codes_of(".11.......", "..1111111.") == ".21444444."
    assert codes_of(".11.......", "..1111111.", known=known) == ".21466555."


def test_codes_follow_the_connectivity():
    reference = np.zeros((1, 2, 2), bool)
    reference[0, 0, 0] = reference[0, 1, 1] = True
    prediction = reference.copy()
    prediction[0, 1, 1] = False
    assert overlay_codes(reference, prediction, SPACING_MM, connectivity=26).tolist() == [[[1, 0], [0, 2]]]
    assert overlay_codes(reference, prediction, SPACING_MM, connectivity=6).tolist() == [[[1, 0], [0, 3]]]


@pytest.mark.parametrize("which", ["neither", "reference", "prediction", "both"])
def test_codes_of_empty_and_full_masks(which):
    reference, prediction = (np.full((2, 3, 4), which in (side, "both")) for side in ("reference", "prediction"))
    expected = {"neither": 0, "reference": Code.MISSED, "prediction": Code.FALSE_POSITIVE, "both": Code.FOUND}
    assert (overlay_codes(reference, prediction, SPACING_MM) == expected[which]).all()


def test_codes_agree_with_a_loop_over_lesions(blobs):
    reference, prediction = (blobs((24, 24, 24), seed=seed, share=0.06) > 0 for seed in (3, 4))
    given = reference.copy(), prediction.copy()
    codes = overlay_codes(reference, prediction, SPACING_MM)
    expected = np.zeros(reference.shape, np.uint8)
    for mask, other, hit, alone in ((prediction, reference, 4, 5), (reference, prediction, 2, 3)):
        ids, number = ndimage.label(mask, np.ones((3, 3, 3)))
        for lesion in range(1, number + 1):
            expected[ids == lesion] = hit if other[ids == lesion].any() else alone
    expected[reference & prediction] = 1
    np.testing.assert_array_equal(codes, expected)
    assert set(np.unique(codes)) == {0, 1, 2, 3, 4, 5}
    np.testing.assert_array_equal(given, (reference, prediction))


@pytest.fixture
def volumes():
    """Reference and prediction of three unequal axes, with a lesion in a corner; the codes by hand."""
    reference, prediction, codes = (np.zeros((3, 4, 6), np.uint8) for _ in range(3))
    reference[0, 0, 0:3] = 1
    prediction[0, 0, 1:5] = 1
    codes[0, 0, :5] = [2, 1, 1, 4, 4]
    reference[2, 3, 5] = 1
    codes[2, 3, 5] = 3
    prediction[2, 0, 0] = 1
    codes[2, 0, 0] = 5
    return reference, prediction, codes


@pytest.mark.parametrize("reader", READERS)
def test_files_lie_on_the_grid_of_the_reference(tmp_path, volumes, reader):
    reference, prediction, codes = volumes
    source = write_source(tmp_path, {"a": (reference, prediction)}, overwrite_image_reader_writer=reader)
    (written,) = write_overlays(source, tmp_path / "overlays")
    assert written.name == "a_lesion.nii.gz"
    assert list(written.parent.iterdir()) == [written]
    image, truth = (sitk.ReadImage(str(path)) for path in (written, source.cases[0].reference))
    for geometry in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, geometry)() == pytest.approx(getattr(truth, geometry)(), abs=1e-5)
    assert image.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), codes)


@pytest.mark.parametrize("ending", [".nrrd", ".png", ".nii.gz"])
def test_two_dimensions_and_other_formats(tmp_path, volumes, ending):
    # The last slice, and the first beside it; as NIfTI whatever the format.
    reference, prediction, codes = (np.concatenate([array[0], array[2]], axis=1) for array in volumes)
    source = write_source(tmp_path, {"a": (reference, prediction)}, ending=ending)
    (written,) = write_overlays(source, tmp_path / "overlays")
    image = sitk.ReadImage(str(written))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), codes)
    assert written.name == "a_lesion.nii.gz"
    assert image.GetSpacing() == pytest.approx((1, 1) if ending == ".png" else SPACING_MM[:0:-1])


def test_tiff_has_the_spacing_that_a_file_tells(tmp_path, volumes):
    # nnU-Net leaves that of the reference behind.
    folders = tmp_path / "model", tmp_path / "references"
    for folder, values in zip(folders, (volumes[1], volumes[0]), strict=True):
        folder.mkdir()
        Tiff3DIO().write_seg(np.pad(values, ((0, 3), (0, 0), (0, 0))), str(folder / "a.tif"), {"spacing": SPACING_MM})
    (folders[1] / "a.json").unlink()
    content = {"channel_names": {"0": "EM"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".tif"}
    (folders[0] / "dataset.json").write_text(json.dumps(content))
    (written,) = write_overlays(folders_source(*folders), tmp_path / "overlays")
    assert sitk.ReadImage(str(written)).GetSpacing() == pytest.approx(SPACING_MM[::-1])


def test_a_case_without_lesions_is_an_empty_file(tmp_path):
    empty = np.zeros((3, 4, 6), np.uint8)
    source = write_source(tmp_path, {"a": (empty, empty)})
    (written,) = write_overlays(source, tmp_path / "overlays")
    assert not sitk.GetArrayFromImage(sitk.ReadImage(str(written))).any()


def test_a_file_a_region_because_regions_overlap(tmp_path):
    # Edema around a core; the prediction has the core alone, one voxel further.
    labels = {"background": 0, "whole tumour": [1, 2], "core": [2], "ignore": 3}
    source = write_source(
        tmp_path,
        {"a": (line("1221...333"), line("..22...22."))},
        labels=labels,
        regions_class_order=[1, 2],
    )
    written = write_overlays(source, tmp_path / "overlays")
    assert [path.name for path in written] == ["a_whole_tumour.nii.gz", "a_core.nii.gz"]
    codes = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))).ravel().tolist() for path in written]
    assert codes == [[2, 2, 1, 1, 0, 0, 0, 6, 6, 0], [0, 2, 1, 4, 0, 0, 0, 6, 6, 0]]


def test_labels_file_tells_number_colour_and_meaning():
    # As ITK-SNAP writes it: IDX R G B A VIS MSH "LABEL".
    pattern = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+[01]\s+[01]\s+[01]\s+"([^"]+)"')
    rows = [pattern.fullmatch(row).groups() for row in label_descriptions().splitlines() if not row.startswith("#")]
    assert rows[0] == ("0", "0", "0", "0", "Clear Label")
    assert {int(number): (int(r), int(g), int(b)) for number, r, g, b, _ in rows[1:]} == COLOURS
    assert [name for *_, name in rows[1:]] == list(MEANINGS.values())
    assert list(COLOURS) == list(MEANINGS) == list(Code)


def test_class_names_for_files():
    labels = {"background": 0, "Left/right lesion": 1, "Läsion": 2}
    assert class_names({"labels": labels}, [1, 2]) == ["Left_right_lesion", "Läsion"]
    # The same to a file system that does not tell capitals from small letters.
    assert class_names({"labels": {"a b": [1, 2], "A_B": 2}}, [(1, 2), 2]) == ["a_b_1_2", "A_B_2"]
