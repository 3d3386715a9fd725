"""`nnunet-rw stability` on a CPU, through nnU-Net's own pipeline."""

import csv
import json
import os
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from nnunet_rw.audit import stability
from nnunet_rw.audit.curves import Curves, draw_stability
from nnunet_rw.audit.stability import RecordingTrainer, Stability
from nnunet_rw.cli import main
from nnunet_rw.losses import Term
from nnunet_rw.training.trainer import OPTIMIZERS


@pytest.fixture
def dataset(make_dataset, blobs):
    return make_dataset({name: blobs((20, 22, 24), seed) for seed, name in enumerate("abc")})


@pytest.fixture
def compare(tmp_path, succeeds):
    """Function that runs the command on the synthetic dataset and returns what it printed."""
    return lambda *arguments: succeeds(
        "stability", "-d", "900", "-p", "nnUNetPlans", "-o", tmp_path / "out", *arguments
    )


@pytest.fixture
def trained(monkeypatch):
    """The runs that are trained, as (names of the terms, seed)."""
    seen = []
    record = stability.record_training

    def recorded(data, attributes, fold, seed, *arguments):
        seen.append(("+".join(term.loss for term in attributes["loss_terms"]), seed))
        return record(data, attributes, fold, seed, *arguments)

    monkeypatch.setattr(stability, "record_training", recorded)
    return seen


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_two_losses_on_real_images(hippocampus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    assert main(["stability", "-d", "4", "-p", "tiny", "--seeds", "2", "--iterations", "3"]) == 0
    output = tmp_path / "stability_Dataset004_Hippocampus"
    rows = rows_of(output / "curves.csv")
    runs = [(loss, seed) for loss in ("boundary", "rrw") for seed in "01"]
    assert [(row["loss"], row["seed"], row["iteration"]) for row in rows] == [(*run, k) for run in runs for k in "012"]
    first = {run: next(row for row in rows if (row["loss"], row["seed"]) == run) for run in runs}
    # Hippocampus has two classes. Equal patches and equal predictions for them: equal initial weights.
    shares = [f"{share}_{label}" for share in ("predicted", "true", "overlap") for label in (1, 2)]
    for seed in "01":
        assert [first["boundary", seed][s] for s in shares] == [first["rrw", seed][s] for s in shares]
        assert first["boundary", seed]["value"] != first["rrw", seed]["value"]
    assert [first["rrw", "0"][s] for s in shares] != [first["rrw", "1"][s] for s in shares]
    patches = {run: [row["true_1"] for row in rows if (row["loss"], row["seed"]) == run] for run in runs}
    assert patches["boundary", "0"] == patches["rrw", "0"]
    assert len(set(patches["rrw", "0"])) > 1
    # Of rectified maps, in [-1, 1]; gradients are those before the clip, and not 0.
    assert all(abs(float(row["value"])) <= 1 for row in rows if row["loss"] == "rrw")
    assert all(float(row["gradient_norm"]) > 0 for row in rows)
    summary = json.loads((output / "summary.json").read_text())
    assert summary["settings"]["dataset"] == "Dataset004_Hippocampus"
    assert {name: loss["runs"] for name, loss in summary["losses"].items()} == {"boundary": 2, "rrw": 2}
    assert (output / "stability.png").read_bytes().startswith(b"\x89PNG")
    assert re.findall(r"^(\w+) +2 ", capsys.readouterr().out, re.MULTILINE) == ["boundary", "rrw"]
    # nnU-Net's own folder and the environment are as they were.
    assert list(hippocampus.results.iterdir()) == []
    assert dict(os.environ) == before
    log = "".join(path.read_text() for path in output.glob("logs/boundary_seed0/*/*/*/training_log_*.txt"))
    assert "1 * boundary[mean(p z), z = signed distance in mm]" in log


def test_finished_runs_are_not_repeated_and_torn_ones_are(dataset, compare, trained, tmp_path):
    compare("--iterations", "2", "--seeds", "1")
    assert trained == [("boundary", 0), ("rrw", 0)]
    trained.clear()
    table = compare("--iterations", "2", "--seeds", "1")
    assert trained == []
    torn = tmp_path / "out" / "runs" / "rrw_seed0.csv"
    content = torn.read_text()
    torn.write_text(content[:-30])
    assert compare("--iterations", "2", "--seeds", "1") == table
    assert trained == [("rrw", 0)]
    # The seed decides about everything.
    assert torn.read_text() == content
    trained.clear()
    compare("--iterations", "2", "--seeds", "2", "--losses", "rrw", "nnunet")
    assert trained == [("nnunet", 0), ("rrw", 1), ("nnunet", 1)]


def test_an_interrupted_command_goes_on_with_the_run_that_it_was_at(dataset, compare, trained, tmp_path, monkeypatch):
    record = stability.record_training

    def interrupted(data, attributes, *arguments):
        if attributes["loss_terms"][0].loss == "rrw":
            raise KeyboardInterrupt
        return record(data, attributes, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stability, "record_training", interrupted)
        arguments = ["-d", "900", "-p", "nnUNetPlans", "-o", str(tmp_path / "out"), "--seeds", "1", "--iterations", "1"]
        assert main(["stability", *arguments]) == 130
    assert trained == [("boundary", 0)]
    compare("--seeds", "1", "--iterations", "1")
    assert trained == [("boundary", 0), ("rrw", 0)]


def test_each_loss_also_with_dice(dataset, compare, trained):
    table = compare("--iterations", "1", "--seeds", "1", "--with-dice")
    assert trained == [("boundary", 0), ("rrw", 0), ("dice+boundary", 0), ("dice+rrw", 0)]
    for name in ("boundary+dice", "rrw+dice"):
        assert re.search(rf"^{re.escape(name)} +1 ", table, re.MULTILINE)


def test_boundary_takes_all_classes_and_dice_weighs_as_much():
    compared = Stability("4", with_dice=True).compared()
    boundary = Term("boundary", options={"include_background": True})
    assert compared == {
        "boundary": (boundary,),
        "rrw": (Term("rrw"),),
        "boundary+dice": (Term("dice"), boundary),
        "rrw+dice": (Term("dice"), Term("rrw")),
    }


def test_a_loss_that_becomes_no_number_ends_its_run(make_dataset, blobs, compare, trained, tmp_path):
    make_dataset({name: blobs((20, 22, 24), seed) for seed, name in enumerate("abc")}, nan_in="a")
    compare("--iterations", "30", "--seeds", "1", "--losses", "rrw")
    rows = rows_of(tmp_path / "out" / "curves.csv")
    assert 1 <= len(rows) < 30
    assert rows[-1]["value"] == "nan"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())["losses"]["rrw"]
    assert summary["diverged"] == 1
    assert summary["each_run"][0]["iterations"] == len(rows)
    compare("--iterations", "30", "--seeds", "1", "--losses", "rrw")
    assert trained == [("rrw", 0)]


