"""`nnunet-rw show`: the figure, and the volumes beside it."""

import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_rw.cli import main
from nnunet_rw.maps import interior_distance, signed_distance
from nnunet_rw.maps.kinds import INTERIOR_DISTANCE, LESION_IDS

SHAPE, SPACING_MM = (18, 20, 24), (3.0, 1.0, 0.5)  # those of `dataset`


def png_size(path):
    """Width and height, from the header."""
    content = Path(path).read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def test_show_draws_the_first_case_here(dataset, succeeds, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    line = succeeds("show", "-d", "900")
    assert re.fullmatch(r"case_0\.png: case_0, slice \d+\n", line)
    width, height = png_size(tmp_path / "case_0.png")
    assert 800 < width < 3000
    assert 400 < height < 3000


def test_show_makes_the_folder(dataset, succeeds, tmp_path):
    succeeds("show", "-d", "900", "-o", tmp_path / "new" / "a.png")
    assert png_size(tmp_path / "new" / "a.png")


def test_show_draws_the_slice_with_most_lesions(make_dataset, succeeds, tmp_path):
    labels = np.zeros(SHAPE, np.int16)
    # Slice 4: a lesion of each class; slice 9: three of one class.
    labels[4, 5, 5], labels[4, 5, 15], labels[9, 5, [2, 8, 14]] = 1, 2, 1
    classes = {"background": 0, "core": 1, "edge": 2}
    make_dataset({"a": labels, "b": labels}, labels=classes, configurations={"3d_fullres": {"spacing": SPACING_MM}})
    assert succeeds("show", "-d", "900", "-o", tmp_path / "a.png").endswith("a, slice 9\n")
    assert succeeds("show", "-d", "900", "-o", tmp_path / "a.png", "--slice", "4").endswith("a, slice 4\n")


def test_show_another_case_and_its_volumes(dataset, succeeds, tmp_path):
    dataset.write_maps([INTERIOR_DISTANCE])
    path, folder = tmp_path / "own.png", tmp_path / "new" / "volumes"
    lines = succeeds("show", "-d", "900", "--case", "case_2", "-o", path, "--nifti", folder).splitlines()
    assert lines[0].startswith(f"{path}: case_2, slice ")
    assert png_size(path)
    files = {Path(line).name.removeprefix("case_2_").removesuffix(".nii.gz"): Path(line) for line in lines[1:]}
    assert {file.parent for file in files.values()} == {folder}
    maps = {INTERIOR_DISTANCE, "signed_distance", LESION_IDS, "lesion_volume_mm3"}
    assert set(files) == {"image", "labels", "rectified_region_wise_0", "rectified_region_wise_1", *maps}
    volumes = {name: sitk.ReadImage(str(file)) for name, file in files.items()}
    for volume in volumes.values():
        # SimpleITK's axes are those of the array, reversed.
        assert volume.GetSize() == SHAPE[::-1]
        assert volume.GetSpacing() == SPACING_MM[::-1]
    arrays = {name: sitk.GetArrayFromImage(volume) for name, volume in volumes.items()}
    np.testing.assert_array_equal(arrays["labels"], dataset.labels["case_2"])
    # A voxel has 3 * 1 * 0.5 mm3.
    assert set(np.unique(arrays["lesion_volume_mm3"] / 1.5 % 1)) == {0}
    # Outside of the lesions the distance to the next one, inside that to the background, there with a sign.
    sign = np.where(arrays["labels"] == 0, 1, -1)
    np.testing.assert_array_equal(arrays["signed_distance"], sign * arrays[INTERIOR_DISTANCE])
    # Stored in half precision.
    expected = interior_distance(dataset.labels["case_2"], SPACING_MM)
    np.testing.assert_allclose(arrays[INTERIOR_DISTANCE], expected, rtol=2**-11)


def test_show_the_signed_distance_of_every_class(make_dataset, blobs, succeeds, tmp_path):
    labels = blobs(SHAPE, num_classes=3)
    classes = {"background": 0, "core": 1, "edge": 2}
    make_dataset({"a": labels, "b": labels}, labels=classes, configurations={"3d_fullres": {"spacing": SPACING_MM}})
    lines = succeeds("show", "-d", "900", "-o", tmp_path / "a.png", "--nifti", tmp_path / "volumes").splitlines()
    files = {Path(line).name.removeprefix("a_"): line for line in lines[1:]}
    distances = {name: file for name, file in files.items() if "distance" in name}
    assert list(distances) == [
        f"{name}.nii.gz" for name in (INTERIOR_DISTANCE, "signed_distance_0", "signed_distance_1")
    ]
    for channel, label in enumerate((1, 2)):
        volume = sitk.GetArrayFromImage(sitk.ReadImage(distances[f"signed_distance_{channel}.nii.gz"]))
        np.testing.assert_allclose(volume, signed_distance(labels == label, SPACING_MM), rtol=1e-3)


def test_show_a_case_of_a_spacing_of_its_own(make_dataset, blobs, succeeds, tmp_path):
    labels = blobs(SHAPE)
    configuration = {"spacing": SPACING_MM, "resampling_fn_seg": "no_resampling_hack"}
    dataset = make_dataset({"a": labels, "b": labels}, configurations={"3d_fullres": configuration})
    path = dataset.data_folder() / "a.pkl"
    path.write_bytes(pickle.dumps(pickle.loads(path.read_bytes()) | {"spacing": [1.5, 2.5, 0.75]}))
    lines = succeeds("show", "-d", "900", "--case", "a", "-o", tmp_path / "a.png", "--nifti", tmp_path / "volumes")
    (file,) = (line for line in lines.splitlines() if line.endswith("interior_distance.nii.gz"))
    volume = sitk.ReadImage(file)
    assert volume.GetSpacing() == (0.75, 2.5, 1.5)
    expected = interior_distance(labels, (1.5, 2.5, 0.75))
    np.testing.assert_allclose(sitk.GetArrayFromImage(volume), expected, rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"configurations": {"2d": {"patch_size": (16, 16), "spacing": (1.0, 0.5)}}},
        {"labels": {"background": 0, "whole": [1, 2], "core": 2}, "regions_class_order": [1, 2]},
        {"labels": {"background": 0, "lesion": 1, "ignore": 2}},
    ],
    ids=["2d", "regions", "ignore label"],
)
def test_show_other_kinds_of_dataset(make_dataset, blobs, succeeds, tmp_path, options):
    cases = {
        case: blobs(SHAPE, seed=seed, num_classes=3 if "labels" in options else 2) for seed, case in enumerate("ab")
    }
    make_dataset(cases, **options)
    configuration = next(iter(options.get("configurations", {"3d_fullres": {}})))
    succeeds("show", "-d", "900", "-c", configuration, "-o", tmp_path / "a.png")
    assert min(png_size(tmp_path / "a.png")) > 400


