"""nnU-Net's folders and preprocessed datasets in miniature."""

import json
import multiprocessing
import os
import re
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

# nnU-Net and the mathematical libraries read these once, when they are imported.
os.environ.update(OMP_NUM_THREADS="1", nnUNet_def_n_proc="1")

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter

# nnU-Net itself is imported where it is needed: that takes seconds, and the tests of maps and losses do without it.

torch.set_num_threads(1)

TRAINERS = Path(__file__).resolve().parents[1] / "trainers"
HIPPOCAMPUS = Path(__file__).parent / "data" / "Task04_Hippocampus"


@dataclass(frozen=True)
class Folders:
    """nnU-Net's three folders under one root."""

    root: Path

    @property
    def environment(self):
        """What a training in these folders needs to be set."""
        folders = {name: str(self.root / name) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        # Augmentation in the training's own process.
        return {**folders, "nnUNet_extTrainer": str(TRAINERS), "nnUNet_n_proc_DA": "0"}

    @property
    def preprocessed(self):
        return self.root / "nnUNet_preprocessed"

    @property
    def results(self):
        return self.root / "nnUNet_results"

    def make(self):
        for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        return self


@dataclass(frozen=True)
class Dataset:
    """A preprocessed dataset."""

    name: str
    folder: Path
    plans: dict
    dataset_json: dict
    labels: dict

    def data_folder(self, configuration="3d_fullres"):
        return self.folder / self.plans["configurations"][configuration]["data_identifier"]

    def settings(self, configuration="3d_fullres"):
        from nnunet_rw.store.files import MapSettings

        manager = self.plans_manager()
        return MapSettings.from_plans(manager, manager.get_configuration(configuration), self.dataset_json)

    def plans_manager(self):
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        return PlansManager(self.plans)

    def write_maps(self, kinds, configuration="3d_fullres"):
        from nnunet_rw.store.write import ensure_maps

        ensure_maps(self.data_folder(configuration), kinds, self.settings(configuration))


@pytest.fixture(autouse=True)
def _environment_of_its_own():
    """A benchmark sets nnU-Net's variables for the jobs that it starts: they end with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@contextmanager
def threads_for_processes():
    """nnU-Net's pools of spawned processes as pools of threads: a process takes seconds to import torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=ThreadPool))
        yield


@pytest.fixture
def thread_pools():
    with threads_for_processes():
        yield


@pytest.fixture(scope="session")
def preprocessed_hippocampus(tmp_path_factory):
    """The six cases through nnU-Net's own conversion, planning and preprocessing; never written to by a test."""
    from nnunetv2.dataset_conversion.convert_MSD_dataset import convert_msd_dataset
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprint_dataset,
        plan_experiment_dataset,
        preprocess_dataset,
    )

    from nnunet_rw.datasets.planning import write_small_plans

    class FewVoxels(DatasetFingerprintExtractor):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            # nnU-Net draws 10e7 intensities whatever the dataset's size: 17 s.
            self.num_foreground_voxels_for_intensitystats = 10e4

    root = tmp_path_factory.mktemp("hippocampus")
    folders = Folders(root / "nnunet").make()
    source = root / HIPPOCAMPUS.name
    shutil.copytree(HIPPOCAMPUS, source)
    (source / "imagesTs").mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch, threads_for_processes():
        for variable, value in folders.environment.items():
            patch.setenv(variable, value)
        # With 0 nnU-Net's planning asks torch for no threads at all, and fails.
        patch.setenv("nnUNet_n_proc_DA", "1")
        convert_msd_dataset(str(source), num_processes=1)
        extract_fingerprint_dataset(4, FewVoxels, num_processes=1)
        plan_experiment_dataset(4)
        preprocess_dataset(4, configurations=("3d_fullres", "2d"), num_processes=(1, 1))
    dataset_folder = folders.preprocessed / "Dataset004_Hippocampus"
    write_small_plans(dataset_folder, name="tiny", max_patch=24, features=(4, 8, 16))
    return folders


def copy_of_hippocampus(preprocessed, root):
    """Folders of one's own, with the dataset preprocessed and nothing trained."""
    shutil.copytree(preprocessed.root, root, ignore=shutil.ignore_patterns("nnUNet_results"))
    return Folders(root).make()


