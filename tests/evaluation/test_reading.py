import gzip
import json
import re

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from segmentation_files import PREDICTION, REFERENCE, SHAPE, SPACING_MM, write_image, write_probabilities

from nnunet_rw.evaluation.reading import is_two_dimensional, read_case, read_labels, read_probabilities
from nnunet_rw.evaluation.sources import CaseFiles

NOT_ROTATED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
FLIPPED_X = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def files(tmp_path):
    """Reference and prediction of a case; of the other paths nothing exists."""
    write_image(tmp_path / "reference" / "a.nii.gz", REFERENCE)
    write_image(tmp_path / "prediction" / "a.nii.gz", PREDICTION)
    return CaseFiles("a", tmp_path / "reference" / "a.nii.gz", tmp_path / "prediction" / "a.nii.gz")


def read(files, reader=SimpleITKIO, known_labels=(0, 1), num_heads=2, **more):
    return read_case(
        CaseFiles(**{**vars(files), **more}), reader(), known_labels=frozenset(known_labels), num_heads=num_heads
    )


def refuses(files, *texts, **options):
    """The message, which tells all this."""
    with pytest.raises(ValueError, match=re.escape(str(texts[0]))) as info:
        read(files, **options)
    for text in texts:
        assert str(text) in str(info.value)
    return str(info.value)


@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO])
def test_arrays_and_spacing(files, reader):
    case = read(files, reader)
    np.testing.assert_array_equal(case.reference, REFERENCE)
    np.testing.assert_array_equal(case.prediction, PREDICTION)
    assert (case.reference.dtype, case.prediction.dtype) == (np.int32, np.int32)
    assert case.spacing_mm == pytest.approx(SPACING_MM)
    assert (case.probabilities, case.image) == (None, None)


def test_probabilities_and_the_first_image(files, tmp_path):
    rng = np.random.default_rng(0)
    probabilities = rng.random((2, *SHAPE)).astype(np.float32)
    images = [rng.normal(size=SHAPE).astype(np.float32) for _ in range(2)]
    paths = tuple(write_image(tmp_path / f"a_{channel:04d}.nii.gz", image) for channel, image in enumerate(images))
    case = read(files, probabilities=write_probabilities(tmp_path / "a.npz", probabilities), images=paths)
    np.testing.assert_array_equal(case.probabilities, probabilities)
    np.testing.assert_array_equal(case.image, images[0])


def test_whole_numbers_may_be_stored_as_floating_point(files):
    write_image(files.prediction, PREDICTION.astype(np.float64))
    np.testing.assert_array_equal(read(files).prediction, PREDICTION)


@pytest.mark.parametrize("change", [0.0, 1e-5])
def test_geometry_may_be_rounded(files, change):
    for path, sign in ((files.reference, 1), (files.prediction, -1)):
        write_image(path, REFERENCE, [step + sign * change for step in SPACING_MM], (-31.4 + sign * change, 2.0, 3.0))
    assert read(files).spacing_mm == pytest.approx(SPACING_MM, abs=2e-5)


@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO])
def test_geometry_of_images_of_microscopes(files, reader):
    # Voxels of 0.0005 mm: twice as large, and a place that differs by one, are others; by a hundredth of one it is not.
    def refuses_or_reads(spacing_mm=0.0005, shift_mm=0.0, refused=None):
        write_image(files.reference, REFERENCE, (0.0005,) * 3, (0.02, 0.0, 0.0))
        write_image(files.prediction, PREDICTION, (spacing_mm,) * 3, (0.02 + shift_mm, 0.0, 0.0))
        if refused:
            refuses(files, f"Expected {files.prediction} to have the {refused} of its reference, (", reader=reader)
        else:
            assert read(files, reader).spacing_mm == pytest.approx((0.0005,) * 3)

    refuses_or_reads(spacing_mm=0.001, refused="spacing")
    refuses_or_reads(shift_mm=0.0005, refused="origin" if reader is SimpleITKIO else "original_affine")
    refuses_or_reads(shift_mm=0.000005)
    refuses_or_reads()


