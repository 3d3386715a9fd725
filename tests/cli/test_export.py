"""`nnunet-rw export`: models that predict without this package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_rw.cli import main
from nnunet_rw.training.catalogue import find_trainer

DATASET = "Dataset900_Synthetic"


@pytest.fixture
def trained(make_dataset, blobs, nnunet):
    """Function that writes what a training of two folds leaves, as far as it is read; weights are the fold's number.

    The network is that of the trainer's class, as nnU-Net finds it.
    """
    dataset = make_dataset({case: blobs((16, 16, 16)) for case in "ab"})

    def write(trainer):
        folder = nnunet.results / DATASET / f"{trainer}__nnUNetPlans__3d_fullres"
        folder.mkdir(parents=True)
        (folder / "plans.json").write_text(json.dumps(dataset.plans))
        (folder / "dataset.json").write_text(json.dumps(dataset.dataset_json))
        (folder / "dataset_fingerprint.json").write_text("{}")
        plans = PlansManager(json.loads(json.dumps(dataset.plans)))
        configuration = plans.get_configuration("3d_fullres")
        network = find_trainer(trainer).build_network_architecture(plans, configuration, 1, 2, True)
        for fold in (0, 1):
            (folder / f"fold_{fold}" / "validation").mkdir(parents=True)
            curves = {"train_losses": [1.0, 2.0], "train_terms/rrw": [3.0], "val_terms/rrw": [4.0]}
            checkpoint = {
                "network_weights": {name: torch.full_like(w, fold) for name, w in network.state_dict().items()},
                "trainer_name": trainer,
                "logging": curves,
                "init_args": {"configuration": "3d_fullres", "fold": fold},
            }
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        shutil.copyfile(folder / "fold_0" / "checkpoint_final.pth", folder / "fold_0" / "checkpoint_best.pth")
        return folder

    return write


@pytest.fixture
def model(trained):
    return trained("RWTrainer_5epochs")


EXPORT = ("export", "-d", "900", "-tr", "RWTrainer_5epochs")
EXPORTED = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def test_export_names_the_stock_trainer_and_keeps_the_rest(model, succeeds, tmp_path):
    text = succeeds(*EXPORT, "-o", tmp_path / "out")
    folder = tmp_path / "out" / EXPORTED
    command = f"Predict with: nnUNetv2_predict_from_modelfolder -i IMAGES -o PREDICTIONS -m {folder} -f 0 1"
    assert text.splitlines() == [str(folder), command]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == [
        "dataset.json",
        "dataset_fingerprint.json",
        "fold_0/checkpoint_final.pth",
        "fold_1/checkpoint_final.pth",
        "plans.json",
    ]
    assert list((tmp_path / "out").iterdir()) == [folder]
    assert (folder / "plans.json").read_bytes() == (model / "plans.json").read_bytes()
    for fold in (0, 1):
        exported = torch.load(folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)
        assert exported["trainer_name"] == "nnUNetTrainer"
        before = torch.load(model / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)
        assert exported["network_weights"].keys() == before["network_weights"].keys()
        assert all((weights == fold).all() for weights in exported["network_weights"].values())
        assert exported["init_args"] == {"configuration": "3d_fullres", "fold": fold}
        assert exported["logging"] == {"train_losses": [1.0, 2.0]}


@pytest.mark.parametrize(
    "trainer", ["RWTrainer", "RWTrainer_Boundary_20epochs_seed1", "nnUNetTrainerNoDeepSupervision"]
)
def test_exported_model_is_loaded_by_stock_nnunet(trained, succeeds, monkeypatch, tmp_path, trainer):
    trained(trainer)
    succeeds("export", "-d", "900", "-tr", trainer, "-o", tmp_path)
    monkeypatch.delenv("nnUNet_extTrainer")
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(str(tmp_path / EXPORTED), (1,))
    assert all((weights == 1).all() for weights in predictor.network.state_dict().values())


OTHER_ACTIVATION = """
class RWTrainer_OtherActivation(MapTrainer):
    @staticmethod
    def build_network_architecture(*arguments, **options):
        network = MapTrainer.build_network_architecture(*arguments, **options)
        network.final = torch.nn.ReLU()
        return network
