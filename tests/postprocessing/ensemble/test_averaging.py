import errno
import json
import pickle
import re

import numpy as np
import pytest
import SimpleITK as sitk
from ensemble_files import one_hot, read_labels
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO
from trained_models import PLANS

from nnunet_rw.postprocessing import predictions as writing
from nnunet_rw.postprocessing.ensemble import average as averaging
from nnunet_rw.postprocessing.ensemble.average import ensemble_folders
from nnunet_rw.postprocessing.ensemble.weights import EnsembleWeights

CHANNELS = ("0", "1", "2")


@pytest.fixture
def two_folders(predictions, random_probabilities):
    return [
        predictions(name, {case: random_probabilities(seed + number) for number, case in enumerate(("x", "y"))})
        for name, seed in (("first", 0), ("second", 10))
    ]


def test_equal_weights_are_nnunets_own_ensemble(two_folders, tmp_path, predictions, random_probabilities, thread_pools):
    from nnunetv2.ensembling.ensemble import ensemble_folders as nnunet_ensemble

    folders = [*two_folders, predictions("third", {"x": random_probabilities(20), "y": random_probabilities(21)})]
    written = ensemble_folders(folders, tmp_path / "ours", save_probabilities=True)
    nnunet_ensemble(list(map(str, folders)), str(tmp_path / "theirs"), True, 1)
    assert [path.name for path in written] == ["x.nii.gz", "y.nii.gz"]
    for case in ("x", "y"):
        np.testing.assert_array_equal(*(read_labels(tmp_path / who / f"{case}.nii.gz") for who in ("ours", "theirs")))
        ours, theirs = (np.load(tmp_path / who / f"{case}.npz")["probabilities"] for who in ("ours", "theirs"))
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype
        ours, theirs = ((tmp_path / who / f"{case}.pkl").read_bytes() for who in ("ours", "theirs"))
        assert pickle.loads(ours) == pickle.loads(theirs)
    image, reference = (sitk.ReadImage(str(folder / "x.nii.gz")) for folder in (tmp_path / "ours", two_folders[0]))
    assert image.GetSpacing() == reference.GetSpacing()


def test_regions_are_nnunets_own_ensemble(predictions, tmp_path, region_json, thread_pools):
    from nnunetv2.ensembling.ensemble import ensemble_folders as nnunet_ensemble

    draw = np.random.default_rng(0).random((3, 2, 4, 5, 6), np.float32)
    folders = [predictions(str(number), {"x": values}, region_json) for number, values in enumerate(draw)]
    ensemble_folders(folders, tmp_path / "ours")
    nnunet_ensemble(list(map(str, folders)), str(tmp_path / "theirs"), False, 1)
    ours, theirs = (read_labels(tmp_path / who / "x.nii.gz") for who in ("ours", "theirs"))
    np.testing.assert_array_equal(ours, theirs)
    assert set(np.unique(ours)) == {0, 1, 2}


def test_equal_weights_from_a_file_are_no_weights(two_folders, tmp_path):
    weights = EnsembleWeights(("first", "second"), CHANNELS, np.full((2, 3), 0.5))
    for name, given in (("file", weights), ("none", None)):
        ensemble_folders(two_folders, tmp_path / name, given, save_probabilities=True)
    file, none = (np.load(tmp_path / name / "x.npz")["probabilities"] for name in ("file", "none"))
    np.testing.assert_array_equal(file, none)
    assert json.loads((tmp_path / "file" / "ensemble.json").read_text())["weights"] == "equal"


def test_weights_by_hand(predictions, tmp_path):
    # The first model alone decides class 1 and the background, the second class 2.
    first, second = (one_hot([[labels]]) for labels in ([0, 1, 1], [2, 2, 0]))
    folders = [predictions(name, {"x": values}) for name, values in (("first", first), ("second", second))]
    weights = EnsembleWeights(("first", "second"), CHANNELS, np.array([[1, 1, 0], [0, 0, 1.0]]))
    ensemble_folders(folders, tmp_path / "out", weights, save_probabilities=True)
    # Voxel 0: background 1, class 2 1, a tie that the lower label wins; voxel 1: a tie again; voxel 2: class 1.
    assert read_labels(tmp_path / "out" / "x.nii.gz").ravel().tolist() == [0, 1, 1]
    np.testing.assert_array_equal(
        np.load(tmp_path / "out" / "x.npz")["probabilities"].reshape(3, 3),
        [[0.5, 0, 0], [0, 0.5, 1], [0.5, 0.5, 0]],
    )