def test_other_shape(files):
    write_image(files.prediction, PREDICTION[:, :, :-1])
    refuses(
        files, f"Expected {files.prediction} to have the shape of its reference, (4, 5, 8), but got (4, 5, 7).", "shape"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"spacing_mm": (3.0, 1.0, 0.6)}, "to have the spacing of its reference, (3, 1, 0.5), but got (3, 1, 0.6)."),
        ({"spacing_mm": (0.5, 1.0, 3.0)}, "to have the spacing of its reference, (3, 1, 0.5), but got (0.5, 1, 3)."),
        (
            {"origin": (0.0, 0.5, 0.0)},
            "to have the origin of its reference, (0, 0, 0), but got (0, 0.5, 0).",
        ),
        (
            {"direction": FLIPPED_X},
            "to have the direction of its reference, (1, 0, 0, 0, 1, 0, 0, 0, 1), "
            "but got (-1, 0, 0, 0, 1, 0, 0, 0, 1).",
        ),
    ],
    ids=["spacing", "axes", "origin", "direction"],
)
def test_other_geometry(files, options, text):
    write_image(files.reference, REFERENCE, origin=(0.0, 0.0, 0.0), direction=NOT_ROTATED)
    write_image(files.prediction, PREDICTION, **{"origin": (0.0, 0.0, 0.0), **options})
    refuses(files, f"Expected {files.prediction} {text}")


def test_other_geometry_by_nibabel(files):
    write_image(files.prediction, PREDICTION, origin=(0.0, 0.5, 0.0))
    refuses(files, f"Expected {files.prediction} to have the original_affine of its reference, (", reader=NibabelIO)


def test_unknown_label(files):
    write_image(files.prediction, PREDICTION * 7)
    refuses(files, f"{files.prediction} holds label 7, which the dataset.json does not list (0, 1).")
    write_image(files.reference, -REFERENCE.astype(np.int16))
    text = f"{files.reference} holds label -1, which the dataset.json does not list (0, 1, 7)."
    refuses(files, text, known_labels=(7, 0, 1))
    write_image(files.reference, REFERENCE)
    assert read(files, known_labels=(7, 0, 1)).prediction.max() == 7


# SimpleITK makes NaN and infinity of a NIfTI file 0.
@pytest.mark.parametrize(("value", "reader"), [(0.5, SimpleITKIO), (np.nan, NibabelIO), (np.inf, NibabelIO)])
def test_mask_that_is_none(files, value, reader):
    for path in (files.prediction, files.reference):
        values = PREDICTION.astype(np.float32)
        values[0, 0, 0] = value
        write_image(path, values)
        refuses(files, f"Expected whole numbers in {path}, but got others. Are these probabilities?", reader=reader)


def test_segmentation_of_several_channels(files):
    write_image(files.prediction, np.stack([PREDICTION, PREDICTION]), (1.0, *SPACING_MM))
    refuses(files, f"Expected a segmentation of one channel in {files.prediction}, but got 2.")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".gipl"])
def test_truncated_file(tmp_path, ending, share):
    # Large enough for a part of the voxels to be read; SimpleITK takes a truncated NIfTI file for a whole one.
    values = np.random.default_rng(0).integers(0, 2, (20, 20, 20)).astype(np.uint8)
    files = CaseFiles("a", tmp_path / f"reference{ending}", tmp_path / f"prediction{ending}")
    for path in (files.reference, files.prediction):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(path), True)
    read(files)
    for path in (files.prediction, files.reference):
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        message = refuses(files, f"{path} cannot be read (", "). Copy or predict it again.")
        assert "Exception thrown" not in message
        path.write_bytes(content)


def test_compressed_file_that_lacks_voxels(files):
    # Whole as gzip has it. 352 bytes of header and 4 x 5 x 8 voxels of a byte are 512.
    for path in (files.prediction, files.reference):
        content = gzip.decompress(path.read_bytes())
        assert len(content) == 512
        path.write_bytes(gzip.compress(content[:-10]))
        text = f"{path} cannot be read (502 bytes where its header tells of 512). Copy or predict it again."
        refuses(files, text)
        path.write_bytes(gzip.compress(content))
    read(files)