"""


@pytest.mark.parametrize("trainer", ["nnUNetTrainerBN", "nnUNetTrainerBN_5epochs_seed0", "RWTrainer_OtherActivation"])
def test_network_of_another_kind_is_refused(trained, user_trainers, fails, tmp_path, trainer):
    user_trainers(OTHER_ACTIVATION)
    trained(trainer)
    assert fails("export", "-d", "900", "-tr", trainer, "-o", tmp_path / "out") == (
        f"{trainer} builds a network of its own (build_network_architecture), which stock nnU-Net would not. Predict "
        f"with the trainer itself: nnUNetv2_predict -i IMAGES -o PREDICTIONS -d DATASET -c CONFIGURATION -tr {trainer}"
    )
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_refused(model, fails, tmp_path):
    """As of a trainer whose class was another when it trained."""
    path = model / "fold_1" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=False)
    weights = checkpoint["network_weights"]
    weights["decoder.seg_layers.0.bias"] = torch.zeros(3)
    weights["extra"] = torch.zeros(1)
    torch.save(checkpoint, path)
    message = fails(*EXPORT, "-o", tmp_path / "out")
    assert message.startswith(
        f"{path} holds another network than stock nnU-Net builds from its plans: 2 weights differ,"
    )
    assert list((tmp_path / "out").iterdir()) == []


def test_trainer_that_nobody_finds_is_refused(model, fails, monkeypatch, tmp_path):
    monkeypatch.delenv("nnUNet_extTrainer")
    message = fails(*EXPORT, "-o", tmp_path / "out")
    assert message.startswith("nnU-Net finds no trainer RWTrainer_5epochs, so its network may be another than stock")
    assert message.endswith('for those of this package run: eval "$(nnunet-rw env)"')
    assert not (tmp_path / "out").exists()


def test_export_of_one_fold_or_another_checkpoint(model, succeeds, tmp_path):
    # nnU-Net's prediction takes all five folds and the final checkpoint by default.
    assert succeeds(*EXPORT, "-o", tmp_path / "one", "-f", "1").endswith(" -f 1\n")
    assert [path.parent.name for path in tmp_path.glob("one/*/*/*.pth")] == ["fold_1"]
    text = succeeds(*EXPORT, "-o", tmp_path / "best", "-chk", "checkpoint_best.pth")
    assert text.endswith(" -f 0 -chk checkpoint_best.pth\n")
    assert [path.parent.name for path in tmp_path.glob("best/*/*/*.pth")] == ["fold_0"]


def test_export_overwrites_nothing(model, succeeds, fails, tmp_path):
    succeeds(*EXPORT, "-o", tmp_path, "-f", "1")
    message = fails(*EXPORT, "-o", tmp_path)
    assert message == f"{tmp_path / EXPORTED} exists. Remove it or give another folder with -o."
    assert [path.parent.name for path in (tmp_path / EXPORTED).glob("*/*.pth")] == ["fold_1"]


def test_export_leaves_nothing_half_done(model, fails, tmp_path):
    (model / "fold_1" / "checkpoint_final.pth").write_bytes(b"")
    assert main([*EXPORT, "-o", str(tmp_path / "out")]) == 2
    assert list((tmp_path / "out").iterdir()) == []


class Crafted:
    def __reduce__(self):
        return os.mkdir, ("was run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"logging": {}, "extra": Crafted()}, rf" names {os.mkdir.__module__}\.mkdir, which reading it would call"),
        ({"network_weights": {}}, r"is damaged \(no 'trainer_name'\)"),
        ([1, 2], r"is damaged \(a list\)"),
    ],
)
def test_export_of_a_checkpoint_that_is_none(model, fails, tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = model / "fold_1" / "checkpoint_final.pth"
    torch.save(content, path)
    line = fails(*EXPORT, "-o", tmp_path / "out")
    assert re.search(message, line)
    assert str(path) in line
    assert list((tmp_path / "out").iterdir()) == []
    assert not (tmp_path / "was run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-tr", "RWTrainer"],
            r"No trained model .*/RWTrainer__\S+\. There are: \S+\. Run: nnUNetv2_train .* -tr RWTrainer -p",
        ),
        (
            ["-c", "2d"],
            r"No trained model .*__2d\. There are: RWTrainer_5epochs__\S+__3d_fullres\. Run: nnUNetv2_train 900 2d 0 ",
        ),
        (
            ["-p", "tiny"],
            r"No trained model .*\. There are: \S+\. Run: nnUNetv2_train .* -p tiny",
        ),
        (["-f", "0", "3"], r"No checkpoint_final\.pth in fold_3 of .*\. Finish the training\."),
        (["-chk", "checkpoint_x.pth"], r"No checkpoint_x\.pth in any fold of .*\. Finish the training\."),
        (["-d", "901"], r"No dataset '901'.* Look into .*nnUNet_results\."),
        (["-d", "Dataset901_None"], r"No dataset 'Dataset901_None' in .*nnUNet_results\. Run: nnUNetv2_train .*"),
    ],
)
def test_export_of_what_is_not_there(model, fails, tmp_path, arguments, message):
    assert re.match(message, fails(*EXPORT, *arguments, "-o", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


PREDICT = """
import sys
from nnunetv2.inference.predict_from_raw_data import predict_entry_point_modelfolder
if __name__ == "__main__":
    predict_entry_point_modelfolder()
    assert not any(name.split(".")[0] == "nnunet_rw" for name in sys.modules)