@pytest.fixture
def hippocampus(preprocessed_hippocampus, tmp_path, monkeypatch):
    """Dataset 4 with plans "tiny", in folders of the test's own that the environment names."""
    folders = copy_of_hippocampus(preprocessed_hippocampus, tmp_path / "nnunet")
    for variable, value in folders.environment.items():
        monkeypatch.setenv(variable, value)
    return folders


@pytest.fixture(scope="module")
def module_folders(preprocessed_hippocampus, tmp_path_factory):
    """As `hippocampus`, shared by a module's tests; they set the environment themselves."""
    return copy_of_hippocampus(preprocessed_hippocampus, tmp_path_factory.mktemp("shared") / "nnunet")


@pytest.fixture
def nnunet(tmp_path, monkeypatch):
    """Empty folders that the environment names."""
    folders = Folders(tmp_path / "nnunet").make()
    for variable, value in folders.environment.items():
        monkeypatch.setenv(variable, value)
    return folders


@pytest.fixture
def user_trainers(tmp_path, monkeypatch):
    """Function that adds a module of trainers in a folder of the user's to what nnU-Net searches."""

    def add(source):
        folder = tmp_path / "user_trainers"
        folder.mkdir()
        header = "import torch\nfrom nnunet_rw.losses import Term\nfrom nnunet_rw.training.trainer import MapTrainer\n"
        footer = "\nfrom nnunet_rw.training.variants import lengths\n\n__getattr__ = lengths(globals())\n"
        (folder / "trainers_of_a_user.py").write_text(header + source + footer)
        monkeypatch.setenv("nnUNet_extTrainer", os.pathsep.join([str(TRAINERS), str(folder)]))

    return add