def test_gipl_that_lacks_voxels(tmp_path):
    # 256 bytes of header and 160 voxels of 2 bytes.
    files = CaseFiles("a", tmp_path / "a.gipl", tmp_path / "b.gipl")
    for path in (files.reference, files.prediction):
        write_image(path, REFERENCE.astype(np.int16))
    read(files)
    files.prediction.write_bytes(files.prediction.read_bytes()[:-1])
    refuses(files, f"{files.prediction} cannot be read (575 bytes where its header tells of 576).")


def test_sheared_image(files):
    # Rows that each begin half a voxel further: NibabelIO reads them, SimpleITK does not.
    affine = np.diag((0.5, 1.0, 3.0, 1.0))
    affine[0, 1] = 0.25
    nibabel.save(nibabel.Nifti1Image(PREDICTION.T, affine), files.prediction)
    message = refuses(files, f"The axes of {files.prediction} are not at right angles", "no sheared images")
    assert message.endswith('Add to dataset.json: "overwrite_image_reader_writer": "NibabelIO"')
    nibabel.save(nibabel.Nifti1Image(REFERENCE.T, affine), files.reference)
    case = read(files, NibabelIO)
    np.testing.assert_array_equal(case.prediction, PREDICTION)


def test_damaged_file(files):
    content = bytearray(files.prediction.read_bytes())
    content[len(content) // 2] ^= 0xFF
    files.prediction.write_bytes(content)
    refuses(files, f"{files.prediction} cannot be read (")


def test_absent_file(files):
    files.prediction.unlink()
    refuses(files, f"{files.prediction} cannot be read (", "No such file")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_probabilities_that_are_no_numbers(files, tmp_path, value):
    probabilities = np.zeros((2, *SHAPE))
    probabilities[1, 2, 3, 4] = value
    path = write_probabilities(tmp_path / "a.npz", probabilities)
    refuses(files, f"{path} holds non-finite values. Predict again.", probabilities=path)


@pytest.mark.parametrize(("value", "told"), [(1.5, "0 to 1.5"), (-2.25, "-2.25 to 0")])
def test_probabilities_beyond_0_and_1(files, tmp_path, value, told):
    probabilities = np.zeros((2, *SHAPE))
    probabilities[1, 2, 3, 4] = value
    path = write_probabilities(tmp_path / "a.npz", probabilities)
    refuses(
        files, f"Expected probabilities from 0 to 1 in {path}, but got {told}. Are these logits?", probabilities=path
    )


def test_probabilities_may_be_rounded(files, tmp_path):
    path = write_probabilities(tmp_path / "a.npz", np.full((2, *SHAPE), 1.0002))
    assert read(files, probabilities=path).probabilities.max() > 1


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.zeros((1, 1, 1, 1), complex), np.full((1, 1, 1, 1), "a")])
def test_arrays_that_are_no_probabilities(tmp_path, values):
    np.savez(tmp_path / "a.npz", probabilities=values)
    with pytest.raises(ValueError, match=r"Expected probabilities of shape \(channels, X, Y, Z\) in .*a\.npz, but got"):
        read_probabilities(tmp_path / "a.npz")


@pytest.mark.parametrize("shape", [(3, *SHAPE), (2, *SHAPE[::-1]), SHAPE], ids=["heads", "axes", "no heads"])
def test_probabilities_of_another_shape(files, tmp_path, shape):
    path = write_probabilities(tmp_path / "a.npz", np.zeros(shape))
    text = f"Expected probabilities of shape (2, 4, 5, 8) in {path}, but got {shape}."
    refuses(files, text, probabilities=path)