"""


@pytest.mark.slow
def test_exported_model_predicts_without_this_package(make_dataset, blobs, nnunet, succeeds, monkeypatch, tmp_path):
    # As large as the patch: prediction then is a single tile.
    make_dataset({case: blobs((16, 16, 16), seed=seed) for seed, case in enumerate("abc")})
    trainer = "RWTrainer_IWDiceCE_RRW_1epochs_1iterations"
    train = [Path(sys.executable).with_name("nnUNetv2_train"), "900", "3d_fullres", "0", "-tr", trainer]
    done = subprocess.run([*train, "-device", "cpu"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    succeeds("export", "-d", "900", "-tr", trainer, "-o", tmp_path)

    original = nnunet.results / DATASET / f"{trainer}__nnUNetPlans__3d_fullres"
    checkpoints = [
        torch.load(folder / "fold_0" / "checkpoint_final.pth", weights_only=False)
        for folder in (original, tmp_path / EXPORTED)
    ]
    weights = [checkpoint["network_weights"] for checkpoint in checkpoints]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert any(key.startswith("train_terms/") for key in checkpoints[0]["logging"])

    monkeypatch.delenv("nnUNet_extTrainer")
    image = sitk.GetImageFromArray(np.random.default_rng(0).random((16, 16, 16), np.float32))
    image.SetOrigin((3.0, 4.0, 5.0))
    (tmp_path / "images").mkdir()
    sitk.WriteImage(image, str(tmp_path / "images" / "new_0000.nii.gz"))
    (tmp_path / "predict.py").write_text(PREDICT)
    options = [
        "-i",
        "images",
        "-o",
        "predictions",
        "-m",
        EXPORTED,
        "-f",
        "0",
        "-device",
        "cpu",
        "-npp",
        "1",
        "-nps",
        "1",
    ]
    predict = [sys.executable, "predict.py", *options, "--disable_tta"]
    done = subprocess.run(predict, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predicted = sitk.ReadImage(str(tmp_path / "predictions" / "new.nii.gz"))
    assert (predicted.GetSize(), predicted.GetOrigin()) == (image.GetSize(), image.GetOrigin())
