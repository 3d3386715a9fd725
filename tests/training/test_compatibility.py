"""What is overridden and called of nnU-Net: listed whole, checked at start, a mismatch told in one line."""

import importlib.metadata
import runpy

import pytest
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_rw.training import compatibility, trainer
from nnunet_rw.training.compatibility import CALLED, OVERRIDDEN, check_nnunet, check_nnunet_version, mismatches
from nnunet_rw.training.dataloading import MapDataLoader, MapSpatialTransform
from nnunet_rw.training.recorded_run import RecordedRun, SeededRun
from nnunet_rw.training.trainer import MapTrainer

TRAINER, NNUNET = "nnunetv2.training.nnUNetTrainer.nnUNetTrainer", importlib.metadata.version("nnunetv2")


def test_the_installed_one_fits():
    assert list(mismatches()) == []
    assert check_nnunet() == NNUNET


def test_an_old_nnunet_is_refused_with_the_remedy():
    with pytest.raises(ImportError, match=r"Expected nnunetv2 2\.8 or newer, but got 2\.5\.1\. Run: pip install"):
        check_nnunet_version("2.5.1")
    assert check_nnunet_version("2.10.0") == "2.10.0"
    assert check_nnunet_version("2.8.0") == "2.8.0"
    assert check_nnunet_version() == NNUNET


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (MapTrainer, nnUNetTrainer),
        (SeededRun, nnUNetTrainer),
        (RecordedRun, nnUNetTrainer),
        (MapDataLoader, nnUNetDataLoader),
        (MapSpatialTransform, SpatialTransform),
    ],
)
def test_every_overridden_method_is_listed(ours, theirs):
    overridden = {name for name, value in vars(ours).items() if callable(value) and hasattr(theirs, name)}
    # Made from the stock transform's own signature, whatever that is.
    overridden -= {"__init__"} if ours is MapSpatialTransform else set()
    listed = {path.partition(":")[2] for path in OVERRIDDEN}
    assert {f"{theirs.__name__}.{name}" for name in overridden} <= listed
    assert overridden


def changed(monkeypatch, function):
    monkeypatch.setattr(nnUNetTrainer, function.__name__, function)
    with pytest.raises(ImportError) as told:
        check_nnunet()
    return str(told.value)


def test_a_new_parameter_of_an_overridden_method_is_told_with_the_version(monkeypatch):
    def train_step(self, batch, scaler=None):
        pass

    assert changed(monkeypatch, train_step) == (
        f"Expected nnUNetTrainer.train_step(self, batch) in {TRAINER}, but nnunetv2 {NNUNET} has "
        f"nnUNetTrainer.train_step(self, batch, scaler). Run: pip install 'nnunetv2=={compatibility.NEWEST_TESTED}', "
        "the newest that this nnunet_rw was tested with"
    )


def test_parameters_in_another_order_are_told(monkeypatch):
    # nnU-Net makes its trainers with positions.
    def __init__(self, plans, configuration, dataset_json, fold, device):
        pass

    assert "has nnUNetTrainer.__init__(self, plans, configuration, dataset_json, fold, device)" in changed(
        monkeypatch, __init__
    )


def test_trainers_are_not_defined_on_an_nnunet_that_does_not_fit(monkeypatch):
    monkeypatch.delattr(nnUNetTrainer, "on_train_epoch_start")
    with pytest.raises(ImportError, match=r"no such name\. Run: pip install"):
        runpy.run_path(trainer.__file__)


def test_a_method_that_is_gone_is_told(monkeypatch):
    monkeypatch.delattr(nnUNetTrainer, "on_train_epoch_start")
    assert list(mismatches()) == [
        f"Expected nnUNetTrainer.on_train_epoch_start(self) in {TRAINER}, but nnunetv2 {NNUNET} has no such name"
    ]


def test_a_class_that_is_exchanged_must_be_where_it_is_looked_up(monkeypatch):
    monkeypatch.delattr(stock, "nnUNetDataLoader")
    (problem,) = mismatches()
    assert problem.endswith(f"in {TRAINER}, but nnunetv2 {NNUNET} has no such name")


def test_what_is_called_may_gain_parameters_with_a_default_alone(monkeypatch):
    (path,) = (path for path in CALLED if path.endswith(":comp_blosc2_params"))
    module = path.partition(":")[0]

    def more(image_size, patch_size, codec="zstd", *others, **options):
        pass

    def other(image_size, patch_size, codec):
        pass

    def fewer(image_size):
        pass

    monkeypatch.setattr(f"{module}.comp_blosc2_params", more)
    assert list(mismatches()) == []
    monkeypatch.setattr(f"{module}.comp_blosc2_params", other)
    (problem,) = mismatches()
    assert problem.endswith("has comp_blosc2_params(image_size, patch_size, codec)")
    monkeypatch.setattr(f"{module}.comp_blosc2_params", fewer)
    (problem,) = mismatches()
    assert problem.endswith("has comp_blosc2_params(image_size)")
