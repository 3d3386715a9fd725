import copy
import json
import re
from functools import partial

import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_rw.datasets.planning import small_plans, write_small_plans

# Shape and spacing (mm) of each dataset's images in array order (z, y, x), as the fingerprint holds them.
DATASETS = {
    "Dataset901_Cube": ((64, 64, 64), (1.0, 1.0, 1.0)),
    "Dataset902_Flat": ((20, 320, 320), (3.0, 0.5, 0.5)),
    "Dataset903_Cascade": ((260, 260, 260), (1.0, 1.0, 1.0)),
    "Dataset904_Tiny": ((16, 14, 12), (1.0, 1.0, 1.0)),
}


@pytest.fixture(scope="module")
def preprocessed(tmp_path_factory):
    """Folder with the plans of nnU-Net's own planner, which reads the fingerprint and never the images."""
    root = tmp_path_factory.mktemp("nnunet")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(variable, str(root / variable))
        patch.setenv("nnUNet_n_proc_DA", "2")
        for name, (shape, spacing) in DATASETS.items():
            raw, folder = root / "nnUNet_raw" / name, root / "nnUNet_preprocessed" / name
            for new in (raw / "imagesTr", raw / "labelsTr", folder):
                new.mkdir(parents=True)
            (raw / "imagesTr" / "a_0000.nii.gz").touch()
            (raw / "labelsTr" / "a.nii.gz").touch()
            description = {
                "channel_names": {"0": "MRI"},
                "labels": {"background": 0, "lesion": 1},
                "numTraining": 1,
                "file_ending": ".nii.gz",
                "overwrite_image_reader_writer": "SimpleITKIO",
            }
            fingerprint = {
                "spacings": [spacing] * 3,
                "shapes_after_crop": [shape] * 3,
                "foreground_intensity_properties_per_channel": {"0": {}},
                "median_relative_size_after_cropping": 1.0,
            }
            (raw / "dataset.json").write_text(json.dumps(description))
            (folder / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
            ExperimentPlanner(name).plan_experiment()
    return root / "nnUNet_preprocessed"


def stock_plans(preprocessed, name):
    return json.loads((preprocessed / name / "nnUNetPlans.json").read_text())


def network(configuration):
    return get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        input_channels=1,
        output_channels=2,
        deep_supervision=True,
    )


@pytest.mark.parametrize("name", DATASETS)
def test_every_configuration_builds_and_trains_a_network(preprocessed, name):
    manager = PlansManager(small_plans(stock_plans(preprocessed, name)))
    for configuration_name in manager.available_configurations:
        configuration = manager.get_configuration(configuration_name)
        assert configuration.batch_size == 2
        assert max(configuration.patch_size) <= 48
        model = network(configuration).train()
        outputs = model(torch.rand(1, 1, *configuration.patch_size))
        assert list(outputs[0].shape[2:]) == configuration.patch_size
        assert len(outputs) == len(configuration.pool_op_kernel_sizes) - 1 >= 2
        sum(output.mean() for output in outputs).backward()


def test_cube_by_hand(preprocessed):
    small = small_plans(stock_plans(preprocessed, "Dataset901_Cube"))["configurations"]["3d_fullres"]
    # Stock: patch 64^3, five stages, strides 1-2-2-2-2. Four stages divide by 8, and 48 is a multiple of 8.
    assert small["patch_size"] == [48, 48, 48]
    kwargs = small["architecture"]["arch_kwargs"]
    assert kwargs["n_stages"] == 4
    assert kwargs["features_per_stage"] == [8, 16, 32, 64]
    assert kwargs["strides"] == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]]
    assert kwargs["n_conv_per_stage"] == [2, 2, 2, 2]
    assert kwargs["n_conv_per_stage_decoder"] == [1, 1, 1]


