"""What is done of a training, and what it goes on from."""

import json
import os
import re
from dataclasses import replace

import pytest
import torch
from benchmark_results import write_run

from nnunet_rw.benchmark import training
from nnunet_rw.benchmark.jobs import Job, Task
from nnunet_rw.benchmark.results import check_same_settings
from nnunet_rw.benchmark.specification import specification_of
from nnunet_rw.benchmark.training import (
    check_same_conditions,
    fold_folder,
    is_trained,
    present_loss_and_optimizer,
    usable_checkpoint,
)
from nnunet_rw.training.recorded_run import VALIDATION_TTA
from nnunet_rw.training.records import content_hash, write_run_record

TASK = Task("Task04_Hippocampus", "Dataset004_Hippocampus")
JOB = Job("train", TASK, "RWTrainer", seed=1, fold=0)
SPLITS = [{"train": ["c"], "val": ["a", "b"]}]


def specification(froc=True, tta=True):
    values = {"tasks": [TASK.name], "trainers": ["RWTrainer"], "epochs": 2, "plans": "small"}
    return specification_of({**values, "evaluation": {"froc": froc, "tta": tta}}, "here")


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """nnU-Net's folders with the dataset's plans and splits, nothing trained."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name / TASK.dataset).mkdir(parents=True)
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    preprocessed = tmp_path / "preprocessed" / TASK.dataset
    (preprocessed / "splits_final.json").write_text(json.dumps(SPLITS))
    (preprocessed / "nnUNetPlansSmall.json").write_text(json.dumps({"plans_name": "nnUNetPlansSmall"}))
    return preprocessed


@pytest.fixture
def fold(folders):
    path = fold_folder(specification(), JOB)
    path.mkdir(parents=True)
    return path


def test_folder_is_the_one_that_nnunet_writes(folders, tmp_path):
    assert fold_folder(specification(), JOB) == (
        tmp_path / "results" / TASK.dataset / "RWTrainer_2epochs_seed1__nnUNetPlansSmall__3d_fullres" / "fold_0"
    )


def test_trained_means_validated_with_what_is_asked_for(fold):
    assert not is_trained(specification(), JOB)
    (fold / "checkpoint_final.pth").touch()
    assert not is_trained(specification(), JOB)
    (fold / "validation").mkdir()
    (fold / "validation" / "summary.json").touch()
    assert is_trained(specification(froc=False), JOB)
    (fold / "validation" / "a.npz").touch()
    assert not is_trained(specification(), JOB)
    (fold / "validation" / "b.npz").touch()
    assert is_trained(specification(), JOB)


@pytest.mark.parametrize("recorded", [None, True, False])
def test_trained_means_mirrored_or_not_as_asked_for(fold, tmp_path, recorded):
    (fold / "checkpoint_final.pth").touch()
    (fold / "validation").mkdir()
    (fold / "validation" / "summary.json").touch()
    record = write_run(tmp_path, TASK.dataset, "RWTrainer", 1, 0).record
    write_run_record(fold, replace(record, validation_tta=recorded))
    # All mirrored before there was a choice.
    assert is_trained(specification(froc=False, tta=True), JOB) == (recorded is not False)
    assert is_trained(specification(froc=False, tta=False), JOB) == (recorded is False)


@pytest.mark.parametrize(("tta", "expected"), [(True, "1"), (False, "0")])
def test_mirroring_is_told_to_the_training(fold, monkeypatch, tta, expected):
    seen = []
    monkeypatch.setattr(training, "run_training", lambda *_, **__: seen.append(os.environ[VALIDATION_TTA]))
    training.train(specification(tta=tta), JOB, threads=1)
    assert seen == [expected]


def test_checkpoints_in_the_order_of_nnunet(fold):
    assert usable_checkpoint(fold) is None
    for name in ("checkpoint_best.pth", "checkpoint_latest.pth", "checkpoint_final.pth"):
        torch.save({"current_epoch": 1}, fold / name)
        assert usable_checkpoint(fold) == name


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_checkpoint_cut_off_is_removed_and_the_next_taken(fold, capsys, kept):
    torch.save({"weights": torch.rand(10_000)}, fold / "checkpoint_best.pth")
    whole = (fold / "checkpoint_best.pth").read_bytes()
    size = int(kept * len(whole)) if kept < 1 else kept
    (fold / "checkpoint_latest.pth").write_bytes(whole[:size])
    assert usable_checkpoint(fold) == "checkpoint_best.pth"
    assert not (fold / "checkpoint_latest.pth").exists()
    assert f"{fold / 'checkpoint_latest.pth'} is damaged" in capsys.readouterr().out


def test_a_checkpoint_that_holds_more_than_numbers_is_kept_and_not_run(fold, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    class Kept:
        def __reduce__(self):
            return os.mkdir, ("was run",)

    torch.save({"current_epoch": 1, "of_a_trainer": Kept()}, fold / "checkpoint_latest.pth")
    assert usable_checkpoint(fold) == "checkpoint_latest.pth"
    assert f"{fold / 'checkpoint_latest.pth'} is trusted" in capsys.readouterr().out
    assert not (tmp_path / "was run").exists()


def test_another_loss_or_optimiser_is_refused(folders, fold, tmp_path, monkeypatch):
    hashes = [content_hash(folders / name) for name in ("splits_final.json", "nnUNetPlansSmall.json")]
    record = write_run(tmp_path, TASK.dataset, "RWTrainer", 1, 0).record
    record = replace(record, splits_sha256=hashes[0], plans_sha256=hashes[1])
    for loss, optimizer, told in (
        (record.loss, record.optimizer, None),
        ("new", record.optimizer, f"with the loss {record.loss}, and RWTrainer has the loss new now"),
        (record.loss, "Adam, lr 0.001", f"with {record.optimizer or 'SGD'}, and RWTrainer has Adam, lr 0.001 now"),
    ):
        monkeypatch.setattr(training, "present_loss_and_optimizer", lambda *_, now=(loss, optimizer): now)
        write_run_record(fold, record)
        if told is None:
            check_same_conditions(specification(), JOB)
            continue
        with pytest.raises(
            ValueError, match=f"^{re.escape(f'{fold} was trained {told}')}. Restore the trainer or give"
        ):
            check_same_conditions(specification(), JOB)
    # An older record: SGD, with whatever settings.
    write_run_record(fold, replace(record, optimizer=""))
    with pytest.raises(ValueError, match=r"was trained with SGD, and RWTrainer has Adam, lr 0\.001 now"):
        check_same_conditions(specification(), JOB)
    monkeypatch.setattr(training, "present_loss_and_optimizer", lambda *_: (record.loss, "SGD, lr 0.01, poly"))
    check_same_conditions(specification(), JOB)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"loss": "old"}, "with the loss nnunet + rrw, {} with the loss old"),
        ({"optimizer": "Adam, lr 0.001"}, "with SGD, {} with Adam, lr 0.001"),
        ({"optimizer": "SGD, lr 0.02"}, None),
    ],
)
def test_trainings_of_one_name_are_alike(tmp_path, settings, told):
    first, second = (write_run(tmp_path, TASK.dataset, "RWTrainer", seed, 0) for seed in (0, 1))
    other = write_run(tmp_path, TASK.dataset, "nnUNetTrainer", 0, 0)
    first = replace(first, record=replace(first.record, optimizer=""))
    check_same_settings([first, other, replace(second, record=None), second])
    changed = replace(second, record=replace(second.record, **settings))
    if told is None:
        check_same_settings([first, other, changed])
        return
    message = f"Trainings of RWTrainer differ: {first.folder} was trained {told.format(second.folder)}. Remove the one"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        check_same_settings([first, other, changed])


def test_loss_and_optimiser_are_told_as_a_training_would(nnunet, make_dataset, blobs):
    dataset = make_dataset({"a": blobs((16, 16, 16)), "b": blobs((16, 16, 16))})
    settings = {
        "tasks": [TASK.name],
        "trainers": ["RWTrainer_RRW", "nnUNetTrainer"],
        "epochs": 2,
        "plans": "nnUNetPlans",
    }
    job = Job("train", Task(TASK.name, dataset.name), "RWTrainer_RRW", seed=1, fold=0)
    loss, optimizer = present_loss_and_optimizer(specification_of(settings, "here"), job)
    assert loss.startswith("1 * rrw[mean(p z)")
    assert optimizer == "Adam, lr 0.001, betas 0.9 and 0.95, weight decay 3e-05, poly"
    stock = present_loss_and_optimizer(specification_of(settings, "here"), replace(job, trainer="nnUNetTrainer"))
    assert stock == ("DC_and_CE_loss", "SGD, lr 0.01, momentum 0.99, Nesterov, weight decay 3e-05, poly")
    assert list(nnunet.results.iterdir()) == []


def test_other_splits_or_plans_are_refused(folders, fold, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "other_than_recorded", lambda *_: None)
    monkeypatch.setattr(training, "present_loss_and_optimizer", lambda *_: ("", ""))
    splits, plans = (content_hash(folders / name) for name in ("splits_final.json", "nnUNetPlansSmall.json"))
    record = replace(write_run(tmp_path, TASK.dataset, "RWTrainer", 1, 0).record, plans_sha256=plans)
    write_run_record(fold, replace(record, splits_sha256=splits))
    check_same_conditions(specification(), JOB)

    # The same content in another layout is the same.
    (folders / "splits_final.json").write_text(json.dumps(SPLITS, indent=8))
    check_same_conditions(specification(), JOB)

    (folders / "splits_final.json").write_text(json.dumps([{"train": ["b"], "val": ["a", "c"]}]))
    with pytest.raises(ValueError, match=rf"{fold} was trained with another splits_final\.json than that in {folders}"):
        check_same_conditions(specification(), JOB)
    splits = content_hash(folders / "splits_final.json")
    write_run_record(fold, replace(record, splits_sha256=splits, plans_sha256="0"))
    with pytest.raises(ValueError, match=r"another nnUNetPlansSmall\.json"):
        check_same_conditions(specification(), JOB)


def test_a_training_without_record_is_refused(fold):
    with pytest.raises(ValueError, match=rf"No run\.json in {fold}"):
        check_same_conditions(specification(), JOB)