def test_show_slices_of_a_volume_with_lesions_in_voxels(make_dataset, succeeds, tmp_path):
    """The distance between slices is not known to a network of two dimensions."""
    labels = np.zeros(SHAPE, np.int16)
    labels[4:6, 5, 5], labels[9, 5, 8] = 1, 1
    make_dataset({"a": labels, "b": labels}, configurations={"2d": {"patch_size": (16, 16), "spacing": (1.0, 0.5)}})
    command = ("show", "-d", "900", "-c", "2d", "-o", tmp_path / "a.png", "--nifti", tmp_path / "volumes")
    (file,) = (line for line in succeeds(*command).splitlines() if "lesion_volume" in line)
    assert file.endswith("a_lesion_volume_voxels.nii.gz")
    volume = sitk.GetArrayFromImage(sitk.ReadImage(file))
    assert (volume[4, 5, 5], volume[9, 5, 8]) == (2, 1)


@pytest.mark.filterwarnings("error")
def test_show_a_case_without_lesions(make_dataset, capsys, tmp_path):
    empty = np.zeros(SHAPE, np.int16)
    make_dataset({"a": empty, "b": empty})
    assert main(["show", "-d", "900", "-o", str(tmp_path / "a.png")]) == 0
    output = capsys.readouterr()
    assert output.out.endswith(f"slice {SHAPE[0] // 2}\n")
    assert output.err == ""


def test_show_what_is_not_there(dataset, fails, tmp_path):
    path = tmp_path / "a.png"
    message = fails("show", "-d", "900", "--case", "case_9", "-o", path)
    assert message == f"No case 'case_9' in {dataset.data_folder()}. There are case_0, case_1, case_2."
    for index in ("-1", SHAPE[0]):
        message = f"Expected a slice from 0 to {SHAPE[0] - 1}, but got {index}."
        assert fails("show", "-d", "900", "--slice", index, "-o", path) == message
    assert not path.exists()