def test_learning_rates_are_those_of_nnunets_first_epochs(dataset, compare, tmp_path, monkeypatch):
    def no_step(trainer, batch):
        trainer.rows.append((0.0, 0.0, [0.0], [0.0], [0.0]))

    monkeypatch.setattr(RecordingTrainer, "train_step", no_step)
    compare("--iterations", "251", "--seeds", "1", "--losses", "nnunet")
    [log] = (tmp_path / "out" / "logs").glob("nnunet_seed0/*/*/*/training_log_*.txt")
    rates = re.findall(r"Current learning rate: ([\d.]+)", log.read_text())
    # 0.01 (1 - 1 / 1000)^0.9 = 0.009991
    assert [float(rate) for rate in rates] == [0.01, 0.00999]


def test_runs_take_another_optimiser(dataset, compare, fails, tmp_path, monkeypatch):
    optimizers = []
    step = RecordingTrainer.train_step

    def seen(trainer, batch):
        optimizers.append(trainer.optimizer)
        return step(trainer, batch)

    monkeypatch.setattr(RecordingTrainer, "train_step", seen)
    arguments = ("--iterations", "1", "--seeds", "1", "--losses", "rrw")
    assert "\nOptimiser: adam, lr 0.002. Diverged" in compare(*arguments, "--optimizer", "adam", "--lr", "2e-3")
    (optimizer,) = optimizers
    assert type(optimizer) is torch.optim.Adam
    assert optimizer.param_groups[0]["lr"] == 0.002
    settings = json.loads((tmp_path / "out" / "summary.json").read_text())["settings"]
    assert (settings["optimizer_name"], settings["initial_lr"]) == ("adam", 0.002)
    assert fails("stability", "-d", "900", "-p", "nnUNetPlans", "-o", tmp_path / "out", "--iterations", "1") == (
        f"{tmp_path / 'out'} holds runs of other settings (optimizer_name adam, not sgd; initial_lr 0.002, not 0.01). "
        "Give another folder as -o."
    )