def test_flat_images_keep_their_first_kernels_and_strides(preprocessed):
    stock = stock_plans(preprocessed, "Dataset902_Flat")
    kwargs = stock["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    small = small_plans(stock)["configurations"]["3d_fullres"]
    small_kwargs = small["architecture"]["arch_kwargs"]
    assert small_kwargs["strides"] == kwargs["strides"][:4] == [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]]
    assert small_kwargs["kernel_sizes"] == kwargs["kernel_sizes"][:4]
    assert small_kwargs["kernel_sizes"][0] == [1, 3, 3]
    # Stock patch 20 x 320 x 256; the strides divide by 2, 8 and 8.
    assert small["patch_size"] == [20, 48, 48]


def test_missing_stages_are_filled_as_the_patch_allows(preprocessed):
    stock = stock_plans(preprocessed, "Dataset904_Tiny")["configurations"]["3d_fullres"]
    assert stock["architecture"]["arch_kwargs"]["strides"] == [[1, 1, 1], [2, 2, 2]]
    assert stock["patch_size"] == [16, 14, 12]
    small = small_plans(stock_plans(preprocessed, "Dataset904_Tiny"))["configurations"]["3d_fullres"]
    # Edges after the stock stages: 8, 7, 6. Halved they are 4, 3, 3; once more only the first stays at 2.
    strides = small["architecture"]["arch_kwargs"]["strides"]
    assert strides == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 1, 1]]
    assert small["architecture"]["arch_kwargs"]["kernel_sizes"] == [[3, 3, 3]] * 4
    assert small["patch_size"] == [16, 12, 12]  # multiples of 8, 4 and 4


