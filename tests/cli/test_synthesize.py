"""`nnunet-rw synthesize`: a dataset in MSD layout."""

import re

import numpy as np
import SimpleITK as sitk


def test_synthesize_writes_an_msd_dataset(succeeds, tmp_path):
    folder = tmp_path / "Task99_Small"
    options = ("--cases", 2, "--shape", 16, 17, 18)
    lines = succeeds("synthesize", "-o", folder, *options).splitlines()
    assert lines == [str(folder), f"Convert with: nnUNetv2_convert_MSD_dataset -i {folder}"]
    assert (folder / "dataset.json").is_file()
    assert (folder / "imagesTs").is_dir()
    images = sorted((folder / "imagesTr").iterdir())
    assert [path.name for path in images] == ["synthetic_001.nii.gz", "synthetic_002.nii.gz"]
    first = sitk.GetArrayFromImage(sitk.ReadImage(str(images[0])))
    assert first.shape == (18, 17, 16)

    succeeds("synthesize", "-o", folder, *options)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(images[0]))), first)
    succeeds("synthesize", "-o", folder, *options, "--seed", 1)
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(images[0]))) != first).any()


def test_synthesize_refuses(fails, tmp_path):
    small = ("--cases", 1, "--shape", 16, 16, 16)
    message = fails("synthesize", "-o", tmp_path / "lesions", *small)
    assert message == f"Expected a folder named like Task99_SyntheticLesions, but got {tmp_path / 'lesions'}."
    (tmp_path / "Task98_Mine").mkdir()
    (tmp_path / "Task98_Mine" / "thesis.txt").touch()
    message = fails("synthesize", "-o", tmp_path / "Task98_Mine", *small)
    assert message == f"{tmp_path / 'Task98_Mine'} holds files of something else. Choose a new or empty folder."
    assert re.search(
        "of at least 16 voxels, but got", fails("synthesize", "-o", tmp_path / "Task99_A", "--shape", 8, 8, 8)
    )
    assert "seed=-1" in fails("synthesize", "-o", tmp_path / "Task99_A", *small, "--seed", "-1")
