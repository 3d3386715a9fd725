import json
import shutil

import cc3d
import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.dataset_conversion.convert_MSD_dataset import convert_msd_dataset

from nnunet_rw.datasets.synthetic import synthetic_case, write_synthetic_dataset


def lesion_sizes(labels):
    return np.bincount(cc3d.connected_components(labels).ravel())[1:]


def read(path):
    image = sitk.ReadImage(str(path))
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0), image.GetSpacing()


def test_case_has_the_promised_types_and_a_zero_background():
    image, labels = synthetic_case((40, 32, 24), (1.0, 1.5, 2.0), np.random.default_rng(1))
    assert image.shape == labels.shape == (40, 32, 24)
    assert image.dtype == np.float32
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1}
    assert image[0].max() == image[:, -1].max() == image[:, :, 0].max() == 0
    assert np.all(image[labels == 1] > 0)
    # The head's half axes are 0.8 to 0.9 of the image's: pi/6 * 0.8^3 = 0.27 to pi/6 * 0.9^3 = 0.38 of it.
    assert 0.25 < np.mean(image > 0) < 0.40


def test_equal_generators_give_equal_cases_and_other_seeds_others():
    image, labels = synthetic_case((32, 32, 32), (1, 1, 1), np.random.default_rng(7))
    same_image, same_labels = synthetic_case((32, 32, 32), (1, 1, 1), np.random.default_rng(7))
    other_image, _ = synthetic_case((32, 32, 32), (1, 1, 1), np.random.default_rng(8))
    assert np.array_equal(image, same_image)
    assert np.array_equal(labels, same_labels)
    assert not np.array_equal(image, other_image)


def test_most_lesions_are_small_and_a_few_large():
    cases = [synthetic_case((64, 64, 64), (1, 1, 1), np.random.default_rng([0, i])) for i in range(10)]
    sizes = np.concatenate([lesion_sizes(labels) for _, labels in cases])
    assert np.mean((sizes >= 3) & (sizes <= 20)) > 0.4
    assert np.sum(sizes > 1000) >= 1
    # 12 per case on average; some merge. The Poisson sum of 10 cases has a standard deviation of 11.
    assert 80 < len(sizes) < 160


def test_lesions_are_brighter_than_tissue_but_no_threshold_finds_them():
    image, labels = synthetic_case((64, 64, 64), (1, 1, 1), np.random.default_rng([0, 1]))
    lesion, tissue = image[labels == 1], image[(labels == 0) & (image > 0)]
    assert np.median(lesion) > np.quantile(tissue, 0.9)
    # Even at the best threshold false positives remain: vessels, blobs and the bias field.
    best = max(
        2 * np.sum(lesion > t) / (np.sum(lesion > t) + np.sum(tissue > t) + len(lesion))
        for t in np.quantile(image[image > 0], np.linspace(0.5, 0.9999, 200))
    )
    assert best < 0.9


@pytest.mark.parametrize("shape", [(16, 16, 16), (96, 96, 16)])
def test_flat_and_smallest_volumes_work(shape):
    for seed in range(5):
        _, labels = synthetic_case(shape, (0.5, 0.5, 4.0), np.random.default_rng(seed))
        assert labels.any()


def test_no_lesions_on_request():
    image, labels = synthetic_case((24, 24, 24), (1, 1, 1), np.random.default_rng(0), 0)
    assert not labels.any()
    assert image.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((64, 64), (1, 1, 1)), "three axes of at least 16"),
        (((64, 64, 15), (1, 1, 1)), "three axes of at least 16"),
        (((64, 64, 64), (1, 1)), "three positive values in mm"),
        (((64, 64, 64), (1, 0, 1)), "three positive values in mm"),
        (((64, 64, 64), (1, 1, 1), -1), "at least 0"),
    ],
)
def test_impossible_cases_are_refused(arguments, message, tmp_path):
    shape, spacing, *mean = arguments
    with pytest.raises(ValueError, match=message):
        synthetic_case(shape, spacing, np.random.default_rng(0), *mean)
    # What is there stays.
    folder = tmp_path / "Task98_Good"
    write_synthetic_dataset(folder, num_cases=1, shape=(16, 16, 16))
    with pytest.raises(ValueError, match=message):
        write_synthetic_dataset(folder, 1, shape, spacing, 0, *mean)
    assert (folder / "dataset.json").is_file()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("msd") / "Task99_SyntheticLesions"
    write_synthetic_dataset(folder, num_cases=8, shape=(24, 20, 16), spacing_mm=(1.0, 1.5, 2.0), seed=3)
    return folder


def test_dataset_has_decathlon_layout(dataset):
    description = json.loads((dataset / "dataset.json").read_text())
    assert description["numTraining"] == len(description["training"]) == 8
    assert description["labels"] == {"0": "background", "1": "lesion"}
    assert description["modality"] == {"0": "MRI"}
    for case in description["training"]:
        image, spacing = read(dataset / case["image"])
        labels, label_spacing = read(dataset / case["label"])
        assert image.shape == labels.shape == (24, 20, 16)
        assert spacing == label_spacing == (1.0, 1.5, 2.0)
    assert len(list((dataset / "imagesTr").iterdir())) == 8  # no temporary file is left


def test_one_of_eight_cases_has_no_lesion(dataset):
    has_lesion = [read(path)[0].any() for path in sorted((dataset / "labelsTr").iterdir())]
    assert sum(has_lesion) == 7


def test_same_seed_gives_same_files_and_fewer_cases_leave_no_old_one(dataset, tmp_path):
    folder = tmp_path / "Task98_Again"
    write_synthetic_dataset(folder, num_cases=10, shape=(16, 16, 16), seed=0)
    write_synthetic_dataset(folder, num_cases=8, shape=(24, 20, 16), spacing_mm=(1.0, 1.5, 2.0), seed=3)
    for subfolder in ("imagesTr", "labelsTr"):
        names = sorted(path.name for path in (dataset / subfolder).iterdir())
        assert sorted(path.name for path in (folder / subfolder).iterdir()) == names
        for name in names:
            assert np.array_equal(read(folder / subfolder / name)[0], read(dataset / subfolder / name)[0])


def test_nnunet_converts_it(dataset, tmp_path, monkeypatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        (tmp_path / variable).mkdir()
    source = shutil.copytree(dataset, tmp_path / "Task99_SyntheticLesions")
    convert_msd_dataset(str(source), num_processes=1)
    target = tmp_path / "nnUNet_raw" / "Dataset099_SyntheticLesions"
    assert len(list((target / "imagesTr").glob("synthetic_???_0000.nii.gz"))) == 8
    assert json.loads((target / "dataset.json").read_text())["labels"] == {"background": 0, "lesion": 1}


@pytest.mark.parametrize("name", ["Synthetic", "Task1_X", "Task99_Two_Parts", "Task99_", "Dataset099_X"])
def test_folder_names_that_nnunet_cannot_read_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="named like Task99_SyntheticLesions"):
        write_synthetic_dataset(tmp_path / name, num_cases=1)


def test_foreign_folders_are_not_touched(tmp_path):
    folder = tmp_path / "Task05_Prostate"
    folder.mkdir()
    (folder / "dataset.json").write_text("{}")
    with pytest.raises(ValueError, match="Choose a new or empty folder"):
        write_synthetic_dataset(folder, num_cases=1)
    assert [path.name for path in folder.iterdir()] == ["dataset.json"]