@pytest.mark.parametrize(
    ("max_patch", "num_stages", "patch"),
    [(45, 4, 40), (16, 4, 16), (15, 3, 12), (8, 3, 8)],
)
def test_small_patches_have_fewer_stages(preprocessed, max_patch, num_stages, patch):
    # n stages divide by 2^(n-1), and the coarsest edge is at least 2: 15 allows 4 x 3 = 12, not 8 x 1.
    stock = stock_plans(preprocessed, "Dataset901_Cube")
    small = small_plans(stock, max_patch=max_patch)["configurations"]["3d_fullres"]
    assert small["architecture"]["arch_kwargs"]["n_stages"] == num_stages
    assert small["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 16, 32, 64][:num_stages]
    assert small["patch_size"] == [patch] * 3


def test_everything_that_decides_about_the_arrays_stays(preprocessed):
    stock = stock_plans(preprocessed, "Dataset903_Cascade")
    before = copy.deepcopy(stock)
    small = small_plans(stock, name="nnUNetPlansMini", batch_size=3)
    assert stock == before
    assert small["plans_name"] == "nnUNetPlansMini"
    assert set(small["configurations"]) == {"2d", "3d_lowres", "3d_fullres", "3d_cascade_fullres"}
    changed = {"batch_size", "patch_size", "architecture"}
    for name, configuration in small["configurations"].items():
        for key in stock["configurations"][name].keys() - changed:
            assert configuration[key] == stock["configurations"][name][key]
    assert {key: small[key] for key in small.keys() - {"configurations", "plans_name"}} == {
        key: stock[key] for key in stock.keys() - {"configurations", "plans_name"}
    }
    assert small["configurations"]["3d_fullres"]["data_identifier"] == "nnUNetPlans_3d_fullres"
    assert small["configurations"]["3d_fullres"]["batch_size"] == 3
    # The cascade goes on inheriting, so it shares the small full-resolution network.
    assert small["configurations"]["3d_cascade_fullres"] == stock["configurations"]["3d_cascade_fullres"]


def test_own_values_of_inheriting_configurations_are_made_small(preprocessed):
    stock = stock_plans(preprocessed, "Dataset901_Cube")
    stock["configurations"]["large_batch"] = {"inherits_from": "3d_fullres", "batch_size": 40}
    stock["configurations"]["large_patch"] = {"inherits_from": "3d_fullres", "patch_size": [32, 160, 160]}
    small = small_plans(stock)["configurations"]
    assert small["large_batch"] == {"inherits_from": "3d_fullres", "batch_size": 2}
    assert small["large_patch"]["patch_size"] == [32, 48, 48]
    assert small["large_patch"]["architecture"] == small["3d_fullres"]["architecture"]


def test_residual_encoders_stay_residual(preprocessed):
    stock = stock_plans(preprocessed, "Dataset901_Cube")
    architecture = stock["configurations"]["3d_fullres"]["architecture"]
    plain = architecture["network_class_name"]
    architecture["network_class_name"] = plain.replace("PlainConvUNet", "ResidualEncoderUNet")
    kwargs = architecture["arch_kwargs"]
    kwargs["n_blocks_per_stage"] = [1, 3, 4, 6, 6]
    del kwargs["n_conv_per_stage"]
    configuration = PlansManager(small_plans(stock)).get_configuration("3d_fullres")
    assert configuration.network_arch_init_kwargs["n_blocks_per_stage"] == [2, 2, 2, 2]
    assert network(configuration)(torch.rand(1, 1, 48, 48, 48))[0].shape == (1, 2, 48, 48, 48)


def test_impossible_options_are_refused(preprocessed):
    stock = stock_plans(preprocessed, "Dataset901_Cube")
    with pytest.raises(ValueError, match="Choose another name"):
        small_plans(stock, name="nnUNetPlans")
    with pytest.raises(ValueError, match=r"allows 2 stages, but deep supervision needs 3\. Raise max_patch"):
        small_plans(stock, max_patch=7)
    with pytest.raises(ValueError, match="at least 3 stages of features"):
        small_plans(stock, features=(8, 16))
    with pytest.raises(ValueError, match="batch of at least 1"):
        small_plans(stock, batch_size=0)


def test_two_stages_would_give_no_weight_to_any_output():
    # The lowest number of stages rests on this: the weights are divided by their sum, 0 for a single output.
    import inspect

    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    source = inspect.getsource(nnUNetTrainer._build_loss)
    assert "weights[-1] = 0\n" in source
    assert "weights = weights / weights.sum()" in source


def test_written_plans_lie_beside_the_stock_plans(preprocessed):
    folder = preprocessed / "Dataset901_Cube"
    stock = stock_plans(preprocessed, folder.name)
    path = write_small_plans(folder, name="nnUNetPlansWritten", max_patch=32)
    assert path == folder / "nnUNetPlansWritten.json"
    assert json.loads(path.read_text()) == small_plans(stock, name="nnUNetPlansWritten", max_patch=32)
    assert np.all(np.asarray(PlansManager(str(path)).get_configuration("2d").patch_size) == 32)
    assert stock_plans(preprocessed, folder.name) == stock
    assert not list(folder.glob(".*"))  # no temporary file is left


def test_other_plans_of_that_name_are_not_replaced(preprocessed):
    write = partial(write_small_plans, preprocessed / "Dataset901_Cube", name="nnUNetPlansKept")
    path = write()
    before = path.read_bytes()
    assert write().read_bytes() == before  # the same again
    with pytest.raises(ValueError, match=r"nnUNetPlansKept\.json has other plans, .* --overwrite"):
        write(batch_size=3)
    assert path.read_bytes() == before
    write(overwrite=True, batch_size=3)
    assert path.read_bytes() != before


def test_writing_says_what_to_do(preprocessed, tmp_path):
    folder = tmp_path / "Dataset042_Absent"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"Run: nnUNetv2_plan_experiment -d 42$"):
        write_small_plans(folder)
    with pytest.raises(ValueError, match="Choose another name"):
        write_small_plans(preprocessed / "Dataset901_Cube", name="nnUNetPlans")
    before = sorted(preprocessed.rglob("*"))
    for name in ("../x", "a/b", "a\\b", "/tmp/x", "..", ".hidden", ""):
        with pytest.raises(ValueError, match=f"Expected a name for plans, .* but got {re.escape(repr(name))}"):
            write_small_plans(preprocessed / "Dataset901_Cube", name=name)
        with pytest.raises(ValueError, match="Expected a name for plans, not a path"):
            write_small_plans(preprocessed / "Dataset901_Cube", plans_name=name)
    assert sorted(preprocessed.rglob("*")) == before
    with pytest.raises(TypeError, match="max_ptach"):
        write_small_plans(preprocessed / "Dataset901_Cube", max_ptach=32)