def test_file_without_probabilities(files, tmp_path):
    path = tmp_path / "a.npz"
    refuses(files, f"{path} holds no probabilities (", "No such file", probabilities=path)
    np.savez(path, softmax=np.zeros((2, *SHAPE)))
    refuses(files, f"{path} holds no probabilities (", "not a file in the archive", probabilities=path)
    np.savez(path, probabilities=np.array([{}]))
    refuses(files, f"{path} holds no probabilities (", "allow_pickle=False", probabilities=path)
    with open(path, "wb") as file:
        np.save(file, np.zeros((2, *SHAPE)))
    refuses(files, f"{path} holds no probabilities (", probabilities=path)
    path.write_bytes(b"")
    refuses(files, f"{path} holds no probabilities (", "Predict again.", probabilities=path)


@pytest.mark.parametrize("share", [0.3, 0.99])
def test_truncated_probabilities(files, tmp_path, share):
    path = write_probabilities(tmp_path / "a.npz", np.random.default_rng(0).random((2, *SHAPE)))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refuses(files, f"{path} holds no probabilities (", "Predict again.", probabilities=path)


def test_probabilities_of_any_shape(tmp_path):
    path = write_probabilities(tmp_path / "a.npz", np.zeros((3, 2, 2, 2)))
    assert read_probabilities(path).shape == (3, 2, 2, 2)


def test_image_of_another_shape(files, tmp_path):
    path = write_image(tmp_path / "a_0000.nii.gz", np.zeros((4, 5, 9)))
    text = f"Expected {path} to have the shape of the reference, (4, 5, 8), but got (4, 5, 9)."
    refuses(files, text, images=(path,))
    path.write_bytes(path.read_bytes()[:-20])
    refuses(files, f"{path} cannot be read (", images=(path,))


def two_dimensional(tmp_path, ending, reader, properties):
    """Files of the slice z = 1, with probabilities and an image, and what was read of them."""
    paths = [tmp_path / f"{name}{ending}" for name in ("reference", "prediction", "a_0000")]
    for path, values in zip(paths, (REFERENCE, PREDICTION, 9 * REFERENCE), strict=True):
        reader().write_seg(values[1:2], str(path), properties)
    probabilities = np.random.default_rng(0).random((2, 1, *SHAPE[1:])).astype(np.float32)
    npz = write_probabilities(tmp_path / "a.npz", probabilities)
    files = CaseFiles("a", paths[0], paths[1], npz, (paths[2],))
    return read(files, reader), probabilities


@pytest.mark.parametrize(
    ("ending", "reader", "properties", "spacing_mm"),
    [
        (".png", NaturalImage2DIO, {}, (1.0, 1.0)),
        (
            ".mha",
            SimpleITKIO,
            {"sitk_stuff": {"spacing": (0.5, 1.0), "origin": (0.0, 0.0), "direction": (1.0, 0.0, 0.0, 1.0)}},
            (1.0, 0.5),
        ),
    ],
)
def test_two_dimensions(tmp_path, ending, reader, properties, spacing_mm):
    case, probabilities = two_dimensional(tmp_path, ending, reader, properties)
    np.testing.assert_array_equal(case.reference, REFERENCE[1])
    np.testing.assert_array_equal(case.prediction, PREDICTION[1])
    np.testing.assert_array_equal(case.probabilities, probabilities[:, 0])
    np.testing.assert_array_equal(case.image, 9 * REFERENCE[1])
    assert case.spacing_mm == spacing_mm


def test_one_slice_of_three_dimensions_stays_one():
    # nnU-Net's readers make a first axis of 999 mm; a slice of a scan is a few mm thick.
    assert is_two_dimensional((1, 40, 50), (999.0, 1.0, 1.0))
    assert is_two_dimensional((1, 40, 50), (499.5, 0.25, 0.5))
    assert not is_two_dimensional((1, 40, 50), (10.0, 0.5, 0.5))
    assert not is_two_dimensional((2, 40, 50), (999.0, 1.0, 1.0))


def test_two_and_three_dimensions(files):
    # Both have the shape (1, 5, 8) for nnU-Net.
    write_image(files.reference, REFERENCE[1:2], SPACING_MM)
    write_image(files.prediction, PREDICTION[1], SPACING_MM[1:])
    refuses(
        files, f"Expected {files.prediction} to have the spacing of its reference, (3, 1, 0.5), but got (999, 1, 0.5)."
    )