def test_weights_follow_the_names_of_folders(two_folders, tmp_path):
    weights = EnsembleWeights(("first", "second"), CHANNELS, np.array([[1.0] * 3, [0] * 3]))
    ensemble_folders(two_folders, tmp_path / "out", weights)
    ensemble_folders(two_folders[::-1], tmp_path / "reversed", weights)
    for folder in ("out", "reversed"):
        np.testing.assert_array_equal(
            read_labels(tmp_path / folder / "x.nii.gz"), read_labels(two_folders[0] / "x.nii.gz")
        )


def test_order_of_folders_changes_nothing(two_folders, tmp_path):
    ensemble_folders(two_folders, tmp_path / "out")
    ensemble_folders(two_folders[::-1], tmp_path / "reversed")
    ours, theirs = (read_labels(tmp_path / folder / "x.nii.gz") for folder in ("out", "reversed"))
    np.testing.assert_array_equal(ours, theirs)


def test_small_components_by_hand(predictions, tmp_path):
    # A voxel has 6 mm3.
    folder = predictions("only", {"x": one_hot([[[1, 0, 1, 1, 0, 2]]])})
    ensemble_folders([folder], tmp_path / "all", min_component_mm3=7)
    assert read_labels(tmp_path / "all" / "x.nii.gz").ravel().tolist() == [0, 0, 1, 1, 0, 0]
    weights = EnsembleWeights(("only",), CHANNELS, np.ones((1, 3)), {"1": 7})
    ensemble_folders([folder], tmp_path / "kept", weights)
    assert read_labels(tmp_path / "kept" / "x.nii.gz").ravel().tolist() == [0, 0, 1, 1, 0, 2]
    ensemble_folders([folder], tmp_path / "none", weights, min_component_mm3=0)
    assert read_labels(tmp_path / "none" / "x.nii.gz").ravel().tolist() == [1, 0, 1, 1, 0, 2]


def test_two_dimensions(predictions, tmp_path, dataset_json):
    # A pixel of a photograph is 1 mm2 to nnU-Net, in a slice of 999 mm.
    plans = {"image_reader_writer": "NaturalImage2DIO", "label_manager": "LabelManager", "configurations": {}}
    folder = predictions(
        "photographs", {"x": one_hot([[[1, 0, 1, 1]]])}, {**dataset_json, "file_ending": ".png"}, plans
    )
    (folder / "x.pkl").write_bytes(pickle.dumps({"spacing": (999, 1, 1)}))
    ensemble_folders([folder], tmp_path / "out", min_component_mm3=2)
    assert read_labels(tmp_path / "out" / "x.png").ravel().tolist() == [0, 0, 1, 1]


def test_tiff_keeps_its_spacing(predictions, tmp_path, dataset_json):
    # Five slices of 2 x 3 voxels of 3 x 1 x 0.5 mm. nnU-Net notes the shape with the axes of the network.
    plans = {
        **PLANS,
        "image_reader_writer": "Tiff3DIO",
        "transpose_forward": [2, 0, 1],
        "transpose_backward": [1, 2, 0],
    }
    labels = np.arange(30).reshape(5, 2, 3) % 3
    folder = predictions("tiffs", {"x": one_hot(labels)}, {**dataset_json, "file_ending": ".tif"}, plans)
    properties = {"spacing": [3.0, 1.0, 0.5], "shape_before_cropping": (3, 5, 2)}
    (folder / "x.pkl").write_bytes(pickle.dumps(properties))
    (written,) = ensemble_folders([folder], tmp_path / "out")
    values, told = Tiff3DIO().read_seg(str(written))
    np.testing.assert_array_equal(values[0], labels)
    assert told["spacing"] == [3.0, 1.0, 0.5]
    assert not list((tmp_path / "out").glob(".*"))