def test_runs_take_adams_betas(dataset, compare, fails, tmp_path, monkeypatch):
    betas = []
    step = RecordingTrainer.train_step

    def seen(trainer, batch):
        betas.append(trainer.optimizer.param_groups[0]["betas"])
        return step(trainer, batch)

    monkeypatch.setattr(RecordingTrainer, "train_step", seen)
    arguments = ("--iterations", "1", "--seeds", "1", "--losses", "rrw", "--optimizer", "adam")
    table = compare(*arguments, "--adam-betas", "0.9", "0.95")
    assert "\nOptimiser: adam, lr 0.01, betas 0.9 and 0.95. Diverged" in table
    assert betas == [(0.9, 0.95)]
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["adam_betas"] == [0.9, 0.95]
    other = fails("stability", "-d", "900", "-p", "nnUNetPlans", "-o", tmp_path / "out", *arguments)
    assert "(adam_betas [0.9, 0.95], not [0.9, 0.999])" in other


def test_sgd_has_no_betas(fails, tmp_path):
    message = fails("stability", "-d", "900", "-o", tmp_path / "out", "--adam-betas", "0.9", "0.95")
    assert message == "Expected the optimizer adam or adamw beside Adam's betas, but got sgd."
    assert not (tmp_path / "out").exists()


def test_a_folder_from_before_there_was_a_choice_has_nnunets_optimiser(dataset, compare, trained, tmp_path):
    arguments = ("--iterations", "1", "--seeds", "1", "--losses", "rrw")
    assert "\nOptimiser: sgd, lr 0.01. Diverged" in compare(*arguments)
    path = tmp_path / "out" / "settings.json"
    settings = json.loads(path.read_text())
    del settings["optimizer_name"], settings["initial_lr"], settings["adam_betas"]
    path.write_text(json.dumps(settings))
    compare(*arguments)
    assert trained == [("rrw", 0)]


def test_other_settings_need_another_folder(dataset, compare, fails, tmp_path):
    compare("--iterations", "1", "--seeds", "1", "--losses", "rrw")
    arguments = ["-d", "900", "-p", "nnUNetPlans", "-o", tmp_path / "out", "--iterations", "2", "-f", "1"]
    assert fails("stability", *arguments) == (
        f"{tmp_path / 'out'} holds runs of other settings (fold 0, not 1; iterations 1, not 2). "
        "Give another folder as -o."
    )


