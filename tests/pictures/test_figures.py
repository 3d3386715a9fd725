import struct

import numpy as np
import pytest
import SimpleITK as sitk
from matplotlib.colors import to_rgba

from nnunet_rw.evaluation.metrics.lesions import match_lesions
from nnunet_rw.maps.kinds import LabelScheme, compute_lesion_ids
from nnunet_rw.pictures.case_figure import CaseVolumes, draw_case, slice_with_most_lesions, write_nifti

SPACING_MM = (4.0, 2.0, 0.5)


def png_size(path):
    """Width and height, from the header."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def result(voxels, hit):
    """A case of lesions of these sizes on one line, with a voxel between them; those that are hit are predicted."""
    owner = np.repeat(range(2 * len(voxels)), np.ravel([(size, 1) for size in voxels]))[None]
    reference = owner % 2 == 0
    prediction = reference & np.repeat(hit, 2)[owner]
    return match_lesions(reference, prediction, SPACING_MM[1:])


def case_volumes(labels, scheme=None, unit="mm3", **maps):
    scheme = scheme or LabelScheme.classes(3)
    ids, _ = compute_lesion_ids(labels, scheme)
    ids = {f"lesion_ids_{channel}": values for channel, values in enumerate(ids)}
    image = np.random.default_rng(0).random(labels.shape).astype(np.float32)
    names = tuple(f"class {number}" for number, _ in enumerate(scheme.foreground, start=1))
    return CaseVolumes("case_1", image, labels, {**maps, **ids}, SPACING_MM, scheme, names, unit)


def panels_of(figure):
    """By title, without colour bars."""
    return {axis.get_title("left"): axis for axis in figure.axes if axis.get_title("left")}


def test_slice_with_most_lesions_counts_each_once_and_only_where_it_lies():
    labels = np.zeros((8, 12, 12), np.int16)
    # Slice 1: one lesion of each of two classes. Slice 3: three of one class. Slice 5: two, beside slice 4's one.
    labels[1, 2, 2], labels[1, 8, 8] = 1, 2
    labels[3, 2, [1, 5, 9]] = 1
    labels[5, 6, [1, 9]] = 2
    assert slice_with_most_lesions(case_volumes(labels)) == 3


def test_lesions_of_the_next_slice_do_not_count():
    labels = np.zeros((8, 12, 12), np.int16)
    # Maps carry a lesion one voxel further: slice 2 has a voxel of class 2 above three lesions of class 1.
    labels[2, 1:11, 1:11] = 2
    labels[3, 2, [2, 5, 8]] = 1
    labels[6, 2, [1, 4]] = 1
    assert slice_with_most_lesions(case_volumes(labels)) == 3
    labels[3] = 0
    labels[3, 2, 2] = 1
    assert slice_with_most_lesions(case_volumes(labels)) == 6


def test_unlabelled_voxels_are_no_lesions():
    labels = np.zeros((4, 12, 12), np.int16)
    labels[0, 2, 2] = 1
    labels[3] = 2  # the ignore label
    assert slice_with_most_lesions(case_volumes(labels, LabelScheme.classes(2, ignore_label=2))) == 0


def test_without_a_lesion_the_middle():
    assert slice_with_most_lesions(case_volumes(np.zeros((7, 4, 4), np.int16))) == 3


def test_case_is_drawn_with_its_spacing_and_a_title_a_panel(tmp_path, drawn):
    labels = np.zeros((4, 10, 12), np.int16)
    labels[2, 3:5, 3:9] = 1
    labels[2, 0, 0] = -1  # nnU-Net's label for what lies outside of the cropped image
    signed = np.linspace(-2, 1, labels.size, dtype=np.float32).reshape(labels.shape)
    volumes = case_volumes(labels, signed_distance=signed)
    assert draw_case(volumes, tmp_path / "case.png") == 2
    assert min(png_size(tmp_path / "case.png")) > 400
    (figure,) = drawn
    assert figure.get_suptitle() == "case_1, slice 2"
    assert list(panels_of(figure)) == [
        "Image",
        "Labels, outlined on the image",
        "Signed distance to the boundary",
        "Lesions, each with a rim of a voxel: class 1",
        "Lesions, each with a rim of a voxel: class 2",
    ]
    for axis in panels_of(figure).values():
        assert axis.get_aspect() == SPACING_MM[1] / SPACING_MM[2]  # rows are axis 1, columns axis 2


def test_the_image_has_an_outline_a_class(tmp_path, drawn):
    labels = np.zeros((1, 4, 6), np.int16)
    labels[0, 1, 1:4], labels[0, 3, 5] = 1, 2
    draw_case(case_volumes(labels), tmp_path / "case.png")
    (figure,) = drawn
    first, second = panels_of(figure)["Labels, outlined on the image"].collections
    # Pixels 1 to 3 of row 1 have three sides above, three below and two at their ends; a single one has four.
    assert [len(lines.get_segments()) for lines in (first, second)] == [8, 4]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["class 1", "class 2"]
    colours = [lines.get_color()[0].tolist() for lines in (first, second)]
    assert colours == [list(to_rgba(line.get_color())) for line in legend.get_lines()]
    assert colours[0] != colours[1]
    assert not panels_of(figure)["Image"].collections


def test_the_inside_has_half_of_the_scale_of_signed_distances(tmp_path, drawn):
    labels = np.ones((1, 2, 4), np.int16)
    signed = np.array([[[-2, -1, 1, 2], [10, 20, 40, 60]]], np.float32)
    draw_case(case_volumes(labels, LabelScheme.classes(2), signed_distance=signed), tmp_path / "case.png")
    (figure,) = drawn
    norm = panels_of(figure)["Signed distance to the boundary"].images[0].norm
    # 2 mm inside are as far from the middle as 60 mm outside.
    assert norm([-2, -1, 0, 30, 60]).tolist() == [0, 0.25, 0.5, 0.75, 1]
    bars = {axis.get_ylabel(): axis for axis in figure.axes}
    ticks = [text.get_text() for text in bars["mm, negative inside"].get_yticklabels()]
    assert ticks == ["-2", "-1", "0", "20", "40", "60"]


@pytest.mark.parametrize(("unit", "bars"), [("mm3", {"mm", "mm³"}), ("mm2", {"mm", "mm²"}), ("pixels", {"pixels"})])
def test_colour_bars_are_in_the_unit_of_the_image(tmp_path, drawn, unit, bars):
    labels, values = np.ones((1, 2, 4), np.int16), np.ones((1, 2, 4), np.float32)
    maps = {"interior_distance": values, f"lesion_volume_{unit}": values}
    draw_case(case_volumes(labels, LabelScheme.classes(2), unit, **maps), tmp_path / "case.png")
    (figure,) = drawn
    assert {axis.get_ylabel() for axis in figure.axes} - {""} == bars


def test_lesions_have_a_colour_each_and_no_scale(tmp_path, drawn):
    labels = np.zeros((2, 9, 9), np.int16)
    labels[0, [1, 1, 7], [1, 7, 1]] = 1
    draw_case(case_volumes(labels, LabelScheme.classes(2)), tmp_path / "case.png", 0)
    (figure,) = drawn
    image = panels_of(figure)["Lesions, each with a rim of a voxel: class 1"].images[0]
    shown = image.get_array()
    # A rim of a voxel about each: 9 voxels; all else has no colour.
    assert np.ma.count(shown) == 27
    colours = image.to_rgba(shown.compressed())
    assert len(np.unique(colours, axis=0)) == 3
    assert {axis.get_ylabel() for axis in figure.axes} == {""}


def test_the_inside_has_the_scale_of_region_wise_maps(tmp_path, drawn):
    labels = np.ones((1, 1, 3), np.int16)
    rectified = np.array([[[-1, -0.5, 1]]], np.float32)
    maps = {"rectified_region_wise_0": -rectified, "rectified_region_wise_1": rectified}
    draw_case(case_volumes(labels, LabelScheme.classes(2), **maps), tmp_path / "case.png")
    (figure,) = drawn
    titles = [f"Region-wise map, rectified: {name}" for name in ("background", "class 1")]
    image = panels_of(figure)[titles[1]].images[0]
    assert titles[0] in panels_of(figure)
    assert image.norm([-1, -0.5, 0]).tolist() == [0, 0.5, 1]
    np.testing.assert_array_equal(image.to_rgba(rectified[0])[0, 2], image.cmap.get_over())


def test_case_of_another_slice(tmp_path):
    labels = np.zeros((4, 10, 12), np.int16)
    labels[2, 3, 3] = 1
    assert draw_case(case_volumes(labels), tmp_path / "case.png", 0) == 0
    for index in (-1, 4):
        with pytest.raises(ValueError, match=f"Expected a slice from 0 to 3, but got {index}."):
            draw_case(case_volumes(labels), tmp_path / "none.png", index)
    assert not (tmp_path / "none.png").exists()


def test_nifti_files_hold_the_volumes_in_their_spacing(tmp_path):
    labels = np.zeros((4, 10, 12), np.int16)
    labels[1, 3, 3] = 1
    volumes = case_volumes(labels, interior_distance=np.full(labels.shape, 1.5, np.float16))
    written = write_nifti(volumes, tmp_path / "new" / "folder")
    names = ["image", "labels", "interior_distance", "lesion_ids_0", "lesion_ids_1"]
    assert [path.name for path in written] == [f"case_1_{name}.nii.gz" for name in names]
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == sorted(p.name for p in written)
    arrays = [volumes.image, volumes.labels, *volumes.maps.values()]
    for path, array in zip(written, arrays, strict=True):
        image = sitk.ReadImage(str(path))
        assert image.GetSpacing() == tuple(reversed(SPACING_MM))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array)