def test_files_beside_the_segmentations(two_folders, tmp_path):
    ensemble_folders(two_folders, tmp_path / "out", min_component_mm3={"2": 9})
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"x.nii.gz", "y.nii.gz", "dataset.json", "plans.json", "ensemble.json"}
    record = json.loads((tmp_path / "out" / "ensemble.json").read_text())
    assert record["folders"] == [str(folder) for folder in two_folders]
    assert record["min_component_mm3"] == {"2": 9}


def test_validation_folders_have_their_models_files(tmp_path, predictions, random_probabilities):
    model = predictions("model", {})
    folder = predictions("model/fold_0/validation", {"x": random_probabilities(0)})
    for name in ("dataset.json", "plans.json"):
        (folder / name).unlink()
    assert (model / "plans.json").is_file()
    ensemble_folders([folder], tmp_path / "out")
    assert (tmp_path / "out" / "x.nii.gz").is_file()


def test_an_error_leaves_no_torn_file(two_folders, tmp_path, monkeypatch):
    output = tmp_path / "out"
    ensemble_folders(two_folders, output)
    before = (output / "x.nii.gz").read_bytes()

    def fail(values, manager):
        raise OSError("disk full")

    monkeypatch.setattr(averaging, "to_segmentation", fail)
    with pytest.raises(OSError, match="disk full"):
        ensemble_folders(two_folders, output)
    assert (output / "x.nii.gz").read_bytes() == before
    assert not list(output.glob(".*"))


