import numpy as np
import pytest
import SimpleITK as sitk
from overlay_sources import IMAGE, LARGE, NOTHING, SMALL, volume, write_source, write_volume

from nnunet_rw.evaluation.case import EvaluationSettings
from nnunet_rw.evaluation.sources import cross_validation_source, raw_images
from nnunet_rw.pictures.gallery import overlay_evaluation

SETTINGS = EvaluationSettings()


def test_image_that_does_not_fit(tmp_path):
    source = write_source(tmp_path, {"a": (volume(a=LARGE), NOTHING)}, {"a": IMAGE[:, 1:]})
    with pytest.raises(ValueError, match=r"a_0000\.nii\.gz to have the shape of the reference"):
        overlay_evaluation(source, SETTINGS, tmp_path / "new")


# Nine cases are worked on in processes.
@pytest.mark.parametrize("number", [2, pytest.param(9, marks=pytest.mark.slow)])
def test_overlay_evaluation_writes_both(tmp_path, number):
    names = [f"case_{index}" for index in range(number)]
    source = write_source(tmp_path, {name: (volume(a=LARGE), volume(a=SMALL)) for name in names})
    folder = tmp_path / "new"
    written = overlay_evaluation(source, SETTINGS, folder, worst=1, processes=2)
    pictures = [folder / "worst_cases_lesion.png", folder / "missed_lesions_lesion.png"]
    files = [folder / "overlays" / name for name in ("labels.txt", *(f"{name}_lesion.nii.gz" for name in names))]
    assert written == [*pictures, *files]
    assert all(path.is_file() for path in written)
    assert len(list(folder.rglob("*"))) == len(written) + 1
    codes = sitk.GetArrayFromImage(sitk.ReadImage(str(written[-1])))
    np.testing.assert_array_equal(codes, 3 * volume(a=LARGE) + 5 * volume(a=SMALL))


def test_overlay_evaluation_of_less(tmp_path):
    source = write_source(tmp_path, {"a": (volume(a=LARGE), volume(a=SMALL))})
    written = overlay_evaluation(source, SETTINGS, tmp_path / "new", worst=0, nifti=False)
    assert written == list((tmp_path / "new").iterdir()) == [tmp_path / "new" / "missed_lesions_lesion.png"]


def test_number_of_worst_cases_is_checked(tmp_path):
    source = write_source(tmp_path, {"a": (NOTHING, NOTHING)})
    with pytest.raises(ValueError, match="Expected 0 or more worst cases, but got -1"):
        overlay_evaluation(source, SETTINGS, tmp_path / "new", worst=-1)
    assert not (tmp_path / "new").exists()


def test_images_of_a_cross_validation_are_those_of_the_raw_dataset(nnunet, make_dataset, monkeypatch):
    dataset = make_dataset({"case_1": volume(a=LARGE), "case_2": volume(a=SMALL)})
    validation = nnunet.results / dataset.name / "nnUNetTrainer__nnUNetPlans__3d_fullres" / "fold_0" / "validation"
    validation.mkdir(parents=True)
    (validation.parents[1] / "dataset.json").write_text((dataset.folder / "dataset.json").read_text())
    write_volume(validation / "case_2.nii.gz", NOTHING)

    def source(images):
        return cross_validation_source("900", "3d_fullres", "nnUNetTrainer", images=images)

    assert raw_images("900") is None
    assert source(None).cases[0].images == ()
    folder = nnunet.root / "nnUNet_raw" / dataset.name / "imagesTr"
    write_volume(folder / "case_2_0000.nii.gz", IMAGE)
    assert raw_images("900") == folder
    assert source(folder).cases[0].images == (folder / "case_2_0000.nii.gz",)
    (folder / "case_2_0000.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"No image case_2_0000\.nii\.gz in .*imagesTr"):
        source(folder)
    monkeypatch.delenv("nnUNet_raw")
    assert raw_images("900") is None