def test_colours_are_no_segmentation(tmp_path):
    from skimage.io import imsave

    files = CaseFiles("a", tmp_path / "a.png", tmp_path / "b.png")
    NaturalImage2DIO().write_seg(REFERENCE[1:2], str(files.reference), {})
    imsave(files.prediction, np.zeros((*SHAPE[1:], 3), np.uint8), check_contrast=False)
    refuses(files, f"Expected a segmentation of one channel in {files.prediction}, but got 3.", reader=NaturalImage2DIO)


@pytest.fixture
def tiffs(tmp_path):
    files = CaseFiles("a", tmp_path / "reference" / "a.tif", tmp_path / "prediction" / "a.tif")
    for path, values in ((files.reference, REFERENCE), (files.prediction, PREDICTION)):
        path.parent.mkdir()
        # tifffile takes three or four slices for colours, and warns.
        Tiff3DIO().write_seg(np.pad(values, ((1, 0), (0, 0), (0, 0))), str(path), {"spacing": SPACING_MM})
    return files


def test_tiff(tiffs):
    case = read(tiffs, Tiff3DIO)
    np.testing.assert_array_equal(case.prediction[1:], PREDICTION)
    assert case.spacing_mm == SPACING_MM
    tiffs.prediction.with_suffix(".json").write_text(json.dumps({"spacing": (2.0, 1.0, 0.5)}))
    refuses(tiffs, "to have the spacing of its reference, (3, 1, 0.5), but got (2, 1, 0.5).", reader=Tiff3DIO)


@pytest.mark.parametrize("side", ["reference", "prediction"])
def test_tiff_whose_spacing_was_not_copied_has_that_of_the_other(tiffs, side):
    # nnU-Net copies the references to gt_segmentations without the files that tell it.
    getattr(tiffs, side).with_suffix(".json").unlink()
    assert read(tiffs, Tiff3DIO).spacing_mm == SPACING_MM


def test_tiff_whose_spacing_the_raw_label_tells(tiffs, tmp_path):
    # What nnU-Net predicts from images without a spacing has 1 mm.
    raw = tmp_path / "labelsTr" / "a.tif"
    raw.parent.mkdir()
    Tiff3DIO().write_seg(np.zeros((5, 5, 8)), str(raw), {"spacing": SPACING_MM})
    tiffs.reference.with_suffix(".json").unlink()
    tiffs.prediction.with_suffix(".json").write_text(json.dumps({"spacing": (1, 1, 1)}))
    text = f"Expected {tiffs.prediction} to have the spacing of its reference, (3, 1, 0.5), but got (1, 1, 1)."
    refuses(tiffs, text, reader=Tiff3DIO, raw_label=raw)
    tiffs.prediction.with_suffix(".json").unlink()
    case = read(tiffs, Tiff3DIO, raw_label=raw)
    assert case.spacing_mm == SPACING_MM
    assert case.properties == {"spacing": list(SPACING_MM)}


@pytest.mark.parametrize("raw", ["labelsTr/a.tif", None])
def test_tiff_without_any_spacing(tiffs, tmp_path, raw):
    for path in (tiffs.reference, tiffs.prediction):
        path.with_suffix(".json").unlink()
    text = (
        f"No file tells the spacing of {tiffs.reference}. Write {tiffs.reference.with_suffix('.json')} with the mm of "
        'a step along each axis of the array, such as {"spacing": [3.0, 1.0, 1.0]}'
    )
    refuses(tiffs, text, reader=Tiff3DIO, raw_label=raw and tmp_path / raw)
    with pytest.raises(ValueError, match=re.escape(f"No file tells the spacing of {tiffs.prediction}.")):
        read_labels(tiffs.prediction, Tiff3DIO(), (0, 1))


def test_whatever_error_a_reader_raises_is_one_of_the_file(tiffs):
    # Here an AssertionError.
    tiffs.prediction.with_suffix(".json").write_text(json.dumps({"spacing": (1.0, 0.5)}))
    refuses(tiffs, f"{tiffs.prediction} cannot be read (spacing must have 3 entries", reader=Tiff3DIO)