@pytest.mark.parametrize("full_at", ["dataset.json", "plans.json", "ensemble.json"])
def test_a_disk_that_is_full_for_the_last_files_leaves_nothing(two_folders, tmp_path, monkeypatch, full_at):
    write = writing.write_atomically

    def fails(path, content):
        if path.name == full_at:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, content)

    monkeypatch.setattr(writing, "write_atomically", fails)
    with pytest.raises(OSError, match=re.escape(str(tmp_path / "out" / full_at))):
        ensemble_folders(two_folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_many_cases_in_processes(predictions, random_probabilities, tmp_path):
    cases = {f"case_{number}": random_probabilities(number, (2, 3, 4)) for number in range(8)}
    folder = predictions("many", cases)
    assert len(ensemble_folders([folder], tmp_path / "out", processes=2)) == 8
    for case in cases:
        np.testing.assert_array_equal(
            read_labels(tmp_path / "out" / f"{case}.nii.gz"), read_labels(folder / f"{case}.nii.gz")
        )


class TestRefuses:
    def test_no_folder(self, two_folders, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"No folder .*missing\."):
            ensemble_folders([tmp_path / "missing"], tmp_path / "out")

    def test_no_folders(self, tmp_path):
        with pytest.raises(ValueError, match=r"one folder of predictions per model, .* but got none"):
            ensemble_folders([], tmp_path / "out")

    def test_a_folder_twice(self, two_folders, tmp_path):
        with pytest.raises(ValueError, match="one folder of predictions per model"):
            ensemble_folders([two_folders[0], two_folders[0]], tmp_path / "out")

    def test_output_among_the_folders(self, two_folders):
        with pytest.raises(ValueError, match="another for the output"):
            ensemble_folders(two_folders, two_folders[1])

    def test_no_probabilities(self, two_folders, tmp_path):
        for path in two_folders[1].glob("*.npz"):
            path.unlink()
        with pytest.raises(FileNotFoundError, match=r"No \*\.npz in .*second\. .*--save_probabilities, .*--npz\."):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_different_cases(self, two_folders, tmp_path):
        (two_folders[1] / "y.npz").unlink()
        with pytest.raises(ValueError, match=r"the same cases in all folders, but .*second has no y\.npz"):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_hidden_files_are_no_cases(self, two_folders, tmp_path):
        (two_folders[0] / "._x.npz").write_bytes(b"Mac OS X")
        written = ensemble_folders(two_folders, tmp_path / "out")
        assert [path.name for path in written] == ["x.nii.gz", "y.nii.gz"]

    def test_no_properties(self, two_folders, tmp_path):
        (two_folders[0] / "y.pkl").unlink()
        with pytest.raises(FileNotFoundError, match=r"No .*y\.pkl"):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_no_plans(self, two_folders, tmp_path):
        (two_folders[0] / "plans.json").unlink()
        with pytest.raises(FileNotFoundError, match=r"No .*first/plans\.json"):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_other_labels(self, two_folders, tmp_path, dataset_json):
        labels = {"background": 0, "b": 1, "a": 2}
        (two_folders[1] / "dataset.json").write_text(json.dumps({**dataset_json, "labels": labels}))
        with pytest.raises(ValueError, match=r"the same labels in all folders, but .*first and .*second differ"):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_other_shape(self, two_folders, tmp_path, random_probabilities):
        np.savez(two_folders[1] / "x.npz", probabilities=random_probabilities(0, (5, 6, 8)))
        with pytest.raises(ValueError, match=r"shape \(3, 5, 6, 7\) in .*second/x\.npz, but got \(3, 5, 6, 8\)"):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_other_channels(self, two_folders, tmp_path, random_probabilities):
        for folder in two_folders:
            np.savez(folder / "x.npz", probabilities=random_probabilities(0, classes=2))
        with pytest.raises(ValueError, match=r"Expected 3 channels of probabilities in .*first/x\.npz, but got 2"):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_nan(self, two_folders, tmp_path, random_probabilities):
        probabilities = random_probabilities(0)
        probabilities[0, 0, 0, 0] = np.nan
        np.savez(two_folders[1] / "x.npz", probabilities=probabilities)
        with pytest.raises(ValueError, match=r"second/x\.npz holds non-finite values"):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_logits(self, two_folders, tmp_path, random_probabilities):
        np.savez(two_folders[1] / "x.npz", probabilities=random_probabilities(0) * 20 - 10)
        with pytest.raises(ValueError, match=r"Expected probabilities from 0 to 1 in .*second/x\.npz, but got -"):
            ensemble_folders(two_folders, tmp_path / "out")

    @pytest.mark.parametrize(
        ("properties", "told"),
        [
            (
                {"spacing": (1, 1, 1), "shape_before_cropping": (5, 6, 8)},
                r"of \(5, 6, 7\) voxels.*, but got \(5, 6, 8\)",
            ),
            ({"spacing": (1, 1)}, r"x\.pkl holds no properties of nnU-Net \(Expected one spacing per array axis \(3\)"),
            ({"shape_before_cropping": (5, 6, 7)}, r"x\.pkl holds no properties of nnU-Net \(no 'spacing'\)"),
            ([3], r"x\.pkl holds no properties of nnU-Net \(cannot convert"),
        ],
    )
    def test_properties_of_another_image(self, two_folders, tmp_path, properties, told):
        (two_folders[0] / "x.pkl").write_bytes(pickle.dumps(properties))
        with pytest.raises(ValueError, match=told):
            ensemble_folders(two_folders, tmp_path / "out", save_probabilities=True)
        assert not list((tmp_path / "out").glob("x.*"))

    def test_torn_properties(self, two_folders, tmp_path):
        (two_folders[0] / "x.pkl").write_bytes(b"torn")
        with pytest.raises(ValueError, match=r"x\.pkl is damaged \(.*\)\. Predict"):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_torn(self, two_folders, tmp_path):
        (two_folders[1] / "x.npz").write_bytes(b"PK")
        with pytest.raises(ValueError, match=r"second/x\.npz holds no probabilities"):
            ensemble_folders(two_folders, tmp_path / "out")

    def test_weights_of_another_dataset(self, two_folders, tmp_path):
        weights = EnsembleWeights(("a", "b"), ("0", "1"), np.full((2, 2), 0.5))
        with pytest.raises(ValueError, match=r"labels of .*first, 0, 1, 2, but got weights for 0, 1\."):
            ensemble_folders(two_folders, tmp_path / "out", weights)

    @pytest.mark.parametrize(("volumes", "told"), [(-1.0, "-1.0 of 1"), ({"3": 1.0}, "1.0 of 3"), ({"0": 1}, "1 of 0")])
    def test_minimum_volumes(self, two_folders, tmp_path, volumes, told):
        with pytest.raises(ValueError, match=f"Expected minimum volumes from 0 of 1, 2, but got {told}"):
            ensemble_folders(two_folders, tmp_path / "out", min_component_mm3=volumes)
