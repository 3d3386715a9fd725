"""The reproduction of Valverde & Tohka (2022): a made-up benchmark by hand, comparable trials, and one training."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_results import write_run
from evaluation_folders import write_evaluation
from nnunetv2.run.run_training import run_training
from nnunetv2.training.logging.nnunet_logger import LocalLogger

from benchmarks import harness
from benchmarks.region_wise import collect, figure, tables
from nnunet_rw.benchmark.results import TaskResults
from nnunet_rw.benchmark.specification import read_specification
from nnunet_rw.datasets.planning import write_small_plans
from nnunet_rw.evaluation.folder import read_evaluation
from nnunet_rw.training.records import read_run_record

REGION_WISE = Path(collect.__file__).parent
SETTINGS = ("map_source", "oversample_by", "optimizer_name", "initial_lr", "weight_decay", "adam_betas")
NAMES = {"1": "anterior", "2": "posterior"}
# By trainer and seed, of case a and case b: Dice of the anterior part and of the posterior.
DICE = {
    ("RWPaper_RRW", 0): ((0.4, 0.6), (0.6, 0.8)),
    ("RWPaper_RRW", 1): ((0.5, 0.7), (0.7, 0.9)),
    ("RWPaper_Boundary", 0): ((0.5, 0.7), (0.3, 0.0)),
    ("RWPaper_Dice", 0): ((0.4, 0.4), (0.6, 0.6)),
    ("RWPaper_RRW_Dice", 0): ((0.6, 0.6), (0.8, 0.8)),
    ("RWPaper_RRW_Dice_Gradual", 0): ((0.6, 0.5), (0.8, 0.7)),
    ("RWPaper_RRW_SGD", 0): ((0.0, 0.0), (0.0, 0.0)),
    ("nnUNetTrainer", 0): ((0.5, 0.5), (0.5, 0.5)),
    ("RWBeside_4", 0): ((0.6, 0.6), (0.6, 0.6)),
}
# Pseudo-Dice of three epochs, and the loss of two iterations of each.
CURVES = {"RWPaper_Boundary": (0.5, 0.25, 0.375)}
LOSSES = {"RWPaper_Boundary": (0.0, 4.0, 1.0, 3.0, 2.0, 2.0)}


@pytest.fixture
def task(tmp_path):
    """Two seeds of RRW, one of the others but of cross-entropy, which is not done."""
    evaluations = {}
    for (trainer, seed), dice in DICE.items():
        cases = {
            (case, label): {"dice": value, "hd95_mm": 3 if value else "inf"}
            for case, of_case in zip("ab", dice, strict=True)
            for label, value in zip(NAMES, of_case, strict=True)
        }
        folder = write_evaluation(tmp_path / f"{trainer}_{seed}", cases, name=trainer)
        evaluations.setdefault(trainer, {})[seed] = read_evaluation(folder)
    runs = [_run(tmp_path, *key) for key in (*DICE, ("RWPaper_Boundary", 1), ("RWPaper_CE", 0))]
    return TaskResults("Task", "Dataset", "", tuple(runs), evaluations, None)


def _run(folder, trainer, seed):
    run = write_run(folder, "Dataset004_Hippocampus", trainer, seed, 0)
    curve = CURVES.get(trainer, (0.25, 0.5, 0.5))
    epochs = [replace(epoch, pseudo_dice=value) for epoch, value in zip(run.record.epochs, curve, strict=True)]
    if trainer in LOSSES:
        path = run.folder / "iterations.csv"
        with open(path, newline="") as file:
            header, *rows = csv.reader(file)
        rows = [[*row[:2], loss, *row[3:]] for row, loss in zip(rows, LOSSES[trainer], strict=True)]
        path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
    return replace(run, record=replace(run.record, epochs=tuple(epochs)))


@pytest.fixture
def rows(task):
    return {row["trainer"]: row for row in collect.trainer_rows(collect.trainings_of(task, NAMES))}


class TestRows:
    def test_figures_are_means_over_cases_then_seeds(self, rows):
        row = rows["RWPaper_RRW"]
        assert (row["seeds"], row["cases"]) == (2, 2)
        assert row["dice_anterior_seeds"] == pytest.approx([0.5, 0.6])
        assert (row["dice_anterior"], row["dice_posterior"], row["dice_mean"]) == pytest.approx((0.55, 0.75, 0.65))
        assert row["dice_anterior_spread"] == pytest.approx(0.1)
        assert rows["RWPaper_Dice"]["dice_mean_spread"] is None

    def test_a_class_that_is_not_predicted_is_as_far_as_the_diagonal(self, rows):
        row = rows["RWPaper_Boundary"]
        assert row["unpredicted_anterior_seeds"] == [0]
        assert row["unpredicted_posterior_seeds"] == [1]
        assert row["hd95_mm_posterior"] == (3 + 100) / 2
        assert row["hd95_mm_mean"] == (3 + 3 + 3 + 100) / 4

    def test_differences_are_of_seeds_that_both_have(self, rows):
        differences = rows["RWPaper_Boundary"]["differences"]
        assert list(differences) == ["RWPaper_RRW"]
        # Of the first seed alone: +0.1 and -0.3; with the posterior +0.1 and -0.8.
        assert differences["RWPaper_RRW"]["dice_anterior"] == [pytest.approx(-0.1), None, None]  # of two cases
        assert differences["RWPaper_RRW"]["dice_mean"][0] == pytest.approx((0.1 - 0.55) / 2)
        assert rows["RWPaper_RRW"]["differences"] == {}

    def test_of_a_schedule_to_the_same_without(self, rows):
        differences = rows["RWPaper_RRW_Dice_Gradual"]["differences"]
        assert list(differences) == ["RWPaper_RRW", "RWPaper_RRW_Dice", "RWPaper_Dice"]
        # The same in both cases.
        assert differences["RWPaper_RRW_Dice"]["dice_posterior"][0] == pytest.approx(-0.1)
        assert differences["RWPaper_Dice"]["dice_mean"][0] == pytest.approx(0.15)

    def test_courses(self, rows):
        row = rows["RWPaper_Boundary"]
        assert row["pseudo_dice_seeds"] == [[0.5, 0.25, 0.375]]
        assert row["largest_fall_seeds"] == [0.25]
        # A window of a tenth of six iterations is one: from 0 to 4, of a range of 4.
        assert row["loss_rise_seeds"] == [1.0]
        assert rows["RWPaper_RRW"]["loss_rise_seeds"] == [0.0, 0.0]
        assert row["gradient_spikes_seeds"] == [0]
        assert (row["epochs"], row["iterations_per_epoch"], row["seconds_per_epoch"]) == (3, 2, 10.0)

    def test_only_what_is_done_has_a_row(self, rows):
        assert rows["RWPaper_Boundary"]["seeds"] == 1
        assert "RWPaper_CE" not in rows

    def test_seeds_of_another_folder_are_added(self, task):
        trainings = collect.trainings_of(task, NAMES)
        first = [row for row in trainings if row["seed"] == 0]
        second = [row | {"loss": "the same, again"} for row in trainings if row["trainer"] == "RWPaper_RRW"]
        together = collect.with_earlier(second, first)
        assert len(together) == len(trainings)
        [row] = [row for row in collect.trainer_rows(together) if row["trainer"] == "RWPaper_RRW"]
        assert (row["seeds"], row["loss"]) == (2, "the same, again")
        assert row["dice_anterior_seeds"] == pytest.approx([0.5, 0.6])

    def test_other_conditions_are_not_added(self, task):
        trainings = collect.trainings_of(task, NAMES)
        with pytest.raises(ValueError, match="Trainings of Task ran under different conditions"):
            collect.with_earlier(trainings[:1], [row | {"epochs": 7} for row in trainings[1:]])

    def test_rows_are_json(self, rows):
        assert json.loads(json.dumps(rows, allow_nan=False)) == rows

    @pytest.mark.parametrize(
        ("trainer", "others"),
        [
            ("RWPaper_RRW", []),
            ("RWPaper_Boundary", ["RWPaper_RRW"]),
            ("RWPaper_Dice", ["RWPaper_RRW"]),
            ("RWPaper_RRW_SGD", ["RWPaper_RRW"]),
            ("nnUNetTrainer", ["RWPaper_RRW", "RWPaper_Stock_Adam"]),
            ("RWBeside_4", ["nnUNetTrainer"]),
            (
                "RWPaper_Boundary_CE_Gradual",
                ["RWPaper_RRW", "RWPaper_Boundary_CE", "RWPaper_RRW_CE_Gradual", "RWPaper_CE"],
            ),
        ],
    )
    def test_compared_with(self, trainer, others):
        assert collect.compared_with(trainer) == others


class TestTables:
    @pytest.fixture(autouse=True)
    def results(self, task, tmp_path, monkeypatch):
        monkeypatch.setattr(harness, "RESULTS", tmp_path)
        harness.write_result("some", collect.trainings_of(task, NAMES))

    def test_alone(self):
        header, _, *lines = tables.alone_table("some").splitlines()
        assert header == (
            "| loss | Dice, anterior | Dice, posterior | HD95 in mm, anterior | HD95 in mm, posterior "
            "| Dice less RRW's | HD95 less RRW's | trainer |"
        )
        assert lines[0] == (
            "| RRW | 55.0 (50.0 to 60.0) | 75.0 (70.0 to 80.0) | 3.00 (3.00 to 3.00) | 3.00 (3.00 to 3.00) |  |  | "
            "`RWPaper_RRW` |"
        )
        assert lines[1].startswith("| boundary maps | 40.0 | 35.0 | 3.00 | 51.50 | -22.5 [")
        assert [line.split(" | ")[0] for line in lines] == ["| RRW", "| boundary maps", "| Dice"]

    def test_stability(self):
        lines = tables.stability_table("some").splitlines()
        assert lines[2] == "| RRW | 2 | 0 | 50.0 (50.0 to 50.0) | 0.0 (0.0 to 0.0) | 0 % (0 to 0) | 0, 0 |"
        assert lines[3] == "| boundary maps | 1 | 0 | 37.5 | 25.0 | 100 % | 0 |"

    def test_seeds_without_a_class(self, rows):
        assert tables.without_a_class(rows["RWPaper_RRW_SGD"]) == 1
        assert tables.without_a_class(rows["RWPaper_Boundary"]) == 0

    def test_beside(self):
        lines = tables.beside_table("some").splitlines()[2:]
        assert lines == [
            "| Dice | 50.0 | 3.00 |  |  |  | `RWPaper_Dice` |",
            "| Dice + RRW, equal | 70.0 | 3.00 | +20.0 [too few] |  |  | `RWPaper_RRW_Dice` |",
            "| Dice + RRW, gradual | 65.0 | 3.00 | +15.0 [too few] | -5.0 [too few] | +0.00 [too few] | "
            "`RWPaper_RRW_Dice_Gradual` |",
        ]

    def test_optimisers(self):
        lines = tables.optimisers_table("some").splitlines()[2:]
        # Of the first seed: 0.5 and 0.7 less, in the mean of both cases 0.6.
        assert lines[1].startswith("| RRW | SGD, 0.01 | 0.0 | 0.0 | 100.00 | 100.00 | -60.0 [")

    def test_runs(self, tmp_path):
        runs = {"runs": 3, "all_background": 2, "largest_rise": [0.1, 0.25, 0.5], "pseudo_dice": [0.0, 0.0, 0.75]}
        for name, settings in (("sgd", {}), ("adam", {"optimizer_name": "adam", "initial_lr": 0.001})):
            content = {"settings": {"dataset": "Dataset004_Hippocampus", **settings}, "losses": {"rrw": runs}}
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        assert tables.runs_table(["sgd", "adam"]).splitlines()[2:] == [
            f"| {optimiser} | `rrw` | 3 | 2 | 25% (10% to 50%) | 0.000 (0.000 to 0.750) |"
            for optimiser in ("SGD, 0.01", "Adam, 0.001")
        ]

    def test_weight(self):
        lines = tables.weight_table(["some", "absent"]).splitlines()
        assert lines[0].startswith("| dataset | weight of `rrw` | seeds | cases | Dice | less nnU-Net's | HD95, mm |")
        assert [line.split(" | ")[:6] for line in lines[2:]] == [
            ["| Task", "none", "1", "2", "50.0", ""],
            ["| Task", "4", "1", "2", "60.0", "+10.0 [too few]"],
        ]

    def test_of_nothing(self):
        assert len(tables.alone_table("absent").splitlines()) == 2


class TestFigure:
    def test_is_drawn(self, rows, tmp_path, monkeypatch):
        drawn = []
        monkeypatch.setattr(figure.plt, "close", drawn.append)
        figure.draw(list(rows.values()), list(rows.values()), tmp_path / "images" / "region_wise.png")
        assert (tmp_path / "images" / "region_wise.png").stat().st_size > 10_000
        courses, of_others, differences, beside = drawn[0].axes
        assert of_others.get_title("left") == "Each loss alone, 3D (band: seeds)"
        assert courses.get_lines()[0].get_ydata().tolist() == [25, 50, 50]
        assert [text.get_text() for text in courses.texts] == ["RRW", "boundary maps", "Dice"]
        assert [text.get_text() for text in differences.get_legend().get_texts()] == ["2D", "3D"]
        assert beside.get_title("left") == "Maps beside a loss, 3D (bar: seeds)"
        assert [label.get_text() for label in beside.get_yticklabels()][-1] == "Dice\n+ RRW"

    def test_what_is_not_measured_is_left_out(self, rows, tmp_path, monkeypatch):
        drawn = []
        monkeypatch.setattr(figure.plt, "close", drawn.append)
        figure.draw(list(rows.values()), [], tmp_path / "region_wise.png")
        _, differences, _ = drawn[0].axes
        assert differences.get_legend() is None

    def test_names_are_apart(self):
        assert figure.apart([50, 20, 80], 5) == [50, 20, 80]
        # Two that are too close share what they are moved by; 10 and 10 as well, in their order.
        assert figure.apart([52, 50], 5) == pytest.approx([53.5, 48.5])
        assert sorted(figure.apart([10, 10], 4)) == pytest.approx([8, 12])
        assert np.diff(sorted(figure.apart([1, 2, 3, 2.5], 5))).min() >= 5 - 1e-9


@pytest.mark.parametrize("path", sorted(REGION_WISE.glob("*.yaml")), ids=lambda path: path.name)
def test_specifications_name_trainers_that_are_there(path, monkeypatch):
    from nnunet_rw.benchmark.training import find_trainers
    from nnunet_rw.training.catalogue import trainers_folder

    monkeypatch.setenv("nnUNet_extTrainer", f"{trainers_folder()}:{REGION_WISE / 'trials'}")
    specification = read_specification(path)
    assert list(find_trainers(specification)) == list(specification.trainers)
    shown = {*tables.ALONE, *tables.BESIDE, *(trainer for _, _, trainer in tables.OPTIMISERS), collect.PRODUCT}
    assert {name for name in specification.trainers if not name.startswith(collect.BESIDE_STOCK)} <= shown


class TestTrials:
    @pytest.fixture
    def trials(self):
        from benchmarks.region_wise.trials import rw_paper_trials

        return {name: trial for name, trial in vars(rw_paper_trials).items() if name.startswith("RWPaper_")}

    def test_differ_in_the_loss_alone_or_in_the_optimiser_that_they_name(self, trials):
        from nnunet_rw.training.trainer import MapTrainer

        rrw = {name: getattr(trials["RWPaper_RRW"], name) for name in SETTINGS}
        assert (rrw["map_source"], rrw["optimizer_name"]) == ("patch", "adam")
        for name, trial in trials.items():
            settings = {setting: getattr(trial, setting) for setting in SETTINGS}
            if name.endswith("_SGD"):
                assert settings == {**rrw, "optimizer_name": "sgd", "initial_lr": 1e-2}
                assert trial.loss_terms == trials[name.removesuffix("_SGD")].loss_terms
            elif name.endswith("_Beta95"):
                assert settings == {**rrw, "adam_betas": (0.9, 0.95)}
                assert trial.loss_terms == trials[name.removesuffix("_Beta95")].loss_terms
            else:
                assert settings == rrw
            # Nothing else of the trainer is overridden.
            own = {key for base in trial.__mro__[: trial.__mro__.index(MapTrainer)] for key in vars(base)}
            assert {key for key in own if not key.startswith("__")} <= {"loss_terms", *SETTINGS}

    def test_schedules_change_the_weights_alone(self, trials):
        for name, trial in trials.items():
            if name.endswith("_Gradual"):
                equal = trials[name.removesuffix("_Gradual")]
                assert [term.weight for term in trial.loss_terms] == ["gradual_region", "gradual_boundary"]
                assert [replace(term, weight=1.0) for term in trial.loss_terms] == list(equal.loss_terms)

    def test_build_their_losses(self, trials):
        from nnunet_rw.losses import build
        from nnunet_rw.training.trainer import STOCK_TERM

        for trial in trials.values():
            assert trial.__doc__
            terms = [term for term in trial.loss_terms if term.loss != STOCK_TERM]
            assert all(build(term.loss, **term.options).formula() for term in terms)


def test_prose_has_the_numbers_of_the_longer_trainings():
    rows = {row["trainer"]: row for row in collect.trainer_rows(harness.read_rows("region_wise_2d_long"))}
    less = {
        name: rows[name]["differences"][collect.RRW][f"dice_{collect.MEAN}"] for name in rows if name != collect.RRW
    }
    text = " ".join((Path(__file__).parents[2] / "docs" / "region_wise.md").read_text(encoding="utf-8").split())
    dice, boundary = (-100 * less[name][0] for name in ("RWPaper_Dice", "RWPaper_Boundary"))
    assert (
        f"as cross-entropy, {dice:.1f} points of Dice above Dice alone and {boundary:.0f} above boundary maps" in text
    )
    _, low, high = less["RWPaper_CE"]
    assert low < 0 < high


DATASET = "Dataset004_Hippocampus"


@pytest.mark.slow
def test_it_leaves_the_background(hippocampus, monkeypatch):
    monkeypatch.setattr(LocalLogger, "plot_progress_png", lambda self, folder: None)
    write_small_plans(hippocampus.preprocessed / DATASET, name="small", max_patch=32)
    trainer = "RWTrainer_RRW_6epochs_50iterations_seed0"
    run_training("4", "3d_fullres", 1, trainer, "small", device=torch.device("cpu"))
    record = read_run_record(hippocampus.results / DATASET / f"{trainer}__small__3d_fullres" / "fold_1")
    assert record.optimizer.startswith("Adam, lr 0.001")
    # With nnU-Net's SGD it is 0.00 after each epoch.
    assert record.epochs[-1].pseudo_dice > 0.15