@pytest.fixture
def succeeds(capsys):
    """Function that runs a command and returns what it printed."""

    from nnunet_rw.cli import main

    def run(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 0
        return capsys.readouterr().out

    return run


@pytest.fixture
def fails(capsys):
    """Function that runs a command that the user got wrong and returns its only line on stderr."""

    from nnunet_rw.cli import main

    def run(*arguments):
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert re.fullmatch(r"nnunet-rw: [^\n]+\n", output.err), output.err
        return output.err.removeprefix("nnunet-rw: ").strip()

    return run


@pytest.fixture
def blobs():
    """Function that draws labels (X, Y, Z) with lesions of many sizes, some of them cut by the border."""

    def draw(shape, seed=0, num_classes=2, share=0.05):
        rng = np.random.default_rng(seed)
        smooth = gaussian_filter(rng.standard_normal(shape), 2)
        labels = (smooth > np.quantile(smooth, 1 - share)).astype(np.int16)
        for label in range(2, num_classes):
            labels[(labels > 0) & (gaussian_filter(rng.standard_normal(shape), 2) > 0)] = label
        return labels

    return draw


@pytest.fixture
def make_dataset(nnunet):
    """Function that writes a preprocessed dataset, as nnU-Net would from the given labels."""

    def make(
        cases,
        labels=None,
        regions_class_order=None,
        configurations=None,
        name="Dataset900_Synthetic",
        nan_in=None,
    ):
        """
        Parameters
        ----------
        cases : dict of integer arrays (X, Y, Z); the last case is the validation case of fold 0
        labels : of dataset.json; default background and one lesion class
        configurations : dict of keyword arguments for `configuration`; default a 3d_fullres
        nan_in : a case whose image holds a NaN
        """
        label_names = labels or {"background": 0, "lesion": 1}
        dataset_json = {"channel_names": {"0": "MRI"}, "labels": label_names, "file_ending": ".nii.gz"}
        if regions_class_order:
            dataset_json["regions_class_order"] = regions_class_order
        plans = _plans(name, configurations or {"3d_fullres": {}})
        folder = nnunet.preprocessed / name
        (folder / "gt_segmentations").mkdir(parents=True)
        (folder / "dataset.json").write_text(json.dumps({**dataset_json, "numTraining": len(cases)}))
        (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
        (folder / "dataset_fingerprint.json").write_text("{}")
        *training, validation = cases
        (folder / "splits_final.json").write_text(json.dumps([{"train": training, "val": [validation]}]))
        dataset = Dataset(name, folder, plans, dataset_json, dict(cases))
        for number, (case, case_labels) in enumerate(cases.items()):
            image = (case_labels > 0) + np.random.default_rng(number).normal(0, 0.3, case_labels.shape)
            if case == nan_in:
                image[tuple(size // 2 for size in image.shape)] = np.nan
            _write_reference(folder / "gt_segmentations" / f"{case}.nii.gz", case_labels)
            for configuration in plans["configurations"]:
                _write_case(dataset, configuration, case, image.astype(np.float32), case_labels)
        return dataset

    return make


def _plans(dataset_name, configurations):
    return {
        "dataset_name": dataset_name,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [24, 24, 24],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {name: _configuration(name, **options) for name, options in configurations.items()},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": {}},
    }


def _configuration(
    name, patch_size=(16, 16, 16), spacing=(1.0, 1.0, 1.0), batch_size=2, batch_dice=False, mask_norm=False, **stages
):
    """A configuration of nnU-Net's plans with three stages of four features; axes below 8 voxels are pooled less."""
    axes = len(patch_size)
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    return {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "patch_size": list(patch_size),
        "median_image_size_in_voxels": list(patch_size),
        "spacing": list(spacing),
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [mask_norm],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [4, 4, 4],
                "conv_op": f"torch.nn.modules.conv.Conv{axes}d",
                "kernel_sizes": [[3] * axes] * 3,
                "strides": [[1] * axes, [2 if size >= 8 else 1 for size in patch_size], [2] * axes],
                "n_conv_per_stage": [1, 1, 1],
                "n_conv_per_stage_decoder": [1, 1],
                "conv_bias": True,
                "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{axes}d",
                "norm_op_kwargs": {"eps": 1e-5, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": batch_dice,
        **stages,
    }


def _write_case(dataset, configuration, case, image, labels):
    """The arrays of one configuration; a 3d_lowres takes every second voxel."""
    from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    settings = dataset.plans["configurations"][configuration]
    folder = dataset.data_folder(configuration)
    folder.mkdir(exist_ok=True)
    step = 2 if configuration == "3d_lowres" else 1
    data, segmentation = (array[None, ::step, ::step, ::step] for array in (image, labels.astype(np.int8)))
    manager = dataset.plans_manager().get_label_manager(dataset.dataset_json)
    sampled = list(manager.foreground_regions if manager.has_regions else manager.foreground_labels)
    if manager.has_ignore_label:
        sampled.append([-1, *manager.all_labels])
    spacing = [value / step for value in (1.0, *settings["spacing"])[-3:]]
    properties = {
        "spacing": spacing,
        "sitk_stuff": {"spacing": spacing[::-1], "origin": (0.0, 0.0, 0.0), "direction": tuple(np.eye(3).ravel())},
        "shape_before_cropping": labels.shape,
        "bbox_used_for_cropping": [[0, size] for size in labels.shape],
        "shape_after_cropping_and_before_resampling": labels.shape,
        "class_locations": DefaultPreprocessor._sample_foreground_locations(segmentation, sampled),
    }
    blocks, chunks = comp_blosc2_params(data.shape, tuple(settings["patch_size"]))
    nnUNetDatasetBlosc2.save_case(data, segmentation, properties, str(folder / case), chunks=chunks, blocks=blocks)


def _write_reference(path, labels):
    sitk.WriteImage(sitk.GetImageFromArray(np.maximum(labels, 0).astype(np.uint8)), str(path))


@pytest.fixture
def write_previous_stage(nnunet):
    """Function that writes what nnU-Net's validation of 3d_lowres leaves for the cascade."""

    def write(dataset, trainer):
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

        folder = nnunet.results / dataset.name / f"{trainer}__nnUNetPlans__3d_lowres" / "predicted_next_stage"
        folder = folder / "3d_cascade_fullres"
        folder.mkdir(parents=True, exist_ok=True)
        for case, labels in dataset.labels.items():
            predicted = np.roll(np.maximum(labels, 0), 1, axis=0).astype(np.uint8)
            nnUNetDatasetBlosc2.save_seg(predicted, str(folder / case))

    return write


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were drawn, whose closing is put off to the end of the test."""
    import matplotlib.pyplot as plt

    figures = []
    with monkeypatch.context() as patch:
        patch.setattr(plt, "close", figures.append)
        yield figures
    for figure in figures:
        plt.close(figure)