def test_unknown_loss_device_configuration_and_plans(dataset, fails, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert re.fullmatch(
        r"Unknown loss 'rw'. Known: rrw, boundary, .*, nnunet.", fails("stability", "-d", "900", "--losses", "rw")
    )
    assert fails("stability", "-d", "900", "--device", "cuda") == "PyTorch sees no CUDA device. Give --device cpu."
    assert fails("stability", "-d", "900").startswith(f"No plans {dataset.folder / 'nnUNetPlansSmall.json'}.")
    assert fails("stability", "-d", "900", "-p", "nnUNetPlans", "-c", "2d").startswith("No configuration '2d'")
    assert fails("stability", "-d", "7").startswith("No dataset '7'")


def test_a_cascade_is_refused(make_dataset, blobs, fails):
    stages = {
        "3d_lowres": {"spacing": (2.0, 2.0, 2.0), "next_stage": "3d_cascade_fullres"},
        "3d_cascade_fullres": {"previous_stage": "3d_lowres"},
    }
    make_dataset({case: blobs((36, 34, 32), seed) for seed, case in enumerate("abc")}, configurations=stages)
    message = "3d_cascade_fullres is a cascade and needs predictions of its first stage. Give another -c."
    assert fails("stability", "-d", "900", "-p", "nnUNetPlans", "-c", "3d_cascade_fullres") == message


def test_planned_but_not_preprocessed(dataset, fails, tmp_path):
    for path in dataset.data_folder().iterdir():
        path.unlink()
    message = fails("stability", "-d", "900", "-p", "nnUNetPlans", "-o", tmp_path / "out", "--losses", "nnunet")
    assert message.startswith("No preprocessed cases in")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--seeds", "--iterations"])
def test_numbers_are_above_0(capsys, option):
    with pytest.raises(SystemExit) as info:
        main(["stability", "-d", "4", option, "0"])
    assert info.value.code == 2
    assert f"{option}: expected a number above 0, but got 0" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf"])
def test_learning_rates_are_above_0(capsys, rate):
    with pytest.raises(SystemExit):
        main(["stability", "-d", "4", f"--lr={rate}"])
    assert f"--lr: expected a number above 0, but got {rate}" in capsys.readouterr().err


def test_betas_are_below_1(capsys):
    with pytest.raises(SystemExit):
        main(["stability", "-d", "4", "--adam-betas", "0.9", "1"])
    assert "--adam-betas: expected a number below 1, but got 1" in capsys.readouterr().err


def test_choices_of_optimisers_are_those_of_the_trainer(capsys):
    with pytest.raises(SystemExit):
        main(["stability", "--help"])
    assert f"--optimizer {{{','.join(OPTIMIZERS)}}}" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"Unknown optimiser 'lion'\. Known: sgd, adam, adamw\."):
        stability.run_stability(Stability("4", optimizer_name="lion"))


def test_figure_has_a_column_a_loss_and_a_line_a_seed(tmp_path, monkeypatch):
    def run(length, last=0.0):
        shares = np.full((length, 1), 0.1)
        return Curves(np.append(np.linspace(3, 1, length - 1), last), np.linspace(1, 5, length), shares, shares, shares)

    figures = []
    monkeypatch.setattr(plt, "close", figures.append)
    draw_stability({"boundary": [run(40), run(1, np.nan)], "rrw": [run(40)]}, tmp_path / "figure.png", "with Adam")
    (figure,) = figures
    assert figure.get_suptitle() == "with Adam"
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    titles = [axis.get_title() for axis in figure.axes[:2]]
    assert titles == ["boundary (2 seeds)", "rrw (1 seeds)"]
    loss, _, norm, other_norm, dice, _ = figure.axes
    assert norm.get_yscale() == "log"
    assert norm.get_ylim() == other_norm.get_ylim()
    # Means of four iterations stand at the fourth; a perfect overlap is a Dice of 1.
    thick = dice.lines[-1].get_ydata()
    assert np.isnan(thick[1:3]).all()
    np.testing.assert_allclose(thick[3:], 1)
    crosses = [line for line in loss.lines if line.get_marker() == "x"]
    assert [line.get_xdata().tolist() for line in crosses] == [[0]]
    plt.close("all")
